//! The REST routes: each turns a request into one use case of the service and its answer into a body of
//! `tidings_wire::rest`. No rule about who may do what to a conversation stands here: the conversation's writer has them.
//!
//! Start reading at [`table`], the one list of routes; `problem.rs` is the one place where a refusal becomes an answer.

mod accounts;
mod answers;
mod auth;
mod conversation_list;
mod conversations;
mod cursor;
mod health;
mod input;
mod messages;
mod problem;
mod welcome;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{HeaderValue, Method, header};

pub(crate) use auth::bearer;
pub(crate) use problem::{problem, problem_with_status};

use crate::Gateway;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Anybody,
    /// Whoever has an access token.
    SignedIn,
    /// As `SignedIn`, and the session's row is asked, too: who was signed out or removed cannot take others along in the
    /// minutes until the token expires.
    LiveSession,
    /// As `SignedIn`; the conversation's writer answers everybody but its members with `not_found`.
    Member,
    /// The handler judges the upgrade, in an order of its own.
    Upgrade,
}

/// One row of the table of routes.
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    handler: MethodRouter<Arc<Gateway>>,
}

/// Every route there is. The router is built from it and from nothing else, so no route goes without its `Access`.
#[must_use]
pub fn table() -> Vec<Route> {
    use Access::{Anybody, LiveSession, Member, SignedIn, Upgrade};
    vec![
        get("/", Anybody, welcome::page),
        get("/livez", Anybody, health::live),
        get("/readyz", Anybody, health::ready),
        post("/v1/accounts", Anybody, accounts::sign_up),
        post("/v1/sessions", Anybody, accounts::sign_in),
        post("/v1/sessions/refresh", Anybody, accounts::refresh),
        delete("/v1/sessions/current", SignedIn, accounts::sign_out),
        get("/v1/devices", SignedIn, accounts::devices),
        delete("/v1/devices/{device_id}", LiveSession, accounts::remove_device),
        get("/v1/users", SignedIn, accounts::users),
        get("/v1/users/me", SignedIn, accounts::me),
        get("/v1/conversations", SignedIn, conversations::list),
        post("/v1/conversations", SignedIn, conversations::create),
        get("/v1/conversations/{conversation_id}", Member, conversations::one),
        get("/v1/conversations/{conversation_id}/members", Member, conversations::members),
        post("/v1/conversations/{conversation_id}/members", Member, conversations::add_members),
        delete("/v1/conversations/{conversation_id}/members/{user_id}", Member, conversations::remove_member),
        get("/v1/conversations/{conversation_id}/entries", Member, messages::entries),
        get("/v1/conversations/{conversation_id}/messages/{message_id}", Member, messages::one),
        post("/v1/messages", Member, messages::send),
        get("/v1/messages", Member, messages::history),
        get("/v1/history", Member, messages::history),
        get("/v1/ws", Upgrade, crate::upgrade),
    ]
}

/// All of the gateway on one port.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let body_bytes_max = gateway.service.limits().frame_bytes_max;
    let routes = table().into_iter().fold(Router::new(), |router, route| {
        let handler = match route.access {
            Access::Anybody | Access::Upgrade => route.handler,
            Access::SignedIn | Access::Member => {
                route.handler.route_layer(from_fn_with_state(gateway.clone(), auth::signed_in))
            }
            Access::LiveSession => {
                route.handler.route_layer(from_fn_with_state(gateway.clone(), auth::live_session))
            }
        };
        router.route(route.path, handler)
    });
    routes
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(map_response(with_common_headers))
        .with_state(gateway)
}

/// Answers are about one person at one moment: nothing between here and there keeps them or guesses what they are.
async fn with_common_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn get<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { method: Method::GET, path, access, handler: on(MethodFilter::GET, handler) }
}

fn post<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { method: Method::POST, path, access, handler: on(MethodFilter::POST, handler) }
}

fn delete<H: Handler<T, Arc<Gateway>>, T: 'static>(path: &'static str, access: Access, handler: H) -> Route {
    Route { method: Method::DELETE, path, access, handler: on(MethodFilter::DELETE, handler) }
}
