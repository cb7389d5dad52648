//! The task around one shard's writer. It only carries: commands and answers in and out, records to the log, released
//! entries to the tail and the links. Every decision is the writer's.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tidings_core::{
    Answer, Append, BatchNumber, Command, CommandKind, Fact, FactKey, Input, Output, ReadNumber, Released,
    ShardWriter, Tail, Ticket, WriterConfig, decide, needs,
};
use tidings_ports::{AppendError, BoxFuture, Draft, RecordKind};
use tidings_types::{Entry, Fence, Limits, LogPosition, Place, RecordNumber, Refusal, ShardId};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::StartError;
use crate::error::{stopping, storage_full};
use crate::facts::{ReadFacts, read_facts};
use crate::recovery::recover;
use crate::service::{Fanout, Ports, ReplyTo, ServiceConfig, ShardHandle};

/// Commands taken from the mailbox at once.
const COMMANDS_PER_TURN: usize = 256;

pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: ReplyTo,
}

/// What other tasks tell a shard. Bounded by what the shard itself asked for.
pub(crate) enum ToShard {
    Facts { read: ReadNumber, facts: Result<Vec<(FactKey, Fact)>, Refusal> },
    Snapshot(oneshot::Sender<Snapshot>),
    Projected(BatchNumber),
}

/// What a checkpoint takes from a shard.
pub(crate) struct Snapshot {
    pub(crate) shard: ShardId,
    pub(crate) entries: Vec<Arc<Entry>>,
    /// The last batch in `entries`.
    pub(crate) upto: Option<BatchNumber>,
    /// Where a reader that has these entries goes on.
    pub(crate) position: LogPosition,
}

pub(crate) struct ShardTask {
    shard: ShardId,
    ports: Ports,
    config: ServiceConfig,
    fanout: Arc<dyn Fanout>,
    /// Tells the checkpointer that the tail is large.
    tail_is_large: Arc<Notify>,
    on_fatal: Arc<dyn Fn(String) + Send + Sync>,
    mailbox: mpsc::Receiver<Request>,
    control: mpsc::UnboundedReceiver<ToShard>,
    /// For the tasks that read facts.
    control_sender: mpsc::UnboundedSender<ToShard>,
    tail: Arc<RwLock<Tail>>,
    writer: ShardWriter,
    replies: HashMap<Ticket, ReplyTo>,
    next_ticket: Ticket,
    appends: FuturesOrdered<BoxFuture<'static, (Sent, Result<Place, AppendError>)>>,
    /// The last record that is durable, as a position from which it would be read again.
    last_record: LogPosition,
    /// The record a reader has accepted when it has everything durable.
    accepted: (Fence, RecordNumber),
}

#[derive(Clone, Copy)]
struct Sent {
    batch: BatchNumber,
    fence: Fence,
    number: RecordNumber,
}

impl ShardTask {
    pub(crate) fn new(
        shard: ShardId,
        config: &ServiceConfig,
        ports: &Ports,
        fanout: Arc<dyn Fanout>,
        tail_is_large: Arc<Notify>,
        on_fatal: Arc<dyn Fn(String) + Send + Sync>,
    ) -> (ShardHandle, Self) {
        let (mailbox_sender, mailbox) = mpsc::channel(config.limits.mailbox_commands_max);
        let (control_sender, control) = mpsc::unbounded_channel();
        let tail = Arc::new(RwLock::new(Tail::new(config.slots_seed)));
        let writer = ShardWriter::new(WriterConfig {
            limits: Limits::clone(&config.limits),
            seed: config.slots_seed,
            incarnation: config.incarnation,
        });
        let handle =
            ShardHandle { mailbox: mailbox_sender, control: control_sender.clone(), tail: tail.clone() };
        let task = Self {
            shard,
            ports: ports.clone(),
            config: config.clone(),
            fanout,
            tail_is_large,
            on_fatal,
            mailbox,
            control,
            control_sender,
            tail,
            writer,
            replies: HashMap::new(),
            next_ticket: Ticket(1),
            appends: FuturesOrdered::new(),
            last_record: LogPosition::default(),
            accepted: (Fence::default(), RecordNumber::default()),
        };
        (handle, task)
    }

    /// Runs until the service is dropped or the log has failed for good. The tables are at `position`, the log's end.
    pub(crate) async fn run(mut self, position: LogPosition) {
        self.last_record = position;
        if let Err(error) = self.take_over().await {
            return self.fatal(&error);
        }
        let mut commands = Vec::with_capacity(COMMANDS_PER_TURN);
        loop {
            tokio::select! {
                biased;
                Some((sent, result)) = self.appends.next(), if !self.appends.is_empty() => {
                    self.on_append_result(sent, result);
                }
                Some(message) = self.control.recv() => self.on_control(message),
                taken = self.mailbox.recv_many(&mut commands, COMMANDS_PER_TURN) => {
                    if taken == 0 {
                        return;
                    }
                    commands.drain(..).for_each(|request| self.on_request(request));
                }
            }
            if let Err(error) = self.drain().await {
                return self.fatal(&error);
            }
        }
    }

    /// Nobody is left waiting for an answer that cannot come.
    fn fatal(mut self, error: &StartError) {
        tracing::error!(
            shard = self.shard.0,
            error = error as &dyn std::error::Error,
            "the shard has stopped"
        );
        (self.on_fatal)(format!("shard {} has stopped: {}", self.shard, chain(error)));
        self.mailbox.close();
        let mut waiting: Vec<ReplyTo> = std::mem::take(&mut self.replies).into_values().collect();
        while let Ok(request) = self.mailbox.try_recv() {
            waiting.push(request.reply);
        }
        waiting.into_iter().for_each(|reply| reply.answer(Answer::Refused(stopping())));
    }

    fn handle(&mut self, input: Input) {
        let now = self.ports.clock.now();
        self.writer.handle(now, input);
    }

    fn on_request(&mut self, Request { command, reply }: Request) {
        let ticket = self.next_ticket;
        self.next_ticket = Ticket(ticket.0 + 1);
        self.replies.insert(ticket, reply);
        self.handle(Input::Command(ticket, command));
    }

    fn on_control(&mut self, message: ToShard) {
        match message {
            ToShard::Facts { read, facts: Ok(facts) } => self.handle(Input::Facts { read, facts }),
            ToShard::Facts { read, facts: Err(refusal) } => self.handle(Input::FactsFailed { read, refusal }),
            // The checkpointer that asked may have been stopped.
            ToShard::Snapshot(sender) => drop(sender.send(self.snapshot())),
            ToShard::Projected(batch) => {
                self.tail.write().expect("no holder of the tail panics").drop_upto(batch);
                self.handle(Input::Projected(batch));
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let (upto, entries) = self.tail.read().expect("no holder of the tail panics").snapshot();
        // With no append on its way, everything of this shard below the log's end is in the tail or in the tables.
        let position = if self.appends.is_empty() {
            let (fence, number) = self.accepted;
            LogPosition { place: self.ports.log.end(self.shard), fence, number }
        } else {
            self.last_record
        };
        Snapshot { shard: self.shard, entries, upto, position }
    }

    fn on_append_result(&mut self, sent: Sent, result: Result<Place, AppendError>) {
        match result {
            Ok(place) => {
                self.last_record =
                    LogPosition { place, fence: sent.fence, number: RecordNumber(sent.number.0 - 1) };
                self.accepted = (sent.fence, sent.number);
                self.handle(Input::Appended { batch: sent.batch, place });
            }
            Err(error) => {
                tracing::warn!(shard = self.shard.0, error = &error as &dyn std::error::Error, "append");
                let refusal = matches!(error, AppendError::Full).then(storage_full);
                self.handle(Input::AppendFailed { batch: sent.batch, refusal });
            }
        }
    }

    /// Carries out everything the writer wants.
    async fn drain(&mut self) -> Result<(), StartError> {
        let mut released = Vec::new();
        while let Some(output) = self.writer.poll() {
            match output {
                Output::Append(append) => self.append(append),
                Output::Read { read, keys } => self.read(read, keys),
                Output::Release(item) => released.push(item),
                Output::TakeOver => {
                    self.release(std::mem::take(&mut released));
                    self.take_over().await?;
                }
            }
        }
        self.release(released);
        Ok(())
    }

    fn append(&mut self, append: Append) {
        let Append { batch, fence, number, entries } = append;
        let payload = tidings_record::encode_entries(entries.iter().map(AsRef::as_ref));
        let draft = Draft { kind: RecordKind::Entries, fence, number, payload };
        let result = self.ports.log.append(self.shard, draft);
        let sent = Sent { batch, fence, number };
        self.appends.push_back(Box::pin(async move { (sent, result.await) }));
    }

    fn read(&self, read: ReadNumber, keys: Vec<FactKey>) {
        let (tables, control) = (self.ports.tables.clone(), self.control_sender.clone());
        let ahead_ms = self.config.limits.id_ahead_ms_max;
        self.ports.tasks.spawn(Box::pin(async move {
            let facts = read_facts(&*tables, keys, ahead_ms).await;
            // The shard is gone only when the process stops.
            drop(control.send(ToShard::Facts { read, facts }));
        }));
    }

    /// First the tail, so that whoever hears of an entry finds it; then those who wait.
    fn release(&mut self, released: Vec<Released>) {
        let mut entries = Vec::new();
        let mut tail = self.tail.write().expect("no holder of the tail panics");
        for item in &released {
            if let Released::Entry { batch, entry, head } = item {
                tail.push(*batch, entry.clone(), head.clone());
                entries.push(entry.clone());
            }
        }
        if tail.bytes() >= self.config.checkpoint_bytes {
            self.tail_is_large.notify_one();
        }
        drop(tail);
        for item in released {
            if let Released::Answer(ticket, answer) = item {
                self.replies.remove(&ticket).expect("every ticket is answered once").answer(answer);
            }
        }
        if !entries.is_empty() {
            self.fanout.deliver(&entries);
        }
    }

    /// At the start and after a failed append: nothing more under the old fence; bring the tables up to what the log
    /// really has, then begin anew, as soon as there is room.
    async fn take_over(&mut self) -> Result<(), StartError> {
        // Answers to appends of the old fence say nothing any more.
        while self.appends.next().await.is_some() {}
        loop {
            self.recover().await?;
            match self.begin_fence().await {
                Err(StartError::Append(AppendError::Full)) => self.wait_for_room().await,
                done => return done,
            }
        }
    }

    /// Afterwards the tables have everything, and the tail nothing that they lack.
    async fn recover(&mut self) -> Result<(), StartError> {
        let Self { ports, shard, config, fanout, .. } = self;
        // Of a record whose append had no known outcome nobody has heard yet.
        let position = recover(ports, *shard, config.incarnation, |entries| fanout.deliver(entries)).await?;
        self.last_record = position;
        self.accepted = (position.fence, position.number);
        *self.tail.write().expect("no holder of the tail panics") = Tail::new(self.config.slots_seed);
        Ok(())
    }

    async fn begin_fence(&mut self) -> Result<(), StartError> {
        let draft = Draft {
            kind: RecordKind::WriterChanged,
            fence: Fence::default(),
            number: RecordNumber(0),
            payload: Vec::new(),
        };
        let place = self.ports.log.append(self.shard, draft).await?;
        let fence = Fence(place.0);
        // A reader that begins at the record itself takes fence and number from it.
        self.last_record = LogPosition { place, fence, number: RecordNumber(0) };
        self.accepted = (fence, RecordNumber(0));
        let latest_at = self.ports.tables.latest_at(self.shard);
        self.handle(Input::TakenOver { fence, latest_at });
        Ok(())
    }

    /// Until the next attempt writers are told why they cannot write and readers read. Checkpoints go on: only they let
    /// the log be trimmed.
    async fn wait_for_room(&mut self) {
        const RETRY_AFTER_MS: u64 = 1_000;
        let mut retry = self.ports.clock.sleep_ms(RETRY_AFTER_MS);
        loop {
            tokio::select! {
                biased;
                () = &mut retry => return,
                Some(message) = self.control.recv() => self.on_control(message),
                Some(request) = self.mailbox.recv() => self.answer_without_log(request),
            }
        }
    }

    /// The tables have all of the log, so what needs no record is decided on them alone.
    fn answer_without_log(&self, Request { command, reply }: Request) {
        if command.kind != CommandKind::Open {
            return reply.answer(Answer::Refused(storage_full()));
        }
        let (tables, config, now) = (self.ports.tables.clone(), self.config.clone(), self.ports.clock.now());
        self.ports.tasks.spawn(Box::pin(async move {
            let mut keys = Vec::new();
            needs(&command, |key| keys.push(key));
            let facts = read_facts(&*tables, keys, config.limits.id_ahead_ms_max).await;
            reply.answer(match facts {
                Ok(facts) => {
                    decide(&ReadFacts(facts), now, config.incarnation, &config.limits, &command).answer
                }
                Err(refusal) => Answer::Refused(refusal),
            });
        }));
    }
}

/// A bug in one shard must not leave a process that looks alive and answers nothing.
impl Drop for ShardTask {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.on_fatal)(format!("shard {} has stopped: it panicked", self.shard));
        }
    }
}

/// The error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
