//! What the repository checks about itself, besides the tests of its crates:
//!
//! - `direction`: the arrows between our crates point inward, and the pure crates stay pure ([`direction`]).
//! - `licences`: everything that is built in is allowed by deny.toml ([`licences`]).
//! - `house`: rules about the files themselves that neither the compiler nor clippy knows ([`house`]).
//!
//! All are also ordinary tests, so `cargo test` runs them.

mod direction;
mod house;
mod licences;
mod metadata;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let report = match name.as_str() {
        "direction" => direction::check_workspace(&repository()),
        "licences" => licences::check_workspace(&repository()),
        "house" => house::check_repository(&repository()),
        _ => {
            eprintln!("usage: cargo run -q -p xtask -- direction | licences | house");
            return ExitCode::from(2);
        }
    };
    match report {
        Ok(report) => report.print(&name),
        Err(reason) => {
            eprintln!("{name}: could not check: {reason}");
            ExitCode::from(2)
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ is a folder of the repository").to_owned()
}

/// What a check found. A fault fails it, a warning does not.
#[derive(Debug, Default)]
struct Report {
    faults: Vec<String>,
    warnings: Vec<String>,
    /// What was looked at, so that an empty report is not mistaken for an empty check.
    looked_at: String,
}

impl Report {
    fn print(&self, name: &str) -> ExitCode {
        for warning in &self.warnings {
            eprintln!("{name}: warning: {warning}");
        }
        for fault in &self.faults {
            eprintln!("{name}: {fault}");
        }
        if self.faults.is_empty() {
            println!("{name}: ok, {}", self.looked_at);
            return ExitCode::SUCCESS;
        }
        eprintln!("{name}: {} found in {}", self.faults.len(), self.looked_at);
        ExitCode::FAILURE
    }
}
