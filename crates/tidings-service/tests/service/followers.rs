//! Followers work at least once, and what they write is there exactly once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidings_ports::{Directory, NewSession, Session, ShardLog};
use tidings_service::personal_log;
use tidings_types::{Body, ConversationId, DeviceId, Entry, LogPosition, Seq, SessionId, ShardId};

use crate::support::{Running, World, followed, until};

const FOLLOWER: &str = "personal-0";

async fn personal(running: &Running, person: &Session) -> Vec<Arc<Entry>> {
    running.all(person, personal_log(person)).await
}

/// Waits until the personal log has this many entries behind its first.
async fn await_notes(running: &Running, person: &Session, notes: usize) {
    until("the notes", || async { (personal(running, person).await.len() == notes + 1).then_some(()) }).await;
}

#[tokio::test(start_paused = true)]
async fn joined_and_left_are_noted_once_also_by_a_follower_that_begins_again() {
    let mut world = World::new(1);
    let mut running = world.start().await;
    let (ada, bob) = (world.person(1).await, world.person(2).await);
    let mut wanted: Vec<(ConversationId, bool, u64)> = Vec::new();
    for _ in 0..5 {
        let group = running.group(&world, &ada, &[&bob]).await;
        running.service.remove_member(&ada, group, bob.user).await.unwrap();
        running.service.add_members(&ada, group, vec![bob.user]).await.unwrap();
        wanted.extend([(group, true, 1), (group, false, 2), (group, true, 3)]);
    }
    await_notes(&running, &bob, wanted.len()).await;
    let position = until("the position is committed", || async {
        let position = followed(&world, FOLLOWER).await;
        (position > 0).then_some(position)
    })
    .await;

    for old in [LogPosition::default(), LogPosition::default()] {
        running.stop().await;
        world.crash_tables();
        world.directory.set_follower_position(FOLLOWER, old).await.unwrap();
        running = world.start().await;
        until("the follower has read all of it again", || async {
            (followed(&world, FOLLOWER).await >= position).then_some(())
        })
        .await;
        let log = personal(&running, &bob).await;
        let found: Vec<_> = log[1..].iter().map(|entry| noted(entry)).collect();
        assert_eq!(found, wanted);
    }
    running.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_follower_whose_position_is_not_taken_goes_on_later_and_tells_once() {
    let world = World::new(1);
    let running = world.start().await;
    let (ada, bob) = (world.person(1).await, world.person(2).await);
    world.commits_refused.store(3, Ordering::SeqCst);
    let first = running.group(&world, &ada, &[&bob]).await;
    await_notes(&running, &bob, 1).await;
    until("the refusals are over", || async {
        (world.commits_refused.load(Ordering::SeqCst) == 0).then_some(())
    })
    .await;
    let second = running.group(&world, &ada, &[&bob]).await;
    await_notes(&running, &bob, 2).await;
    let log = personal(&running, &bob).await;
    let found: Vec<_> = log[1..].iter().map(|entry| noted(entry)).collect();
    assert_eq!(found, [(first, true, 1), (second, true, 1)]);
    running.assert_healthy();
}

/// The conversation, whether it was joined, and by which entry.
fn noted(entry: &Entry) -> (ConversationId, bool, u64) {
    match entry.body {
        Body::Joined { conversation, seq } => (conversation, true, seq.0),
        Body::Left { conversation, seq } => (conversation, false, seq.0),
        _ => panic!("{entry:?} is no note about a conversation"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_members_at_once_all_hear_of_it() {
    let world = World::new(4);
    let running = world.start().await;
    let ada = world.person(0).await;
    let mut people = Vec::new();
    for n in 1..=1_000 {
        people.push(world.person(n).await);
    }
    let group = running.group(&world, &ada, &[]).await;
    let users = people.iter().map(|person| person.user).collect();
    running.service.add_members(&ada, group, users).await.unwrap();
    // The group works before everybody has heard.
    running.send(&people[999], group, world.message_id(), "text").await.unwrap();
    for person in &people {
        await_notes(&running, person, 1).await;
        assert_eq!(noted(&personal(&running, person).await[1]), (group, true, 2));
    }
    running.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_removed_device_is_noted_once_also_by_a_follower_that_begins_again() {
    let world = World::new(2);
    let mut running = world.start().await;
    let ada = world.person(1).await;
    let devices: Vec<DeviceId> = (1..=3).map(|n| DeviceId::from_bytes([n; 16])).collect();
    for device in &devices {
        let session = NewSession {
            session: SessionId::from_bytes(*device.as_bytes()),
            user: ada.user,
            device: *device,
            device_name: String::new(),
            refresh_hash: [device.as_bytes()[0]; 32],
            created_at: world.now(),
            devices_max: 20,
        };
        world.directory.open_session(session).await.unwrap();
    }
    for (index, device) in devices.iter().enumerate() {
        world.directory.remove_device(ada.user, *device, world.now()).await.unwrap();
        if index < 2 {
            running.service.on_device_removed();
            await_notes(&running, &ada, index + 1).await;
        } else {
            // The process ends before anybody was told.
            running.stop().await;
            running = world.start().await;
            await_notes(&running, &ada, index + 1).await;
        }
    }
    until("the position is committed", || async { (followed(&world, "devices").await == 3).then_some(()) })
        .await;
    running.stop().await;
    world.directory.set_follower_position("devices", LogPosition::default()).await.unwrap();
    running = world.start().await;
    until("the follower has told all of it again", || async {
        (followed(&world, "devices").await == 3).then_some(())
    })
    .await;
    let log = personal(&running, &ada).await;
    let found: Vec<_> = log[1..].iter().map(|entry| entry.body.clone()).collect();
    let wanted: Vec<_> = devices.iter().map(|device| Body::DeviceRemoved { device: *device }).collect();
    assert_eq!(found, wanted);
    running.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn the_log_is_kept_for_the_checkpoint_before_the_last_and_for_the_follower() {
    const SHARD: ShardId = ShardId(0);
    let world = World::new(1);
    let running = world.start().await;
    let (ada, bob) = (world.person(1).await, world.person(2).await);
    let group = running.group(&world, &ada, &[&bob]).await;
    await_notes(&running, &bob, 1).await;

    let mut previous = None;
    for _ in 0..4 {
        let last = world.tables_position(SHARD);
        for _ in 0..5 {
            running.send(&ada, group, world.message_id(), "text").await.unwrap();
        }
        // A note, so that the follower commits that it has passed all this.
        let before = followed(&world, FOLLOWER).await;
        running.group(&world, &ada, &[]).await;
        until("the follower passes", || async { (followed(&world, FOLLOWER).await > before).then_some(()) })
            .await;
        running.service.checkpoint().await.unwrap();
        let floor = world.log.floor(SHARD);
        assert!(floor <= last, "the checkpoint before this one was at {last}, the log begins at {floor}");
        assert!(previous.is_none_or(|previous| floor >= previous), "it is trimmed at all");
        previous = Some(last.min(tidings_types::Place(before)));
    }
    assert!(world.log.floor(SHARD).0 > 0);

    // A follower that is behind holds it back.
    let held = LogPosition { place: world.log.floor(SHARD), ..LogPosition::default() };
    world.directory.set_follower_position(FOLLOWER, held).await.unwrap();
    for _ in 0..3 {
        running.send(&ada, group, world.message_id(), "text").await.unwrap();
        running.service.checkpoint().await.unwrap();
        assert_eq!(world.log.floor(SHARD), held.place);
    }
    assert_eq!(running.all(&ada, group).await.len(), 24);
    assert_eq!(running.all(&ada, group).await.last().unwrap().seq, Seq(24));
    running.assert_healthy();
}
