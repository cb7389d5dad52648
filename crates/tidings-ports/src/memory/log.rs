//! The log in memory. "Durable" here is what outlives [`MemoryLog::crash`]: everything appended, unless a test holds
//! it back with [`MemoryLog::hold`].

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use tidings_types::{Fence, Place, ShardId};

use crate::{AppendError, BoxFuture, Draft, LogError, LogPage, RecordKind, ShardLog, Stored};

/// What a record takes besides its payload. Places grow by bytes, with gaps, so that nobody counts records by them.
const FRAME_BYTES: u64 = 64;

/// Clones share the log.
#[derive(Clone, Debug)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    shards: Vec<Shard>,
    /// Counts crashes: appends from before one have no known outcome.
    life: u64,
    held: bool,
    full: bool,
    wakers: Vec<Waker>,
}

#[derive(Debug)]
struct Shard {
    records: Vec<Stored>,
    /// Where the next record goes.
    written: Place,
    durable: Place,
    floor: Place,
}

impl MemoryLog {
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let first = Place(FRAME_BYTES);
        let shard = || Shard { records: Vec::new(), written: first, durable: first, floor: Place::ZERO };
        let shards = (0..shards).map(|_| shard()).collect();
        let state = State { shards, life: 0, held: false, full: false, wakers: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// From now on appends wait, until [`MemoryLog::release`] or a crash.
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Makes everything that waits durable.
    pub fn release(&self) {
        let mut state = self.lock();
        state.held = false;
        for shard in &mut state.shards {
            shard.durable = shard.written;
        }
        state.wake();
    }

    /// The machine crashes and starts again: what waits is lost, and its appends answer `Unknown`.
    pub fn crash(&self) {
        let mut state = self.lock();
        state.life += 1;
        state.held = false;
        for shard in &mut state.shards {
            shard.written = shard.durable;
            let durable = shard.durable;
            shard.records.retain(|record| record.place < durable);
        }
        state.wake();
    }

    /// While set, appends answer `Full`.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ShardLog for MemoryLog {
    fn append(&self, shard: ShardId, draft: Draft) -> BoxFuture<'static, Result<Place, AppendError>> {
        let mut state = self.lock();
        if state.full {
            return Box::pin(async { Err(AppendError::Full) });
        }
        let life = state.life;
        let record = state.shard(shard).push(draft);
        if !state.held {
            state.shard(shard).durable = record.next;
            state.wake();
        }
        drop(state);
        let log = self.clone();
        Box::pin(poll_fn(move |context| {
            let mut state = log.lock();
            if state.life != life {
                return Poll::Ready(Err(AppendError::Unknown(io::Error::other("the machine crashed"))));
            }
            if state.shard(shard).durable >= record.next {
                return Poll::Ready(Ok(record.place));
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        }))
    }

    fn read(
        &self,
        shard: ShardId,
        from: Place,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<LogPage, LogError>> {
        let page = self.lock().shard(shard).read(from, bytes_max);
        Box::pin(async { page })
    }

    fn end(&self, shard: ShardId) -> Place {
        self.lock().shard(shard).durable
    }

    fn floor(&self, shard: ShardId) -> Place {
        self.lock().shard(shard).floor
    }

    fn wait_beyond(&self, shard: ShardId, place: Place) -> BoxFuture<'_, ()> {
        Box::pin(poll_fn(move |context| {
            let mut state = self.lock();
            if state.shard(shard).durable > place {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        }))
    }

    fn trim(&self, shard: ShardId, below: Place) -> BoxFuture<'_, Result<(), LogError>> {
        self.lock().shard(shard).trim(below);
        Box::pin(async { Ok(()) })
    }
}

impl State {
    fn shard(&mut self, shard: ShardId) -> &mut Shard {
        &mut self.shards[usize::from(shard.0)]
    }

    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

/// A record's two places.
#[derive(Clone, Copy)]
struct Span {
    place: Place,
    next: Place,
}

impl Shard {
    fn push(&mut self, draft: Draft) -> Span {
        let place = self.written;
        let next = Place(place.0 + FRAME_BYTES + draft.payload.len() as u64);
        let fence = match draft.kind {
            RecordKind::WriterChanged => Fence(place.0),
            RecordKind::Entries => draft.fence,
        };
        let Draft { kind, number, payload, .. } = draft;
        self.records.push(Stored { place, next, kind, fence, number, payload });
        self.written = next;
        Span { place, next }
    }

    fn read(&self, from: Place, bytes_max: usize) -> Result<LogPage, LogError> {
        if from < self.floor {
            return Err(LogError::Trimmed { asked: from, floor: self.floor });
        }
        let mut page = LogPage { records: Vec::new(), next: from };
        let mut bytes = 0;
        let first = self.records.partition_point(|record| record.place < from);
        for record in self.records[first..].iter().take_while(|record| record.next <= self.durable) {
            bytes += record.payload.len();
            if bytes > bytes_max && !page.records.is_empty() {
                break;
            }
            page.next = record.next;
            page.records.push(record.clone());
        }
        Ok(page)
    }

    fn trim(&mut self, below: Place) {
        let below = below.min(self.durable);
        if below > self.floor {
            self.records.retain(|record| record.place >= below);
            self.floor = below;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use tidings_types::RecordNumber;

    use super::*;
    use crate::suite::log::{LogBench, SHARDS, all};

    struct Bench(MemoryLog);

    impl LogBench for Bench {
        fn log(&self) -> Arc<dyn ShardLog> {
            Arc::new(self.0.clone())
        }

        fn crash(&mut self) {
            self.0.crash();
        }
    }

    #[test]
    fn passes_the_log_suite() {
        let ran = poll_once(all(|| Bench(MemoryLog::new(SHARDS))));
        assert!(ran.is_ready(), "a log in memory never waits unless it is held");
    }

    #[test]
    fn what_is_held_is_released_in_order_or_lost_in_a_crash() {
        let log = MemoryLog::new(1);
        log.hold();
        let mut released = log.append(ShardId(0), draft(1));
        assert!(poll_once(&mut released).is_pending());
        assert_eq!(numbers(&log), [0; 0], "nobody sees what is not durable");
        log.release();
        assert!(matches!(poll_once(released), Poll::Ready(Ok(_))));

        log.hold();
        let lost = log.append(ShardId(0), draft(2));
        log.crash();
        assert!(matches!(poll_once(lost), Poll::Ready(Err(AppendError::Unknown(_)))));
        assert_eq!(numbers(&log), [1]);
    }

    #[test]
    fn a_full_log_takes_nothing_until_there_is_room() {
        let log = MemoryLog::new(1);
        log.set_full(true);
        assert!(matches!(poll_once(log.append(ShardId(0), draft(1))), Poll::Ready(Err(AppendError::Full))));
        log.set_full(false);
        assert!(matches!(poll_once(log.append(ShardId(0), draft(1))), Poll::Ready(Ok(_))));
        assert_eq!(numbers(&log), [1]);
    }

    fn draft(number: u64) -> Draft {
        let (fence, number) = (Fence(1), RecordNumber(number));
        Draft { kind: RecordKind::Entries, fence, number, payload: vec![1] }
    }

    fn numbers(log: &MemoryLog) -> Vec<u64> {
        match poll_once(log.read(ShardId(0), Place::ZERO, 1 << 20)) {
            Poll::Ready(Ok(page)) => page.records.iter().map(|record| record.number.0).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}
