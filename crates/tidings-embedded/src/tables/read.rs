//! From rows to answers. Blocks may overlap, with different ends, after a replay: entries are taken by seq, each once.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use fjall::{Keyspace, UserKey, UserValue};
use tidings_ports::{EntryRange, TablesError};
use tidings_record::{RecordError, decode_entry, entries as stored_entries, find_id};
use tidings_types::{ConversationKey, Entry, IdRecord, MessageId, Seq, Timestamp};

use super::keys::{self, BLOCK_ENTRIES_MAX, Span};
use super::store::failed;
use super::value::{damaged, open};

/// One row, decoded; `None` if there is none.
pub(super) fn point<T>(
    keyspace: &Keyspace,
    row: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, RecordError>,
) -> Result<Option<T>, TablesError> {
    let Some(value) = keyspace.get(row).map_err(failed)? else { return Ok(None) };
    decode(open(row, &value)?).map(Some).map_err(|error| damaged(row, error))
}

/// Rows of one conversation in the order of the ids in their keys, after `after`.
pub(super) fn page<T>(
    keyspace: &Keyspace,
    key: ConversationKey,
    after: Option<[u8; 16]>,
    rows_max: usize,
    decode: impl Fn([u8; 16], &[u8]) -> Result<T, RecordError>,
) -> Result<Vec<T>, TablesError> {
    let from = after
        .map_or(Bound::Included(keys::with_id(key, &[0; 16])), |id| Bound::Excluded(keys::with_id(key, &id)));
    let to = Bound::Included(keys::with_id(key, &[0xff; 16]));
    let mut rows = Vec::new();
    for guard in keyspace.range((from, to)).take(rows_max) {
        let (row, value) = guard.into_inner().map_err(failed)?;
        let id = keys::id_of(&row).ok_or_else(|| damaged(&row, "its key has another length"))?;
        rows.push(decode(id, open(&row, &value)?).map_err(|error| damaged(&row, error))?);
    }
    Ok(rows)
}

/// The entries of `range`, ascending.
pub(super) fn entries(
    blocks: &Keyspace,
    key: ConversationKey,
    range: EntryRange,
) -> Result<Vec<Arc<Entry>>, TablesError> {
    if range.newest { newest(blocks, key, range) } else { oldest(blocks, key, range) }
}

/// The idempotency record of `wanted`, from the newest row to the first whose messages are all older than `since`:
/// `created_at` never runs back within a conversation.
pub(super) fn id_record(
    ids: &Keyspace,
    key: ConversationKey,
    wanted: MessageId,
    since: Timestamp,
) -> Result<Option<IdRecord>, TablesError> {
    let mut old_up_to = Seq::ZERO;
    for row in rows(ids, key, Seq::ZERO, Seq::MAX).rev() {
        let row = row?;
        // Rows from here on end at the ceiling or before it.
        if row.ceiling() <= old_up_to {
            break;
        }
        let payload = open(&row.key, &row.value)?;
        let (last_at, records) =
            payload.split_first_chunk::<8>().ok_or_else(|| damaged(&row.key, "it is too short"))?;
        if Timestamp::from_ms(u64::from_be_bytes(*last_at)) < since {
            old_up_to = old_up_to.max(row.span.last);
            continue;
        }
        if let Some(record) = find_id(records, wanted).map_err(|error| damaged(&row.key, error))? {
            return Ok((record.created_at >= since).then_some(record));
        }
    }
    Ok(None)
}

fn oldest(
    blocks: &Keyspace,
    key: ConversationKey,
    range: EntryRange,
) -> Result<Vec<Arc<Entry>>, TablesError> {
    let mut page = Page::new(range);
    let mut next = Seq(range.after.0.saturating_add(1));
    for row in rows(blocks, key, next, range.before) {
        let row = row?;
        if row.span.last < next {
            continue;
        }
        // Later rows begin later still: nobody has `next`.
        if row.span.first > next && !page.is_empty() {
            break;
        }
        let stored = row.entries()?;
        for seq in row.span.first.max(next).0..=row.span.last.0.min(range.before.previous().0) {
            if !page.push(row.decode(&stored, key, Seq(seq))?) {
                return Ok(page.entries);
            }
            next = Seq(seq + 1);
        }
    }
    Ok(page.entries)
}

fn newest(
    blocks: &Keyspace,
    key: ConversationKey,
    range: EntryRange,
) -> Result<Vec<Arc<Entry>>, TablesError> {
    let mut page = Page::new(range);
    // Entries that a row further back may still come before, because it reaches beyond them.
    let mut waiting = BTreeMap::new();
    let first = Seq(range.after.0.saturating_add(1));
    let mut done = false;
    for row in rows(blocks, key, first, range.before).rev() {
        let row = row?;
        done = page.take_newest(&mut waiting, row.ceiling());
        if done {
            break;
        }
        let stored = row.entries()?;
        for seq in row.span.first.max(first).0..=row.span.last.0.min(range.before.previous().0) {
            if let std::collections::btree_map::Entry::Vacant(place) = waiting.entry(Seq(seq)) {
                place.insert(row.decode(&stored, key, Seq(seq))?);
            }
        }
    }
    if !done {
        page.take_newest(&mut waiting, Seq::ZERO);
    }
    page.entries.reverse();
    Ok(page.entries)
}

/// An answer in the making, in one direction.
struct Page {
    entries: Vec<Arc<Entry>>,
    bytes: usize,
    range: EntryRange,
}

/// An entry and the size it has in storage.
type SizedEntry = (Arc<Entry>, usize);

impl Page {
    const fn new(range: EntryRange) -> Self {
        Self { entries: Vec::new(), bytes: 0, range }
    }

    const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// False if the entry has no room, which the first one always has.
    fn push(&mut self, (entry, bytes): SizedEntry) -> bool {
        self.bytes += bytes;
        let fits = self.entries.len() < self.range.entries_max
            && (self.entries.is_empty() || self.bytes <= self.range.bytes_max);
        if fits {
            self.entries.push(entry);
        }
        fits
    }

    /// Moves what is waiting beyond `ceiling` into the page, from the highest down. True when the page is at its end:
    /// full, or a seq is missing.
    fn take_newest(&mut self, waiting: &mut BTreeMap<Seq, SizedEntry>, ceiling: Seq) -> bool {
        while let Some(highest) = waiting.last_entry() {
            if *highest.key() <= ceiling {
                return false;
            }
            let follows = self.entries.last().is_none_or(|above| above.seq == highest.key().next());
            if !follows || !self.push(highest.remove()) {
                return true;
            }
        }
        false
    }
}

/// One row of `blocks` or `ids`.
struct Row {
    key: UserKey,
    span: Span,
    value: UserValue,
}

/// The rows that may have a seq from `first` on and below `before`, by first seq. Some may end before `first`.
fn rows(
    keyspace: &Keyspace,
    key: ConversationKey,
    first: Seq,
    before: Seq,
) -> impl DoubleEndedIterator<Item = Result<Row, TablesError>> {
    let lowest = Seq(first.0.saturating_sub(BLOCK_ENTRIES_MAX - 1));
    let from = keys::block(key, Span { first: lowest, last: Seq::ZERO });
    let to = keys::block(key, Span { first: before.max(lowest), last: Seq::ZERO });
    keyspace.range(from..to).map(|guard| {
        let (key, value) = guard.into_inner().map_err(failed)?;
        let span = keys::span_of(&key).ok_or_else(|| damaged(&key, "its key is none of a block"))?;
        Ok(Row { key, span, value })
    })
}

impl Row {
    /// No row that begins here or before has a seq beyond this one.
    const fn ceiling(&self) -> Seq {
        Seq(self.span.first.0.saturating_add(BLOCK_ENTRIES_MAX - 1))
    }

    /// The stored entries, in order: as many as the key says.
    fn entries(&self) -> Result<Vec<&[u8]>, TablesError> {
        let payload = open(&self.key, &self.value)?;
        let stored: Result<Vec<_>, _> = stored_entries(payload).collect();
        let stored = stored.map_err(|error| damaged(&self.key, error))?;
        if stored.len() as u64 != self.span.last.0 - self.span.first.0 + 1 {
            return Err(damaged(&self.key, "it has another number of entries than its key says"));
        }
        Ok(stored)
    }

    /// The entry `seq` of `stored`, which are this row's.
    fn decode(&self, stored: &[&[u8]], key: ConversationKey, seq: Seq) -> Result<SizedEntry, TablesError> {
        let index =
            usize::try_from(seq.0 - self.span.first.0).expect("a block's entries are counted in a usize");
        let entry = decode_entry(stored[index]).map_err(|error| damaged(&self.key, error))?;
        if entry.seq != seq || entry.key() != key {
            return Err(damaged(&self.key, "it has another entry than its key says"));
        }
        Ok((Arc::new(entry), stored[index].len()))
    }
}
