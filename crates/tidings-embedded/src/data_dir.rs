//! The data directory: who it belongs to (`FORMAT`), who uses it now (`LOCK`), and where its parts are.
//!
//! `FORMAT` is written once, when the directory is made. Everything whose meaning depends on it (which slot a
//! conversation is in, which epoch clients see) moves with the directory.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidings_ports::Rng;
use tidings_types::{ServerId, Timestamp};

use crate::durable_file;

/// The format this version writes and reads.
const FORMAT_NUMBER: u64 = 1;

/// Slots are fixed for ever; the number stands in `FORMAT` so that other tools need not know it.
const SLOTS: u16 = 4096;

/// An open data directory. Nobody else can open it until this value is dropped or its process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    format: Format,
    _lock: File,
}

/// What the directory says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub server_id: ServerId,
    /// Raised by a restore; no conversation's epoch is below it.
    pub incarnation: u32,
    pub slots: u16,
    /// Seed of the hash from conversation to slot, so that nobody can aim at a slot.
    pub slots_seed: u64,
    pub created_at: Timestamp,
}

#[derive(Debug, Error)]
pub enum DataDirError {
    #[error("{} is in use by another process: stop it, or give this one another directory with --data", path.display())]
    InUse { path: PathBuf },
    #[error(
        "{} has format {found} and this version reads format {FORMAT_NUMBER}: run `tidings upgrade --data {}` with \
         the newer of the two versions",
        path.display(),
        path.display()
    )]
    OtherFormat { path: PathBuf, found: u64 },
    /// A file is there and is not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{} cannot be used", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Opens the directory, making it if it is not there.
    pub fn open(path: &Path, now: Timestamp, rng: &dyn Rng) -> Result<Self, DataDirError> {
        make_dir(path)?;
        let lock = lock(path)?;
        let format = match read_format(path)? {
            Some(format) => format,
            None => make_format(path, now, rng)?,
        };
        for part in ["log", "tables", "blobs", "keys"] {
            make_dir(&path.join(part))?;
        }
        durable_file::sync_dir(path).map_err(|source| failed(path, source))?;
        Ok(Self { root: path.to_owned(), format, _lock: lock })
    }

    #[must_use]
    pub const fn format(&self) -> &Format {
        &self.format
    }

    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of the shard log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Directory of the tables.
    #[must_use]
    pub fn tables(&self) -> PathBuf {
        self.root.join("tables")
    }

    /// File of the directory of accounts.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.root.join("directory.sqlite")
    }

    /// Directory of the media.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The secret of this name under `keys/`; made of `LEN` random bytes, for the owner only, if it is not there yet.
    pub fn secret<const LEN: usize>(&self, name: &str, rng: &dyn Rng) -> Result<[u8; LEN], DataDirError> {
        let path = self.root.join("keys").join(name);
        if let Some(bytes) = durable_file::read_if_there(&path).map_err(|source| failed(&path, source))? {
            let len = bytes.len();
            return bytes.try_into().map_err(|_| damaged(&path, format!("it has {len} bytes and not {LEN}")));
        }
        let mut secret = [0; LEN];
        rng.fill(&mut secret);
        durable_file::replace(&path, &secret).map_err(|source| failed(&path, source))?;
        Ok(secret)
    }
}

fn make_dir(path: &Path) -> Result<(), DataDirError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| failed(path, source))
}

/// The lock is the kernel's and not the file's existence, so nothing has to be cleaned up after a crash.
fn lock(root: &Path) -> Result<File, DataDirError> {
    let path = root.join("LOCK");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|source| failed(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DataDirError::InUse { path: root.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(&path, source)),
    }
}

fn read_format(root: &Path) -> Result<Option<Format>, DataDirError> {
    let path = root.join("FORMAT");
    let Some(bytes) = durable_file::read_if_there(&path).map_err(|source| failed(&path, source))? else {
        return Ok(None);
    };
    // Another format may have other fields, so the number is read alone first.
    let number: FormatNumber =
        serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error.to_string()))?;
    if number.format != FORMAT_NUMBER {
        return Err(DataDirError::OtherFormat { path: root.to_owned(), found: number.format });
    }
    let stored: StoredFormat =
        serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error.to_string()))?;
    Format::from_stored(&stored).map(Some).map_err(|reason| damaged(&path, reason.to_owned()))
}

fn make_format(root: &Path, now: Timestamp, rng: &dyn Rng) -> Result<Format, DataDirError> {
    let path = root.join("FORMAT");
    // A new seed would put every conversation into another slot: data without its FORMAT is not ours to adopt.
    for part in ["log", "tables", "directory.sqlite"] {
        if root.join(part).exists() {
            return Err(damaged(&path, format!("it is missing, and there is data in {part}")));
        }
    }
    let (mut id, mut seed) = ([0; 10], [0; 8]);
    rng.fill(&mut id);
    rng.fill(&mut seed);
    let format = Format {
        server_id: ServerId::v7(now, id),
        incarnation: 1,
        slots: SLOTS,
        slots_seed: u64::from_be_bytes(seed),
        created_at: now,
    };
    durable_file::replace(&path, format.to_stored().as_bytes()).map_err(|source| failed(&path, source))?;
    Ok(format)
}

fn failed(path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { path: path.to_owned(), source }
}

fn damaged(path: &Path, reason: String) -> DataDirError {
    DataDirError::Damaged { path: path.to_owned(), reason }
}

#[derive(Deserialize)]
struct FormatNumber {
    format: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFormat {
    format: u64,
    server_id: String,
    incarnation: u32,
    slots: u16,
    /// 16 hexadecimal digits: a JSON number would lose bits in readers that have only floats.
    slots_seed: String,
    created_at_ms: u64,
}

impl Format {
    fn to_stored(&self) -> String {
        let stored = StoredFormat {
            format: FORMAT_NUMBER,
            server_id: self.server_id.to_string(),
            incarnation: self.incarnation,
            slots: self.slots,
            slots_seed: format!("{:016x}", self.slots_seed),
            created_at_ms: self.created_at.as_ms(),
        };
        serde_json::to_string_pretty(&stored).expect("numbers and text always serialize") + "\n"
    }

    fn from_stored(stored: &StoredFormat) -> Result<Self, &'static str> {
        if stored.slots != SLOTS {
            return Err("`slots` is not 4096");
        }
        if stored.slots_seed.len() != 16 {
            return Err("`slots_seed` has not 16 digits");
        }
        Ok(Self {
            server_id: stored.server_id.parse().map_err(|_| "`server_id` is not a UUID")?,
            incarnation: stored.incarnation,
            slots: stored.slots,
            slots_seed: u64::from_str_radix(&stored.slots_seed, 16)
                .map_err(|_| "`slots_seed` is not a number")?,
            created_at: Timestamp::from_ms(stored.created_at_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Never gives the same bytes twice.
    struct CountingRng(AtomicU8);

    impl Rng for CountingRng {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn rng() -> CountingRng {
        CountingRng(AtomicU8::new(1))
    }

    fn open(path: &Path) -> Result<DataDir, DataDirError> {
        DataDir::open(path, Timestamp::from_ms(1_790_000_000_000), &rng())
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_directory_is_made_and_says_the_same_when_opened_again() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("deep/data");
        let format = open(&path).unwrap().format().clone();
        assert_eq!((format.incarnation, format.slots, format.server_id.version()), (1, 4096, 7));
        assert_ne!(format.slots_seed, 0);

        let again =
            DataDir::open(&path, Timestamp::from_ms(1_800_000_000_000), &CountingRng(AtomicU8::new(99)))
                .unwrap();
        assert_eq!(again.format(), &format);
        for directory in [again.root(), &again.log(), &again.tables(), &again.blobs()] {
            assert_eq!(mode(directory), 0o700, "{}", directory.display());
        }
        for file in ["FORMAT", "LOCK"] {
            assert_eq!(mode(&path.join(file)), 0o600, "{file}");
        }
    }

    #[test]
    fn a_second_open_is_refused_until_the_first_is_gone() {
        let parent = tempfile::tempdir().unwrap();
        let first = open(parent.path()).unwrap();
        let refused = open(parent.path()).unwrap_err();
        assert!(matches!(refused, DataDirError::InUse { .. }), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains(&parent.path().display().to_string()) && text.contains("--data"), "{text}");
        drop(first);
        open(parent.path()).unwrap();
    }

    /// Runs this very test binary as the second process; see the next test.
    #[test]
    fn child_opens_the_directory_it_is_given() {
        if let Some(path) = std::env::var_os("TIDINGS_TEST_DATA_DIR") {
            let refused = open(Path::new(&path)).unwrap_err();
            assert!(matches!(refused, DataDirError::InUse { .. }), "{refused:?}");
        }
    }

    #[test]
    fn a_second_process_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let _first = open(parent.path()).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "data_dir::tests::child_opens_the_directory_it_is_given"])
            .env("TIDINGS_TEST_DATA_DIR", parent.path())
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&status.stdout);
        assert!(status.status.success() && output.contains("1 passed"), "{output}");
    }

    #[test]
    fn another_format_number_is_refused_and_names_the_command() {
        let parent = tempfile::tempdir().unwrap();
        drop(open(parent.path()).unwrap());
        std::fs::write(parent.path().join("FORMAT"), r#"{"format":2,"something":"new"}"#).unwrap();
        let refused = open(parent.path()).unwrap_err();
        assert!(matches!(refused, DataDirError::OtherFormat { found: 2, .. }), "{refused:?}");
        assert!(refused.to_string().contains("tidings upgrade --data"), "{refused}");
    }

    #[test]
    fn a_damaged_or_missing_format_is_refused_and_not_made_anew() {
        let parent = tempfile::tempdir().unwrap();
        drop(open(parent.path()).unwrap());
        let path = parent.path().join("FORMAT");
        let whole = std::fs::read_to_string(&path).unwrap();
        for wrong in [whole[..whole.len() / 2].to_owned(), whole.replace("4096", "4095"), String::new()] {
            std::fs::write(&path, wrong).unwrap();
            let refused = open(parent.path()).unwrap_err();
            assert!(matches!(refused, DataDirError::Damaged { .. }), "{refused:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(parent.path()).unwrap_err(), DataDirError::Damaged { .. }));
        assert!(!path.exists());
    }

    #[test]
    fn a_crash_while_the_directory_is_made_is_repaired() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::write(parent.path().join("LOCK"), "").unwrap();
        std::fs::write(parent.path().join("FORMAT.new"), r#"{"form"#).unwrap();
        open(parent.path()).unwrap();
        open(parent.path()).unwrap();
    }

    #[test]
    fn a_secret_is_made_once_and_for_the_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let rng = rng();
        let data = open(parent.path()).unwrap();
        let secret: [u8; 32] = data.secret("tokens", &rng).unwrap();
        assert_eq!(data.secret("tokens", &rng).unwrap(), secret);
        assert_ne!(data.secret::<32>("tickets", &rng).unwrap(), secret);
        assert_eq!(mode(&parent.path().join("keys/tokens")), 0o600);
        assert_eq!(mode(&parent.path().join("keys")), 0o700);
        assert!(matches!(data.secret::<16>("tokens", &rng).unwrap_err(), DataDirError::Damaged { .. }));
    }
}
