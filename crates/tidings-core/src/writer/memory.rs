//! What one writer remembers: the pending state of its conversations, as facts.
//!
//! One map is both the overlay that must be kept (changes the tables do not have yet) and the bounded cache of hot
//! facts. A fact is *pinned* while its change is above the batch that every read on its way surely sees; only what is
//! not pinned may be evicted, so a fact that is read is never older than one that was dropped.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use tidings_types::{Body, ConversationKey};
use tidings_types::{
    Entry, Head, IdRecord, Limits, Member, MessageId, PersonalFact, PersonalSubject, Timestamp, UserId,
};

use crate::writer::BatchNumber;
use crate::{Fact, FactKey, Facts, SeededMap, changed_members, changed_personal};

pub(super) struct Memory {
    facts: SeededMap<FactKey, Slot>,
    /// Clock order (second chance) of the facts.
    facts_order: VecDeque<FactKey>,
    facts_max: usize,
    ids: SeededMap<(ConversationKey, MessageId), IdRecord>,
    /// Order of acceptance.
    ids_order: VecDeque<(ConversationKey, MessageId, BatchNumber)>,
    ids_max: usize,
    /// Every id accepted after this moment is in `ids`.
    ids_complete_since: Timestamp,
    id_ahead_ms_max: u64,
    /// Changes up to here may be evicted.
    evictable: BatchNumber,
}

struct Slot {
    fact: Fact,
    changed_in: BatchNumber,
    used: bool,
}

impl Memory {
    /// An empty memory beside tables that have everything accepted up to `now`.
    pub(super) fn new(seed: u64, limits: &Limits, now: Timestamp) -> Self {
        Self {
            facts: SeededMap::with_hasher(FixedState::with_seed(seed)),
            facts_order: VecDeque::new(),
            facts_max: limits.facts_cached_max,
            ids: SeededMap::with_hasher(FixedState::with_seed(seed)),
            ids_order: VecDeque::new(),
            ids_max: limits.ids_cached_max,
            ids_complete_since: now,
            id_ahead_ms_max: limits.id_ahead_ms_max,
            evictable: BatchNumber(0),
        }
    }

    /// Is the fact known without a read? Marks it as used.
    pub(super) fn knows(&mut self, key: &FactKey) -> bool {
        if let FactKey::Id(conversation, id) = key
            && (self.ids.contains_key(&(*conversation, *id)) || self.is_surely_new(*id))
        {
            return true;
        }
        self.facts.get_mut(key).is_some_and(|slot| {
            slot.used = true;
            true
        })
    }

    /// An id cannot have been accepted earlier than `id_ahead_ms_max` before the moment inside it. If the memory is
    /// complete since then, an id that is not in it is new. Ids of other versions are never accepted.
    fn is_surely_new(&self, id: MessageId) -> bool {
        id.made_at().is_none_or(|made_at| made_at > self.ids_complete_since.plus_ms(self.id_ahead_ms_max))
    }

    /// Takes facts that were read. What is known already is at least as new and stays. Nothing is evicted before
    /// [`Memory::evict_facts`], or the last of many facts of one command could push out the first.
    pub(super) fn learn(&mut self, facts: Vec<(FactKey, Fact)>) {
        for (key, fact) in facts {
            let is_known = match key {
                FactKey::Id(conversation, id) if self.ids.contains_key(&(conversation, id)) => true,
                _ => self.facts.contains_key(&key),
            };
            if !is_known {
                self.insert(key, fact, BatchNumber(0));
            }
        }
    }

    /// Applies a decided entry.
    pub(super) fn apply(&mut self, entry: &Entry, head: &Arc<Head>, batch: BatchNumber) {
        let key = entry.key();
        self.put(FactKey::Head(key), Fact::Head(Some(head.clone())), batch);
        changed_members(entry, |user, change| {
            let row = self.member(key, user);
            self.put(FactKey::Member(key, user), Fact::Member(Some(change.applied_to(row))), batch);
        });
        if let Some((subject, fact)) = changed_personal(entry) {
            self.put(FactKey::Personal(key, subject), Fact::Personal(Some(fact)), batch);
        }
        if let Body::Message { message_id, hash, .. } = &entry.body {
            let record =
                IdRecord { seq: entry.seq, sender: entry.sender, hash: *hash, created_at: entry.created_at };
            self.remember_id(key, *message_id, record, batch);
        }
    }

    fn remember_id(&mut self, key: ConversationKey, id: MessageId, record: IdRecord, batch: BatchNumber) {
        // A read that found nothing may be cached: it is not true any more.
        if self.facts.contains_key(&FactKey::Id(key, id)) {
            self.put(FactKey::Id(key, id), Fact::Id(Some(record)), batch);
        }
        self.ids.insert((key, id), record);
        self.ids_order.push_back((key, id, batch));
        self.evict_ids();
    }

    fn evict_ids(&mut self) {
        while self.ids_order.len() > self.ids_max
            && self.ids_order.front().is_some_and(|(_, _, batch)| *batch <= self.evictable)
        {
            let (key, id, _) = self.ids_order.pop_front().expect("the front was just looked at");
            if let Some(record) = self.ids.remove(&(key, id)) {
                self.ids_complete_since = self.ids_complete_since.max(record.created_at);
            }
        }
    }

    fn put(&mut self, key: FactKey, fact: Fact, changed_in: BatchNumber) {
        if self.insert(key, fact, changed_in) {
            self.evict_facts(1);
        }
    }

    /// Is the key new?
    fn insert(&mut self, key: FactKey, fact: Fact, changed_in: BatchNumber) -> bool {
        let is_new = self.facts.insert(key, Slot { fact, changed_in, used: true }).is_none();
        if is_new {
            self.facts_order.push_back(key);
        }
        is_new
    }

    /// Looks at a bounded number of facts per insertion, so a memory full of pinned facts costs no more than that.
    pub(super) fn evict_facts(&mut self, inserted: usize) {
        const LOOKED_AT_MAX: usize = 4;
        for _ in 0..LOOKED_AT_MAX * inserted {
            if self.facts_order.len() <= self.facts_max {
                return;
            }
            let Some(key) = self.facts_order.pop_front() else { return };
            let slot = self.facts.get_mut(&key).expect("every key in the order has a slot");
            if slot.used || slot.changed_in > self.evictable {
                slot.used = false;
                self.facts_order.push_back(key);
            } else {
                self.facts.remove(&key);
            }
        }
    }

    /// The tables have everything up to `batch`, and so has every read on its way.
    pub(super) fn set_evictable(&mut self, batch: BatchNumber) {
        self.evictable = self.evictable.max(batch);
        self.evict_ids();
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.facts.len(), self.ids.len())
    }
}

impl Facts for Memory {
    fn head(&self, key: ConversationKey) -> Option<&Arc<Head>> {
        match &self.facts.get(&FactKey::Head(key))?.fact {
            Fact::Head(head) => head.as_ref(),
            fact => unreachable!("a head is stored as a head, not as {fact:?}"),
        }
    }

    fn member(&self, key: ConversationKey, user: UserId) -> Option<Member> {
        match &self.facts.get(&FactKey::Member(key, user))?.fact {
            Fact::Member(member) => *member,
            fact => unreachable!("a member is stored as a member, not as {fact:?}"),
        }
    }

    fn id_record(&self, key: ConversationKey, id: MessageId) -> Option<IdRecord> {
        if tidings_types::planted("ids_forgotten") {
            return None;
        }
        if let Some(record) = self.ids.get(&(key, id)) {
            return Some(*record);
        }
        match &self.facts.get(&FactKey::Id(key, id))?.fact {
            Fact::Id(record) => *record,
            fact => unreachable!("an id is stored as an id, not as {fact:?}"),
        }
    }

    fn personal(&self, key: ConversationKey, subject: PersonalSubject) -> Option<PersonalFact> {
        match &self.facts.get(&FactKey::Personal(key, subject))?.fact {
            Fact::Personal(fact) => *fact,
            fact => unreachable!("a personal fact is stored as one, not as {fact:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_types::{CommandHash, Content, ConversationId, Epoch, Role, Seq, SpaceId};

    use super::*;
    use crate::advance;

    const START: Timestamp = Timestamp::from_ms(1_790_000_000_000);

    fn user() -> UserId {
        UserId::from_bytes([1; 16])
    }

    fn key(n: u64) -> ConversationKey {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&n.to_be_bytes());
        ConversationKey { space: SpaceId::DEFAULT, conversation: ConversationId::v7(START, random) }
    }

    fn message_id(seq: Seq) -> MessageId {
        MessageId::v7(START.plus_ms(seq.0), [7; 10])
    }

    fn memory(facts_max: usize, ids_max: usize) -> Memory {
        let limits = Limits { facts_cached_max: facts_max, ids_cached_max: ids_max, ..Limits::default() };
        Memory::new(7, &limits, START)
    }

    /// Entry `seq` of conversation `n`, a millisecond after the one before it: 1 creates it, the others are messages.
    fn apply(memory: &mut Memory, n: u64, seq: u64, batch: u64) {
        let (key, seq) = (key(n), Seq(seq));
        let hash = CommandHash([0; 16]);
        let body = if seq == Seq(1) {
            Body::Created {
                kind: tidings_types::ConversationKind::Group,
                title: None,
                members: vec![(user(), Role::Owner)],
                hash,
            }
        } else {
            let content = Content::Text("text".into());
            Body::Message { message_id: message_id(seq), content, reply_to: None, hash }
        };
        let entry = Entry {
            space: key.space,
            conversation: key.conversation,
            seq,
            version: seq.0,
            sender: user(),
            created_at: START.plus_ms(seq.0),
            messages: seq.0 - 1,
            body,
        };
        let head = advance(memory.head(key).map(AsRef::as_ref), &entry, Epoch(1));
        memory.apply(&entry, &Arc::new(head), BatchNumber(batch));
    }

    #[test]
    fn facts_the_tables_lack_stay_and_others_are_bounded() {
        const MAX: usize = 10;
        let mut memory = memory(MAX, MAX);
        // A head and a member each: all of it must stay.
        (1..=100).for_each(|n| apply(&mut memory, n, 1, n));
        assert_eq!(memory.sizes(), (200, 0));
        assert!((1..=100).all(|n| memory.knows(&FactKey::Head(key(n)))));

        // The tables have half: insertions push it out, the rest stays.
        memory.set_evictable(BatchNumber(50));
        (101..=300).for_each(|n| apply(&mut memory, n, 1, 51));
        assert!((51..=300).all(|n| memory.knows(&FactKey::Head(key(n)))));
        assert_eq!(memory.sizes().0, 500);

        // The tables have all: what is read comes and goes.
        memory.set_evictable(BatchNumber(1_000));
        for n in 1_000..2_000 {
            memory.learn(vec![(FactKey::Head(key(n)), Fact::Head(None))]);
            memory.evict_facts(1);
        }
        let (facts, _) = memory.sizes();
        assert!(facts <= MAX, "{facts} facts");
        assert_eq!(facts, memory.facts_order.len());
    }

    #[test]
    fn a_fact_in_use_outlives_those_that_are_not() {
        let mut memory = memory(10, 10);
        let hot = FactKey::Head(key(0));
        memory.learn(vec![(hot, Fact::Head(None))]);
        for n in 1..1_000 {
            assert!(memory.knows(&hot), "evicted by {n}");
            memory.learn(vec![(FactKey::Head(key(n)), Fact::Head(None))]);
            memory.evict_facts(1);
        }
    }

    #[test]
    fn a_fact_that_was_read_does_not_replace_what_is_known() {
        let mut memory = memory(10, 10);
        (1..=2).for_each(|seq| apply(&mut memory, 1, seq, 1));
        let id = FactKey::Id(key(1), message_id(Seq(2)));
        memory.learn(vec![(FactKey::Head(key(1)), Fact::Head(None)), (id, Fact::Id(None))]);
        assert_eq!(memory.head(key(1)).map(|head| head.seq), Some(Seq(2)));
        // Nor does it come to light when the id is evicted.
        memory.ids_max = 0;
        memory.set_evictable(BatchNumber(1));
        assert!(!memory.knows(&id));
    }

    #[test]
    fn ids_are_bounded_and_the_memory_knows_since_when_it_is_complete() {
        const MAX: usize = 10;
        let mut memory = memory(1_000, MAX);
        (1..=101).for_each(|seq| apply(&mut memory, 1, seq, seq));
        assert_eq!(memory.sizes().1, 100, "the tables have none of them");

        memory.set_evictable(BatchNumber(51));
        assert_eq!(memory.sizes().1, 50);
        memory.set_evictable(BatchNumber(1_000));
        assert_eq!(memory.sizes().1, MAX);
        let knows = |memory: &mut Memory, seq: u64| memory.knows(&FactKey::Id(key(1), message_id(Seq(seq))));
        assert!((92..=101).all(|seq| knows(&mut memory, seq)));
        // Accepted at 91 ms, so it was made at 91 ms and a minute at the latest.
        assert!((2..=91).all(|seq| !knows(&mut memory, seq)));
        assert!(!knows(&mut memory, 60_091));
        assert!(knows(&mut memory, 60_092));
    }

    #[test]
    fn an_id_that_was_read_as_new_is_not_new_once_it_is_accepted() {
        let mut memory = memory(10, 0);
        apply(&mut memory, 1, 1, 1);
        let id = message_id(Seq(2));
        memory.learn(vec![(FactKey::Id(key(1), id), Fact::Id(None))]);
        apply(&mut memory, 1, 2, 2);
        memory.set_evictable(BatchNumber(2));
        assert_eq!(memory.sizes().1, 0);
        assert_eq!(memory.id_record(key(1), id).map(|record| record.seq), Some(Seq(2)));
    }
}
