//! The log file's own frame: one header per segment file, one per record. Fixed size, little endian.
//!
//! A record is a header, its payload, and zeros up to the next multiple of eight bytes. The header has a checksum of
//! its own, which covers the payload's checksum too: a reader that passes over another shard's record can trust its
//! length without reading the payload, and a header alone is proof of what it says.

use std::fmt;

use tidings_types::{Fence, Place, RecordNumber, ShardId};
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 80;
/// Bytes of a segment file's header.
pub const SEGMENT_HEADER_BYTES: usize = 32;
/// Records begin at multiples of this.
pub const RECORD_ALIGN: usize = 8;
/// Payload bytes of one record. A header that claims more is refused before anything is read or allocated for it.
pub const PAYLOAD_BYTES_MAX: usize = 512 * 1024;

const RECORD_MAGIC: [u8; 4] = *b"TDrc";
const SEGMENT_MAGIC: [u8; 4] = *b"TDsg";
const FORMAT: u16 = 1;

/// Which key the payload is encrypted with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyId(pub u32);

impl KeyId {
    /// Not encrypted.
    pub const PLAIN: Self = Self(0);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// A new writer's first record.
    WriterChanged,
    /// A batch of entries.
    Entries,
    /// Nothing but the durable place. Belongs to no shard.
    DurableMark,
}

/// What stands before a record's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub kind: RecordType,
    pub key_id: KeyId,
    /// Made by chance when the log was: a record of another log is never taken for one of this.
    pub log_id: u64,
    pub shard: ShardId,
    pub fence: Fence,
    pub number: RecordNumber,
    /// The record's own place.
    pub place: Place,
    /// Everything below was durable when the record was written.
    pub durable: Place,
    pub payload_bytes: u32,
    /// xxh3-64 of the payload.
    pub payload_checksum: u64,
}

/// What stands at the beginning of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub log_id: u64,
    /// The place of the file's first byte.
    pub base: Place,
}

/// Why bytes are not a header, or not this header's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    Truncated,
    /// No header was ever written here, or its first bytes are gone.
    NotAHeader,
    /// The header is damaged.
    Checksum,
    /// An undamaged header of a newer format.
    UnknownFormat(u16),
    /// An undamaged header of a newer kind of record.
    UnknownKind(u8),
    /// More than [`PAYLOAD_BYTES_MAX`].
    PayloadTooLong(u32),
    /// The payload is damaged.
    PayloadChecksum,
}

impl HeaderError {
    /// The error in one sentence.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Truncated => "the header ends too early",
            Self::NotAHeader => "there is no header here",
            Self::Checksum => "the header fails its checksum",
            Self::UnknownFormat(_) => "the header has a newer format than this server knows",
            Self::UnknownKind(_) => "the record has a newer kind than this server knows",
            Self::PayloadTooLong(_) => "the header claims a longer payload than any record has",
            Self::PayloadChecksum => "the payload fails its checksum",
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for HeaderError {}

/// Bytes that a record with such a payload takes in the log.
#[must_use]
pub const fn record_bytes(payload_bytes: usize) -> usize {
    (HEADER_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGN)
}

/// Appends a whole record to `out`. The payload's length and checksum in `header` are filled in here. A payload beyond
/// [`PAYLOAD_BYTES_MAX`] is refused, because no reader would take it back.
pub fn encode_record(header: RecordHeader, payload: &[u8], out: &mut Vec<u8>) -> Result<(), HeaderError> {
    let payload_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(HeaderError::PayloadTooLong(payload_bytes));
    }
    let header = RecordHeader { payload_bytes, payload_checksum: xxh3_64(payload), ..header };
    let start = out.len();
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
    out.resize(start + record_bytes(payload.len()), 0);
    Ok(())
}

impl RecordHeader {
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let kind = match self.kind {
            RecordType::WriterChanged => 1,
            RecordType::Entries => 2,
            RecordType::DurableMark => 3,
        };
        let mut bytes = [0; HEADER_BYTES];
        let mut put = Put { bytes: &mut bytes, at: 0 };
        put.all(&RECORD_MAGIC);
        put.all(&FORMAT.to_le_bytes());
        put.all(&[kind, 0]);
        put.all(&self.key_id.0.to_le_bytes());
        put.all(&self.shard.0.to_le_bytes());
        put.all(&[0; 2]);
        put.all(&self.log_id.to_le_bytes());
        put.all(&self.fence.0.to_le_bytes());
        put.all(&self.number.0.to_le_bytes());
        put.all(&self.place.0.to_le_bytes());
        put.all(&self.durable.0.to_le_bytes());
        put.all(&self.payload_bytes.to_le_bytes());
        put.all(&[0; 4]);
        put.all(&self.payload_checksum.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// A header from the front of `bytes`. Errors other than [`HeaderError::UnknownFormat`] and
    /// [`HeaderError::UnknownKind`] mean that no such record was written here, or that it is damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        check_seal(bytes, RECORD_MAGIC)?;
        let kind = match bytes[6] {
            1 => RecordType::WriterChanged,
            2 => RecordType::Entries,
            3 => RecordType::DurableMark,
            kind => return Err(HeaderError::UnknownKind(kind)),
        };
        let payload_bytes = u32_at(bytes, 56);
        if payload_bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(HeaderError::PayloadTooLong(payload_bytes));
        }
        Ok(Self {
            kind,
            key_id: KeyId(u32_at(bytes, 8)),
            shard: ShardId(u16_at(bytes, 12)),
            log_id: u64_at(bytes, 16),
            fence: Fence(u64_at(bytes, 24)),
            number: RecordNumber(u64_at(bytes, 32)),
            place: Place(u64_at(bytes, 40)),
            durable: Place(u64_at(bytes, 48)),
            payload_bytes,
            payload_checksum: u64_at(bytes, 64),
        })
    }

    /// Is this the payload that was written behind this header?
    pub fn verify(&self, payload: &[u8]) -> Result<(), HeaderError> {
        if payload.len() == self.payload_bytes as usize && xxh3_64(payload) == self.payload_checksum {
            return Ok(());
        }
        Err(HeaderError::PayloadChecksum)
    }

    /// Bytes that the whole record takes in the log.
    #[must_use]
    pub const fn record_bytes(&self) -> usize {
        record_bytes(self.payload_bytes as usize)
    }
}

impl SegmentHeader {
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let mut put = Put { bytes: &mut bytes, at: 0 };
        put.all(&SEGMENT_MAGIC);
        put.all(&FORMAT.to_le_bytes());
        put.all(&[0; 2]);
        put.all(&self.log_id.to_le_bytes());
        put.all(&self.base.0.to_le_bytes());
        seal(&mut bytes);
        bytes
    }

    /// A header from the front of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; SEGMENT_HEADER_BYTES] = bytes.first_chunk().ok_or(HeaderError::Truncated)?;
        check_seal(bytes, SEGMENT_MAGIC)?;
        Ok(Self { log_id: u64_at(bytes, 8), base: Place(u64_at(bytes, 16)) })
    }
}

struct Put<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Put<'_> {
    fn all(&mut self, value: &[u8]) {
        self.bytes[self.at..self.at + value.len()].copy_from_slice(value);
        self.at += value.len();
    }
}

/// Writes the header's checksum into its last eight bytes, where every format will have it: a reader must be able to
/// tell a newer header from a damaged one.
fn seal(bytes: &mut [u8]) {
    let (sealed, checksum) = bytes.split_at_mut(bytes.len() - 8);
    checksum.copy_from_slice(&xxh3_64(sealed).to_le_bytes());
}

fn check_seal(bytes: &[u8], magic: [u8; 4]) -> Result<(), HeaderError> {
    if bytes[..4] != magic {
        return Err(HeaderError::NotAHeader);
    }
    let (sealed, checksum) = bytes.split_at(bytes.len() - 8);
    if xxh3_64(sealed).to_le_bytes() != checksum {
        return Err(HeaderError::Checksum);
    }
    match u16_at(bytes, 4) {
        FORMAT => Ok(()),
        format => Err(HeaderError::UnknownFormat(format)),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
