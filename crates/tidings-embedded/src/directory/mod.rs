//! The directory in one SQLite file: accounts, devices, sessions, followers' positions.
//!
//! One connection writes and a few read, so a write never meets `SQLITE_BUSY` inside the process and a read never waits
//! for a write. A writing transaction begins with `BEGIN IMMEDIATE`: a deferred one that starts with a read fails at
//! its first write, ignoring the busy timeout, when somebody else wrote in between. Nothing but the database is awaited
//! inside a transaction. `synchronous = FULL` makes every commit durable before it is answered.
//!
//! Start reading at [`SqliteDirectory::open`]; the schema is in `migrations/`.

mod accounts;
mod followers;
mod rows;
mod sessions;

use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqlSafeStr, Sqlite, SqlitePool, Transaction};
use tidings_ports::{
    Account, AccountSecret, Device, DeviceRemoval, Directory, DirectoryError, NewAccount, NewSession,
    RefreshOutcome,
};
use tidings_types::{DeviceId, LogPosition, SessionId, SpaceId, Timestamp, UserId};

/// Reads are short; more connections than this only take memory.
const READERS_MAX: u32 = 4;
/// How long a call waits for a connection before it is answered `Unavailable`.
const WAIT_MS_MAX: u64 = 10_000;
/// How long SQLite waits for a lock that another process holds, such as a backup.
const BUSY_MS_MAX: u64 = 5_000;

/// Accounts, devices, sessions and followers' positions in a file that only its owner may read.
#[derive(Debug)]
pub struct SqliteDirectory {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteDirectory {
    /// Opens the file, makes it if it is missing, and brings its schema up to date. A file with a newer schema is
    /// refused.
    pub async fn open(path: &Path) -> Result<Self, DirectoryError> {
        make_private(path).map_err(unavailable)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(Duration::from_millis(BUSY_MS_MAX));
        let writing =
            options.clone().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let writer = pool(1).connect_with(writing).await.map_err(database)?;
        migrations().run(&writer).await.map_err(unavailable)?;
        let readers = pool(READERS_MAX).connect_with(options.read_only(true)).await.map_err(database)?;
        Ok(Self { writer, readers })
    }

    /// Waits for the calls under way and closes the file, with the journal merged into it.
    pub async fn close(&self) {
        // The last connection to close merges the journal, and a reader may not write.
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, DirectoryError> {
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(database)
    }
}

#[async_trait]
impl Directory for SqliteDirectory {
    async fn create_account(&self, account: NewAccount) -> Result<Account, DirectoryError> {
        self.insert_account(account).await
    }

    async fn account_by_name(
        &self,
        space: SpaceId,
        username: &str,
    ) -> Result<Option<AccountSecret>, DirectoryError> {
        self.select_account_by_name(space, username).await
    }

    async fn accounts(&self, space: SpaceId, users: &[UserId]) -> Result<Vec<Account>, DirectoryError> {
        self.select_accounts(space, users).await
    }

    async fn search_accounts(
        &self,
        space: SpaceId,
        query: &str,
        after: Option<&str>,
        rows_max: usize,
    ) -> Result<Vec<Account>, DirectoryError> {
        self.select_accounts_by_prefix(space, query, after, rows_max).await
    }

    async fn count_accounts(&self) -> Result<u64, DirectoryError> {
        self.select_account_count().await
    }

    async fn open_session(&self, session: NewSession) -> Result<Option<SessionId>, DirectoryError> {
        self.insert_session(&session).await
    }

    async fn rotate_refresh(
        &self,
        presented: [u8; 32],
        successor: [u8; 32],
        now: Timestamp,
        grace_ms: u64,
    ) -> Result<RefreshOutcome, DirectoryError> {
        self.update_refresh(presented, successor, now, grace_ms).await
    }

    async fn live_sessions(&self, sessions: &[SessionId]) -> Result<Vec<SessionId>, DirectoryError> {
        self.select_live_sessions(sessions).await
    }

    async fn end_session(&self, session: SessionId) -> Result<(), DirectoryError> {
        self.delete_session(session).await
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, DirectoryError> {
        self.select_devices(user).await
    }

    async fn remove_device(
        &self,
        user: UserId,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<Option<SessionId>, DirectoryError> {
        self.update_device_removed(user, device, now).await
    }

    async fn device_removals(
        &self,
        after: u64,
        rows_max: usize,
    ) -> Result<Vec<DeviceRemoval>, DirectoryError> {
        self.select_device_removals(after, rows_max).await
    }

    async fn follower_position(&self, follower: &str) -> Result<Option<LogPosition>, DirectoryError> {
        self.select_follower_position(follower).await
    }

    async fn set_follower_position(
        &self,
        follower: &str,
        position: LogPosition,
    ) -> Result<(), DirectoryError> {
        self.upsert_follower_position(follower, position).await
    }
}

/// The file holds password hashes. SQLite gives the files it makes beside it the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    const OWNER_ONLY: u32 = 0o600;
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(OWNER_ONLY).open(path)?;
    file.set_permissions(Permissions::from_mode(OWNER_ONLY))
}

fn pool(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(WAIT_MS_MAX))
        // A connection to a file does not go stale: neither age nor idleness is a reason to open it again.
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
}

/// A migration that was released is never edited: its checksum is in every directory that ran it.
fn migrations() -> Migrator {
    let directory = include_str!("../../migrations/0001_directory.sql").into_sql_str();
    Migrator::with_migrations(vec![Migration::new(
        1,
        "directory".into(),
        MigrationType::Simple,
        directory,
        false,
    )])
}

/// Sorts what the database answered by who must act.
fn database(error: sqlx::Error) -> DirectoryError {
    const SQLITE_FULL: u32 = 13;
    let Some(answer) = error.as_database_error() else { return unavailable(error) };
    if answer.is_unique_violation() {
        return DirectoryError::Conflict;
    }
    // The low byte of an extended code is its primary code.
    let code = answer.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
    if code & 0xff == SQLITE_FULL { DirectoryError::Full } else { unavailable(error) }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> DirectoryError {
    DirectoryError::Unavailable(Box::new(error))
}

#[cfg(test)]
mod tests;
