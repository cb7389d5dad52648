//! Plays commands on the rules alone, and beside them on a shard writer whose memory is as small as it can be: what the
//! writer forgets and reads again must make no difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::{
    Answer, BatchNumber, Command, Input, Output, Released, ShardWriter, Ticket, WriterConfig, decide,
};
use tidings_types::{ConversationKey, Entry, Epoch, Fence, Limits, Place, Timestamp};

use super::names::{Names, START, moved};
use super::script::{Machine, command, set_limits};
use super::tables::Tables;
use super::{drain, render};

pub struct Conversations {
    names: Names,
    limits: Limits,
    clock: Timestamp,
    tables: Tables,
    writer: Option<Forgetful>,
}

impl Conversations {
    pub fn new() -> Self {
        Self {
            names: Names::default(),
            limits: Limits::default(),
            clock: START,
            tables: Tables::default(),
            writer: None,
        }
    }

    fn decide(&mut self, command: &Command) -> Vec<String> {
        if self.writer.is_none() {
            self.writer = Some(Forgetful::new(&self.limits, self.tables.clone()));
        }
        let decision = decide(&self.tables, self.clock, self.tables.incarnation, &self.limits, command);
        let mut lines = Vec::new();
        for (entry, head) in decision.entries {
            let before = self.tables.heads.get(&entry.key()).map_or(0, |head| head.version);
            assert_eq!(entry.version, before + 1, "a version grows by one per entry");
            lines.push(render::entry(&self.names, &entry));
            self.tables.apply(&Arc::new(entry.clone()));
            assert_eq!(self.tables.heads[&entry.key()], head, "the head that came with {entry:?}");
        }
        lines.push(render::answer(&self.names, &decision.answer));
        let writer = self.writer.as_mut().expect("made above");
        let (answer, entries) = writer.run(self.clock, command);
        assert_eq!(answer, decision.answer, "a writer that forgets answers the same");
        assert_eq!(entries, self.tables.entries, "a writer that forgets writes the same");
        lines
    }
}

impl Machine for Conversations {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        match words {
            ["clock", by] => self.clock = moved(self.clock, by),
            // A restore raises it; everything begins anew on the same tables.
            ["incarnation", number] => {
                self.tables.incarnation = Epoch(number.parse().expect("a number"));
                self.writer = None;
            }
            ["limits", limits @ ..] => {
                assert!(self.writer.is_none(), "limits come first");
                set_limits(&mut self.limits, limits);
            }
            _ => {
                let command = command(&mut self.names, words).unwrap_or_else(|| panic!("{words:?}"));
                return self.decide(&command);
            }
        }
        Vec::new()
    }
}

/// A writer beside tables that are always up to date, and that keeps next to nothing in memory.
struct Forgetful {
    writer: ShardWriter,
    tables: Tables,
    tickets: u64,
}

impl Forgetful {
    fn new(limits: &Limits, tables: Tables) -> Self {
        let limits = Limits { facts_cached_max: 1, ids_cached_max: 0, ..limits.clone() };
        let mut writer = ShardWriter::new(WriterConfig { limits, seed: 7, incarnation: tables.incarnation });
        writer.handle(START, Input::TakenOver { fence: Fence(1), latest_at: tables.latest_at });
        Self { writer, tables, tickets: 0 }
    }

    /// The command's answer, and all entries so far.
    fn run(
        &mut self,
        now: Timestamp,
        command: &Command,
    ) -> (Answer, BTreeMap<ConversationKey, Vec<Arc<Entry>>>) {
        self.tickets += 1;
        self.writer.handle(now, Input::Command(Ticket(self.tickets), command.clone()));
        let mut answer = None;
        for _ in 0..100 {
            for output in drain(&mut self.writer) {
                match output {
                    Output::Append(append) => {
                        append.entries.iter().for_each(|entry| self.tables.apply(entry));
                        let batch = append.batch;
                        self.writer.handle(now, Input::Appended { batch, place: Place(batch.0) });
                        self.writer.handle(now, Input::Projected(BatchNumber(batch.0)));
                    }
                    Output::Read { read, keys } => {
                        let facts = keys.into_iter().map(|key| (key, self.tables.fact(&key))).collect();
                        self.writer.handle(now, Input::Facts { read, facts });
                    }
                    Output::Release(Released::Answer(_, given)) => answer = Some(given),
                    Output::Release(Released::Entry { .. }) => {}
                    Output::TakeOver => panic!("no append failed"),
                }
            }
            if let Some(answer) = answer {
                return (answer, self.tables.entries.clone());
            }
        }
        panic!("the writer goes round in circles on {command:?}");
    }
}
