//! The link against a server that misbehaves on purpose.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]

mod fake;

use std::sync::Arc;
use std::time::Duration;

use fake::*;
use tidings_client::{Event, Events, Link, LinkOptions, MemoryStore, Rest, Store};
use tidings_types::{Code, Cursor, Epoch, MessageId, Seq};
use tidings_wire::rest::Page;
use tidings_wire::{
    ClientFrame, Content, Entry, ErrorFrame, MessageAccepted, Pong, ReceiveMessage, SendMessage, ServerFrame,
    Target,
};

const LONG: u64 = 60_000;
/// Short enough for a test, long enough that a busy machine does not miss two of them.
const SHORT: u64 = 400;

fn start(rest: &Rest) -> (Link, Events) {
    let backoff = Duration::from_millis(5);
    let options = LinkOptions { backoff_base: backoff, backoff_max: backoff, ..LinkOptions::default() };
    Link::start(rest.clone(), &options)
}

async fn send(link: &Link, text: &str) -> MessageId {
    link.send(Target::Conversation(group()), Content::text(text), None).await.unwrap()
}

async fn heard_send(socket: &mut FakeSocket) -> SendMessage {
    match socket.heard().await {
        ClientFrame::SendMessage(send) => send,
        other => panic!("a send was awaited: {other:?}"),
    }
}

fn accepted(send: &SendMessage, seq: u64) -> ServerFrame {
    ServerFrame::MessageAccepted(MessageAccepted {
        reference: send.reference,
        conversation_id: group(),
        message_id: send.message_id,
        seq: Seq(seq),
        created_at_ms: 1,
    })
}

fn refused(send: &SendMessage, code: Code) -> ServerFrame {
    let reference = Some(send.reference);
    ServerFrame::Error(ErrorFrame { reference, code, message: "no".into(), retry_after_ms: None })
}

#[tokio::test]
async fn a_lost_connection_goes_on_where_it_was_and_doubles_nothing() {
    let mut fake = Fake::start().await;
    let (_link, mut events) = start(&fake.signed_in());
    let mut socket = fake.socket().await;
    assert_eq!(socket.welcome(LONG).await.cursors, []);
    for frame in [snapshot(3), entry(1), entry(2), entry(3)] {
        socket.say(frame).await;
    }
    socket.caught_up().await;
    assert!(matches!(next_news(&mut events).await, Event::Snapshot(_)));
    assert_eq!(next_seqs(&mut events, 3).await, [1, 2, 3]);
    assert_eq!(next_news(&mut events).await, Event::CaughtUp);
    drop(socket);

    let mut socket = fake.socket().await;
    let cursor = Cursor { epoch: Epoch(1), seq: Seq(3) };
    assert_eq!(socket.welcome(LONG).await.cursors, [(group(), cursor)]);
    for frame in [entry(2), entry(3), entry(4)] {
        socket.say(frame).await;
    }
    assert_eq!(next_seqs(&mut events, 1).await, [4]);
}

#[tokio::test]
async fn a_gap_is_fetched_and_told_in_order_before_caught_up() {
    let mut fake = Fake::start().await;
    let page = |seqs: std::ops::RangeInclusive<u64>| Page {
        items: seqs.map(|seq| Entry::from(received(seq))).collect(),
        next_cursor: None,
    };
    fake.answer(&format!("GET /v1/conversations/{}/entries?after=0", group()), 200, &page(1..=2));
    fake.answer(&format!("GET /v1/conversations/{}/entries?after=2", group()), 200, &page(3..=4));
    let (_link, mut events) = start(&fake.signed_in());
    let mut socket = fake.socket().await;
    socket.welcome(LONG).await;
    for frame in [snapshot(6), gap(1, 4), entry(5)] {
        socket.say(frame).await;
    }
    socket.caught_up().await;
    socket.say(entry(6)).await;
    assert!(matches!(next_news(&mut events).await, Event::Snapshot(_)));
    let mut seqs = next_seqs(&mut events, 5).await;
    loop {
        match next_news(&mut events).await {
            Event::CaughtUp => break,
            Event::Entry(entry) => seqs.push(entry.seq.0),
            other => panic!("{other:?}"),
        }
    }
    assert!(seqs.len() >= 5 && seqs.iter().copied().eq(1..=seqs.len() as u64), "{seqs:?}");
}

#[tokio::test]
async fn an_unanswered_send_is_sent_again_with_the_same_id_and_an_answered_one_is_not() {
    let mut fake = Fake::start().await;
    let (link, mut events) = start(&fake.signed_in());
    let mut socket = fake.socket().await;
    socket.welcome(LONG).await;
    let ids = [send(&link, "one").await, send(&link, "two").await, send(&link, "three").await];
    let first = heard_send(&mut socket).await;
    socket.say(accepted(&first, 1)).await;
    assert_eq!(heard_send(&mut socket).await.message_id, ids[1]);
    drop(socket);

    let mut socket = fake.socket().await;
    socket.welcome(LONG).await;
    for (id, seq) in [(ids[1], 2), (ids[2], 3)] {
        let again = heard_send(&mut socket).await;
        assert_eq!(again.message_id, id);
        socket.say(accepted(&again, seq)).await;
    }
    for id in ids {
        let Event::Accepted(accepted) = next_news(&mut events).await else { panic!("accepted was awaited") };
        assert_eq!(accepted.message_id, id);
    }
}

#[tokio::test]
async fn the_outbox_and_the_handled_cursors_survive_a_restart() {
    let mut fake = Fake::start().await;
    let store = Arc::new(MemoryStore::default());
    let rest = fake.rest(Arc::clone(&store) as Arc<dyn Store>);
    let (link, mut events) = start(&rest);
    let mut socket = fake.socket().await;
    socket.welcome(LONG).await;
    for frame in [snapshot(2), entry(1), entry(2)] {
        socket.say(frame).await;
    }
    assert!(matches!(next_news(&mut events).await, Event::Snapshot(_)));
    assert_eq!(next_seqs(&mut events, 2).await, [1, 2]);
    let id = send(&link, "kept").await;
    drop((link, events));
    socket.ended().await;
    assert_eq!(store.saved().conversations[&group()].seq, Seq(1), "nobody said that the second was handled");
    assert_eq!(store.outbox_len(), 1);

    let (_link, mut events) = start(&rest);
    let mut socket = fake.socket().await;
    assert_eq!(socket.welcome(LONG).await.cursors, [(group(), Cursor { epoch: Epoch(1), seq: Seq(1) })]);
    let again = heard_send(&mut socket).await;
    assert_eq!(again.message_id, id);
    socket.say(accepted(&again, 3)).await;
    assert!(matches!(next_news(&mut events).await, Event::Accepted(_)));
    events.handled().unwrap();
    assert_eq!(store.outbox_len(), 0);
}

#[tokio::test]
async fn a_send_that_may_pass_later_is_repeated_and_a_final_refusal_is_told() {
    let mut fake = Fake::start().await;
    let rest = fake.signed_in();
    let (link, mut events) = start(&rest);
    let mut socket = fake.socket().await;
    socket.welcome(LONG).await;
    let (first, second) = (send(&link, "one").await, send(&link, "two").await);
    let frame = heard_send(&mut socket).await;
    socket.say(refused(&frame, Code::Overloaded)).await;
    let frame = heard_send(&mut socket).await;
    assert_eq!(frame.message_id, first, "the second must not overtake");
    socket.say(refused(&frame, Code::NotFound)).await;
    let frame = heard_send(&mut socket).await;
    assert_eq!(frame.message_id, second);
    let Event::Refused { message, refusal } = next_news(&mut events).await else {
        panic!("refused was awaited")
    };
    assert_eq!((message.message_id, refusal.code), (first, Code::NotFound));
    events.handled().unwrap();
    assert_eq!(rest.store().outbox_len(), 1);
}

#[tokio::test]
async fn an_expired_token_is_refreshed_before_the_next_try() {
    let mut fake = Fake::start().await;
    fake.refuse("GET /v1/ws", Code::TokenExpired, None);
    fake.answer("POST /v1/sessions/refresh", 200, &tokens("access-2"));
    let rest = fake.signed_in();
    let (_link, _events) = start(&rest);
    let socket = fake.socket().await;
    assert_eq!(socket.token, "access-2");
    assert_eq!(
        fake.requests("POST /v1/sessions/refresh")[0].body,
        r#"{"refresh_token":"refresh-of-access-1"}"#
    );
    assert_eq!(rest.tokens().unwrap().access_token, "access-2");
}

#[tokio::test]
async fn a_close_that_asks_for_a_refresh_gets_one() {
    let mut fake = Fake::start().await;
    fake.answer("POST /v1/sessions/refresh", 200, &tokens("access-2"));
    let (_link, _events) = start(&fake.signed_in());
    fake.socket().await.close(4100).await;
    assert_eq!(fake.socket().await.token, "access-2");
}

#[tokio::test]
async fn a_session_that_ended_is_told_and_forgotten() {
    let mut fake = Fake::start().await;
    fake.refuse("POST /v1/sessions/refresh", Code::Unauthenticated, None);
    let rest = fake.signed_in();
    let (_link, mut events) = start(&rest);
    fake.socket().await.close(4100).await;
    assert_eq!(next_news(&mut events).await, Event::SignedOut);
    assert_eq!(within(events.next()).await.unwrap(), None);
    assert_eq!(rest.tokens(), None);
}

#[tokio::test]
async fn a_server_that_does_not_want_this_client_back_is_left_alone() {
    let mut fake = Fake::start().await;
    let (_link, mut events) = start(&fake.signed_in());
    fake.socket().await.close(4203).await;
    assert_eq!(next_news(&mut events).await, Event::Stopped { code: 4203, reason: "because".into() });
    assert_eq!(within(events.next()).await.unwrap(), None);
}

#[tokio::test]
async fn a_draining_server_is_come_back_to() {
    let mut fake = Fake::start().await;
    let (_link, _events) = start(&fake.signed_in());
    fake.socket().await.close(1012).await;
    fake.socket().await;
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let mut fake = Fake::start().await;
    fake.refuse("GET /v1/ws", Code::Overloaded, Some(120));
    let (_link, mut events) = start(&fake.signed_in());
    let Event::Offline { retry_in, .. } = next(&mut events).await else { panic!("offline was awaited") };
    assert!(retry_in >= Duration::from_millis(120), "{retry_in:?}");
    fake.socket().await;
}

#[tokio::test]
async fn heartbeats_carry_the_counts_and_a_wrong_count_is_a_lost_link() {
    let mut fake = Fake::start().await;
    let (link, mut events) = start(&fake.signed_in());
    let mut socket = fake.socket().await;
    socket.welcome(SHORT).await;
    send(&link, "one").await;
    heard_send(&mut socket).await;
    let ClientFrame::Ping(ping) = socket.heard().await else { panic!("a ping was awaited") };
    assert_eq!(ping.sent, Some(socket.received - 1));
    // `connected` came before it: that is one. The client goes on.
    socket.say(ServerFrame::Pong(Pong { reference: ping.reference, sent: 1 })).await;
    let ClientFrame::Ping(ping) = socket.heard().await else { panic!("a ping was awaited") };
    // Two came, and this says three: one was lost on the way.
    socket.say(ServerFrame::Pong(Pong { reference: ping.reference, sent: 3 })).await;
    assert!(matches!(next(&mut events).await, Event::Online(_)));
    let Event::Offline { reason, .. } = next(&mut events).await else { panic!("offline was awaited") };
    assert_eq!(reason, "2 of 3 frames arrived");
    fake.socket().await;
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let mut fake = Fake::start().await;
    let (_link, _events) = start(&fake.signed_in());
    let mut socket = fake.socket().await;
    socket.welcome(SHORT).await;
    fake.socket().await;
    drop(socket);
}

#[tokio::test]
async fn a_caller_that_does_not_ask_stops_the_stream_and_loses_nothing() {
    // More than the buffers of a loopback connection take.
    const ENTRIES: u64 = 4_000;
    let content = Content::text("x".repeat(8 * 1024));
    let mut fake = Fake::start().await;
    let (_link, mut events) = start(&fake.signed_in());
    let mut socket = fake.socket().await;
    socket.welcome(LONG).await;
    socket.say(snapshot(ENTRIES)).await;
    let mut saying = tokio::spawn(async move {
        for seq in 1..=ENTRIES {
            let message = ReceiveMessage { content: content.clone(), ..received(seq) };
            socket.say(ServerFrame::ReceiveMessage(message)).await;
        }
        socket
    });
    let said_all = tokio::time::timeout(Duration::from_secs(3), &mut saying).await;
    assert!(said_all.is_err(), "the client read on although nobody asked");
    assert!(matches!(next_news(&mut events).await, Event::Snapshot(_)));
    let seqs = next_seqs(&mut events, 4_000).await;
    assert!(seqs.iter().copied().eq(1..=ENTRIES));
    drop(within(saying).await.unwrap());
}

#[tokio::test]
async fn an_entry_of_an_unknown_conversation_asks_for_its_snapshot() {
    let mut fake = Fake::start().await;
    let (_link, mut events) = start(&fake.signed_in());
    let mut socket = fake.socket().await;
    socket.welcome(LONG).await;
    socket.say(entry(7)).await;
    let ClientFrame::Subscribe(subscribe) = socket.heard().await else { panic!("a subscribe was awaited") };
    assert_eq!((subscribe.conversation_id, subscribe.cursor()), (group(), None));
    for frame in [snapshot(2), entry(1), entry(2)] {
        socket.say(frame).await;
    }
    assert!(matches!(next_news(&mut events).await, Event::Snapshot(_)));
    assert_eq!(next_seqs(&mut events, 2).await, [1, 2]);
}

#[tokio::test]
async fn closing_ends_the_connection_and_then_the_events() {
    let mut fake = Fake::start().await;
    let (link, mut events) = start(&fake.signed_in());
    let mut socket = fake.socket().await;
    socket.welcome(LONG).await;
    link.close().await;
    socket.ended().await;
    while within(events.next()).await.unwrap().is_some() {}
}
