//! The embedded tables: history, heads, members, ids and personal facts as rows of an LSM store.
//!
//! Tables are written behind the log, a stretch at a time. History lies in blocks of up to 64 consecutive entries, bytes
//! as in the log, each with one row of the message ids in it. What is projected is readable at once and durable after
//! the next checkpoint: all memtables go to table files, which are synced, and then the [`Manifest`] records how far they
//! are.
//! On start only table files and manifest count. Rows may be newer than the manifest says; the log is projected again
//! from there, which is harmless since rows are values.
//!
//! Here is no rule of the product and nothing about the log. Start reading at [`EmbeddedTables`], then `write.rs` (from
//! a projection to rows) and `read.rs` (back).

mod keys;
mod read;
mod store;
mod value;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tidings_ports::{EntryRange, Projection, Tables, TablesError};
use tidings_record::{decode_head, decode_member, decode_personal_fact};
use tidings_types::{
    ConversationKey, Entry, Head, IdRecord, LogPosition, Member, MessageId, PersonalFact, PersonalSubject,
    ShardId, Timestamp, UserId,
};

use self::store::{Store, unavailable};
use crate::manifest::{Manifest, ManifestError, ShardMark};

/// Tables in one directory.
///
/// Point reads run on the caller's thread (a memtable or cache hit takes microseconds); scans, projections and
/// checkpoints run on tokio's blocking threads. Dropping the last handle stops the store's workers and waits for them.
pub struct EmbeddedTables {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    store: Store,
    shards: Vec<Mutex<Shard>>,
    /// One committing thread: the store does not group commits, and a checkpoint must see whole projections.
    committing: Mutex<()>,
    /// Manifests are written one after the other, each with later positions.
    checkpointing: Mutex<()>,
}

/// Where the tables are in one shard's log.
#[derive(Clone, Copy)]
struct Shard {
    now: ShardMark,
    durable: LogPosition,
}

impl EmbeddedTables {
    /// Opens the tables in `directory`, making them if they are not there. `Corrupt` if something is missing or fails
    /// its checksum: what the log no longer has must never be taken for empty.
    pub fn open(directory: &Path, shards: u16) -> Result<Self, TablesError> {
        std::fs::create_dir_all(directory).map_err(unavailable)?;
        let rows = directory.join("store");
        let (store, manifest) = match Manifest::read(directory).map_err(manifest_failed)? {
            Some(manifest) => (Store::recover(&rows)?, manifest),
            None => {
                let made = (Store::create(&rows)?, Manifest::empty(shards));
                made.1.write(directory).map_err(unavailable)?;
                made
            }
        };
        if manifest.shards.len() != usize::from(shards) {
            return Err(unavailable(format!(
                "the tables have {} shards, not {shards}",
                manifest.shards.len()
            )));
        }
        let inner = Inner {
            directory: directory.to_owned(),
            store,
            shards: manifest.shards.iter().map(Shard::opened).collect(),
            committing: Mutex::default(),
            checkpointing: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Fails for good once a write to the store or one of its background threads has failed. The process should then
    /// stop: nothing can be projected any more, and a new start repairs what can be repaired.
    pub fn check(&self) -> Result<(), TablesError> {
        self.inner.store.check()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, TablesError> + Send + 'static,
    ) -> Result<T, TablesError> {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(unavailable)?
    }
}

#[async_trait]
impl Tables for EmbeddedTables {
    fn position(&self, shard: ShardId) -> LogPosition {
        self.inner.shard(shard).now.position
    }

    fn durable_position(&self, shard: ShardId) -> LogPosition {
        self.inner.shard(shard).durable
    }

    fn latest_at(&self, shard: ShardId) -> Timestamp {
        self.inner.shard(shard).now.latest_at
    }

    async fn head(&self, key: ConversationKey) -> Result<Option<Head>, TablesError> {
        read::point(&self.inner.store.heads, &keys::conversation(key), decode_head)
    }

    async fn member(&self, key: ConversationKey, user: UserId) -> Result<Option<Member>, TablesError> {
        read::point(&self.inner.store.members, &keys::with_id(key, user.as_bytes()), decode_member)
    }

    async fn id_record(
        &self,
        key: ConversationKey,
        id: MessageId,
        since: Timestamp,
    ) -> Result<Option<IdRecord>, TablesError> {
        self.blocking(move |inner| read::id_record(&inner.store.ids, key, id, since)).await
    }

    async fn personal(
        &self,
        key: ConversationKey,
        subject: PersonalSubject,
    ) -> Result<Option<PersonalFact>, TablesError> {
        let row = keys::with_id(key, subject.as_bytes());
        read::point(&self.inner.store.personal, &row, |value| {
            decode_personal_fact(*subject.as_bytes(), value).map(|(_, fact)| fact)
        })
    }

    async fn entries(&self, key: ConversationKey, range: EntryRange) -> Result<Vec<Arc<Entry>>, TablesError> {
        self.blocking(move |inner| read::entries(&inner.store.blocks, key, range)).await
    }

    async fn members(
        &self,
        key: ConversationKey,
        after: Option<UserId>,
        rows_max: usize,
    ) -> Result<Vec<(UserId, Member)>, TablesError> {
        let after = after.map(|user| *user.as_bytes());
        self.blocking(move |inner| {
            read::page(&inner.store.members, key, after, rows_max, |id, value| {
                decode_member(value).map(|member| (UserId::from_bytes(id), member))
            })
        })
        .await
    }

    async fn personal_facts(
        &self,
        key: ConversationKey,
        after: Option<[u8; 16]>,
        rows_max: usize,
    ) -> Result<Vec<(PersonalSubject, PersonalFact)>, TablesError> {
        self.blocking(move |inner| {
            read::page(&inner.store.personal, key, after, rows_max, decode_personal_fact)
        })
        .await
    }

    async fn project(&self, projection: Projection) -> Result<(), TablesError> {
        self.blocking(move |inner| inner.project(&projection)).await
    }

    async fn checkpoint(&self) -> Result<(), TablesError> {
        self.blocking(Inner::checkpoint).await
    }
}

impl Inner {
    /// Shards are numbered by whoever opened the tables with their count, so another number is a bug there.
    fn shard(&self, shard: ShardId) -> MutexGuard<'_, Shard> {
        lock(&self.shards[usize::from(shard.0)])
    }

    fn project(&self, projection: &Projection) -> Result<(), TablesError> {
        let _committing = lock(&self.committing);
        if projection.upto.place < self.shard(projection.shard).now.position.place {
            return Ok(());
        }
        write::project(&self.store, projection)?;
        let mut shard = self.shard(projection.shard);
        let latest_at = shard.now.latest_at.max(projection.latest_at);
        shard.now = ShardMark { position: projection.upto, latest_at };
        Ok(())
    }

    /// Projections go on while this one flushes; rows of theirs that get into the table files are newer than the
    /// manifest says, which is harmless.
    fn checkpoint(&self) -> Result<(), TablesError> {
        let _checkpointing = lock(&self.checkpointing);
        let manifest = {
            let _committing = lock(&self.committing);
            let shards: Vec<Shard> = self.shards.iter().map(|shard| *lock(shard)).collect();
            if shards.iter().all(|shard| shard.now.position == shard.durable) {
                return self.store.check();
            }
            self.store.seal()?;
            Manifest { shards: shards.iter().map(|shard| shard.now).collect() }
        };
        self.store.flush()?;
        manifest.write(&self.directory).map_err(|error| store::failed(error.into()))?;
        for (shard, mark) in self.shards.iter().zip(&manifest.shards) {
            lock(shard).durable = mark.position;
        }
        Ok(())
    }
}

impl Shard {
    const fn opened(mark: &ShardMark) -> Mutex<Self> {
        Mutex::new(Self { now: *mark, durable: mark.position })
    }
}

/// What the locks guard is changed in one step, so a panic under one leaves nothing half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn manifest_failed(error: ManifestError) -> TablesError {
    match error {
        ManifestError::Damaged(reason) => TablesError::Corrupt(reason.to_owned()),
        ManifestError::Io(error) => unavailable(error),
    }
}
