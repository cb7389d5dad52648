//! The link's task: connects, carries frames between the socket and the pure machines ([`Positions`], [`Outbox`]), and
//! comes back when the connection is lost.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tidings_types::{Code, Limits, Refusal};
use tidings_wire::{
    ClientFrame, Connect, Connected, Entry, ErrorFrame, MessageAccepted, Ping, ServerFrame, Subscribe, codes,
    decode_server_frame,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::connection::{Connection, End, Going, chain};
use super::{Command, Event, LinkOptions};
use crate::backoff::Backoff;
use crate::clock::random_unit;
use crate::outbox::Outbox;
use crate::positions::{Fetch, Positions, Step};
use crate::{ClientError, Incoming, Rest, Socket, SocketError};

pub(super) async fn run(
    rest: Rest,
    options: LinkOptions,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Event>,
) {
    Task::new(rest, &options, commands, events).run().await;
}

struct Task {
    rest: Rest,
    commands: mpsc::Receiver<Command>,
    teller: Teller,
    positions: Positions,
    outbox: Outbox,
    backoff: Backoff,
    /// Between tries of a refused send.
    send_backoff: Backoff,
    cursors_max: usize,
    next_reference: u32,
}

/// Events on their way to the caller.
struct Teller {
    events: mpsc::Sender<Event>,
    /// Told as soon as the caller has room.
    untold: VecDeque<Event>,
}

/// Nothing more is read while this many events are untold.
const UNTOLD_MAX: usize = 256;

impl Task {
    fn new(
        rest: Rest,
        options: &LinkOptions,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (saved, limits) = (rest.store().saved(), Limits::default());
        let cursors = saved.conversations.iter().map(|(id, known)| (*id, known.cursor()));
        Self {
            positions: Positions::new(cursors, options.backfill),
            outbox: Outbox::new(saved.outbox, limits.in_flight_sends_max),
            backoff: Backoff::new(options.backoff_base, options.backoff_max),
            send_backoff: Backoff::new(options.backoff_base, options.backoff_max),
            cursors_max: limits.cursors_per_connect_max,
            next_reference: 0,
            teller: Teller { events, untold: VecDeque::new() },
            rest,
            commands,
        }
    }

    async fn run(mut self) {
        loop {
            let end = match self.connect().await {
                Ok(connection) => self.live(connection).await,
                Err(end) => end,
            };
            let last = match self.after(end).await {
                Ok(()) => continue,
                Err(last) => last,
            };
            self.teller.untold.extend(last);
            break;
        }
        // A caller that went away wants to hear nothing.
        while !self.teller.untold.is_empty() && self.teller.tell().await.is_ok() {}
    }

    /// Waits as the end of a connection asks for. `Err`: there is no other connection; the last event, if any.
    async fn after(&mut self, end: End) -> Result<(), Option<Event>> {
        self.outbox.reconnect();
        let (reason, at_least) = match end {
            End::Closed => return Err(None),
            End::SignedOut => return Err(Some(Event::SignedOut)),
            End::Stopped { code, reason } => return Err(Some(Event::Stopped { code, reason })),
            End::Lost { reason, at_least } => (reason, at_least),
            End::Stale => match self.renew().await {
                // Not at once: a server that refuses every fresh token would be asked without end.
                Ok(()) => {
                    let wait = self.backoff.next(random_unit(), Duration::ZERO);
                    return self.meanwhile(sleep(wait)).await.map_err(|_| None);
                }
                Err(End::Lost { reason, at_least }) => (reason, at_least),
                Err(End::Closed) => return Err(None),
                Err(_) => return Err(Some(Event::SignedOut)),
            },
        };
        let retry_in = self.backoff.next(random_unit(), at_least);
        self.teller.untold.push_back(Event::Offline { reason, retry_in });
        self.meanwhile(sleep(retry_in)).await.map_err(|_| None)
    }

    async fn renew(&mut self) -> Going {
        let stale = self.rest.tokens().ok_or(End::SignedOut)?.access_token;
        let rest = self.rest.clone();
        let refreshed = self.meanwhile(async move { rest.refresh(&stale).await }).await?;
        refreshed.map(drop).map_err(|error| match error {
            ClientError::SignedOut => End::SignedOut,
            error => End::lost(chain(&error)),
        })
    }

    /// Connects and says which entries this device has.
    async fn connect(&mut self) -> Going<Connection> {
        let socket = match self.open_socket().await {
            // Once more with a fresh token; a second refusal is final.
            Err(End::Stale) => {
                self.renew().await?;
                self.open_socket()
                    .await
                    .map_err(|end| if matches!(end, End::Stale) { End::SignedOut } else { end })
            }
            opened => opened,
        }?;
        let mut connection = Connection::new(socket, self.reference());
        let (steps, cursors) = self.positions.reconnect(self.cursors_max);
        let connect = Connect { reference: connection.connect_reference, cursors };
        connection.send(ClientFrame::Connect(connect)).await?;
        self.take(&mut connection, steps).await?;
        Ok(connection)
    }

    async fn open_socket(&mut self) -> Going<Socket> {
        let (url, token) = (self.rest.socket_url(), self.rest.tokens().ok_or(End::SignedOut)?.access_token);
        let opened = self.meanwhile(async move { Socket::connect(&url, &token).await }).await?;
        opened.map_err(|error| match error {
            SocketError::Refused(refusal) => End::refused(&refusal),
            SocketError::Status { status: 401, .. } => End::Stale,
            SocketError::Status { retry_after, .. } => {
                End::Lost { reason: chain(&error), at_least: retry_after }
            }
            error => End::lost(chain(&error)),
        })
    }

    /// Waits for `work`; takes commands and tells events in the meantime.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Going<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                command = self.commands.recv() => self.on_command(command)?,
                told = self.teller.tell(), if !self.teller.untold.is_empty() => told?,
            }
        }
    }

    async fn live(&mut self, mut connection: Connection) -> End {
        loop {
            if let Err(end) = Box::pin(self.turn(&mut connection)).await {
                if matches!(end, End::Closed) {
                    connection.socket.close().await;
                }
                return end;
            }
        }
    }

    /// One thing that happens, and all that follows from it.
    async fn turn(&mut self, connection: &mut Connection) -> Going {
        let reads = self.teller.untold.len() < UNTOLD_MAX;
        let deadline = connection.deadline(reads);
        tokio::select! {
            incoming = connection.socket.next(), if reads => {
                connection.heard_at = Instant::now();
                self.on_incoming(connection, incoming).await?;
            }
            Some(page) = connection.pages.join_next(), if reads => {
                // A page's task ends early only when the runtime shuts down.
                let (fetch, page) = page.map_err(|_| End::Closed)?;
                self.on_page(connection, fetch, page).await?;
            }
            command = self.commands.recv() => self.on_command(command)?,
            told = self.teller.tell(), if !self.teller.untold.is_empty() => {
                told?;
                if !reads {
                    // The server was silent because nobody read.
                    connection.heard_at = Instant::now();
                }
            }
            () = sleep_until(deadline) => self.on_deadline(connection, reads).await?,
        }
        self.send_waiting(connection).await?;
        connection.start_fetches(&self.rest);
        if connection.caught_up && self.positions.is_level() {
            connection.caught_up = false;
            self.teller.untold.push_back(Event::CaughtUp);
        }
        Ok(())
    }

    fn on_command(&mut self, command: Option<Command>) -> Going {
        match command {
            Some(Command::Send(message)) => {
                self.outbox.push(message);
                Ok(())
            }
            Some(Command::Close) | None => Err(End::Closed),
        }
    }

    async fn on_incoming(
        &mut self,
        connection: &mut Connection,
        incoming: Result<Incoming, SocketError>,
    ) -> Going {
        match incoming {
            Ok(Incoming::Frame(text)) => match decode_server_frame(&text) {
                Ok(Some(frame)) => self.on_frame(connection, frame).await,
                Ok(None) => Ok(()),
                Err(error) => Err(End::lost(error.to_string())),
            },
            Ok(Incoming::Closed { code, reason }) => {
                let reason = if reason.is_empty() { format!("closed with {code}") } else { reason };
                Err(End::closed(code, reason, None))
            }
            Err(error) => Err(End::lost(chain(&error))),
        }
    }

    async fn on_frame(&mut self, connection: &mut Connection, frame: ServerFrame) -> Going {
        let steps = match frame {
            ServerFrame::Connected(connected) => {
                self.on_connected(connection, connected);
                Vec::new()
            }
            ServerFrame::Snapshot(snapshot) => self.positions.on_snapshot(snapshot),
            ServerFrame::ReceiveMessage(message) => self.positions.on_entry(message.into()),
            ServerFrame::Entry(entry) => self.positions.on_entry(entry),
            ServerFrame::Gap(gap) => self.positions.on_gap(gap),
            ServerFrame::CaughtUp(_) => {
                connection.caught_up = true;
                self.backoff.reset();
                Vec::new()
            }
            ServerFrame::MessageAccepted(accepted) => {
                self.on_accepted(accepted);
                Vec::new()
            }
            ServerFrame::Subscribed(_) => Vec::new(),
            ServerFrame::Pong(pong) => return connection.check_pong(pong),
            ServerFrame::Error(error) => return self.on_error(connection, error),
        };
        self.take(connection, steps).await
    }

    fn on_connected(&mut self, connection: &mut Connection, connected: Connected) {
        self.rest.clock().set(connected.now_ms);
        self.cursors_max = as_size(connected.limits.cursors_per_connect_max);
        self.outbox.set_in_flight_max(as_size(connected.limits.in_flight_sends_max));
        connection.connected = true;
        connection.heartbeat = Duration::from_millis(connected.heartbeat_ms.max(1));
        connection.ping_at = Instant::now() + connection.heartbeat;
        self.teller.untold.push_back(Event::Online(connected));
    }

    fn on_accepted(&mut self, accepted: MessageAccepted) {
        if self.outbox.answered(accepted.reference).is_some() {
            self.send_backoff.reset();
            self.teller.untold.push_back(Event::Accepted(accepted));
        }
    }

    fn on_error(&mut self, connection: &mut Connection, error: ErrorFrame) -> Going {
        let ErrorFrame { reference, code, message, retry_after_ms } = error;
        let refusal = Refusal { code, message, retry_after_ms };
        let Some(reference) = reference else {
            debug!(%code, "the server says that something about this socket is wrong");
            return Ok(());
        };
        if reference == connection.connect_reference {
            return Err(End::refused(&refusal));
        }
        if self.outbox.is_in_flight(reference) {
            self.on_send_refused(connection, reference, refusal);
            return Ok(());
        }
        // A subscribe. Not found: the user left meanwhile. Overloaded: the conversation is being opened already.
        // Anything that may pass would leave a silent hole on this socket, so it is asked for again on another.
        let passes = codes::meaning(code).retry && code != Code::Overloaded;
        if passes { Err(End::refused(&refusal)) } else { Ok(()) }
    }

    fn on_send_refused(&mut self, connection: &mut Connection, reference: u32, refusal: Refusal) {
        if codes::meaning(refusal.code).retry {
            self.outbox.again(reference);
            let at_least = Duration::from_millis(refusal.retry_after_ms.unwrap_or(0));
            connection.sends_at = Some(Instant::now() + self.send_backoff.next(random_unit(), at_least));
        } else if let Some(message) = self.outbox.answered(reference) {
            self.teller.untold.push_back(Event::Refused { message, refusal });
        }
    }

    async fn on_page(
        &mut self,
        connection: &mut Connection,
        fetch: Fetch,
        page: Result<Vec<Entry>, ClientError>,
    ) -> Going {
        let steps = match page {
            Ok(page) => self.positions.on_page(fetch, page),
            Err(ClientError::SignedOut) => return Err(End::SignedOut),
            Err(error) if error.code() == Some(Code::NotFound) => self.positions.on_not_found(fetch),
            Err(_) if !self.positions.still_wanted(fetch) => Vec::new(),
            Err(error) => return Err(End::lost(chain(&error))),
        };
        self.take(connection, steps).await
    }

    async fn take(&mut self, connection: &mut Connection, steps: Vec<Step>) -> Going {
        for step in steps {
            match step {
                Step::Deliver(entry) => self.teller.untold.push_back(Event::Entry(entry)),
                Step::Reset { snapshot, .. } => self.teller.untold.push_back(Event::Snapshot(snapshot)),
                Step::Skipped { conversation, cursor, from } => {
                    self.teller.untold.push_back(Event::Skipped { conversation, from, to: cursor.seq });
                }
                Step::Fetch(fetch) => connection.fetches.push_back(fetch),
                Step::Forget(conversation) => self.teller.untold.push_back(Event::Forgotten(conversation)),
                Step::Subscribe { conversation, cursor } => {
                    let subscribe = Subscribe {
                        reference: self.reference(),
                        conversation_id: conversation,
                        epoch: cursor.map(|cursor| cursor.epoch),
                        seq: cursor.map(|cursor| cursor.seq),
                    };
                    connection.send(ClientFrame::Subscribe(subscribe)).await?;
                }
            }
        }
        Ok(())
    }

    async fn on_deadline(&mut self, connection: &mut Connection, reads: bool) -> Going {
        let now = Instant::now();
        if reads && now >= connection.silent_at() {
            return Err(End::lost("the server is silent"));
        }
        if now >= connection.ping_at {
            connection.ping_at = now + connection.heartbeat;
            let ping = Ping { reference: self.reference(), sent: Some(connection.socket.sent()) };
            connection.send(ClientFrame::Ping(ping)).await?;
        }
        connection.sends_at = connection.sends_at.filter(|at| *at > now);
        Ok(())
    }

    async fn send_waiting(&mut self, connection: &mut Connection) -> Going {
        while connection.connected && connection.sends_at.is_none() && self.outbox.has_next() {
            let reference = self.reference();
            if let Some(frame) = self.outbox.next(reference) {
                connection.send(ClientFrame::SendMessage(frame)).await?;
            }
        }
        Ok(())
    }

    fn reference(&mut self) -> u32 {
        self.next_reference = self.next_reference.wrapping_add(1);
        self.next_reference
    }
}

impl Teller {
    /// Tells the first event once the caller has room. Nothing is lost when the future is dropped.
    async fn tell(&mut self) -> Going {
        let permit = self.events.reserve().await.map_err(|_| End::Closed)?;
        if let Some(event) = self.untold.pop_front() {
            permit.send(event);
        }
        Ok(())
    }
}

fn as_size(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
