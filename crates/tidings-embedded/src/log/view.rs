//! What readers see of the log: durable records only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tidings_ports::{Disk, DiskFile, LogError, LogPage, RecordKind, Stored};
use tidings_record::{RecordHeader, RecordType};
use tidings_types::{Place, ShardId};

use super::cursor::{Cursor, Invalid};
use super::segment::{Segment, remove_segment};

/// Read at a time: most readers are near the end and find everything new in one read.
const READ_BYTES: usize = 64 * 1024;

/// Shared by the writer, which moves its end, and by readers.
pub struct LogView<D: Disk> {
    disk: Arc<D>,
    log_id: u64,
    segments: RwLock<Vec<Arc<Segment<D::File>>>>,
    /// Everything in the log below this place is durable.
    durable: AtomicU64,
    shard_ends: Vec<AtomicU64>,
    trims: Mutex<Vec<Place>>,
}

impl<D: Disk> LogView<D> {
    pub(super) fn new(
        disk: Arc<D>,
        log_id: u64,
        segments: Vec<Arc<Segment<D::File>>>,
        durable: Place,
        shards: u16,
    ) -> Self {
        Self {
            disk,
            log_id,
            segments: RwLock::new(segments),
            durable: AtomicU64::new(durable.0),
            shard_ends: (0..shards).map(|_| AtomicU64::new(durable.0)).collect(),
            trims: Mutex::new(vec![Place::ZERO; usize::from(shards)]),
        }
    }

    /// Everything of all shards below this place is durable.
    #[must_use]
    pub fn durable(&self) -> Place {
        Place(self.durable.load(Ordering::Acquire))
    }

    /// Behind the shard's last durable record; when a segment begins, behind everything before it. So a shard without
    /// traffic does not wake its readers for the records of others, and yet does not hold trimming back for ever.
    #[must_use]
    pub fn end(&self, shard: ShardId) -> Place {
        self.shard_ends
            .get(usize::from(shard.0))
            .map_or(Place::ZERO, |end| Place(end.load(Ordering::Acquire)))
    }

    /// The first place that can still be read. The same for all shards.
    #[must_use]
    pub fn floor(&self) -> Place {
        self.segments().first().map_or(Place::ZERO, |segment| segment.base)
    }

    /// The shard's durable records from `from` on: see `ShardLog::read`.
    pub fn read(&self, shard: ShardId, from: Place, bytes_max: usize) -> Result<LogPage, LogError> {
        // The end first: segments that begin later than this look have nothing below it.
        let end = self.durable();
        let segments = self.segments();
        let floor = segments.first().map_or(Place::ZERO, |segment| segment.base);
        if from < floor {
            return Err(LogError::Trimmed { asked: from, floor });
        }
        let mut page =
            PageBuilder { shard, bytes_max, bytes: 0, page: LogPage { records: Vec::new(), next: from } };
        if from >= self.end(shard) {
            return Ok(page.page);
        }
        let first = segments.partition_point(|segment| segment.limit() <= from);
        for segment in &segments[first..] {
            if self.read_segment(segment, end, &mut page)? == PageState::Complete {
                break;
            }
        }
        Ok(page.page)
    }

    /// Removes the segments that no shard needs: everything in them is below every shard's trim place.
    pub fn trim(&self, shard: ShardId, below: Place) -> Result<(), LogError> {
        let mut trims = self.trims.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trim) = trims.get_mut(usize::from(shard.0)) {
            *trim = below.max(*trim);
        }
        let needed = trims.iter().copied().min().unwrap_or(Place::ZERO);
        while let Some(segment) = self.take_segment_below(needed) {
            remove_segment(self.disk.as_ref(), &segment)?;
        }
        Ok(())
    }

    pub(super) const fn disk(&self) -> &Arc<D> {
        &self.disk
    }

    pub(super) const fn log_id(&self) -> u64 {
        self.log_id
    }

    pub(super) fn push_segment(&self, segment: Arc<Segment<D::File>>) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// Everything below `durable` can be read from now on.
    pub(super) fn publish(&self, durable: Place) {
        self.durable.store(durable.0, Ordering::Release);
    }

    pub(super) fn publish_shard(&self, shard: ShardId, end: Place) {
        if let Some(shard_end) = self.shard_ends.get(usize::from(shard.0)) {
            shard_end.fetch_max(end.0, Ordering::AcqRel);
        }
    }

    fn segments(&self) -> Vec<Arc<Segment<D::File>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first segment, taken out of the readers' sight, if all of it is below `needed`. The last one always stays.
    fn take_segment_below(&self, needed: Place) -> Option<Arc<Segment<D::File>>> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let removable = segments.len() > 1 && segments[0].limit() <= needed;
        removable.then(|| segments.remove(0))
    }

    fn read_segment(
        &self,
        segment: &Segment<D::File>,
        end: Place,
        page: &mut PageBuilder,
    ) -> Result<PageState, LogError> {
        let end = segment.sealed().unwrap_or(end);
        let from = page.page.next.max(segment.first());
        let mut cursor = Cursor::new(segment, self.log_id, from, end, READ_BYTES);
        loop {
            let place = cursor.place();
            match page.take(&mut cursor) {
                Ok(PageState::Open) => {}
                Ok(state) => return Ok(state),
                Err(Invalid::Io(error)) => return Err(error.into()),
                Err(Invalid::Damaged { reason, .. }) => return Err(segment.corrupt(place, reason)),
            }
        }
    }
}

impl<D: Disk> std::fmt::Debug for LogView<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogView").field("durable", &self.durable()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PageState {
    /// There may be more in this segment.
    Open,
    /// This segment has no more.
    SegmentEnd,
    /// The page is full.
    Complete,
}

struct PageBuilder {
    shard: ShardId,
    bytes_max: usize,
    bytes: usize,
    page: LogPage,
}

impl PageBuilder {
    /// Takes the record at the cursor, or passes over it.
    fn take<F: DiskFile>(&mut self, cursor: &mut Cursor<'_, F>) -> Result<PageState, Invalid> {
        let Some(header) = cursor.header()? else {
            return Ok(PageState::SegmentEnd);
        };
        let Some(kind) = self.kind(&header) else {
            self.page.next = cursor.pass(&header);
            return Ok(PageState::Open);
        };
        self.bytes += header.payload_bytes as usize;
        if self.bytes > self.bytes_max && !self.page.records.is_empty() {
            return Ok(PageState::Complete);
        }
        let payload = cursor.payload(&header)?.to_vec();
        let next = cursor.pass(&header);
        let RecordHeader { place, fence, number, .. } = header;
        self.page.records.push(Stored { place, next, kind, fence, number, payload });
        self.page.next = next;
        Ok(PageState::Open)
    }

    /// `None` for a record that is none of this page's business.
    fn kind(&self, header: &RecordHeader) -> Option<RecordKind> {
        match header.kind {
            RecordType::WriterChanged if header.shard == self.shard => Some(RecordKind::WriterChanged),
            RecordType::Entries if header.shard == self.shard => Some(RecordKind::Entries),
            _ => None,
        }
    }
}
