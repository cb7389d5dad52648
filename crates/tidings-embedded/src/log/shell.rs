//! The log as a port: one commit thread for all shards, and one that makes segments ahead.
//!
//! While the commit thread waits for a sync, the next batch gathers in its queue; it then becomes one write and one
//! sync, whatever the number of shards and records. The queue has no bound of its own: a writer has at most
//! `appends_in_flight_max` records on their way.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidings_ports::{AppendError, BoxFuture, Disk, Draft, LogError, LogPage, Rng, ShardLog};
use tidings_record::{PAYLOAD_BYTES_MAX, record_bytes};
use tidings_types::{Place, ShardId, planted};
use tokio::sync::{oneshot, watch};

use super::segment::{PrepareError, Prepared, SegmentPlan};
use super::{LogConfig, LogView, SegmentLog, WriteError};

/// The segment log of one process. Dropping it ends it like [`EmbeddedLog::close`], but blocks for it.
pub struct EmbeddedLog<D: Disk> {
    view: Arc<LogView<D>>,
    record_bytes_max: usize,
    /// `None` once closed.
    queue: Mutex<Option<Sender<Append>>>,
    ends: Vec<watch::Receiver<Place>>,
    committer: Mutex<Option<JoinHandle<Result<(), WriteError>>>>,
}

struct Append {
    shard: ShardId,
    draft: Draft,
    answer: oneshot::Sender<Result<Place, AppendError>>,
}

impl<D: Disk> EmbeddedLog<D> {
    /// Opens the log (see [`SegmentLog::open`]) and starts its threads. Blocks while it scans. Afterwards `read` from
    /// any kept place gives what was durable before.
    pub fn open(disk: Arc<D>, config: LogConfig, rng: &dyn Rng) -> Result<Self, LogError> {
        let mark_idle = Duration::from_millis(config.mark_idle_ms);
        let shards = config.shards;
        let log = SegmentLog::open(disk, config, rng)?;
        let view = Arc::clone(log.view());
        let (senders, ends) = (0..shards).map(|shard| watch::channel(view.end(ShardId(shard)))).unzip();
        let (queue, appends) = mpsc::channel();
        let record_bytes_max = log.batch_bytes_max();
        let preparer = Preparer::start()?;
        let committer = Committer { log, appends, carried: None, ends: senders, mark_idle, preparer };
        let committer = thread::Builder::new().name("log-commit".into()).spawn(move || committer.run())?;
        Ok(Self {
            view,
            record_bytes_max,
            queue: Mutex::new(Some(queue)),
            ends,
            committer: Mutex::new(Some(committer)),
        })
    }

    /// Takes no more appends, commits those that were accepted, and marks the last batch durable. Readers go on.
    pub async fn close(&self) -> Result<(), LogError> {
        let committer = self.end_queue();
        let ended = tokio::task::spawn_blocking(move || join(committer)).await;
        ended.map_err(io::Error::other)?
    }

    fn end_queue(&self) -> Option<JoinHandle<Result<(), WriteError>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.committer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The queue's order is the log's order, so the record is in the queue when this returns.
    fn enqueue(
        &self,
        shard: ShardId,
        draft: Draft,
    ) -> Result<oneshot::Receiver<Result<Place, AppendError>>, AppendError> {
        let too_long = draft.payload.len() > PAYLOAD_BYTES_MAX
            || record_bytes(draft.payload.len()) > self.record_bytes_max;
        if too_long || usize::from(shard.0) >= self.ends.len() {
            let error =
                io::Error::new(io::ErrorKind::InvalidInput, "no such shard, or a record that is too long");
            return Err(AppendError::Unknown(error));
        }
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or(AppendError::Closed)?;
        queue.send(Append { shard, draft, answer }).map_err(|_| AppendError::Closed)?;
        Ok(answered)
    }
}

impl<D: Disk> ShardLog for EmbeddedLog<D> {
    fn append(&self, shard: ShardId, draft: Draft) -> BoxFuture<'static, Result<Place, AppendError>> {
        let enqueued = self.enqueue(shard, draft);
        Box::pin(async move {
            let lost = |_| AppendError::Unknown(io::Error::other("the commit thread is gone"));
            enqueued?.await.map_err(lost)?
        })
    }

    fn read(
        &self,
        shard: ShardId,
        from: Place,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<LogPage, LogError>> {
        let view = Arc::clone(&self.view);
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || view.read(shard, from, bytes_max)).await;
            read.map_err(io::Error::other)?
        })
    }

    fn end(&self, shard: ShardId) -> Place {
        self.view.end(shard)
    }

    fn floor(&self, _shard: ShardId) -> Place {
        self.view.floor()
    }

    fn wait_beyond(&self, shard: ShardId, place: Place) -> BoxFuture<'_, ()> {
        let end = self.ends.get(usize::from(shard.0)).cloned();
        Box::pin(async move {
            let reached = match end {
                Some(mut end) => end.wait_for(|end| *end > place).await.is_ok(),
                None => false,
            };
            if !reached {
                // The log has ended; there will never be more.
                std::future::pending::<()>().await;
            }
        })
    }

    fn trim(&self, shard: ShardId, below: Place) -> BoxFuture<'_, Result<(), LogError>> {
        let view = Arc::clone(&self.view);
        Box::pin(async move {
            let trimmed = tokio::task::spawn_blocking(move || view.trim(shard, below)).await;
            trimmed.map_err(io::Error::other)?
        })
    }
}

impl<D: Disk> Drop for EmbeddedLog<D> {
    fn drop(&mut self) {
        if let Err(error) = join(self.end_queue()) {
            tracing::error!(error = &error as &dyn std::error::Error, "the log did not end cleanly");
        }
    }
}

fn join(committer: Option<JoinHandle<Result<(), WriteError>>>) -> Result<(), LogError> {
    match committer.map(JoinHandle::join) {
        None | Some(Ok(Ok(()))) => Ok(()),
        Some(Ok(Err(error))) => Err(LogError::Io(io::Error::other(error))),
        Some(Err(_panic)) => Err(LogError::Io(io::Error::other("the commit thread panicked"))),
    }
}

/// The commit thread.
struct Committer<D: Disk> {
    log: SegmentLog<D>,
    appends: Receiver<Append>,
    /// Did not fit the last batch.
    carried: Option<Append>,
    ends: Vec<watch::Sender<Place>>,
    mark_idle: Duration,
    preparer: Preparer<D>,
}

impl<D: Disk> Committer<D> {
    /// Runs until the queue is closed or the log fails.
    fn run(mut self) -> Result<(), WriteError> {
        let ended = self.commit_all();
        if ended.is_err() {
            self.refuse_rest();
        }
        ended
    }

    fn commit_all(&mut self) -> Result<(), WriteError> {
        self.preparer.request(&self.log);
        while let Some(batch) = self.gather()? {
            self.commit(batch)?;
            self.preparer.request(&self.log);
        }
        self.log.mark()
    }

    /// Everything that waits, as much as fits one batch; `None` when the queue is closed and empty.
    fn gather(&mut self) -> Result<Option<Vec<Append>>, WriteError> {
        let first = match self.carried.take() {
            Some(carried) => Some(carried),
            None => self.wait()?,
        };
        let Some(first) = first else {
            return Ok(None);
        };
        let mut room = self.log.batch_bytes_max() - first.record_bytes();
        let mut batch = vec![first];
        while let Ok(append) = self.appends.try_recv() {
            let Some(rest) = room.checked_sub(append.record_bytes()) else {
                self.carried = Some(append);
                break;
            };
            room = rest;
            batch.push(append);
        }
        Ok(Some(batch))
    }

    /// The next append. Marks the last batch durable when none comes for a while.
    fn wait(&mut self) -> Result<Option<Append>, WriteError> {
        if self.log.needs_mark() {
            match self.appends.recv_timeout(self.mark_idle) {
                Ok(append) => return Ok(Some(append)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => self.log.mark().inspect_err(report)?,
            }
        }
        Ok(self.appends.recv().ok())
    }

    fn commit(&mut self, batch: Vec<Append>) -> Result<(), WriteError> {
        let bytes = batch.iter().map(Append::record_bytes).sum();
        self.preparer.collect(&mut self.log, bytes);
        let (answers, records): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|append| (append.answer, (append.shard, append.draft))).unzip();
        let places = match self.log.write_batch(&records) {
            Ok(places) => places,
            Err(error) => return refuse(answers, error),
        };
        if planted("ack_before_sync") {
            acknowledge(answers, places);
            return self.log.sync().map(|()| self.wake_readers());
        }
        if let Err(error) = self.log.sync() {
            return refuse(answers, error);
        }
        self.wake_readers();
        acknowledge(answers, places);
        Ok(())
    }

    fn wake_readers(&self) {
        for (shard, sender) in (0..).map(ShardId).zip(&self.ends) {
            let end = self.log.view().end(shard);
            sender.send_if_modified(|known| std::mem::replace(known, end) != end);
        }
    }

    /// Nothing of what is still in the queue was written.
    fn refuse_rest(&mut self) {
        for append in self.carried.take().into_iter().chain(self.appends.iter()) {
            // Whoever no longer waits needs no answer; the same below.
            let _ = append.answer.send(Err(AppendError::Closed));
        }
    }
}

impl Append {
    const fn record_bytes(&self) -> usize {
        record_bytes(self.draft.payload.len())
    }
}

type Answers = Vec<oneshot::Sender<Result<Place, AppendError>>>;

fn acknowledge(answers: Answers, places: Vec<Place>) {
    for (answer, place) in answers.into_iter().zip(places) {
        let _ = answer.send(Ok(place));
    }
}

/// Answers a batch that was not committed; passes the error on if the log has failed.
fn refuse(answers: Answers, error: WriteError) -> Result<(), WriteError> {
    for answer in answers {
        let _ = answer.send(Err(match &error {
            WriteError::Full => AppendError::Full,
            WriteError::Closed => AppendError::Closed,
            WriteError::Failed(cause) => {
                AppendError::Unknown(io::Error::new(cause.kind(), cause.to_string()))
            }
        }));
    }
    match error {
        WriteError::Full => Ok(()),
        error => {
            report(&error);
            Err(error)
        }
    }
}

fn report(error: &WriteError) {
    tracing::error!(error = error as &dyn std::error::Error, "the log has failed and takes nothing more");
}

/// Makes the next segment while the last one is being written, so that beginning it costs a commit nothing.
struct Preparer<D: Disk> {
    /// `None` once it is told to end.
    plans: Option<Sender<SegmentPlan<D>>>,
    thread: Option<JoinHandle<()>>,
    made: Receiver<Result<Prepared<D::File>, PrepareError>>,
    /// The segment asked for last. Asked once: if that fails, the log makes it when it needs it, and says why not.
    asked: Option<Place>,
    waiting: bool,
}

impl<D: Disk> Preparer<D> {
    fn start() -> io::Result<Self> {
        let (plans, requests) = mpsc::channel::<SegmentPlan<D>>();
        let (results, made) = mpsc::channel();
        let work = move || {
            for plan in requests {
                if results.send(plan.prepare()).is_err() {
                    break;
                }
            }
        };
        let thread = Some(thread::Builder::new().name("log-prepare".into()).spawn(work)?);
        Ok(Self { plans: Some(plans), thread, made, asked: None, waiting: false })
    }

    /// Asks for the segment behind the one that is being written.
    fn request(&mut self, log: &SegmentLog<D>) {
        let Some(plan) = log.plan_next() else { return };
        if self.asked != Some(plan.base) {
            self.asked = Some(plan.base);
            self.waiting = self.plans.as_ref().is_some_and(|plans| plans.send(plan).is_ok());
        }
    }

    /// Hands over the segment if it is made. Waits for it if the batch needs it.
    fn collect(&mut self, log: &mut SegmentLog<D>, batch_bytes: usize) {
        if !self.waiting {
            return;
        }
        let made =
            if log.needs_next(batch_bytes) { self.made.recv().ok() } else { self.made.try_recv().ok() };
        if let Some(made) = made {
            self.waiting = false;
            if let Ok(segment) = made {
                log.install(segment);
            }
        }
    }
}

/// Nothing of this log may touch its files any more when it is opened again.
impl<D: Disk> Drop for Preparer<D> {
    fn drop(&mut self) {
        self.plans = None;
        // A panic there has been reported by the runtime and made no segment; the log makes it itself.
        self.thread.take().map(JoinHandle::join);
    }
}
