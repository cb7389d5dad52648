//! What every stored value is wrapped in: a key id byte in front (0 = plain; others are for encryption at rest), a
//! checksum behind. The checksum covers the row's key too, so a value under another key is damage and not data.

use tidings_ports::TablesError;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const KEY_ID_PLAIN: u8 = 0;
const CHECKSUM_BYTES: usize = 8;

/// The value to store under `row`; `encode` appends the payload.
pub(super) fn seal(row: &[u8], encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = vec![KEY_ID_PLAIN];
    encode(&mut value);
    let checksum = checksum(row, &value);
    value.extend_from_slice(&checksum);
    value
}

/// The payload of a value stored under `row`.
pub(super) fn open<'a>(row: &[u8], value: &'a [u8]) -> Result<&'a [u8], TablesError> {
    let (sealed, stored) =
        value.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged(row, "it is too short"))?;
    if *stored != checksum(row, sealed) {
        return Err(damaged(row, "its checksum does not match"));
    }
    match sealed {
        [KEY_ID_PLAIN, payload @ ..] => Ok(payload),
        _ => Err(damaged(row, "its key id is unknown")),
    }
}

/// Names the row by the ids in its key, which are no content.
pub(super) fn damaged(row: &[u8], reason: impl std::fmt::Display) -> TablesError {
    let mut name = String::with_capacity(row.len() * 2);
    for byte in row {
        name.push_str(&format!("{byte:02x}"));
    }
    TablesError::Corrupt(format!("row {name}: {reason}"))
}

fn checksum(row: &[u8], sealed: &[u8]) -> [u8; CHECKSUM_BYTES] {
    xxh3_64_with_seed(sealed, xxh3_64(row)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_under_its_own_key_only() {
        let sealed = seal(b"row", |value| value.extend_from_slice(b"payload"));
        assert_eq!(open(b"row", &sealed).unwrap(), b"payload");
        assert!(matches!(open(b"other", &sealed), Err(TablesError::Corrupt(_))));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let sealed = seal(b"row", |value| value.extend_from_slice(b"payload"));
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1 << bit;
                assert!(open(b"row", &damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert!(open(b"row", &sealed[..at]).is_err(), "cut at {at}");
        }
    }
}
