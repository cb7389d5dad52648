//! The LSM store under the tables, and what it does not promise by itself.
//!
//! Table files and their version files are synced by the store before a flush returns (read in lsm-tree 3.1.10:
//! `table::writer::finish`, `version::persist_version`). Not so:
//!
//! - **Its journal is never trusted.** A flipped bit in it may open silently, without rows, or with a sequence number so
//!   high that later values of a row stay hidden for ever. Our log is the journal, so the store's own is dropped before
//!   every open. An empty one takes its place: without any file the store restarts its sequence numbers at 0 and old
//!   rows would win over new ones.
//! - **A damaged version file may open silently** and then drop table files, since its checksum is stored and never
//!   compared. It is compared here before the store sees it.
//! - **A damaged table of contents in a table file ends the process**, since its length is believed, and that much memory
//!   asked for, before its checksum is compared. It is compared here first.
//! - **A keyspace without a version file is deleted by the store** as unfinished. Here it is damage.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fjall::config::{BlockSizePolicy, FilterPolicy};
use fjall::{
    AbstractTree, Database, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch, PersistMode,
};
use tidings_ports::TablesError;
use xxhash_rust::xxh3::xxh3_128;

use crate::durable_file;

const CACHE_BYTES: u64 = 64 * 1024 * 1024;
const MEMTABLE_BYTES_MAX: u64 = 32 * 1024 * 1024;
const BLOCK_BYTES: u32 = 16 * 1024;
/// One for flushes while the other compacts.
const WORKER_THREADS: usize = 2;

/// The keyspaces in the order of their creation, which gives them the numbers 1 to 5; 0 is the store's own.
const KEYSPACES: [&str; 5] = ["heads", "members", "blocks", "ids", "personal"];

pub(super) struct Store {
    pub(super) heads: Keyspace,
    pub(super) members: Keyspace,
    pub(super) blocks: Keyspace,
    pub(super) ids: Keyspace,
    pub(super) personal: Keyspace,
    database: Database,
}

impl Store {
    /// Makes an empty store. What a crashed attempt left is removed; rows are not.
    pub(super) fn create(directory: &Path) -> Result<Self, TablesError> {
        if has_rows(directory).map_err(unavailable)? {
            return Err(TablesError::Corrupt("there are rows, and the manifest is missing".to_owned()));
        }
        if directory.exists() {
            fs::remove_dir_all(directory).map_err(unavailable)?;
        }
        let store = Self::open(directory)?;
        for made in [directory.join("keyspaces"), directory.to_owned()] {
            durable_file::sync_dir(&made).map_err(unavailable)?;
        }
        Ok(store)
    }

    /// Opens an existing store with what its table files have and nothing else.
    pub(super) fn recover(directory: &Path) -> Result<Self, TablesError> {
        if !directory.join("version").exists() {
            return Err(TablesError::Corrupt("there is a manifest, and the rows are missing".to_owned()));
        }
        for number in 0..=KEYSPACES.len() {
            verify(&directory.join("keyspaces").join(number.to_string()))?;
        }
        drop_journals(directory).map_err(unavailable)?;
        let store = Self::open(directory)?;
        if store.database.keyspace_count() != KEYSPACES.len() {
            return Err(TablesError::Corrupt("keyspaces are missing".to_owned()));
        }
        Ok(store)
    }

    fn open(directory: &Path) -> Result<Self, TablesError> {
        let builder = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .worker_threads(WORKER_THREADS)
            .manual_journal_persist(true);
        let database = builder.open().map_err(failed)?;
        let keyspace = |name| database.keyspace(name, || options(name)).map_err(failed);
        let [heads, members, blocks, ids, personal] = KEYSPACES;
        Ok(Self {
            heads: keyspace(heads)?,
            members: keyspace(members)?,
            blocks: keyspace(blocks)?,
            ids: keyspace(ids)?,
            personal: keyspace(personal)?,
            database,
        })
    }

    /// A batch that is not synced: what it writes counts once a checkpoint has flushed it.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// Closes every memtable, so that all that was written so far is in the next flush.
    pub(super) fn seal(&self) -> Result<(), TablesError> {
        self.check()?;
        for keyspace in self.keyspaces() {
            keyspace.rotate_memtable().map_err(failed)?;
        }
        Ok(())
    }

    /// Writes every closed memtable to table files. Durable on return.
    ///
    /// It flushes on this thread, though the store's workers have been told to do so too: who comes second finds
    /// nothing left. So an error arrives here and not in a worker's log, and a dead worker cannot keep us waiting.
    pub(super) fn flush(&self) -> Result<(), TablesError> {
        for keyspace in self.keyspaces() {
            let flushing = keyspace.tree.get_flush_lock();
            // Keeps older values of a row, which the next compaction drops: 0 is right whoever reads meanwhile.
            keyspace.tree.flush(&flushing, 0).map_err(|error| failed(error.into()))?;
        }
        self.check()
    }

    /// Fails once a write or a worker of the store has failed. It never recovers: the process has to open it again.
    pub(super) fn check(&self) -> Result<(), TablesError> {
        self.database.persist(PersistMode::Buffer).map_err(failed)
    }

    fn keyspaces(&self) -> [&Keyspace; 5] {
        [&self.blocks, &self.ids, &self.members, &self.personal, &self.heads]
    }
}

/// An error of the store as an error of the port.
pub(super) fn failed(error: fjall::Error) -> TablesError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => TablesError::Full,
            // Table files never shrink or vanish while they are in use.
            io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound | io::ErrorKind::InvalidData => {
                TablesError::Corrupt(error.to_string())
            }
            _ => unavailable(error),
        },
        fjall::Error::Storage(error) => TablesError::Corrupt(error.to_string()),
        error @ (fjall::Error::InvalidVersion(_)
        | fjall::Error::Decompress(_)
        | fjall::Error::InvalidTrailer
        | fjall::Error::InvalidTag(_)
        | fjall::Error::Unrecoverable) => TablesError::Corrupt(error.to_string()),
        error => unavailable(error),
    }
}

pub(super) fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TablesError {
    TablesError::Unavailable(error.into())
}

fn options(name: &str) -> KeyspaceCreateOptions {
    let options =
        KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES_MAX).manual_journal_persist(true);
    match name {
        // Read by ranges only: a filter would never be asked, and a row is as large as a page of the others.
        "blocks" | "ids" => options
            .filter_policy(FilterPolicy::disabled())
            .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES)),
        _ => options,
    }
}

/// Are there table files in any keyspace but the store's own?
fn has_rows(directory: &Path) -> io::Result<bool> {
    for number in 1..=KEYSPACES.len() {
        let tables = directory.join("keyspaces").join(number.to_string()).join("tables");
        if tables.exists() && fs::read_dir(tables)?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Compares the checksums of a keyspace's files that the store itself does not compare in time.
fn verify(keyspace: &Path) -> Result<(), TablesError> {
    let version = verified_version(keyspace)?;
    for file in fs::read_dir(keyspace.join("tables")).map_err(|error| failed(error.into()))? {
        let path = file.map_err(unavailable)?.path();
        let number = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u64>().ok());
        // What a crash left unfinished is not listed; the store removes it without looking inside.
        let is_listed = number.is_some_and(|number| lists_table(&version, number));
        if is_listed && !has_whole_contents(&path).map_err(|error| failed(error.into()))? {
            return Err(damaged(&path, "the checksum of its table of contents does not match"));
        }
    }
    Ok(())
}

/// The version file, which lists the table files of a keyspace, after its checksum was compared with the one in
/// `current`: number of the version (8 bytes, little endian), xxh3-128 of its file (16 bytes, little endian), kind of
/// checksum (0).
fn verified_version(keyspace: &Path) -> Result<Vec<u8>, TablesError> {
    let read = |path: PathBuf| match durable_file::read_if_there(&path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(damaged(&path, "it is missing")),
        Err(error) => Err(unavailable(error)),
    };
    let current = read(keyspace.join("current"))?;
    let (Some((number, rest)), 25) = (current.split_first_chunk::<8>(), current.len()) else {
        return Err(damaged(&keyspace.join("current"), "it has another length than 25"));
    };
    let path = keyspace.join(format!("v{}", u64::from_le_bytes(*number)));
    let version = read(path.clone())?;
    match rest.split_first_chunk::<16>() {
        Some((checksum, [0])) if u128::from_le_bytes(*checksum) == xxh3_128(&version) => Ok(version),
        _ => Err(damaged(&path, "its checksum does not match")),
    }
}

/// In a version file a table's number (8 bytes, little endian) stands before the kind of its checksum (0).
fn lists_table(version: &[u8], number: u64) -> bool {
    let number = number.to_le_bytes();
    version.windows(9).any(|bytes| bytes[..8] == number && bytes[8] == 0)
}

/// A table file ends with its table of contents and 38 bytes: `SFA!`, version, kind of checksum, xxh3-128 and place of
/// the table of contents, its length.
fn has_whole_contents(path: &Path) -> io::Result<bool> {
    const TRAILER_BYTES: usize = 38;
    const CONTENTS_BYTES_MAX: u64 = 64 * 1024;
    let file = fs::File::open(path)?;
    let Some(end) = file.metadata()?.len().checked_sub(TRAILER_BYTES as u64) else { return Ok(false) };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, end)?;
    let checksum = u128::from_le_bytes(trailer[6..22].try_into().expect("16 bytes"));
    let begin = u64::from_le_bytes(trailer[22..30].try_into().expect("8 bytes"));
    let Some(len) = end.checked_sub(begin).filter(|len| *len <= CONTENTS_BYTES_MAX) else { return Ok(false) };
    let mut contents = vec![0; usize::try_from(len).expect("at most 64 KiB")];
    file.read_exact_at(&mut contents, begin)?;
    Ok(trailer.starts_with(b"SFA!") && xxh3_128(&contents) == checksum)
}

fn damaged(path: &Path, what: &str) -> TablesError {
    TablesError::Corrupt(format!("{}: {what}", path.display()))
}

/// Replaces the store's journals by an empty one.
fn drop_journals(directory: &Path) -> io::Result<()> {
    let mut journals = Vec::new();
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jnl")) {
            journals.push(path);
        }
    }
    for journal in journals {
        fs::remove_file(journal)?;
    }
    fs::File::create_new(directory.join("0.jnl"))?.sync_all()?;
    durable_file::sync_dir(directory)
}
