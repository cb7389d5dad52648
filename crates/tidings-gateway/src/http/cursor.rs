//! Opaque cursors: bytes in base64url, the first of which says which list they belong to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use tidings_types::Timestamp;

use super::problem::{Failure, invalid};

/// Which list, and which form of its cursor.
#[derive(Clone, Copy)]
pub(super) enum CursorKind {
    Devices = 1,
    Members = 2,
    ConversationsByActivity = 3,
    ConversationsById = 4,
}

pub(super) fn encode(kind: CursorKind, parts: &[&[u8]]) -> String {
    let mut bytes = vec![kind as u8];
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of a cursor, by the kind that it names. Nobody else makes cursors, but anybody may send some.
pub(super) struct Opened(Vec<u8>);

impl Opened {
    pub(super) fn new(cursor: &str) -> Result<Self, Failure> {
        URL_SAFE_NO_PAD.decode(cursor).map(Self).map_err(|_| foreign())
    }

    /// `None` if the cursor is of another kind or length.
    pub(super) fn read<const N: usize>(&self, kind: CursorKind) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first()?;
        if *first == kind as u8 { rest.try_into().ok() } else { None }
    }
}

pub(super) fn decode<const N: usize>(kind: CursorKind, cursor: &str) -> Result<[u8; N], Failure> {
    Opened::new(cursor)?.read(kind).ok_or_else(foreign)
}

/// A moment, and what follows it.
pub(super) fn split<const N: usize, const REST: usize>(bytes: [u8; N]) -> (Timestamp, [u8; REST]) {
    const { assert!(N == REST + 8, "a moment has 8 bytes") };
    let (ms, rest) = bytes.split_first_chunk().expect("longer than a moment");
    (
        Timestamp::from_ms(u64::from_be_bytes(*ms)),
        rest.try_into().expect("the rest has the rest of the length"),
    )
}

pub(super) fn foreign() -> Failure {
    invalid("`cursor` is not one of this list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_belong_to_one_list() {
        let text = encode(CursorKind::Members, &[&[7; 8], &[9; 8]]);
        let bytes: [u8; 16] = decode(CursorKind::Members, &text).unwrap();
        assert_eq!(bytes, [7, 7, 7, 7, 7, 7, 7, 7, 9, 9, 9, 9, 9, 9, 9, 9]);
        assert!(decode::<16>(CursorKind::Devices, &text).is_err(), "another list");
        assert!(decode::<15>(CursorKind::Members, &text).is_err(), "another length");
        for wrong in ["", "!", "AA==", &text[1..]] {
            assert!(decode::<16>(CursorKind::Members, wrong).is_err(), "{wrong:?}");
        }
    }
}
