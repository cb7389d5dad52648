//! Who is told what, through the socket alone.

use tidings_types::{Code, ConversationId, Seq};
use tidings_wire::rest::Conversation;
use tidings_wire::{EntryBody, ServerFrame, Snapshot, Target};

use crate::support::{Running, Socket, entries, message_id, seqs, texts};

fn snapshots(frames: &[ServerFrame], conversation: ConversationId) -> Vec<Snapshot> {
    let snapshot = |frame: &ServerFrame| match frame {
        ServerFrame::Snapshot(snapshot) => Some(snapshot.clone()),
        _ => None,
    };
    frames.iter().filter_map(snapshot).filter(|snapshot| snapshot.conversation_id == conversation).collect()
}

fn personal(frames: &[ServerFrame]) -> ConversationId {
    let personal = frames.iter().find_map(|frame| match frame {
        ServerFrame::Connected(connected) => Some(connected.personal_id),
        _ => None,
    });
    personal.unwrap()
}

/// Up to the personal log's next word that `conversation` was joined (or left).
async fn until_noted(
    socket: &mut Socket,
    log: ConversationId,
    conversation: ConversationId,
    joined: bool,
) -> Vec<ServerFrame> {
    let is_note = |frame: &ServerFrame| match frame {
        ServerFrame::Entry(entry) if entry.conversation_id == log => match &entry.body {
            EntryBody::Joined(note) => joined && note.joined_conversation_id == conversation,
            EntryBody::Left(note) => !joined && note.left_conversation_id == conversation,
            _ => false,
        },
        _ => false,
    };
    socket.until(is_note).await
}

#[tokio::test]
async fn who_was_away_when_added_sees_the_group_and_what_was_written_in_order() {
    let server = Running::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let group = alice.group(&[]).await;
    alice.send(group, "before bob").await;
    alice.add(group, &bob).await;
    alice.send(group, "for bob").await;

    // The personal log follows the group's log at its own pace: live or while catching up, bob hears of it.
    let mut socket = bob.socket().await;
    let mut frames = socket.connect(Vec::new()).await;
    if seqs(&frames, group).last() != Some(&4) {
        frames.extend(socket.until_seq(group, Seq(4)).await);
    }
    assert_eq!(seqs(&frames, group), [3, 4]);
    assert_eq!(texts(&frames, group), ["for bob"]);
    let [snapshot] = &snapshots(&frames, group)[..] else { panic!("one snapshot: {frames:#?}") };
    assert_eq!(snapshot.visible_from, Seq(3));
    let log = personal(&frames);
    let notes = entries(&frames, log);
    let joined = notes.iter().any(
        |entry| matches!(&entry.body, EntryBody::Joined(joined) if joined.joined_conversation_id == group),
    );
    assert!(joined, "{notes:#?}");
}

#[tokio::test]
async fn a_removed_member_gets_nothing_after_the_removal_and_a_new_view_when_added_again() {
    let server = Running::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let group = alice.group(&[&bob]).await;
    let mut socket = bob.socket().await;
    let mut frames = socket.connect(Vec::new()).await;
    let log = personal(&frames);
    alice.send(group, "welcome").await;
    if !seqs(&frames, group).contains(&2) {
        frames.extend(socket.until_seq(group, Seq(2)).await);
    }

    alice.remove(group, &bob).await;
    let gone = bob.get::<Conversation>(&format!("/v1/conversations/{group}")).await;
    assert_eq!(gone.unwrap_err(), Code::NotFound, "at once, whatever the socket knows");
    assert_eq!(bob.send_as(group, message_id(), "me too").await, Err(Code::NotFound));
    for n in 0..5 {
        alice.send(group, &format!("without bob {n}")).await;
    }
    let mut frames = until_noted(&mut socket, log, group, false).await;
    frames.extend(socket.round_trip().await);
    assert_eq!(seqs(&frames, group), [3], "the removal is the last that bob is told");
    assert!(matches!(
        &entries(&frames, group)[0].body,
        EntryBody::MemberRemoved(removed) if removed.user_id == bob.user()
    ));
    let refused = socket.subscribe(group, None).await;
    let frames = socket.until(|frame| matches!(frame, ServerFrame::Error(_))).await;
    assert_eq!(seqs(&frames, group), [0; 0]);
    assert!(matches!(
        frames.last().unwrap(),
        ServerFrame::Error(error) if error.reference == Some(refused) && error.code == Code::NotFound
    ));

    alice.add(group, &bob).await;
    let last = alice.send(group, "bob again").await;
    let frames = socket.until_seq(group, last).await;
    assert_eq!(seqs(&frames, group), [9, 10]);
    let [snapshot] = &snapshots(&frames, group)[..] else { panic!("one snapshot: {frames:#?}") };
    assert_eq!(snapshot.visible_from, Seq(9));
    let between = bob.entries(group, 0, 100).await;
    assert_eq!(between.iter().map(|entry| entry.seq.0).collect::<Vec<_>>(), [9, 10]);
}

#[tokio::test]
async fn who_is_online_when_added_follows_at_once() {
    let server = Running::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let mut socket = bob.socket().await;
    let log = personal(&socket.connect(Vec::new()).await);
    let group = alice.group(&[]).await;
    alice.send(group, "before bob").await;
    alice.add(group, &bob).await;
    let joined = until_noted(&mut socket, log, group, true).await;
    assert_eq!(seqs(&joined, group), [0; 0]);
    let last = alice.send(group, "hello bob").await;
    let frames = socket.until_seq(group, last).await;
    assert_eq!(seqs(&frames, group), [3, 4]);
    assert_eq!(snapshots(&frames, group).len(), 1);
}

#[tokio::test]
async fn all_devices_of_a_user_see_the_same_and_so_does_the_one_that_sends() {
    let server = Running::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let phone = server.sign_in("alice", crate::support::PASSWORD).await;
    assert_eq!(phone.user(), alice.user());
    let group = alice.group(&[&bob]).await;
    let mut sockets = [alice.socket().await, phone.socket().await, bob.socket().await];
    for socket in &mut sockets {
        let mut frames = socket.connect(Vec::new()).await;
        if seqs(&frames, group).is_empty() {
            frames.extend(socket.until_seq(group, Seq(1)).await);
        }
    }
    for n in 0..20_usize {
        sockets[n % 3].send(Target::Conversation(group), message_id(), &format!("text {n}")).await;
    }
    let mut seen = Vec::new();
    for socket in &mut sockets {
        let frames = socket.until_seq(group, Seq(21)).await;
        assert_eq!(seqs(&frames, group), (2..=21).collect::<Vec<u64>>());
        seen.push(texts(&frames, group));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

#[tokio::test]
async fn two_people_who_write_to_each_other_first_get_one_conversation() {
    let server = Running::start().await;
    let (alice, bob) = (server.sign_up("alice").await, server.sign_up("bob").await);
    let (mut at_alice, mut at_bob) = (alice.socket().await, bob.socket().await);
    at_alice.connect(Vec::new()).await;
    at_bob.connect(Vec::new()).await;
    at_alice.send(Target::Recipient(bob.user()), message_id(), "hello bob").await;
    at_bob.send(Target::Recipient(alice.user()), message_id(), "hello alice").await;
    let accepted = |frame: &ServerFrame| matches!(frame, ServerFrame::MessageAccepted(_));
    let mut conversations = Vec::new();
    let mut both = Vec::new();
    for socket in [&mut at_alice, &mut at_bob] {
        let mut frames = socket.until(accepted).await;
        let Some(ServerFrame::MessageAccepted(accepted)) = frames.last().cloned() else { unreachable!() };
        let conversation = accepted.conversation_id;
        if !seqs(&frames, conversation).contains(&3) {
            frames.extend(socket.until_seq(conversation, Seq(3)).await);
        }
        assert_eq!(seqs(&frames, conversation), [1, 2, 3]);
        conversations.push(conversation);
        both.push(texts(&frames, conversation));
    }
    assert_eq!(conversations[0], conversations[1]);
    assert_eq!(both[0], both[1]);

    let stranger = at_alice.send(Target::Recipient(alice.user()), message_id(), "myself").await;
    let frames = at_alice.until(|frame| matches!(frame, ServerFrame::Error(_))).await;
    assert!(matches!(
        frames.last().unwrap(),
        ServerFrame::Error(error) if error.reference == Some(stranger) && error.code == Code::Invalid
    ));
}
