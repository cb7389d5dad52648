//! The order of events: a server, a town, a while of life with kills, an end, a judgement.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidings_client::{ClientError, MemoryStore, Rest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::VerifyOptions;
use super::check::{Findings, Kind, check};
use super::device::{BURST_MESSAGES, Device};
use super::dice::{Dice, any_seed};
use super::ending;
use super::journal::Journal;
use super::report::{Report, Setting};
use super::server::{Server, ServerError};
use super::town::Town;
use super::world::{Phase, World};
use super::{chain, members};

/// From the burst of sends to the kill, at most.
const BURST_TIMEOUT: Duration = Duration::from_millis(100);
/// How often the answers to the burst are counted.
const COUNT_EVERY: Duration = Duration::from_millis(1);
/// How often the server is asked whether it still runs.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// Streams of chance.
const FOR_TOWN: u64 = 1;
const FOR_MEMBERS: u64 = 2;
const FOR_KILLS: u64 = 3;
const FOR_ENDING: u64 = 4;
const FOR_DEVICES: u64 = 1_000;

/// The run could not be done. What the server does wrong is no error but a finding.
#[derive(Debug, Error)]
pub(crate) enum VerifyError {
    #[error("there is no runtime")]
    Runtime(#[source] std::io::Error),
    #[error("there is no temporary directory")]
    Temporary(#[source] std::io::Error),
    #[error("this program does not know its own path; name the server with --server-binary")]
    OwnPath(#[source] std::io::Error),
    #[error("the server does not start")]
    Server(#[from] ServerError),
    #[error("accounts and conversations could not be made")]
    Town(#[from] ClientError),
    #[error("a task of this program failed")]
    Task(#[from] JoinError),
    #[error("interrupted")]
    Interrupted,
}

pub(crate) fn blocking(options: &VerifyOptions) -> Result<Report, VerifyError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(VerifyError::Runtime)?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(VerifyError::Runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(VerifyError::Runtime)?;
        tokio::select! {
            report = in_directory(options) => report,
            // The server is killed as its owner is dropped.
            _ = interrupt.recv() => Err(VerifyError::Interrupted),
            _ = terminate.recv() => Err(VerifyError::Interrupted),
        }
    })
}

/// A temporary directory goes with a clean run and stays after any other.
async fn in_directory(options: &VerifyOptions) -> Result<Report, VerifyError> {
    if let Some(root) = &options.data {
        return Box::pin(verify(options, root)).await;
    }
    let directory = tempfile::Builder::new().prefix("tidings-verify-").tempdir();
    let mut directory = directory.map_err(VerifyError::Temporary)?;
    let report = Box::pin(verify(options, directory.path())).await;
    if !report.as_ref().is_ok_and(Report::is_clean) {
        directory.disable_cleanup(true);
        eprintln!("the server's data and log are kept in {}", directory.path().display());
    }
    report
}

async fn verify(options: &VerifyOptions, root: &Path) -> Result<Report, VerifyError> {
    let seed = options.seed.unwrap_or_else(any_seed);
    eprintln!("seed {seed}");
    let mut server = Server::new(program(options)?, root)?;
    server.start().await?;
    let rest = Rest::new(&format!("http://{}", server.address()), Arc::<MemoryStore>::default())?;
    let (devices, conversations) = (options.devices as usize, options.conversations as usize);
    let town = Town::build(&rest, devices, conversations, &mut Dice::new(seed, FOR_TOWN)).await?;
    let setting = Setting {
        devices,
        users: town.people.len(),
        conversations,
        seconds: options.seconds.into(),
        seed,
        is_killing: options.kill_every > 0 && options.kill_every < options.seconds,
    };
    let run = Duration::from_secs(options.seconds.into());
    let send_every = Duration::from_secs_f64(f64::from(options.devices) / f64::from(options.rate));
    let world = Arc::new(World::new(server.address(), send_every, run));
    let mut act = Act { world, town: Arc::new(town), server, findings: Findings::default(), seed };
    let journal = act.play(options).await?;
    Ok(act.judge(&setting, &journal))
}

struct Act {
    world: Arc<World>,
    town: Arc<Town>,
    server: Server,
    findings: Findings,
    seed: u64,
}

impl Act {
    async fn play(&mut self, options: &VerifyOptions) -> Result<Journal, VerifyError> {
        let progress = JoinSet::from_iter([show_progress(Arc::clone(&self.world))]);
        let mut living = self.bring_to_life();
        let dice = Dice::new(self.seed, FOR_MEMBERS);
        let changing = tokio::spawn(members::change(Arc::clone(&self.town), Arc::clone(&self.world), dice));
        let kill_every = Duration::from_secs(options.kill_every.into());
        let has_server = self.kill_again_and_again(kill_every).await;
        self.world.phase.send_replace(Phase::Pause);
        let mut devices = Vec::new();
        while let Some(device) = living.join_next().await {
            devices.push(device?);
        }
        changing.await?;
        if !(has_server && self.restart(Duration::ZERO).await) {
            drop(progress);
            let devices = devices.into_iter().map(Device::into_journal).collect();
            return Ok(Journal { devices, ending: None });
        }
        self.world.phase.send_replace(Phase::Settle);
        let mut dice = Dice::new(self.seed, FOR_ENDING);
        let journal = ending::end(&self.world, &self.town, devices, &mut dice).await;
        if self.server.has_died() {
            self.findings.add(Kind::Server, "it ended by itself while everything was read");
        }
        // Whether it could be killed changes nothing any more; its owner kills it, too.
        drop(self.server.kill().await);
        Ok(journal)
    }

    fn bring_to_life(&self) -> JoinSet<Device> {
        let mut living = JoinSet::new();
        let rests = self.town.people.iter().flat_map(|person| {
            let with_peers = |rest: &Rest| (rest.clone(), person.peers.clone());
            person.devices.iter().map(with_peers).collect::<Vec<_>>()
        });
        for (number, (rest, peers)) in rests.enumerate() {
            let dice = Dice::new(self.seed, FOR_DEVICES + number as u64);
            let Some(mut device) = Device::new(number, rest, peers, Arc::clone(&self.world), dice) else {
                continue;
            };
            living.spawn(async move {
                device.live().await;
                device
            });
        }
        living
    }

    /// Until the run is over. Answers whether the server runs.
    async fn kill_again_and_again(&mut self, kill_every: Duration) -> bool {
        let over = Instant::now() + self.world.run;
        let mut dice = Dice::new(self.seed, FOR_KILLS);
        while Instant::now() < over {
            let next =
                if kill_every.is_zero() { over } else { Instant::now() + jittered(kill_every, &mut dice) };
            if self.outlives(next.min(over)).await {
                if next >= over {
                    break;
                }
                self.burst(&mut dice).await;
            } else {
                self.findings.add(Kind::Server, "it ended by itself");
            }
            if !self.restart(dice.ms(0..=500)).await {
                return false;
            }
        }
        true
    }

    /// Everybody writes at once. Returns when some of it is acknowledged and some is not: a server is killed best while
    /// it has promised, or is about to promise, what it may not have kept.
    async fn burst(&self, dice: &mut Dice) {
        let (timeout, counters) = (Instant::now() + BURST_TIMEOUT, &self.world.counters);
        let messages = usize::try_from(counters.connected.value()).unwrap_or(0) * BURST_MESSAGES;
        let enough = counters.acknowledged.value() + dice.in_range(1..=1 + messages / 2) as u64;
        self.world.burst.send_modify(|bursts| *bursts += 1);
        while counters.acknowledged.value() < enough && Instant::now() < timeout {
            sleep(COUNT_EVERY).await;
        }
    }

    /// Answers whether the server still runs at that moment.
    async fn outlives(&mut self, moment: Instant) -> bool {
        while Instant::now() < moment {
            if self.server.has_died() {
                return false;
            }
            sleep_until(moment.min(Instant::now() + WATCH_EVERY)).await;
        }
        true
    }

    /// Answers whether the server runs again.
    async fn restart(&mut self, down: Duration) -> bool {
        let restarted = async {
            self.server.kill().await?;
            sleep(down).await;
            // Before it runs: whoever connects must know that it is another one.
            self.world.server.send_modify(|number| *number += 1);
            self.server.start().await
        };
        match restarted.await {
            Ok(()) => {
                self.world.counters.restarts.add();
                true
            }
            Err(error) => {
                self.findings.add(Kind::Server, format!("it did not come back: {}", chain(&error)));
                false
            }
        }
    }

    fn judge(mut self, setting: &Setting, journal: &Journal) -> Report {
        eprintln!("checking");
        for line in self.server.alarms() {
            self.findings.add(Kind::Server, line);
        }
        self.findings.extend(check(journal));
        Report::new(setting, &self.world.counters, self.findings)
    }
}

async fn show_progress(world: Arc<World>) {
    let started = Instant::now();
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let counters = &world.counters;
        eprintln!(
            "{:>4} s  {:?}: sent {}, acknowledged {}, delivered {}, retried {}, restarts {}, connected {}",
            started.elapsed().as_secs(),
            *world.phase.borrow(),
            counters.sent.value(),
            counters.acknowledged.value(),
            counters.delivered.value(),
            counters.retried.value(),
            counters.restarts.value(),
            counters.connected.value(),
        );
    }
}

/// A quarter more or less.
fn jittered(mean: Duration, dice: &mut Dice) -> Duration {
    mean.mul_f64(0.75 + dice.below(501) as f64 / 1_000.0)
}

fn program(options: &VerifyOptions) -> Result<PathBuf, VerifyError> {
    match &options.server_binary {
        Some(program) => Ok(program.clone()),
        None => std::env::current_exe().map_err(VerifyError::OwnPath),
    }
}
