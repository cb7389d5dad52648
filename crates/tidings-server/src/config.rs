//! The server's configuration: one TOML file; the binary lays the environment and the command line over it
//! (docs/config.md). Every key has a default; an unknown key is an error, because a misspelt one that is ignored is worse.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use tidings_types::Limits;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the HTTP and WebSocket port.
    pub listen: SocketAddr,
    /// Directory of everything the server keeps. One process at a time.
    pub data: PathBuf,
    /// Makes demo users with known passwords. Only on loopback, only in a directory without other accounts.
    pub demo: bool,
    /// Who may sign up. Without it: everybody while listening on loopback, else only invited people.
    pub registration: Option<RegistrationConfig>,
    pub log: LogSettings,
    pub hashing: HashingConfig,
    pub limits: LimitsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8390)),
            data: PathBuf::from("data"),
            demo: false,
            registration: None,
            log: LogSettings::default(),
            hashing: HashingConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationConfig {
    Open,
    Invite,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Bytes of one segment file, zeroed before use.
    pub segment_bytes: u64,
    /// Bytes of the disk that the log leaves free; below it sends are answered `storage_full`.
    pub reserve_bytes: u64,
    /// A checkpoint begins when a shard has this many bytes that the tables do not have …
    pub checkpoint_bytes: usize,
    /// … or after this many milliseconds.
    pub checkpoint_age_ms: u64,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * 1024 * 1024,
            reserve_bytes: 256 * 1024 * 1024,
            checkpoint_bytes: 16 * 1024 * 1024,
            checkpoint_age_ms: 30_000,
        }
    }
}

/// The cost of one argon2id password hash (RFC 9106).
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HashingConfig {
    pub memory_kib: u32,
    pub passes: u32,
    /// Hashes computed at the same time.
    pub parallel_max: usize,
    /// Sign-ins waiting for their turn. Beyond: `overloaded`.
    pub waiting_max: usize,
}

impl Default for HashingConfig {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, parallel_max: 2, waiting_max: 64 }
    }
}

/// The limits an operator may change; their meaning and default stand with [`Limits`].
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    pub content_bytes_max: Option<usize>,
    pub devices_per_user_max: Option<usize>,
    pub replay_entries_max: Option<u64>,
    pub output_bytes_max: Option<usize>,
    pub heartbeat_ms: Option<u64>,
    pub mailbox_commands_max: Option<usize>,
    pub tail_bytes_max: Option<usize>,
    pub facts_cached_max: Option<usize>,
    pub ids_cached_max: Option<usize>,
}

impl LimitsConfig {
    #[must_use]
    pub fn limits(self) -> Limits {
        let limits = Limits::default();
        Limits {
            content_bytes_max: self.content_bytes_max.unwrap_or(limits.content_bytes_max),
            devices_per_user_max: self.devices_per_user_max.unwrap_or(limits.devices_per_user_max),
            replay_entries_max: self.replay_entries_max.unwrap_or(limits.replay_entries_max),
            output_bytes_max: self.output_bytes_max.unwrap_or(limits.output_bytes_max),
            heartbeat_ms: self.heartbeat_ms.unwrap_or(limits.heartbeat_ms),
            mailbox_commands_max: self.mailbox_commands_max.unwrap_or(limits.mailbox_commands_max),
            tail_bytes_max: self.tail_bytes_max.unwrap_or(limits.tail_bytes_max),
            facts_cached_max: self.facts_cached_max.unwrap_or(limits.facts_cached_max),
            ids_cached_max: self.ids_cached_max.unwrap_or(limits.ids_cached_max),
            ..limits
        }
    }
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("the configuration file {path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the configuration file {path} is wrong")]
    Wrong {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("--demo makes users with known passwords, so it works on a loopback address only, not on {0}")]
    DemoNotOnLoopback(SocketAddr),
    #[error("registration = \"open\" works on a loopback address only, not on {0}")]
    OpenNotOnLoopback(SocketAddr),
}

impl Config {
    /// Reads a file; without one, the defaults.
    pub fn read(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|source| ConfigError::Wrong { path: path.to_owned(), source: Box::new(source) })
    }

    /// Refuses what would be insecure as shipped.
    pub fn check(&self) -> Result<(), ConfigError> {
        let loopback = self.listen.ip().is_loopback();
        if self.demo && !loopback {
            return Err(ConfigError::DemoNotOnLoopback(self.listen));
        }
        if self.registration == Some(RegistrationConfig::Open) && !loopback {
            return Err(ConfigError::OpenNotOnLoopback(self.listen));
        }
        Ok(())
    }

    #[must_use]
    pub fn registration(&self) -> RegistrationConfig {
        self.registration.unwrap_or(if self.listen.ip().is_loopback() {
            RegistrationConfig::Open
        } else {
            RegistrationConfig::Invite
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_and_known_ones_read() {
        let config: Config = toml::from_str("listen = \"127.0.0.1:1\"\n[limits]\nheartbeat_ms = 5").unwrap();
        assert_eq!(config.limits.limits().heartbeat_ms, 5);
        assert!(toml::from_str::<Config>("lisen = \"127.0.0.1:1\"").is_err());
        assert!(toml::from_str::<Config>("[limits]\nheart_beat = 5").is_err());
    }

    #[test]
    fn what_is_insecure_is_refused_off_loopback() {
        let public = Config { listen: "0.0.0.0:1".parse().unwrap(), ..Config::default() };
        assert!(public.check().is_ok());
        assert_eq!(public.registration(), RegistrationConfig::Invite);
        assert!(Config { demo: true, ..public.clone() }.check().is_err());
        assert!(Config { registration: Some(RegistrationConfig::Open), ..public }.check().is_err());
        assert_eq!(Config::default().registration(), RegistrationConfig::Open);
    }
}
