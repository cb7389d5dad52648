//! After the last restart: every device comes back, everything is read through REST by fresh devices, and nobody writes any
//! more. What was read goes into the journal; the checker judges it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tidings_client::{Cursors, Rest};
use tidings_types::{Code, ConversationId, Seq, UserId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::check::Truth;
use super::device::{Device, read_range};
use super::dice::Dice;
use super::held::Holdings;
use super::journal::{DeviceJournal, Ending, Journal, List, Probe, Read};
use super::town::{Person, Town};
use super::world::World;

/// From the last restart to the moment when every device has everything.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Of which for repeating what was not answered, and for the personal logs.
const STEP_TIMEOUT: Duration = Duration::from_secs(45);
const READERS_AT_ONCE: usize = 8;
const PROBES_PER_USER: usize = 3;
/// Fresh devices are numbered from here.
const FRESH: usize = 100_000;

/// What every device must have at the end.
#[derive(Debug)]
pub(crate) struct Goals {
    heads: HashMap<ConversationId, Seq>,
    conversations: HashMap<UserId, BTreeSet<ConversationId>>,
}

impl Goals {
    pub(crate) fn of(truth: &Truth) -> Self {
        let mut conversations: HashMap<UserId, BTreeSet<ConversationId>> = HashMap::new();
        for (user, conversation) in truth.memberships() {
            conversations.entry(user).or_default().insert(conversation);
        }
        Self { heads: truth.heads().collect(), conversations }
    }

    pub(crate) fn are_met(&self, user: UserId, holdings: &Holdings) -> bool {
        let positions = holdings.positions();
        let reached = |id| positions.get(id).zip(self.heads.get(id)).is_some_and(|(have, head)| have >= head);
        self.conversations.get(&user).is_none_or(|ids| ids.iter().all(reached))
    }
}

/// `devices` are those of the run; the server runs.
pub(crate) async fn end(
    world: &Arc<World>,
    town: &Arc<Town>,
    devices: Vec<Device>,
    dice: &mut Dice,
) -> Journal {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let goals = watch::Sender::new(None);
    let count = devices.len() as u64;
    let mut settling = JoinSet::new();
    devices.into_iter().for_each(|device| settle(&mut settling, device, &goals, deadline));
    wait_until(deadline.min(Instant::now() + STEP_TIMEOUT), || world.counters.settled.value() >= count).await;

    let fresh = sign_in_all(&town.people).await;
    let shared = read_shared(world, town, &fresh).await;
    let personal = read_personal_logs(world, town, &fresh, &Truth::of(&shared)).await;
    let truth = Truth::of(shared.iter().chain(&personal));
    goals.send_replace(Some(Arc::new(Goals::of(&truth))));
    for (index, rest) in fresh.iter().flatten().enumerate() {
        let dice = Dice::new(dice.roll(), index as u64);
        if let Some(device) = Device::new(FRESH + index, rest.clone(), Vec::new(), Arc::clone(world), dice) {
            settle(&mut settling, device, &goals, deadline);
        }
    }
    let mut ending = read_everything(town, &fresh, &truth).await;
    ending.reads.extend(personal);
    // Only where the fresh device of the owner could not read it.
    ending.reads.extend(shared);
    let mut devices: Vec<DeviceJournal> = settling.join_all().await;
    devices.sort_unstable_by_key(|device| device.number);
    Journal { devices, ending: Some(ending) }
}

fn settle(
    settling: &mut JoinSet<DeviceJournal>,
    mut device: Device,
    goals: &watch::Sender<Option<Arc<Goals>>>,
    deadline: Instant,
) {
    let mut goals = goals.subscribe();
    settling.spawn(async move {
        // One that does not make it says so by having no end in its journal.
        drop(timeout_at(deadline, device.settle(&mut goals)).await);
        device.into_journal()
    });
}

async fn wait_until(deadline: Instant, is_so: impl Fn() -> bool) {
    while !is_so() && Instant::now() < deadline {
        sleep(Duration::from_millis(20)).await;
    }
}

/// `None` for a person who cannot sign in any more; their reads are missing then, and the checker says so.
async fn sign_in_all(people: &[Person]) -> Vec<Option<Rest>> {
    let signing_in = stream::iter(people).map(|person| async { person.sign_in_afresh().await.ok() });
    signing_in.buffered(READERS_AT_ONCE).collect().await
}

/// Every conversation of more than one, by somebody who was in it from its beginning to its end.
async fn read_shared(world: &World, town: &Town, fresh: &[Option<Rest>]) -> Vec<Read> {
    let by_user: HashMap<UserId, &Rest> = town
        .people
        .iter()
        .zip(fresh)
        .filter_map(|(person, rest)| Some((person.user, rest.as_ref()?)))
        .collect();
    let groups = town.groups.iter().map(|group| (group.id, town.people[group.owner].user));
    let all: BTreeMap<ConversationId, UserId> = groups.chain(world.directs()).collect();
    let reading = stream::iter(all).map(|(id, user)| {
        let rest = by_user.get(&user).copied();
        async move { read_one(rest?, user, id).await.ok() }
    });
    reading.buffer_unordered(READERS_AT_ONCE).filter_map(std::future::ready).collect().await
}

/// The followers write them some moments after the entries that cause them.
async fn read_personal_logs(world: &World, town: &Town, fresh: &[Option<Rest>], shared: &Truth) -> Vec<Read> {
    let deadline = Instant::now() + STEP_TIMEOUT;
    let reading = stream::iter(town.people.iter().zip(fresh)).map(|(person, rest)| async move {
        let (rest, id) = (rest.as_ref()?, world.personal_log(person.user)?);
        let notes = shared.notes_for(person.user).len();
        loop {
            let entries = read_range(rest, id, Seq(1), Seq::MAX).await.unwrap_or_default();
            // One more: the entry that creates the log, together with the first note.
            if notes == 0 || entries.len() > notes || Instant::now() > deadline {
                let entries = entries.into_iter().map(Arc::new).collect();
                return Some(Read { user: person.user, conversation: id, visible_from: Seq(1), entries });
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    reading.buffer_unordered(READERS_AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn read_everything(town: &Town, fresh: &[Option<Rest>], truth: &Truth) -> Ending {
    let reading = stream::iter(town.people.iter().zip(fresh)).map(|(person, rest)| async move {
        let mut ending = Ending::default();
        if let Some(rest) = rest {
            read_as(&mut ending, rest, person.user, truth).await;
        }
        ending
    });
    let parts: Vec<Ending> = reading.buffer_unordered(READERS_AT_ONCE).collect().await;
    parts.into_iter().fold(Ending::default(), |mut all, part| {
        all.lists.extend(part.lists);
        all.reads.extend(part.reads);
        all.probes.extend(part.probes);
        all
    })
}

async fn read_as(ending: &mut Ending, rest: &Rest, user: UserId, truth: &Truth) {
    let conversations = list(rest).await.unwrap_or_default();
    for id in &conversations {
        if let Ok(read) = read_one(rest, user, *id).await {
            ending.reads.push(read);
        }
    }
    let foreign = truth.heads().map(|(id, _)| id).filter(|id| !truth.is_member(user, *id));
    for conversation in foreign.take(PROBES_PER_USER) {
        let answer = rest.entries(conversation, tidings_client::Range::after(Seq::ZERO)).await;
        ending.probes.push(Probe { user, conversation, was_answered: answer.is_ok() });
    }
    ending.lists.push(List { user, conversations });
}

async fn list(rest: &Rest) -> Result<BTreeSet<ConversationId>, Option<Code>> {
    let (mut ids, mut page) = (BTreeSet::new(), Cursors::default());
    loop {
        let answer = rest.conversations(&page).await.map_err(|error| error.code())?;
        ids.extend(answer.items.iter().map(|item| item.conversation_id));
        page.cursor = answer.next_cursor;
        if page.cursor.is_none() {
            return Ok(ids);
        }
    }
}

async fn read_one(rest: &Rest, user: UserId, id: ConversationId) -> Result<Read, Option<Code>> {
    let view = rest.conversation(id).await.map_err(|error| error.code())?;
    let entries = read_range(rest, id, view.visible_from, view.head).await?;
    let entries = entries.into_iter().map(Arc::new).collect();
    Ok(Read { user, conversation: id, visible_from: view.visible_from, entries })
}
