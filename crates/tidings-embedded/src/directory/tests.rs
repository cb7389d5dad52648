//! What only this adapter promises: durability, file modes, one writer for many callers, a full disk.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;
use tidings_ports::{Directory, DirectoryError, NewAccount, NewSession, RefreshOutcome, suite};
use tidings_types::{
    DeviceId, Fence, LogPosition, Place, RecordNumber, SessionId, SpaceId, Timestamp, UserId,
};

use super::SqliteDirectory;

const NOW: Timestamp = Timestamp::from_ms(1_790_000_000_000);

/// A directory in a place of its own, which goes with it.
struct Scratch {
    directory: TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("directory.sqlite")
    }

    async fn open(&self) -> SqliteDirectory {
        SqliteDirectory::open(&self.file()).await.unwrap()
    }
}

#[tokio::test]
async fn passes_the_directory_suite() {
    let scratches = std::cell::RefCell::new(Vec::new());
    suite::directory::all(|| {
        let scratch = Scratch::new();
        let file = scratch.file();
        scratches.borrow_mut().push(scratch);
        async move { SqliteDirectory::open(&file).await.unwrap() }
    })
    .await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_opening_again() {
    let scratch = Scratch::new();
    let position = LogPosition { place: Place(7), fence: Fence(3), number: RecordNumber(2) };
    let first = scratch.open().await;
    let account = first.create_account(new_account(1)).await.unwrap();
    first.open_session(new_session(1)).await.unwrap();
    first.set_follower_position("personal-0", position).await.unwrap();
    // Not closed: a killed process closes nothing. Another process would see the same.
    let second = scratch.open().await;
    assert_eq!(second.accounts(SpaceId::DEFAULT, &[user(1)]).await.unwrap(), [account]);
    assert_eq!(second.live_sessions(&[session(1)]).await.unwrap(), [session(1)]);
    assert_eq!(second.follower_position("personal-0").await.unwrap(), Some(position));
    drop(first);
}

#[tokio::test]
async fn closing_merges_the_journal() {
    let scratch = Scratch::new();
    let directory = scratch.open().await;
    directory.create_account(new_account(1)).await.unwrap();
    directory.close().await;
    let left: Vec<_> =
        scratch.directory.path().read_dir().unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["directory.sqlite"]);
    assert_eq!(scratch.open().await.count_accounts().await.unwrap(), 1);
}

#[tokio::test]
async fn every_file_is_for_its_owner_only() {
    let scratch = Scratch::new();
    // A file that somebody made with a wider mode is narrowed.
    std::fs::write(scratch.file(), []).unwrap();
    std::fs::set_permissions(scratch.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let directory = scratch.open().await;
    directory.create_account(new_account(1)).await.unwrap();
    let files: Vec<_> = scratch.directory.path().read_dir().unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 3, "the file, its journal and the journal's index: {files:?}");
    for file in files {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn the_connections_are_set_up_for_durability() {
    let directory = Scratch::new();
    let directory = directory.open().await;
    let setting = async |sql: &'static str| {
        let row = sqlx::query(sql).fetch_one(&directory.writer).await.unwrap();
        sqlx::Row::try_get::<i64, _>(&row, 0).unwrap()
    };
    assert_eq!(setting("PRAGMA synchronous").await, 2, "FULL: a commit is on the disk when it returns");
    assert_eq!(setting("PRAGMA foreign_keys").await, 1);
    let row = sqlx::query("PRAGMA journal_mode").fetch_one(&directory.writer).await.unwrap();
    assert_eq!(sqlx::Row::try_get::<String, _>(&row, 0).unwrap(), "wal");
    let written = sqlx::query("DELETE FROM followers").execute(&directory.readers).await;
    assert!(written.is_err(), "a reader writes");
}

#[tokio::test]
async fn a_schema_from_the_future_is_refused() {
    let scratch = Scratch::new();
    let directory = scratch.open().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (999, 'from the future', true, x'00', 0)",
    )
    .execute(&directory.writer)
    .await
    .unwrap();
    directory.close().await;
    let refused = SqliteDirectory::open(&scratch.file()).await;
    assert!(matches!(refused, Err(DirectoryError::Unavailable(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_make_one_admin_and_one_successor() {
    let scratch = Scratch::new();
    let directory = std::sync::Arc::new(scratch.open().await);
    let mut sign_ups = tokio::task::JoinSet::new();
    for number in 0..40 {
        let directory = directory.clone();
        sign_ups.spawn(async move { directory.create_account(new_account(number)).await.unwrap().admin });
    }
    let admins = sign_ups.join_all().await.into_iter().filter(|admin| *admin).count();
    assert_eq!(admins, 1);

    directory.open_session(new_session(1)).await.unwrap();
    let mut refreshes = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let directory = directory.clone();
        refreshes
            .spawn(async move { directory.rotate_refresh([1; 32], [101; 32], NOW, 30_000).await.unwrap() });
    }
    let outcomes = refreshes.join_all().await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, RefreshOutcome::Rotated(_))), "{outcomes:?}");
    let next = directory.rotate_refresh([101; 32], [102; 32], NOW, 30_000).await.unwrap();
    assert!(matches!(next, RefreshOutcome::Rotated(_)), "{next:?}");
}

#[tokio::test]
async fn a_full_disk_is_full_and_writing_goes_on_when_there_is_room() {
    let scratch = Scratch::new();
    let directory = scratch.open().await;
    directory.create_account(new_account(1)).await.unwrap();
    // SQLite reports this bound exactly as it reports a disk without room, as `SQLITE_FULL`.
    sqlx::query("PRAGMA max_page_count = 1").execute(&directory.writer).await.unwrap();
    let big = NewAccount { display_name: "x".repeat(100_000), ..new_account(2) };
    let refused = directory.create_account(big.clone()).await;
    assert!(matches!(refused, Err(DirectoryError::Full)), "{refused:?}");
    assert_eq!(directory.count_accounts().await.unwrap(), 1);

    sqlx::query("PRAGMA max_page_count = 1000000").execute(&directory.writer).await.unwrap();
    directory.create_account(big).await.unwrap();
    assert_eq!(directory.count_accounts().await.unwrap(), 2);
}

fn new_account(number: u8) -> NewAccount {
    NewAccount {
        user: user(number),
        space: SpaceId::DEFAULT,
        username: format!("user{number}"),
        display_name: format!("User {number}"),
        password_hash: "$hash".to_owned(),
        created_at: NOW,
    }
}

fn new_session(number: u8) -> NewSession {
    NewSession {
        session: session(number),
        user: user(number),
        device: DeviceId::from_bytes([number; 16]),
        device_name: "laptop".to_owned(),
        refresh_hash: [number; 32],
        created_at: NOW,
        devices_max: 20,
    }
}

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}
