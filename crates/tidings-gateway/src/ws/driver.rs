//! The one task of a connection: moves bytes between a socket, the decoder, the peer and its output queue.
//!
//! [`Connection`] is a future written by hand, because one is kept per connection: it reads into a buffer of the
//! thread when the socket has something, writes what waits in one call, has at most one timer, and between two
//! messages owns no buffer at all. It never decides what a frame means; it answers pings, does the closing handshake
//! and ends a socket that takes nothing. Start reading at [`Connection::turn`].

use std::{
    future::Future,
    io, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tidings_types::{Limits, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    codec::{Chunk, Close, Decoder, Event, Violation, close_code},
    frame::{close_frame, pong_frame},
    out_queue::OutQueue,
    scratch::{with_read, with_write},
    timer::Timer,
    wake::Wake,
};

/// One moment on two scales: deadlines live on the monotonic one, what is stored or shown on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    pub monotonic_ms: u64,
    pub wall: Timestamp,
}

/// Where a connection learns what time it is.
pub trait TimeSource: Send + Sync {
    fn instants(&self) -> Instants;
}

/// What a connection is for. Calls come one at a time, from the task of the connection; none may block.
///
/// Every input (`on_text`, `on_wake`, `on_deadline`, `on_written`) is followed by [`Peer::poll`].
pub trait Peer {
    /// A whole text message. Never called while [`Peer::wants_read`] is false.
    fn on_text(&mut self, now: Instants, text: &str);

    /// Somebody called [`Wake::wake`]: something waits in the peer's inbox.
    fn on_wake(&mut self, now: Instants);

    /// The moment of [`Peer::next_deadline`] has come.
    fn on_deadline(&mut self, now: Instants);

    /// On the scale of [`Instants::monotonic_ms`]. Asked after every input; one that has passed is answered with
    /// `on_deadline` at once, so that call has to move it.
    fn next_deadline(&self) -> Option<u64>;

    /// The socket took this many bytes of the frames that the peer had queued.
    fn on_written(&mut self, now: Instants, bytes: usize);

    /// Moves what is to be sent into `out`, which the peer keeps within [`OutQueue::is_full`]. Called again until it
    /// adds nothing. An answer ends the connection: what is queued is still written, in bounded time, then the close.
    fn poll(&mut self, now: Instants, out: &mut OutQueue) -> Option<Close>;

    /// False: nothing more is read from the socket, so a sender that is too fast comes to a halt.
    fn wants_read(&self) -> bool;

    /// The last call, as soon as the connection takes no more input; closing it may take a moment longer.
    fn on_closed(&mut self, now: Instants, why: ClosedBy);
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The peer asked for it.
    Server(Close),
    /// The client sent a close frame.
    Client {
        code: Option<u16>,
    },
    Violation(Violation),
    /// The client sent binary data, which the subprotocol has no use for.
    Binary,
    /// The stream ended without a close frame.
    Eof,
    /// The socket took no byte for [`DriverConfig::stalled_ms_max`] while bytes waited.
    Stalled,
    Io(io::ErrorKind),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverConfig {
    /// Payload of one message from the client. Beyond: close 1009.
    pub message_bytes_max: usize,
    /// Bytes waiting for the socket at which [`OutQueue::is_full`] says so.
    pub output_bytes_max: usize,
    /// A socket that takes no byte for this long while bytes wait for it is dropped.
    pub stalled_ms_max: u64,
    /// For the whole of closing: to write what waits, send the close frame and see the client's.
    pub close_ms_max: u64,
}

impl DriverConfig {
    #[must_use]
    pub const fn from_limits(limits: &Limits) -> Self {
        Self {
            message_bytes_max: limits.frame_bytes_max,
            output_bytes_max: limits.output_bytes_max,
            stalled_ms_max: limits.stalled_ms_max,
            close_ms_max: 3_000,
        }
    }
}

/// Work of one turn, after which the other connections of the thread have theirs.
const FRAMES_PER_TURN: usize = 256;
const WRITES_PER_TURN: usize = 4;
const TURNS_PER_POLL: usize = 4;

/// A connection after its upgrade. It ends when the socket has been closed; [`Peer::on_closed`] says why. Dropping it
/// closes the socket without a word to client or peer.
pub struct Connection<S, P> {
    stream: S,
    decoder: Decoder,
    out: OutQueue,
    peer: P,
    wake: Arc<Wake>,
    time: Arc<dyn TimeSource>,
    config: Arc<DriverConfig>,
    /// Received but not decoded: what came with the upgrade, or what the peer did not want yet.
    unread: BytesMut,
    phase: Phase,
    timer: Timer,
    /// Since when the socket has taken nothing although bytes wait.
    stalled_since_ms: Option<u64>,
    /// Bytes were written that a stream with a buffer of its own (TLS) may not have passed on.
    unflushed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The close frame is queued or sent; everything left has to be done by `until_ms`.
    Closing {
        until_ms: u64,
        then: Then,
    },
    Over,
}

/// What follows when the close frame has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The client's close frame, which is still missing.
    AwaitClose,
    /// Its end of the stream: it broke the protocol, so what it sends means nothing. Reading on, unseen, matters: a
    /// socket closed with unread bytes is reset, and the reset would overtake our close frame.
    AwaitEof { shut: bool },
    /// Nothing.
    Shutdown,
}

/// Whether a turn moved something, so that another one may too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Moved,
    Idle,
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Peer + Unpin> Connection<S, P> {
    /// `leftover` is what the client sent behind its upgrade request; see [`super::into_tcp`].
    pub fn new(
        stream: S,
        leftover: BytesMut,
        peer: P,
        wake: Arc<Wake>,
        time: Arc<dyn TimeSource>,
        config: Arc<DriverConfig>,
    ) -> Self {
        Self {
            stream,
            decoder: Decoder::new(config.message_bytes_max),
            out: OutQueue::new(config.output_bytes_max),
            peer,
            wake,
            time,
            config,
            unread: leftover,
            phase: Phase::Open,
            timer: Timer::default(),
            stalled_since_ms: None,
            unflushed: false,
        }
    }

    /// Takes what has come, from every side, then writes what that produced, in this order: so everything that came
    /// together leaves together.
    fn turn(&mut self, cx: &mut Context<'_>) -> Turn {
        let now = self.time.instants();
        let mut moved = false;
        if self.phase == Phase::Open {
            moved |= self.take_wake(cx, now);
        }
        moved |= self.take_deadlines(now);
        moved |= self.read(cx, now);
        moved |= self.write(cx, now);
        if let Phase::Closing { until_ms, then } = self.phase {
            moved |= self.finish(cx, until_ms, then);
        }
        moved |= self.timer_fired(cx, now);
        if moved { Turn::Moved } else { Turn::Idle }
    }

    fn take_wake(&mut self, cx: &Context<'_>, now: Instants) -> bool {
        let woken = self.wake.take(cx);
        if woken {
            self.peer.on_wake(now);
            self.poll_peer(now);
        }
        woken
    }

    fn take_deadlines(&mut self, now: Instants) -> bool {
        let passed = |deadline: Option<u64>| deadline.is_some_and(|at_ms| at_ms <= now.monotonic_ms);
        match self.phase {
            Phase::Open if passed(self.stalled_deadline()) => self.end(now, ClosedBy::Stalled),
            Phase::Open if passed(self.peer.next_deadline()) => {
                self.peer.on_deadline(now);
                self.poll_peer(now);
            }
            Phase::Closing { until_ms, .. } if passed(Some(until_ms)) => self.phase = Phase::Over,
            _ => return false,
        }
        true
    }

    /// Asks the peer for output until it has no more. It is asked at least once, however full the queue is: it may
    /// want to close.
    fn poll_peer(&mut self, now: Instants) {
        while self.phase == Phase::Open {
            let before = self.out.bytes();
            if let Some(close) = self.peer.poll(now, &mut self.out) {
                let frame = close_frame(Some(close.code), &close.reason);
                self.begin_close(now, frame, Then::AwaitClose, ClosedBy::Server(close));
                return;
            }
            if self.out.bytes() == before || self.out.is_full() {
                return;
            }
        }
    }

    fn reads(&self) -> bool {
        match self.phase {
            Phase::Open => self.peer.wants_read(),
            Phase::Closing { then, .. } => then != Then::Shutdown,
            Phase::Over => false,
        }
    }

    /// One read at most; what was left undecoded earlier comes first.
    fn read(&mut self, cx: &mut Context<'_>, now: Instants) -> bool {
        if !self.reads() {
            return false;
        }
        if !self.unread.is_empty() {
            let mut unread = mem::take(&mut self.unread);
            let taken = self.feed(now, &mut unread);
            if taken < unread.len() {
                unread.advance(taken);
                self.unread = unread;
            }
            return true;
        }
        with_read(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return false,
                Poll::Ready(Err(error)) => self.end(now, ClosedBy::Io(error.kind())),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.end(now, ClosedBy::Eof),
                Poll::Ready(Ok(())) => {
                    let taken = self.feed(now, buffer.filled_mut());
                    self.unread = BytesMut::from(&buffer.filled()[taken..]);
                }
            }
            true
        })
    }

    /// Decodes and delivers until the bytes are used up, the peer wants no more or this turn has done enough; answers
    /// how many bytes were used.
    fn feed(&mut self, now: Instants, bytes: &mut [u8]) -> usize {
        let mut chunk = Chunk::new(bytes);
        for _ in 0..FRAMES_PER_TURN {
            match self.phase {
                Phase::Open if !self.peer.wants_read() => break,
                Phase::Over | Phase::Closing { then: Then::Shutdown | Then::AwaitEof { .. }, .. } => {
                    return bytes.len();
                }
                Phase::Open | Phase::Closing { then: Then::AwaitClose, .. } => {}
            }
            match self.decoder.next(&mut chunk) {
                Ok(None) => break,
                Ok(Some(Event::Text(text))) => {
                    if self.phase == Phase::Open {
                        self.peer.on_text(now, text);
                        self.poll_peer(now);
                    }
                }
                Ok(Some(Event::Ping(payload))) => {
                    let pong = pong_frame(payload);
                    self.pong(pong);
                }
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Binary(_))) => self.refuse(
                    now,
                    &Close::new(close_code::UNSUPPORTED_DATA, "only text messages are understood"),
                    ClosedBy::Binary,
                ),
                Ok(Some(Event::Close { code, .. })) => self.client_closes(now, code),
                Err(violation) => {
                    let close = Close::new(violation.close_code(), violation.to_string());
                    self.refuse(now, &close, ClosedBy::Violation(violation));
                }
            }
        }
        self.decoder.release();
        chunk.taken()
    }

    /// Behind a close frame nothing may be sent.
    fn pong(&mut self, pong: Bytes) {
        if self.phase == Phase::Open {
            self.out.set_pong(pong);
        }
    }

    fn client_closes(&mut self, now: Instants, code: Option<u16>) {
        if let Phase::Closing { until_ms, .. } = self.phase {
            self.phase = Phase::Closing { until_ms, then: Then::Shutdown };
            return;
        }
        // Who said goodbye reads no more messages: only the frame that has begun is completed before the echo.
        self.out.drop_unsent();
        self.begin_close(now, close_frame(code, ""), Then::Shutdown, ClosedBy::Client { code });
    }

    fn refuse(&mut self, now: Instants, close: &Close, why: ClosedBy) {
        let then = Then::AwaitEof { shut: false };
        if let Phase::Closing { until_ms, .. } = self.phase {
            self.phase = Phase::Closing { until_ms, then };
            return;
        }
        self.begin_close(now, close_frame(Some(close.code), &close.reason), then, why);
    }

    fn begin_close(&mut self, now: Instants, frame: Bytes, then: Then, why: ClosedBy) {
        self.out.push(frame);
        let until_ms = now.monotonic_ms.saturating_add(self.config.close_ms_max);
        self.phase = Phase::Closing { until_ms, then };
        self.peer.on_closed(now, why);
    }

    /// Ends without a closing handshake.
    fn end(&mut self, now: Instants, why: ClosedBy) {
        if mem::replace(&mut self.phase, Phase::Over) == Phase::Open {
            self.peer.on_closed(now, why);
        }
    }

    /// Writes what waits, as much of it per call as there is, and lets the peer add to it.
    fn write(&mut self, cx: &mut Context<'_>, now: Instants) -> bool {
        let mut moved = false;
        for _ in 0..WRITES_PER_TURN {
            if self.phase == Phase::Over || self.out.is_empty() {
                break;
            }
            let Poll::Ready(written) = self.write_once(cx) else {
                self.stalled_since_ms.get_or_insert(now.monotonic_ms);
                return moved;
            };
            moved = true;
            match written {
                Ok(count) => self.written(now, count),
                Err(error) => self.end(now, ClosedBy::Io(error.kind())),
            }
        }
        self.flush(cx, now);
        moved
    }

    fn write_once(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { stream, out, .. } = self;
        let written = ready!(with_write(|scratch| Pin::new(stream).poll_write(cx, out.gather(scratch))));
        Poll::Ready(written.and_then(|count| match count {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => Ok(count),
        }))
    }

    fn written(&mut self, now: Instants, count: usize) {
        self.stalled_since_ms = None;
        self.unflushed = true;
        let pushed = self.out.taken(count);
        if self.phase == Phase::Open {
            self.peer.on_written(now, pushed);
            self.poll_peer(now);
        }
    }

    /// For plain TCP there is never anything to do.
    fn flush(&mut self, cx: &mut Context<'_>, now: Instants) {
        if !self.unflushed || self.phase == Phase::Over {
            return;
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => {
                self.stalled_since_ms.get_or_insert(now.monotonic_ms);
            }
            Poll::Ready(Ok(())) => {
                self.unflushed = false;
                self.stalled_since_ms = None;
            }
            Poll::Ready(Err(error)) => self.end(now, ClosedBy::Io(error.kind())),
        }
    }

    /// Once the close frame has left: waits, or says that nothing more comes.
    fn finish(&mut self, cx: &mut Context<'_>, until_ms: u64, then: Then) -> bool {
        let sent = self.out.is_empty() && !self.unflushed;
        if !sent || matches!(then, Then::AwaitClose | Then::AwaitEof { shut: true }) {
            return false;
        }
        // The client may have closed already: an error here says nothing that matters.
        let Poll::Ready(_) = Pin::new(&mut self.stream).poll_shutdown(cx) else { return false };
        self.phase = match then {
            Then::AwaitEof { .. } => Phase::Closing { until_ms, then: Then::AwaitEof { shut: true } },
            Then::AwaitClose | Then::Shutdown => Phase::Over,
        };
        true
    }

    fn stalled_deadline(&self) -> Option<u64> {
        self.stalled_since_ms.map(|since_ms| since_ms.saturating_add(self.config.stalled_ms_max))
    }

    fn timer_fired(&mut self, cx: &mut Context<'_>, now: Instants) -> bool {
        let deadline = match self.phase {
            Phase::Open => [self.peer.next_deadline(), self.stalled_deadline()].into_iter().flatten().min(),
            Phase::Closing { until_ms, .. } => Some(until_ms),
            Phase::Over => None,
        };
        deadline.is_some_and(|at_ms| self.timer.fired(cx, now.monotonic_ms, at_ms))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Peer + Unpin> Future for Connection<S, P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..TURNS_PER_POLL {
            let turn = self.turn(cx);
            if self.phase == Phase::Over {
                return Poll::Ready(());
            }
            if turn == Turn::Idle {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
