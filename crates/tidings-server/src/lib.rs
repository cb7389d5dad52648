//! Config, wiring, start and shutdown: the one place that names an engine and a runtime. No logic worth a unit test
//! besides reading the configuration.
//!
//! Start reading at [`Server::start`].

mod config;
mod demo;
mod runtime;
mod server;

pub use config::{Config, ConfigError, HashingConfig, LimitsConfig, LogSettings, RegistrationConfig};
pub use demo::{DEMO_PASSWORD, DEMO_USERS};
pub use server::{Server, ServerError};
