//! Fan-out inside one gateway: which links watch which conversation, and what waits for each link.
//!
//! A live entry is encoded once per gateway; every link that watches its conversation gets a reference. Nobody waits:
//! a link whose inbox is full is told only how far the log reaches and reads on from there.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tidings_core::{Answer, Delivery, Effect, Payload};
use tidings_service::{Fanout, LinkReply, LinkSink};
use tidings_types::{ConversationId, ConversationKey, Entry, Refusal, Seq, SessionId};

use crate::ws::{Wake, frame::text_frame};

/// An entry encoded as a whole WebSocket frame, shared by every socket that sends it.
#[derive(Clone, Debug)]
pub(crate) struct Frame(pub(crate) Bytes);

impl Payload for Frame {
    fn len_bytes(&self) -> usize {
        self.0.len()
    }
}

/// Encodes one entry for the links.
#[must_use]
pub(crate) fn delivery(entry: &Entry) -> Delivery<Frame> {
    Delivery {
        conversation: entry.conversation,
        seq: entry.seq,
        effect: Effect::of(entry),
        payload: Frame(text_frame(&tidings_wire::entry_frame(entry))),
    }
}

/// Locks of the watchers' map: writers of different shards rarely meet.
const PARTS: usize = 16;

pub struct Hub {
    hasher: RandomState,
    parts: Vec<Mutex<HashMap<ConversationKey, Vec<Arc<LinkHandle>>>>>,
    sessions: Mutex<HashMap<SessionId, Vec<Arc<LinkHandle>>>>,
    inbox_entries_max: usize,
}

/// One link as the rest of the process sees it.
pub(crate) struct LinkHandle {
    session: SessionId,
    inbox: Mutex<Inbox>,
    wake: Arc<Wake>,
}

#[derive(Default)]
struct Inbox {
    live: VecDeque<Arc<Delivery<Frame>>>,
    /// Conversations of which live entries were dropped, and how far their logs reach.
    heads: Vec<(ConversationId, Seq)>,
    /// Bounded by what the link itself asked for.
    events: VecDeque<LinkEvent>,
}

/// What others tell a link, besides live entries.
pub(crate) enum LinkEvent {
    Answered { ref_: u32, conversation: ConversationId, message_id: tidings_types::MessageId, answer: Answer },
    Opened { conversation: ConversationId, answer: Answer },
    Conversations(Result<Vec<ConversationId>, Refusal>),
    Page { conversation: ConversationId, after: Seq, page: Result<Vec<Delivery<Frame>>, Refusal> },
    SessionEnded,
    Drain,
}

/// Everything that waited for a link at one moment.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) live: VecDeque<Arc<Delivery<Frame>>>,
    pub(crate) heads: Vec<(ConversationId, Seq)>,
    pub(crate) events: VecDeque<LinkEvent>,
}

impl Hub {
    #[must_use]
    pub fn new(inbox_entries_max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            sessions: Mutex::default(),
            inbox_entries_max,
        }
    }

    /// Registers a link of a session. [`Hub::leave`] must follow.
    pub(crate) fn join(&self, session: SessionId, wake: Arc<Wake>) -> Arc<LinkHandle> {
        let handle = Arc::new(LinkHandle { session, inbox: Mutex::default(), wake });
        locked(&self.sessions).entry(session).or_default().push(handle.clone());
        handle
    }

    pub(crate) fn leave(&self, handle: &Arc<LinkHandle>) {
        let mut sessions = locked(&self.sessions);
        if let Some(links) = sessions.get_mut(&handle.session) {
            links.retain(|link| !Arc::ptr_eq(link, handle));
            if links.is_empty() {
                sessions.remove(&handle.session);
            }
        }
    }

    /// From here on the link's inbox gets every entry of the conversation. Watching twice is watching once.
    pub(crate) fn watch(&self, key: ConversationKey, handle: &Arc<LinkHandle>) {
        let mut part = locked(self.part(&key));
        let links = part.entry(key).or_default();
        if links.iter().all(|link| !Arc::ptr_eq(link, handle)) {
            links.push(handle.clone());
        }
    }

    pub(crate) fn unwatch(&self, key: ConversationKey, handle: &Arc<LinkHandle>) {
        let mut part = locked(self.part(&key));
        if let Some(links) = part.get_mut(&key) {
            if let Some(index) = links.iter().position(|link| Arc::ptr_eq(link, handle)) {
                links.swap_remove(index);
            }
            if links.is_empty() {
                part.remove(&key);
            }
        }
    }

    /// Sessions with at least one link here.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionId> {
        locked(&self.sessions).keys().copied().collect()
    }

    /// Closes the session's sockets.
    pub fn end_session(&self, session: SessionId) {
        let links = locked(&self.sessions).get(&session).cloned().unwrap_or_default();
        links.iter().for_each(|link| link.push(LinkEvent::SessionEnded));
    }

    /// Asks every client to connect elsewhere, or here again later.
    pub fn drain(&self) {
        let links: Vec<_> = locked(&self.sessions).values().flatten().cloned().collect();
        links.iter().for_each(|link| link.push(LinkEvent::Drain));
    }

    fn part(&self, key: &ConversationKey) -> &Mutex<HashMap<ConversationKey, Vec<Arc<LinkHandle>>>> {
        let index = self.hasher.hash_one(key) % self.parts.len() as u64;
        &self.parts[usize::try_from(index).expect("an index below 16")]
    }
}

impl Fanout for Hub {
    /// All entries of a batch are queued before any link is woken, so that a link takes them in one turn and its socket
    /// in one write.
    fn deliver(&self, entries: &[Arc<Entry>]) {
        let mut to_wake = Vec::new();
        for entry in entries {
            let key = entry.key();
            let part = locked(self.part(&key));
            let Some(links) = part.get(&key) else { continue };
            let delivery = Arc::new(delivery(entry));
            for link in links {
                if link.push_live(&delivery, self.inbox_entries_max) {
                    to_wake.push(link.clone());
                }
            }
        }
        to_wake.iter().for_each(|link| link.wake.wake());
    }
}

impl LinkHandle {
    pub(crate) fn push(&self, event: LinkEvent) {
        locked(&self.inbox).events.push_back(event);
        self.wake.wake();
    }

    /// Queues a live entry; answers whether the link has to be woken for it.
    fn push_live(&self, delivery: &Arc<Delivery<Frame>>, entries_max: usize) -> bool {
        let mut inbox = locked(&self.inbox);
        let was_empty = inbox.live.is_empty() && inbox.heads.is_empty();
        if inbox.live.len() < entries_max && inbox.heads.is_empty() {
            inbox.live.push_back(delivery.clone());
            return was_empty;
        }
        match inbox.heads.iter_mut().find(|(conversation, _)| *conversation == delivery.conversation) {
            Some((_, head)) => *head = delivery.seq.max(*head),
            None => inbox.heads.push((delivery.conversation, delivery.seq)),
        }
        was_empty
    }

    pub(crate) fn take(&self) -> Waiting {
        let mut inbox = locked(&self.inbox);
        // Taken whole: an idle link holds no buffer.
        let Inbox { live, heads, events } = std::mem::take(&mut *inbox);
        Waiting { live, heads, events }
    }
}

impl LinkSink for LinkHandle {
    fn reply(&self, to: LinkReply, answer: Answer) {
        self.push(match to {
            LinkReply::Send { ref_, conversation, message_id } => {
                LinkEvent::Answered { ref_, conversation, message_id, answer }
            }
            LinkReply::Open { conversation } => LinkEvent::Opened { conversation, answer },
        });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}
