//! Bodies of the REST routes. Requests and answers alike are plain objects; unknown fields are ignored.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use tidings_types::{
    Code, ConversationId, ConversationKind, DeviceId, Epoch, MessageId, Refusal, Role, Seq, SessionId, UserId,
};

use crate::{Content, Target, codes, text};

/// `POST /v1/accounts`: makes an account and signs in. Answers [`Tokens`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignUp {
    pub username: String,
    pub password: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// The installation, if it has an id already; else the server makes one.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
}

/// `POST /v1/sessions`. Answers [`Tokens`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignIn {
    pub username: String,
    pub password: String,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
}

/// `POST /v1/sessions/refresh`. Answers [`Tokens`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    pub refresh_token: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    pub user: User,
    #[serde(with = "text")]
    pub device_id: DeviceId,
    #[serde(with = "text")]
    pub session_id: SessionId,
    pub access_token: String,
    pub access_expires_at_ms: u64,
    /// The server's clock: clients make their ids from it.
    pub now_ms: u64,
    /// Replaced by every refresh.
    pub refresh_token: String,
}

/// `GET /v1/users?query=`, `GET /v1/users/me`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    #[serde(with = "text")]
    pub user_id: UserId,
    pub username: String,
    pub display_name: String,
    #[serde(default)]
    pub admin: bool,
}

/// `GET /v1/devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    #[serde(with = "text")]
    pub device_id: DeviceId,
    pub name: String,
    pub created_at_ms: u64,
    pub last_seen_at_ms: u64,
    /// The device that asks.
    pub current: bool,
}

/// `POST /v1/conversations`. Repeating it gives the same conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", try_from = "CreateFields")]
pub enum CreateConversation {
    /// The id is made by the client.
    Group {
        #[serde(with = "text")]
        conversation_id: ConversationId,
        #[serde(default, with = "text::shared_option", skip_serializing_if = "Option::is_none")]
        title: Option<Arc<str>>,
        #[serde(with = "text::list")]
        member_ids: Vec<UserId>,
    },
    /// The id is derived from the two users.
    Direct {
        #[serde(with = "text")]
        user_id: UserId,
    },
}

/// What a [`CreateConversation`] is read as: in a tagged object nobody would know which field an error is about.
#[derive(Deserialize)]
struct CreateFields {
    kind: CreateKind,
    #[serde(default, deserialize_with = "text::option::deserialize")]
    conversation_id: Option<ConversationId>,
    #[serde(default, deserialize_with = "text::shared_option::deserialize")]
    title: Option<Arc<str>>,
    #[serde(default, deserialize_with = "member_ids")]
    member_ids: Option<Vec<UserId>>,
    #[serde(default, deserialize_with = "text::option::deserialize")]
    user_id: Option<UserId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum CreateKind {
    Group,
    Direct,
}

fn member_ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<UserId>>, D::Error> {
    text::list::deserialize(deserializer).map(Some)
}

impl TryFrom<CreateFields> for CreateConversation {
    type Error = &'static str;

    fn try_from(fields: CreateFields) -> Result<Self, Self::Error> {
        let CreateFields { kind, conversation_id, title, member_ids, user_id } = fields;
        match kind {
            CreateKind::Group => Ok(Self::Group {
                conversation_id: conversation_id.ok_or("missing field `conversation_id`")?,
                title,
                member_ids: member_ids.ok_or("missing field `member_ids`")?,
            }),
            CreateKind::Direct => Ok(Self::Direct { user_id: user_id.ok_or("missing field `user_id`")? }),
        }
    }
}

/// A conversation as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(with = "text::kind")]
    pub kind: ConversationKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    pub member_count: u32,
    #[serde(with = "text::seq")]
    pub head: Seq,
    #[serde(with = "text::seq")]
    pub floor: Seq,
    #[serde(with = "text::epoch")]
    pub epoch: Epoch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<Message>,
    #[serde(with = "text::seq")]
    pub visible_from: Seq,
    pub created_at_ms: u64,
    /// When its last entry was written.
    pub last_at_ms: u64,
    /// The two members of a direct conversation, with their names; a group's are asked for by `members`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<Member>>,
}

/// `GET /v1/conversations/{conversation_id}/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    #[serde(with = "text")]
    pub user_id: UserId,
    #[serde(with = "text::role")]
    pub role: Role,
    pub joined_at_ms: u64,
    #[serde(with = "text::seq")]
    pub visible_from: Seq,
    /// Missing for an account that is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
}

/// `POST /v1/conversations/{conversation_id}/members`. Adding a member again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddMembers {
    #[serde(with = "text::list")]
    pub user_ids: Vec<UserId>,
}

/// `POST /v1/messages`: the `send_message` frame without its `ref`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendMessage {
    #[serde(flatten)]
    pub target: Target,
    #[serde(with = "text")]
    pub message_id: MessageId,
    pub content: Content,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
}

/// Answers [`SendMessage`]; a retry gets the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAccepted {
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(with = "text")]
    pub message_id: MessageId,
    #[serde(with = "text::seq")]
    pub seq: Seq,
    pub created_at_ms: u64,
}

/// A message in its current state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    #[serde(with = "text")]
    pub message_id: MessageId,
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(with = "text::seq")]
    pub seq: Seq,
    /// The entry that last changed it; equal to `seq` for an untouched one.
    #[serde(with = "text::seq")]
    pub changed_seq: Seq,
    #[serde(with = "text")]
    pub sender_id: UserId,
    pub content: Content,
    pub created_at_ms: u64,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
}

impl Message {
    /// `None` if the entry is not a message.
    #[must_use]
    pub fn from_entry(entry: &tidings_types::Entry) -> Option<Self> {
        let tidings_types::Body::Message { message_id, content, reply_to, hash: _ } = &entry.body else {
            return None;
        };
        Some(Self {
            message_id: *message_id,
            conversation_id: entry.conversation,
            seq: entry.seq,
            changed_seq: entry.seq,
            sender_id: entry.sender,
            content: Content::from(content),
            created_at_ms: entry.created_at.as_ms(),
            reply_to: *reply_to,
        })
    }
}

/// Every list. `next_cursor` is opaque and missing on the last page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// RFC 9457 problem details, media type [`Problem::MEDIA_TYPE`]. Branch on `code`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub type_uri: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    #[serde(with = "text::code")]
    pub code: Code,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    pub const MEDIA_TYPE: &str = "application/problem+json";
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let meaning = codes::meaning(refusal.code);
        Self {
            type_uri: format!("urn:tidings:code:{}", refusal.code),
            title: meaning.text.to_owned(),
            status: meaning.http_status,
            detail: refusal.message,
            code: refusal.code,
            retry_after_ms: refusal.retry_after_ms,
        }
    }
}
