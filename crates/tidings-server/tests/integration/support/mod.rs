//! A server that can be stopped or dropped, people with devices, and their sockets.

mod socket;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::{Client, Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tidings_server::{Config, HashingConfig, Server, ServerError};
use tidings_types::{Code, ConversationId, MessageId, Seq, Timestamp, UserId};
use tidings_wire::rest::{
    AddMembers, Conversation, CreateConversation, Page, Problem, SendMessage, SignIn, SignUp, Tokens,
};
use tidings_wire::{Content, Entry, Target};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use socket::{Closed, Socket, entries, seqs, texts};

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A server on a runtime of its own, which ends with it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) config: Config,
    data: Arc<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<Result<(), ServerError>>,
    runtime: Option<Runtime>,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// Hashing as cheap as argon2 allows, small segments; else as shipped.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let data = Arc::new(TempDir::new().unwrap());
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: data.path().to_owned(),
            hashing: HashingConfig { memory_kib: 8, passes: 1, ..HashingConfig::default() },
            ..Config::default()
        };
        config.log.segment_bytes = 4 * 1024 * 1024;
        config.log.reserve_bytes = 0;
        change(&mut config);
        Self::on(data, config).await.unwrap()
    }

    async fn on(data: Arc<TempDir>, config: Config) -> Result<Self, ServerError> {
        let runtime = runtime();
        let server = match runtime.spawn(Server::start(config.clone())).await.unwrap() {
            Ok(server) => server,
            Err(error) => {
                end(runtime).await;
                return Err(error);
            }
        };
        let address = server.address();
        let (stop, stopped) = oneshot::channel::<()>();
        let ended = runtime.spawn(server.run(async { drop(stopped.await) }));
        Ok(Self { address, config, data, stop: Some(stop), ended, runtime: Some(runtime) })
    }

    /// Another start with the same settings beside this one, or behind it.
    pub(crate) async fn start_beside(&self, change: impl FnOnce(&mut Config)) -> Result<Self, ServerError> {
        let mut config = self.config.clone();
        change(&mut config);
        Self::on(self.data.clone(), config).await
    }

    /// Tells the server to stop and waits until it has.
    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        let ended = in_time("the server's end", &mut self.ended).await.unwrap();
        ended.unwrap();
        end(self.runtime.take().unwrap()).await;
    }

    /// Every task ends where it is.
    pub(crate) async fn crash(&mut self) {
        end(self.runtime.take().unwrap()).await;
    }

    pub(crate) async fn restart(mut self, how: Ending) -> Self {
        match how {
            Ending::Stop => self.stop().await,
            Ending::Crash => self.crash().await,
        }
        self.start_beside(|_| ()).await.unwrap()
    }

    /// A new person on a first device.
    pub(crate) async fn sign_up(&self, username: &str) -> Device {
        let body = SignUp {
            username: username.to_owned(),
            password: PASSWORD.to_owned(),
            display_name: None,
            device_id: None,
            device_name: None,
        };
        let request = self.request(Method::POST, "/v1/accounts");
        self.device(sent(request, &body).await.json().await.unwrap())
    }

    /// The same person on a new device.
    pub(crate) async fn sign_in(&self, username: &str, password: &str) -> Device {
        let body = SignIn {
            username: username.to_owned(),
            password: password.to_owned(),
            device_id: None,
            device_name: None,
        };
        let request = self.request(Method::POST, "/v1/sessions");
        self.device(sent(request, &body).await.json().await.unwrap())
    }

    /// The device on this server, after a restart on another port.
    pub(crate) fn device(&self, tokens: Tokens) -> Device {
        Device { address: self.address, http: Client::new(), tokens }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        Client::new().request(method, format!("http://{}{path}", self.address))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Stop,
    Crash,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Drops every task and waits for every thread, so that nothing touches the directory any more.
async fn end(runtime: Runtime) {
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(DEADLINE)).await.unwrap();
}

/// A signed-in device.
#[derive(Clone)]
pub(crate) struct Device {
    address: SocketAddr,
    http: Client,
    pub(crate) tokens: Tokens,
}

impl Device {
    pub(crate) fn user(&self) -> UserId {
        self.tokens.user.user_id
    }

    pub(crate) async fn socket(&self) -> Socket {
        Socket::open(self.address, &self.tokens.access_token).await.unwrap()
    }

    /// A group with these members besides oneself.
    pub(crate) async fn group(&self, members: &[&Self]) -> ConversationId {
        let conversation_id = conversation_id();
        let member_ids = members.iter().map(|member| member.user()).collect();
        let body = CreateConversation::Group { conversation_id, title: None, member_ids };
        let made: Conversation = self.post("/v1/conversations", &body).await;
        made.conversation_id
    }

    pub(crate) async fn send(&self, conversation: ConversationId, text: &str) -> Seq {
        self.send_as(conversation, message_id(), text).await.unwrap()
    }

    pub(crate) async fn send_as(
        &self,
        conversation: ConversationId,
        message_id: MessageId,
        text: &str,
    ) -> Result<Seq, Code> {
        let body = SendMessage {
            target: Target::Conversation(conversation),
            message_id,
            content: content(text),
            reply_to: None,
        };
        let answer = sent(self.request(Method::POST, "/v1/messages"), &body).await;
        if answer.status() == 201 {
            let accepted: tidings_wire::rest::MessageAccepted = answer.json().await.unwrap();
            return Ok(accepted.seq);
        }
        Err(answer.json::<Problem>().await.unwrap().code)
    }

    pub(crate) async fn add(&self, conversation: ConversationId, person: &Self) {
        let path = format!("/v1/conversations/{conversation}/members");
        let body = AddMembers { user_ids: vec![person.user()] };
        let _: serde_json::Value = self.post(&path, &body).await;
    }

    pub(crate) async fn remove(&self, conversation: ConversationId, person: &Self) {
        let path = format!("/v1/conversations/{conversation}/members/{}", person.user());
        assert_eq!(self.delete(&path).await, 204);
    }

    /// All that REST `entries` has in `(after, before)`.
    pub(crate) async fn entries(
        &self,
        conversation: ConversationId,
        mut after: u64,
        before: u64,
    ) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let query = format!("after={after}&before={before}&limit=100");
            let path = format!("/v1/conversations/{conversation}/entries?{query}");
            let page: Page<Entry> = self.get(&path).await.unwrap();
            let Some(last) = page.items.last() else { return all };
            after = last.seq.0;
            all.extend(page.items);
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Code> {
        let answer = in_time("an answer", self.request(Method::GET, path).send()).await.unwrap();
        if answer.status() == 200 {
            return Ok(answer.json().await.unwrap());
        }
        Err(answer.json::<Problem>().await.unwrap().code)
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        let answer = sent(self.request(Method::POST, path), body).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {status} {text}"))
    }

    pub(crate) async fn delete(&self, path: &str) -> u16 {
        in_time("an answer", self.request(Method::DELETE, path).send()).await.unwrap().status().as_u16()
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.http.request(method, url).bearer_auth(&self.tokens.access_token)
    }
}

async fn sent(request: RequestBuilder, body: &impl Serialize) -> reqwest::Response {
    in_time("an answer", request.json(body).send()).await.unwrap()
}

pub(crate) fn content(text: &str) -> Content {
    Content::from(&tidings_types::Content::Text(text.into()))
}

pub(crate) fn message_id() -> MessageId {
    MessageId::v7(now(), random())
}

pub(crate) fn conversation_id() -> ConversationId {
    ConversationId::v7(now(), random())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Timestamp::from_ms(u64::try_from(since).unwrap())
}

fn random() -> [u8; 10] {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&COUNT.fetch_add(1, Ordering::SeqCst).to_be_bytes());
    random
}

/// Fails instead of waiting for ever.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("in vain: {what}"))
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
