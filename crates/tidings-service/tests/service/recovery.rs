//! A process ends anywhere and another one goes on: what was acknowledged is there, and means the same.

use std::collections::BTreeMap;

use tidings_core::SendTarget;
use tidings_ports::memory::SeededRng;
use tidings_ports::{Draft, RecordKind, Session, ShardLog};
use tidings_types::{
    Body, Code, Content, ConversationId, Fence, MessageId, Place, RecordNumber, Seq, ShardId, Timestamp,
    UserId,
};

use crate::support::{Running, World, assert_contiguous, followed, in_time, until};

/// What the clients know: everything here was acknowledged.
#[derive(Default)]
struct Acknowledged {
    groups: BTreeMap<ConversationId, Group>,
}

struct Group {
    head: Seq,
    messages: Vec<(MessageId, String, Seq, Timestamp)>,
    members: BTreeMap<UserId, Seq>,
}

#[tokio::test(start_paused = true)]
async fn whatever_was_acknowledged_outlives_any_crash() {
    for seed in 0..25 {
        println!("seed {seed}");
        random_life(seed).await;
    }
}

async fn random_life(seed: u64) {
    let mut world = World::new(2);
    let rng = SeededRng::new(seed);
    let mut people = Vec::new();
    for n in 0..4 {
        people.push(world.person(n).await);
    }
    let mut known = Acknowledged::default();
    let mut running = world.start().await;
    for step in 0..120 {
        match rng.below(12) {
            0 => create(&world, &running, &people, &mut known).await,
            1 => running.service.checkpoint().await.unwrap(),
            2 | 3 => change_members(&rng, &running, &people, &mut known).await,
            4 if step % 3 == 0 => {
                running.stop().await;
                world.crash_tables();
                running = world.start().await;
                check(&running, &people[0], &known).await;
            }
            5 => world.config.checkpoint_bytes = 1 << (10 + rng.below(10)),
            _ => send(&rng, &world, &running, &people[0], &mut known).await,
        }
    }
    check(&running, &people[0], &known).await;
    running.assert_healthy();
    running.stop().await;
}

async fn create(world: &World, running: &Running, people: &[Session], known: &mut Acknowledged) {
    let id = running.group(world, &people[0], &[&people[1]]).await;
    let members = BTreeMap::from([(people[0].user, Seq(1)), (people[1].user, Seq(1))]);
    known.groups.insert(id, Group { head: Seq(1), messages: Vec::new(), members });
}

async fn change_members(rng: &SeededRng, running: &Running, people: &[Session], known: &mut Acknowledged) {
    let Some((id, group)) = any(rng, known) else { return };
    let user = people[1 + usize::try_from(rng.below(3)).unwrap()].user;
    if group.members.remove(&user).is_some() {
        running.service.remove_member(&people[0], id, user).await.unwrap();
        group.head = group.head.next();
    } else {
        running.service.add_members(&people[0], id, vec![user]).await.unwrap();
        group.head = group.head.next();
        group.members.insert(user, group.head);
    }
}

async fn send(rng: &SeededRng, world: &World, running: &Running, ada: &Session, known: &mut Acknowledged) {
    let Some((id, group)) = any(rng, known) else { return };
    let message_id = world.message_id();
    let text = format!("text {}", rng.next_u64());
    let content = Content::Text(text.as_str().into());
    let target = SendTarget::Conversation(id);
    let (_, seq, at) = running.service.send(ada, target, message_id, content, None).await.unwrap();
    group.head = group.head.next();
    assert_eq!(seq, group.head);
    group.messages.push((message_id, text, seq, at));
}

fn any<'a>(rng: &SeededRng, known: &'a mut Acknowledged) -> Option<(ConversationId, &'a mut Group)> {
    let len = known.groups.len() as u64;
    let index = rng.next_u64().checked_rem(len)?;
    let (id, group) = known.groups.iter_mut().nth(usize::try_from(index).unwrap())?;
    Some((*id, group))
}

async fn check(running: &Running, ada: &Session, known: &Acknowledged) {
    for (id, group) in &known.groups {
        let view = running.service.conversation(ada, *id).await.unwrap();
        assert_eq!((view.head.seq, view.head.epoch.0), (group.head, 1));
        assert_eq!(view.head.messages, group.messages.len() as u64);
        assert_eq!(view.head.member_count as usize, group.members.len());
        let entries = running.all(ada, *id).await;
        assert_contiguous(&entries, 1);
        assert_eq!(entries.len() as u64, group.head.0);
        let (members, _) = running.service.members(ada, *id, None, 100).await.unwrap();
        let members = members.iter().map(|view| (view.user, view.member.visible_from)).collect();
        assert_eq!(group.members, members);
        for (message_id, text, seq, at) in &group.messages {
            let entry = &entries[usize::try_from(seq.0 - 1).unwrap()];
            let Body::Message { message_id: found, content: Content::Text(found_text), .. } = &entry.body
            else {
                panic!("{entry:?} is not the message");
            };
            assert_eq!((found, &**found_text, entry.created_at), (message_id, text.as_str(), *at));
            // A retry gets the first answer, and the same id with another text is another message.
            let (target, content) = (SendTarget::Conversation(*id), Content::Text(text.as_str().into()));
            let (_, again, again_at) =
                running.service.send(ada, target, *message_id, content, None).await.unwrap();
            assert_eq!((again, again_at), (*seq, *at));
            let other = running.send(ada, *id, *message_id, "another").await.unwrap_err();
            assert_eq!(other.code, Code::IdConflict);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_in_a_crash_is_there_whole_or_not_at_all_and_once() {
    for is_lost in [false, true] {
        let mut world = World::new(1);
        let running = world.start().await;
        let ada = world.person(1).await;
        let group = running.group(&world, &ada, &[]).await;
        let sent: Vec<MessageId> = (0..50).map(|_| world.message_id()).collect();

        world.log.log.hold();
        let sends = async {
            let waiting = sent.iter().map(|id| running.send(&ada, group, *id, "text"));
            futures_util::future::join_all(waiting).await
        };
        // Nothing is answered while nothing is durable.
        let early = tokio::time::timeout(std::time::Duration::from_secs(1), sends).await;
        assert!(early.is_err());
        running.stop().await;
        if is_lost {
            world.log.log.crash();
        } else {
            world.log.log.release();
        }
        world.crash_tables();

        let running = world.start().await;
        let mut seqs = Vec::new();
        for id in &sent {
            seqs.push(running.send(&ada, group, *id, "text").await.unwrap());
        }
        assert!(seqs.iter().copied().eq((2..52).map(Seq)), "{seqs:?}");
        let entries = running.all(&ada, group).await;
        assert_contiguous(&entries, 1);
        assert_eq!(entries.len(), 51);
        running.assert_healthy();
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_do_not_count_are_void_for_everybody() {
    let mut world = World::new(1);
    let running = world.start().await;
    let (ada, bob) = (world.person(1).await, world.person(2).await);
    let group = running.group(&world, &ada, &[]).await;
    running.send(&ada, group, world.message_id(), "first").await.unwrap();
    running.service.add_members(&ada, group, vec![bob.user]).await.unwrap();
    until("bob has joined", || async { joins(&running, &bob).await }).await;

    let records = world.log.read(ShardId(0), Place::ZERO, usize::MAX).await.unwrap().records;
    let entries = || records.iter().filter(|record| record.kind == RecordKind::Entries);
    let (last, added) = (entries().next_back().unwrap(), entries().nth(2).unwrap());
    let stray =
        |fence, number| Draft { kind: RecordKind::Entries, fence, number, payload: added.payload.clone() };
    for draft in [
        stray(added.fence, added.number),
        stray(last.fence, last.number),
        stray(last.fence, RecordNumber(last.number.0 + 2)),
        stray(Fence(last.fence.0 + 1), RecordNumber(last.number.0 + 1)),
        stray(Fence(0), RecordNumber(1)),
    ] {
        world.log.append(ShardId(0), draft).await.unwrap();
    }
    let strays_end = world.log.end(ShardId(0));

    let seq = running.send(&ada, group, world.message_id(), "second").await.unwrap();
    assert_eq!(seq, Seq(4));
    running.service.remove_member(&ada, group, bob.user).await.unwrap();
    until("the follower has passed them", || async {
        (followed(&world, "personal-0").await > strays_end.0).then_some(())
    })
    .await;
    for round in 0..2 {
        assert_eq!(running.all(&ada, group).await.len(), 5, "round {round}");
        let personal = running.all(&bob, tidings_service::personal_log(&bob)).await;
        assert_eq!(personal.len(), 3, "round {round}: {personal:#?}");
        if round == 0 {
            running.service.checkpoint().await.unwrap();
        }
    }
    running.stop().await;
    world.tables = std::sync::Arc::new(tidings_ports::memory::MemoryTables::new(1));
    let running = world.start().await;
    assert_eq!(running.all(&ada, group).await.len(), 5, "from the log alone");
    assert_eq!(running.send(&ada, group, world.message_id(), "third").await.unwrap(), Seq(6));
    running.assert_healthy();
}

async fn joins(running: &Running, person: &Session) -> Option<()> {
    let found = running.service.conversations_of(person.space, person.user).await.unwrap();
    (found.len() == 1).then_some(())
}

#[tokio::test(start_paused = true)]
async fn a_start_with_a_full_log_reads_on_when_there_is_room() {
    let world = World::new(1);
    let running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;
    running.stop().await;

    world.log.log.set_full(true);
    let running = world.start().await;
    let refused = in_time("an answer", running.send(&ada, group, world.message_id(), "text")).await;
    assert_eq!(refused.unwrap_err().code, Code::StorageFull);
    world.log.log.set_full(false);
    until("a send is taken", || async { running.send(&ada, group, world.message_id(), "text").await.ok() })
        .await;
    running.assert_healthy();
}
