//! The REST routes from outside: a server on a free port, over the adapters in memory.

#![allow(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

mod access;
mod accounts;
mod bad_input;
mod conversations;
mod messages;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;

use serde_json::{Value, json};
use support::Person;
use tidings_types::ConversationId;
use tidings_wire::rest::{Conversation, CreateConversation, MessageAccepted};

/// A group of `owner` and `members`.
async fn group(owner: &Person<'_>, members: &[&Person<'_>]) -> Conversation {
    let body = CreateConversation::Group {
        conversation_id: owner.server.conversation_id(),
        title: Some("Tea".into()),
        member_ids: members.iter().map(|member| member.id()).collect(),
    };
    owner.post("/v1/conversations", &body).await.json(201)
}

/// Writes one message into a conversation.
async fn say(sender: &Person<'_>, conversation: ConversationId, text: &str) -> MessageAccepted {
    sender.post("/v1/messages", &message(sender, conversation, text)).await.json(201)
}

/// The body of a new message.
fn message(sender: &Person<'_>, conversation: ConversationId, text: &str) -> Value {
    json!({
        "conversation_id": conversation.to_string(),
        "message_id": sender.server.message_id().to_string(),
        "content": { "type": "text", "text": text },
    })
}
