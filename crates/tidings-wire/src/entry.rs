//! A log entry as clients see it: the same object in `entry` frames and in REST `entries`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidings_types::{Body, ConversationId, ConversationKind, DeviceId, MessageId, Role, Seq, UserId};

use crate::{Content, text};

/// One entry. The space, the version and the command's hash stay inside the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(with = "text::seq")]
    pub seq: Seq,
    #[serde(with = "text")]
    pub sender_id: UserId,
    pub created_at_ms: u64,
    /// How many countable messages the log has up to and including this entry.
    pub messages: u64,
    #[serde(flatten)]
    pub body: EntryBody,
}

/// The fields of each kind; `kind` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryBody {
    Created(Created),
    /// Over a socket a message is a `receive_message` frame instead; REST `entries` has it as this kind.
    Message(Message),
    MembersAdded(MembersAdded),
    MemberRemoved(MemberRemoved),
    /// The sender left.
    MemberLeft {},
    Joined(Joined),
    Left(Left),
    DeviceRemoved(DeviceRemoved),
    /// A kind this side does not know. Only ever read: it has a seq, so a client must still count it.
    #[serde(other, skip_serializing)]
    Unsupported,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    #[serde(with = "text::kind")]
    pub conversation_kind: ConversationKind,
    #[serde(default, with = "text::shared_option", skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    pub members: Vec<MemberAtCreation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAtCreation {
    #[serde(with = "text")]
    pub user_id: UserId,
    #[serde(with = "text::role")]
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    #[serde(with = "text")]
    pub message_id: MessageId,
    pub content: Content,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersAdded {
    #[serde(with = "text::list")]
    pub user_ids: Vec<UserId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRemoved {
    #[serde(with = "text")]
    pub user_id: UserId,
}

/// Personal log: the user became a member of a conversation by its entry `cause_seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    #[serde(with = "text")]
    pub joined_conversation_id: ConversationId,
    #[serde(with = "text::seq")]
    pub cause_seq: Seq,
}

/// Personal log: the user stopped being a member of a conversation by its entry `cause_seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    #[serde(with = "text")]
    pub left_conversation_id: ConversationId,
    #[serde(with = "text::seq")]
    pub cause_seq: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRemoved {
    #[serde(with = "text")]
    pub device_id: DeviceId,
}

/// Shares the text with the core entry instead of copying it.
impl From<&tidings_types::Entry> for Entry {
    fn from(entry: &tidings_types::Entry) -> Self {
        Self {
            conversation_id: entry.conversation,
            seq: entry.seq,
            sender_id: entry.sender,
            created_at_ms: entry.created_at.as_ms(),
            messages: entry.messages,
            body: EntryBody::from(&entry.body),
        }
    }
}

impl From<&Body> for EntryBody {
    fn from(body: &Body) -> Self {
        match body {
            Body::Created { kind, title, members, hash: _ } => Self::Created(Created {
                conversation_kind: *kind,
                title: title.clone(),
                members: members.iter().map(|&(user_id, role)| MemberAtCreation { user_id, role }).collect(),
            }),
            Body::Message { message_id, content, reply_to, hash: _ } => Self::Message(Message {
                message_id: *message_id,
                content: Content::from(content),
                reply_to: *reply_to,
            }),
            Body::MembersAdded { users } => Self::MembersAdded(MembersAdded { user_ids: users.clone() }),
            Body::MemberRemoved { user } => Self::MemberRemoved(MemberRemoved { user_id: *user }),
            Body::MemberLeft => Self::MemberLeft {},
            Body::Joined { conversation, seq } => {
                Self::Joined(Joined { joined_conversation_id: *conversation, cause_seq: *seq })
            }
            Body::Left { conversation, seq } => {
                Self::Left(Left { left_conversation_id: *conversation, cause_seq: *seq })
            }
            Body::DeviceRemoved { device } => Self::DeviceRemoved(DeviceRemoved { device_id: *device }),
        }
    }
}
