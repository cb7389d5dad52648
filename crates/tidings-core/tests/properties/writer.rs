//! The shard writer against the rules themselves.
//!
//! The model knows only what was released. Whenever an answer is released, the rules decide the same command again on
//! the model: the answer must be the same, and the entries that came of it must be the next ones of the log. So an
//! answer that left too early, rested on a forgotten fact or on something that was lost is seen at once.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use tidings_core::{
    Answer, Append, BatchNumber, Command, CommandKind, FactKey, Input, Output, ReadNumber, Released,
    ShardWriter, Ticket, WriterConfig, decide,
};
use tidings_types::{
    Code, Content, ConversationKey, Entry, Fence, Head, Limits, Member, PersonalState, PersonalSubject,
    Place, Refusal, Seq, Timestamp, UserId,
};

use crate::harness::names::{START, conversation, device, key, message, user};
use crate::harness::tables::Tables;
use crate::harness::{INCARNATION, drain};

#[derive(Clone, Debug)]
enum Op {
    Ask(Ask),
    /// An earlier command again.
    Repeat(usize),
    Append(AppendOutcome),
    /// The answer to an append of an earlier fence.
    LateAppend {
        which: usize,
        failed: bool,
    },
    AnswerRead {
        which: usize,
        age: u64,
    },
    FailRead {
        which: usize,
    },
    Project {
        batches: usize,
    },
    TellProjected,
    TakeOver,
    ClockForward {
        ms: u64,
    },
    ClockBack {
        ms: u64,
    },
}

#[derive(Clone, Debug)]
enum AppendOutcome {
    Durable,
    Unknown { landed: usize },
    Full,
}

#[derive(Clone, Debug)]
enum Ask {
    Create { group: usize, actor: usize, members: Vec<usize> },
    CreateDirect { actor: usize },
    Send { group: usize, actor: usize, message: usize, text: bool },
    WriteTo { actor: usize, message: usize, text: bool },
    Add { group: usize, actor: usize, users: Vec<usize> },
    Remove { group: usize, actor: usize, user: usize },
    Leave { group: usize, actor: usize },
    Open { group: usize, actor: usize },
    Note { actor: usize, about: usize, left: bool, cause: u64 },
}

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const GROUPS: [&str; 2] = ["g", "h"];
/// Some from before the writer begins, some from while it runs, some from too far ahead.
const MESSAGES: [&str; 10] =
    ["m0@-1h", "m1@-40s", "m2", "m3@+20s", "m4@+40s", "m5@+70s", "m6@+90s", "m7@+120s", "m8@+200s", "m9@v4"];

fn ask() -> impl Strategy<Value = Ask> {
    let (group, actor) = (0..GROUPS.len(), 0..USERS.len());
    let users = prop::collection::vec(0..USERS.len(), 0..4);
    prop_oneof![
        4 => (group.clone(), users.clone()).prop_map(|(group, members)| Ask::Create { group, actor: 0, members }),
        1 => (group.clone(), actor.clone(), users.clone())
            .prop_map(|(group, actor, members)| Ask::Create { group, actor, members }),
        1 => (0..2_usize).prop_map(|actor| Ask::CreateDirect { actor }),
        12 => (group.clone(), actor.clone(), 0..MESSAGES.len(), prop::bool::weighted(0.9))
            .prop_map(|(group, actor, message, text)| Ask::Send { group, actor, message, text }),
        3 => (0..2_usize, 0..MESSAGES.len(), prop::bool::weighted(0.9))
            .prop_map(|(actor, message, text)| Ask::WriteTo { actor, message, text }),
        3 => (group.clone(), actor.clone(), users)
            .prop_map(|(group, actor, users)| Ask::Add { group, actor, users }),
        2 => (group.clone(), actor.clone(), actor.clone())
            .prop_map(|(group, actor, user)| Ask::Remove { group, actor, user }),
        1 => (group.clone(), actor.clone()).prop_map(|(group, actor)| Ask::Leave { group, actor }),
        2 => (group, actor).prop_map(|(group, actor)| Ask::Open { group, actor }),
        2 => (0..2_usize, 0..3_usize, any::<bool>(), 0..4_u64)
            .prop_map(|(actor, about, left, cause)| Ask::Note { actor, about, left, cause }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        24 => ask().prop_map(Op::Ask),
        8 => any::<usize>().prop_map(Op::Repeat),
        10 => Just(Op::Append(AppendOutcome::Durable)),
        1 => (0..4_usize).prop_map(|landed| Op::Append(AppendOutcome::Unknown { landed })),
        1 => Just(Op::Append(AppendOutcome::Full)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, failed)| Op::LateAppend { which, failed }),
        16 => (any::<usize>(), any::<u64>()).prop_map(|(which, age)| Op::AnswerRead { which, age }),
        1 => any::<usize>().prop_map(|which| Op::FailRead { which }),
        5 => (1..4_usize).prop_map(|batches| Op::Project { batches }),
        5 => Just(Op::TellProjected),
        4 => Just(Op::TakeOver),
        3 => (1..30_000_u64).prop_map(|ms| Op::ClockForward { ms }),
        1 => (1..10_000_u64).prop_map(|ms| Op::ClockBack { ms }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    (0..12_usize, 0..5_usize, 1..4_usize, 300..2_000_usize, 2_000..8_000_usize, 4..30_usize).prop_map(
        |(facts, ids, in_flight, record, tail, mailbox)| Limits {
            facts_cached_max: facts,
            ids_cached_max: ids,
            appends_in_flight_max: in_flight,
            record_bytes_max: record,
            tail_bytes_max: tail,
            mailbox_commands_max: mailbox,
            ..Limits::default()
        },
    )
}

#[test]
fn writer_answers_as_the_rules_do() {
    let strategy = (limits(), prop::collection::vec(op(), 1..160));
    crate::check("writer_answers_as_the_rules_do", 1_500, &strategy, |(limits, ops)| {
        let mut world = World::new(limits);
        ops.into_iter().for_each(|op| world.play(op));
        world.finish();
    });
}

struct World {
    writer: ShardWriter,
    limits: Limits,
    clock: Timestamp,
    /// The highest moment the writer was told.
    now: Timestamp,
    fence: Fence,
    last_number: u64,
    in_flight: VecDeque<Append>,
    /// Appends of earlier fences that were never answered.
    late: Vec<BatchNumber>,
    /// What is durable, in order.
    log: Vec<(BatchNumber, Arc<Entry>)>,
    /// This many of the log's entries are in `model`.
    released: usize,
    /// Exactly what was released, and, after a take-over, all of the log.
    model: Tables,
    /// What the tables have, and how much of the log that is.
    tables: Rc<Tables>,
    projected: usize,
    reads: Vec<(ReadNumber, Vec<FactKey>, Rc<Tables>)>,
    asked: Vec<Asked>,
    must_take_over: bool,
    /// Entries of the answer just released, that must be released next.
    due: usize,
}

struct Asked {
    command: Command,
    at: Timestamp,
    answer: Option<Answer>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let config = WriterConfig { limits: limits.clone(), seed: 7, incarnation: INCARNATION };
        let mut world = Self {
            writer: ShardWriter::new(config),
            limits,
            clock: START,
            now: START,
            fence: Fence(0),
            last_number: 0,
            in_flight: VecDeque::new(),
            late: Vec::new(),
            log: Vec::new(),
            released: 0,
            model: Tables::default(),
            tables: Rc::new(Tables::default()),
            projected: 0,
            reads: Vec::new(),
            asked: Vec::new(),
            must_take_over: true,
            due: 0,
        };
        world.take_over();
        world
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Ask(ask) => self.ask(command(&ask)),
            Op::Repeat(which) => {
                if let Some(asked) = pick(&self.asked, which) {
                    let command = asked.command.clone();
                    self.ask(command);
                }
            }
            Op::Append(outcome) => self.append_outcome(&outcome),
            Op::LateAppend { which, failed } => {
                if let Some(batch) = pick(&self.late, which).copied() {
                    self.handle(if failed {
                        Input::AppendFailed { batch, refusal: Some(full()) }
                    } else {
                        Input::Appended { batch, place: Place(0) }
                    });
                }
            }
            Op::AnswerRead { which, age } => self.answer_read(which, age),
            Op::FailRead { which } => {
                if !self.reads.is_empty() {
                    let (read, ..) = self.reads.remove(which % self.reads.len());
                    let refusal = Refusal::new(Code::Unavailable, "no tables");
                    self.handle(Input::FactsFailed { read, refusal });
                }
            }
            Op::Project { batches } => self.project(batches),
            Op::TellProjected => self.tell_projected(),
            Op::TakeOver => self.take_over(),
            Op::ClockForward { ms } => self.clock = self.clock.plus_ms(ms),
            Op::ClockBack { ms } => self.clock = self.clock.minus_ms(ms),
        }
    }

    fn handle(&mut self, input: Input) {
        self.now = self.now.max(self.clock);
        self.writer.handle(self.clock, input);
        for output in drain(&mut self.writer) {
            match output {
                Output::Append(append) => self.on_append(append),
                Output::Read { read, keys } => {
                    assert!(!keys.is_empty(), "a read of nothing");
                    self.reads.push((read, keys, self.tables.clone()));
                }
                Output::Release(Released::Answer(ticket, answer)) => self.on_answer(ticket, &answer),
                Output::Release(Released::Entry { batch, entry, head }) => {
                    assert!(self.due > 0, "an entry without an answer: {entry:?}");
                    self.due -= 1;
                    assert_eq!((batch, &entry), (self.log[self.released].0, &self.log[self.released].1));
                    self.released += 1;
                    self.model.apply(&entry);
                    assert_eq!(self.model.heads[&entry.key()], head);
                }
                Output::TakeOver => {
                    assert!(!self.must_take_over, "asked twice");
                    self.must_take_over = true;
                }
            }
        }
        assert_eq!(self.due, 0, "the last answer's entries were not released");
        let unanswered = self.asked.iter().filter(|asked| asked.answer.is_none()).count();
        assert_eq!(self.writer.waiting(), unanswered);
        assert!(unanswered <= self.limits.mailbox_commands_max, "{unanswered} commands wait");
    }

    fn ask(&mut self, command: Command) {
        let ticket = Ticket(self.asked.len() as u64);
        let at = self.now.max(self.clock);
        self.asked.push(Asked { command: command.clone(), at, answer: None });
        self.handle(Input::Command(ticket, command));
    }

    fn on_append(&mut self, append: Append) {
        assert!(!self.must_take_over, "an append without the shard");
        assert_eq!(append.fence, self.fence);
        assert_eq!(append.number.0, self.last_number + 1);
        assert!(!append.entries.is_empty());
        assert!(self.in_flight.len() < self.limits.appends_in_flight_max);
        self.last_number = append.number.0;
        self.in_flight.push_back(append);
    }

    fn append_outcome(&mut self, outcome: &AppendOutcome) {
        let Some(append) = self.in_flight.front() else { return };
        let batch = append.batch;
        match outcome {
            AppendOutcome::Durable => {
                self.land(1);
                self.handle(Input::Appended { batch, place: Place(0) });
            }
            AppendOutcome::Unknown { landed } => {
                self.land(*landed);
                self.late.extend(self.in_flight.drain(..).map(|append| append.batch));
                self.handle(Input::AppendFailed { batch, refusal: None });
            }
            AppendOutcome::Full => {
                self.late.extend(self.in_flight.drain(..).map(|append| append.batch));
                self.handle(Input::AppendFailed { batch, refusal: Some(full()) });
            }
        }
    }

    fn land(&mut self, batches: usize) {
        for append in self.in_flight.drain(..batches.min(self.in_flight.len())) {
            self.log.extend(append.entries.into_iter().map(|entry| (append.batch, entry)));
        }
    }

    /// Every fact is as old as the tables were when it was asked for, or as they are now.
    fn answer_read(&mut self, which: usize, age: u64) {
        if self.reads.is_empty() {
            return;
        }
        let (read, keys, then) = self.reads.remove(which % self.reads.len());
        let now = self.tables.clone();
        let facts = keys
            .into_iter()
            .enumerate()
            .map(|(index, key)| {
                (key, if age >> (index % 64) & 1 == 0 { then.fact(&key) } else { now.fact(&key) })
            })
            .collect();
        self.handle(Input::Facts { read, facts });
    }

    fn project(&mut self, batches: usize) {
        let tables = Rc::make_mut(&mut self.tables);
        for _ in 0..batches {
            let Some((batch, _)) = self.log.get(self.projected) else { return };
            let batch = *batch;
            while let Some((_, entry)) = self.log.get(self.projected).filter(|(other, _)| *other == batch) {
                tables.apply(entry);
                self.projected += 1;
            }
        }
    }

    fn tell_projected(&mut self) {
        // While the shard is being taken over the log may have more than the writer knows of.
        if let Some((batch, _)) = self.projected.checked_sub(1).and_then(|last| self.log.get(last))
            && !self.must_take_over
        {
            self.handle(Input::Projected(*batch));
        }
    }

    fn take_over(&mut self) {
        if !std::mem::take(&mut self.must_take_over) {
            return;
        }
        self.project(usize::MAX);
        for (_, entry) in &self.log[self.released..] {
            self.model.apply(entry);
        }
        self.released = self.log.len();
        self.fence = Fence(self.fence.0 + 10);
        self.last_number = 0;
        let latest_at = self.tables.latest_at;
        self.handle(Input::TakenOver { fence: self.fence, latest_at });
    }

    fn on_answer(&mut self, ticket: Ticket, answer: &Answer) {
        assert_eq!(self.due, 0, "the last answer's entries were not released");
        let asked = &mut self.asked[usize::try_from(ticket.0).unwrap()];
        assert_eq!(asked.answer, None, "answered twice: {:?}", asked.command);
        asked.answer = Some(answer.clone());
        if let Answer::Refused(Refusal {
            code: Code::Overloaded | Code::Unavailable | Code::StorageFull,
            ..
        }) = answer
        {
            return;
        }
        // It was decided at some moment between the two, and the rules look at the time only to refuse ids.
        let decisions = [asked.at, self.now]
            .map(|now| decide(&self.model, now, INCARNATION, &self.limits, &asked.command));
        let expected = decisions.iter().find(|decision| timeless(&decision.answer) == timeless(answer));
        let Some(expected) = expected else {
            panic!("{:?} was answered {answer:?}, the rules say {decisions:?}", asked.command);
        };
        self.due = expected.entries.len();
        let durable = &self.log[self.released..];
        assert!(durable.len() >= self.due, "{answer:?} is not durable");
        for ((entry, _), (_, stored)) in expected.entries.iter().zip(durable) {
            let stored = Entry { created_at: entry.created_at, ..Entry::clone(stored) };
            assert_eq!(*entry, stored, "what came of {:?}", asked.command);
        }
        if let (Answer::Accepted { created_at, .. }, Some(last)) = (answer, self.due.checked_sub(1)) {
            assert_eq!(*created_at, durable[last].1.created_at);
        } else if matches!(answer, Answer::Accepted { .. }) {
            assert_eq!(*answer, expected.answer, "a retry gets the first answer");
        }
    }

    /// Everything that waits comes to its end; then all promises must hold.
    fn finish(&mut self) {
        self.settle();
        for actor in 0..USERS.len() {
            (0..GROUPS.len()).for_each(|group| self.ask(command(&Ask::Open { group, actor })));
        }
        self.settle();
        assert_eq!(self.writer.waiting(), 0);
        assert_eq!(self.released, self.log.len(), "durable entries that nobody was told");
        let mut replayed = Tables::default();
        self.log.iter().for_each(|(_, entry)| replayed.apply(entry));
        for entries in replayed.entries.values() {
            assert!(entries.is_sorted_by_key(|entry| entry.created_at), "time runs back: {entries:?}");
        }
        for asked in &self.asked {
            let (Some(Answer::Accepted { seq, created_at }), CommandKind::Send { message_id, .. }) =
                (&asked.answer, &asked.command.kind)
            else {
                continue;
            };
            let record = replayed.ids.get(&(asked.command.key, *message_id)).expect("acknowledged and lost");
            assert_eq!((record.seq, record.created_at), (*seq, *created_at));
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.must_take_over {
                self.take_over();
            } else if !self.reads.is_empty() {
                self.answer_read(0, u64::MAX);
            } else if !self.in_flight.is_empty() {
                self.append_outcome(&AppendOutcome::Durable);
            } else {
                self.project(usize::MAX);
                self.tell_projected();
                return;
            }
        }
        panic!("the writer goes round in circles: {:?}", self.reads);
    }
}

fn full() -> Refusal {
    Refusal::new(Code::StorageFull, "no room")
}

fn pick<T>(from: &[T], which: usize) -> Option<&T> {
    from.get(which.checked_rem(from.len())?)
}

fn command(ask: &Ask) -> Command {
    let to = |key: ConversationKey, actor: usize, kind| Command { key, actor: user(USERS[actor]), kind };
    let users =
        |indices: &[usize]| -> Vec<UserId> { indices.iter().map(|index| user(USERS[*index])).collect() };
    let send = |index: usize, text: bool, peer| CommandKind::Send {
        message_id: message(MESSAGES[index]),
        content: Content::Text(if text { "one" } else { "another" }.into()),
        reply_to: None,
        peer,
    };
    let direct = key("direct(alice,bob)");
    match ask {
        Ask::Create { group, actor, members } => {
            to(key(GROUPS[*group]), *actor, CommandKind::CreateGroup { title: None, members: users(members) })
        }
        Ask::CreateDirect { actor } => {
            to(direct, *actor, CommandKind::CreateDirect { peer: user(USERS[1 - actor]) })
        }
        Ask::Send { group, actor, message, text } => {
            to(key(GROUPS[*group]), *actor, send(*message, *text, None))
        }
        Ask::WriteTo { actor, message, text } => {
            to(direct, *actor, send(*message, *text, Some(user(USERS[1 - actor]))))
        }
        Ask::Add { group, actor, users: added } => {
            to(key(GROUPS[*group]), *actor, CommandKind::AddMembers { users: users(added) })
        }
        Ask::Remove { group, actor, user: removed } => {
            to(key(GROUPS[*group]), *actor, CommandKind::RemoveMember { user: user(USERS[*removed]) })
        }
        Ask::Leave { group, actor } => to(key(GROUPS[*group]), *actor, CommandKind::Leave),
        Ask::Open { group, actor } => to(key(GROUPS[*group]), *actor, CommandKind::Open),
        Ask::Note { actor, about, left, cause } => {
            let (subject, state) = match (about, left) {
                (2, _) => (PersonalSubject::Device(device("phone")), PersonalState::DeviceRemoved),
                (_, true) => (about_group(*about), PersonalState::Left),
                (_, false) => (about_group(*about), PersonalState::Joined),
            };
            let log = key(&format!("personal({})", USERS[*actor]));
            to(log, *actor, CommandKind::Note { subject, state, cause: Seq(*cause) })
        }
    }
}

fn about_group(index: usize) -> PersonalSubject {
    PersonalSubject::Conversation(conversation(GROUPS[index]))
}

/// The answer without the moments in it and in its texts.
fn timeless(answer: &Answer) -> Answer {
    let zero = Timestamp::from_ms(0);
    let head = |head: &Arc<Head>| Arc::new(Head { created_at: zero, last_at: zero, ..Head::clone(head) });
    let member = |member: &Member| Member { joined_at: zero, ..*member };
    match answer {
        Answer::Accepted { seq, .. } => Answer::Accepted { seq: *seq, created_at: zero },
        Answer::Created { head: h, member: m } => Answer::Created { head: head(h), member: member(m) },
        Answer::Opened { head: h, member: m } => Answer::Opened { head: head(h), member: member(m) },
        Answer::Members(members) => {
            Answer::Members(members.iter().map(|(user, row)| (*user, member(row))).collect())
        }
        Answer::Done => Answer::Done,
        Answer::Refused(refusal) => Answer::Refused(Refusal::new(refusal.code, "")),
    }
}
