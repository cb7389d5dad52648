//! Walks the records of one segment, from header to header, with buffered reads.

use std::io;

use tidings_ports::DiskFile;
use tidings_record::{HEADER_BYTES, HeaderError, RecordHeader, RecordType};
use tidings_types::{Fence, Place, RecordNumber};

use super::segment::Segment;

/// Why there is no valid record at a place.
pub(super) enum Invalid {
    Io(io::Error),
    Damaged { reason: &'static str, newer_format: bool },
}

impl From<io::Error> for Invalid {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HeaderError> for Invalid {
    fn from(error: HeaderError) -> Self {
        let newer_format = matches!(error, HeaderError::UnknownFormat(_) | HeaderError::UnknownKind(_));
        Self::Damaged { reason: error.reason(), newer_format }
    }
}

const fn damaged(reason: &'static str) -> Invalid {
    Invalid::Damaged { reason, newer_format: false }
}

pub(super) struct Cursor<'a, F> {
    segment: &'a Segment<F>,
    log_id: u64,
    place: Place,
    /// Nothing at or beyond this place is read.
    end: Place,
    read_bytes: usize,
    buffer: Vec<u8>,
    buffer_place: Place,
}

impl<'a, F: DiskFile> Cursor<'a, F> {
    /// Walks from `from` to `end`, reading `read_bytes` at a time.
    pub(super) const fn new(
        segment: &'a Segment<F>,
        log_id: u64,
        from: Place,
        end: Place,
        read_bytes: usize,
    ) -> Self {
        Self { segment, log_id, place: from, end, read_bytes, buffer: Vec::new(), buffer_place: from }
    }

    /// Where the next record is expected.
    pub(super) const fn place(&self) -> Place {
        self.place
    }

    /// The header at the cursor, checked; `None` at the end.
    pub(super) fn header(&mut self) -> Result<Option<RecordHeader>, Invalid> {
        if self.place >= self.end {
            return Ok(None);
        }
        let (place, log_id) = (self.place, self.log_id);
        let header = RecordHeader::parse(self.fetch(place, HEADER_BYTES)?)?;
        check(&header, log_id, place)?;
        if self.end.0 - place.0 < header.record_bytes() as u64 {
            return Err(damaged("the record goes beyond the end"));
        }
        Ok(Some(header))
    }

    /// The payload behind the header at the cursor, checked.
    pub(super) fn payload(&mut self, header: &RecordHeader) -> Result<&[u8], Invalid> {
        let from = Place(self.place.0 + HEADER_BYTES as u64);
        let payload = self.fetch(from, header.payload_bytes as usize)?;
        header.verify(payload)?;
        Ok(payload)
    }

    /// Goes to the next record; answers its place.
    pub(super) fn pass(&mut self, header: &RecordHeader) -> Place {
        self.place = Place(self.place.0 + header.record_bytes() as u64);
        self.place
    }

    /// `len` bytes at `from`, out of the buffer if it has them.
    fn fetch(&mut self, from: Place, len: usize) -> Result<&[u8], Invalid> {
        let available = self.end.0 - from.0;
        if available < len as u64 {
            return Err(damaged("the record goes beyond the end"));
        }
        let buffered = Place(self.buffer_place.0 + self.buffer.len() as u64);
        if from < self.buffer_place || from.0 + len as u64 > buffered.0 {
            let read = usize::try_from(available).unwrap_or(usize::MAX).min(self.read_bytes.max(len));
            self.buffer.resize(read, 0);
            self.buffer_place = from;
            self.segment.file.read_exact_at(&mut self.buffer, self.segment.offset(from))?;
        }
        let start = usize::try_from(from.0 - self.buffer_place.0).map_err(io::Error::other)?;
        Ok(&self.buffer[start..start + len])
    }
}

/// An undamaged header may still be one that was never written here.
fn check(header: &RecordHeader, log_id: u64, place: Place) -> Result<(), Invalid> {
    if header.log_id != log_id {
        return Err(damaged("the record belongs to another log"));
    }
    if header.place != place {
        return Err(damaged("the record belongs to another place"));
    }
    if header.durable > place {
        return Err(damaged("the record claims that itself was durable before it was written"));
    }
    let opens_fence = header.fence == Fence(place.0) && header.number == RecordNumber(0);
    if header.kind == RecordType::WriterChanged && !opens_fence {
        return Err(damaged("a writer's first record has another fence than its place"));
    }
    Ok(())
}
