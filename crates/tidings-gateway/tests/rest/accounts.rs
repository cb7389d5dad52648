//! Accounts, sessions, devices, people.

use http::Method;
use serde_json::json;
use tidings_types::Code;
use tidings_wire::rest::{Device, Page, Tokens, User};

use crate::support::{PASSWORD, Person, Server};

const ACCESS_TTL_MS: u64 = 600_000;
const REFRESH_GRACE_MS: u64 = 30_000;

async fn sign_in(server: &Server) -> Person<'_> {
    let body = json!({ "username": "ALICE", "password": PASSWORD, "device_name": "phone" });
    let answer = server.request(Method::POST, "/v1/sessions").json(&body).await;
    assert_eq!(answer.header("location"), "/v1/sessions/current");
    server.person(answer.json(201))
}

async fn refresh(server: &Server, token: &str) -> crate::support::Answer {
    server.request(Method::POST, "/v1/sessions/refresh").json(&json!({ "refresh_token": token })).await
}

#[tokio::test]
async fn who_signs_up_is_signed_in() {
    let server = Server::start().await;
    let body = json!({ "username": "Alice", "password": PASSWORD, "display_name": "Alice A.", "unknown": 1 });
    let answer = server.request(Method::POST, "/v1/accounts").json(&body).await;
    assert_eq!(answer.header("location"), "/v1/users/me");
    let alice = server.person(answer.json(201));
    let user = &alice.tokens.user;
    assert_eq!((user.username.as_str(), user.display_name.as_str(), user.admin), ("alice", "Alice A.", true));
    // Access tokens count in whole seconds.
    let ttl_ms = alice.tokens.access_expires_at_ms - alice.tokens.now_ms;
    assert!((ACCESS_TTL_MS - 2_000..=ACCESS_TTL_MS).contains(&ttl_ms), "{ttl_ms}");
    assert_eq!(&alice.get("/v1/users/me").await.json::<User>(200), user);

    let bob = server.sign_up("bob").await;
    assert!(!bob.tokens.user.admin, "only the first is");
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let server = Server::start().await;
    server.sign_up("alice").await;
    let body = json!({ "username": "ALICE", "password": PASSWORD });
    server.request(Method::POST, "/v1/accounts").json(&body).await.refused(Code::IdConflict, 409);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_look_the_same() {
    let server = Server::start().await;
    server.sign_up("alice").await;
    let mut answers = Vec::new();
    for (username, password) in [("alice", "not her password"), ("nobody", PASSWORD)] {
        let body = json!({ "username": username, "password": password });
        let answer = server.request(Method::POST, "/v1/sessions").json(&body).await;
        answer.refused(Code::Unauthenticated, 401);
        assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="tidings""#);
        answers.push(answer.text);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn an_expired_access_token_is_refreshed() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    server.clock.advance(ACCESS_TTL_MS + 1_000);
    let expired = alice.get("/v1/users/me").await;
    expired.refused(Code::TokenExpired, 401);
    assert!(expired.header("www-authenticate").contains(r#"error="invalid_token""#));

    let fresh: Tokens = refresh(&server, &alice.tokens.refresh_token).await.json(200);
    assert_eq!((fresh.session_id, fresh.device_id), (alice.tokens.session_id, alice.tokens.device_id));
    assert_ne!(fresh.refresh_token, alice.tokens.refresh_token);
    let again: Tokens = refresh(&server, &alice.tokens.refresh_token).await.json(200);
    assert_eq!(again.refresh_token, fresh.refresh_token, "an answer that got lost is given again");
    server.person(again).get("/v1/users/me").await.json::<User>(200);

    server.clock.advance(REFRESH_GRACE_MS + 1_000);
    refresh(&server, &alice.tokens.refresh_token).await.refused(Code::Unauthenticated, 401);
    refresh(&server, &fresh.refresh_token).await.refused(Code::Unauthenticated, 401);
    refresh(&server, "garbage").await.refused(Code::Unauthenticated, 401);
}

#[tokio::test]
async fn signing_out_ends_the_session() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    alice.delete("/v1/sessions/current").await.done();
    refresh(&server, &alice.tokens.refresh_token).await.refused(Code::Unauthenticated, 401);
    alice.delete("/v1/sessions/current").await.done();
}

#[tokio::test]
async fn a_removed_device_cannot_take_the_others_along() {
    let server = Server::start().await;
    let laptop = server.sign_up("alice").await;
    let phone = sign_in(&server).await;
    let devices: Page<Device> = phone.get("/v1/devices").await.json(200);
    let shown: Vec<_> = devices.items.iter().map(|device| (device.name.as_str(), device.current)).collect();
    assert_eq!(shown, [("laptop", false), ("phone", true)]);
    assert_eq!(devices.next_cursor, None);

    let removal = format!("/v1/devices/{}", laptop.tokens.device_id);
    phone.delete(&removal).await.done();
    phone.delete(&removal).await.done();
    let devices: Page<Device> = phone.get("/v1/devices").await.json(200);
    assert_eq!(devices.items.len(), 1);
    refresh(&server, &laptop.tokens.refresh_token).await.refused(Code::Unauthenticated, 401);

    let revenge = laptop.delete(&format!("/v1/devices/{}", phone.tokens.device_id)).await;
    revenge.refused(Code::Unauthenticated, 401);
    assert_eq!(phone.get("/v1/devices").await.json::<Page<Device>>(200).items.len(), 1);
}

#[tokio::test]
async fn nobody_removes_somebody_elses_device() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let bob = server.sign_up("bob").await;
    bob.delete(&format!("/v1/devices/{}", alice.tokens.device_id)).await.done();
    assert_eq!(alice.get("/v1/devices").await.json::<Page<Device>>(200).items.len(), 1);
    refresh(&server, &alice.tokens.refresh_token).await.json::<Tokens>(200);
}

#[tokio::test]
async fn devices_come_in_pages() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    for _ in 0..4 {
        sign_in(&server).await;
    }
    let whole: Page<Device> = alice.get("/v1/devices").await.json(200);
    let first: Page<Device> = alice.get("/v1/devices?limit=2").await.json(200);
    let mut pages = first.items;
    let mut cursor = first.next_cursor;
    while let Some(next) = cursor {
        let page: Page<Device> = alice.get(&format!("/v1/devices?limit=2&cursor={next}")).await.json(200);
        assert!(!page.items.is_empty());
        pages.extend(page.items);
        cursor = page.next_cursor;
    }
    assert_eq!(pages.len(), 5);
    assert_eq!(pages, whole.items);
}

#[tokio::test]
async fn people_are_found_by_the_beginning_of_their_names() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    for name in ["albert", "alwin", "bob"] {
        server.sign_up(name).await;
    }
    let found = |page: &Page<User>| page.items.iter().map(|user| user.username.clone()).collect::<Vec<_>>();
    let first: Page<User> = alice.get("/v1/users?query=AL&limit=2").await.json(200);
    assert_eq!(found(&first), ["albert", "alice"]);
    let cursor = first.next_cursor.unwrap();
    let second: Page<User> =
        alice.get(&format!("/v1/users?query=AL&limit=2&cursor={cursor}")).await.json(200);
    assert_eq!((found(&second), second.next_cursor), (vec!["alwin".to_owned()], None));
    let nobody: Page<User> = alice.get("/v1/users?query=zo%C3%AB").await.json(200);
    assert_eq!(nobody.items, []);
}
