//! The table of routes: what it promises about who may use each, held against what the server does.

use http::Method;
use serde_json::{Value, json};
use tidings_gateway::http::{Access, table};
use tidings_types::Code;

use crate::support::{Answer, Person, Server};
use crate::{group, message, say};

use Access::{Anybody, LiveSession, Member, SignedIn, Upgrade};

/// What a stranger gets: somebody who is signed in, but is not in the conversation that the request names.
#[derive(Clone, Copy)]
enum Stranger {
    Gets(u16),
    IsRefused(Code, u16),
}

use Stranger::{Gets, IsRefused};

const NOT_FOUND: Stranger = IsRefused(Code::NotFound, 404);

/// Every route once more, by somebody who thinks about what it must do: method, path, who may, what a stranger gets.
/// `C` stands for Alice's conversation, `U` for Alice, `M` for her message, `D` for her device.
const ROUTES: &[(Method, &str, &str, Access, Stranger)] = &[
    (Method::GET, "/", "/", Anybody, Gets(200)),
    (Method::GET, "/livez", "/livez", Anybody, Gets(200)),
    (Method::GET, "/readyz", "/readyz", Anybody, Gets(200)),
    (Method::POST, "/v1/accounts", "/v1/accounts", Anybody, IsRefused(Code::Invalid, 400)),
    (Method::POST, "/v1/sessions", "/v1/sessions", Anybody, IsRefused(Code::Invalid, 400)),
    (Method::POST, "/v1/sessions/refresh", "/v1/sessions/refresh", Anybody, IsRefused(Code::Invalid, 400)),
    (Method::DELETE, "/v1/sessions/current", "/v1/sessions/current", SignedIn, Gets(204)),
    (Method::GET, "/v1/devices", "/v1/devices", SignedIn, Gets(200)),
    (Method::DELETE, "/v1/devices/{device_id}", "/v1/devices/D", LiveSession, Gets(204)),
    (Method::GET, "/v1/users", "/v1/users?query=a", SignedIn, Gets(200)),
    (Method::GET, "/v1/users/me", "/v1/users/me", SignedIn, Gets(200)),
    (Method::GET, "/v1/conversations", "/v1/conversations", SignedIn, Gets(200)),
    (Method::POST, "/v1/conversations", "/v1/conversations", SignedIn, IsRefused(Code::Invalid, 400)),
    (Method::GET, "/v1/conversations/{conversation_id}", "/v1/conversations/C", Member, NOT_FOUND),
    (
        Method::GET,
        "/v1/conversations/{conversation_id}/members",
        "/v1/conversations/C/members",
        Member,
        NOT_FOUND,
    ),
    (
        Method::POST,
        "/v1/conversations/{conversation_id}/members",
        "/v1/conversations/C/members",
        Member,
        NOT_FOUND,
    ),
    (
        Method::DELETE,
        "/v1/conversations/{conversation_id}/members/{user_id}",
        "/v1/conversations/C/members/U",
        Member,
        NOT_FOUND,
    ),
    (
        Method::GET,
        "/v1/conversations/{conversation_id}/entries",
        "/v1/conversations/C/entries",
        Member,
        NOT_FOUND,
    ),
    (
        Method::GET,
        "/v1/conversations/{conversation_id}/messages/{message_id}",
        "/v1/conversations/C/messages/M",
        Member,
        NOT_FOUND,
    ),
    (Method::POST, "/v1/messages", "/v1/messages", Member, NOT_FOUND),
    (Method::GET, "/v1/messages", "/v1/messages?conversation_id=C", Member, NOT_FOUND),
    (Method::GET, "/v1/history", "/v1/history?conversation_id=C", Member, NOT_FOUND),
    // Not an upgrade, so it gets no further.
    (Method::GET, "/v1/ws", "/v1/ws", Upgrade, IsRefused(Code::Invalid, 426)),
];

#[test]
fn the_table_is_the_one_that_was_thought_about() {
    let mut served: Vec<_> = table()
        .iter()
        .map(|route| (route.path, route.method.to_string(), format!("{:?}", route.access)))
        .collect();
    let mut expected: Vec<_> = ROUTES
        .iter()
        .map(|(method, path, _, access, _)| (*path, method.to_string(), format!("{access:?}")))
        .collect();
    served.sort();
    expected.sort();
    assert_eq!(served, expected);
}

/// Alice's things, as the paths of [`ROUTES`] name them.
struct Place {
    names: [(&'static str, String); 4],
    message: Value,
    members: Value,
}

impl Place {
    async fn of(alice: &Person<'_>) -> Self {
        let tea = group(alice, &[]).await.conversation_id;
        let told = say(alice, tea, "private").await.message_id;
        Self {
            names: [
                ("C", tea.to_string()),
                ("U", alice.id().to_string()),
                ("M", told.to_string()),
                ("D", alice.tokens.device_id.to_string()),
            ],
            message: message(alice, tea, "intruder"),
            members: json!({ "user_ids": [alice.id().to_string()] }),
        }
    }

    fn path(&self, path: &str) -> String {
        let (path, query) = path.split_once('?').map_or((path, ""), |(path, query)| (path, query));
        let named = |word: &str| {
            let known = self.names.iter().find(|(name, _)| *name == word);
            known.map_or(word.to_owned(), |(_, id)| id.clone())
        };
        let path: Vec<_> = path.split('/').map(named).collect();
        let query: Vec<_> = query.split('=').map(named).collect();
        format!("{}?{}", path.join("/"), query.join("="))
    }

    /// One request to a route; a good body where a stranger needs one to get as far as the members' check.
    async fn ask(&self, server: &Server, method: &Method, path: &str, token: Option<&str>) -> Answer {
        let request = server.request(method.clone(), &self.path(path));
        let request = if let Some(token) = token { request.bearer(token) } else { request };
        match (method, path) {
            (&Method::POST, "/v1/messages") => request.json(&self.message).await,
            (&Method::POST, "/v1/conversations/C/members") => request.json(&self.members).await,
            (&Method::POST, _) => request.json(&json!({})).await,
            _ => request.send().await,
        }
    }
}

#[tokio::test]
async fn every_route_asks_who_it_is() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let place = Place::of(&alice).await;
    let good = &alice.tokens.access_token;
    // The first character of the signature.
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{other}{}", &signature[1..]);
    for (method, _, path, access, stranger) in ROUTES {
        for token in [None, Some("garbage"), Some(&*forged), Some(&*alice.tokens.refresh_token)] {
            let answer = place.ask(&server, method, path, token).await;
            match (access, stranger) {
                (SignedIn | LiveSession | Member, _) => answer.refused(Code::Unauthenticated, 401),
                (Anybody | Upgrade, Gets(status)) => assert_eq!(answer.status, *status, "{method} {path}"),
                (Anybody | Upgrade, IsRefused(code, status)) => answer.refused(*code, *status),
            }
        }
    }
}

#[tokio::test]
async fn a_stranger_learns_nothing() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let place = Place::of(&alice).await;
    let tea = &place.names[0].1;
    let before = alice.get(&format!("/v1/conversations/{tea}/entries")).await.text;
    let unknown = Place {
        names: place.names.clone().map(foreign),
        message: place.message.clone(),
        ..Place::of(&alice).await
    };
    for (method, _, path, _, expected) in ROUTES {
        // Signs out in one of the turns, so it is somebody new in each.
        let mallory = server
            .sign_up(&format!("m{}", server.message_id().to_string().split_off(9).replace('-', "")))
            .await;
        let token = Some(&*mallory.tokens.access_token);
        let answer = place.ask(&server, method, path, token).await;
        match expected {
            Gets(status) => assert_eq!(answer.status, *status, "{method} {path}"),
            IsRefused(code, status) => answer.refused(*code, *status),
        }
        if matches!(expected, IsRefused(Code::NotFound, _)) {
            let nothing = unknown.ask(&server, method, path, token).await;
            assert_eq!(answer.text, nothing.text, "{method} {path}: foreign and unknown look the same");
        }
        assert!(!answer.text.contains("private"), "{method} {path}");
    }
    assert_eq!(alice.get(&format!("/v1/conversations/{tea}/entries")).await.text, before);
    assert_eq!(alice.get("/v1/devices").await.json::<Value>(200)["items"].as_array().unwrap().len(), 1);
}

/// An id that names nothing.
fn foreign((name, id): (&'static str, String)) -> (&'static str, String) {
    let (rest, last) = id.split_at(id.len() - 1);
    (name, format!("{rest}{}", if last == "0" { "1" } else { "0" }))
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_document_too() {
    let server = Server::start().await;
    for path in ["/v2/nothing", "/v1", "/v1/conversations/", "/favicon.ico"] {
        server.request(Method::GET, path).send().await.refused(Code::NotFound, 404);
    }
    for (method, path, allow) in [
        (Method::PUT, "/v1/conversations", ["GET", "HEAD", "POST"].as_slice()),
        (Method::POST, "/v1/users/me", &["GET", "HEAD"]),
        (Method::GET, "/v1/sessions", &["POST"]),
        (Method::PATCH, "/", &["GET", "HEAD"]),
    ] {
        let answer = server.request(method, path).send().await;
        answer.refused(Code::Invalid, 405);
        let mut allowed: Vec<_> = answer.header("allow").split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed, allow, "{path}");
    }
}

#[tokio::test]
async fn the_first_page_says_what_to_do_next() {
    let server = Server::start().await;
    let page = server.request(Method::GET, "/").send().await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.text.contains(&format!("tidings chat --as alice --server http://{}", server.address)));
    let page = server.request(Method::GET, "/").header("host", "a\"><script>").send().await;
    assert!(!page.text.contains("script"));
    for (path, text) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let answer = server.request(Method::GET, path).send().await;
        assert_eq!((answer.status, answer.text.as_str()), (200, text));
    }
}
