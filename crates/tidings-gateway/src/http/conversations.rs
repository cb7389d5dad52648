//! Conversations and their members.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::{StatusCode, header};
use tidings_service::{ConversationView, PageEnd, Session};
use tidings_types::{Code, ConversationId, Refusal, UserId};
use tidings_wire::rest::{AddMembers, Conversation, CreateConversation, Member, Page};

use super::answers::{self, Names};
use super::auth::Authenticated;
use super::conversation_list::{Listed, Position, page};
use super::cursor::{self, CursorKind};
use super::input::{Body, Ids, InConversation, OneMember, PageQuery, Parameters, page_items};
use super::problem::Failure;
use crate::Gateway;

/// Newest activity first; `conversation_list.rs` says what later pages promise.
pub(super) async fn list(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Parameters(PageQuery { cursor, limit }): Parameters<PageQuery>,
) -> Result<Json<Page<Conversation>>, Failure> {
    let items_max = page_items(limit, gateway.service.limits())?;
    let now = gateway.service.now();
    let position = cursor.as_deref().map_or(Ok(Position::first(now)), Position::parse)?;
    let heads = gateway.service.conversation_heads(&session).await?;
    let heads: Vec<Listed> =
        heads.iter().map(|(id, head)| Listed { id: *id, last_at: head.last_at }).collect();
    let (ids, next) = page(&heads, position, items_max);
    let views = views(&gateway, &session, &ids).await?;
    let users = views.iter().flat_map(|view| &view.members).map(|member| member.user);
    let names = Names::of(&gateway.accounts, users).await?;
    let items = views.into_iter().map(|view| names.conversation(view)).collect();
    Ok(Json(Page { items, next_cursor: next.map(Position::text) }))
}

/// All of a page's conversations are asked for at once: each waits for its writer. The personal log may still list one
/// whose writer knows already that the user has left; it is left out.
async fn views(
    gateway: &Gateway,
    session: &Session,
    ids: &[ConversationId],
) -> Result<Vec<ConversationView>, Refusal> {
    let asked = join_all(ids.iter().map(|id| gateway.service.conversation(session, *id))).await;
    asked.into_iter().filter(|view| !matches!(view, Err(Refusal { code: Code::NotFound, .. }))).collect()
}

/// 201 also when repeated: the same request has the same answer.
pub(super) async fn create(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Body(body): Body<CreateConversation>,
) -> Result<Response, Failure> {
    let view = match body {
        CreateConversation::Group { conversation_id, title, member_ids } => {
            gateway.service.create_group(&session, conversation_id, title, member_ids).await?
        }
        CreateConversation::Direct { user_id } => gateway.service.create_direct(&session, user_id).await?,
    };
    let location = format!("/v1/conversations/{}", view.conversation);
    let body = answers::conversation(&gateway.accounts, view).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(body)).into_response())
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Ids(InConversation { conversation_id }): Ids<InConversation>,
) -> Result<Json<Conversation>, Failure> {
    let view = gateway.service.conversation(&session, conversation_id).await?;
    Ok(Json(answers::conversation(&gateway.accounts, view).await?))
}

/// In order of user id.
pub(super) async fn members(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Ids(InConversation { conversation_id }): Ids<InConversation>,
    Parameters(PageQuery { cursor, limit }): Parameters<PageQuery>,
) -> Result<Json<Page<Member>>, Failure> {
    let items_max = page_items(limit, gateway.service.limits())?;
    let after = cursor.map(|cursor| cursor::decode(CursorKind::Members, &cursor)).transpose()?;
    let after = after.map(UserId::from_bytes);
    let (views, end) = gateway.service.members(&session, conversation_id, after, items_max).await?;
    let last = views.last().filter(|_| end == PageEnd::More);
    let next_cursor = last.map(|last| cursor::encode(CursorKind::Members, &[last.user.as_bytes()]));
    let items = answers::members(&gateway.accounts, views).await?;
    Ok(Json(Page { items, next_cursor }))
}

/// Answers those who were asked for, as members, whether they were added now or before.
pub(super) async fn add_members(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Ids(InConversation { conversation_id }): Ids<InConversation>,
    Body(AddMembers { user_ids }): Body<AddMembers>,
) -> Result<Json<Page<Member>>, Failure> {
    let views = gateway.service.add_members(&session, conversation_id, user_ids).await?;
    Ok(Json(answers::last_page(answers::members(&gateway.accounts, views).await?)))
}

/// Oneself: leaves.
pub(super) async fn remove_member(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Ids(OneMember { conversation_id, user_id }): Ids<OneMember>,
) -> Result<StatusCode, Failure> {
    gateway.service.remove_member(&session, conversation_id, user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
