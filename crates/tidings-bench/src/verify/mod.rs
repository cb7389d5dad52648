//! `tidings bench verify`: many devices talk while the server is killed and started again, and what each was told is
//! checked against what it was promised.
//!
//! The devices ([`device`]) journal every frame ([`journal`]); [`ending`] reads everything once more; [`check`] judges the
//! journal and knows neither sockets nor time. [`run`] is the order of events.

mod check;
mod device;
mod dice;
mod ending;
mod held;
mod journal;
mod members;
mod outbox;
mod report;
mod run;
mod server;
mod socket;
mod town;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Checks that nothing acknowledged is lost, doubled or reordered while the server is killed and started again.
///
/// Exit code 0: no violation; 1: at least one; 2: the run could not be done.
#[derive(Args, Clone, Debug)]
pub struct VerifyOptions {
    /// Devices that write and read.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(4..=4_000))]
    pub devices: u32,
    /// Conversations, one in four of them direct.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(4..=2_000))]
    pub conversations: u32,
    /// How long the devices write.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Mean seconds from one kill of the server to the next; 0: it is killed once, at the end.
    #[arg(long, default_value_t = 7)]
    pub kill_every: u32,
    /// Messages per second of all devices together, at most.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Decides what is left to chance; without it, another one every time.
    #[arg(long)]
    pub seed: Option<u64>,
    /// One JSON object on stdout instead of a table.
    #[arg(long)]
    pub json: bool,
    /// The server to run [default: this binary]
    #[arg(long)]
    pub server_binary: Option<PathBuf>,
    /// Directory for the server's data, configuration and log; kept [default: a temporary one, kept after a violation]
    #[arg(long)]
    pub data: Option<PathBuf>,
}

/// Runs to the end and prints what was found.
#[must_use]
pub fn run(options: &VerifyOptions) -> ExitCode {
    match run::blocking(options) {
        Ok(report) => {
            if options.json {
                let json = serde_json::to_string(&report).expect("numbers and strings have a JSON form");
                println!("{json}");
            } else {
                print!("{report}");
            }
            ExitCode::from(u8::from(!report.is_clean()))
        }
        Err(error) => {
            eprintln!("tidings bench verify: {}", chain(&error));
            ExitCode::from(2)
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
