//! The service as a whole: its parts, how they start, and how a command reaches its conversation's writer.

use std::sync::{Arc, RwLock};

use tidings_core::{Answer, Command, CommandKind, Tail, shard_of, slot_of};
use tidings_ports::{Clock, Directory, Rng, ShardLog, Tables, Tasks};
use tidings_types::{
    ConversationId, ConversationKey, Entry, Epoch, Limits, MessageId, Refusal, ShardId, Timestamp, UserId,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::StartError;
use crate::checkpoint::Checkpointer;
use crate::devices_follower::DevicesFollower;
use crate::error::{overloaded, stopping};
use crate::personal_follower::PersonalFollower;
use crate::recipients::RecipientSend;
use crate::recovery::recover;
use crate::shard::{Request, ShardTask, ToShard};

/// The outside, as the service sees it.
#[derive(Clone)]
pub struct Ports {
    pub log: Arc<dyn ShardLog>,
    pub tables: Arc<dyn Tables>,
    pub directory: Arc<dyn Directory>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub tasks: Arc<dyn Tasks>,
}

#[derive(Clone, Debug)]
pub struct ServiceConfig {
    pub limits: Arc<Limits>,
    pub shards: u16,
    /// `slots_seed` of the data: it moves with it.
    pub slots_seed: u64,
    pub incarnation: Epoch,
    /// A checkpoint begins when a shard's tail has this many bytes …
    pub checkpoint_bytes: usize,
    /// … or its oldest entry is this old.
    pub checkpoint_age_ms: u64,
}

/// Gets every released entry, in the order of its conversation, to the links that watch it. Called on the shard's own
/// task, so it must not block; an entry that it drops is found in the log again.
pub trait Fanout: Send + Sync {
    fn deliver(&self, entries: &[Arc<Entry>]);
}

/// Where answers of a link go. Never blocks.
pub trait LinkSink: Send + Sync {
    fn reply(&self, to: LinkReply, answer: Answer);
}

/// What a link asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkReply {
    Send { ref_: u32, conversation: ConversationId, message_id: MessageId },
    Open { conversation: ConversationId },
}

/// Who waits for an answer.
pub enum ReplyTo {
    Caller(oneshot::Sender<Answer>),
    Link { sink: Arc<dyn LinkSink>, reply: LinkReply },
}

impl ReplyTo {
    pub fn answer(self, answer: Answer) {
        match self {
            // A caller that went away does not want to know.
            Self::Caller(sender) => drop(sender.send(answer)),
            Self::Link { sink, reply } => sink.reply(reply, answer),
        }
    }
}

pub struct Service {
    pub(crate) config: ServiceConfig,
    pub(crate) ports: Ports,
    pub(crate) shards: Vec<ShardHandle>,
    checkpoint: Arc<Checkpointer>,
    devices_changed: Arc<Notify>,
    to_recipients: mpsc::Sender<RecipientSend>,
}

/// One shard as the rest of the process sees it.
pub(crate) struct ShardHandle {
    pub(crate) mailbox: mpsc::Sender<Request>,
    pub(crate) control: mpsc::UnboundedSender<ToShard>,
    pub(crate) tail: Arc<RwLock<Tail>>,
}

impl Service {
    /// Brings the tables up to the log and starts the tasks, which take every shard over as soon as the log has room.
    /// `on_fatal` is called when the log has failed so that only a restart of the process helps; after that every
    /// command is answered `unavailable`.
    ///
    /// # Errors
    /// When the log or the tables cannot be read: nothing was changed then.
    pub async fn start(
        config: ServiceConfig,
        ports: Ports,
        fanout: Arc<dyn Fanout>,
        on_fatal: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Result<Arc<Self>, StartError> {
        let full = Arc::new(Notify::new());
        let mut shards = Vec::new();
        let mut tasks = Vec::new();
        for shard in (0..config.shards).map(ShardId) {
            let position = recover(&ports, shard, config.incarnation, |_| ()).await?;
            let (handle, task) =
                ShardTask::new(shard, &config, &ports, fanout.clone(), full.clone(), on_fatal.clone());
            shards.push(handle);
            tasks.push((task, position));
        }
        for (task, position) in tasks {
            ports.tasks.spawn(Box::pin(task.run(position)));
        }
        let controls = shards.iter().map(|shard| shard.control.clone()).collect();
        let checkpoint = Arc::new(Checkpointer::new(&config, &ports, controls, full, on_fatal));
        ports.tasks.spawn(Box::pin(checkpoint.clone().run()));
        let (to_recipients, sends) = mpsc::channel(config.limits.mailbox_commands_max);
        let devices_changed = Arc::new(Notify::new());
        let service = Arc::new(Self { config, ports, shards, checkpoint, devices_changed, to_recipients });
        service.ports.tasks.spawn(Box::pin(service.clone().check_recipients(sends)));
        service.start_followers();
        Ok(service)
    }

    fn start_followers(self: &Arc<Self>) {
        for shard in (0..self.config.shards).map(ShardId) {
            let follower = PersonalFollower::new(self.clone(), shard);
            self.ports.tasks.spawn(Box::pin(follower.run()));
        }
        let follower = DevicesFollower::new(self.clone(), self.devices_changed.clone());
        self.ports.tasks.spawn(Box::pin(follower.run()));
    }

    /// Makes everything in the log durable in the tables; for a clean stop.
    pub async fn checkpoint(&self) -> Result<(), StartError> {
        Ok(self.checkpoint.checkpoint().await?)
    }

    /// A device was removed: its user's other devices are told.
    pub fn on_device_removed(&self) {
        self.devices_changed.notify_one();
    }

    /// Accounts of all spaces.
    pub async fn count_accounts(&self) -> Result<u64, Refusal> {
        self.ports.directory.count_accounts().await.map_err(|error| crate::error::from_directory(&error))
    }

    #[must_use]
    pub fn limits(&self) -> &Arc<Limits> {
        &self.config.limits
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Milliseconds since some fixed moment; never runs back.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        self.ports.clock.monotonic_ms()
    }

    pub async fn sleep_ms(&self, ms: u64) {
        self.ports.clock.sleep_ms(ms).await;
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn shard(&self, conversation: ConversationId) -> &ShardHandle {
        let shard = shard_of(slot_of(conversation, self.config.slots_seed), self.config.shards);
        &self.shards[usize::from(shard.0)]
    }

    /// Brings a command to its conversation's writer. The answer comes when everything it rests on is durable. A full
    /// mailbox answers `overloaded` at once, that of a stopped shard `unavailable`.
    pub fn submit(&self, command: Command, reply: ReplyTo) {
        let request = Request { command, reply };
        let (request, refusal) = match self.shard(request.command.key.conversation).mailbox.try_send(request)
        {
            Ok(()) => return,
            Err(TrySendError::Full(request)) => {
                (request, overloaded("too many commands wait for this shard"))
            }
            Err(TrySendError::Closed(request)) => (request, stopping()),
        };
        request.reply.answer(Answer::Refused(refusal));
    }

    pub(crate) fn send_to_recipient(&self, send: RecipientSend) {
        if let Err(error) = self.to_recipients.try_send(send) {
            error.into_inner().refuse(overloaded("too many sends wait for the directory"));
        }
    }

    /// As [`Service::submit`], for a caller that waits.
    pub async fn ask(&self, command: Command) -> Answer {
        let (sender, receiver) = oneshot::channel();
        self.submit(command, ReplyTo::Caller(sender));
        receiver.await.unwrap_or_else(|_| Answer::Refused(stopping()))
    }

    /// Asks for a conversation's facts as of now, for a link that watches it already.
    pub fn open(&self, key: ConversationKey, actor: UserId, sink: Arc<dyn LinkSink>) {
        let reply = ReplyTo::Link { sink, reply: LinkReply::Open { conversation: key.conversation } };
        self.submit(Command { key, actor, kind: CommandKind::Open }, reply);
    }
}

/// An answer that can only be a refusal here.
pub(crate) fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(refusal) => refusal,
        other => unreachable!("{other:?} answers another command"),
    }
}
