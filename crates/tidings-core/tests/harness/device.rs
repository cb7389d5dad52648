//! Plays inputs on the link of one device, whose user is called `me`.

use std::sync::Arc;

use tidings_core::{
    Alarm, Answer, CloseReason, Delivery, Effect, Link, LinkInput, LinkOutput, LinkRequest, Payload, Say,
    SendTarget,
};
use tidings_types::{
    Code, CommandHash, Content, ConversationId, ConversationKind, Cursor, Epoch, Head, Limits, Member,
    Refusal, Role, Seq, SpaceId, UserId,
};

use super::names::{Names, START};
use super::render;
use super::script::{Machine, number, quoted, set_limits};

/// The size of every frame: round, so that limits in bytes read as counts.
pub const FRAME_BYTES: usize = 10;

/// An entry as it would be on the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub conversation: ConversationId,
    pub seq: Seq,
    pub effect: Effect,
}

impl Payload for Frame {
    fn len_bytes(&self) -> usize {
        FRAME_BYTES
    }
}

pub fn delivery(conversation: ConversationId, seq: Seq, effect: Effect) -> Delivery<Frame> {
    Delivery { conversation, seq, effect, payload: Frame { conversation, seq, effect } }
}

pub fn opened(head: Seq, floor: Seq, epoch: Epoch, visible_from: Seq) -> Answer {
    let head = Head {
        space: SpaceId::DEFAULT,
        kind: ConversationKind::Group,
        title: None,
        creator: UserId::from_bytes([1; 16]),
        created_hash: CommandHash([0; 16]),
        created_at: START,
        seq: head,
        version: head.0,
        floor,
        epoch,
        messages: 0,
        last_message: Seq::ZERO,
        last_at: START,
        member_count: 2,
    };
    let member = Member { role: Role::Member, joined_at: START, visible_from, left: None };
    Answer::Opened { head: Arc::new(head), member }
}

pub struct Device {
    names: Names,
    limits: Limits,
    link: Option<Link<Frame>>,
    now_ms: u64,
    /// The socket takes every byte at once.
    flowing: bool,
    queued: usize,
}

impl Device {
    pub fn new() -> Self {
        let mut names = Names::default();
        names.user("me");
        Self { names, limits: Limits::default(), link: None, now_ms: 0, flowing: true, queued: 0 }
    }

    fn link(&mut self) -> &mut Link<Frame> {
        let me = self.names.user("me");
        let personal = self.names.conversation("personal(me)");
        let (limits, now_ms) = (self.limits.clone(), self.now_ms);
        self.link.get_or_insert_with(|| Link::new(me, personal, Arc::new(limits), now_ms))
    }

    fn handle(&mut self, input: LinkInput<'_, Frame>) -> Vec<String> {
        let now_ms = self.now_ms;
        self.link().handle(now_ms, input);
        self.drain()
    }

    fn request(&mut self, request: LinkRequest) -> Vec<String> {
        self.handle(LinkInput::Request(request))
    }

    fn drain(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(output) = self.link().poll() {
            match output {
                LinkOutput::Say(_) => {
                    self.link().on_queued(FRAME_BYTES);
                    self.queued += FRAME_BYTES;
                }
                LinkOutput::Deliver(_) => self.queued += FRAME_BYTES,
                _ => {}
            }
            lines.push(self.show(output));
            if self.flowing {
                let queued = std::mem::take(&mut self.queued);
                self.link().on_written(queued);
            }
        }
        lines
    }

    fn name(&self, conversation: ConversationId) -> &str {
        self.names.of(conversation.as_bytes())
    }

    fn show(&self, output: LinkOutput<Frame>) -> String {
        match output {
            LinkOutput::Say(say) => self.show_say(say),
            LinkOutput::Deliver(frame) => format!("deliver {}#{}", self.name(frame.conversation), frame.seq),
            LinkOutput::Submit { ref_, target, message_id, .. } => {
                let target = match target {
                    SendTarget::Conversation(id) => self.name(id),
                    SendTarget::Recipient(user) => self.names.of(user.as_bytes()),
                };
                format!("submit {ref_}: {} to {target}", self.names.of(message_id.as_bytes()))
            }
            LinkOutput::WatchAndOpen(id) => format!("watch and open {}", self.name(id)),
            LinkOutput::Unwatch(id) => format!("unwatch {}", self.name(id)),
            LinkOutput::ListConversations => "list conversations".to_owned(),
            LinkOutput::Read { conversation, after } => {
                format!("read {} after {after}", self.name(conversation))
            }
            LinkOutput::Alarm(Alarm::CursorBeyondHead { conversation, cursor, head }) => {
                format!("alarm: cursor {cursor} of {} is beyond its head {head}", self.name(conversation))
            }
            LinkOutput::Alarm(Alarm::HoleInPage { conversation, after, found }) => {
                let found = found.map_or("nothing".to_owned(), |seq| seq.to_string());
                format!("alarm: {found} after {}#{after}", self.name(conversation))
            }
            LinkOutput::Close(CloseReason::Refused(code)) => format!("close: {code}"),
            LinkOutput::Close(reason) => format!("close: {reason:?}"),
        }
    }

    fn show_say(&self, say: Say) -> String {
        match say {
            Say::Connected { ref_, personal } => format!("say {ref_} connected, {}", self.name(personal)),
            Say::Snapshot { conversation, head, visible_from } => format!(
                "say snapshot {} from {visible_from}, head {} epoch {}",
                self.name(conversation),
                head.seq,
                head.epoch
            ),
            Say::Gap { conversation, epoch: _, from, to } => {
                format!("say gap {} {from}-{to}", self.name(conversation))
            }
            Say::CaughtUp { ref_ } => format!("say {ref_} caught up"),
            Say::Subscribed { ref_, conversation } => {
                format!("say {ref_} subscribed to {}", self.name(conversation))
            }
            Say::Accepted { ref_, conversation, message_id, seq, created_at } => format!(
                "say {ref_} accepted {} as {}#{seq} at {}",
                self.names.of(message_id.as_bytes()),
                self.name(conversation),
                render::time(created_at)
            ),
            Say::Pong { ref_, sent } => format!("say {ref_} pong, {sent} frames before it"),
            Say::Error { ref_, refusal } => {
                let ref_ = ref_.map_or("-".to_owned(), |ref_| ref_.to_string());
                format!("say {ref_} {}", render::refusal(&refusal))
            }
        }
    }

    /// `x=5` or, of another epoch, `x=5@2`.
    fn cursor(&mut self, word: &str) -> (ConversationId, Cursor) {
        let (name, at) = word.split_once('=').expect("conversation=seq");
        let (seq, epoch) = at.split_once('@').unwrap_or((at, "1"));
        let epoch = Epoch(epoch.parse().expect("an epoch"));
        (self.names.conversation(name), Cursor { epoch, seq: Seq(number(seq)) })
    }

    /// `6`, `6:left(me)`, `6:joined(x)`.
    fn delivery(&mut self, conversation: ConversationId, word: &str) -> Delivery<Frame> {
        let (seq, effect) = word.split_once(':').unwrap_or((word, ""));
        let name = effect.split_once('(').and_then(|(_, name)| name.strip_suffix(')')).unwrap_or("");
        let effect = match effect {
            "" => Effect::None,
            _ if effect.starts_with("left") => Effect::Left(self.names.user(name)),
            _ if effect.starts_with("joined") => Effect::Joined(self.names.conversation(name)),
            _ => panic!("{effect:?} is no effect"),
        };
        delivery(conversation, Seq(number(seq)), effect)
    }

    /// `5-9`, or deliveries one by one.
    fn page(&mut self, conversation: ConversationId, words: &[&str]) -> Vec<Delivery<Frame>> {
        let mut page = Vec::new();
        for word in words {
            match word.split_once('-') {
                Some((from, to)) => page.extend(
                    (number(from)..=number(to)).map(|seq| delivery(conversation, Seq(seq), Effect::None)),
                ),
                None => page.push(self.delivery(conversation, word)),
            }
        }
        page
    }

    fn opened(&mut self, conversation: &str, words: &[&str]) -> Vec<String> {
        let conversation = self.names.conversation(conversation);
        let answer = match words {
            ["refused", code] => refused(code),
            words => {
                let value = |name: &str, default: u64| {
                    words
                        .iter()
                        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                        .map_or(default, number)
                };
                let epoch = Epoch(u32::try_from(value("epoch", 1)).expect("an epoch"));
                opened(Seq(value("head", 0)), Seq(value("floor", 1)), epoch, Seq(value("from", 1)))
            }
        };
        self.handle(LinkInput::Opened { conversation, answer })
    }
}

fn refused(code: &str) -> Answer {
    Answer::Refused(refusal(code))
}

fn refusal(code: &str) -> Refusal {
    Refusal::new(Code::from_name(code).expect("a code"), "so it is")
}

impl Machine for Device {
    fn run(&mut self, words: &[&str]) -> Vec<String> {
        match words {
            ["limits", limits @ ..] => {
                assert!(self.link.is_none(), "limits come first");
                set_limits(&mut self.limits, limits);
                Vec::new()
            }
            ["connect", ref_, cursors @ ..] => {
                let cursors = cursors.iter().map(|word| self.cursor(word)).collect();
                self.request(LinkRequest::Connect { ref_: ref32(ref_), cursors })
            }
            ["subscribe", ref_, name] => {
                let conversation = self.names.conversation(name);
                self.request(LinkRequest::Subscribe { ref_: ref32(ref_), conversation, cursor: None })
            }
            ["subscribe_from", ref_, word] => {
                let (conversation, cursor) = self.cursor(word);
                let cursor = Some(cursor);
                self.request(LinkRequest::Subscribe { ref_: ref32(ref_), conversation, cursor })
            }
            ["send", ref_, name, message, text] => {
                let target = SendTarget::Conversation(self.names.conversation(name));
                let message_id = self.names.message(message);
                let content = Content::Text(quoted(text).into());
                self.request(LinkRequest::Send {
                    ref_: ref32(ref_),
                    target,
                    message_id,
                    content,
                    reply_to: None,
                })
            }
            ["ping", ref_, sent @ ..] => {
                let sent = sent.first().map(|sent| number(sent));
                self.request(LinkRequest::Ping { ref_: ref32(ref_), sent })
            }
            ["malformed", ref_] => {
                let refusal = refusal("unsupported_frame");
                self.request(LinkRequest::Malformed { ref_: Some(ref32(ref_)), refusal })
            }
            ["answered", ref_, name, message, "accepted", seq] => {
                let (conversation, message_id) = (self.names.conversation(name), self.names.message(message));
                let answer = Answer::Accepted { seq: Seq(number(seq)), created_at: START };
                self.handle(LinkInput::Answered { ref_: ref32(ref_), conversation, message_id, answer })
            }
            ["answered", ref_, name, message, "refused", code] => {
                let (conversation, message_id) = (self.names.conversation(name), self.names.message(message));
                let answer = refused(code);
                self.handle(LinkInput::Answered { ref_: ref32(ref_), conversation, message_id, answer })
            }
            ["opened", name, rest @ ..] => self.opened(name, rest),
            ["conversations", "refused", code] => self.handle(LinkInput::Conversations(Err(refusal(code)))),
            ["conversations", list @ ..] => {
                let list = list.iter().map(|name| self.names.conversation(name)).collect();
                self.handle(LinkInput::Conversations(Ok(list)))
            }
            ["page", name, "after", after, "refused", code] => {
                let conversation = self.names.conversation(name);
                let (after, page) = (Seq(number(after)), Err(refusal(code)));
                self.handle(LinkInput::Page { conversation, after, page })
            }
            ["page", name, "after", after, entries @ ..] => {
                let conversation = self.names.conversation(name);
                let page = Ok(self.page(conversation, entries));
                self.handle(LinkInput::Page { conversation, after: Seq(number(after)), page })
            }
            ["live", name, entries @ ..] => {
                let conversation = self.names.conversation(name);
                let entries = self.page(conversation, entries);
                entries.iter().flat_map(|entry| self.handle(LinkInput::Live(entry))).collect()
            }
            ["head", name, seq] => {
                let conversation = self.names.conversation(name);
                self.handle(LinkInput::Head { conversation, seq: Seq(number(seq)) })
            }
            ["socket", "stalls"] => {
                self.flowing = false;
                Vec::new()
            }
            ["socket", "flows"] => {
                self.flowing = true;
                let queued = std::mem::take(&mut self.queued);
                self.link().on_written(queued);
                self.drain()
            }
            ["written", frames] => {
                let bytes = FRAME_BYTES * usize::try_from(number(frames)).expect("a count");
                self.queued -= bytes;
                self.link().on_written(bytes);
                self.drain()
            }
            ["wants_read"] => vec![self.link().wants_read().to_string()],
            ["at", now_ms] => {
                self.now_ms = number(now_ms);
                Vec::new()
            }
            ["deadline"] => {
                let now_ms = self.now_ms;
                self.link().on_deadline(now_ms);
                let mut lines = self.drain();
                lines.push(format!("deadline {}", self.link().deadline_ms()));
                lines
            }
            ["session_ended"] => self.handle(LinkInput::SessionEnded),
            ["drain"] => self.handle(LinkInput::Drain),
            _ => panic!("{words:?} is not understood"),
        }
    }
}

fn ref32(word: &str) -> u32 {
    word.parse().expect("a ref")
}
