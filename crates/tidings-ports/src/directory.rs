//! The directory: accounts, devices, sessions, and the followers' places. The session's row here is the truth about a
//! sign-in.

use async_trait::async_trait;
use thiserror::Error;
use tidings_types::{DeviceId, LogPosition, SessionId, SpaceId, Timestamp, UserId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub user: UserId,
    pub space: SpaceId,
    /// Case-folded, unique per space.
    pub username: String,
    pub display_name: String,
    /// The first account of a server.
    pub admin: bool,
    pub created_at: Timestamp,
}

/// An account with what proves its owner. Never leaves the service.
#[derive(Clone, Debug)]
pub struct AccountSecret {
    pub account: Account,
    /// PHC string (argon2id).
    pub password_hash: String,
}

#[derive(Clone, Debug)]
pub struct NewAccount {
    pub user: UserId,
    pub space: SpaceId,
    pub username: String,
    pub display_name: String,
    pub password_hash: String,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub device: DeviceId,
    pub name: String,
    pub created_at: Timestamp,
    pub last_seen_at: Timestamp,
}

/// A new sign-in. `device` may be known already: then its name is kept and its older session ends.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub session: SessionId,
    pub user: UserId,
    pub device: DeviceId,
    pub device_name: String,
    /// SHA-256 of the refresh token.
    pub refresh_hash: [u8; 32],
    pub created_at: Timestamp,
    pub devices_max: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub session: SessionId,
    pub user: UserId,
    pub space: SpaceId,
    pub device: DeviceId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// The presented token was the current one and is now the previous one, or it was the previous one and still in
    /// its grace window: either way its successor is the current token.
    Rotated(Session),
    /// The previous token came back after its grace window: somebody has a copy. The session has been ended.
    Reused(Session),
    /// No live session has this token.
    Unknown,
}

/// One removed device, numbered in the order of removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRemoval {
    /// From 1, growing.
    pub number: u64,
    pub user: UserId,
    pub space: SpaceId,
    pub device: DeviceId,
}

#[derive(Debug, Error)]
pub enum DirectoryError {
    /// The name or id is taken.
    #[error("taken already")]
    Conflict,
    /// `devices_max` is reached.
    #[error("too many devices")]
    TooManyDevices,
    #[error("the directory has no room")]
    Full,
    #[error("the directory is not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Every method that changes something is durable when it returns.
#[async_trait]
pub trait Directory: Send + Sync {
    /// `Conflict` if the space has the username. The first account ever becomes the server's admin.
    async fn create_account(&self, account: NewAccount) -> Result<Account, DirectoryError>;

    async fn account_by_name(
        &self,
        space: SpaceId,
        username: &str,
    ) -> Result<Option<AccountSecret>, DirectoryError>;

    /// The accounts that exist among `users`, in any order. At most 1,000 ids.
    async fn accounts(&self, space: SpaceId, users: &[UserId]) -> Result<Vec<Account>, DirectoryError>;

    /// Accounts whose username or display name begins with `query` (case-folded), by username, after `after`.
    async fn search_accounts(
        &self,
        space: SpaceId,
        query: &str,
        after: Option<&str>,
        rows_max: usize,
    ) -> Result<Vec<Account>, DirectoryError>;

    async fn count_accounts(&self) -> Result<u64, DirectoryError>;

    /// Signs a device in. Ends an older session of the same device and answers it. `Conflict` if the device belongs to
    /// another user or was removed.
    async fn open_session(&self, session: NewSession) -> Result<Option<SessionId>, DirectoryError>;

    /// Replaces the refresh token with hash `presented` by `successor`.
    async fn rotate_refresh(
        &self,
        presented: [u8; 32],
        successor: [u8; 32],
        now: Timestamp,
        grace_ms: u64,
    ) -> Result<RefreshOutcome, DirectoryError>;

    /// Which of these sessions are live. At most 1,000 ids.
    async fn live_sessions(&self, sessions: &[SessionId]) -> Result<Vec<SessionId>, DirectoryError>;

    /// Ends a session; ending an ended one is fine.
    async fn end_session(&self, session: SessionId) -> Result<(), DirectoryError>;

    /// A user's devices, oldest first, removed ones left out.
    async fn devices(&self, user: UserId) -> Result<Vec<Device>, DirectoryError>;

    /// Removes a device and ends its session; answers the ended session. Removing a removed device changes nothing and
    /// answers `Ok(None)`; so does an unknown one or another user's.
    async fn remove_device(
        &self,
        user: UserId,
        device: DeviceId,
        now: Timestamp,
    ) -> Result<Option<SessionId>, DirectoryError>;

    /// Removals with a greater number, in order.
    async fn device_removals(
        &self,
        after: u64,
        rows_max: usize,
    ) -> Result<Vec<DeviceRemoval>, DirectoryError>;

    /// What a follower last committed; `None` before the first time.
    async fn follower_position(&self, follower: &str) -> Result<Option<LogPosition>, DirectoryError>;

    /// Commits a follower's position. (A follower of something else than a log uses the place alone.)
    async fn set_follower_position(
        &self,
        follower: &str,
        position: LogPosition,
    ) -> Result<(), DirectoryError>;
}
