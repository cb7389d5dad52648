//! The facts a decision needs, as values: what the writer keeps, what the tables store, what readers see. Deciding a
//! send takes a [`Head`], one [`Member`] and perhaps one [`IdRecord`], whatever the size of the group.

use std::sync::Arc;

use crate::{
    CommandHash, ConversationId, ConversationKind, DeviceId, Epoch, Role, Seq, SpaceId, Timestamp, UserId,
};

/// The state of a conversation but for its members and messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub space: SpaceId,
    pub kind: ConversationKind,
    pub title: Option<Arc<str>>,
    pub creator: UserId,
    /// Hash of the command that created it.
    pub created_hash: CommandHash,
    pub created_at: Timestamp,
    /// The last entry's seq.
    pub seq: Seq,
    pub version: u64,
    /// The first seq that is kept.
    pub floor: Seq,
    pub epoch: Epoch,
    /// Countable messages up to `seq`.
    pub messages: u64,
    /// Seq of the last message; `ZERO` before the first.
    pub last_message: Seq,
    /// When the last entry was appended.
    pub last_at: Timestamp,
    pub member_count: u32,
}

/// A user in a conversation, now or once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub role: Role,
    pub joined_at: Timestamp,
    /// The entry that added them: the first they may see.
    pub visible_from: Seq,
    /// The entry by which they stopped being a member; `None` for a present member.
    pub left: Option<Seq>,
}

impl Member {
    #[must_use]
    pub const fn is_present(&self) -> bool {
        self.left.is_none()
    }
}

/// The idempotency record of a message id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRecord {
    pub seq: Seq,
    pub sender: UserId,
    pub hash: CommandHash,
    pub created_at: Timestamp,
}

/// What a personal log knows of one subject; the latest word wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersonalFact {
    pub state: PersonalState,
    /// The seq in the subject's own log that caused it (0 for devices). An older one changes nothing.
    pub cause: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PersonalState {
    Joined,
    Left,
    DeviceRemoved,
}

/// What a personal fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PersonalSubject {
    Conversation(ConversationId),
    Device(DeviceId),
}

impl PersonalSubject {
    /// Conversation and device ids are random UUIDs and never meet, so the bytes alone are the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        match self {
            Self::Conversation(id) => id.as_bytes(),
            Self::Device(id) => id.as_bytes(),
        }
    }
}
