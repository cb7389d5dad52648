//! What a user wrote, and where it goes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tidings_types::{Content as CoreContent, ConversationId, UserId};

use crate::text::option;

/// A tagged object and never a bare string, so that media and ciphertext fit later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content {
    Text {
        #[serde(with = "crate::text::shared")]
        text: Arc<str>,
    },
    /// A kind this side does not know. Only ever read, never sent: a client shows that something is there, the server
    /// refuses it.
    #[serde(other, skip_serializing)]
    Unsupported,
}

/// The content is of a kind this side does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedContent;

impl fmt::Display for UnsupportedContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("content of this type is not supported")
    }
}

impl std::error::Error for UnsupportedContent {}

impl Content {
    #[must_use]
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text { text: text.into() }
    }
}

impl From<&CoreContent> for Content {
    fn from(content: &CoreContent) -> Self {
        match content {
            CoreContent::Text(text) => Self::Text { text: Arc::clone(text) },
        }
    }
}

impl TryFrom<Content> for CoreContent {
    type Error = UnsupportedContent;

    fn try_from(content: Content) -> Result<Self, UnsupportedContent> {
        match content {
            Content::Text { text } => Ok(Self::Text(text)),
            Content::Unsupported => Err(UnsupportedContent),
        }
    }
}

/// Where a send goes: into a conversation, or to a person (the direct conversation, made if there is none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TargetFields", into = "TargetFields")]
pub enum Target {
    Conversation(ConversationId),
    Recipient(UserId),
}

/// The two JSON fields of a [`Target`], which is flattened into the object that names it.
#[derive(Serialize, Deserialize)]
struct TargetFields {
    #[serde(default, serialize_with = "option::serialize", deserialize_with = "conversation_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<ConversationId>,
    #[serde(default, serialize_with = "option::serialize", deserialize_with = "recipient_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_id: Option<UserId>,
}

fn conversation_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ConversationId>, D::Error> {
    named("conversation_id", deserializer)
}

fn recipient_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UserId>, D::Error> {
    named("recipient_id", deserializer)
}

/// Nobody above a flattened object knows which of its fields an error is about.
fn named<'de, T, D>(field: &str, deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    option::deserialize(deserializer).map_err(|error| D::Error::custom(format_args!("{field}: {error}")))
}

impl From<Target> for TargetFields {
    fn from(target: Target) -> Self {
        match target {
            Target::Conversation(id) => Self { conversation_id: Some(id), recipient_id: None },
            Target::Recipient(id) => Self { conversation_id: None, recipient_id: Some(id) },
        }
    }
}

impl TryFrom<TargetFields> for Target {
    type Error = &'static str;

    fn try_from(fields: TargetFields) -> Result<Self, Self::Error> {
        match (fields.conversation_id, fields.recipient_id) {
            (Some(id), None) => Ok(Self::Conversation(id)),
            (None, Some(id)) => Ok(Self::Recipient(id)),
            _ => Err("name either `conversation_id` or `recipient_id`"),
        }
    }
}
