//! One record of one conversation's log, decoded.

use std::sync::Arc;

use crate::{ConversationId, ConversationKey, DeviceId, MessageId, Seq, SpaceId, Timestamp, UserId};

/// One log record of a conversation. Its place in the order is `seq`; everything else is what happened there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub space: SpaceId,
    pub conversation: ConversationId,
    pub seq: Seq,
    /// Grows by one per entry or pointer change of the conversation, through every change of writer: the write
    /// timestamp of what is projected from it.
    pub version: u64,
    /// Who did it.
    pub sender: UserId,
    /// Never runs back within a conversation.
    pub created_at: Timestamp,
    /// How many countable messages the log has up to and including this entry.
    pub messages: u64,
    pub body: Body,
}

impl Entry {
    #[must_use]
    pub const fn key(&self) -> ConversationKey {
        ConversationKey { space: self.space, conversation: self.conversation }
    }
}

/// What an entry says. Edit, tombstone, reaction, role and settings have reserved numbers in `tidings-record`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Always seq 1. `hash` is that of the creating command, so that a retry is told from a clash.
    Created {
        kind: ConversationKind,
        title: Option<Arc<str>>,
        members: Vec<(UserId, Role)>,
        hash: CommandHash,
    },
    Message {
        message_id: MessageId,
        content: Content,
        reply_to: Option<MessageId>,
        hash: CommandHash,
    },
    /// Only users who were not members already; never empty.
    MembersAdded {
        users: Vec<UserId>,
    },
    MemberRemoved {
        user: UserId,
    },
    /// The sender left.
    MemberLeft,
    /// Personal log: its user became a member of `conversation` by its entry `seq`.
    Joined {
        conversation: ConversationId,
        seq: Seq,
    },
    /// Personal log: its user stopped being a member of `conversation` by its entry `seq`.
    Left {
        conversation: ConversationId,
        seq: Seq,
    },
    /// Personal log: one of its user's devices was removed.
    DeviceRemoved {
        device: DeviceId,
    },
}

impl Body {
    /// Messages are counted for unread; everything else is not.
    #[must_use]
    pub const fn is_message(&self) -> bool {
        matches!(self, Self::Message { .. })
    }
}

/// What a user wrote. A tagged object and never a bare string, so that media and ciphertext fit later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Text(Arc<str>),
}

impl Content {
    /// The size that `content_bytes_max` bounds.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConversationKind {
    /// Two users; the id is derived from them.
    Direct,
    Group,
    /// One user's personal log: conversations joined and left, devices removed. Never listed as a conversation.
    Personal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Member,
    Admin,
    Owner,
}

/// xxh3-128 of a command as it was first sent. An edit does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandHash(pub [u8; 16]);
