//! What all devices of a run share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_types::{ConversationId, UserId};
use tokio::sync::watch;

use super::journal::Entries;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) entries: Entries,
    pub(crate) counters: Counters,
    /// Mean time between two messages of one device.
    pub(crate) send_every: Duration,
    pub(crate) run: Duration,
    /// Conversations made by writing to a person, and one of their two members.
    directs: Mutex<BTreeMap<ConversationId, UserId>>,
    personal_logs: Mutex<BTreeMap<UserId, ConversationId>>,
    /// Counts the servers that have been started.
    pub(crate) server: watch::Sender<u64>,
    /// Changes just before a kill: everybody writes at once, so that sends are in flight at that moment.
    pub(crate) burst: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Write, read, break off.
    Live,
    /// Everybody disconnects.
    Pause,
    /// Connect, repeat what was not answered, catch up.
    Settle,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sent: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) refused: Counter,
    pub(crate) retried: Counter,
    pub(crate) delivered: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) gaps_named: Counter,
    pub(crate) connects: Counter,
    pub(crate) connected: Counter,
    pub(crate) restarts: Counter,
    pub(crate) settled: Counter,
    pub(crate) membership_changes: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn subtract(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl World {
    pub(crate) fn new(address: SocketAddr, send_every: Duration, run: Duration) -> Self {
        Self {
            address,
            entries: Entries::default(),
            counters: Counters::default(),
            send_every,
            run,
            directs: Mutex::default(),
            personal_logs: Mutex::default(),
            server: watch::Sender::new(0),
            burst: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Live),
        }
    }

    pub(crate) fn note_direct(&self, conversation: ConversationId, user: UserId) {
        locked(&self.directs).insert(conversation, user);
    }

    pub(crate) fn note_personal_log(&self, user: UserId, conversation: ConversationId) {
        locked(&self.personal_logs).insert(user, conversation);
    }

    pub(crate) fn directs(&self) -> BTreeMap<ConversationId, UserId> {
        locked(&self.directs).clone()
    }

    pub(crate) fn personal_log(&self, user: UserId) -> Option<ConversationId> {
        locked(&self.personal_logs).get(&user).copied()
    }

    pub(crate) fn server_number(&self) -> u64 {
        *self.server.borrow()
    }

    /// Returns in a later phase than `phase`.
    pub(crate) async fn after(&self, phase: Phase) {
        // The sender lives here, so waiting cannot fail.
        drop(self.phase.subscribe().wait_for(|now| *now > phase).await);
    }
}

/// Counts a connected device for as long as it lives.
pub(crate) struct Connected(Arc<World>);

impl Connected {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        world.counters.connected.add();
        Self(Arc::clone(world))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.counters.connected.subtract();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
