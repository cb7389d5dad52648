//! The server under test: a child process that is killed and started again on the same port and data.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::dice::{Dice, any_seed};

/// From the start to the line that says it is ready, with the log of a run to replay.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Below the ports that the system hands out by itself: while the server is down, no client's own end may land on its
/// port.
const PORTS: std::ops::RangeInclusive<usize> = 20_000..=31_999;
const PORT_TRIES: usize = 100;

/// Cheap passwords, because hundreds sign in at once; small caches, segments and replays and frequent checkpoints, so that
/// in one minute and within one life of a few seconds the server evicts, trims, reads from its tables, lets links
/// lag and answers with gaps.
const CONFIG: &str = "\
[hashing]
memory_kib = 64
passes = 1
parallel_max = 2
waiting_max = 4096

[log]
segment_bytes = 4194304
checkpoint_bytes = 1048576
checkpoint_age_ms = 2000

[limits]
replay_entries_max = 100
output_bytes_max = 32768
heartbeat_ms = 5000
facts_cached_max = 500
ids_cached_max = 1000
";

#[derive(Debug, Error)]
pub(crate) enum ServerError {
    #[error("no free port between 20000 and 31999")]
    NoPort,
    #[error("{0} holds data already: verify starts with an empty directory")]
    NotEmpty(PathBuf),
    #[error("{path} cannot be written")]
    Files {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} cannot be started")]
    Start {
        program: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the server did not become ready; the end of its log: {0}")]
    NotReady(String),
    #[error("the server cannot be killed")]
    Kill(#[source] std::io::Error),
}

/// Where and how the server runs.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    root: PathBuf,
    address: SocketAddr,
    /// Killed when dropped, so that no end of this process leaves it behind.
    child: Option<Child>,
}

impl Server {
    /// Prepares `root` (configuration, data, log) and a port.
    pub(crate) fn new(program: PathBuf, root: &Path) -> Result<Self, ServerError> {
        let data = root.join("data");
        if data.exists() {
            return Err(ServerError::NotEmpty(data));
        }
        let config = root.join("server.toml");
        std::fs::create_dir_all(root)
            .and_then(|()| std::fs::write(&config, CONFIG))
            .map_err(|source| ServerError::Files { path: config, source })?;
        Ok(Self { program, root: root.to_owned(), address: free_address()?, child: None })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the server says it is ready.
    pub(crate) async fn start(&mut self) -> Result<(), ServerError> {
        let mut child = self.spawn()?;
        let stdout = child.stdout.take().expect("its output is piped");
        let mut lines = BufReader::new(stdout).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("is ready at") {
                    return true;
                }
            }
            false
        };
        let is_ready = timeout(READY_TIMEOUT, ready).await.unwrap_or(false);
        self.child = Some(child);
        if is_ready { Ok(()) } else { Err(ServerError::NotReady(self.end_of_log())) }
    }

    /// SIGKILL: the process gets no chance to finish anything.
    pub(crate) async fn kill(&mut self) -> Result<(), ServerError> {
        match self.child.take() {
            Some(mut child) => child.kill().await.map_err(ServerError::Kill),
            None => Ok(()),
        }
    }

    /// It ended although nobody killed it.
    pub(crate) fn has_died(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Lines of the server's log that it calls errors: by its own rule these are bugs.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        log.lines()
            .filter(|line| line.contains(" ERROR ") || line.contains("panicked at"))
            .map(str::to_owned)
            .collect()
    }

    fn spawn(&self) -> Result<Child, ServerError> {
        let path = self.log_path();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|source| ServerError::Files { path, source })?;
        Command::new(&self.program)
            .arg("serve")
            .arg("--config")
            .arg(self.root.join("server.toml"))
            .arg("--data")
            .arg(self.root.join("data"))
            .args(["--listen", &self.address.to_string()])
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ServerError::Start { program: self.program.clone(), source })
    }

    fn log_path(&self) -> PathBuf {
        self.root.join("server.log")
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

/// Another one for every process, whatever the seed: two runs of one seed may go on at the same time.
fn free_address() -> Result<SocketAddr, ServerError> {
    let mut dice = Dice::new(any_seed(), std::process::id().into());
    (0..PORT_TRIES)
        .filter_map(|_| u16::try_from(dice.in_range(PORTS)).ok())
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .ok_or(ServerError::NoPort)
}
