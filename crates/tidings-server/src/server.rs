//! Start and shutdown of the whole product on the embedded engine.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidings_embedded::{
    DataDir, DataDirError, EmbeddedLog, EmbeddedTables, FsDisk, LogConfig, SqliteDirectory,
};
use tidings_gateway::{Gateway, GatewayConfig, Hub, serve};
use tidings_ports::{Clock, Directory, DirectoryError, LogError, Rng, TablesError, Tasks};
use tidings_service::{
    Accounts, AccountsConfig, AccountsError, AccountsHooks, AccountsKeys, AccountsPorts, Fanout, HashingCost,
    Ports, Registration, Service, ServiceConfig, StartError,
};
use tidings_types::{Epoch, Refusal};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::{Config, ConfigError, RegistrationConfig};
use crate::demo;
use crate::demo::DEMO_USERS;
use crate::runtime::{RuntimeTasks, SystemClock, SystemRng};

/// Shards of an embedded data directory. They share one physical log, so more of them only spread the deciding.
const SHARDS: u16 = 4;
/// From the first notice to clients to the end of the process.
const DRAIN_MS: u64 = 5_000;

#[derive(Debug, Error)]
pub enum ServerError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("the log does not open")]
    Log(#[from] LogError),
    #[error("the tables do not open")]
    Tables(#[from] TablesError),
    #[error("the directory does not open")]
    Directory(#[from] DirectoryError),
    #[error("the service does not start")]
    Start(#[from] StartError),
    #[error("accounts do not start")]
    Accounts(#[from] AccountsError),
    #[error("{0} is taken: stop the other process, or choose another address with --listen")]
    AddressTaken(SocketAddr),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("this data directory has accounts that are not the demo's: choose another with --data")]
    DemoAmongAccounts,
    #[error("the demo data cannot be made")]
    Demo(#[source] Refusal),
    #[error("the server has failed and must be restarted: {0}")]
    Failed(String),
    #[error("the last records could not be written")]
    Close(#[source] LogError),
}

pub struct Server {
    address: SocketAddr,
    service: Arc<Service>,
    hub: Arc<Hub>,
    log: Arc<EmbeddedLog<FsDisk>>,
    directory: Arc<SqliteDirectory>,
    failed: watch::Receiver<Option<String>>,
    stop: watch::Sender<bool>,
    /// Locked for as long as the server runs.
    _data_dir: DataDir,
}

impl Server {
    /// Opens or makes the data directory, brings the tables up to the log, and listens.
    ///
    /// # Errors
    /// Each says what to do next. Nothing acknowledged is lost by a start that fails.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        config.check()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let rng: Arc<dyn Rng> = Arc::new(SystemRng);
        let tasks: Arc<dyn Tasks> = Arc::new(RuntimeTasks(tokio::runtime::Handle::current()));
        let data_dir = DataDir::open(&config.data, clock.now(), &*rng)?;
        // Before the stores open: a port that is taken is the most common mistake and the cheapest to find.
        let listener = listen(config.listen).await?;
        let address =
            listener.local_addr().map_err(|source| ServerError::Listen { address: config.listen, source })?;

        let directory = Arc::new(SqliteDirectory::open(&data_dir.directory()).await?);
        let disk = Arc::new(FsDisk::new(data_dir.root().to_owned()));
        let log_config = LogConfig {
            segment_bytes: config.log.segment_bytes,
            ..LogConfig::new(SHARDS, config.log.reserve_bytes)
        };
        let log = Arc::new(EmbeddedLog::open(disk, log_config, &*rng)?);
        let tables = Arc::new(EmbeddedTables::open(&data_dir.tables(), SHARDS)?);

        let limits = Arc::new(config.limits.limits());
        let hub = Arc::new(Hub::new(limits.inbox_entries_max));
        let (failed_sender, failed) = watch::channel(None);
        let service = Service::start(
            ServiceConfig {
                limits: limits.clone(),
                shards: SHARDS,
                slots_seed: data_dir.format().slots_seed,
                incarnation: Epoch(data_dir.format().incarnation),
                checkpoint_bytes: config.log.checkpoint_bytes,
                checkpoint_age_ms: config.log.checkpoint_age_ms,
            },
            Ports {
                log: log.clone(),
                tables,
                directory: directory.clone() as Arc<dyn Directory>,
                clock: clock.clone(),
                rng: rng.clone(),
                tasks: tasks.clone(),
            },
            hub.clone() as Arc<dyn Fanout>,
            Arc::new(move |reason| drop(failed_sender.send(Some(reason)))),
        )
        .await?;

        let accounts = accounts(&config, &data_dir, &rng, directory.clone(), clock, tasks, &hub, &service)?;
        if config.demo {
            refuse_other_accounts(&accounts, &service).await?;
            demo::prepare(&accounts, &service).await.map_err(ServerError::Demo)?;
        }
        let gateway = Gateway::new(service.clone(), accounts, hub.clone(), GatewayConfig::default());
        tokio::spawn(gateway.clone().check_sessions());
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(serve(listener, tidings_gateway::http::router(gateway), until_set(stopped)));
        Ok(Self { address, service, hub, log, directory, failed, stop, _data_dir: data_dir })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until `shutdown` resolves, then stops cleanly, or until the log has failed.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        tokio::select! {
            reason = failure(&mut self.failed) => Err(ServerError::Failed(reason)),
            () = shutdown => self.stop().await,
        }
    }

    /// Clients are told to connect again, what is accepted becomes durable in the tables, and the log ends cleanly.
    async fn stop(self) -> Result<(), ServerError> {
        tracing::info!("stopping");
        self.stop.send_replace(true);
        self.hub.drain();
        let drained = async {
            while !self.hub.sessions().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        drop(tokio::time::timeout(Duration::from_millis(DRAIN_MS), drained).await);
        self.service.checkpoint().await?;
        self.log.close().await.map_err(ServerError::Close)?;
        self.directory.close().await;
        Ok(())
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => ServerError::AddressTaken(address),
        _ => ServerError::Listen { address, source },
    })
}

#[allow(clippy::too_many_arguments, reason = "wiring names every part once")]
fn accounts(
    config: &Config,
    data_dir: &DataDir,
    rng: &Arc<dyn Rng>,
    directory: Arc<dyn Directory>,
    clock: Arc<dyn Clock>,
    tasks: Arc<dyn Tasks>,
    hub: &Arc<Hub>,
    service: &Arc<Service>,
) -> Result<Arc<Accounts>, ServerError> {
    let keys = AccountsKeys {
        access_seed: data_dir.secret("access.key", &**rng)?,
        refresh_key: data_dir.secret("refresh.key", &**rng)?,
    };
    let registration = match config.registration() {
        RegistrationConfig::Open => Registration::Open,
        RegistrationConfig::Invite => Registration::Invite,
    };
    let hashing = config.hashing;
    let accounts = AccountsConfig {
        registration,
        hashing_cost: HashingCost {
            memory_kib: hashing.memory_kib,
            passes: hashing.passes,
            ..HashingCost::default()
        },
        hashing_parallel_max: hashing.parallel_max,
        hashing_waiting_max: hashing.waiting_max,
        devices_max: service.limits().devices_per_user_max,
        ..AccountsConfig::default()
    };
    let (hub, service) = (hub.clone(), service.clone());
    let hooks = AccountsHooks {
        session_ended: Arc::new(move |session| hub.end_session(session)),
        device_removed: Arc::new(move || service.on_device_removed()),
    };
    let ports = AccountsPorts { directory, clock, rng: rng.clone(), tasks };
    Ok(Arc::new(Accounts::new(accounts, &keys, ports, hooks)?))
}

async fn refuse_other_accounts(accounts: &Accounts, service: &Service) -> Result<(), ServerError> {
    let count = service.count_accounts().await.map_err(ServerError::Demo)?;
    let mut demo_accounts = 0;
    for name in DEMO_USERS {
        let found = demo::find(accounts, name).await.map_err(ServerError::Demo)?;
        demo_accounts += u64::from(found.is_some());
    }
    if count == demo_accounts { Ok(()) } else { Err(ServerError::DemoAmongAccounts) }
}

async fn failure(failed: &mut watch::Receiver<Option<String>>) -> String {
    match failed.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone().unwrap_or_default(),
        // The sender lives in the service's tasks; without them nothing runs any more.
        Err(_) => "every shard has stopped".to_owned(),
    }
}

async fn until_set(mut flag: watch::Receiver<bool>) {
    // An error means that the server itself is gone: that is a stop, too.
    drop(flag.wait_for(|set| *set).await);
}
