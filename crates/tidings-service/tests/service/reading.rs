//! The tail and the tables read as one, wherever one ends and the other begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join;
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, prop_oneof, proptest};
use tidings_ports::Session;
use tidings_service::{MessagesQuery, PageEnd};
use tidings_types::{
    Body, Code, Content, ConversationId, ConversationKey, Entry, Limits, MessageId, Seq, SpaceId, UserId,
};

use crate::support::{Running, World, assert_contiguous, until};

const ENTRIES: u64 = 10;

#[tokio::test(start_paused = true)]
async fn pages_are_the_same_wherever_the_tables_end() {
    for checkpoint_after in 1..=ENTRIES {
        let world = World::new(1);
        let running = world.start().await;
        let ada = world.person(1).await;
        let group = running.group(&world, &ada, &[]).await;
        for seq in 1..=ENTRIES {
            if seq > 1 {
                running.send(&ada, group, world.message_id(), &format!("text {seq}")).await.unwrap();
            }
            if seq == checkpoint_after {
                running.service.checkpoint().await.unwrap();
            }
        }
        for after in std::iter::once(None).chain((0..=ENTRIES + 1).map(Some)) {
            for before in std::iter::once(None).chain((0..=ENTRIES + 2).map(Some)) {
                for limit in [1, 2, 4, 100] {
                    check_page(&running, &ada, group, after, before, limit).await;
                }
            }
        }
        running.assert_healthy();
    }
}

async fn check_page(
    running: &Running,
    reader: &Session,
    group: ConversationId,
    after: Option<u64>,
    before: Option<u64>,
    limit: usize,
) {
    let wanted: Vec<u64> = (1..=ENTRIES)
        .filter(|seq| after.is_none_or(|after| *seq > after) && before.is_none_or(|before| *seq < before))
        .collect();
    let wanted = match after {
        None => &wanted[wanted.len().saturating_sub(limit)..],
        Some(_) => &wanted[..wanted.len().min(limit)],
    };
    let page = running.service.entries_page(reader, group, after.map(Seq), before.map(Seq), limit).await;
    let page: Vec<u64> = page.unwrap().iter().map(|entry| entry.seq.0).collect();
    assert_eq!(page, wanted, "after {after:?} before {before:?} limit {limit}");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A message of so many bytes.
    Send(usize),
    Checkpoint,
    /// The process ends and starts again; the tables lose any of what was not durable.
    Crash,
    Forward {
        after: u64,
        limit: usize,
    },
    Backward {
        before: u64,
        limit: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..400_usize).prop_map(Step::Send),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
        4 => (0..30_u64, 1..12_usize).prop_map(|(after, limit)| Step::Forward { after, limit }),
        4 => (1..32_u64, 1..12_usize).prop_map(|(before, limit)| Step::Backward { before, limit }),
    ];
    vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a plain vector. Pages are bounded in bytes, too.
    #[test]
    fn reading_is_like_reading_a_vector(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(like_a_vector(steps));
    }
}

async fn like_a_vector(steps: Vec<Step>) {
    const PAGE_BYTES: usize = 1_000;
    let limits = Limits { page_bytes_max: PAGE_BYTES, ..Limits::default() };
    let mut world = World::with(2, limits);
    let mut running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;
    let mut lens = vec![0];
    for step in steps {
        match step {
            Step::Send(len) => {
                let seq = running.send(&ada, group, world.message_id(), &"x".repeat(len)).await.unwrap();
                lens.push(len);
                assert_eq!(seq, Seq(lens.len() as u64));
            }
            Step::Checkpoint => running.service.checkpoint().await.unwrap(),
            Step::Crash => {
                running.stop().await;
                world.crash_tables();
                running = world.start().await;
            }
            Step::Forward { after, limit } => {
                let page = running.service.entries_page(&ada, group, Some(Seq(after)), None, limit).await;
                let page = page.unwrap();
                assert_contiguous(&page, after + 1);
                check_size(&page, &lens, limit, (lens.len() as u64).saturating_sub(after), PAGE_BYTES);
            }
            Step::Backward { before, limit } => {
                let page = running.service.entries_page(&ada, group, None, Some(Seq(before)), limit).await;
                let page = page.unwrap();
                let there = (lens.len() as u64).min(before - 1);
                assert_contiguous(&page, there + 1 - page.len() as u64);
                check_size(&page, &lens, limit, there, PAGE_BYTES);
            }
        }
        running.assert_healthy();
    }
    running.stop().await;
}

/// As many as there are, unless a limit cut the page: then at least one, and texts within the bound.
fn check_size(page: &[Arc<Entry>], lens: &[usize], limit: usize, there: u64, bytes_max: usize) {
    let wanted = limit.min(usize::try_from(there).unwrap());
    let bytes: usize = page.iter().map(|entry| text_len(entry)).sum();
    let longest = lens.iter().copied().max().unwrap();
    assert!(page.len() <= wanted);
    assert!(page.len() == wanted || !page.is_empty(), "there are {there} and none came");
    assert!(page.len() <= 1 || bytes <= bytes_max, "{bytes} bytes in {} entries", page.len());
    // Half of the bound is for what the tables count besides the text.
    let full = bytes + longest >= bytes_max / 3;
    assert!(page.len() == wanted || full, "{} of {wanted} entries, {bytes} bytes", page.len());
}

fn text_len(entry: &Entry) -> usize {
    match &entry.body {
        Body::Message { content: Content::Text(text), .. } => text.len(),
        _ => 0,
    }
}

#[tokio::test(start_paused = true)]
async fn readers_beside_checkpoints_miss_nothing() {
    const SENDS: u64 = 300;
    let mut world = World::new(1);
    world.yielding = true;
    let running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;
    let key = ConversationKey { space: SpaceId::DEFAULT, conversation: group };

    let sends = async {
        for _ in 0..SENDS {
            running.send(&ada, group, world.message_id(), "text").await.unwrap();
        }
    };
    let service = &running.service;
    let checkpoints = async {
        for _ in 0..40 {
            service.checkpoint().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let follow = async {
        let mut reached = Seq::ZERO;
        while reached.0 <= SENDS {
            let page = service.entries_after(key, reached).await.unwrap();
            assert_contiguous(&page, reached.0 + 1);
            reached = page.last().map_or(reached, |entry| entry.seq);
            tokio::task::yield_now().await;
        }
    };
    let look_back = async {
        let mut seen = Seq::ZERO;
        while seen.0 <= SENDS {
            let page = service.entries_page(&ada, group, None, None, 100).await.unwrap();
            let last = page.last().unwrap().seq;
            assert!(last >= seen, "the head went back from {seen} to {last}");
            assert_eq!(page.len() as u64, last.0.min(100));
            assert_contiguous(&page, last.0 + 1 - page.len() as u64);
            seen = last;
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(sends, checkpoints, follow, look_back);
    running.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn members_are_paged_with_the_tails_changes_laid_over() {
    let world = World::new(2);
    let running = world.start().await;
    let owner = world.person(0).await;
    let mut people = Vec::new();
    for n in 1..=1_500 {
        people.push(world.person(n).await);
    }
    let users: Vec<UserId> = people.iter().map(|person| person.user).collect();
    let group = running.group(&world, &owner, &[]).await;
    let mut present = BTreeMap::from([(owner.user, Seq(1))]);
    let mut seq = 1;
    let service = &running.service;

    // Every third step is followed by a checkpoint: rows in the tables, in the tail, and changed in both.
    for (step, part) in users.chunks(300).enumerate() {
        service.add_members(&owner, group, part.to_vec()).await.unwrap();
        seq += 1;
        present.extend(part.iter().map(|user| (*user, Seq(seq))));
        for user in part.iter().step_by(7) {
            service.remove_member(&owner, group, *user).await.unwrap();
            seq += 1;
            present.remove(user);
        }
        if step % 3 == 1 {
            service.checkpoint().await.unwrap();
        }
        for user in part.iter().step_by(14) {
            service.add_members(&owner, group, vec![*user]).await.unwrap();
            seq += 1;
            present.insert(*user, Seq(seq));
        }
        assert_members(&running, &owner, group, &present).await;
    }
    service.checkpoint().await.unwrap();
    assert_members(&running, &owner, group, &present).await;
    let view = service.conversation(&owner, group).await.unwrap();
    assert_eq!(view.head.member_count as usize, present.len());
    running.assert_healthy();
}

async fn assert_members(
    running: &Running,
    reader: &Session,
    group: ConversationId,
    present: &BTreeMap<UserId, Seq>,
) {
    for limit in [present.len(), present.len() + 1, 97] {
        let mut found = Vec::new();
        loop {
            let after = found.last().map(|(user, _)| *user);
            let (page, end) = running.service.members(reader, group, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            assert!(!page.is_empty() || end == PageEnd::Last);
            found.extend(page.iter().map(|view| (view.user, view.member.visible_from)));
            if end == PageEnd::Last {
                break;
            }
        }
        let wanted: Vec<_> = present.iter().map(|(user, seq)| (*user, *seq)).collect();
        assert!(found == wanted, "{} found, {} wanted, limit {limit}", found.len(), wanted.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_users_conversations_are_those_joined_and_not_left() {
    let mut world = World::new(3);
    let mut running = world.start().await;
    let (ada, bob) = (world.person(1).await, world.person(2).await);
    let mut joined = Vec::new();
    for n in 0..30 {
        let group = running.group(&world, &ada, &[&bob]).await;
        if n % 3 == 0 {
            await_conversations(&running, &bob, &[joined.clone(), vec![group]].concat()).await;
            running.service.remove_member(&ada, group, bob.user).await.unwrap();
        } else {
            joined.push(group);
        }
        match n {
            7 | 19 => running.service.checkpoint().await.unwrap(),
            13 => {
                running.stop().await;
                world.crash_tables();
                running = world.start().await;
            }
            _ => {}
        }
        await_conversations(&running, &bob, &joined).await;
    }
    running.assert_healthy();
}

async fn await_conversations(running: &Running, person: &Session, wanted: &[ConversationId]) {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    until("the user's conversations", || async {
        let mut found = running.service.conversations_of(person.space, person.user).await.unwrap();
        found.sort_unstable();
        (found == wanted).then_some(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_message_is_found_by_its_id_in_the_tail_in_the_tables_and_after_a_restart() {
    let mut world = World::new(1);
    let mut running = world.start().await;
    let (ada, bob) = (world.person(1).await, world.person(2).await);
    let group = running.group(&world, &ada, &[]).await;
    let mut ids: Vec<(MessageId, Seq)> = Vec::new();
    for round in 0..5 {
        for _ in 0..5 {
            let id = world.message_id();
            ids.push((id, running.send(&ada, group, id, "text").await.unwrap()));
        }
        match round {
            0 | 2 => running.service.checkpoint().await.unwrap(),
            1 | 3 => {
                running.stop().await;
                world.crash_tables();
                running = world.start().await;
            }
            _ => {}
        }
        for (id, seq) in &ids {
            let found = running.service.message(&ada, group, *id).await.unwrap();
            assert_eq!(found.seq, *seq);
            assert!(matches!(&found.body, Body::Message { message_id, .. } if message_id == id));
        }
    }
    let unknown = running.service.message(&ada, group, world.message_id()).await.unwrap_err();
    assert_eq!(unknown.code, Code::NotFound);

    // Whoever joins later does not find what was said before.
    running.service.add_members(&ada, group, vec![bob.user]).await.unwrap();
    let (early, _) = ids[0];
    assert_eq!(running.service.message(&bob, group, early).await.unwrap_err().code, Code::NotFound);
    running.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_read_that_began_before_the_removal_does_not_see_behind_it() {
    let mut world = World::new(1);
    world.yielding = true;
    let running = world.start().await;
    let (ada, bob, eve) = (world.person(1).await, world.person(2).await, world.person(3).await);
    for round in 0..20 {
        let group = running.group(&world, &ada, &[&bob]).await;
        // Much to read before the first message: several pages, each of which gives way to others.
        for _ in 0..40 {
            running.service.add_members(&ada, group, vec![eve.user]).await.unwrap();
            running.service.remove_member(&ada, group, eve.user).await.unwrap();
        }
        running.service.checkpoint().await.unwrap();
        let query = MessagesQuery { after: Some(Seq::ZERO), limit: 50, ..MessagesQuery::default() };
        let reading = running.service.messages(&bob, group, query);
        let removing = async {
            running.service.remove_member(&ada, group, bob.user).await.unwrap();
            running.send(&ada, group, world.message_id(), "not for Bob").await.unwrap();
        };
        let (read, ()) = join(reading, removing).await;
        if let Ok(messages) = read {
            assert!(messages.is_empty(), "round {round}: {messages:?}");
        }
    }
    running.assert_healthy();
}
