//! A reader that stops costs a fixed amount of memory and misses nothing when it goes on.

use http::HeaderValue;
use tidings_types::{ConversationId, Cursor, Epoch, Seq};
use tidings_wire::{ServerFrame, Target};

use crate::support::{Device, Running, Socket, message_id, seqs};

const MESSAGES: u64 = 5_000;
/// More than the kernel takes for a socket that nobody reads.
const TEXT_BYTES: usize = 4 * 1024;

#[tokio::test]
async fn a_reader_that_stops_for_a_while_gets_everything_in_order() {
    let server = Running::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let group = alice.group(&[&bob]).await;
    let authorization = HeaderValue::try_from(format!("Bearer {}", bob.tokens.access_token)).unwrap();
    let opened = Socket::open_with(server.address, Some(4 * 1024), |request| {
        request.headers_mut().insert("authorization", authorization);
    });
    let mut slow = opened.await.unwrap();
    let mut frames = slow.connect(Vec::new()).await;
    if seqs(&frames, group).is_empty() {
        frames.extend(slow.until_seq(group, Seq(1)).await);
    }

    send_all(&alice, group).await;

    // Others are not held up by it.
    let mut other = bob.socket().await;
    let cursor = Cursor { epoch: Epoch(1), seq: Seq(MESSAGES) };
    let frames = other.connect(vec![(group, cursor)]).await;
    assert_eq!(seqs(&frames, group), [MESSAGES + 1]);

    let frames = slow.until_seq(group, Seq(MESSAGES + 1)).await;
    assert!(seqs(&frames, group).into_iter().eq(2..=MESSAGES + 1));
    let is_gap = |frame: &ServerFrame| matches!(frame, ServerFrame::Gap(_) | ServerFrame::Snapshot(_));
    assert!(!frames.iter().any(is_gap), "a lagging reader is not reset");
    slow.round_trip().await;
}

/// As fast as the limit of sends in flight allows.
async fn send_all(device: &Device, group: ConversationId) {
    const IN_FLIGHT: u64 = 100;
    let mut socket = device.socket().await;
    socket.connect(Vec::new()).await;
    let text = "x".repeat(TEXT_BYTES);
    let (mut sent, mut accepted) = (0, 0);
    while accepted < MESSAGES {
        while sent < MESSAGES && sent - accepted < IN_FLIGHT {
            socket.send(Target::Conversation(group), message_id(), &text).await;
            sent += 1;
        }
        match socket.next().await {
            ServerFrame::MessageAccepted(_) => accepted += 1,
            ServerFrame::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
}
