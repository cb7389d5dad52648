//! The embedded tables: the port's suite, and what happens to their files in crashes and when bits rot.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tidings_embedded::EmbeddedTables;
use tidings_ports::memory::SeededRng;
use tidings_ports::suite::tables::{self as suite, TablesHarness};
use tidings_ports::{EntryRange, Projection, Tables, TablesError};
use tidings_types::{
    Body, CommandHash, Content, ConversationId, ConversationKey, ConversationKind, Entry, Epoch, Fence, Head,
    LogPosition, Member, MessageId, Place, RecordNumber, Role, Seq, ShardId, SpaceId, Timestamp, UserId,
};

const SHARDS: u16 = 1;
const SHARD: ShardId = ShardId(0);
const KEY: ConversationKey =
    ConversationKey { space: SpaceId::DEFAULT, conversation: ConversationId::from_bytes([1; 16]) };
const USER: UserId = UserId::from_bytes([2; 16]);
const EVERYTHING: EntryRange = EntryRange {
    after: Seq::ZERO,
    before: Seq::MAX,
    newest: false,
    entries_max: usize::MAX,
    bytes_max: usize::MAX,
};

/// A crash leaves the directory as it is, with the store's journal or without.
struct Harness {
    directory: Mutex<TempDir>,
    keeps_journal: bool,
}

impl Harness {
    fn new(keeps_journal: bool) -> Self {
        Self { directory: Mutex::new(tempfile::tempdir().unwrap()), keeps_journal }
    }

    fn open(&self) -> EmbeddedTables {
        EmbeddedTables::open(self.directory.lock().unwrap().path(), suite::SHARDS).unwrap()
    }
}

impl TablesHarness for Harness {
    type Tables = EmbeddedTables;

    async fn create(&self) -> EmbeddedTables {
        *self.directory.lock().unwrap() = tempfile::tempdir().unwrap();
        self.open()
    }

    async fn crash(&self, tables: EmbeddedTables) -> EmbeddedTables {
        // Memtables are not flushed at the end, so this loses as much as a killed process does.
        drop(tables);
        if !self.keeps_journal {
            for journal in journals(self.directory.lock().unwrap().path()) {
                fs::remove_file(journal).unwrap();
            }
        }
        self.open()
    }
}

#[tokio::test]
async fn embedded_tables_pass_the_suite() {
    suite::all(&Harness::new(true)).await;
}

#[tokio::test]
async fn embedded_tables_pass_the_suite_when_crashes_take_the_journal() {
    suite::all(&Harness::new(false)).await;
}

#[tokio::test]
async fn a_damaged_journal_is_never_read() {
    let directory = tempfile::tempdir().unwrap();
    let tables = open(directory.path());
    project(&tables, 0, 100).await;
    tables.checkpoint().await.unwrap();
    project(&tables, 100, 200).await;
    drop(tables);

    let rng = SeededRng::new(1);
    for round in 0..20 {
        for journal in journals(directory.path()) {
            // Whatever lies there: the old journal with random bits flipped, garbage, or a file of another name.
            let mut bytes = fs::read(&journal).unwrap();
            bytes.truncate(100_000);
            bytes.resize(bytes.len().max(1_000), 0xa5);
            let len = bytes.len() as u64;
            for _ in 0..=round {
                bytes[usize::try_from(rng.below(len)).unwrap()] ^= 1 << rng.below(8);
            }
            fs::write(&journal, bytes).unwrap();
        }
        fs::write(directory.path().join("store/notanumber.jnl"), "garbage").unwrap();

        let tables = open(directory.path());
        assert_eq!(tables.position(SHARD).place, Place(100));
        assert_eq!(read(&tables).await.unwrap(), entries(0, 100), "rows of the journal are not taken over");
        // A flipped sequence number in the journal would keep hiding what is written now.
        project(&tables, 100, 150).await;
        assert_eq!(tables.head(KEY).await.unwrap(), Some(head(150)));
    }
}

#[tokio::test]
async fn readers_never_see_less_than_the_position_says() {
    const ENTRIES: u64 = 2_000;
    let directory = tempfile::tempdir().unwrap();
    let tables = Arc::new(open(directory.path()));
    let writer = tokio::spawn({
        let tables = Arc::clone(&tables);
        async move {
            for from in (0..ENTRIES).step_by(20) {
                // Each projection contains the one before it, cut elsewhere.
                project(&tables, from.saturating_sub(10), from + 20).await;
                if from % 200 == 0 {
                    tables.checkpoint().await.unwrap();
                }
            }
        }
    });
    while !writer.is_finished() {
        let reached = tables.position(SHARD).place.0;
        for newest in [false, true] {
            let range = EntryRange {
                after: Seq(reached.saturating_sub(200)),
                before: Seq(reached + 1),
                newest,
                ..EVERYTHING
            };
            let answer = tables.entries(KEY, range).await.unwrap();
            assert_eq!(answer, entries(range.after.0, reached));
        }
        let durable = tables.durable_position(SHARD).place;
        assert!(durable <= tables.position(SHARD).place);
    }
    writer.await.unwrap();
    assert_eq!(read(&tables).await.unwrap(), entries(0, ENTRIES));
}

#[tokio::test]
async fn the_journal_does_not_grow_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let tables = open(directory.path());
    for round in 0..40 {
        for step in 0..20 {
            let from = (round * 20 + step) * 100;
            project(&tables, from, from + 100).await;
        }
        tables.checkpoint().await.unwrap();
        tables.check().unwrap();
    }
    // The store starts a new journal at 64 MB and may not have removed the one before it yet.
    let bytes: u64 =
        journals(directory.path()).iter().map(|journal| fs::metadata(journal).unwrap().len()).sum();
    assert!(bytes <= 140_000_000, "{bytes} bytes of journal");
    assert_eq!(read(&tables).await.unwrap().len(), 80_000);
}

#[tokio::test]
async fn a_lost_manifest_or_store_is_damage_and_not_an_empty_table() {
    for lost in ["MANIFEST", "store", "store/version", "store/keyspaces/3", "store/keyspaces/3/current"] {
        let (directory, tables) = filled().await;
        drop(tables);
        let path = directory.path().join(lost);
        remove(&path);
        for _ in 0..2 {
            assert!(matches!(opened(directory.path()), Err(TablesError::Corrupt(_))), "{lost}");
        }
        // Nothing was thrown away: the other files are still there.
        let left = ["store/keyspaces/1/tables", "store/keyspaces/2/tables", "store/keyspaces/4/tables"];
        assert!(lost == "store" || left.iter().all(|kept| directory.path().join(kept).exists()), "{lost}");
    }
}

#[tokio::test]
async fn a_crash_while_the_tables_are_made_is_repaired() {
    let whole = tempfile::tempdir().unwrap();
    drop(open(whole.path()));
    // Stages of the making, by what is missing from the whole.
    for missing in
        [&["MANIFEST"][..], &["MANIFEST", "store/version"], &["MANIFEST", "store/version", "store/keyspaces"]]
    {
        let directory = tempfile::tempdir().unwrap();
        copy(whole.path(), directory.path());
        for path in missing.iter().map(|path| directory.path().join(path)) {
            remove(&path);
        }
        let tables = open(directory.path());
        project(&tables, 0, 10).await;
        assert_eq!(read(&tables).await.unwrap(), entries(0, 10), "{missing:?}");
    }
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let (directory, tables) = filled().await;
    drop(tables);
    assert!(matches!(EmbeddedTables::open(directory.path(), SHARDS + 1), Err(TablesError::Unavailable(_))));
    assert_eq!(read(&open(directory.path())).await.unwrap().len(), 500);
}

#[tokio::test]
async fn a_second_open_is_refused() {
    let (directory, tables) = filled().await;
    assert!(matches!(opened(directory.path()), Err(TablesError::Unavailable(_))));
    assert_eq!(read(&tables).await.unwrap().len(), 500);
}

/// Who notices what: the store's own block checksums notice nearly everything in a table file; `MANIFEST` and the
/// store's version files are noticed by our checksums when the tables open; a value that the store hands over wrong is
/// noticed by its own checksum. A flip in a byte that nobody reads (padding, the kind of an unused file) changes
/// nothing. What may never happen is an answer that is wrong or shorter than the manifest promises.
#[tokio::test]
async fn a_flipped_bit_is_damage_or_nothing_but_never_a_wrong_answer() {
    let (directory, tables) = filled().await;
    drop(tables);
    let rng = SeededRng::new(7);
    let (mut at_open, mut at_read, mut unnoticed) = (0, 0, 0);
    for file in files(directory.path()) {
        let name = file.strip_prefix(directory.path()).unwrap().to_owned();
        let len = fs::metadata(&file).unwrap().len();
        if len == 0 || file.extension().is_some_and(|extension| extension == "jnl") {
            continue;
        }
        for sample in 0..flips_per_file() {
            // Every other one at the end, where a file says how the rest is to be read.
            let at = if sample % 2 == 0 { rng.below(len) } else { len - 1 - rng.below(len.min(300)) };
            let damaged = tempfile::tempdir().unwrap();
            copy(directory.path(), damaged.path());
            let bit = rng.below(8);
            flip(&damaged.path().join(&name), at, bit);
            match opened(damaged.path()) {
                Err(TablesError::Corrupt(_)) => at_open += 1,
                Err(error) => panic!("{} byte {at} bit {bit}: {error:?}", name.display()),
                Ok(tables) => match check_all(&tables).await {
                    Ok(()) => unnoticed += 1,
                    Err(TablesError::Corrupt(_)) => at_read += 1,
                    Err(error) => panic!("{} byte {at} bit {bit}: {error:?}", name.display()),
                },
            }
        }
    }
    println!("damage noticed at open: {at_open}, at a read: {at_read}; without effect: {unnoticed}");
    assert!(at_open > 10 && at_read > 10, "{at_open} at open, {at_read} at a read");
}

/// More than the default takes minutes: `TIDINGS_TEST_FLIPS=40`.
fn flips_per_file() -> u64 {
    std::env::var("TIDINGS_TEST_FLIPS").map_or(4, |flips| flips.parse().unwrap())
}

/// Reads everything that [`filled`] wrote. Answers may be `Corrupt`; a wrong one fails the test.
async fn check_all(tables: &EmbeddedTables) -> Result<(), TablesError> {
    assert_eq!(tables.position(SHARD), position(500));
    assert_eq!(read(tables).await?, entries(0, 500));
    let newest = EntryRange { newest: true, entries_max: 70, ..EVERYTHING };
    assert_eq!(tables.entries(KEY, newest).await?, entries(430, 500));
    assert_eq!(tables.head(KEY).await?, Some(head(500)));
    assert_eq!(tables.member(KEY, USER).await?, Some(member(500)));
    assert_eq!(tables.members(KEY, None, 10).await?, [(USER, member(500))]);
    for seq in [2, 300, 500] {
        let found = tables.id_record(KEY, message_id(seq), Timestamp::default()).await?;
        assert_eq!(found.map(|record| record.seq), Some(Seq(seq)));
    }
    Ok(())
}

/// Tables with 500 entries in several table files, all durable.
async fn filled() -> (TempDir, EmbeddedTables) {
    let directory = tempfile::tempdir().unwrap();
    let tables = open(directory.path());
    for from in [0, 200, 400] {
        project(&tables, from, (from + 200).min(500)).await;
        tables.checkpoint().await.unwrap();
    }
    (directory, tables)
}

fn opened(directory: &Path) -> Result<EmbeddedTables, TablesError> {
    EmbeddedTables::open(directory, SHARDS)
}

fn open(directory: &Path) -> EmbeddedTables {
    opened(directory).unwrap()
}

async fn read(tables: &EmbeddedTables) -> Result<Vec<Arc<Entry>>, TablesError> {
    tables.entries(KEY, EVERYTHING).await
}

/// Projects the entries after `from`, up to `upto`.
async fn project(tables: &EmbeddedTables, from: u64, upto: u64) {
    let projection = Projection {
        shard: SHARD,
        upto: position(upto),
        latest_at: Timestamp::from_ms(upto),
        heads: vec![(KEY, head(upto))],
        members: vec![(KEY, USER, member(upto))],
        personal: Vec::new(),
        runs: vec![entries(from, upto)],
    };
    tables.project(projection).await.unwrap();
}

fn entries(after: u64, upto: u64) -> Vec<Arc<Entry>> {
    (after + 1..=upto).map(|seq| Arc::new(entry(seq))).collect()
}

fn entry(seq: u64) -> Entry {
    let content = Content::Text(format!("message {seq} {}", "y".repeat(900)).into());
    Entry {
        space: KEY.space,
        conversation: KEY.conversation,
        seq: Seq(seq),
        version: seq,
        sender: USER,
        created_at: Timestamp::from_ms(seq),
        messages: seq,
        body: Body::Message {
            message_id: message_id(seq),
            content,
            reply_to: None,
            hash: CommandHash([3; 16]),
        },
    }
}

fn message_id(n: u64) -> MessageId {
    let mut bytes = [9; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(bytes)
}

const fn position(place: u64) -> LogPosition {
    LogPosition { place: Place(place), fence: Fence(1), number: RecordNumber(place) }
}

const fn member(n: u64) -> Member {
    Member { role: Role::Member, joined_at: Timestamp::from_ms(n), visible_from: Seq(1), left: None }
}

fn head(seq: u64) -> Head {
    Head {
        space: KEY.space,
        kind: ConversationKind::Group,
        title: None,
        creator: USER,
        created_hash: CommandHash([5; 16]),
        created_at: Timestamp::from_ms(1),
        seq: Seq(seq),
        version: seq,
        floor: Seq(1),
        epoch: Epoch(1),
        messages: seq,
        last_message: Seq(seq),
        last_at: Timestamp::from_ms(seq),
        member_count: 1,
    }
}

fn journals(directory: &Path) -> Vec<PathBuf> {
    let mut journals = files(&directory.join("store"));
    journals.retain(|file| file.extension().is_some_and(|extension| extension == "jnl"));
    journals
}

/// All files below a directory, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Copies a directory; of journals, which are sparse files of 64 MB, the beginning that these tests fill.
fn copy(from: &Path, to: &Path) {
    const BYTES_MAX: u64 = 4 * 1024 * 1024;
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if let Ok(file) = File::open(&path) {
            // A file that is gone by now was no longer part of the tables.
            io::copy(&mut file.take(BYTES_MAX), &mut File::create(target).unwrap()).unwrap();
        }
    }
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.unwrap();
}

fn flip(file: &Path, at: u64, bit: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
    fs::write(file, bytes).unwrap();
}
