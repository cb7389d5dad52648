//! REST calls against a server that misbehaves on purpose.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]
#![allow(dead_code, reason = "the fake server is shared with the link's tests")]

mod fake;

use std::sync::Arc;

use fake::*;
use tidings_client::{ClientError, Cursors, MemoryStore, Rest};
use tidings_types::Code;
use tidings_wire::rest::{Page, SignIn, SignUp, User};

fn me() -> User {
    tokens("x").user
}

#[tokio::test]
async fn signing_in_keeps_the_session_and_the_servers_clock() {
    let fake = Fake::start().await;
    fake.answer("POST /v1/sessions", 201, &tokens("access-1"));
    let rest = Rest::new(&fake.url, Arc::new(MemoryStore::default())).unwrap();
    assert!(matches!(rest.me().await, Err(ClientError::SignedOut)));
    let body = SignIn { username: "alice".into(), password: "p".into(), device_id: None, device_name: None };
    rest.sign_in(&body).await.unwrap();
    assert_eq!(rest.tokens(), Some(tokens("access-1")));
    let ahead_ms = rest.clock().now().ms_since(tidings_types::Timestamp::from_ms(tokens("x").now_ms));
    assert!(ahead_ms < 20_000, "{ahead_ms}");
}

#[tokio::test]
async fn two_calls_with_an_expired_token_cause_one_refresh() {
    let fake = Fake::start().await;
    for _ in 0..2 {
        fake.refuse("GET /v1/users/me", Code::TokenExpired, None);
    }
    fake.answer("POST /v1/sessions/refresh", 200, &tokens("access-2"));
    for _ in 0..2 {
        fake.answer("GET /v1/users/me", 200, &me());
    }
    let rest = fake.signed_in();
    let (one, other) = within(async { tokio::join!(rest.me(), rest.me()) }).await;
    assert_eq!((one.unwrap(), other.unwrap()), (me(), me()));
    assert_eq!(fake.requests("POST /v1/sessions/refresh").len(), 1);
    let tokens: Vec<_> = fake.requests("GET /v1/users/me").into_iter().map(|request| request.token).collect();
    assert_eq!(tokens, ["access-1", "access-1", "access-2", "access-2"]);
}

#[tokio::test]
async fn a_refused_refresh_signs_out() {
    let fake = Fake::start().await;
    fake.refuse("GET /v1/users/me", Code::Unauthenticated, None);
    fake.refuse("POST /v1/sessions/refresh", Code::Unauthenticated, None);
    let rest = fake.signed_in();
    assert!(matches!(rest.me().await, Err(ClientError::SignedOut)));
    assert_eq!(rest.tokens(), None);
}

#[tokio::test]
async fn what_may_pass_is_repeated_and_what_may_not_is_told() {
    let fake = Fake::start().await;
    fake.refuse("GET /v1/users/me", Code::Unavailable, Some(1));
    fake.refuse("GET /v1/users/me", Code::Overloaded, None);
    fake.answer("GET /v1/users/me", 200, &me());
    let rest = fake.signed_in();
    assert_eq!(rest.me().await.unwrap(), me());

    fake.refuse("GET /v1/users/me", Code::NotFound, None);
    assert_eq!(rest.me().await.unwrap_err().code(), Some(Code::NotFound));
    assert_eq!(fake.requests("GET /v1/users/me").len(), 4);
}

#[tokio::test]
async fn a_server_that_asks_for_much_patience_is_not_waited_for() {
    let fake = Fake::start().await;
    fake.refuse("GET /v1/users/me", Code::RateLimited, Some(60_000));
    let error = fake.signed_in().me().await.unwrap_err();
    assert!(error.is_temporary());
    assert_eq!(fake.requests("GET /v1/users/me").len(), 1);
}

#[tokio::test]
async fn signing_up_is_not_repeated() {
    let fake = Fake::start().await;
    fake.refuse("POST /v1/accounts", Code::Unavailable, None);
    let rest = Rest::new(&fake.url, Arc::new(MemoryStore::default())).unwrap();
    let body = SignUp {
        username: "alice".into(),
        password: "p".into(),
        display_name: None,
        device_id: None,
        device_name: None,
    };
    assert_eq!(rest.sign_up(&body).await.unwrap_err().code(), Some(Code::Unavailable));
    assert_eq!(fake.requests("POST /v1/accounts").len(), 1);
}

#[tokio::test]
async fn a_user_is_found_by_the_whole_name_on_a_later_page() {
    let fake = Fake::start().await;
    let page = |name: &str, cursor: Option<&str>| Page {
        items: vec![User { username: name.into(), ..me() }],
        next_cursor: cursor.map(Into::into),
    };
    fake.answer("GET /v1/users?query=bob", 200, &page("bobby", Some("next page")));
    fake.answer("GET /v1/users?cursor=next+page&query=bob", 200, &page("bob", None));
    let found = fake.signed_in().user_by_name("Bob").await.unwrap();
    assert_eq!(found.map(|user| user.username).as_deref(), Some("bob"));
}

#[tokio::test]
async fn something_that_is_no_tidings_server_is_told_apart() {
    let fake = Fake::start().await;
    fake.answer("GET /v1/devices", 404, &"plain text");
    let error = fake.signed_in().devices(&Cursors::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    assert!(matches!(
        Rest::new("chat.example", Arc::new(MemoryStore::default())),
        Err(ClientError::Address(_))
    ));
    assert!(matches!(Rest::new("https://x", Arc::new(MemoryStore::default())), Err(ClientError::Address(_))));
}
