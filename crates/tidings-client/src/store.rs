//! What must survive a restart of the client: tokens, cursors and the outbox.

mod file;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidings_types::{ConversationId, ConversationKind, Cursor, Epoch, MessageId, Seq, UserId};
use tidings_wire::rest::{SendMessage, Tokens};
use tidings_wire::text;

pub use file::FileStore;

/// Everything that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Whose state this is. It outlives a sign-out; signing in as somebody else drops what the other one had.
    pub user: Option<UserId>,
    pub tokens: Option<Tokens>,
    /// Server time less local time.
    pub clock_offset_ms: i64,
    /// The personal log among them.
    pub conversations: BTreeMap<ConversationId, Known>,
    /// Not answered yet, in the order in which they were written.
    pub outbox: Vec<SendMessage>,
}

/// A conversation this device follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    #[serde(with = "text::kind")]
    pub kind: ConversationKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(with = "text::epoch")]
    pub epoch: Epoch,
    /// Everything up to here has been handled.
    #[serde(with = "text::seq")]
    pub seq: Seq,
}

impl Known {
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, seq: self.seq }
    }
}

/// One step of [`Saved`]. Applying it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    SignedIn {
        tokens: Tokens,
        clock_offset_ms: i64,
    },
    SignedOut {},
    /// The state that follows is this user's.
    Owner {
        #[serde(with = "text")]
        user_id: UserId,
    },
    /// The conversation begins at this cursor.
    Follow {
        #[serde(with = "text")]
        conversation_id: ConversationId,
        #[serde(flatten)]
        known: Known,
    },
    /// Entries up to here have been handled.
    Advance {
        #[serde(with = "text")]
        conversation_id: ConversationId,
        #[serde(with = "text::seq")]
        seq: Seq,
    },
    Forget {
        #[serde(with = "text")]
        conversation_id: ConversationId,
    },
    Queue {
        message: SendMessage,
    },
    /// Accepted or refused; either way the caller knows.
    Answered {
        #[serde(with = "text")]
        message_id: MessageId,
    },
}

impl Change {
    /// Losing any other change costs a repetition that is recognised; losing one of these costs a message or the
    /// session.
    #[must_use]
    pub const fn must_be_durable(&self) -> bool {
        matches!(self, Self::Queue { .. } | Self::SignedIn { .. } | Self::SignedOut {})
    }
}

impl Saved {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::SignedIn { tokens, clock_offset_ms } => {
                self.belong_to(tokens.user.user_id);
                self.tokens = Some(tokens);
                self.clock_offset_ms = clock_offset_ms;
            }
            Change::SignedOut {} => self.tokens = None,
            Change::Owner { user_id } => self.belong_to(user_id),
            Change::Follow { conversation_id, known } => {
                self.conversations.insert(conversation_id, known);
            }
            Change::Advance { conversation_id, seq } => {
                if let Some(known) = self.conversations.get_mut(&conversation_id) {
                    known.seq = known.seq.max(seq);
                }
            }
            Change::Forget { conversation_id } => {
                self.conversations.remove(&conversation_id);
            }
            Change::Queue { message } => {
                if self.outbox.iter().all(|queued| queued.message_id != message.message_id) {
                    self.outbox.push(message);
                }
            }
            Change::Answered { message_id } => self.outbox.retain(|queued| queued.message_id != message_id),
        }
    }

    /// A server that was set up anew under the same address has other users and other logs: positions and queued
    /// messages of the old ones mean nothing there, however alike the names are.
    fn belong_to(&mut self, user: UserId) {
        if self.user.is_some_and(|owner| owner != user) {
            *self = Self::default();
        }
        self.user = Some(user);
    }

    /// The changes that make this state from nothing.
    fn changes(&self) -> Vec<Change> {
        let signed_in = self
            .tokens
            .clone()
            .map(|tokens| Change::SignedIn { tokens, clock_offset_ms: self.clock_offset_ms });
        let follow = self
            .conversations
            .iter()
            .map(|(id, known)| Change::Follow { conversation_id: *id, known: known.clone() });
        let queue = self.outbox.iter().map(|message| Change::Queue { message: message.clone() });
        let owner = self.user.map(|user_id| Change::Owner { user_id });
        owner.into_iter().chain(signed_in).chain(follow).chain(queue).collect()
    }
}

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("{0} is in use by another client; close that one or choose another state directory")]
    InUse(PathBuf),
    #[error("{path} is damaged at byte {offset}")]
    Corrupt { path: PathBuf, offset: u64 },
    #[error("{path} cannot be used")]
    Io { path: PathBuf, source: std::io::Error },
}

/// Keeps [`Saved`]. Blocking: changes that must be durable are written from a thread that may wait.
pub trait Store: Send + Sync + 'static {
    fn saved(&self) -> Saved;

    /// Applies a change. When this returns, one that [`Change::must_be_durable`] survives a crash of the machine, any
    /// other one a crash of the process.
    fn write(&self, change: Change) -> Result<(), StoreError>;

    /// How many messages are waiting for an answer.
    fn outbox_len(&self) -> usize {
        self.saved().outbox.len()
    }

    /// What this device has of a conversation.
    fn cursor(&self, conversation: ConversationId) -> Option<Cursor> {
        self.saved().conversations.get(&conversation).map(Known::cursor)
    }
}

/// Forgets everything with the process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Saved>);

impl Store for MemoryStore {
    fn saved(&self) -> Saved {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, change: Change) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(change);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidings_wire::Content;
    use tidings_wire::Target;

    use super::*;

    #[test]
    fn another_user_finds_nothing_of_the_one_before() {
        let owner = |n| Change::Owner { user_id: UserId::from_bytes([n; 16]) };
        let conversation_id = ConversationId::from_bytes([7; 16]);
        let known = Known { kind: ConversationKind::Group, title: None, epoch: Epoch(1), seq: Seq(9) };
        let message = SendMessage {
            target: Target::Conversation(conversation_id),
            message_id: MessageId::from_bytes([8; 16]),
            content: Content::text("for the old server"),
            reply_to: None,
        };
        let mut saved = Saved::default();
        saved.apply(owner(1));
        saved.apply(Change::Follow { conversation_id, known });
        saved.apply(Change::Queue { message });
        saved.apply(Change::SignedOut {});
        saved.apply(owner(1));
        assert_eq!((saved.conversations.len(), saved.outbox.len()), (1, 1));

        // As it is after a restart.
        let mut again = Saved::default();
        saved.changes().into_iter().for_each(|change| again.apply(change));
        assert_eq!(again, saved);
        again.apply(owner(2));
        assert_eq!((again.conversations.len(), again.outbox.len()), (0, 0));
        assert_eq!(again.user, Some(UserId::from_bytes([2; 16])));
    }
}
