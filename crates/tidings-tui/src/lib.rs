//! The terminal client behind `tidings chat`: for people a line to type on, for scripts ([`ChatOptions::plain`]) one
//! command per line in and one line per thing out.
//!
//! Start reading at `chat` (what happens), then `told` (what is shown, and the format that scripts rely on).

mod account;
mod book;
mod chat;
mod command;
mod editor;
mod state_dir;
mod terminal;
mod told;
mod ui;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tidings_client::{ClientError, FileStore, Link, LinkOptions, Rest, Store as _, StoreError};

use chat::Chat;
use told::Told;
use ui::Ui;

pub const DEFAULT_SERVER: &str = "http://127.0.0.1:8390";

/// What `tidings chat` was asked to do.
#[derive(Clone, Debug)]
pub struct ChatOptions {
    /// The username.
    pub name: String,
    pub server: String,
    /// Commands on standard input, lines for scripts on standard output. After the end of the input it waits until
    /// everything missed has been told and everything queued has been answered, then ends.
    pub plain: bool,
    /// Without one, the demo's is tried on this machine, then the person is asked.
    pub password: Option<String>,
    /// Make the account if there is none with this name and password.
    pub sign_up: bool,
    /// Where tokens, cursors and the outbox are kept; by default below `$XDG_STATE_HOME/tidings/chat`, per server and
    /// user.
    pub state: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub enum ChatError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("input or output failed")]
    Io(#[from] std::io::Error),
    #[error("no account has the name {name} and this password; --sign-up makes a new one")]
    WrongPassword { name: String },
    #[error("a password for {name} is needed: --password, or sign in once without --plain")]
    PasswordNeeded { name: String },
    #[error("there is no home directory; name a place with --state")]
    NoStateDirectory,
    #[error("the session has ended; start again to sign in")]
    SignedOut,
    #[error("the server does not want this client to come back: {reason} ({code})")]
    Stopped { code: u16, reason: String },
}

impl From<StoreError> for ChatError {
    fn from(error: StoreError) -> Self {
        Self::Client(error.into())
    }
}

/// Chats until the person quits, the input ends or the session does.
pub async fn run(options: ChatOptions) -> Result<(), ChatError> {
    let directory = state_dir::of(&options)?;
    let store = Arc::new(FileStore::open(&directory)?);
    let before = store.saved();
    let rest = Rest::new(&options.server, store)?;
    let is_terminal = !options.plain && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let user = account::sign_in(&rest, &options, is_terminal).await?;

    let (mut ui, inputs) = Ui::start(options.plain, is_terminal)?;
    ui.tell(&Told::SignedIn { user: user.user_id, name: user.username.clone() })?;
    if before.user.is_some_and(|owner| owner != user.user_id) {
        let unsent = before.outbox.len();
        let text = format!(
            "this is another account than before: what was kept is gone, {unsent} unsent messages too"
        );
        ui.tell(&Told::Note(text))?;
    }
    // A person who wants to see what is older asks for history; a script gets every entry.
    let link_options = LinkOptions { backfill: options.plain, ..LinkOptions::default() };
    let (link, events) = Link::start(rest.clone(), &link_options);
    Chat::new(rest, link, ui, &user).run(events, inputs).await
}
