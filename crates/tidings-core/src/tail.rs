//! The released entries that the tables do not have yet, in memory. A range takes the tail first and the tables below
//! it, so nothing is missed while a checkpoint moves entries from one to the other.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use tidings_types::{ConversationKey, Entry, Head, Seq};

use crate::advance::weight_bytes;
use crate::{BatchNumber, SeededMap};

/// Which entries to take: those with `after < seq < before`, the lowest of them, or with `newest` the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailRange {
    pub after: Seq,
    pub before: Seq,
    pub newest: bool,
    pub entries_max: usize,
}

impl TailRange {
    /// Everything the tail has.
    pub const ALL: Self = Self { after: Seq::ZERO, before: Seq::MAX, newest: false, entries_max: usize::MAX };
}

pub struct Tail {
    conversations: SeededMap<ConversationKey, Run>,
    /// Everything, in log order.
    order: VecDeque<(BatchNumber, Arc<Entry>)>,
    bytes: usize,
}

struct Run {
    entries: VecDeque<Arc<Entry>>,
    head: Arc<Head>,
}

impl Tail {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let conversations = SeededMap::with_hasher(FixedState::with_seed(seed));
        Self { conversations, order: VecDeque::new(), bytes: 0 }
    }

    /// Adds a released entry. Entries come in log order.
    pub fn push(&mut self, batch: BatchNumber, entry: Arc<Entry>, head: Arc<Head>) {
        self.bytes += weight_bytes(&entry);
        self.order.push_back((batch, entry.clone()));
        let run = self
            .conversations
            .entry(entry.key())
            .or_insert_with(|| Run { entries: VecDeque::new(), head: head.clone() });
        run.head = head;
        run.entries.push_back(entry);
    }

    /// The head as of the last released entry, if any of the conversation's entries are here.
    #[must_use]
    pub fn head(&self, key: ConversationKey) -> Option<Arc<Head>> {
        self.conversations.get(&key).map(|run| run.head.clone())
    }

    /// Some of the conversation's entries, ascending, and the lowest seq that the tail has of it: below that the tables
    /// are asked. `None`: the tail has nothing of the conversation. Costs as much as it answers, however long the tail.
    #[must_use]
    pub fn range(&self, key: ConversationKey, range: TailRange) -> Option<(Seq, Vec<Arc<Entry>>)> {
        let run = self.conversations.get(&key)?;
        let floor = run.entries.front()?.seq;
        let index = |seq: Seq| {
            usize::try_from(seq.0.saturating_sub(floor.0)).unwrap_or(usize::MAX).min(run.entries.len())
        };
        let (mut start, mut end) = (index(range.after.next()), index(range.before));
        if range.newest {
            start = start.max(end.saturating_sub(range.entries_max));
        } else {
            end = end.min(start.saturating_add(range.entries_max));
        }
        Some((floor, run.entries.range(start..end.max(start)).cloned().collect()))
    }

    /// Everything in the tail in log order, and the last batch in it.
    #[must_use]
    pub fn snapshot(&self) -> (Option<BatchNumber>, Vec<Arc<Entry>>) {
        let last = self.order.back().map(|(batch, _)| *batch);
        (last, self.order.iter().map(|(_, entry)| entry.clone()).collect())
    }

    /// Drops what the tables have: everything up to and including `batch`.
    pub fn drop_upto(&mut self, batch: BatchNumber) {
        while self.order.front().is_some_and(|(number, _)| *number <= batch) {
            let (_, entry) = self.order.pop_front().expect("the front was just looked at");
            self.bytes -= weight_bytes(&entry);
            let run = self.conversations.get_mut(&entry.key()).expect("every entry of the order is in a run");
            run.entries.pop_front();
            if run.entries.is_empty() {
                self.conversations.remove(&entry.key());
            }
        }
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}
