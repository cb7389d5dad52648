//! The edge: HTTP and WebSocket on one port, back-pressure, local fan-out. Never storage, never a rule about who may do
//! what to a conversation: those are asked of its writer.
//!
//! Start reading at [`Gateway`], then `peer.rs` (one socket), `hub.rs` (fan-out) and `http` (the routes).

pub mod http;
mod hub;
mod peer;
mod serve;
mod upgrade;
pub mod ws;

use std::sync::Arc;

use tidings_service::{Accounts, Service};
use tidings_types::SessionId;

pub use hub::Hub;
pub use serve::serve;
pub use upgrade::upgrade;

use ws::{DriverConfig, Instants, TimeSource};

#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// How often the rows of all linked sessions are checked, in milliseconds. The notice of a removal is the fast
    /// path; this bounds how long a lost one can matter.
    pub session_check_ms: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self { session_check_ms: 60_000 }
    }
}

/// What every route and every socket works with.
pub struct Gateway {
    pub service: Arc<Service>,
    pub accounts: Arc<Accounts>,
    pub hub: Arc<Hub>,
    pub config: GatewayConfig,
    driver: Arc<DriverConfig>,
    time: Arc<Time>,
}

struct Time(Arc<Service>);

impl TimeSource for Time {
    fn instants(&self) -> Instants {
        Instants { monotonic_ms: self.0.monotonic_ms(), wall: self.0.now() }
    }
}

impl Gateway {
    #[must_use]
    pub fn new(
        service: Arc<Service>,
        accounts: Arc<Accounts>,
        hub: Arc<Hub>,
        config: GatewayConfig,
    ) -> Arc<Self> {
        let driver = Arc::new(DriverConfig::from_limits(service.limits()));
        let time = Arc::new(Time(service.clone()));
        Arc::new(Self { service, accounts, hub, config, driver, time })
    }

    /// Runs for ever: closes the sockets of sessions that have ended, however they ended.
    pub async fn check_sessions(self: Arc<Self>) {
        loop {
            self.service.sleep_ms(self.config.session_check_ms).await;
            for sessions in self.hub.sessions().chunks(SESSIONS_PER_CHECK) {
                self.check(sessions).await;
            }
        }
    }

    async fn check(&self, sessions: &[SessionId]) {
        match self.accounts.live(sessions).await {
            Ok(live) => sessions
                .iter()
                .filter(|session| !live.contains(session))
                .for_each(|session| self.hub.end_session(*session)),
            Err(refusal) => tracing::warn!(%refusal, "sessions could not be checked"),
        }
    }
}

/// Sessions whose rows are read at once.
const SESSIONS_PER_CHECK: usize = 500;
