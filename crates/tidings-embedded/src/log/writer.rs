//! The writing half of the log: batches, syncs, segments. One caller, no thread, no clock.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use tidings_ports::{Disk, DiskFile, Draft, RecordKind};
use tidings_record::{KeyId, RecordHeader, RecordType, SEGMENT_HEADER_BYTES, encode_record, record_bytes};
use tidings_types::{Fence, Place, RecordNumber, ShardId};

use super::segment::{PrepareError, Prepared, Segment, SegmentPlan};
use super::{LogConfig, LogView};

#[derive(Debug, Error)]
pub enum WriteError {
    /// Nothing was written: the disk has reached its reserve. A later batch may succeed.
    #[error("the log has no room")]
    Full,
    /// The outcome is unknown, and this log takes nothing more.
    #[error("the log cannot be written")]
    Failed(#[source] io::Error),
    /// Nothing was written: an earlier write or sync failed.
    #[error("the log has failed before")]
    Closed,
}

/// The log's only writer. Between [`SegmentLog::write_batch`] and [`SegmentLog::sync`] a batch is in the file, but
/// nobody sees it and nobody may be told.
pub struct SegmentLog<D: Disk> {
    view: Arc<LogView<D>>,
    config: LogConfig,
    active: Arc<Segment<D::File>>,
    next: Option<Prepared<D::File>>,
    /// Where the next record goes.
    written: Place,
    /// The ends of shards that the next sync makes durable.
    unsynced: Vec<(ShardId, Place)>,
    /// A record that no later record calls durable yet: if it is damaged, the next start takes it for a torn tail.
    unmarked: bool,
    unchecked_bytes: u64,
    full: bool,
    failed: bool,
    buffer: Vec<u8>,
}

/// What opening found out, for a writer to go on with.
pub(super) struct Start<D: Disk> {
    pub(super) active: Arc<Segment<D::File>>,
    pub(super) next: Option<Prepared<D::File>>,
    pub(super) end: Place,
    pub(super) unmarked: bool,
}

impl<D: Disk> SegmentLog<D> {
    pub(super) fn start(view: Arc<LogView<D>>, config: LogConfig, start: Start<D>) -> Self {
        Self {
            view,
            active: start.active,
            next: start.next,
            written: start.end,
            unsynced: Vec::new(),
            unmarked: start.unmarked,
            unchecked_bytes: config.room_check_bytes,
            full: false,
            failed: false,
            buffer: Vec::new(),
            config,
        }
    }

    /// What readers share with this writer.
    #[must_use]
    pub const fn view(&self) -> &Arc<LogView<D>> {
        &self.view
    }

    /// The most bytes that one batch may take, frames included (see `tidings_record::record_bytes`).
    #[must_use]
    pub fn batch_bytes_max(&self) -> usize {
        let segment = self.config.segment_bytes.saturating_sub(SEGMENT_HEADER_BYTES as u64);
        usize::try_from(segment).unwrap_or(usize::MAX).min(self.config.batch_bytes_max)
    }

    /// Writes the records one behind the other and answers their places. Nothing is durable before the next
    /// [`SegmentLog::sync`]; after an error other than `Full` nothing more is ever written.
    pub fn write_batch(&mut self, batch: &[(ShardId, Draft)]) -> Result<Vec<Place>, WriteError> {
        let total: usize = batch.iter().map(|(_, draft)| record_bytes(draft.payload.len())).sum();
        if self.failed {
            return Err(WriteError::Closed);
        }
        if total > self.batch_bytes_max() {
            return Err(self.fail(io::Error::new(io::ErrorKind::InvalidInput, "the batch is too large")));
        }
        self.check_room(total as u64)?;
        if self.needs_next(total) {
            self.begin_segment()?;
        }
        let places = self.encode(batch)?;
        self.write_buffer()?;
        self.unmarked = true;
        Ok(places)
    }

    /// Makes everything written durable, and then visible.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::Closed);
        }
        if let Err(error) = self.active.file.sync_data() {
            return Err(self.fail(error));
        }
        self.view.publish(self.written);
        for (shard, end) in self.unsynced.drain(..) {
            self.view.publish_shard(shard, end);
        }
        Ok(())
    }

    /// Has the last batch no record behind it that calls it durable?
    #[must_use]
    pub const fn needs_mark(&self) -> bool {
        self.unmarked && !self.failed
    }

    /// Writes and syncs an empty record that carries the durable place of the last batch, if that is needed and there
    /// is room for it.
    pub fn mark(&mut self) -> Result<(), WriteError> {
        if !self.needs_mark() {
            return Ok(());
        }
        if self.view.durable() < self.written {
            self.sync()?;
        }
        if self.needs_next(record_bytes(0)) {
            match self.begin_segment() {
                Err(WriteError::Full) => return Ok(()),
                begun => begun?,
            }
        }
        self.buffer.clear();
        let header = self.header(RecordType::DurableMark, ShardId(0), Fence(0), RecordNumber(0));
        self.push_record(header, &[])?;
        self.write_buffer()?;
        self.sync()?;
        self.unmarked = false;
        Ok(())
    }

    /// Would a batch of so many bytes begin a new segment?
    #[must_use]
    pub fn needs_next(&self, batch_bytes: usize) -> bool {
        self.active.limit().0 - self.written.0 < batch_bytes as u64
    }

    /// The next segment, if it is not made yet. Whoever makes it hands it to [`SegmentLog::install`]; without that the
    /// log makes it itself when it needs it, and a batch waits for that.
    #[must_use]
    pub fn plan_next(&self) -> Option<SegmentPlan<D>> {
        self.next.is_none().then(|| self.plan())
    }

    /// Takes a segment made by [`SegmentLog::plan_next`].
    pub fn install(&mut self, prepared: Prepared<D::File>) {
        debug_assert_eq!(prepared.0.base, self.active.limit(), "a segment begins where the last one ends");
        self.next = Some(prepared);
    }

    /// The place of the segment that is being written: changes when a segment begins.
    #[must_use]
    pub fn segment_base(&self) -> Place {
        self.active.base
    }

    /// Looks the disk's room up, but not for every batch: the segment itself has its room already, this is for the
    /// other stores that share the disk.
    fn check_room(&mut self, batch_bytes: u64) -> Result<(), WriteError> {
        self.unchecked_bytes = self.unchecked_bytes.saturating_add(batch_bytes);
        if self.unchecked_bytes < self.config.room_check_bytes && !self.full {
            return Ok(());
        }
        match self.view.disk().available_bytes() {
            Ok(available) => self.full = available < self.config.reserve_bytes,
            Err(error) => return Err(self.fail(error)),
        }
        if self.full {
            return Err(WriteError::Full);
        }
        self.unchecked_bytes = 0;
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), WriteError> {
        if self.view.durable() < self.written {
            // The first record of a segment calls everything before it durable; opening relies on that.
            self.sync()?;
        }
        let next = match self.next.take().map_or_else(|| self.plan().prepare(), Ok) {
            Ok(next) => next,
            Err(PrepareError::Full) => return Err(WriteError::Full),
            Err(PrepareError::Io(error)) => return Err(self.fail(error)),
        };
        self.active.seal(self.written);
        self.active = Arc::new(next.0);
        self.view.push_segment(Arc::clone(&self.active));
        self.written = self.active.first();
        self.unsynced.extend((0..self.config.shards).map(|shard| (ShardId(shard), self.written)));
        Ok(())
    }

    fn plan(&self) -> SegmentPlan<D> {
        SegmentPlan {
            disk: Arc::clone(self.view.disk()),
            log_id: self.view.log_id(),
            base: self.active.limit(),
            len: self.config.segment_bytes,
            reserve_bytes: self.config.reserve_bytes,
        }
    }

    /// Encodes a batch into the buffer, with the places its records will have.
    fn encode(&mut self, batch: &[(ShardId, Draft)]) -> Result<Vec<Place>, WriteError> {
        self.buffer.clear();
        let mut places = Vec::with_capacity(batch.len());
        for (shard, draft) in batch {
            let place = self.next_place();
            let (kind, fence) = match draft.kind {
                RecordKind::WriterChanged => (RecordType::WriterChanged, Fence(place.0)),
                RecordKind::Entries => (RecordType::Entries, draft.fence),
            };
            let header = self.header(kind, *shard, fence, draft.number);
            self.push_record(header, &draft.payload)?;
            self.unsynced.push((*shard, self.next_place()));
            places.push(place);
        }
        Ok(places)
    }

    /// Where the record behind those in the buffer goes.
    fn next_place(&self) -> Place {
        Place(self.written.0 + self.buffer.len() as u64)
    }

    fn header(&self, kind: RecordType, shard: ShardId, fence: Fence, number: RecordNumber) -> RecordHeader {
        RecordHeader {
            kind,
            key_id: KeyId::PLAIN,
            log_id: self.view.log_id(),
            shard,
            fence,
            number,
            place: self.next_place(),
            durable: self.view.durable(),
            payload_bytes: 0,
            payload_checksum: 0,
        }
    }

    fn push_record(&mut self, header: RecordHeader, payload: &[u8]) -> Result<(), WriteError> {
        encode_record(header, payload, &mut self.buffer)
            .map_err(|error| self.fail(io::Error::new(io::ErrorKind::InvalidInput, error)))
    }

    fn write_buffer(&mut self) -> Result<(), WriteError> {
        let offset = self.active.offset(self.written);
        if let Err(error) = self.active.file.write_all_at(&self.buffer, offset) {
            return Err(self.fail(error));
        }
        self.written = self.next_place();
        self.buffer.clear();
        Ok(())
    }

    /// After a failed write or sync nobody knows what is on the disk: only opening the log again finds out.
    fn fail(&mut self, error: io::Error) -> WriteError {
        self.failed = true;
        WriteError::Failed(error)
    }
}

impl<D: Disk> std::fmt::Debug for SegmentLog<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentLog")
            .field("written", &self.written)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
