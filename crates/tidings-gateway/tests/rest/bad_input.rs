//! Requests that no retry makes better, and what they are told.

use http::Method;
use serde_json::{Value, json};
use tidings_types::{Code, Limits};

use crate::support::{PASSWORD, Server};
use crate::{group, message};

#[tokio::test]
async fn a_bad_body_is_told_where_it_is_bad() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let group_id = server.conversation_id().to_string();
    let id = server.message_id().to_string();
    let text = json!({ "type": "text", "text": "hello" });
    for (path, body, said) in [
        ("/v1/accounts", "", "JSON"),
        ("/v1/accounts", "{", "line 1"),
        ("/v1/accounts", "[]", "SignUp"),
        ("/v1/accounts", r#"{"username":"carol"}"#, "`password`"),
        ("/v1/accounts", r#"{"username":7,"password":"x"}"#, "username"),
        ("/v1/accounts", r#"{"username":"carol","password":"x","device_id":"7"}"#, "device_id"),
        ("/v1/sessions", r#"{"username":"carol"}"#, "`password`"),
        ("/v1/sessions/refresh", "{}", "`refresh_token`"),
        ("/v1/conversations", "{}", "`kind`"),
        ("/v1/conversations", r#"{"kind":"cave"}"#, "cave"),
        ("/v1/conversations", r#"{"kind":"direct"}"#, "`user_id`"),
        ("/v1/conversations", r#"{"kind":"direct","user_id":"7"}"#, "user_id"),
        ("/v1/conversations", r#"{"kind":"group","conversation_id":"7","member_ids":[]}"#, "conversation_id"),
        (
            "/v1/conversations",
            &json!({ "kind": "group", "conversation_id": group_id }).to_string(),
            "`member_ids`",
        ),
        ("/v1/messages", "{}", "message_id"),
        ("/v1/messages", &json!({ "message_id": id, "content": text }).to_string(), "`conversation_id`"),
        (
            "/v1/messages",
            &json!({ "conversation_id": "7", "message_id": id, "content": text }).to_string(),
            "conversation_id",
        ),
        (
            "/v1/messages",
            &json!({ "conversation_id": group_id, "message_id": 7, "content": text }).to_string(),
            "message_id",
        ),
        (
            "/v1/messages",
            &json!({ "conversation_id": group_id, "message_id": id, "content": "hello" }).to_string(),
            "content",
        ),
        (
            "/v1/messages",
            &json!({ "conversation_id": group_id, "message_id": id, "content": { "type": "smell" } })
                .to_string(),
            "content",
        ),
    ] {
        let answer = alice.request(Method::POST, path).text(body).await;
        answer.refused(Code::Invalid, 400);
        let detail = answer.problem().detail;
        assert!(detail.contains(said), "{path} {body}: {detail:?} does not name {said}");
    }
}

#[tokio::test]
async fn a_body_is_json_and_says_so() {
    let server = Server::start().await;
    let body = json!({ "username": "carol", "password": PASSWORD }).to_string();
    for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let request = server.request(Method::POST, "/v1/accounts");
        let request =
            content_type.into_iter().fold(request, |request, value| request.header("content-type", value));
        request.body(&body).await.refused(Code::Invalid, 400);
    }
    let request = server.request(Method::POST, "/v1/accounts");
    let answer = request.header("content-type", "application/json; charset=utf-8").body(&body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[tokio::test]
async fn bad_ids_and_parameters_are_invalid() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let tea = group(&alice, &[]).await.conversation_id;
    let upper = tea.to_string().to_uppercase();
    for path in [
        "/v1/conversations/7".to_owned(),
        format!("/v1/conversations/{upper}"),
        "/v1/conversations/%ff".to_owned(),
        "/v1/conversations/7/members".to_owned(),
        "/v1/conversations/7/entries".to_owned(),
        format!("/v1/conversations/{tea}/messages/7"),
        "/v1/messages".to_owned(),
        "/v1/messages?conversation_id=7".to_owned(),
        format!("/v1/messages?conversation_id={tea}&after=x"),
        format!("/v1/messages?conversation_id={tea}&after=-1"),
        format!("/v1/messages?conversation_id={tea}&after=9007199254740992"),
        format!("/v1/messages?conversation_id={tea}&around=3&after=2"),
        format!("/v1/messages?conversation_id={tea}&around=3&before=4"),
        format!("/v1/messages?conversation_id={tea}&conversation_id={tea}"),
        format!("/v1/messages?conversation_id={tea}&limit=0"),
        format!("/v1/history?conversation_id={tea}&limit=101"),
        format!("/v1/conversations/{tea}/entries?limit=0"),
        format!("/v1/conversations/{tea}/entries?limit=many"),
        format!("/v1/conversations/{tea}/entries?before=1.5"),
        format!("/v1/conversations/{tea}/members?limit=101"),
        format!("/v1/conversations/{tea}/members?cursor=x"),
        "/v1/conversations?limit=0".to_owned(),
        "/v1/conversations?cursor=AAAA".to_owned(),
        "/v1/conversations?cursor=!".to_owned(),
        "/v1/devices?limit=101".to_owned(),
        "/v1/devices?cursor=x".to_owned(),
        "/v1/users".to_owned(),
        "/v1/users?query=a&limit=0".to_owned(),
        "/v1/users?query=a&cursor=!".to_owned(),
    ] {
        let answer = alice.get(&path).await;
        assert_eq!((answer.status, answer.problem().code), (400, Code::Invalid), "{path}: {}", answer.text);
    }
    alice.delete("/v1/devices/7").await.refused(Code::Invalid, 400);
    alice.delete(&format!("/v1/conversations/{tea}/members/7")).await.refused(Code::Invalid, 400);
}

#[tokio::test]
async fn every_limit_has_its_answer() {
    let limits = Limits {
        content_bytes_max: 100,
        frame_bytes_max: 2_000,
        members_per_call_max: 2,
        ..Limits::default()
    };
    let server = Server::with(limits).await;
    let alice = server.sign_up("alice").await;
    let tea = group(&alice, &[]).await.conversation_id;
    let text = |len: usize| message(&alice, tea, &"x".repeat(len));
    alice.post("/v1/messages", &text(100)).await.json::<Value>(201);
    alice.post("/v1/messages", &text(101)).await.refused(Code::TooLarge, 413);
    alice.post("/v1/messages", &text(0)).await.refused(Code::Invalid, 400);
    alice.post("/v1/messages", &text(2_000)).await.refused(Code::TooLarge, 413);

    let users: Vec<_> = (0..3).map(|_| server.message_id().to_string()).collect();
    let members = format!("/v1/conversations/{tea}/members");
    alice.post(&members, &json!({ "user_ids": users })).await.refused(Code::TooLarge, 413);
    let title = json!({
        "kind": "group", "conversation_id": server.conversation_id().to_string(),
        "title": "x".repeat(129), "member_ids": [],
    });
    alice.post("/v1/conversations", &title).await.refused(Code::TooLarge, 413);
}

#[tokio::test]
async fn ids_from_the_wrong_time_are_refused() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let limits = Limits::default();
    let group = json!({
        "kind": "group", "conversation_id": "00000000-0000-4000-8000-000000000000", "member_ids": [],
    });
    alice.post("/v1/conversations", &group).await.refused(Code::Invalid, 400);
    let tea = crate::group(&alice, &[]).await.conversation_id;
    let body = message(&alice, tea, "waited too long");
    server.clock.advance(limits.id_age_ms_max + 60_000);
    let alice = server.sign_in_again(&alice).await;
    alice.post("/v1/messages", &body).await.refused(Code::IdExpired, 409);
}

#[tokio::test]
async fn accounts_have_rules() {
    let server = Server::start().await;
    for (username, password, code, status) in [
        ("a", PASSWORD, Code::Invalid, 400),
        ("no spaces", PASSWORD, Code::Invalid, 400),
        ("carol", "too short", Code::Invalid, 400),
        ("carol", &"x".repeat(257), Code::TooLarge, 413),
    ] {
        let body = json!({ "username": username, "password": password });
        server.request(Method::POST, "/v1/accounts").json(&body).await.refused(code, status);
    }
    let body = json!({ "username": "carol", "password": PASSWORD, "display_name": "a\u{1b}[31m" });
    server.request(Method::POST, "/v1/accounts").json(&body).await.refused(Code::Invalid, 400);
}
