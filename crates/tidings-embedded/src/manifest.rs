//! The tables' manifest: up to which position of each shard's log the table files have everything. It is written after
//! the table files are on the disk and never before, so it may say too little but never too much: what it leaves out is
//! projected from the log again.
//!
//! The file is one line of JSON and a line with the JSON's checksum.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidings_types::{Fence, LogPosition, Place, RecordNumber, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::durable_file;

const FILE: &str = "MANIFEST";
const FORMAT: u32 = 1;

/// What the table files have of each shard, by shard number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) shards: Vec<ShardMark>,
}

/// What the table files have of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShardMark {
    /// Everything below is in the table files.
    pub(crate) position: LogPosition,
    /// The latest `created_at` among it.
    pub(crate) latest_at: Timestamp,
}

#[derive(Debug, Error)]
pub(crate) enum ManifestError {
    #[error("the manifest of the tables is damaged: {0}")]
    Damaged(&'static str),
    #[error("the manifest of the tables cannot be read")]
    Io(#[from] io::Error),
}

impl Manifest {
    /// Nothing is there yet.
    pub(crate) fn empty(shards: u16) -> Self {
        Self { shards: vec![ShardMark::default(); usize::from(shards)] }
    }

    /// The manifest in `directory`; `None` if none was ever written.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, ManifestError> {
        durable_file::read_if_there(&directory.join(FILE))?.map(|bytes| Self::decode(&bytes)).transpose()
    }

    /// Replaces the manifest in `directory`. Durable on return.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        durable_file::replace(&directory.join(FILE), self.encode().as_bytes())
    }

    fn encode(&self) -> String {
        let stored = Stored { format: FORMAT, shards: self.shards.iter().map(StoredMark::of).collect() };
        let json = serde_json::to_string(&stored).expect("numbers in a struct always serialize");
        let checksum = xxh3_64(json.as_bytes());
        format!("{json}\n{checksum:016x}\n")
    }

    fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::Damaged("it is not text"))?;
        let (json, checksum) = text.split_once('\n').ok_or(ManifestError::Damaged("it has no checksum"))?;
        if checksum.strip_suffix('\n') != Some(&format!("{:016x}", xxh3_64(json.as_bytes()))) {
            return Err(ManifestError::Damaged("its checksum does not match"));
        }
        let stored: Stored = serde_json::from_str(json)
            .map_err(|_| ManifestError::Damaged("it has other fields than expected"))?;
        if stored.format != FORMAT {
            return Err(ManifestError::Damaged("it has a format that this version does not know"));
        }
        Ok(Self { shards: stored.shards.iter().map(StoredMark::mark).collect() })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    shards: Vec<StoredMark>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredMark {
    place: u64,
    fence: u64,
    number: u64,
    latest_at_ms: u64,
}

impl StoredMark {
    const fn of(mark: &ShardMark) -> Self {
        let LogPosition { place, fence, number } = mark.position;
        Self { place: place.0, fence: fence.0, number: number.0, latest_at_ms: mark.latest_at.as_ms() }
    }

    const fn mark(&self) -> ShardMark {
        let position = LogPosition {
            place: Place(self.place),
            fence: Fence(self.fence),
            number: RecordNumber(self.number),
        };
        ShardMark { position, latest_at: Timestamp::from_ms(self.latest_at_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(place: u64) -> Manifest {
        let position = LogPosition { place: Place(place), fence: Fence(3), number: RecordNumber(4) };
        let mark = ShardMark { position, latest_at: Timestamp::from_ms(1_790_000_000_000) };
        Manifest { shards: vec![mark, ShardMark::default()] }
    }

    #[test]
    fn the_last_written_manifest_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), None);
        for place in [0, 7, u64::MAX] {
            manifest(place).write(directory.path()).unwrap();
            assert_eq!(Manifest::read(directory.path()).unwrap(), Some(manifest(place)));
        }
    }

    #[test]
    fn a_torn_write_leaves_the_old_manifest() {
        let directory = tempfile::tempdir().unwrap();
        manifest(7).write(directory.path()).unwrap();
        // A crash before the rename: part of the next manifest lies under its temporary name.
        let next = manifest(8).encode();
        std::fs::write(directory.path().join("MANIFEST.new"), &next.as_bytes()[..next.len() / 2]).unwrap();

        assert_eq!(Manifest::read(directory.path()).unwrap(), Some(manifest(7)));
        manifest(9).write(directory.path()).unwrap();
        assert_eq!(Manifest::read(directory.path()).unwrap(), Some(manifest(9)));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_goes_unnoticed() {
        let whole = manifest(7).encode().into_bytes();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                assert!(Manifest::decode(&damaged).is_err(), "bit {bit} of byte {at}");
            }
            assert!(Manifest::decode(&whole[..at]).is_err(), "cut at {at}");
        }
    }
}
