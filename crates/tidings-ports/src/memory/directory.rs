//! The directory in memory. One lock over everything, so each method is one step as in a database.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tidings_types::{DeviceId, LogPosition, SessionId, SpaceId, Timestamp, UserId};

use crate::{
    Account, AccountSecret, Device, DeviceRemoval, Directory, DirectoryError, NewAccount, NewSession,
    RefreshOutcome, Session,
};

/// Accounts, devices and sessions that last as long as the value.
#[derive(Debug, Default)]
pub struct MemoryDirectory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accounts: BTreeMap<UserId, AccountSecret>,
    devices: BTreeMap<DeviceId, DeviceRow>,
    sessions: BTreeMap<SessionId, SessionRow>,
    removals: Vec<DeviceRemoval>,
    positions: BTreeMap<String, LogPosition>,
}

#[derive(Debug)]
struct DeviceRow {
    user: UserId,
    device: Device,
    removed: bool,
}

#[derive(Debug)]
struct SessionRow {
    session: Session,
    refresh_hash: [u8; 32],
    previous_hash: Option<[u8; 32]>,
    rotated_at: Timestamp,
}

impl MemoryDirectory {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Methods check before they change, so a panic under the lock leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Directory for MemoryDirectory {
    async fn create_account(&self, new: NewAccount) -> Result<Account, DirectoryError> {
        self.state().create_account(new)
    }

    async fn account_by_name(
        &self,
        space: SpaceId,
        username: &str,
    ) -> Result<Option<AccountSecret>, DirectoryError> {
        let state = self.state();
        let named =
            |secret: &&AccountSecret| secret.account.space == space && secret.account.username == username;
        Ok(state.accounts.values().find(named).cloned())
    }

    async fn accounts(&self, space: SpaceId, users: &[UserId]) -> Result<Vec<Account>, DirectoryError> {
        let state = self.state();
        let found = state.accounts.values().map(|secret| &secret.account);
        Ok(found.filter(|account| account.space == space && users.contains(&account.user)).cloned().collect())
    }

    async fn search_accounts(
        &self,
        space: SpaceId,
        query: &str,
        after: Option<&str>,
        rows_max: usize,
    ) -> Result<Vec<Account>, DirectoryError> {
        let state = self.state();
        let wanted = |account: &&Account| {
            account.space == space
                && after.is_none_or(|after| account.username.as_str() > after)
                && (account.username.starts_with(query)
                    || account.display_name.to_lowercase().starts_with(query))
        };
        let mut found: Vec<Account> =
            state.accounts.values().map(|secret| &secret.account).filter(wanted).cloned().collect();
        found.sort_by(|a, b| a.username.cmp(&b.username));
        found.truncate(rows_max);
        Ok(found)
    }

    async fn count_accounts(&self) -> Result<u64, DirectoryError> {
        Ok(self.state().accounts.len() as u64)
    }

    async fn open_session(&self, new: NewSession) -> Result<Option<SessionId>, DirectoryError> {
        self.state().open_session(&new)
    }

    async fn rotate_refresh(
        &self,
        presented: [u8; 32],
        successor: [u8; 32],
        now: Timestamp,
        grace_ms: u64,
    ) -> Result<RefreshOutcome, DirectoryError> {
        Ok(self.state().rotate_refresh(presented, successor, now, grace_ms))
    }

    async fn live_sessions(&self, sessions: &[SessionId]) -> Result<Vec<SessionId>, DirectoryError> {
        let state = self.state();
        Ok(state.sessions.keys().filter(|session| sessions.contains(session)).copied().collect())
    }

    async fn end_session(&self, session: SessionId) -> Result<(), DirectoryError> {
        self.state().sessions.remove(&session);
        Ok(())
    }

    async fn devices(&self, user: UserId) -> Result<Vec<Device>, DirectoryError> {
        let state = self.state();
        let mut devices: Vec<Device> = state.devices_of(user).map(|row| row.device.clone()).collect();
        devices.sort_by_key(|device| (device.created_at, device.device));
        Ok(devices)
    }

    async fn remove_device(
        &self,
        user: UserId,
        device: DeviceId,
        _now: Timestamp,
    ) -> Result<Option<SessionId>, DirectoryError> {
        Ok(self.state().remove_device(user, device))
    }

    async fn device_removals(
        &self,
        after: u64,
        rows_max: usize,
    ) -> Result<Vec<DeviceRemoval>, DirectoryError> {
        let state = self.state();
        Ok(state.removals.iter().filter(|removal| removal.number > after).take(rows_max).cloned().collect())
    }

    async fn follower_position(&self, follower: &str) -> Result<Option<LogPosition>, DirectoryError> {
        Ok(self.state().positions.get(follower).copied())
    }

    async fn set_follower_position(
        &self,
        follower: &str,
        position: LogPosition,
    ) -> Result<(), DirectoryError> {
        self.state().positions.insert(follower.to_owned(), position);
        Ok(())
    }
}

impl State {
    fn create_account(&mut self, new: NewAccount) -> Result<Account, DirectoryError> {
        let taken = |secret: &AccountSecret| {
            secret.account.space == new.space && secret.account.username == new.username
        };
        if self.accounts.contains_key(&new.user) || self.accounts.values().any(taken) {
            return Err(DirectoryError::Conflict);
        }
        let account = Account {
            user: new.user,
            space: new.space,
            username: new.username,
            display_name: new.display_name,
            admin: self.accounts.is_empty(),
            created_at: new.created_at,
        };
        let secret = AccountSecret { account: account.clone(), password_hash: new.password_hash };
        self.accounts.insert(new.user, secret);
        Ok(account)
    }

    fn open_session(&mut self, new: &NewSession) -> Result<Option<SessionId>, DirectoryError> {
        let Some(owner) = self.accounts.get(&new.user) else {
            return Err(DirectoryError::Unavailable("a session needs an account".into()));
        };
        let space = owner.account.space;
        if self.sessions.contains_key(&new.session) {
            return Err(DirectoryError::Conflict);
        }
        self.see_device(new)?;
        let older = self.end_session_of(new.device);
        let session = Session { session: new.session, user: new.user, space, device: new.device };
        let row = SessionRow {
            session,
            refresh_hash: new.refresh_hash,
            previous_hash: None,
            rotated_at: new.created_at,
        };
        self.sessions.insert(new.session, row);
        Ok(older)
    }

    /// Adds the device of a sign-in, or notes that it was seen again.
    fn see_device(&mut self, new: &NewSession) -> Result<(), DirectoryError> {
        if let Some(known) = self.devices.get_mut(&new.device) {
            if known.removed || known.user != new.user {
                return Err(DirectoryError::Conflict);
            }
            known.device.last_seen_at = new.created_at;
            return Ok(());
        }
        if self.devices_of(new.user).count() >= new.devices_max {
            return Err(DirectoryError::TooManyDevices);
        }
        let device = Device {
            device: new.device,
            name: new.device_name.clone(),
            created_at: new.created_at,
            last_seen_at: new.created_at,
        };
        self.devices.insert(new.device, DeviceRow { user: new.user, device, removed: false });
        Ok(())
    }

    fn rotate_refresh(
        &mut self,
        presented: [u8; 32],
        successor: [u8; 32],
        now: Timestamp,
        grace_ms: u64,
    ) -> RefreshOutcome {
        let known =
            |row: &&mut SessionRow| row.refresh_hash == presented || row.previous_hash == Some(presented);
        let Some(row) = self.sessions.values_mut().find(known) else {
            return RefreshOutcome::Unknown;
        };
        let session = row.session.clone();
        if row.refresh_hash == presented {
            row.previous_hash = Some(presented);
            row.rotated_at = now;
        } else if now.ms_since(row.rotated_at) > grace_ms {
            self.sessions.remove(&session.session);
            return RefreshOutcome::Reused(session);
        }
        row.refresh_hash = successor;
        if let Some(known) = self.devices.get_mut(&session.device) {
            known.device.last_seen_at = now;
        }
        RefreshOutcome::Rotated(session)
    }

    fn remove_device(&mut self, user: UserId, device: DeviceId) -> Option<SessionId> {
        let space = self.accounts.get(&user)?.account.space;
        let row = self.devices.get_mut(&device).filter(|row| row.user == user && !row.removed)?;
        row.removed = true;
        let number = self.removals.len() as u64 + 1;
        self.removals.push(DeviceRemoval { number, user, space, device });
        self.end_session_of(device)
    }

    fn end_session_of(&mut self, device: DeviceId) -> Option<SessionId> {
        let session = self.sessions.values().find(|row| row.session.device == device)?.session.session;
        self.sessions.remove(&session);
        Some(session)
    }

    fn devices_of(&self, user: UserId) -> impl Iterator<Item = &DeviceRow> {
        self.devices.values().filter(move |row| row.user == user && !row.removed)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::MemoryDirectory;
    use crate::suite;

    /// Nothing in memory waits, so one poll is a whole run.
    fn run<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the directory in memory waited"),
        }
    }

    #[test]
    fn passes_the_directory_suite() {
        run(suite::directory::all(|| async { MemoryDirectory::new() }));
    }
}
