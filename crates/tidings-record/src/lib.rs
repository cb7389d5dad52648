//! The stored encoding of what Tidings keeps: entries, table rows, and the headers of log records and segments. The
//! same bytes in every engine, so that data can move from one engine to another.
//!
//! Every value begins with a version byte and goes on with numbered fields: a tag (field
//! number and wire type), then the value. A reader skips numbers it does not know and refuses a value that lacks a
//! required one; a field that has its default is not written. So a field can be added without a new version, and a
//! number, once used, never gets another meaning. The golden files under `tests/golden` hold one value of each kind.
//!
//! This crate never does I/O, never keeps state and never decides anything. Decoding arbitrary bytes never panics and
//! allocates in proportion to the input, whatever lengths the input claims.
//!
//! Start reading at [`encode_entry`], then [`RecordHeader`] for the log's own frame around a batch of entries.

mod entry;
mod error;
mod fields;
mod header;
mod ids;
mod rows;
mod sequence;

pub use entry::{EntryKind, decode_entry, encode_entry, peek_kind};
pub use error::RecordError;
pub use header::{
    HEADER_BYTES, HeaderError, KeyId, PAYLOAD_BYTES_MAX, RECORD_ALIGN, RecordHeader, RecordType,
    SEGMENT_HEADER_BYTES, SegmentHeader, encode_record, record_bytes,
};
pub use ids::{decode_id_rows, encode_id_rows, find_id};
pub use rows::{
    decode_head, decode_member, decode_personal_fact, encode_head, encode_member, encode_personal_fact,
};
pub use sequence::{Entries, decode_entries, encode_entries, entries, push_entry};
