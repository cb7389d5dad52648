//! The log: ordered, durable, per shard.

use thiserror::Error;
use tidings_types::{Fence, Place, RecordNumber, ShardId};

use crate::BoxFuture;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A new writer's first record; its place is the writer's fence. Empty payload.
    WriterChanged,
    /// A batch of entries, encoded by `tidings-record`.
    Entries,
}

/// A record on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub kind: RecordKind,
    /// Ignored for `WriterChanged`, whose fence is the place it gets.
    pub fence: Fence,
    pub number: RecordNumber,
    /// At most `record_bytes_max` bytes.
    pub payload: Vec<u8>,
}

/// A record read back from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub place: Place,
    /// Reading from here gives what follows this record.
    pub next: Place,
    pub kind: RecordKind,
    /// For `WriterChanged`: its own place.
    pub fence: Fence,
    pub number: RecordNumber,
    pub payload: Vec<u8>,
}

/// Some of a shard's records, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    pub records: Vec<Stored>,
    /// Where to read on. Equal to the place asked for when nothing more is durable, and only then: a page may have moved
    /// on without a record of this shard.
    pub next: Place,
}

#[derive(Debug, Error)]
pub enum AppendError {
    /// It may be there or not. Nothing more may be appended under this fence; take the shard over and read on.
    #[error("the outcome of an append is unknown")]
    Unknown(#[source] std::io::Error),
    /// Surely not there: the disk has reached its reserve. Later appends may succeed.
    #[error("the log has no room")]
    Full,
    /// Surely not there: the log is closed.
    #[error("the log is closed")]
    Closed,
}

#[derive(Debug, Error)]
pub enum LogError {
    /// The place was trimmed. `floor` is the first place that is still there.
    #[error("place {asked} is gone, the log begins at {floor}")]
    Trimmed { asked: Place, floor: Place },
    /// Durable bytes are damaged. Says where; never an empty page.
    #[error("{file} is damaged at offset {offset}: {reason}")]
    Corrupt { file: String, offset: u64, reason: &'static str },
    #[error("the log cannot be read")]
    Io(#[from] std::io::Error),
}

pub trait ShardLog: Send + Sync {
    /// Appends one record to the shard's log: all of it or none, durable when the future resolves, in the order of the
    /// calls (the order is taken when `append` is called, not when the future is first polled). Unconditional: another
    /// writer may append too, so the caller compares the place answered with the one it expected.
    /// `Unknown`: it may be there or not; every later append of this process fails too.
    fn append(&self, shard: ShardId, draft: Draft) -> BoxFuture<'static, Result<Place, AppendError>>;

    /// The shard's durable records from `from` on, in order, at most about `bytes_max` bytes of payload and at least
    /// one record if there is one. Records of other shards are never in the page.
    fn read(&self, shard: ShardId, from: Place, bytes_max: usize)
    -> BoxFuture<'_, Result<LogPage, LogError>>;

    /// Everything of the shard below this place is durable.
    fn end(&self, shard: ShardId) -> Place;

    /// The first place that can still be read.
    fn floor(&self, shard: ShardId) -> Place;

    /// Resolves once `end(shard)` is greater than `place`.
    fn wait_beyond(&self, shard: ShardId, place: Place) -> BoxFuture<'_, ()>;

    /// Records below `below` may be removed; some may stay.
    fn trim(&self, shard: ShardId, below: Place) -> BoxFuture<'_, Result<(), LogError>>;
}
