//! A directory with a journal of changes: one checksummed JSON line per change, the state is what they add up to. When
//! the journal has grown, it is replaced by a shorter one in one step.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tidings_types::{ConversationId, Cursor};
use xxhash_rust::xxh3::xxh3_64;

use super::{Change, Known, Saved, Store, StoreError};

const JOURNAL: &str = "journal";
const JOURNAL_NEW: &str = "journal.new";
const LOCK: &str = "LOCK";

/// Below this a journal is never rewritten; above it, when most of it is history.
const REWRITE_BYTES_MIN: u64 = 256 * 1024;

/// A [`Store`] in a directory of its own, used by one process at a time.
#[derive(Debug)]
pub struct FileStore {
    directory: PathBuf,
    inner: Mutex<Inner>,
    /// Held as long as this store lives.
    _lock: File,
}

#[derive(Debug)]
struct Inner {
    saved: Saved,
    journal: File,
    journal_bytes: u64,
    rewrite_at_bytes: u64,
    /// A write failed, so the end of the journal is unknown: it is replaced before the next one.
    suspect: bool,
}

impl FileStore {
    /// Opens or creates the store. A torn last line, which nobody was told is durable, is cut off; damage anywhere else
    /// is an error.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        create_private_dir(directory).map_err(|source| failed(directory, source))?;
        let lock = lock(&directory.join(LOCK))?;
        let path = directory.join(JOURNAL);
        let (saved, valid_bytes) = read(&path)?;
        let journal = open_journal(&path, valid_bytes).map_err(|source| failed(&path, source))?;
        sync_dir(directory).map_err(|source| failed(directory, source))?;
        let inner = Inner {
            saved,
            journal,
            journal_bytes: valid_bytes,
            rewrite_at_bytes: REWRITE_BYTES_MIN.max(2 * valid_bytes),
            suspect: false,
        };
        Ok(Self { directory: directory.to_owned(), inner: Mutex::new(inner), _lock: lock })
    }

    fn write_locked(&self, inner: &mut Inner, change: Change) -> io::Result<()> {
        let durable = change.must_be_durable();
        if inner.suspect {
            return self.rewrite(inner, change);
        }
        let line = line(&change)?;
        let written = append(&mut inner.journal, &line, durable);
        inner.suspect = written.is_err();
        written?;
        inner.saved.apply(change);
        inner.journal_bytes += line.len() as u64;
        if inner.journal_bytes > inner.rewrite_at_bytes {
            // The change is safe in the old journal: failing to shorten it is not a failure of the change.
            inner.suspect = self.replace_journal(inner).is_err();
        }
        Ok(())
    }

    /// Writes the whole state and `change` into a new journal.
    fn rewrite(&self, inner: &mut Inner, change: Change) -> io::Result<()> {
        let mut next = inner.saved.clone();
        next.apply(change);
        let before = std::mem::replace(&mut inner.saved, next);
        let replaced = self.replace_journal(inner);
        inner.suspect = replaced.is_err();
        if replaced.is_err() {
            inner.saved = before;
        }
        replaced
    }

    /// After a crash either the old or the new journal is there, whole.
    fn replace_journal(&self, inner: &mut Inner) -> io::Result<()> {
        let (path, new_path) = (self.directory.join(JOURNAL), self.directory.join(JOURNAL_NEW));
        let mut bytes = Vec::new();
        for change in inner.saved.changes() {
            bytes.extend(line(&change)?);
        }
        let mut journal = private_options().write(true).create(true).truncate(true).open(&new_path)?;
        append(&mut journal, &bytes, true)?;
        fs::rename(&new_path, &path)?;
        sync_dir(&self.directory)?;
        inner.journal = journal;
        inner.journal_bytes = bytes.len() as u64;
        inner.rewrite_at_bytes = REWRITE_BYTES_MIN.max(2 * inner.journal_bytes);
        Ok(())
    }
}

impl Store for FileStore {
    fn saved(&self) -> Saved {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).saved.clone()
    }

    fn write(&self, change: Change) -> Result<(), StoreError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_locked(&mut inner, change).map_err(|source| failed(&self.directory.join(JOURNAL), source))
    }

    fn outbox_len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).saved.outbox.len()
    }

    fn cursor(&self, conversation: ConversationId) -> Option<Cursor> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.saved.conversations.get(&conversation).map(Known::cursor)
    }
}

/// `<16 hex digits of the checksum> <JSON>\n`.
fn line(change: &Change) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(change)?;
    let mut line = format!("{:016x} ", xxh3_64(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn parse(line: &[u8]) -> Option<Change> {
    let (checksum, json) = line.split_at_checked(17)?;
    let checksum = u64::from_str_radix(std::str::from_utf8(checksum).ok()?.strip_suffix(' ')?, 16).ok()?;
    if checksum != xxh3_64(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// The state and how many bytes of the journal say it.
fn read(path: &Path) -> Result<(Saved, u64), StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(failed(path, source)),
    };
    let (mut saved, mut valid) = (Saved::default(), 0);
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Some(change) = line.strip_suffix(b"\n").and_then(parse) else { break };
        saved.apply(change);
        valid += line.len();
    }
    // Only the last write can be torn. A good line behind a bad one means that something else damaged the file.
    let is_damaged = bytes[valid..].split(|&byte| byte == b'\n').skip(1).any(|line| parse(line).is_some());
    if is_damaged {
        return Err(StoreError::Corrupt { path: path.to_owned(), offset: valid as u64 });
    }
    Ok((saved, valid as u64))
}

fn open_journal(path: &Path, valid_bytes: u64) -> io::Result<File> {
    let journal = private_options().append(true).create(true).open(path)?;
    if journal.metadata()?.len() > valid_bytes {
        journal.set_len(valid_bytes)?;
        journal.sync_all()?;
    }
    Ok(journal)
}

fn append(journal: &mut File, bytes: &[u8], durable: bool) -> io::Result<()> {
    journal.write_all(bytes)?;
    if durable { journal.sync_data() } else { Ok(()) }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let file =
        private_options().write(true).create(true).open(path).map_err(|source| failed(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.parent().unwrap_or(path).to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(path, source)),
    }
}

/// The journal holds tokens: nobody else may read it.
fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// Creations and renames in the directory survive a crash.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tidings_types::{ConversationId, ConversationKind, Epoch, MessageId, Seq, Timestamp};
    use tidings_wire::rest::SendMessage;
    use tidings_wire::{Content, Target};

    use super::*;
    use crate::Known;

    fn id() -> ConversationId {
        ConversationId::v7(Timestamp::from_ms(1), [1; 10])
    }

    fn message(n: u16) -> SendMessage {
        let [a, b] = n.to_be_bytes();
        SendMessage {
            target: Target::Conversation(id()),
            message_id: MessageId::v7(Timestamp::from_ms(2), [a, b, 0, 0, 0, 0, 0, 0, 0, 0]),
            content: Content::text(format!("number {n}\nsecond line")),
            reply_to: None,
        }
    }

    fn queue(n: u16) -> Change {
        Change::Queue { message: message(n) }
    }

    fn answered(n: u16) -> Change {
        Change::Answered { message_id: message(n).message_id }
    }

    fn follow() -> Change {
        let known =
            Known { kind: ConversationKind::Group, title: Some("Tea".into()), epoch: Epoch(1), seq: Seq(3) };
        Change::Follow { conversation_id: id(), known }
    }

    fn journal(directory: &TempDir) -> PathBuf {
        directory.path().join(JOURNAL)
    }

    #[test]
    fn everything_is_there_after_a_restart() {
        let directory = TempDir::new().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        let advance = Change::Advance { conversation_id: id(), seq: Seq(9) };
        for change in [follow(), advance, queue(1), queue(2), queue(1), answered(1)] {
            store.write(change).unwrap();
        }
        let before = store.saved();
        assert_eq!(before.outbox, [message(2)]);
        assert_eq!(before.conversations[&id()].seq, Seq(9));
        drop(store);
        assert_eq!(FileStore::open(directory.path()).unwrap().saved(), before);
    }

    #[test]
    fn a_torn_tail_loses_only_the_change_it_tore_wherever_it_was_torn() {
        let directory = TempDir::new().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.write(queue(1)).unwrap();
        let whole = fs::read(journal(&directory)).unwrap();
        store.write(queue(2)).unwrap();
        drop(store);
        let both = fs::read(journal(&directory)).unwrap();
        for cut in whole.len()..both.len() {
            fs::write(journal(&directory), &both[..cut]).unwrap();
            let store = FileStore::open(directory.path()).unwrap();
            assert_eq!(store.saved().outbox, [message(1)], "cut at {cut}");
            store.write(queue(3)).unwrap();
            drop(store);
            let store = FileStore::open(directory.path()).unwrap();
            assert_eq!(store.saved().outbox, [message(1), message(3)], "cut at {cut}, then written to");
        }
    }

    #[test]
    fn damage_before_the_last_line_is_an_error_and_not_an_empty_state() {
        let directory = TempDir::new().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.write(queue(1)).unwrap();
        store.write(queue(2)).unwrap();
        drop(store);
        let mut bytes = fs::read(journal(&directory)).unwrap();
        bytes[40] ^= 1;
        fs::write(journal(&directory), &bytes).unwrap();
        let error = FileStore::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { offset: 0, .. }), "{error}");
        assert_eq!(fs::read(journal(&directory)).unwrap(), bytes, "the file is left as it is");
    }

    #[test]
    fn a_long_journal_is_shortened_and_says_the_same() {
        let directory = TempDir::new().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.write(queue(1)).unwrap();
        store.write(follow()).unwrap();
        let mut lines_bytes = 0;
        for n in 4..5_000 {
            let change = Change::Advance { conversation_id: id(), seq: Seq(n) };
            lines_bytes += line(&change).unwrap().len() as u64;
            store.write(change).unwrap();
        }
        let saved = store.saved();
        assert_eq!(saved.conversations[&id()].seq, Seq(4_999));
        assert!(lines_bytes > REWRITE_BYTES_MIN);
        assert!(fs::metadata(journal(&directory)).unwrap().len() < REWRITE_BYTES_MIN);
        drop(store);
        assert_eq!(FileStore::open(directory.path()).unwrap().saved(), saved);
    }

    #[test]
    fn an_unfinished_replacement_is_ignored() {
        let directory = TempDir::new().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        store.write(queue(1)).unwrap();
        drop(store);
        fs::write(directory.path().join(JOURNAL_NEW), b"half of").unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        assert_eq!(store.saved().outbox, [message(1)]);
    }

    #[test]
    fn a_second_client_in_the_same_directory_is_refused() {
        let directory = TempDir::new().unwrap();
        let store = FileStore::open(directory.path()).unwrap();
        assert!(matches!(FileStore::open(directory.path()), Err(StoreError::InUse(_))));
        drop(store);
        FileStore::open(directory.path()).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("state");
        drop(FileStore::open(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(path.join(JOURNAL)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
