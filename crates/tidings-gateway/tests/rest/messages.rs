//! Sending, and reading what was sent.

use serde_json::{Value, json};
use tidings_types::{Code, ConversationKind, MessageId, Seq};
use tidings_wire::rest::{Conversation, Message, MessageAccepted, Page};
use tidings_wire::{Content, Entry, EntryBody};

use crate::support::{Person, Server, until};
use crate::{group, message, say};

fn seqs(page: &Page<Message>) -> Vec<u64> {
    page.items.iter().map(|message| message.seq.0).collect()
}

async fn history(person: &Person<'_>, query: &str) -> Vec<u64> {
    seqs(&person.get(&format!("/v1/messages?{query}")).await.json(200))
}

#[tokio::test]
async fn a_retry_gets_the_first_answer() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let tea = group(&alice, &[&bob]).await.conversation_id;
    let body = message(&alice, tea, "hello");
    let answer = alice.post("/v1/messages", &body).await;
    let first: MessageAccepted = answer.json(201);
    assert_eq!((first.conversation_id, first.seq), (tea, Seq(2)));
    let location = format!("/v1/conversations/{tea}/messages/{}", first.message_id);
    assert_eq!(answer.header("location"), location);
    assert_eq!(alice.post("/v1/messages", &body).await.json::<MessageAccepted>(201), first);

    let mut other = body.clone();
    other["content"]["text"] = json!("something else");
    alice.post("/v1/messages", &other).await.refused(Code::IdConflict, 409);
    bob.post("/v1/messages", &body).await.refused(Code::IdConflict, 409);
    let read: Message = bob.get(&location).await.json(200);
    assert_eq!((read.content, read.sender_id), (Content::text("hello"), alice.id()));
    assert_eq!((read.seq, read.changed_seq, read.created_at_ms), (Seq(2), Seq(2), first.created_at_ms));
    assert_eq!(history(&alice, &format!("conversation_id={tea}")).await, [2]);
}

#[tokio::test]
async fn a_retry_is_answered_after_the_sender_was_removed() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let tea = group(&alice, &[&bob]).await.conversation_id;
    let body = message(&bob, tea, "hello");
    let first: MessageAccepted = bob.post("/v1/messages", &body).await.json(201);
    alice.delete(&format!("/v1/conversations/{tea}/members/{}", bob.id())).await.done();
    assert_eq!(bob.post("/v1/messages", &body).await.json::<MessageAccepted>(201), first);
}

#[tokio::test]
async fn writing_to_a_person_makes_the_conversation() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let to = |person: &Person<'_>, reply_to: Option<MessageId>| -> Value {
        let mut body = json!({
            "recipient_id": person.id().to_string(),
            "message_id": server.message_id().to_string(),
            "content": { "type": "text", "text": "hello" },
        });
        if let Some(id) = reply_to {
            body["reply_to"] = json!(id.to_string());
        }
        body
    };
    let first: MessageAccepted = alice.post("/v1/messages", &to(&bob, None)).await.json(201);
    let body = to(&alice, Some(first.message_id));
    let second: MessageAccepted = bob.post("/v1/messages", &body).await.json(201);
    assert_eq!((first.seq, second.seq), (Seq(2), Seq(3)));
    assert_eq!(first.conversation_id, second.conversation_id);

    let path = format!("/v1/conversations/{}", first.conversation_id);
    let direct: Conversation = alice.get(&path).await.json(200);
    assert_eq!(direct.kind, ConversationKind::Direct);
    assert_eq!(direct.last_message.unwrap().reply_to, Some(first.message_id));
    alice.post("/v1/messages", &to(&alice, None)).await.refused(Code::Invalid, 400);
}

#[tokio::test]
async fn history_is_read_by_seq() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let tea = group(&alice, &[]).await.conversation_id;
    for number in 2..=10 {
        assert_eq!(say(&alice, tea, "hello").await.seq, Seq(number));
    }
    for (query, expected) in [
        ("", &[2, 3, 4, 5, 6, 7, 8, 9, 10][..]),
        ("&limit=3", &[8, 9, 10]),
        ("&before=8&limit=3", &[5, 6, 7]),
        ("&after=3&limit=3", &[4, 5, 6]),
        ("&after=3&before=6", &[4, 5]),
        ("&after=10", &[]),
        ("&before=2", &[]),
        ("&after=7&before=3", &[]),
        ("&around=6&limit=4", &[4, 5, 6, 7]),
        ("&around=2&limit=4", &[2, 3, 4, 5]),
        ("&around=10&limit=4", &[8, 9, 10]),
        ("&before=0", &[]),
        ("&after=9007199254740991", &[]),
    ] {
        assert_eq!(history(&alice, &format!("conversation_id={tea}{query}")).await, expected, "{query}");
    }
    let alias: Page<Message> =
        alice.get(&format!("/v1/history?conversation_id={tea}&limit=2")).await.json(200);
    assert_eq!((seqs(&alias), alias.next_cursor), (vec![9, 10], None));
}

#[tokio::test]
async fn entries_are_read_by_seq_and_are_all_there() {
    let server = Server::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let tea = group(&alice, &[]).await.conversation_id;
    let path = format!("/v1/conversations/{tea}");
    say(&alice, tea, "one").await;
    alice.post(&format!("{path}/members"), &json!({ "user_ids": [bob.id().to_string()] })).await;
    say(&bob, tea, "two").await;
    bob.delete(&format!("{path}/members/{}", bob.id())).await.done();

    let mut walked: Vec<Entry> = Vec::new();
    loop {
        let after = walked.last().map_or(0, |entry| entry.seq.0);
        let page: Page<Entry> = alice.get(&format!("{path}/entries?after={after}&limit=2")).await.json(200);
        if page.items.is_empty() {
            break;
        }
        walked.extend(page.items);
    }
    let kinds: Vec<_> = walked.iter().map(|entry| (entry.seq.0, kind(&entry.body), entry.messages)).collect();
    let expected = [
        (1, "created", 0),
        (2, "message", 1),
        (3, "members_added", 1),
        (4, "message", 2),
        (5, "member_left", 2),
    ];
    assert_eq!(kinds, expected);
    for (query, expected) in
        [("", 1..=5), ("?limit=2", 4..=5), ("?before=4&limit=2", 2..=3), ("?after=1&before=4", 2..=3)]
    {
        let page: Page<Entry> = alice.get(&format!("{path}/entries{query}")).await.json(200);
        let seqs: Vec<u64> = page.items.iter().map(|entry| entry.seq.0).collect();
        assert_eq!(seqs, expected.collect::<Vec<_>>(), "{query}");
    }
}

fn kind(body: &EntryBody) -> &'static str {
    match body {
        EntryBody::Created(_) => "created",
        EntryBody::Message(_) => "message",
        EntryBody::MembersAdded(_) => "members_added",
        EntryBody::MemberLeft {} => "member_left",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_message_is_found_in_its_own_conversation_only() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let (tea, coffee) = (group(&alice, &[]).await.conversation_id, group(&alice, &[]).await.conversation_id);
    let told = say(&alice, tea, "hello").await.message_id;
    alice.get(&format!("/v1/conversations/{tea}/messages/{told}")).await.json::<Message>(200);
    alice.get(&format!("/v1/conversations/{coffee}/messages/{told}")).await.refused(Code::NotFound, 404);
    let unknown = server.message_id();
    alice.get(&format!("/v1/conversations/{tea}/messages/{unknown}")).await.refused(Code::NotFound, 404);
}

#[tokio::test]
async fn a_full_disk_is_said_with_a_time_to_come_back() {
    let server = Server::start().await;
    let alice = server.sign_up("alice").await;
    let tea = group(&alice, &[]).await.conversation_id;
    server.log.set_full(true);
    let body = message(&alice, tea, "hello");
    let answer = alice.post("/v1/messages", &body).await;
    answer.refused(Code::StorageFull, 507);
    assert_ne!(answer.header("retry-after"), "");
    server.log.set_full(false);
    // The writer looks for room again by itself.
    let accepted = until("room", async || {
        let answer = alice.post("/v1/messages", &body).await;
        (answer.status != 507).then(|| answer.json::<MessageAccepted>(201))
    })
    .await;
    assert_eq!(accepted.seq, Seq(2));
}
