//! A whole server in this process, on a free port, over the adapters in memory; and a plain HTTP client for it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_gateway::{Gateway, GatewayConfig, Hub, http::router, serve};
use tidings_ports::memory::{MemoryDirectory, MemoryLog, MemoryTables, SeededRng};
use tidings_ports::{BoxFuture, Clock, Directory, Tasks};
use tidings_service::{
    Accounts, AccountsConfig, AccountsHooks, AccountsKeys, AccountsPorts, HashingCost, Ports, Registration,
    Service, ServiceConfig,
};
use tidings_types::{Code, ConversationId, Epoch, Limits, MessageId, Timestamp, UserId};
use tidings_wire::rest::{Problem, Refresh, SignUp, Tokens};
use tokio::net::TcpListener;

pub(crate) const PASSWORD: &str = "correct horse battery";
const SHARDS: u16 = 2;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) clock: Arc<ShiftedClock>,
    pub(crate) log: MemoryLog,
    http: Client,
    ids: AtomicU64,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::on(limits, Arc::new(MemoryDirectory::new())).await
    }

    pub(crate) async fn on(limits: Limits, directory: Arc<dyn Directory>) -> Self {
        let clock = Arc::new(ShiftedClock { start: Instant::now(), shift_ms: AtomicU64::new(0) });
        let log = MemoryLog::new(SHARDS);
        let ports = Ports {
            log: Arc::new(log.clone()),
            tables: Arc::new(MemoryTables::new(SHARDS)),
            directory,
            clock: clock.clone(),
            rng: Arc::new(SeededRng::new(1)),
            tasks: Arc::new(TokioTasks),
        };
        let hub = Arc::new(Hub::new(limits.inbox_entries_max));
        let service = service(limits, ports.clone(), hub.clone()).await;
        let accounts = accounts(ports, hub.clone(), service.clone());
        let gateway = Gateway::new(service, accounts, hub, GatewayConfig::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router(gateway), std::future::pending()));
        Self { address, clock, log, http: Client::new(), ids: AtomicU64::new(1) }
    }

    pub(crate) async fn sign_up(&self, username: &str) -> Person<'_> {
        let body = SignUp {
            username: username.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: None,
            device_id: None,
            device_name: Some("laptop".to_owned()),
        };
        let tokens: Tokens = self.request(Method::POST, "/v1/accounts").json(&body).await.json(201);
        self.person(tokens)
    }

    /// The same device with fresh tokens: time has passed.
    pub(crate) async fn sign_in_again(&self, person: &Person<'_>) -> Person<'_> {
        let body = Refresh { refresh_token: person.tokens.refresh_token.clone() };
        let tokens = self.request(Method::POST, "/v1/sessions/refresh").json(&body).await.json(200);
        self.person(tokens)
    }

    pub(crate) fn person(&self, tokens: Tokens) -> Person<'_> {
        Person { server: self, tokens }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        Request(self.http.request(method, format!("http://{}{path}", self.address)))
    }

    pub(crate) fn message_id(&self) -> MessageId {
        MessageId::v7(self.clock.now(), self.random())
    }

    pub(crate) fn conversation_id(&self) -> ConversationId {
        ConversationId::v7(self.clock.now(), self.random())
    }

    fn random(&self) -> [u8; 10] {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.ids.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        random
    }
}

async fn service(limits: Limits, ports: Ports, hub: Arc<Hub>) -> Arc<Service> {
    let config = ServiceConfig {
        limits: Arc::new(limits),
        shards: SHARDS,
        slots_seed: 7,
        incarnation: Epoch(1),
        checkpoint_bytes: 64 * 1024,
        checkpoint_age_ms: 1_000,
    };
    Service::start(config, ports, hub, Arc::new(|reason| panic!("{reason}"))).await.unwrap()
}

/// Hashing as cheap as argon2 allows.
fn accounts(ports: Ports, hub: Arc<Hub>, service: Arc<Service>) -> Arc<Accounts> {
    let config = AccountsConfig {
        registration: Registration::Open,
        hashing_cost: HashingCost { memory_kib: 8, passes: 1, lanes: 1 },
        devices_max: service.limits().devices_per_user_max,
        ..AccountsConfig::default()
    };
    let Ports { directory, clock, rng, tasks, .. } = ports;
    let ports = AccountsPorts { directory, clock, rng, tasks };
    let keys = AccountsKeys { access_seed: [1; 32], refresh_key: [2; 32] };
    let hooks = AccountsHooks {
        session_ended: Arc::new(move |session| hub.end_session(session)),
        device_removed: Arc::new(move || service.on_device_removed()),
    };
    Arc::new(Accounts::new(config, &keys, ports, hooks).unwrap())
}

/// A signed-in device.
pub(crate) struct Person<'a> {
    pub(crate) server: &'a Server,
    pub(crate) tokens: Tokens,
}

impl Person<'_> {
    pub(crate) fn id(&self) -> UserId {
        self.tokens.user.user_id
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Answer {
        self.request(Method::POST, path).json(body).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Request {
        self.server.request(method, path).bearer(&self.tokens.access_token)
    }
}

pub(crate) struct Request(reqwest::RequestBuilder);

impl Request {
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {token}"))
    }

    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    pub(crate) async fn json(self, body: &impl Serialize) -> Answer {
        self.text(&serde_json::to_string(body).unwrap()).await
    }

    pub(crate) async fn text(self, json: &str) -> Answer {
        Self(self.0.header(CONTENT_TYPE, "application/json").body(json.to_owned())).send().await
    }

    pub(crate) async fn body(self, body: &str) -> Answer {
        Self(self.0.body(body.to_owned())).send().await
    }

    pub(crate) async fn send(self) -> Answer {
        let response =
            tokio::time::timeout(DEADLINE, self.0.send()).await.expect("an answer in time").unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Answer { status, headers, text: response.text().await.unwrap() };
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        answer
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// Empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(crate) fn json<T: DeserializeOwned>(&self, status: u16) -> T {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    pub(crate) fn done(&self) {
        assert_eq!((self.status, self.text.as_str()), (204, ""));
    }

    /// The problem document, checked against its own headers.
    #[track_caller]
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), Problem::MEDIA_TYPE, "{}: {}", self.status, self.text);
        let problem: Problem = serde_json::from_str(&self.text).unwrap();
        assert_eq!(problem.status, self.status, "{}", self.text);
        assert_eq!(problem.type_uri, format!("urn:tidings:code:{}", problem.code));
        assert!(!problem.detail.is_empty());
        assert_eq!(!self.header("www-authenticate").is_empty(), self.status == 401);
        let retry_after = problem.retry_after_ms.map_or(String::new(), |ms| ms.div_ceil(1_000).to_string());
        assert_eq!(self.header("retry-after"), retry_after);
        problem
    }

    #[track_caller]
    pub(crate) fn refused(&self, code: Code, status: u16) {
        assert_eq!((self.problem().code, self.status), (code, status), "{}", self.text);
    }
}

/// Asks again until the answer is the wanted one: for what a follower brings about.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut asked: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = asked().await {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await; // poll interval
    }
}

const DEADLINE: Duration = Duration::from_secs(20);

/// Time as it passes, and what a test adds to it.
pub(crate) struct ShiftedClock {
    start: Instant,
    shift_ms: AtomicU64,
}

impl ShiftedClock {
    pub(crate) fn advance(&self, ms: u64) {
        self.shift_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        Timestamp::from_ms(u64::try_from(since).unwrap()).plus_ms(self.shift_ms.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap() + self.shift_ms.load(Ordering::SeqCst)
    }

    fn sleep_ms(&self, ms: u64) -> BoxFuture<'static, ()> {
        let over = tokio::time::Instant::now() + Duration::from_millis(ms);
        Box::pin(async move { tokio::time::sleep_until(over).await }) // poll interval
    }
}

struct TokioTasks;

impl Tasks for TokioTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }
}
