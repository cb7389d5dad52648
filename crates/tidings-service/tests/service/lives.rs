//! Many clients at once, small caches, faults and crashes at any moment: the promises hold over all of a server's lives.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{Either, join_all, select};
use tidings_ports::Session;
use tidings_ports::memory::SeededRng;
use tidings_types::{Body, Code, Content, ConversationId, ConversationKey, Entry, Limits, MessageId, Seq};

use crate::support::{Fault, Running, World};

const SEEDS: u64 = 40;
const LIVES: u64 = 5;
const CLIENTS: usize = 6;
const SENDS_PER_CLIENT: usize = 40;

/// What one client has sent, or still has to.
struct Client {
    session: Session,
    messages: Vec<Message>,
    done: usize,
}

struct Message {
    group: ConversationId,
    id: MessageId,
    text: String,
    seq: Option<Seq>,
}

/// What somebody who only reads has seen. It never changes.
#[derive(Default)]
struct Reader {
    seen: RefCell<BTreeMap<ConversationId, Vec<Seen>>>,
}

/// A message and its text; nothing for an entry that is none.
type Seen = (Option<MessageId>, String);

#[tokio::test(start_paused = true)]
async fn nothing_acknowledged_is_lost_doubled_or_moved() {
    let mut cut_short = 0;
    for seed in 0..SEEDS {
        println!("seed {seed}");
        cut_short += lives(seed).await;
    }
    assert!(cut_short > 2 * SEEDS, "only {cut_short} lives ended while somebody was still sending");
}

/// Answers how many lives ended before the clients were done.
async fn lives(seed: u64) -> u64 {
    let rng = SeededRng::new(seed);
    let mut world = World::with(2, small_limits(&rng));
    world.yielding = true;
    world.config.checkpoint_bytes = 4_000;
    let running = world.start().await;
    let mut people = Vec::new();
    for n in 0..CLIENTS {
        people.push(world.person(u16::try_from(n).unwrap()).await);
    }
    let members: Vec<&Session> = people[1..].iter().collect();
    let mut groups = Vec::new();
    for _ in 0..3 {
        groups.push(running.group(&world, &people[0], &members).await);
    }
    running.stop().await;

    let mut clients: Vec<Client> =
        people.into_iter().map(|session| Client { session, messages: Vec::new(), done: 0 }).collect();
    let reader = Reader::default();
    let mut cut_short = 0;
    for life in 0..LIVES {
        let running = world.start().await;
        let is_last = life + 1 == LIVES;
        let sends = join_all(clients.iter_mut().map(|client| client.live(&world, &running, &rng, &groups)));
        let disturbances = disturb(&world, &running, &rng, &groups, &reader, is_last);
        match select(Box::pin(sends), Box::pin(disturbances)).await {
            Either::Left(_) => {}
            Either::Right(((), sends)) if is_last => drop(sends.await),
            // The process ends whatever was on its way.
            Either::Right(((), sends)) => drop(sends),
        }
        running.assert_healthy();
        running.stop().await;
        world.crash_tables();
        cut_short += u64::from(clients.iter().any(|client| client.done < SENDS_PER_CLIENT));
    }
    let running = world.start().await;
    check(&running, &clients, &groups, &reader).await;
    running.stop().await;
    cut_short
}

/// Everything is evicted, cut and bounded all the time.
fn small_limits(rng: &SeededRng) -> Limits {
    let size = |below: u64| 1 + usize::try_from(rng.below(below)).unwrap();
    Limits {
        facts_cached_max: size(20),
        ids_cached_max: size(20),
        record_bytes_max: 600 + 200 * size(10),
        appends_in_flight_max: size(4),
        page_bytes_max: 500 * size(4),
        replay_entries_max: 7,
        ..Limits::default()
    }
}

impl Client {
    /// Sends until all is acknowledged. A refusal that says "later" is tried again, as every client does.
    async fn live(&mut self, world: &World, running: &Running, rng: &SeededRng, groups: &[ConversationId]) {
        while self.done < SENDS_PER_CLIENT {
            if self.messages.len() == self.done {
                let group = groups[usize::try_from(rng.below(groups.len() as u64)).unwrap()];
                let text = "x".repeat(1 + usize::try_from(rng.below(300)).unwrap());
                self.messages.push(Message { group, id: world.message_id(), text, seq: None });
            }
            let message = &mut self.messages[self.done];
            match running.send(&self.session, message.group, message.id, &message.text).await {
                Ok(seq) => {
                    message.seq = Some(seq);
                    self.done += 1;
                }
                Err(refusal) => {
                    assert!(matches!(refusal.code, Code::StorageFull | Code::Overloaded), "{refusal}");
                    give_way(rng.below(20)).await;
                }
            }
        }
    }
}

/// Faults, checkpoints and a reader beside the clients, for a while.
async fn disturb(
    world: &World,
    running: &Running,
    rng: &SeededRng,
    groups: &[ConversationId],
    reader: &Reader,
    is_last: bool,
) {
    let steps = if is_last { 20 } else { 3 + rng.below(12) };
    for _ in 0..steps {
        match rng.below(8) {
            0 => world.log.plan([Fault::UnknownWritten, Fault::None, Fault::UnknownLost]),
            1 => world.log.plan([Fault::UnknownLost]),
            2 => world.log.plan([Fault::Full, Fault::None]),
            3 | 4 => running.service.checkpoint().await.unwrap(),
            _ => {
                for group in groups {
                    reader.read_on(running, *group).await;
                }
            }
        }
        give_way(rng.below(20)).await;
    }
}

impl Reader {
    async fn read_on(&self, running: &Running, group: ConversationId) {
        let key = ConversationKey { space: tidings_types::SpaceId::DEFAULT, conversation: group };
        let reached = self.seen.borrow().get(&group).map_or(0, Vec::len) as u64;
        let page = running.service.entries_after(key, Seq(reached)).await.unwrap();
        crate::support::assert_contiguous(&page, reached + 1);
        self.seen.borrow_mut().entry(group).or_default().extend(page.iter().map(|entry| content(entry)));
    }
}

fn content(entry: &Entry) -> Seen {
    match &entry.body {
        Body::Message { message_id, content: Content::Text(text), .. } => {
            (Some(*message_id), text.to_string())
        }
        _ => (None, String::new()),
    }
}

async fn give_way(times: u64) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}

async fn check(running: &Running, clients: &[Client], groups: &[ConversationId], reader: &Reader) {
    for group in groups {
        let entries = running.all(&clients[0].session, *group).await;
        crate::support::assert_contiguous(&entries, 1);
        let found: Vec<_> = entries.iter().map(|entry| content(entry)).collect();
        let seen = reader.seen.borrow();
        let seen = seen.get(group).map_or(&[][..], Vec::as_slice);
        assert!(found.starts_with(seen), "what was read once has changed");

        let ids: Vec<MessageId> = found.iter().filter_map(|(id, _)| *id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "a message is there twice");
        let sent = clients.iter().flat_map(|client| &client.messages).filter(|sent| sent.group == *group);
        let mut known = 0;
        for message in sent {
            let seq = message.seq.expect("the last life acknowledges everything");
            let entry = &found[usize::try_from(seq.0 - 1).unwrap()];
            assert_eq!(*entry, (Some(message.id), message.text.clone()), "at {seq}");
            known += 1;
        }
        assert_eq!(ids.len(), known, "nobody sent the rest");
        assert_eq!(entries.last().unwrap().messages, known as u64);
    }
}
