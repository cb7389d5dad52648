//! Plays inputs on one shard writer, beside a model of its log and tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::{
    BatchNumber, FactKey, Input, Output, ReadNumber, Released, ShardWriter, Ticket, WriterConfig,
};
use tidings_types::{Code, Entry, Fence, Limits, Place, Refusal, Timestamp};

use super::names::{Names, START, moved};
use super::script::{Machine, command, number, set_limits};
use super::tables::Tables;
use super::{INCARNATION, drain, render};

pub struct Shard {
    names: Names,
    limits: Limits,
    clock: Timestamp,
    writer: Option<ShardWriter>,
    tickets: u64,
    /// Reads are answered at once, and not shown.
    reads_answered: bool,
    /// What was asked for, and the tables as they were then.
    reads: BTreeMap<ReadNumber, (Vec<FactKey>, Tables)>,
    /// Handed out to be appended.
    sent: BTreeMap<BatchNumber, Vec<Arc<Entry>>>,
    /// In the log, and not in the tables.
    log: BTreeMap<BatchNumber, Vec<Arc<Entry>>>,
    tables: Tables,
}

impl Shard {
    pub fn new() -> Self {
        Self {
            names: Names::default(),
            limits: Limits::default(),
            clock: START,
            writer: None,
            tickets: 0,
            reads_answered: true,
            reads: BTreeMap::new(),
            sent: BTreeMap::new(),
            log: BTreeMap::new(),
            tables: Tables::default(),
        }
    }

    fn writer(&mut self) -> &mut ShardWriter {
        let limits = self.limits.clone();
        self.writer.get_or_insert_with(|| {
            ShardWriter::new(WriterConfig { limits, seed: 7, incarnation: INCARNATION })
        })
    }

    fn handle(&mut self, input: Input) -> Vec<String> {
        let now = self.clock;
        self.writer().handle(now, input);
        let mut lines = Vec::new();
        loop {
            let outputs = drain(self.writer());
            if outputs.is_empty() {
                return lines;
            }
            for output in outputs {
                lines.extend(self.carry_out(output));
            }
        }
    }

    fn carry_out(&mut self, output: Output) -> Option<String> {
        match output {
            Output::Append(append) => {
                let places: Vec<String> =
                    append.entries.iter().map(|entry| render::place(&self.names, entry)).collect();
                let (batch, fence, number) = (append.batch, append.fence, append.number);
                self.sent.insert(batch, append.entries);
                Some(format!("append b{} under {fence}:{number} [{}]", batch.0, places.join(" ")))
            }
            Output::Read { read, keys } if self.reads_answered => {
                let facts = keys.into_iter().map(|key| (key, self.tables.fact(&key))).collect();
                let now = self.clock;
                self.writer().handle(now, Input::Facts { read, facts });
                None
            }
            Output::Read { read, keys } => {
                let text: Vec<String> = keys.iter().map(|key| render::fact_key(&self.names, key)).collect();
                self.reads.insert(read, (keys, self.tables.clone()));
                Some(format!("read r{} [{}]", read.0, text.join(", ")))
            }
            Output::Release(Released::Answer(ticket, answer)) => {
                Some(format!("t{} {}", ticket.0, render::answer(&self.names, &answer)))
            }
            Output::Release(Released::Entry { batch, entry, head: _ }) => {
                Some(format!("release b{}: {}", batch.0, render::entry(&self.names, &entry)))
            }
            Output::TakeOver => Some("take over".to_owned()),
        }
    }

    /// The batch is in the log, whether the writer is told or not.
    fn land(&mut self, batch: BatchNumber) {
        if let Some(entries) = self.sent.remove(&batch) {
            self.log.insert(batch, entries);
        }
    }

    fn project(&mut self, upto: BatchNumber) {
        let above = self.log.split_off(&BatchNumber(upto.0 + 1));
        for entries in std::mem::replace(&mut self.log, above).into_values() {
            entries.iter().for_each(|entry| self.tables.apply(entry));
        }
    }

    fn taken_over(&mut self, fence: &str, latest_at: Timestamp) -> Vec<String> {
        self.project(BatchNumber(u64::MAX - 1));
        self.sent.clear();
        let latest_at = latest_at.max(self.tables.latest_at);
        self.handle(Input::TakenOver { fence: Fence(number(fence)), latest_at })
    }
}

fn batch(word: &str) -> BatchNumber {
    BatchNumber(number(word.strip_prefix('b').expect("b1, b2, …")))
}

fn read(word: &str) -> ReadNumber {
    ReadNumber(number(word.strip_prefix('r').expect("r1, r2, …")))
}

impl Machine for Shard {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        match words {
            ["limits", limits @ ..] => {
                assert!(self.writer.is_none(), "limits come first");
                set_limits(&mut self.limits, limits);
            }
            ["clock", by] => self.clock = moved(self.clock, by),
            ["reads", "wait"] => self.reads_answered = false,
            ["reads", "answered"] => self.reads_answered = true,
            ["taken_over", fence] => return self.taken_over(fence, Timestamp::from_ms(0)),
            ["taken_over", fence, latest] => return self.taken_over(fence, moved(START, latest)),
            ["appended", which] => {
                self.land(batch(which));
                return self.handle(Input::Appended { batch: batch(which), place: Place(0) });
            }
            ["landed", which] => self.land(batch(which)),
            ["append_failed", which, "unknown"] => {
                return self.handle(Input::AppendFailed { batch: batch(which), refusal: None });
            }
            ["append_failed", which, "full"] => {
                let refusal = Some(Refusal::new(Code::StorageFull, "no room"));
                return self.handle(Input::AppendFailed { batch: batch(which), refusal });
            }
            ["projected", which] => {
                self.project(batch(which));
                return self.handle(Input::Projected(batch(which)));
            }
            ["facts", which, age @ ..] => {
                let read = read(which);
                let (keys, then) = self.reads.remove(&read).expect("a read that waits");
                let tables = if age == ["of_then"] { &then } else { &self.tables };
                let facts = keys.into_iter().map(|key| (key, tables.fact(&key))).collect();
                return self.handle(Input::Facts { read, facts });
            }
            ["facts_failed", which] => {
                let read = read(which);
                self.reads.remove(&read).expect("a read that waits");
                let refusal = Refusal::new(Code::Unavailable, "no tables");
                return self.handle(Input::FactsFailed { read, refusal });
            }
            ["waiting"] => {
                let writer = self.writer();
                return vec![format!("{} commands, tail {} bytes", writer.waiting(), writer.tail_bytes())];
            }
            _ => {
                let command = command(&mut self.names, words).unwrap_or_else(|| panic!("{words:?}"));
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                return self.handle(Input::Command(ticket, command));
            }
        }
        Vec::new()
    }
}
