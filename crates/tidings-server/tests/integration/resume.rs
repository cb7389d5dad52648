//! A device comes back with what it has, also to a server that was not there for a while.

use std::collections::BTreeMap;

use tidings_types::{Code, ConversationId, Cursor, Epoch, Seq};
use tidings_wire::rest::Conversation;
use tidings_wire::{ServerFrame, Target};

use crate::support::{Device, Ending, Running, entries, message_id, seqs, texts};

const EPOCH: Epoch = Epoch(1);

fn cursor(seq: u64) -> Cursor {
    Cursor { epoch: EPOCH, seq: Seq(seq) }
}

/// What came besides entries, by conversation: snapshots and gaps.
fn resets(frames: &[ServerFrame], conversation: ConversationId) -> Vec<&'static str> {
    let of = |frame: &ServerFrame| match frame {
        ServerFrame::Snapshot(snapshot) => snapshot.conversation_id == conversation,
        ServerFrame::Gap(gap) => gap.conversation_id == conversation,
        _ => false,
    };
    frames.iter().filter(|frame| of(frame)).map(ServerFrame::type_name).collect()
}

/// Everything is level: the personal log has been told of all these conversations.
async fn follow_all(device: &Device, conversations: &[ConversationId]) -> BTreeMap<ConversationId, u64> {
    let mut socket = device.socket().await;
    let mut frames = socket.connect(Vec::new()).await;
    for conversation in conversations {
        if seqs(&frames, *conversation).is_empty() {
            let seen = |frame: &ServerFrame| !seqs(std::slice::from_ref(frame), *conversation).is_empty();
            frames.extend(socket.until(seen).await);
        }
    }
    frames.extend(socket.round_trip().await);
    let mut reached = BTreeMap::new();
    for frame in &frames {
        let conversation = match frame {
            ServerFrame::Entry(entry) => entry.conversation_id,
            ServerFrame::ReceiveMessage(message) => message.conversation_id,
            _ => continue,
        };
        reached.insert(conversation, *seqs(&frames, conversation).last().unwrap());
    }
    reached
}

#[tokio::test]
async fn over_a_restart_exactly_what_was_missed_is_sent() {
    for ending in [Ending::Stop, Ending::Crash] {
        let server = Running::start().await;
        let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
        let groups = [alice.group(&[&bob]).await, alice.group(&[&bob]).await, alice.group(&[&bob]).await];
        let reached = follow_all(&bob, &groups).await;
        let cursors: Vec<_> = reached.iter().map(|(id, seq)| (*id, cursor(*seq))).collect();
        // Part of it ends up in the tables with a clean stop, all of it is only in the log after a crash.
        alice.send(groups[0], "missed before").await;
        alice.send(groups[1], "missed before").await;

        let server = server.restart(ending).await;
        let (alice, bob) = (server.device(alice.tokens), server.device(bob.tokens));
        alice.send(groups[0], "missed after").await;
        let mut socket = bob.socket().await;
        let frames = socket.connect(cursors).await;
        assert_eq!(texts(&frames, groups[0]), ["missed before", "missed after"], "{ending:?}");
        assert_eq!(texts(&frames, groups[1]), ["missed before"]);
        for conversation in reached.keys() {
            let seqs = seqs(&frames, *conversation);
            let first = reached[conversation] + 1;
            assert!(seqs.iter().copied().eq(first..first + seqs.len() as u64), "{seqs:?} from {first}");
            assert_eq!(resets(&frames, *conversation), [""; 0], "{ending:?}");
        }
        for (group, head) in groups.into_iter().zip([3, 2, 1]) {
            let found: Conversation = bob.get(&format!("/v1/conversations/{group}")).await.unwrap();
            assert_eq!((found.head, found.epoch), (Seq(head), EPOCH));
        }
    }
}

#[tokio::test]
async fn a_cursor_that_means_nothing_here_gets_a_snapshot() {
    let server = Running::start().await;
    let alice = server.sign_up("alice").await;
    let (foreign, beyond, good) = (alice.group(&[]).await, alice.group(&[]).await, alice.group(&[]).await);
    for group in [foreign, beyond, good] {
        alice.send(group, "text").await;
    }
    let reached = follow_all(&alice, &[foreign, beyond, good]).await;
    assert_eq!(reached[&good], 2);
    let mut socket = alice.socket().await;
    let cursors =
        vec![(foreign, Cursor { epoch: Epoch(7), seq: Seq(2) }), (beyond, cursor(3)), (good, cursor(1))];
    let frames = socket.connect(cursors).await;
    for group in [foreign, beyond] {
        assert_eq!(resets(&frames, group), ["snapshot"]);
        assert_eq!(seqs(&frames, group), [1, 2]);
    }
    assert_eq!(resets(&frames, good), [""; 0]);
    assert_eq!(seqs(&frames, good), [2]);

    // The same through `subscribe`.
    let reference = socket.subscribe(good, Some(cursor(9))).await;
    let frames = socket.until_seq(good, Seq(2)).await;
    assert!(frames.iter().any(|frame| {
        matches!(frame, ServerFrame::Subscribed(subscribed) if subscribed.reference == reference)
    }));
    assert_eq!(resets(&frames, good), ["snapshot"]);
    assert_eq!(seqs(&frames, good), [1, 2]);
}

#[tokio::test]
async fn who_missed_too_much_gets_the_end_of_it_and_a_gap_that_rest_fills() {
    const REPLAY: u64 = 40;
    let server = Running::with(|config| config.limits.replay_entries_max = Some(REPLAY)).await;
    let alice = server.sign_up("alice").await;
    let group = alice.group(&[]).await;
    follow_all(&alice, &[group]).await;
    for n in 2..=150 {
        assert_eq!(alice.send(group, &format!("text {n}")).await, Seq(n));
    }
    for from in [5, 149 - REPLAY] {
        let mut socket = alice.socket().await;
        let frames = socket.connect(vec![(group, cursor(from))]).await;
        let gap = frames.iter().find_map(|frame| match frame {
            ServerFrame::Gap(gap) if gap.conversation_id == group => Some(*gap),
            _ => None,
        });
        let gap = gap.unwrap();
        assert_eq!((gap.epoch, gap.from_seq, gap.to_seq), (EPOCH, Seq(from + 1), Seq(150 - REPLAY)));
        assert_eq!(resets(&frames, group), ["gap"]);
        let filled = alice.entries(group, gap.from_seq.0 - 1, gap.to_seq.0 + 1).await;
        let all: Vec<u64> = filled.iter().chain(&entries(&frames, group)).map(|entry| entry.seq.0).collect();
        assert_eq!(all, (from + 1..=150).collect::<Vec<u64>>());
    }
    // One less, and there is no gap.
    let mut socket = alice.socket().await;
    let frames = socket.connect(vec![(group, cursor(150 - REPLAY))]).await;
    assert_eq!(resets(&frames, group), [""; 0]);
    assert_eq!(seqs(&frames, group), (151 - REPLAY..=150).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_over_any_restart_and_way() {
    let mut server = Running::start().await;
    let mut alice = server.sign_up("alice").await;
    let bob = server.sign_up("bob").await;
    let group = alice.group(&[&bob]).await;
    let (id, other) = (message_id(), message_id());
    assert_eq!(alice.send_as(group, id, "text").await, Ok(Seq(2)));
    assert_eq!(alice.send_as(group, other, "later").await, Ok(Seq(3)));
    for ending in [Ending::Crash, Ending::Stop, Ending::Crash] {
        server = server.restart(ending).await;
        alice = server.device(alice.tokens);
        let bob = server.device(bob.tokens.clone());
        assert_eq!(alice.send_as(group, id, "text").await, Ok(Seq(2)));
        assert_eq!(alice.send_as(group, id, "another text").await, Err(Code::IdConflict));
        assert_eq!(bob.send_as(group, id, "text").await, Err(Code::IdConflict));

        let mut socket = alice.socket().await;
        socket.connect(Vec::new()).await;
        let reference = socket.send(Target::Conversation(group), id, "text").await;
        let answer =
            |frame: &ServerFrame| matches!(frame, ServerFrame::MessageAccepted(_) | ServerFrame::Error(_));
        let frames = socket.until(answer).await;
        let Some(ServerFrame::MessageAccepted(accepted)) = frames.last() else { panic!("{frames:#?}") };
        assert_eq!((accepted.reference, accepted.seq, accepted.message_id), (reference, Seq(2), id));
        assert_eq!(alice.entries(group, 0, 100).await.len(), 3);
    }
}
