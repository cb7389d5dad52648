//! What the devices saw and were answered, as it came: nothing is merged, sorted or left out. The checker reads this and
//! nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use tidings_types::{Code, ConversationId, Cursor, MessageId, Seq, UserId};
use tidings_wire::{Entry, Gap, ServerFrame, Snapshot, Target};

/// A whole run.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Those of the run and, behind them, the fresh ones of the end.
    pub(crate) devices: Vec<DeviceJournal>,
    pub(crate) ending: Option<Ending>,
}

/// What the server said after the last restart, when nobody wrote any more.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    pub(crate) lists: Vec<List>,
    pub(crate) reads: Vec<Read>,
    pub(crate) probes: Vec<Probe>,
}

/// The conversations that a user is in, as REST lists them.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) user: UserId,
    pub(crate) conversations: BTreeSet<ConversationId>,
}

/// One conversation read through REST from the beginning to the end.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) user: UserId,
    pub(crate) conversation: ConversationId,
    pub(crate) visible_from: Seq,
    pub(crate) entries: Vec<Arc<Entry>>,
}

/// A conversation asked for by somebody who is not in it.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) user: UserId,
    pub(crate) conversation: ConversationId,
    pub(crate) was_answered: bool,
}

#[derive(Debug)]
pub(crate) struct DeviceJournal {
    pub(crate) number: usize,
    pub(crate) user: UserId,
    pub(crate) sockets: Vec<SocketJournal>,
    pub(crate) sends: Vec<Sent>,
    /// Up to where the device had everything at the end; `None` if it never caught up.
    pub(crate) end: Option<BTreeMap<ConversationId, Seq>>,
}

#[derive(Debug, Default)]
pub(crate) struct SocketJournal {
    /// What `connect` presented.
    pub(crate) cursors: BTreeMap<ConversationId, Cursor>,
    pub(crate) events: Vec<Event>,
}

/// What came over a socket, or through REST while it was open.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Snapshot(Box<Snapshot>),
    Gap(Gap),
    /// The answer to a `subscribe` with this cursor.
    Subscribed {
        conversation: ConversationId,
        cursor: Option<Cursor>,
    },
    /// An `entry` or `receive_message` frame.
    Entry(Arc<Entry>),
    /// The entries of a gap, through REST; both seqs included.
    Fetched {
        conversation: ConversationId,
        from: Seq,
        to: Seq,
        entries: Vec<Arc<Entry>>,
    },
    Pong {
        claimed: u64,
        counted: u64,
    },
    /// A frame that this version's server must not send.
    Strange(&'static str),
    /// The server closed with a code after which a client does not come back.
    ClosedForGood(u16),
}

/// A message that a device wrote, in the order of writing.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) message_id: MessageId,
    pub(crate) target: Target,
    pub(crate) text: String,
    /// How often it was sent, and on which of the device's sockets at last.
    pub(crate) attempts: u32,
    pub(crate) socket: usize,
    pub(crate) answers: Vec<Answer>,
}

/// Answers that say "later" are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted { conversation: ConversationId, seq: Seq, created_at_ms: u64 },
    Refused(Code),
}

impl Sent {
    /// Where the first acknowledgement says it is.
    pub(crate) fn accepted(&self) -> Option<(ConversationId, Seq, u64)> {
        self.answers.iter().find_map(|answer| match answer {
            Answer::Accepted { conversation, seq, created_at_ms } => {
                Some((*conversation, *seq, *created_at_ms))
            }
            Answer::Refused(_) => None,
        })
    }
}

/// Every entry goes to many devices in the same bytes: it is decoded and kept once.
#[derive(Debug, Default)]
pub(crate) struct Entries(Mutex<HashMap<String, Arc<Entry>>>);

/// A frame, read.
pub(crate) enum Frame {
    Entry(Arc<Entry>),
    Other(ServerFrame),
}

impl Entries {
    /// `Err` says what is strange about the frame.
    pub(crate) fn read(&self, text: String) -> Result<Frame, &'static str> {
        if let Some(entry) = self.lock().get(&text) {
            return Ok(Frame::Entry(Arc::clone(entry)));
        }
        let frame = match tidings_wire::decode_server_frame(&text) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err("a frame of an unknown type"),
            Err(_) => return Err("a frame that cannot be read"),
        };
        let entry = match frame {
            ServerFrame::Entry(entry) => entry,
            ServerFrame::ReceiveMessage(message) => Entry::from(message),
            other => return Ok(Frame::Other(other)),
        };
        let entry = Arc::clone(self.lock().entry(text).or_insert_with(|| Arc::new(entry)));
        Ok(Frame::Entry(entry))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
