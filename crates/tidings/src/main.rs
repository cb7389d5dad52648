//! The one binary: server, terminal client and measuring tools.

use std::error::Error;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tidings_bench::verify::{self, VerifyOptions};
use tidings_server::{Config, DEMO_PASSWORD, DEMO_USERS, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Self-hosted real-time chat and notifications.
#[derive(Parser)]
#[command(name = "tidings", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve(Serve),
    /// Chat in this terminal.
    Chat(Chat),
    /// Measure and verify.
    #[command(subcommand)]
    Bench(Bench),
}

#[derive(Subcommand)]
enum Bench {
    /// Many devices talk while the server is killed and restarted; every promise is checked.
    Verify(VerifyOptions),
}

#[derive(Args)]
struct Serve {
    /// Configuration file (TOML). Without it every key has its default.
    #[arg(long, env = "TIDINGS_CONFIG")]
    config: Option<PathBuf>,
    /// Directory of everything the server keeps [default: data]
    #[arg(long, env = "TIDINGS_DATA")]
    data: Option<PathBuf>,
    /// Address of the HTTP and WebSocket port [default: 127.0.0.1:8390]
    #[arg(long, env = "TIDINGS_LISTEN")]
    listen: Option<SocketAddr>,
    /// Make demo users with a known password; on loopback only.
    #[arg(long)]
    demo: bool,
}

#[derive(Args)]
struct Chat {
    /// Username.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    /// Address of the server.
    #[arg(long, default_value = tidings_tui::DEFAULT_SERVER, env = "TIDINGS_SERVER")]
    server: String,
    /// For scripts: commands on standard input, one line per thing on standard output (docs/chat.md).
    #[arg(long)]
    plain: bool,
    /// Password; asked for where it is needed, tried by itself for demo users.
    #[arg(long, env = "TIDINGS_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Make the account if there is none with this name and password.
    #[arg(long)]
    sign_up: bool,
    /// Directory of what this client keeps [default: below $XDG_STATE_HOME/tidings/chat]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(options) => serve(options),
        Command::Chat(options) => chat(options),
        Command::Bench(Bench::Verify(options)) => return verify::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidings: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn serve(options: Serve) -> Result<(), Box<dyn Error>> {
    log_to_stderr();
    let mut config = Config::read(options.config.as_deref())?;
    config.data = options.data.unwrap_or(config.data);
    config.listen = options.listen.unwrap_or(config.listen);
    config.demo |= options.demo;
    let demo = config.demo;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        // Before the start, so that a signal during it is not lost.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let server = Server::start(config).await?;
        say(&format!("tidings is ready at http://{}", server.address()));
        if demo {
            say(&format!("demo users {} have the password {DEMO_PASSWORD}", DEMO_USERS.join(", ")));
        }
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Ok(server.run(shutdown).await?)
    })
}

fn chat(options: Chat) -> Result<(), Box<dyn Error>> {
    let Chat { name, server, plain, password, sign_up, state } = options;
    let options = tidings_tui::ChatOptions { name, server, plain, password, sign_up, state };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    Ok(runtime.block_on(tidings_tui::run(options))?)
}

/// Whoever started the server may have stopped listening after the first line; that is no reason to end.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Quiet on success; `RUST_LOG` shows more.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
