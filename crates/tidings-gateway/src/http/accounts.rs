//! Accounts, sessions, devices and people.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Deserialize;
use tidings_service::SigningDevice;
use tidings_types::{DeviceId, Timestamp};
use tidings_wire::rest::{Device, Page, Refresh, SignIn, SignUp, Tokens, User};

use super::answers;
use super::auth::Authenticated;
use super::cursor::{self, CursorKind};
use super::input::{Body, Ids, OneDevice, PageQuery, Parameters, page_items};
use super::problem::Failure;
use crate::Gateway;

pub(super) async fn sign_up(
    State(gateway): State<Arc<Gateway>>,
    Body(body): Body<SignUp>,
) -> Result<Response, Failure> {
    let SignUp { username, password, display_name, device_id, device_name } = body;
    let device = SigningDevice { id: device_id, name: device_name.unwrap_or_default() };
    let request = tidings_service::SignUp { username, password, display_name, device };
    let tokens = answers::tokens(&gateway, gateway.accounts.sign_up(request).await?);
    Ok(created("/v1/users/me", tokens))
}

pub(super) async fn sign_in(
    State(gateway): State<Arc<Gateway>>,
    Body(body): Body<SignIn>,
) -> Result<Response, Failure> {
    let SignIn { username, password, device_id, device_name } = body;
    let device = SigningDevice { id: device_id, name: device_name.unwrap_or_default() };
    let request = tidings_service::SignIn { username, password, device };
    let tokens = answers::tokens(&gateway, gateway.accounts.sign_in(request).await?);
    Ok(created("/v1/sessions/current", tokens))
}

fn created(location: &'static str, tokens: Tokens) -> Response {
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(tokens)).into_response()
}

pub(super) async fn refresh(
    State(gateway): State<Arc<Gateway>>,
    Body(body): Body<Refresh>,
) -> Result<Json<Tokens>, Failure> {
    let signed_in = gateway.accounts.refresh(&body.refresh_token).await?;
    Ok(Json(answers::tokens(&gateway, signed_in)))
}

pub(super) async fn sign_out(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
) -> Result<StatusCode, Failure> {
    gateway.accounts.sign_out(session.session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Oldest first.
pub(super) async fn devices(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Parameters(PageQuery { cursor, limit }): Parameters<PageQuery>,
) -> Result<Json<Page<Device>>, Failure> {
    let items_max = page_items(limit, gateway.service.limits())?;
    let after = cursor.as_deref().map(device_after).transpose()?;
    // Few, by `devices_per_user_max`: they are read whole and cut here.
    let mut devices = gateway.accounts.devices(session.user).await?;
    devices.retain(|device| after.is_none_or(|after| (device.created_at, device.device) > after));
    devices.sort_unstable_by_key(|device| (device.created_at, device.device));
    let next_cursor = devices.get(items_max).map(|_| {
        let last = &devices[items_max - 1];
        device_cursor(last.created_at, last.device)
    });
    devices.truncate(items_max);
    let items = devices.into_iter().map(|device| answers::device(device, session.device)).collect();
    Ok(Json(Page { items, next_cursor }))
}

fn device_cursor(created_at: Timestamp, device: DeviceId) -> String {
    cursor::encode(CursorKind::Devices, &[&created_at.as_ms().to_be_bytes(), device.as_bytes()])
}

fn device_after(cursor: &str) -> Result<(Timestamp, DeviceId), Failure> {
    let bytes: [u8; 24] = cursor::decode(CursorKind::Devices, cursor)?;
    let (at, device) = cursor::split(bytes);
    Ok((at, DeviceId::from_bytes(device)))
}

/// A device that is not there is as removed as one can be: 204 either way, and nobody learns whose it is.
pub(super) async fn remove_device(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
    Ids(OneDevice { device_id }): Ids<OneDevice>,
) -> Result<StatusCode, Failure> {
    gateway.accounts.remove_device(session.user, device_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
pub(super) struct UsersQuery {
    query: String,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// People whose username or display name begins with `query`, by username.
pub(super) async fn users(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(_): Authenticated,
    Parameters(UsersQuery { query, cursor, limit }): Parameters<UsersQuery>,
) -> Result<Json<Page<User>>, Failure> {
    let items_max = page_items(limit, gateway.service.limits())?;
    let page = gateway.accounts.search(&query, cursor.as_deref(), Some(items_max)).await?;
    let items = page.items.into_iter().map(answers::user).collect();
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

pub(super) async fn me(
    State(gateway): State<Arc<Gateway>>,
    Authenticated(session): Authenticated,
) -> Result<Json<User>, Failure> {
    Ok(Json(answers::user(gateway.accounts.account(session.user).await?)))
}
