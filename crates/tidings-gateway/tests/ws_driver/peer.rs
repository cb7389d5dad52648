//! A peer for the tests: echoes, floods, pauses and closes on command, and reports what the driver does to it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tidings_gateway::ws::{
    ClosedBy, Instants, OutQueue, Peer, TimeSource, Wake, codec::Close, frame::text_frame,
};
use tidings_types::Timestamp;
use tokio::sync::mpsc;

pub(crate) struct RealTime(pub(crate) Instant);

impl TimeSource for RealTime {
    fn instants(&self) -> Instants {
        let monotonic_ms = u64::try_from(self.0.elapsed().as_millis()).unwrap();
        Instants { monotonic_ms, wall: Timestamp::from_ms(1_700_000_000_000 + monotonic_ms) }
    }
}

/// What the driver told the peer, or the peer noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Deadline,
    /// The output queue was full for the first time.
    Full,
    Closed(ClosedBy),
}

/// What others put into the peer's inbox before they wake it.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    Send(String),
    Pause,
    Resume,
}

#[derive(Default)]
pub(crate) struct Inbox {
    notes: Mutex<Vec<Note>>,
    pub(crate) wake: Arc<Wake>,
}

impl Inbox {
    pub(crate) fn put(&self, note: Note) {
        self.notes.lock().unwrap().push(note);
        self.wake.wake();
    }
}

pub(crate) struct TestPeer {
    inbox: Arc<Inbox>,
    seen: mpsc::UnboundedSender<Seen>,
    waiting: VecDeque<String>,
    queued_bytes: usize,
    paused: bool,
    full_seen: bool,
    deadline_ms: Option<u64>,
    close: Option<Close>,
    closed: bool,
}

impl TestPeer {
    pub(crate) fn new(inbox: Arc<Inbox>) -> (Self, Log) {
        let (seen, log) = mpsc::unbounded_channel();
        let peer = Self {
            inbox,
            seen,
            waiting: VecDeque::new(),
            queued_bytes: 0,
            paused: false,
            full_seen: false,
            deadline_ms: None,
            close: None,
            closed: false,
        };
        (peer, Log(log))
    }

    fn see(&self, seen: Seen) {
        assert!(!self.closed, "{seen:?} after the last call");
        // The test may have seen enough.
        let _ = self.seen.send(seen);
    }
}

impl Peer for TestPeer {
    fn on_text(&mut self, now: Instants, text: &str) {
        assert!(self.wants_read(), "a message while none was wanted");
        self.see(Seen::Text(text.to_owned()));
        match text.split(' ').collect::<Vec<_>>()[..] {
            ["/flood", count, bytes] => {
                let body = "x".repeat(bytes.parse().unwrap());
                self.waiting.extend(std::iter::repeat_n(body, count.parse().unwrap()));
            }
            ["/close", code, reason] => {
                self.close = Some(Close::new(code.parse().unwrap(), reason.to_owned()));
            }
            ["/deadline", ms] => self.deadline_ms = Some(now.monotonic_ms + ms.parse::<u64>().unwrap()),
            ["/pause"] => self.paused = true,
            ["/silent", ..] => {}
            _ => self.waiting.push_back(text.to_owned()),
        }
    }

    fn on_wake(&mut self, _now: Instants) {
        for note in std::mem::take(&mut *self.inbox.notes.lock().unwrap()) {
            match note {
                Note::Send(text) => self.waiting.push_back(text),
                Note::Pause => self.paused = true,
                Note::Resume => self.paused = false,
            }
        }
    }

    fn on_deadline(&mut self, now: Instants) {
        assert!(self.deadline_ms.is_some_and(|at_ms| at_ms <= now.monotonic_ms), "too early");
        self.deadline_ms = None;
        self.see(Seen::Deadline);
        self.close = Some(Close::new(4000, "no heartbeat"));
    }

    fn next_deadline(&self) -> Option<u64> {
        self.deadline_ms
    }

    fn on_written(&mut self, _now: Instants, bytes: usize) {
        self.queued_bytes -= bytes;
    }

    fn poll(&mut self, _now: Instants, out: &mut OutQueue) -> Option<Close> {
        // One at a time, as a peer may: the driver has to ask again.
        if let Some(text) = self.waiting.pop_front_if(|_| !out.is_full()) {
            let frame = text_frame(text.as_bytes());
            self.queued_bytes += frame.len();
            out.push(frame);
        }
        assert_eq!(out.bytes(), self.queued_bytes, "every byte is accounted for");
        if out.is_full() && !self.full_seen {
            self.full_seen = true;
            self.see(Seen::Full);
        }
        self.close.take_if(|_| self.waiting.is_empty())
    }

    fn wants_read(&self) -> bool {
        !self.paused && self.close.is_none()
    }

    fn on_closed(&mut self, _now: Instants, why: ClosedBy) {
        self.see(Seen::Closed(why));
        self.closed = true;
    }
}

pub(crate) struct Log(mpsc::UnboundedReceiver<Seen>);

impl Log {
    /// The next thing the peer saw.
    pub(crate) async fn next(&mut self) -> Seen {
        soon(self.0.recv()).await.expect("the peer is gone")
    }

    /// Skips messages until the connection is closed.
    pub(crate) async fn closed(&mut self) -> ClosedBy {
        loop {
            if let Seen::Closed(why) = self.next().await {
                return why;
            }
        }
    }

    pub(crate) async fn until(&mut self, wanted: &Seen) {
        while self.next().await != *wanted {}
    }

    pub(crate) fn nothing_yet(&mut self) -> bool {
        self.0.is_empty()
    }
}

/// Nothing in these tests takes this long; a test that waits for ever fails instead.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it did not happen in time")
}
