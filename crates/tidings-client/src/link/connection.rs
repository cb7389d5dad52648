//! One connection of the link: its socket, its heartbeat, the pages being fetched for it, and why it ends.

use std::collections::VecDeque;
use std::time::Duration;

use tidings_types::Refusal;
use tidings_wire::codes::{self, CloseAdvice};
use tidings_wire::{ClientFrame, Entry, Pong};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::positions::Fetch;
use crate::{ClientError, Range, Rest, Socket};

/// Why a connection ended.
pub(super) enum End {
    /// The caller wants no more.
    Closed,
    SignedOut,
    Stopped {
        code: u16,
        reason: String,
    },
    Lost {
        reason: String,
        at_least: Duration,
    },
    /// The access token is not good any more.
    Stale,
}

impl End {
    pub(super) fn lost(reason: impl Into<String>) -> Self {
        Self::Lost { reason: reason.into(), at_least: Duration::ZERO }
    }

    /// What a refusal of the connection itself means.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        Self::closed(codes::meaning(refusal.code).close_code, refusal.to_string(), refusal.retry_after_ms)
    }

    pub(super) fn closed(code: u16, reason: String, retry_after_ms: Option<u64>) -> Self {
        match codes::advice(code) {
            CloseAdvice::Stop => Self::Stopped { code, reason },
            CloseAdvice::RefreshThenResume => Self::Stale,
            CloseAdvice::Resume => {
                Self::Lost { reason, at_least: Duration::from_millis(retry_after_ms.unwrap_or(0)) }
            }
        }
    }
}

/// A stage of a connection: it goes on, or has ended.
pub(super) type Going<T = ()> = Result<T, End>;

/// What belongs to one connection.
pub(super) struct Connection {
    pub(super) socket: Socket,
    pub(super) connect_reference: u32,
    pub(super) connected: bool,
    /// `caught_up` arrived, but pages are still being fetched.
    pub(super) caught_up: bool,
    pub(super) heartbeat: Duration,
    pub(super) ping_at: Instant,
    pub(super) heard_at: Instant,
    /// No send before this moment.
    pub(super) sends_at: Option<Instant>,
    pub(super) fetches: VecDeque<Fetch>,
    pub(super) pages: JoinSet<(Fetch, Result<Vec<Entry>, ClientError>)>,
}

/// Pages on their way at once.
const FETCHES_MAX: usize = 4;
/// Entries per page, the most a server gives.
const PAGE_ITEMS: u32 = 100;
/// Before the server has said otherwise.
const HEARTBEAT: Duration = Duration::from_secs(30);

impl Connection {
    pub(super) fn new(socket: Socket, connect_reference: u32) -> Self {
        let now = Instant::now();
        Self {
            socket,
            connect_reference,
            connected: false,
            caught_up: false,
            heartbeat: HEARTBEAT,
            ping_at: now + HEARTBEAT,
            heard_at: now,
            sends_at: None,
            fetches: VecDeque::new(),
            pages: JoinSet::new(),
        }
    }

    /// A server that takes nothing for a heartbeat is as good as gone.
    pub(super) async fn send(&mut self, frame: ClientFrame) -> Going {
        match timeout(self.heartbeat, self.socket.send(&frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::lost(chain(&error))),
            Err(_) => Err(End::lost("the server takes nothing")),
        }
    }

    /// Both sides must agree about how many frames arrived here before this pong.
    pub(super) fn check_pong(&self, pong: Pong) -> Going {
        let before = self.socket.received() - 1;
        if pong.sent == before {
            return Ok(());
        }
        Err(End::lost(format!("{before} of {} frames arrived", pong.sent)))
    }

    pub(super) fn silent_at(&self) -> Instant {
        self.heard_at + 2 * self.heartbeat
    }

    pub(super) fn deadline(&self, reads: bool) -> Instant {
        let silent_at = reads.then(|| self.silent_at());
        [silent_at, self.sends_at].into_iter().flatten().fold(self.ping_at, Instant::min)
    }

    pub(super) fn start_fetches(&mut self, rest: &Rest) {
        while self.pages.len() < FETCHES_MAX
            && let Some(fetch) = self.fetches.pop_front()
        {
            let rest = rest.clone();
            self.pages.spawn(async move { (fetch, page(&rest, fetch).await) });
        }
    }
}

/// [`Rest`] has repeated what is worth repeating; what still fails ends the connection, and the next one asks again.
async fn page(rest: &Rest, fetch: Fetch) -> Result<Vec<Entry>, ClientError> {
    let range = Range { limit: Some(PAGE_ITEMS), ..Range::after(fetch.after) };
    rest.entries(fetch.conversation, range).await.map(|page| page.items)
}

/// The error and its causes, for a person. Some errors repeat their cause in their own text.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
