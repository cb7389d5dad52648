//! The shard writer: the only one that appends to its conversations.
//!
//! It keeps two positions of one state. *Pending* is all that is decided; commands see it, so each sees the one before
//! it. *Durable* is all whose place the log has confirmed; nothing leaves the writer that rests on more. A decision's
//! answer and entries are held until the batch that was pending when it was decided is durable - also when the answer
//! made no entry itself, such as the reply to a retry that meets a pending entry.
//!
//! The shell carries: it hands in [`Input`]s, then takes [`Output`]s until there are none. After an append that failed,
//! or whose outcome is unknown, nothing more is appended under this fence: pending is thrown away and the shard is
//! taken over again ([`Output::TakeOver`]); the commands that waited are decided again.

mod memory;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use tidings_types::{
    Code, ConversationKey, Entry, Epoch, Fence, Head, Limits, Place, RecordNumber, Refusal, Timestamp,
};

use crate::advance::weight_bytes;
use crate::{Answer, Command, CommandKind, Fact, FactKey, SeededMap, decide, needs};
use memory::Memory;

/// The shell's name for whoever waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Batches of one writer, from 1; 0 stands for "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchNumber(pub u64);

/// Reads of one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadNumber(pub u64);

#[derive(Clone, Debug)]
pub struct WriterConfig {
    pub limits: Limits,
    /// Seeds the maps; secret in production.
    pub seed: u64,
    pub incarnation: Epoch,
}

#[derive(Clone, Debug)]
pub enum Input {
    /// The shard is ours: the `writer changed` record is durable at `fence`, the tables have everything below it, and
    /// nothing in the log is younger than `latest_at`.
    TakenOver {
        fence: Fence,
        latest_at: Timestamp,
    },
    Command(Ticket, Command),
    /// The answer to [`Output::Read`]: a fact for each key, read after the request was made.
    Facts {
        read: ReadNumber,
        facts: Vec<(FactKey, Fact)>,
    },
    /// The tables could not answer; the commands that waited for it are refused with this.
    FactsFailed {
        read: ReadNumber,
        refusal: Refusal,
    },
    /// The batch is durable. Batches are confirmed in order.
    Appended {
        batch: BatchNumber,
        place: Place,
    },
    /// The batch is not there for certain (`refusal` is what to tell those who wait), or nobody knows (`None`: they are
    /// decided again).
    AppendFailed {
        batch: BatchNumber,
        refusal: Option<Refusal>,
    },
    /// The tables have everything up to this batch.
    Projected(BatchNumber),
}

/// One record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    pub batch: BatchNumber,
    pub fence: Fence,
    pub number: RecordNumber,
    pub entries: Vec<Arc<Entry>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Append(Append),
    Read {
        read: ReadNumber,
        keys: Vec<FactKey>,
    },
    Release(Released),
    /// Bring the tables up to the log's end, append a `writer changed` record, then say [`Input::TakenOver`].
    TakeOver,
}

/// What may be told now: it is durable, with everything it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    Answer(Ticket, Answer),
    /// `head` is the conversation's head after this entry.
    Entry {
        batch: BatchNumber,
        entry: Arc<Entry>,
        head: Arc<Head>,
    },
}

pub struct ShardWriter {
    config: WriterConfig,
    /// `None` while the shard is being taken over.
    fence: Option<Fence>,
    next_number: RecordNumber,
    memory: Memory,
    /// Never runs back, so that "complete since" means something.
    now: Timestamp,
    /// Being filled; its number is `open_batch`.
    open: Vec<Arc<Entry>>,
    open_bytes: usize,
    open_batch: BatchNumber,
    /// Full, and waiting for room in flight.
    closed: VecDeque<Append>,
    /// The last batch that was handed out.
    sent: BatchNumber,
    durable: BatchNumber,
    projected: BatchNumber,
    /// Bytes per batch that the tables do not have yet.
    tail: VecDeque<(BatchNumber, usize)>,
    tail_bytes: usize,
    /// Decided, and waiting for its batch.
    held: VecDeque<Held>,
    lines: SeededMap<ConversationKey, Line>,
    /// Reads on their way: what they wait for, and the tables' batch when they were asked.
    reads: BTreeMap<ReadNumber, (ConversationKey, BatchNumber)>,
    next_read: ReadNumber,
    /// Commands that cannot be decided before the shard is taken over.
    awaiting_takeover: VecDeque<(Ticket, Command)>,
    waiting: usize,
    outputs: VecDeque<Output>,
}

/// Commands of one line whose facts are read together.
const READ_COMMANDS_MAX: usize = 64;

/// A conversation's commands that wait for facts. The shard never waits; the line keeps the order.
#[derive(Default)]
struct Line {
    commands: VecDeque<(Ticket, Command)>,
    read: Option<ReadNumber>,
}

struct Held {
    batch: BatchNumber,
    ticket: Ticket,
    command: Command,
    entries: Vec<(Arc<Entry>, Arc<Head>)>,
    answer: Answer,
}

impl ShardWriter {
    /// A writer that waits for [`Input::TakenOver`].
    #[must_use]
    pub fn new(config: WriterConfig) -> Self {
        let memory = Memory::new(config.seed, &config.limits, Timestamp::from_ms(0));
        Self {
            fence: None,
            next_number: RecordNumber(1),
            memory,
            now: Timestamp::from_ms(0),
            open: Vec::new(),
            open_bytes: 0,
            open_batch: BatchNumber(1),
            closed: VecDeque::new(),
            sent: BatchNumber(0),
            durable: BatchNumber(0),
            projected: BatchNumber(0),
            tail: VecDeque::new(),
            tail_bytes: 0,
            held: VecDeque::new(),
            lines: SeededMap::with_hasher(FixedState::with_seed(config.seed)),
            reads: BTreeMap::new(),
            next_read: ReadNumber(1),
            awaiting_takeover: VecDeque::new(),
            waiting: 0,
            outputs: VecDeque::new(),
            config,
        }
    }

    /// Takes one input. `now` is wall-clock time.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::TakenOver { fence, latest_at } => self.on_taken_over(fence, latest_at),
            Input::Command(ticket, command) => self.on_command(ticket, command),
            Input::Facts { read, facts } => self.on_facts(read, facts),
            Input::FactsFailed { read, refusal } => self.on_facts_failed(read, &refusal),
            Input::Appended { batch, place: _ } => self.on_appended(batch),
            Input::AppendFailed { batch, refusal } => self.on_append_failed(batch, refusal),
            Input::Projected(batch) => self.on_projected(batch),
        }
    }

    /// The next thing to do; `None` until there is another input. Entries gather in the open batch while earlier
    /// batches are on their way: that is the group commit.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.next_append().map(Output::Append))
    }

    /// Commands accepted and not answered.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of entries that the tables do not have yet.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    fn on_taken_over(&mut self, fence: Fence, latest_at: Timestamp) {
        self.now = self.now.max(latest_at);
        self.fence = Some(fence);
        self.next_number = RecordNumber(1);
        self.memory = Memory::new(self.config.seed, &self.config.limits, self.now);
        self.tail.clear();
        self.tail_bytes = 0;
        self.on_projected(self.durable);
        for (ticket, command) in std::mem::take(&mut self.awaiting_takeover) {
            self.in_line(ticket, command);
        }
    }

    fn on_command(&mut self, ticket: Ticket, command: Command) {
        if let Some(refusal) = self.overload(&command) {
            self.outputs.push_back(Output::Release(Released::Answer(ticket, Answer::Refused(refusal))));
            return;
        }
        self.waiting += 1;
        if self.fence.is_none() {
            self.awaiting_takeover.push_back((ticket, command));
        } else {
            self.in_line(ticket, command);
        }
    }

    fn overload(&self, command: &Command) -> Option<Refusal> {
        const RETRY_AFTER_MS: u64 = 500;
        let limits = &self.config.limits;
        let text = if self.waiting >= limits.mailbox_commands_max {
            "too many commands wait for this shard"
        } else if self.tail_bytes >= limits.tail_bytes_max && !matches!(command.kind, CommandKind::Open) {
            "the tables are too far behind the log"
        } else {
            return None;
        };
        Some(Refusal::new(Code::Overloaded, text).retry_after_ms(RETRY_AFTER_MS))
    }

    /// Decides a command at once if its facts are known and nothing of its conversation waits before it.
    fn in_line(&mut self, ticket: Ticket, command: Command) {
        let key = command.key;
        if let Some(line) = self.lines.get_mut(&key) {
            line.commands.push_back((ticket, command));
            return;
        }
        let missing = self.missing(std::iter::once(&command));
        if missing.is_empty() {
            self.decide(ticket, command);
            return;
        }
        let read = self.read(key, missing);
        let line = Line { commands: VecDeque::from([(ticket, command)]), read: Some(read) };
        self.lines.insert(key, line);
    }

    /// The facts that deciding these commands takes and that are not known.
    fn missing<'a>(&mut self, commands: impl Iterator<Item = &'a Command>) -> Vec<FactKey> {
        let mut keys = all(commands);
        keys.retain(|key| !self.memory.knows(key));
        keys
    }

    fn read(&mut self, key: ConversationKey, keys: Vec<FactKey>) -> ReadNumber {
        let read = self.next_read;
        self.next_read = ReadNumber(read.0 + 1);
        self.reads.insert(read, (key, self.projected));
        self.outputs.push_back(Output::Read { read, keys });
        read
    }

    fn on_facts(&mut self, read: ReadNumber, facts: Vec<(FactKey, Fact)>) {
        // A read of before the last take-over: what it found may be too old.
        let Some((key, _)) = self.reads.remove(&read) else { return };
        let learned = facts.len();
        self.memory.learn(facts);
        self.advance_line(key, read);
        self.memory.evict_facts(learned);
        self.update_evictable();
    }

    fn on_facts_failed(&mut self, read: ReadNumber, refusal: &Refusal) {
        let Some((key, _)) = self.reads.remove(&read) else { return };
        let line = self.lines.remove(&key).expect("a read belongs to a line");
        for (ticket, _) in line.commands {
            self.answer(ticket, Answer::Refused(refusal.clone()));
        }
        self.update_evictable();
    }

    /// Decides what the line's facts allow, in order, and asks for what the next command misses.
    fn advance_line(&mut self, key: ConversationKey, read: ReadNumber) {
        let mut line = self.lines.remove(&key).expect("a read belongs to a line");
        debug_assert_eq!(line.read, Some(read), "a line waits for one read at a time");
        let mut was_asked_for = true;
        while let Some((ticket, command)) = line.commands.pop_front() {
            if self.missing(std::iter::once(&command)).is_empty() {
                self.decide(ticket, command);
                was_asked_for = false;
                continue;
            }
            line.commands.push_front((ticket, command));
            let waiting = line.commands.iter().map(|(_, command)| command);
            // What was known when the read was made was evicted before its answer came: with all of it in one answer
            // that cannot go on for ever.
            let keys = if was_asked_for {
                all(waiting.take(1))
            } else {
                self.missing(waiting.take(READ_COMMANDS_MAX))
            };
            line.read = Some(self.read(key, keys));
            self.lines.insert(key, line);
            return;
        }
    }

    fn decide(&mut self, ticket: Ticket, command: Command) {
        let WriterConfig { limits, incarnation, .. } = &self.config;
        let decision = decide(&self.memory, self.now, *incarnation, limits, &command);
        let entries: Vec<_> =
            decision.entries.into_iter().map(|(entry, head)| (Arc::new(entry), head)).collect();
        self.make_room(entries.iter().map(|(entry, _)| weight_bytes(entry)).sum());
        for (entry, head) in &entries {
            self.memory.apply(entry, head, self.open_batch);
            self.open_bytes += weight_bytes(entry);
            self.open.push(entry.clone());
        }
        let batch = if self.open.is_empty() { BatchNumber(self.open_batch.0 - 1) } else { self.open_batch };
        self.held.push_back(Held { batch, ticket, command, entries, answer: decision.answer });
        if tidings_types::planted("ack_before_write") {
            self.release_upto(batch);
        }
        self.release_upto(self.durable);
    }

    /// Closes the open batch if `bytes` more would not fit into one record.
    fn make_room(&mut self, bytes: usize) {
        if self.open_bytes + bytes > self.config.limits.record_bytes_max && !self.open.is_empty() {
            let append = self.close_batch();
            self.closed.push_back(append);
        }
    }

    fn next_append(&mut self) -> Option<Append> {
        let in_flight = self.sent.0 - self.durable.0;
        if in_flight >= self.config.limits.appends_in_flight_max as u64 {
            return None;
        }
        let append =
            self.closed.pop_front().or_else(|| (!self.open.is_empty()).then(|| self.close_batch()))?;
        self.sent = append.batch;
        Some(append)
    }

    fn close_batch(&mut self) -> Append {
        let batch = self.open_batch;
        self.open_batch = BatchNumber(batch.0 + 1);
        self.tail.push_back((batch, self.open_bytes));
        self.tail_bytes += self.open_bytes;
        self.open_bytes = 0;
        let number = self.next_number;
        self.next_number = RecordNumber(number.0 + 1);
        let fence = self.fence.expect("nothing is decided without a fence");
        Append { batch, fence, number, entries: std::mem::take(&mut self.open) }
    }

    fn on_appended(&mut self, batch: BatchNumber) {
        // The answer to an append of an earlier fence says nothing about this one.
        if batch.0 != self.durable.0 + 1 || batch > self.sent {
            return;
        }
        self.durable = batch;
        self.release_upto(batch);
    }

    /// First make it durable, then tell anyone.
    fn release_upto(&mut self, batch: BatchNumber) {
        while self.held.front().is_some_and(|held| held.batch <= batch) {
            let held = self.held.pop_front().expect("the front was just looked at");
            self.answer(held.ticket, held.answer);
            for (entry, head) in held.entries {
                self.outputs.push_back(Output::Release(Released::Entry { batch: held.batch, entry, head }));
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.waiting -= 1;
        self.outputs.push_back(Output::Release(Released::Answer(ticket, answer)));
    }

    fn on_append_failed(&mut self, batch: BatchNumber, refusal: Option<Refusal>) {
        // The answer to an append of an earlier fence says nothing about this one.
        if batch <= self.durable || self.fence.take().is_none() {
            return;
        }
        let held = std::mem::take(&mut self.held);
        let lines = std::mem::replace(
            &mut self.lines,
            SeededMap::with_hasher(FixedState::with_seed(self.config.seed)),
        );
        let mut lines: Vec<(ConversationKey, Line)> = lines.into_iter().collect();
        lines.sort_unstable_by_key(|(key, _)| *key);
        let in_lines = lines.into_iter().flat_map(|(_, line)| line.commands);
        let undecided: VecDeque<_> =
            held.into_iter().map(|held| (held.ticket, held.command)).chain(in_lines).collect();
        self.outputs.retain(|output| matches!(output, Output::Release(_)));
        self.reads.clear();
        self.open.clear();
        self.open_bytes = 0;
        self.closed.clear();
        // Numbers of lost batches are not used again, so a late answer for one cannot be taken for another's.
        self.durable = self.open_batch;
        self.sent = self.open_batch;
        self.open_batch = BatchNumber(self.open_batch.0 + 1);
        match refusal {
            None => self.awaiting_takeover = undecided,
            // Before the take-over, which may take as long as there is no room.
            Some(refusal) => undecided
                .into_iter()
                .for_each(|(ticket, _)| self.answer(ticket, Answer::Refused(refusal.clone()))),
        }
        self.outputs.push_back(Output::TakeOver);
    }

    fn on_projected(&mut self, batch: BatchNumber) {
        self.projected = self.projected.max(batch);
        while self.tail.front().is_some_and(|(number, _)| *number <= batch) {
            let (_, bytes) = self.tail.pop_front().expect("the front was just looked at");
            self.tail_bytes -= bytes;
        }
        self.update_evictable();
    }

    /// A read sees at least what the tables had when it was asked; its answer must not meet a memory that has already
    /// dropped something newer.
    fn update_evictable(&mut self) {
        let seen_by_reads = self.reads.first_key_value().map_or(self.projected, |(_, (_, batch))| *batch);
        self.memory.set_evictable(seen_by_reads);
    }
}

/// Every fact that deciding these commands takes, once.
fn all<'a>(commands: impl Iterator<Item = &'a Command>) -> Vec<FactKey> {
    let mut keys = BTreeSet::new();
    for command in commands {
        needs(command, |key| {
            keys.insert(key);
        });
    }
    keys.into_iter().collect()
}
