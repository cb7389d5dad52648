//! A service that can be stopped at any point, and what outlives it.

mod faulty_log;
mod slow_directory;
mod yielding_tables;

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidings_core::{Answer, SendTarget};
use tidings_ports::memory::{MemoryDirectory, MemoryTables, SeededRng};
use tidings_ports::{BoxFuture, Clock, Directory, NewAccount, Session, Tables, Tasks};
use tidings_service::{Fanout, LinkReply, LinkSend, LinkSink, Ports, Service, ServiceConfig};
use tidings_types::{
    Content, ConversationId, DeviceId, Entry, Epoch, Limits, MessageId, Place, Refusal, Seq, SessionId,
    ShardId, SpaceId, Timestamp, UserId,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub(crate) use faulty_log::{Fault, FaultyLog};
use slow_directory::SlowDirectory;
use yielding_tables::YieldingTables;

/// Virtual time: far above anything that is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3_600);
const START_MS: u64 = 1_790_000_000_000;

/// What a process leaves behind, and the settings with which the next one starts.
pub(crate) struct World {
    pub(crate) log: FaultyLog,
    pub(crate) tables: Arc<MemoryTables>,
    pub(crate) directory: Arc<MemoryDirectory>,
    pub(crate) config: ServiceConfig,
    pub(crate) rng: Arc<SeededRng>,
    /// Tables and directory give way to other tasks a random number of times.
    pub(crate) yielding: bool,
    /// So many positions of followers the directory does not take.
    pub(crate) commits_refused: Arc<AtomicUsize>,
    began: Instant,
    ids: AtomicU64,
}

/// One process.
pub(crate) struct Running {
    pub(crate) service: Arc<Service>,
    pub(crate) delivered: Arc<Delivered>,
    /// What `on_fatal` was told.
    pub(crate) fatal: Arc<Mutex<Vec<String>>>,
    tasks: Arc<StoppableTasks>,
}

impl World {
    pub(crate) fn new(shards: u16) -> Self {
        Self::with(shards, Limits::default())
    }

    /// No checkpoint happens by itself unless a test sets other bounds.
    pub(crate) fn with(shards: u16, limits: Limits) -> Self {
        let config = ServiceConfig {
            limits: Arc::new(limits),
            shards,
            slots_seed: 7,
            incarnation: Epoch(1),
            checkpoint_bytes: usize::MAX,
            checkpoint_age_ms: 1_000_000_000,
        };
        Self {
            log: FaultyLog::new(shards),
            tables: Arc::new(MemoryTables::new(shards)),
            directory: Arc::new(MemoryDirectory::new()),
            config,
            rng: Arc::new(SeededRng::new(1)),
            yielding: false,
            commits_refused: Arc::default(),
            began: Instant::now(),
            ids: AtomicU64::new(0),
        }
    }

    pub(crate) async fn start(&self) -> Running {
        let tasks = Arc::new(StoppableTasks::default());
        let tables: Arc<dyn Tables> = if self.yielding {
            Arc::new(YieldingTables { tables: self.tables.clone(), rng: self.rng.clone() })
        } else {
            self.tables.clone()
        };
        let directory: Arc<dyn Directory> = Arc::new(SlowDirectory {
            directory: self.directory.clone(),
            rng: self.rng.clone(),
            yielding: self.yielding,
            commits_refused: self.commits_refused.clone(),
        });
        let ports = Ports {
            log: Arc::new(self.log.clone()),
            tables,
            directory,
            clock: Arc::new(PausedClock(self.began)),
            rng: self.rng.clone(),
            tasks: tasks.clone(),
        };
        let (delivered, fatal) = (Arc::new(Delivered::default()), Arc::new(Mutex::new(Vec::new())));
        let told = fatal.clone();
        let on_fatal = Arc::new(move |reason| told.lock().unwrap().push(reason));
        let service = Service::start(self.config.clone(), ports, delivered.clone(), on_fatal).await.unwrap();
        Running { service, delivered, fatal, tasks }
    }

    /// The machine crashes: the tables lose any of what was not durable.
    pub(crate) fn crash_tables(&mut self) {
        self.tables = Arc::new(self.tables.crash(|| self.rng.one_in(2)));
    }

    /// A user with an account.
    pub(crate) async fn person(&self, n: u16) -> Session {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        id[15] = 1;
        let account = NewAccount {
            user: UserId::from_bytes(id),
            space: SpaceId::DEFAULT,
            username: format!("user{n}"),
            display_name: String::new(),
            password_hash: String::new(),
            created_at: self.now(),
        };
        let user = account.user;
        self.directory.create_account(account).await.unwrap();
        let (session, device) = (SessionId::from_bytes(id), DeviceId::from_bytes(id));
        Session { session, user, space: SpaceId::DEFAULT, device }
    }

    /// The place below which the tables have everything for good.
    pub(crate) fn tables_position(&self, shard: ShardId) -> Place {
        self.tables.durable_position(shard).place
    }

    pub(crate) fn now(&self) -> Timestamp {
        PausedClock(self.began).now()
    }

    pub(crate) fn message_id(&self) -> MessageId {
        MessageId::v7(self.now(), self.random())
    }

    pub(crate) fn conversation_id(&self) -> ConversationId {
        ConversationId::v7(self.now(), self.random())
    }

    fn random(&self) -> [u8; 10] {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.ids.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        random
    }
}

impl Running {
    pub(crate) async fn group(&self, world: &World, owner: &Session, members: &[&Session]) -> ConversationId {
        let id = world.conversation_id();
        let members = members.iter().map(|member| member.user).collect();
        self.service.create_group(owner, id, None, members).await.unwrap();
        id
    }

    pub(crate) async fn send(
        &self,
        sender: &Session,
        conversation: ConversationId,
        id: MessageId,
        text: &str,
    ) -> Result<Seq, Refusal> {
        let target = SendTarget::Conversation(conversation);
        let (_, seq, _) = self.service.send(sender, target, id, Content::Text(text.into()), None).await?;
        Ok(seq)
    }

    /// A send of a link; resolves with the refusal it is answered with.
    pub(crate) fn send_from_link(
        &self,
        sender: &Session,
        conversation: ConversationId,
        message_id: MessageId,
    ) -> oneshot::Receiver<Refusal> {
        let (answered, answer) = oneshot::channel();
        let send = LinkSend { ref_: 1, message_id, content: Content::Text("text".into()), reply_to: None };
        let sink = Arc::new(RefusalSink(Mutex::new(Some(answered))));
        self.service.send_from_link(sender, SendTarget::Conversation(conversation), send, sink);
        answer
    }

    /// Everything of a conversation, page by page.
    pub(crate) async fn all(&self, session: &Session, conversation: ConversationId) -> Vec<Arc<Entry>> {
        let mut all: Vec<Arc<Entry>> = Vec::new();
        loop {
            let after = all.last().map_or(Seq::ZERO, |entry| entry.seq);
            let page =
                self.service.entries_page(session, conversation, Some(after), None, 100).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    }

    /// Every task ends where it waits, as in a crash of the process.
    pub(crate) async fn stop(self) {
        self.tasks.stop().await;
    }

    #[track_caller]
    pub(crate) fn assert_healthy(&self) {
        assert_eq!(*self.fatal.lock().unwrap(), [""; 0]);
    }
}

/// Asks again until the answer is the wanted one: for what another task brings about.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut asked: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = asked().await {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await; // virtual time: lets every other task work first
    }
}

/// Fails instead of waiting for ever.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

/// The entries whose seqs are not `first, first + 1, …`.
#[track_caller]
pub(crate) fn assert_contiguous(entries: &[Arc<Entry>], first: u64) {
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq.0).collect();
    assert!(seqs.iter().copied().eq(first..first + seqs.len() as u64), "{seqs:?} from {first}");
}

/// What the links were told.
#[derive(Default)]
pub(crate) struct Delivered {
    entries: Mutex<Vec<Arc<Entry>>>,
    panics: AtomicBool,
}

impl Delivered {
    pub(crate) fn panic_at_next(&self) {
        self.panics.store(true, Ordering::SeqCst);
    }

    pub(crate) fn seqs(&self, conversation: ConversationId) -> HashSet<Seq> {
        let entries = self.entries.lock().unwrap();
        entries.iter().filter(|entry| entry.conversation == conversation).map(|entry| entry.seq).collect()
    }
}

impl Fanout for Delivered {
    fn deliver(&self, entries: &[Arc<Entry>]) {
        assert!(!self.panics.load(Ordering::SeqCst), "as planned");
        self.entries.lock().unwrap().extend_from_slice(entries);
    }
}

/// A link that can only be refused.
struct RefusalSink(Mutex<Option<oneshot::Sender<Refusal>>>);

impl LinkSink for RefusalSink {
    fn reply(&self, _to: LinkReply, answer: Answer) {
        let Answer::Refused(refusal) = answer else { panic!("{answer:?} is no refusal") };
        let sender = self.0.lock().unwrap().take().expect("one answer");
        drop(sender.send(refusal));
    }
}

/// tokio's paused clock.
pub(crate) struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(START_MS + self.monotonic_ms())
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn sleep_ms(&self, ms: u64) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(ms))) // virtual time
    }
}

#[derive(Default)]
struct StoppableTasks(Mutex<Vec<JoinHandle<()>>>);

impl StoppableTasks {
    async fn stop(&self) {
        loop {
            let tasks = std::mem::take(&mut *self.0.lock().unwrap());
            if tasks.is_empty() {
                return;
            }
            tasks.iter().for_each(JoinHandle::abort);
            for task in tasks {
                let ended = task.await;
                assert!(ended.is_ok() || ended.is_err_and(|error| error.is_cancelled()), "a task panicked");
            }
        }
    }
}

impl Tasks for StoppableTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.lock().unwrap().push(tokio::spawn(task));
    }

    fn spawn_blocking(&self, _work: Box<dyn FnOnce() + Send>) {
        panic!("nothing here blocks");
    }
}

/// Where a follower is.
pub(crate) async fn followed(world: &World, follower: &str) -> u64 {
    world.directory.follower_position(follower).await.unwrap().unwrap_or_default().place.0
}
