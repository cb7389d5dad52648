//! Entries as they are in the log, and messages in their current state.
//!
//! Both are walked by seq, so their pages have no cursor: a page may be shorter than `limit` before the end (it is
//! bounded in bytes, too), and an empty one is the end.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Deserialize;
use tidings_core::SendTarget;
use tidings_service::MessagesQuery;
use tidings_types::{Content, ConversationId, Seq};
use tidings_wire::rest::{Message, MessageAccepted, Page, SendMessage};
use tidings_wire::{Entry, Target, text};

use super::answers;
use super::auth::Authenticated;
use super::input::{Body, Ids, InConversation, OneMessage, Parameters, page_items};
use super::problem::{Failure, invalid};
use crate::Gateway;

/// Seqs, both exclusive.
#[derive(Deserialize)]
pub(super) struct EntriesQuery {
    #[serde(default, with = "text::seq_option")]
    after: Option<Seq>,
    #[serde(default, with = "text::seq_option")]
    before: Option<Seq>,
    limit: Option<usize>,
}

/// With `after` the first entries behind it, else the last ones there are (before `before`); ascending in any case.
pub(super) async fn entries(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Ids(InConversation { conversation_id }): Ids<InConversation>,
    Parameters(EntriesQuery { after, before, limit }): Parameters<EntriesQuery>,
) -> Result<Json<Page<Entry>>, Failure> {
    let items_max = page_items(limit, gateway.service.limits())?;
    let page = gateway.service.entries_page(&session, conversation_id, after, before, items_max).await?;
    Ok(Json(answers::entries(&page)))
}

#[derive(Deserialize)]
pub(super) struct HistoryQuery {
    #[serde(with = "text")]
    conversation_id: ConversationId,
    #[serde(default, with = "text::seq_option")]
    after: Option<Seq>,
    #[serde(default, with = "text::seq_option")]
    before: Option<Seq>,
    #[serde(default, with = "text::seq_option")]
    around: Option<Seq>,
    limit: Option<usize>,
}

/// As [`entries`], for messages; `around` takes half of the page from before that seq and half from it on.
pub(super) async fn history(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Parameters(query): Parameters<HistoryQuery>,
) -> Result<Json<Page<Message>>, Failure> {
    let HistoryQuery { conversation_id, after, before, around, limit } = query;
    if around.is_some() && (after.is_some() || before.is_some()) {
        return Err(invalid("`around` does not go together with `after` or `before`"));
    }
    let limit = page_items(limit, gateway.service.limits())?;
    let query = MessagesQuery { after, before, around, limit };
    let page = gateway.service.messages(&session, conversation_id, query).await?;
    Ok(Json(answers::messages(&page)))
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Ids(OneMessage { conversation_id, message_id }): Ids<OneMessage>,
) -> Result<Json<Message>, Failure> {
    let entry = gateway.service.message(&session, conversation_id, message_id).await?;
    Ok(Json(answers::message(&entry)?))
}

/// 201 also for a retry: it gets the first answer.
pub(super) async fn send(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Body(body): Body<SendMessage>,
) -> Result<Response, Failure> {
    let SendMessage { target, message_id, content, reply_to } = body;
    let content = Content::try_from(content).map_err(|error| invalid(format!("`content`: {error}")))?;
    let target = match target {
        Target::Conversation(id) => SendTarget::Conversation(id),
        Target::Recipient(id) => SendTarget::Recipient(id),
    };
    let (conversation_id, seq, created_at) =
        gateway.service.send(&session, target, message_id, content, reply_to).await?;
    let location = format!("/v1/conversations/{conversation_id}/messages/{message_id}");
    let body = MessageAccepted { conversation_id, message_id, seq, created_at_ms: created_at.as_ms() };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(body)).into_response())
}
