//! Many entries one after the other, each with its length before it: the payload of a log record and of a history
//! block.

use tidings_types::Entry;

use crate::fields::{put_varint, take_slice};
use crate::{RecordError, decode_entry, encode_entry};

/// Appends one entry to a sequence.
pub fn push_entry(payload: &mut Vec<u8>, entry: &Entry) {
    let mut bytes = Vec::with_capacity(256);
    encode_entry(entry, &mut bytes);
    put_varint(payload, bytes.len() as u64);
    payload.extend_from_slice(&bytes);
}

#[must_use]
pub fn encode_entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u8> {
    let mut payload = Vec::new();
    for entry in entries {
        push_entry(&mut payload, entry);
    }
    payload
}

/// Decodes a whole sequence, or nothing of it.
pub fn decode_entries(payload: &[u8]) -> Result<Vec<Entry>, RecordError> {
    entries(payload).map(|bytes| decode_entry(bytes?)).collect()
}

/// The entries of a sequence as they are stored, for [`peek_kind`](crate::peek_kind) and [`decode_entry`].
#[must_use]
pub const fn entries(payload: &[u8]) -> Entries<'_> {
    Entries { rest: payload }
}

/// The iterator of [`entries`]. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = take_slice(self.rest);
        self.rest = taken.map_or(&[], |(_, rest)| rest);
        Some(taken.map(|(entry, _)| entry))
    }
}
