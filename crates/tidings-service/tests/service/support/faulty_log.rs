//! The log in memory, with appends that fail as a test says.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use tidings_ports::memory::MemoryLog;
use tidings_ports::{AppendError, BoxFuture, Draft, LogError, LogPage, RecordKind, ShardLog};
use tidings_types::{Place, ShardId};

/// What becomes of one batch of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Full,
    /// Nobody knows, and it is there.
    UnknownWritten,
    /// Nobody knows, and it is not there.
    UnknownLost,
}

/// Clones share the log.
#[derive(Clone)]
pub(crate) struct FaultyLog {
    pub(crate) log: MemoryLog,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    faults: VecDeque<Fault>,
    closed: bool,
}

impl FaultyLog {
    pub(crate) fn new(shards: u16) -> Self {
        Self { log: MemoryLog::new(shards), plan: Arc::default() }
    }

    /// The next batches of entries fail like this, in order; later ones do not.
    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan.lock().unwrap().faults.extend(faults);
    }

    /// From now on every append finds the log closed.
    pub(crate) fn close(&self) {
        self.plan.lock().unwrap().closed = true;
    }
}

impl ShardLog for FaultyLog {
    fn append(&self, shard: ShardId, draft: Draft) -> BoxFuture<'static, Result<Place, AppendError>> {
        let mut plan = self.plan.lock().unwrap();
        if plan.closed {
            return Box::pin(async { Err(AppendError::Closed) });
        }
        let fault = match draft.kind {
            RecordKind::Entries => plan.faults.pop_front().unwrap_or(Fault::None),
            RecordKind::WriterChanged => Fault::None,
        };
        drop(plan);
        let unknown = || Err(AppendError::Unknown(io::Error::other("as planned")));
        match fault {
            Fault::None => self.log.append(shard, draft),
            Fault::Full => Box::pin(async { Err(AppendError::Full) }),
            Fault::UnknownLost => Box::pin(async move { unknown() }),
            Fault::UnknownWritten => {
                let appended = self.log.append(shard, draft);
                Box::pin(async move {
                    appended.await?;
                    unknown()
                })
            }
        }
    }

    fn read(
        &self,
        shard: ShardId,
        from: Place,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<LogPage, LogError>> {
        self.log.read(shard, from, bytes_max)
    }

    fn end(&self, shard: ShardId) -> Place {
        self.log.end(shard)
    }

    fn floor(&self, shard: ShardId) -> Place {
        self.log.floor(shard)
    }

    fn wait_beyond(&self, shard: ShardId, place: Place) -> BoxFuture<'_, ()> {
        self.log.wait_beyond(shard, place)
    }

    fn trim(&self, shard: ShardId, below: Place) -> BoxFuture<'_, Result<(), LogError>> {
        self.log.trim(shard, below)
    }
}
