//! The resumable stream of a signed-in device: every entry of every conversation of its user, in order and once, across
//! lost connections and restarts; and an outbox whose messages are sent exactly once.
//!
//! [`Link::start`] gives two halves. [`Link`] sends. [`Events`] tells, through a bounded channel; an event counts as
//! handled when the next one is asked for, and only then the store forgets it. A caller that stops asking stops the
//! stream, and the server's log waits.

mod connection;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tidings_types::{ConversationId, MessageId, Refusal, Seq};
use tidings_wire::rest::SendMessage;
use tidings_wire::{Connected, Content, Entry, MessageAccepted, Snapshot, Target};
use tokio::sync::mpsc;

use crate::{Change, ClientError, Known, Rest, Store, StoreError};

#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Whether a device that has nothing of a conversation fetches all of it, however long it is. Otherwise the older
    /// part is left for history ([`Event::Skipped`]).
    pub backfill: bool,
    /// Events waiting for the caller.
    pub events_max: usize,
    /// Messages waiting for an answer. Beyond: [`ClientError::OutboxFull`].
    pub outbox_max: usize,
    /// The first wait before reconnecting, at most; it doubles up to `backoff_max`.
    pub backoff_base: Duration,
    pub backoff_max: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            backfill: true,
            events_max: 64,
            outbox_max: 10_000,
            backoff_base: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Online(Connected),
    /// The connection is gone or could not be made; the next try comes by itself.
    Offline {
        reason: String,
        retry_in: Duration,
    },
    /// A conversation begins, or begins anew: what was known of it means nothing any more.
    Snapshot(Snapshot),
    Entry(Entry),
    /// Entries of a conversation that is new to this device were left for history.
    Skipped {
        conversation: ConversationId,
        from: Seq,
        to: Seq,
    },
    /// The user is not in this conversation any more.
    Forgotten(ConversationId),
    /// Everything missed while away has been told.
    CaughtUp,
    /// A message of the outbox has its place.
    Accepted(MessageAccepted),
    /// A message of the outbox will never be accepted; it has left the outbox.
    Refused {
        message: SendMessage,
        refusal: Refusal,
    },
    /// The session has ended: sign in again and start another link. The last event.
    SignedOut,
    /// The server does not want this client to come back. The last event.
    Stopped {
        code: u16,
        reason: String,
    },
}

/// The sending half. Clones share the link; it closes when all of them are gone.
#[derive(Clone)]
pub struct Link {
    commands: mpsc::Sender<Command>,
    rest: Rest,
    outbox_max: usize,
}

enum Command {
    Send(SendMessage),
    Close,
}

/// Commands waiting for the link's task.
const COMMANDS_MAX: usize = 64;

impl Link {
    /// Starts the link in a task of its own. It connects, and goes on where the store says it was.
    #[must_use]
    pub fn start(rest: Rest, options: &LinkOptions) -> (Self, Events) {
        let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
        let (events_out, events) = mpsc::channel(options.events_max);
        tokio::spawn(task::run(rest.clone(), options.clone(), commands_in, events_out));
        let store = Arc::clone(rest.store());
        let link = Self { commands, rest, outbox_max: options.outbox_max };
        (link, Events { events, store, unhandled: None })
    }

    /// Puts a message into the outbox. When this returns it is durable here and will be sent, now or after a restart,
    /// until the server answers; [`Event::Accepted`] or [`Event::Refused`] tells.
    pub async fn send(
        &self,
        target: Target,
        content: Content,
        reply_to: Option<MessageId>,
    ) -> Result<MessageId, ClientError> {
        if self.rest.store().outbox_len() >= self.outbox_max {
            return Err(ClientError::OutboxFull);
        }
        let message_id = self.rest.clock().message_id();
        let message = SendMessage { target, message_id, content, reply_to };
        self.rest.write(Change::Queue { message: message.clone() }).await?;
        // A closed link leaves it for the next one: it is in the store.
        let _ = self.commands.send(Command::Send(message)).await;
        Ok(message_id)
    }

    /// Ends the connection. Events that are waiting are still told, then there are no more.
    pub async fn close(&self) {
        // A task that is gone is closed.
        let _ = self.commands.send(Command::Close).await;
    }
}

/// The telling half.
pub struct Events {
    events: mpsc::Receiver<Event>,
    store: Arc<dyn Store>,
    unhandled: Option<Change>,
}

impl Events {
    /// The next event; `None` after the last. Asking for it says that the one before has been handled. Nothing is lost
    /// when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Event>, StoreError> {
        self.handled()?;
        let event = self.events.recv().await;
        self.unhandled = event.as_ref().and_then(change_of);
        Ok(event)
    }

    /// The last event has been handled, although no other is wanted.
    pub fn handled(&mut self) -> Result<(), StoreError> {
        self.unhandled.take().map_or(Ok(()), |change| self.store.write(change))
    }
}

/// What the store keeps of an event.
fn change_of(event: &Event) -> Option<Change> {
    match event {
        Event::Snapshot(snapshot) => Some(Change::Follow {
            conversation_id: snapshot.conversation_id,
            known: Known {
                kind: snapshot.kind,
                title: snapshot.title.clone(),
                epoch: snapshot.epoch,
                seq: snapshot.floor.max(snapshot.visible_from).previous(),
            },
        }),
        Event::Entry(entry) => {
            Some(Change::Advance { conversation_id: entry.conversation_id, seq: entry.seq })
        }
        Event::Skipped { conversation, to, .. } => {
            Some(Change::Advance { conversation_id: *conversation, seq: *to })
        }
        Event::Forgotten(conversation) => Some(Change::Forget { conversation_id: *conversation }),
        Event::Accepted(accepted) => Some(Change::Answered { message_id: accepted.message_id }),
        Event::Refused { message, .. } => Some(Change::Answered { message_id: message.message_id }),
        Event::Online(_)
        | Event::Offline { .. }
        | Event::CaughtUp
        | Event::SignedOut
        | Event::Stopped { .. } => None,
    }
}
