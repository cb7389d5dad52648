//! One device's link against a model of the logs, the shell and the client behind it.
//!
//! The client checks every frame as it comes: entries in order, nothing twice, nothing that its user may not see, and
//! nothing missing that no gap named. At the end, when nothing moves any more, it must have everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use tidings_core::{Answer, Delivery, Effect, Link, LinkInput, LinkOutput, LinkRequest, Say};
use tidings_types::{Code, ConversationId, Cursor, Epoch, Limits, Refusal, Seq, UserId};

use crate::harness::device::{FRAME_BYTES, Frame, delivery, opened};
use crate::harness::names::{conversation, user};

#[derive(Clone, Debug)]
enum Op {
    Append {
        conversation: usize,
        what: What,
    },
    /// The follower tells the personal log what happened in this conversation.
    Note {
        conversation: usize,
    },
    /// The entry reaches those who watch; `dropped`: only its seq does.
    FanOut {
        conversation: usize,
        dropped: bool,
    },
    HearLive,
    DecideOpen {
        which: usize,
    },
    RefuseOpen {
        which: usize,
    },
    AnswerOpen {
        which: usize,
    },
    MakeList,
    AnswerList,
    AnswerRead {
        entries: usize,
    },
    Write {
        frames: usize,
    },
    Subscribe {
        conversation: usize,
        back: Option<u64>,
    },
    Reconnect,
}

#[derive(Clone, Debug)]
enum What {
    Message,
    /// The user comes or goes.
    Me,
    AnotherLeft,
}

const CONVERSATIONS: [&str; 3] = ["x", "y", "z"];
const PERSONAL: &str = "personal(me)";
const EPOCH: Epoch = Epoch(1);
const PAGE_ENTRIES_MAX: usize = 4;

fn op() -> impl Strategy<Value = Op> {
    let conversation = 0..CONVERSATIONS.len();
    let anywhere = 0..=CONVERSATIONS.len();
    let what = prop_oneof![6 => Just(What::Message), 2 => Just(What::Me), 1 => Just(What::AnotherLeft)];
    prop_oneof![
        14 => (conversation.clone(), what).prop_map(|(conversation, what)| Op::Append { conversation, what }),
        4 => conversation.prop_map(|conversation| Op::Note { conversation }),
        14 => (anywhere.clone(), prop::bool::weighted(0.2))
            .prop_map(|(conversation, dropped)| Op::FanOut { conversation, dropped }),
        10 => Just(Op::HearLive),
        6 => any::<usize>().prop_map(|which| Op::DecideOpen { which }),
        6 => any::<usize>().prop_map(|which| Op::AnswerOpen { which }),
        1 => any::<usize>().prop_map(|which| Op::RefuseOpen { which }),
        4 => Just(Op::MakeList),
        4 => Just(Op::AnswerList),
        10 => (1..=PAGE_ENTRIES_MAX).prop_map(|entries| Op::AnswerRead { entries }),
        10 => (1..6_usize).prop_map(|frames| Op::Write { frames }),
        2 => (anywhere, prop::option::of(0..5_u64))
            .prop_map(|(conversation, back)| Op::Subscribe { conversation, back }),
        1 => Just(Op::Reconnect),
    ]
}

#[test]
fn device_gets_everything_once_and_in_order() {
    let limits = (10..150_usize, 1..20_u64).prop_map(|(output, replay)| Limits {
        output_bytes_max: output,
        replay_entries_max: replay,
        ..Limits::default()
    });
    let strategy = (limits, prop::collection::vec(op(), 1..200));
    crate::check("device_gets_everything_once_and_in_order", 3_000, &strategy, |(limits, ops)| {
        let mut world = World::new(limits);
        ops.into_iter().for_each(|op| world.play(op));
        world.finish();
    });
}

/// One conversation as its log has it.
#[derive(Default)]
struct Log {
    effects: Vec<Effect>,
    /// The user's stays: the entry that added them, and the one by which they went.
    stays: Vec<(u64, Option<u64>)>,
    /// In the log, and not yet told to those who watch.
    fresh: VecDeque<Seq>,
}

impl Log {
    fn head(&self) -> Seq {
        Seq(self.effects.len() as u64)
    }

    /// The entry that added the user, if they are in.
    fn joined(&self) -> Option<u64> {
        self.stays.last().filter(|(_, left)| left.is_none()).map(|(from, _)| *from)
    }

    fn is_visible(&self, seq: Seq) -> bool {
        self.stays.iter().any(|(from, left)| *from <= seq.0 && left.is_none_or(|left| seq.0 <= left))
    }
}

enum Live {
    Entry(Delivery<Frame>),
    Dropped(ConversationId, Seq),
}

enum Sent {
    Say(Say),
    Entry(Frame),
}

struct World {
    limits: Arc<Limits>,
    me: UserId,
    ids: Vec<ConversationId>,
    logs: BTreeMap<ConversationId, Log>,
    /// What the follower has yet to write, and the personal log's last word.
    notes: BTreeMap<ConversationId, VecDeque<bool>>,
    noted: BTreeMap<ConversationId, bool>,
    shell: Shell,
    client: Client,
}

/// What stands between the logs and the device.
struct Shell {
    link: Link<Frame>,
    watched: BTreeSet<ConversationId>,
    live: VecDeque<Live>,
    opens: Vec<ConversationId>,
    opened: Vec<(ConversationId, Answer)>,
    lists_wanted: usize,
    lists: VecDeque<Vec<ConversationId>>,
    read: Option<(ConversationId, Seq)>,
    socket: VecDeque<Sent>,
    said_caught_up: bool,
    closed: bool,
}

#[derive(Default)]
struct Client {
    /// What comes next of each conversation; `None`: a snapshot, or nothing any more.
    next: BTreeMap<ConversationId, Option<Seq>>,
    /// Conversations that said something on this socket and have not ended since.
    following: BTreeSet<ConversationId>,
    /// What the conversations that were opened before `caught_up` had.
    targets: BTreeMap<ConversationId, Seq>,
    caught_up: bool,
    subscribed: BTreeMap<u32, (ConversationId, Option<Seq>)>,
}

impl World {
    fn new(limits: Limits) -> Self {
        let limits = Arc::new(limits);
        let mut ids: Vec<ConversationId> = CONVERSATIONS.iter().map(|name| conversation(name)).collect();
        ids.push(conversation(PERSONAL));
        let mut logs: BTreeMap<ConversationId, Log> = ids.iter().map(|id| (*id, Log::default())).collect();
        logs.get_mut(&ids[CONVERSATIONS.len()]).unwrap().stays.push((1, None));
        let me = user("me");
        let shell = Shell::new(me, &limits);
        let (notes, noted, client) = Default::default();
        let mut world = Self { limits, me, ids, logs, notes, noted, shell, client };
        world.connect();
        world
    }

    fn personal(&self) -> ConversationId {
        self.ids[CONVERSATIONS.len()]
    }

    /// A new socket, with what the client has.
    fn connect(&mut self) {
        self.shell = Shell::new(self.me, &self.limits);
        self.client.following.clear();
        self.client.targets.clear();
        self.client.subscribed.clear();
        self.client.caught_up = false;
        let cursors = self
            .client
            .next
            .iter()
            .filter_map(|(id, next)| Some((*id, Cursor { epoch: EPOCH, seq: (*next)?.previous() })))
            .collect();
        self.handle(LinkInput::Request(LinkRequest::Connect { ref_: 0, cursors }));
    }

    fn handle(&mut self, input: LinkInput<'_, Frame>) {
        self.shell.link.handle(0, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.shell.link.poll() {
            assert!(!self.shell.closed, "{output:?} after closing");
            match output {
                LinkOutput::Say(say) => {
                    self.shell.link.on_queued(FRAME_BYTES);
                    self.shell.said_caught_up |= matches!(say, Say::CaughtUp { .. });
                    self.shell.socket.push_back(Sent::Say(say));
                }
                LinkOutput::Deliver(frame) => self.shell.socket.push_back(Sent::Entry(frame)),
                LinkOutput::WatchAndOpen(id) => {
                    self.shell.watched.insert(id);
                    assert!(!self.shell.opens.contains(&id), "opened twice at once");
                    self.shell.opens.push(id);
                }
                LinkOutput::Unwatch(id) => assert!(self.shell.watched.remove(&id)),
                LinkOutput::ListConversations => self.shell.lists_wanted += 1,
                LinkOutput::Read { conversation, after } => {
                    assert_eq!(self.shell.read, None, "one page at a time");
                    self.shell.read = Some((conversation, after));
                }
                LinkOutput::Close(_) => self.shell.closed = true,
                LinkOutput::Submit { .. } | LinkOutput::Alarm(_) => panic!("{output:?}"),
            }
        }
        // One page, and what openings in flight say, may come on top of a queue that was just not full.
        let says = 3 * (self.ids.len() + 1);
        let most = self.limits.output_bytes_max + (PAGE_ENTRIES_MAX + says) * FRAME_BYTES;
        assert!(self.shell.socket.len() * FRAME_BYTES <= most, "{} frames wait", self.shell.socket.len());
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Append { conversation, what } => self.append(self.ids[conversation], &what),
            Op::Note { conversation } => self.note(self.ids[conversation]),
            Op::FanOut { conversation, dropped } => self.fan_out(self.ids[conversation], dropped),
            Op::HearLive => self.hear_live(),
            Op::DecideOpen { which } => self.decide_open(which, None),
            Op::RefuseOpen { which } => self.decide_open(which, Some(Code::Overloaded)),
            Op::AnswerOpen { which } => self.answer_open(which),
            Op::MakeList => self.make_list(),
            Op::AnswerList => self.answer_list(),
            Op::AnswerRead { entries } => self.answer_read(entries),
            Op::Write { frames } => self.write(frames),
            Op::Subscribe { conversation, back } => self.subscribe(self.ids[conversation], back),
            Op::Reconnect => self.connect(),
        }
        if self.shell.closed {
            self.connect();
        }
    }

    fn append(&mut self, id: ConversationId, what: &What) {
        let (me, log) = (self.me, self.logs.get_mut(&id).unwrap());
        let seq = log.head().next();
        let effect = match what {
            What::Message => Effect::None,
            What::AnotherLeft => Effect::Left(user("you")),
            What::Me => {
                let joins = log.joined().is_none();
                self.notes.entry(id).or_default().push_back(joins);
                if joins {
                    log.stays.push((seq.0, None));
                    Effect::None
                } else {
                    log.stays.last_mut().unwrap().1 = Some(seq.0);
                    Effect::Left(me)
                }
            }
        };
        log.effects.push(effect);
        log.fresh.push_back(seq);
    }

    fn note(&mut self, id: ConversationId) {
        let Some(joined) = self.notes.get_mut(&id).and_then(VecDeque::pop_front) else { return };
        self.noted.insert(id, joined);
        let log = self.logs.get_mut(&self.ids[CONVERSATIONS.len()]).unwrap();
        log.effects.push(if joined { Effect::Joined(id) } else { Effect::None });
        log.fresh.push_back(log.head());
    }

    fn fan_out(&mut self, id: ConversationId, dropped: bool) {
        let log = self.logs.get_mut(&id).unwrap();
        let Some(seq) = log.fresh.pop_front() else { return };
        if self.shell.watched.contains(&id) {
            self.shell.live.push_back(if dropped {
                Live::Dropped(id, seq)
            } else {
                Live::Entry(delivery(id, seq, log.effects[index(seq)]))
            });
        }
    }

    fn hear_live(&mut self) {
        match self.shell.live.pop_front() {
            Some(Live::Entry(entry)) => self.handle(LinkInput::Live(&entry)),
            Some(Live::Dropped(conversation, seq)) => self.handle(LinkInput::Head { conversation, seq }),
            None => {}
        }
    }

    fn decide_open(&mut self, which: usize, refused: Option<Code>) {
        let Some(which) = which.checked_rem(self.shell.opens.len()) else { return };
        let id = self.shell.opens.remove(which);
        let log = &self.logs[&id];
        let answer = match (refused, log.joined()) {
            (Some(code), _) => Answer::Refused(Refusal::new(code, "not now")),
            (None, None) => Answer::Refused(Refusal::new(Code::NotFound, "gone")),
            (None, Some(from)) => opened(log.head(), Seq(1), EPOCH, Seq(from)),
        };
        self.shell.opened.push((id, answer));
    }

    fn answer_open(&mut self, which: usize) {
        let Some(which) = which.checked_rem(self.shell.opened.len()) else { return };
        let (conversation, answer) = self.shell.opened.remove(which);
        match &answer {
            _ if self.shell.said_caught_up => {}
            Answer::Opened { head, .. } => drop(self.client.targets.insert(conversation, head.seq)),
            _ => drop(self.client.targets.remove(&conversation)),
        }
        self.handle(LinkInput::Opened { conversation, answer });
    }

    fn make_list(&mut self) {
        if self.shell.lists_wanted > 0 {
            self.shell.lists_wanted -= 1;
            let list = self.noted.iter().filter(|(_, joined)| **joined).map(|(id, _)| *id).collect();
            self.shell.lists.push_back(list);
        }
    }

    fn answer_list(&mut self) {
        if let Some(list) = self.shell.lists.pop_front() {
            self.handle(LinkInput::Conversations(Ok(list)));
        }
    }

    fn answer_read(&mut self, entries: usize) {
        let Some((conversation, after)) = self.shell.read.take() else { return };
        let log = &self.logs[&conversation];
        let page = (after.0 + 1..=log.head().0)
            .take(entries)
            .map(|seq| delivery(conversation, Seq(seq), log.effects[index(Seq(seq))]))
            .collect();
        self.handle(LinkInput::Page { conversation, after, page: Ok(page) });
    }

    fn write(&mut self, frames: usize) {
        for _ in 0..frames {
            match self.shell.socket.pop_front() {
                Some(Sent::Say(say)) => self.client.hear(say, &self.logs),
                Some(Sent::Entry(frame)) => self.client.receive(&frame, self.me, &self.logs),
                None => return,
            }
            self.shell.link.on_written(FRAME_BYTES);
            self.drain();
        }
    }

    /// From `back` entries before what the client has.
    fn subscribe(&mut self, id: ConversationId, back: Option<u64>) {
        if !self.shell.link.wants_read() || self.shell.closed {
            return;
        }
        let seq = match (back, self.client.next.get(&id)) {
            (Some(back), Some(Some(next))) => Some(Seq(next.previous().0.saturating_sub(back))),
            _ => None,
        };
        let ref_ = 1 + u32::try_from(self.client.subscribed.len()).unwrap();
        self.client.subscribed.insert(ref_, (id, seq));
        let cursor = seq.map(|seq| Cursor { epoch: EPOCH, seq });
        self.handle(LinkInput::Request(LinkRequest::Subscribe { ref_, conversation: id, cursor }));
    }

    fn finish(&mut self) {
        for _ in 0..10_000 {
            if !self.step() {
                return self.check_all_is_there();
            }
        }
        panic!("it never comes to rest");
    }

    /// Does the next thing that waits; `false` if nothing does.
    fn step(&mut self) -> bool {
        let shell = &self.shell;
        if shell.closed {
            self.connect();
        } else if !shell.socket.is_empty() {
            self.write(1);
        } else if !shell.opens.is_empty() {
            self.decide_open(0, None);
        } else if !shell.opened.is_empty() {
            self.answer_open(0);
        } else if shell.lists_wanted > 0 || !shell.lists.is_empty() {
            self.make_list();
            self.answer_list();
        } else if shell.read.is_some() {
            self.answer_read(PAGE_ENTRIES_MAX);
        } else if !shell.live.is_empty() {
            self.hear_live();
        } else if let Some(id) = self.ids.iter().copied().find(|id| !self.logs[id].fresh.is_empty()) {
            self.fan_out(id, false);
        } else if let Some((id, _)) = self.notes.iter().find(|(_, notes)| !notes.is_empty()) {
            self.note(*id);
        } else {
            return false;
        }
        true
    }

    fn check_all_is_there(&self) {
        assert!(self.client.caught_up, "never told that it is caught up");
        for (id, log) in &self.logs {
            if log.joined().is_some() {
                let next = self.client.next.get(id).copied().flatten();
                assert_eq!(
                    next,
                    Some(log.head().next()),
                    "{id} is not complete, personal: {}",
                    self.personal()
                );
            } else {
                assert!(!self.client.following.contains(id), "{id} was never told that it is over");
            }
        }
    }
}

impl Shell {
    fn new(me: UserId, limits: &Arc<Limits>) -> Self {
        Self {
            link: Link::new(me, conversation(PERSONAL), limits.clone(), 0),
            watched: BTreeSet::new(),
            live: VecDeque::new(),
            opens: Vec::new(),
            opened: Vec::new(),
            lists_wanted: 0,
            lists: VecDeque::new(),
            read: None,
            socket: VecDeque::new(),
            said_caught_up: false,
            closed: false,
        }
    }
}

impl Client {
    fn receive(&mut self, frame: &Frame, me: UserId, logs: &BTreeMap<ConversationId, Log>) {
        let log = &logs[&frame.conversation];
        let next = self.next.entry(frame.conversation).or_default();
        assert_eq!(*next, Some(frame.seq), "what comes next of {}", frame.conversation);
        assert!(log.is_visible(frame.seq), "{} of {} is not for this user", frame.seq, frame.conversation);
        assert_eq!(frame.effect, log.effects[index(frame.seq)]);
        *next = Some(frame.seq.next());
        if frame.effect == Effect::Left(me) {
            self.following.remove(&frame.conversation);
            self.targets.remove(&frame.conversation);
        } else {
            self.following.insert(frame.conversation);
        }
    }

    fn hear(&mut self, say: Say, logs: &BTreeMap<ConversationId, Log>) {
        match say {
            Say::Connected { .. } => {}
            Say::Snapshot { conversation, visible_from, head } => {
                assert!(logs[&conversation].stays.iter().any(|(from, _)| Seq(*from) == visible_from));
                assert!(head.seq <= logs[&conversation].head());
                self.next.insert(conversation, Some(visible_from));
                self.following.insert(conversation);
            }
            Say::Gap { conversation, epoch, from, to } => {
                assert_eq!((self.next[&conversation], epoch), (Some(from), EPOCH));
                assert!(
                    from <= to && logs[&conversation].is_visible(from) && logs[&conversation].is_visible(to)
                );
                self.next.insert(conversation, Some(to.next()));
                self.following.insert(conversation);
            }
            Say::CaughtUp { .. } => {
                assert!(!self.caught_up, "caught up twice");
                self.caught_up = true;
                for (id, target) in &self.targets {
                    let next = self.next.get(id).copied().flatten();
                    assert!(next > Some(*target), "{id} is at {next:?}, and had {target} when it was opened");
                }
            }
            Say::Subscribed { ref_, conversation } => {
                let (asked, seq) = self.subscribed[&ref_];
                assert_eq!(asked, conversation);
                self.next.insert(conversation, seq.map(Seq::next));
            }
            Say::Error { ref_: Some(ref_), refusal } => {
                if refusal.code == Code::NotFound {
                    self.following.remove(&self.subscribed[&ref_].0);
                }
            }
            other => panic!("{other:?} was not asked for"),
        }
    }
}

fn index(seq: Seq) -> usize {
    usize::try_from(seq.0 - 1).unwrap()
}
