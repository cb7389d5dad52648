//! From a projection to rows.

use std::sync::Arc;

use fjall::Keyspace;
use tidings_ports::{Projection, TablesError};
use tidings_record::{encode_entries, encode_head, encode_id_rows, encode_member, encode_personal_fact};
use tidings_types::{Body, ConversationKey, Entry, IdRecord, MessageId};

use super::keys::{self, BLOCK_ENTRIES_MAX, Span};
use super::store::{Store, failed};
use super::value::seal;

/// Only a block of one entry may be larger.
const BLOCK_BYTES_MAX: usize = 16 * 1024;

/// The store's lock is held for one batch at a time; other batches need not wait for a whole projection.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Writes all rows of a projection: what others point to first, so that who reads a new head finds its entries.
pub(super) fn project(store: &Store, projection: &Projection) -> Result<(), TablesError> {
    let mut rows = Rows { store, batch: store.batch(), batch_bytes: 0 };
    for run in &projection.runs {
        rows.put_run(run)?;
    }
    for (key, user, member) in &projection.members {
        let row = keys::with_id(*key, user.as_bytes());
        rows.put(&store.members, &row, |value| encode_member(member, value))?;
    }
    for (key, subject, fact) in &projection.personal {
        let row = keys::with_id(*key, subject.as_bytes());
        rows.put(&store.personal, &row, |value| encode_personal_fact(subject, fact, value))?;
    }
    for (key, head) in &projection.heads {
        rows.put(&store.heads, &keys::conversation(*key), |value| encode_head(head, value))?;
    }
    rows.commit()
}

/// Rows on their way into the store, in batches.
struct Rows<'a> {
    store: &'a Store,
    batch: fjall::OwnedWriteBatch,
    batch_bytes: usize,
}

impl Rows<'_> {
    fn put_run(&mut self, run: &[Arc<Entry>]) -> Result<(), TablesError> {
        let mut block = Block::default();
        for entry in run {
            let stored = encode_entries([entry.as_ref()]);
            if !block.takes(entry, &stored) {
                self.put_block(&std::mem::take(&mut block))?;
            }
            block.push(entry, &stored);
        }
        self.put_block(&block)
    }

    fn put_block(&mut self, block: &Block) -> Result<(), TablesError> {
        let Some((key, span)) = block.place else { return Ok(()) };
        let row = keys::block(key, span);
        self.put(&self.store.blocks, &row, |value| value.extend_from_slice(&block.payload))?;
        let Some((_, last)) = block.ids.last() else { return Ok(()) };
        self.put(&self.store.ids, &row, |value| {
            // In front and alone, so that a search passes over rows that are too old without decoding them.
            value.extend_from_slice(&last.created_at.as_ms().to_be_bytes());
            encode_id_rows(&block.ids, value);
        })
    }

    fn put(
        &mut self,
        keyspace: &Keyspace,
        row: &[u8],
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), TablesError> {
        let value = seal(row, encode);
        self.batch_bytes += row.len() + value.len();
        self.batch.insert(keyspace, row, value);
        if self.batch_bytes > BATCH_BYTES_MAX { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), TablesError> {
        self.batch_bytes = 0;
        std::mem::replace(&mut self.batch, self.store.batch()).commit().map_err(failed)
    }
}

/// Consecutive entries of one conversation, as they will lie in one row.
#[derive(Default)]
struct Block {
    place: Option<(ConversationKey, Span)>,
    payload: Vec<u8>,
    ids: Vec<(MessageId, IdRecord)>,
}

impl Block {
    /// May `entry` go into this block? An entry that does not follow the last one starts a block of its own.
    fn takes(&self, entry: &Entry, stored: &[u8]) -> bool {
        self.place.is_none_or(|(key, span)| {
            key == entry.key()
                && span.last.next() == entry.seq
                && span.last.0 - span.first.0 + 1 < BLOCK_ENTRIES_MAX
                && self.payload.len() + stored.len() <= BLOCK_BYTES_MAX
        })
    }

    fn push(&mut self, entry: &Entry, stored: &[u8]) {
        let first = self.place.map_or(entry.seq, |(_, span)| span.first);
        self.place = Some((entry.key(), Span { first, last: entry.seq }));
        self.payload.extend_from_slice(stored);
        if let Body::Message { message_id, hash, .. } = &entry.body {
            let record =
                IdRecord { seq: entry.seq, sender: entry.sender, hash: *hash, created_at: entry.created_at };
            self.ids.push((*message_id, record));
        }
    }
}
