//! Accounts, devices and sessions: sign up, sign in, refresh, sign out. The directory's rows are the truth; a request
//! proves its session with an access token alone.
//!
//! Start reading at [`Accounts`].

mod passwords;
mod rules;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;
use tidings_ports::{
    Account, AccountSecret, Clock, Device, Directory, DirectoryError, NewAccount, NewSession, RefreshOutcome,
    Rng, Session, Tasks,
};
use tidings_types::{Code, DeviceId, Refusal, SessionId, SpaceId, Timestamp, UserId};

pub use passwords::HashingCost;

use self::passwords::Passwords;
use crate::error::from_directory;
use crate::tokens::{AccessTokenError, AccessTokens, RefreshToken, RefreshTokens};

/// What accounts need from the outside.
#[derive(Clone)]
pub struct AccountsPorts {
    pub directory: Arc<dyn Directory>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub tasks: Arc<dyn Tasks>,
}

/// Whom accounts tell. Called before the caller is answered; must not block.
#[derive(Clone)]
pub struct AccountsHooks {
    /// A session ended: its sockets close.
    pub session_ended: Arc<dyn Fn(SessionId) + Send + Sync>,
    /// The directory has a new device removal.
    pub device_removed: Arc<dyn Fn() + Send + Sync>,
}

/// Secrets of the server, 32 random bytes each. Another `access_seed` ends all access tokens, another `refresh_key` all
/// sign-ins.
#[derive(Clone)]
pub struct AccountsKeys {
    pub access_seed: [u8; 32],
    pub refresh_key: [u8; 32],
}

#[derive(Clone, Debug)]
pub struct AccountsConfig {
    pub space: SpaceId,
    pub registration: Registration,
    pub hashing_cost: HashingCost,
    /// Hashes computed at the same time.
    pub hashing_parallel_max: usize,
    /// Callers waiting for their turn. Beyond: `overloaded`.
    pub hashing_waiting_max: usize,
    pub access_ttl_ms: u64,
    /// For so long a refresh token that was used already gives its successor again.
    pub refresh_grace_ms: u64,
    /// Devices of one user. Beyond: the sign-in is refused with `too_large`.
    pub devices_max: usize,
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self {
            space: SpaceId::DEFAULT,
            registration: Registration::Invite,
            hashing_cost: HashingCost::default(),
            hashing_parallel_max: 2,
            hashing_waiting_max: 64,
            access_ttl_ms: 600_000,
            refresh_grace_ms: 30_000,
            devices_max: 20,
        }
    }
}

/// Who may make an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    Open,
    /// Only people with an invitation; no one can be invited yet.
    Invite,
}

#[derive(Debug, Error)]
pub enum AccountsError {
    #[error("the cost of password hashing is out of range")]
    HashingCost(#[source] argon2::Error),
    #[error("at least one password must be hashed at a time")]
    NoHashing,
}

/// A new account and its first sign-in. Not `Debug`, because it holds a password.
#[derive(Clone)]
pub struct SignUp {
    pub username: String,
    pub password: String,
    /// `None`: the username.
    pub display_name: Option<String>,
    pub device: SigningDevice,
}

/// A sign-in. Not `Debug`, because it holds a password.
#[derive(Clone)]
pub struct SignIn {
    pub username: String,
    pub password: String,
    pub device: SigningDevice,
}

/// The device that signs in.
#[derive(Clone, Debug)]
pub struct SigningDevice {
    /// Made by the client and kept by it; `None` for a new one, made by the server.
    pub id: Option<DeviceId>,
    pub name: String,
}

/// A signed-in device and its proofs.
#[derive(Clone)]
pub struct SignedIn {
    pub account: Account,
    pub device: DeviceId,
    pub session: SessionId,
    pub access_token: String,
    pub access_expires_at: Timestamp,
    pub refresh_token: String,
}

/// The proofs stay out of logs.
impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedIn")
            .field("user", &self.account.user)
            .field("device", &self.device)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// One page of accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountsPage {
    pub items: Vec<Account>,
    /// Opaque; `None` after the last page.
    pub next_cursor: Option<String>,
}

/// Accounts, devices and sessions of one space.
pub struct Accounts {
    config: AccountsConfig,
    ports: AccountsPorts,
    hooks: AccountsHooks,
    passwords: Passwords,
    access: AccessTokens,
    refresh: RefreshTokens,
}

/// Ids that the directory takes in one call.
const IDS_PER_CALL_MAX: usize = 1_000;
const UNNAMED_DEVICE: &str = "unnamed device";

impl Accounts {
    /// # Errors
    /// When the configuration makes no sense.
    pub fn new(
        config: AccountsConfig,
        keys: &AccountsKeys,
        ports: AccountsPorts,
        hooks: AccountsHooks,
    ) -> Result<Self, AccountsError> {
        if config.hashing_parallel_max == 0 {
            return Err(AccountsError::NoHashing);
        }
        let passwords = Passwords::new(
            config.hashing_cost,
            config.hashing_parallel_max,
            config.hashing_waiting_max,
            ports.rng.clone(),
            ports.tasks.clone(),
        )
        .map_err(AccountsError::HashingCost)?;
        let access = AccessTokens::new(&keys.access_seed, config.access_ttl_ms);
        let refresh = RefreshTokens::new(keys.refresh_key);
        Ok(Self { config, ports, hooks, passwords, access, refresh })
    }

    /// Makes an account and signs its first device in.
    pub async fn sign_up(&self, request: SignUp) -> Result<SignedIn, Refusal> {
        if self.config.registration == Registration::Invite {
            return Err(Refusal::new(Code::Forbidden, "this server takes new accounts by invitation only"));
        }
        let username = rules::username(&request.username)?;
        rules::password(&request.password)?;
        let shown = rules::shown_name(request.display_name.as_deref().unwrap_or_default())?;
        let device = checked(&request.device)?;
        // Before the hash, which is dear; the directory decides.
        if self.account_by_name(&username).await?.is_some() {
            return Err(username_taken());
        }
        let new = NewAccount {
            user: UserId::v7(self.ports.clock.now(), self.random()),
            space: self.config.space,
            display_name: shown.unwrap_or_else(|| username.clone()),
            username,
            password_hash: self.passwords.hash(&request.password).await?,
            created_at: self.ports.clock.now(),
        };
        let account = self.ports.directory.create_account(new).await.map_err(|error| match error {
            DirectoryError::Conflict => username_taken(),
            error => from_directory(&error),
        })?;
        self.open_session(account, device).await
    }

    /// Signs a device in. An unknown name and a wrong password are the same refusal after the same work.
    pub async fn sign_in(&self, request: SignIn) -> Result<SignedIn, Refusal> {
        let device = checked(&request.device)?;
        let known = match rules::username(&request.username) {
            Ok(username) => self.account_by_name(&username).await?,
            Err(_) => None,
        };
        let hash = known.as_ref().map(|secret| secret.password_hash.as_str());
        let is_right = request.password.chars().count() <= rules::PASSWORD_CHARS_MAX
            && self.passwords.verify(&request.password, hash).await?;
        match known {
            Some(secret) if is_right => self.open_session(secret.account, device).await,
            _ => Err(Refusal::new(Code::Unauthenticated, "the username or the password is wrong")),
        }
    }

    /// Replaces a refresh token by its successor and makes a new access token. The same token within the grace time
    /// gives the same successor; later, somebody has a copy, and the session ends.
    pub async fn refresh(&self, refresh_token: &str) -> Result<SignedIn, Refusal> {
        let presented = self.refresh.parse(refresh_token).ok_or_else(sign_in_again)?;
        let successor = self.refresh.successor(&presented);
        let outcome = self
            .ports
            .directory
            .rotate_refresh(
                presented.hash(),
                successor.hash(),
                self.ports.clock.now(),
                self.config.refresh_grace_ms,
            )
            .await
            .map_err(|error| from_directory(&error))?;
        match outcome {
            RefreshOutcome::Rotated(session) => {
                let account = self.account(session.user).await?;
                Ok(self.signed_in(account, &session, &successor))
            }
            RefreshOutcome::Reused(session) => {
                (self.hooks.session_ended)(session.session);
                Err(sign_in_again())
            }
            RefreshOutcome::Unknown => self.end_family(presented.session()).await,
        }
    }

    /// The session that an access token proves. Asks nobody: a session that ended passes until its token expires, so
    /// what lives longer than a request asks [`Accounts::live`] too.
    pub fn authenticate(&self, access_token: &str) -> Result<Session, Refusal> {
        self.access.verify(access_token, self.ports.clock.now()).map_err(|error| match error {
            AccessTokenError::Expired => {
                Refusal::new(Code::TokenExpired, "the access token has expired; refresh it")
            }
            AccessTokenError::Invalid => {
                Refusal::new(Code::Unauthenticated, "no valid access token; sign in")
            }
        })
    }

    /// Which of these sessions are live.
    pub async fn live(&self, sessions: &[SessionId]) -> Result<Vec<SessionId>, Refusal> {
        let mut live = Vec::with_capacity(sessions.len());
        for chunk in sessions.chunks(IDS_PER_CALL_MAX) {
            let found = self.ports.directory.live_sessions(chunk).await;
            live.append(&mut found.map_err(|error| from_directory(&error))?);
        }
        Ok(live)
    }

    /// Ends a session; ending an ended one is fine.
    pub async fn sign_out(&self, session: SessionId) -> Result<(), Refusal> {
        self.ports.directory.end_session(session).await.map_err(|error| from_directory(&error))?;
        (self.hooks.session_ended)(session);
        Ok(())
    }

    /// A user's devices, oldest first.
    pub async fn devices(&self, user: UserId) -> Result<Vec<Device>, Refusal> {
        self.ports.directory.devices(user).await.map_err(|error| from_directory(&error))
    }

    /// Removes a device for ever and ends its session, which it answers. A device that the user does not have, or no
    /// longer, is as removed as one can be.
    pub async fn remove_device(&self, user: UserId, device: DeviceId) -> Result<Option<SessionId>, Refusal> {
        let now = self.ports.clock.now();
        let ended = self.ports.directory.remove_device(user, device, now).await;
        let ended = ended.map_err(|error| from_directory(&error))?;
        if let Some(session) = ended {
            (self.hooks.session_ended)(session);
        }
        (self.hooks.device_removed)();
        Ok(ended)
    }

    /// `not_found` if there is none.
    pub async fn account(&self, user: UserId) -> Result<Account, Refusal> {
        let found = self.accounts(&[user]).await?;
        found.into_iter().next().ok_or_else(|| Refusal::new(Code::NotFound, "no such user"))
    }

    /// The accounts that exist among `users`, in any order.
    pub async fn accounts(&self, users: &[UserId]) -> Result<Vec<Account>, Refusal> {
        let mut accounts = Vec::with_capacity(users.len());
        for chunk in users.chunks(IDS_PER_CALL_MAX) {
            let found = self.ports.directory.accounts(self.config.space, chunk).await;
            accounts.append(&mut found.map_err(|error| from_directory(&error))?);
        }
        Ok(accounts)
    }

    /// Accounts whose username or display name begins with `query`, by username.
    pub async fn search(
        &self,
        query: &str,
        cursor: Option<&str>,
        limit: Option<usize>,
    ) -> Result<AccountsPage, Refusal> {
        let items_max = rules::page_items(limit)?;
        let query = rules::shown_name(query)?.unwrap_or_default().to_lowercase();
        let after = cursor.map(decode_cursor).transpose()?;
        let found = self
            .ports
            .directory
            .search_accounts(self.config.space, &query, after.as_deref(), items_max + 1)
            .await;
        let mut items = found.map_err(|error| from_directory(&error))?;
        let is_last = items.len() <= items_max;
        items.truncate(items_max);
        let last = items.last().filter(|_| !is_last);
        let next_cursor = last.map(|account| URL_SAFE_NO_PAD.encode(&account.username));
        Ok(AccountsPage { items, next_cursor })
    }

    async fn account_by_name(&self, username: &str) -> Result<Option<AccountSecret>, Refusal> {
        let found = self.ports.directory.account_by_name(self.config.space, username).await;
        found.map_err(|error| from_directory(&error))
    }

    async fn open_session(&self, account: Account, device: SigningDevice) -> Result<SignedIn, Refusal> {
        let now = self.ports.clock.now();
        let session = Session {
            session: SessionId::v7(now, self.random()),
            user: account.user,
            space: account.space,
            device: device.id.unwrap_or_else(|| DeviceId::v7(now, self.random())),
        };
        let refresh = self.refresh.first(session.session, self.random());
        let new = NewSession {
            session: session.session,
            user: session.user,
            device: session.device,
            device_name: device.name,
            refresh_hash: refresh.hash(),
            created_at: now,
            devices_max: self.config.devices_max,
        };
        let older = self.ports.directory.open_session(new).await.map_err(|error| match error {
            DirectoryError::Conflict => Refusal::new(
                Code::IdConflict,
                "this device was removed or is somebody else's; sign in with a new device id",
            ),
            DirectoryError::TooManyDevices => {
                Refusal::new(Code::TooLarge, "this account has too many devices; remove one first")
            }
            error => from_directory(&error),
        })?;
        if let Some(older) = older {
            (self.hooks.session_ended)(older);
        }
        Ok(self.signed_in(account, &session, &refresh))
    }

    fn signed_in(&self, account: Account, session: &Session, refresh: &RefreshToken) -> SignedIn {
        let (access_token, access_expires_at) =
            self.access.issue(session, self.ports.clock.now(), self.random());
        SignedIn {
            account,
            device: session.device,
            session: session.session,
            access_token,
            access_expires_at,
            refresh_token: refresh.text(),
        }
    }

    /// This server made the token, and the directory does not know it any more. If its session is live the token is an
    /// outdated one, and whoever rotated it since may be the thief: the session ends.
    async fn end_family(&self, session: SessionId) -> Result<SignedIn, Refusal> {
        if !self.live(&[session]).await?.is_empty() {
            self.sign_out(session).await?;
        }
        Err(sign_in_again())
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.ports.rng.fill(&mut bytes);
        bytes
    }
}

fn checked(device: &SigningDevice) -> Result<SigningDevice, Refusal> {
    Ok(SigningDevice {
        id: device.id.map(rules::device_id).transpose()?,
        name: rules::shown_name(&device.name)?.unwrap_or_else(|| UNNAMED_DEVICE.to_owned()),
    })
}

fn decode_cursor(cursor: &str) -> Result<String, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok();
    let username = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    username
        .filter(|name| rules::username(name).is_ok())
        .ok_or_else(|| rules::invalid("this cursor is from elsewhere"))
}

fn username_taken() -> Refusal {
    Refusal::new(Code::IdConflict, "this username is taken")
}

fn sign_in_again() -> Refusal {
    Refusal::new(Code::Unauthenticated, "the refresh token is not valid; sign in again")
}

#[cfg(test)]
mod tests;
