//! The directory in memory, which takes its time to answer who exists (later questions overtake earlier ones), and
//! which can fail to take a follower's position.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tidings_ports::memory::{MemoryDirectory, SeededRng};
use tidings_ports::{
    Account, AccountSecret, Device, DeviceRemoval, Directory, DirectoryError, NewAccount, NewSession,
    RefreshOutcome,
};
use tidings_types::{DeviceId, LogPosition, SessionId, SpaceId, Timestamp, UserId};

pub(crate) struct SlowDirectory {
    pub(crate) directory: Arc<MemoryDirectory>,
    pub(crate) rng: Arc<SeededRng>,
    /// Yields to other tasks a random number of times.
    pub(crate) yielding: bool,
    /// So many positions are not taken.
    pub(crate) commits_refused: Arc<AtomicUsize>,
}

macro_rules! directory {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Directory for SlowDirectory {
            async fn accounts(&self, space: SpaceId, users: &[UserId]) -> Result<Vec<Account>, DirectoryError> {
                for _ in 0..if self.yielding { self.rng.below(8) } else { 0 } {
                    tokio::task::yield_now().await;
                }
                self.directory.accounts(space, users).await
            }

            async fn set_follower_position(
                &self,
                follower: &str,
                position: LogPosition,
            ) -> Result<(), DirectoryError> {
                let refused = |left: usize| left.checked_sub(1);
                if self.commits_refused.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refused).is_ok() {
                    return Err(DirectoryError::Full);
                }
                self.directory.set_follower_position(follower, position).await
            }

            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, DirectoryError> {
                self.directory.$name($($argument),*).await
            })*
        }
    };
}

directory! {
    fn create_account(account: NewAccount) -> Account;
    fn account_by_name(space: SpaceId, username: &str) -> Option<AccountSecret>;
    fn search_accounts(space: SpaceId, query: &str, after: Option<&str>, rows_max: usize) -> Vec<Account>;
    fn count_accounts() -> u64;
    fn open_session(session: NewSession) -> Option<SessionId>;
    fn rotate_refresh(
        presented: [u8; 32], successor: [u8; 32], now: Timestamp, grace_ms: u64
    ) -> RefreshOutcome;
    fn live_sessions(sessions: &[SessionId]) -> Vec<SessionId>;
    fn end_session(session: SessionId) -> ();
    fn devices(user: UserId) -> Vec<Device>;
    fn remove_device(user: UserId, device: DeviceId, now: Timestamp) -> Option<SessionId>;
    fn device_removals(after: u64, rows_max: usize) -> Vec<DeviceRemoval>;
    fn follower_position(follower: &str) -> Option<LogPosition>;
}
