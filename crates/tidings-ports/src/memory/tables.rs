//! The tables in memory. One lock over everything, so each method is one step.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tidings_record::encode_entry;
use tidings_types::{
    Body, ConversationKey, Entry, Head, IdRecord, LogPosition, Member, MessageId, PersonalFact,
    PersonalSubject, Seq, ShardId, Timestamp, UserId,
};

use crate::{EntryRange, Projection, Tables, TablesError};

/// Tables that last as long as the value. [`MemoryTables::crash`] takes away what was not durable.
#[derive(Debug)]
pub struct MemoryTables {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    now: Rows,
    /// What the last checkpoint has.
    durable: Rows,
    /// Projected since then, in order.
    pending: Vec<Projection>,
}

#[derive(Clone, Debug)]
struct Rows {
    shards: Vec<Shard>,
    heads: BTreeMap<ConversationKey, Head>,
    members: BTreeMap<(ConversationKey, UserId), Member>,
    personal: BTreeMap<(ConversationKey, [u8; 16]), (PersonalSubject, PersonalFact)>,
    entries: BTreeMap<(ConversationKey, Seq), Arc<Entry>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shard {
    position: LogPosition,
    latest_at: Timestamp,
}

impl MemoryTables {
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let rows = Rows {
            shards: vec![Shard::default(); usize::from(shards)],
            heads: BTreeMap::new(),
            members: BTreeMap::new(),
            personal: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        Self { state: Mutex::new(State { now: rows.clone(), durable: rows, pending: Vec::new() }) }
    }

    /// What a crash of the machine leaves: the last checkpoint, its positions, and of the rows projected later those
    /// for which `survives` says so. Real tables may keep any of them, so whoever reads must not mind.
    #[must_use]
    pub fn crash(&self, mut survives: impl FnMut() -> bool) -> Self {
        let state = self.state();
        let mut left = state.durable.clone();
        for projection in &state.pending {
            left.put(projection, &mut survives);
        }
        Self { state: Mutex::new(State { now: left.clone(), durable: left, pending: Vec::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can fail half way, so a panic there leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Tables for MemoryTables {
    fn position(&self, shard: ShardId) -> LogPosition {
        self.state().now.shards[usize::from(shard.0)].position
    }

    fn durable_position(&self, shard: ShardId) -> LogPosition {
        self.state().durable.shards[usize::from(shard.0)].position
    }

    fn latest_at(&self, shard: ShardId) -> Timestamp {
        self.state().now.shards[usize::from(shard.0)].latest_at
    }

    async fn head(&self, key: ConversationKey) -> Result<Option<Head>, TablesError> {
        Ok(self.state().now.heads.get(&key).cloned())
    }

    async fn member(&self, key: ConversationKey, user: UserId) -> Result<Option<Member>, TablesError> {
        Ok(self.state().now.members.get(&(key, user)).copied())
    }

    async fn id_record(
        &self,
        key: ConversationKey,
        id: MessageId,
        since: Timestamp,
    ) -> Result<Option<IdRecord>, TablesError> {
        let state = self.state();
        let entries = state.now.entries.range((key, Seq::ZERO)..=(key, Seq::MAX)).rev();
        let mut recent = entries.map(|(_, entry)| entry).take_while(|entry| entry.created_at >= since);
        Ok(recent.find_map(|entry| id_record_of(entry, id)))
    }

    async fn personal(
        &self,
        key: ConversationKey,
        subject: PersonalSubject,
    ) -> Result<Option<PersonalFact>, TablesError> {
        Ok(self.state().now.personal.get(&(key, *subject.as_bytes())).map(|(_, fact)| *fact))
    }

    async fn entries(&self, key: ConversationKey, range: EntryRange) -> Result<Vec<Arc<Entry>>, TablesError> {
        if range.after.next() >= range.before {
            return Ok(Vec::new());
        }
        let state = self.state();
        let there = state.now.entries.range((key, range.after.next())..(key, range.before));
        let there = there.map(|(_, entry)| entry);
        if range.newest {
            let mut page = contiguous(there.rev(), range);
            page.reverse();
            Ok(page)
        } else {
            Ok(contiguous(there, range))
        }
    }

    async fn members(
        &self,
        key: ConversationKey,
        after: Option<UserId>,
        rows_max: usize,
    ) -> Result<Vec<(UserId, Member)>, TablesError> {
        let first = after
            .map_or(Bound::Included((key, UserId::from_bytes([0; 16]))), |user| Bound::Excluded((key, user)));
        let last = Bound::Included((key, UserId::from_bytes([0xff; 16])));
        let state = self.state();
        let rows = state.now.members.range((first, last)).take(rows_max);
        Ok(rows.map(|((_, user), member)| (*user, *member)).collect())
    }

    async fn personal_facts(
        &self,
        key: ConversationKey,
        after: Option<[u8; 16]>,
        rows_max: usize,
    ) -> Result<Vec<(PersonalSubject, PersonalFact)>, TablesError> {
        let first = after.map_or(Bound::Included((key, [0; 16])), |subject| Bound::Excluded((key, subject)));
        let last = Bound::Included((key, [0xff; 16]));
        let state = self.state();
        let rows = state.now.personal.range((first, last)).take(rows_max);
        Ok(rows.map(|(_, row)| *row).collect())
    }

    async fn project(&self, projection: Projection) -> Result<(), TablesError> {
        let mut state = self.state();
        let shard = &mut state.now.shards[usize::from(projection.shard.0)];
        if projection.upto.place < shard.position.place {
            return Ok(());
        }
        shard.position = projection.upto;
        shard.latest_at = shard.latest_at.max(projection.latest_at);
        state.now.put(&projection, &mut || true);
        state.pending.push(projection);
        Ok(())
    }

    async fn checkpoint(&self) -> Result<(), TablesError> {
        let state = &mut *self.state();
        for projection in state.pending.drain(..) {
            state.durable.put(&projection, &mut || true);
        }
        state.durable.shards.clone_from(&state.now.shards);
        Ok(())
    }
}

impl Rows {
    /// Puts those rows of a projection for which `keep` says so; positions stay.
    fn put(&mut self, projection: &Projection, keep: &mut impl FnMut() -> bool) {
        for (key, head) in projection.heads.iter().filter(|_| keep()) {
            self.heads.insert(*key, head.clone());
        }
        for (key, user, member) in projection.members.iter().filter(|_| keep()) {
            self.members.insert((*key, *user), *member);
        }
        for (key, subject, fact) in projection.personal.iter().filter(|_| keep()) {
            self.personal.insert((*key, *subject.as_bytes()), (*subject, *fact));
        }
        for entry in projection.runs.iter().flatten().filter(|_| keep()) {
            self.entries.insert((entry.key(), entry.seq), Arc::clone(entry));
        }
    }
}

fn id_record_of(entry: &Entry, id: MessageId) -> Option<IdRecord> {
    match &entry.body {
        Body::Message { message_id, hash, .. } if *message_id == id => {
            Some(IdRecord { seq: entry.seq, sender: entry.sender, hash: *hash, created_at: entry.created_at })
        }
        _ => None,
    }
}

/// The first entries of `there` that fit, up to the first missing seq. `there` may go up or down.
fn contiguous<'a>(there: impl Iterator<Item = &'a Arc<Entry>>, range: EntryRange) -> Vec<Arc<Entry>> {
    let mut page: Vec<Arc<Entry>> = Vec::new();
    let mut bytes = 0;
    for entry in there.take(range.entries_max) {
        let mut stored = Vec::new();
        encode_entry(entry, &mut stored);
        bytes += stored.len();
        let has_room = page.is_empty() || bytes <= range.bytes_max;
        let follows = page.last().is_none_or(|last| last.seq.0.abs_diff(entry.seq.0) == 1);
        if !has_room || !follows {
            break;
        }
        page.push(Arc::clone(entry));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::memory::SeededRng;
    use crate::suite::tables::{self, TablesHarness};

    /// Lets each row that was not durable survive a crash or not, by a seed.
    struct Harness(SeededRng);

    impl TablesHarness for Harness {
        type Tables = MemoryTables;

        async fn create(&self) -> MemoryTables {
            MemoryTables::new(tables::SHARDS)
        }

        async fn crash(&self, tables: MemoryTables) -> MemoryTables {
            tables.crash(|| self.0.one_in(2))
        }
    }

    #[test]
    fn memory_tables_pass_the_suite() {
        for seed in 0..8 {
            println!("seed {seed}");
            ready(tables::all(&Harness(SeededRng::new(seed))));
        }
    }

    fn ready<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer,
            Poll::Pending => panic!("tables in memory never wait"),
        }
    }
}
