//! The segment log: one physical log for all shards, in files of fixed size that are filled with zeros before use.
//!
//! A place is a byte offset in that one log. Records lie one behind the other; no record spans two segments. A segment
//! begins when the next batch does not fit the last one, and its file's name is the place of its first byte. Files are
//! removed from the front by trimming, and never used again.
//!
//! What makes it safe to cut a torn end off and yet never lose an acknowledged record: every record carries the place
//! that was durable when it was written. An invalid record is taken for the end of the log only if no header behind it
//! proves that its place was durable once; otherwise the log refuses to open.
//!
//! - [`SegmentLog`] writes: pure code over `Disk`, one caller, no thread, no clock.
//! - [`LogView`] reads and trims, from any thread, beside the writer.
//! - [`open`](SegmentLog::open) scans, cuts and repairs.
//! - [`EmbeddedLog`] is the shell: the commit thread, and the `ShardLog` port.
//!
//! It never decodes a payload, and never decides whether a record counts: that is the reader's rule of fences.

mod cursor;
mod open;
mod segment;
mod shell;
mod view;
mod writer;

pub use segment::{PrepareError, SegmentPlan};
pub use shell::EmbeddedLog;
pub use view::LogView;
pub use writer::{SegmentLog, WriteError};

/// The directory of the segment files, below the disk's root.
pub const LOG_DIRECTORY: &str = "log";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How many shards share the log.
    pub shards: u16,
    /// The size of new segment files. Existing ones keep theirs.
    pub segment_bytes: u64,
    /// When the disk has less room than this, appends are answered `Full`, so that no store meets a full disk.
    pub reserve_bytes: u64,
    /// The room is looked up again after this many bytes.
    pub room_check_bytes: u64,
    /// Bytes of one write and sync. What is beyond waits for the next one.
    pub batch_bytes_max: usize,
    /// When no batch follows for so long, an empty record carries the durable place of the last one.
    pub mark_idle_ms: u64,
}

impl LogConfig {
    #[must_use]
    pub const fn new(shards: u16, reserve_bytes: u64) -> Self {
        Self {
            shards,
            segment_bytes: 64 * 1024 * 1024,
            reserve_bytes,
            room_check_bytes: 4 * 1024 * 1024,
            batch_bytes_max: 4 * 1024 * 1024,
            mark_idle_ms: 50,
        }
    }
}

#[cfg(test)]
mod tests;
