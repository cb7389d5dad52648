//! The REST routes. Answers a typed body or a [`ClientError`]; refreshes the session's tokens when they have expired, and
//! repeats what may be repeated.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_types::{Code, ConversationId, DeviceId, MessageId, Refusal, Seq, UserId};
use tidings_wire::rest::{
    AddMembers, Conversation, CreateConversation, Device, Member, Message, MessageAccepted, Page, Problem,
    Refresh, SendMessage, SignIn, SignUp, Tokens, User,
};
use tidings_wire::{Entry, codes};
use tokio::sync::Mutex;

use crate::backoff::Backoff;
use crate::clock::random_unit;
use crate::{Change, ClientError, ServerClock, Store, StoreError};

/// One signed-in device's view of the REST routes. Clones share the session.
#[derive(Clone)]
pub struct Rest {
    http: reqwest::Client,
    server: Arc<Url>,
    store: Arc<dyn Store>,
    clock: ServerClock,
    /// Held while the tokens are being refreshed, so that one expiry causes one refresh.
    refreshing: Arc<Mutex<()>>,
}

/// A stretch of a conversation: seqs, both exclusive, and how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub after: Option<Seq>,
    pub before: Option<Seq>,
    pub limit: Option<u32>,
}

/// Where a list goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursors {
    pub cursor: Option<String>,
    pub limit: Option<u32>,
}

/// Tries of a request that may be repeated, and how long they back off.
const ATTEMPTS_MAX: u32 = 5;
const BACKOFF_BASE: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A server that wants more patience than this is asked again by the caller, not in here.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Rest {
    /// `server` is an address like `http://127.0.0.1:8390`. The session, if the store has one, goes on.
    pub fn new(server: &str, store: Arc<dyn Store>) -> Result<Self, ClientError> {
        let url = Url::parse(server).map_err(|error| ClientError::Address(format!("{server}: {error}")))?;
        if url.scheme() != "http" || url.host_str().is_none() {
            return Err(ClientError::Address(format!("{server}: an http:// address is needed")));
        }
        let http =
            reqwest::Client::builder().timeout(REQUEST_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build()?;
        let clock = ServerClock::new(store.saved().clock_offset_ms);
        Ok(Self { http, server: Arc::new(url), store, clock, refreshing: Arc::default() })
    }

    /// Another session on the same server, sharing the connections.
    #[must_use]
    pub fn with_store(&self, store: Arc<dyn Store>) -> Self {
        let clock = ServerClock::new(store.saved().clock_offset_ms);
        let (http, server) = (self.http.clone(), Arc::clone(&self.server));
        Self { http, server, store, clock, refreshing: Arc::default() }
    }

    #[must_use]
    pub fn clock(&self) -> &ServerClock {
        &self.clock
    }

    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The session this client goes on with, if it is signed in.
    #[must_use]
    pub fn tokens(&self) -> Option<Tokens> {
        self.store.saved().tokens
    }

    /// The address of the socket.
    #[must_use]
    pub fn socket_url(&self) -> String {
        let mut url = self.url("v1/ws");
        url.set_scheme("ws").expect("http becomes ws");
        url.into()
    }

    /// Makes an account and signs in. Not repeated by itself: whoever asks twice learns that the name is taken.
    pub async fn sign_up(&self, body: &SignUp) -> Result<Tokens, ClientError> {
        self.open_session("v1/accounts", body).await
    }

    pub async fn sign_in(&self, body: &SignIn) -> Result<Tokens, ClientError> {
        self.open_session("v1/sessions", body).await
    }

    /// Ends the session on the server and forgets it here.
    pub async fn sign_out(&self) -> Result<(), ClientError> {
        match self.delete("v1/sessions/current").await {
            Ok(()) | Err(ClientError::SignedOut) => self.write(Change::SignedOut {}).await,
            Err(error) => Err(error),
        }
    }

    /// Exchanges the refresh token, unless somebody else just did: `stale` is the access token that was refused.
    /// `SignedOut` when the server ends the session.
    pub async fn refresh(&self, stale: &str) -> Result<Tokens, ClientError> {
        let _one = self.refreshing.lock().await;
        let tokens = self.tokens().ok_or(ClientError::SignedOut)?;
        if tokens.access_token != stale {
            return Ok(tokens);
        }
        let url = self.url("v1/sessions/refresh");
        let body = Refresh { refresh_token: tokens.refresh_token };
        // Repeating is safe: the server takes the previous token again for a while.
        let answer = self.repeat(|| self.http.post(url.clone()).json(&body)).await;
        match answer {
            Ok(response) => self.keep(read(response).await?).await,
            Err(ClientError::Refused(refusal)) if codes::meaning(refusal.code).http_status == 401 => {
                self.write(Change::SignedOut {}).await?;
                Err(ClientError::SignedOut)
            }
            Err(error) => Err(error),
        }
    }

    pub async fn me(&self) -> Result<User, ClientError> {
        self.get("v1/users/me", &[]).await
    }

    /// Users whose name begins with `query`.
    pub async fn users(&self, query: &str, page: &Cursors) -> Result<Page<User>, ClientError> {
        let mut parameters = page.parameters();
        parameters.push(("query", query.to_owned()));
        self.get("v1/users", &parameters).await
    }

    /// The user of exactly this name.
    pub async fn user_by_name(&self, username: &str) -> Result<Option<User>, ClientError> {
        let username = username.to_lowercase();
        let mut page = Cursors::default();
        loop {
            let Page { items, next_cursor } = self.users(&username, &page).await?;
            if let Some(user) = items.into_iter().find(|user| user.username == username) {
                return Ok(Some(user));
            }
            if next_cursor.is_none() {
                return Ok(None);
            }
            page.cursor = next_cursor;
        }
    }

    pub async fn devices(&self, page: &Cursors) -> Result<Page<Device>, ClientError> {
        self.get("v1/devices", &page.parameters()).await
    }

    pub async fn remove_device(&self, device: DeviceId) -> Result<(), ClientError> {
        self.delete(&format!("v1/devices/{device}")).await
    }

    /// Newest activity first.
    pub async fn conversations(&self, page: &Cursors) -> Result<Page<Conversation>, ClientError> {
        self.get("v1/conversations", &page.parameters()).await
    }

    pub async fn conversation(&self, id: ConversationId) -> Result<Conversation, ClientError> {
        self.get(&format!("v1/conversations/{id}"), &[]).await
    }

    pub async fn create_conversation(&self, body: &CreateConversation) -> Result<Conversation, ClientError> {
        self.post("v1/conversations", body).await
    }

    pub async fn members(&self, id: ConversationId, page: &Cursors) -> Result<Page<Member>, ClientError> {
        self.get(&format!("v1/conversations/{id}/members"), &page.parameters()).await
    }

    pub async fn add_members(&self, id: ConversationId, user_ids: Vec<UserId>) -> Result<(), ClientError> {
        let url = self.url(&format!("v1/conversations/{id}/members"));
        let body = AddMembers { user_ids };
        self.authorized(|| self.http.post(url.clone()).json(&body)).await.map(drop)
    }

    /// Removes a member; oneself to leave.
    pub async fn remove_member(&self, id: ConversationId, user: UserId) -> Result<(), ClientError> {
        self.delete(&format!("v1/conversations/{id}/members/{user}")).await
    }

    /// The raw entries, ascending, one per seq.
    pub async fn entries(&self, id: ConversationId, range: Range) -> Result<Page<Entry>, ClientError> {
        self.get(&format!("v1/conversations/{id}/entries"), &range.parameters()).await
    }

    /// Messages in their current state, ascending.
    pub async fn messages(&self, id: ConversationId, range: Range) -> Result<Page<Message>, ClientError> {
        let mut parameters = range.parameters();
        parameters.push(("conversation_id", id.to_string()));
        self.get("v1/messages", &parameters).await
    }

    pub async fn message(&self, id: ConversationId, message: MessageId) -> Result<Message, ClientError> {
        self.get(&format!("v1/conversations/{id}/messages/{message}"), &[]).await
    }

    /// Repeating it with the same id is safe: it gives the first answer again.
    pub async fn send_message(&self, body: &SendMessage) -> Result<MessageAccepted, ClientError> {
        self.post("v1/messages", body).await
    }

    /// Writes into the store from a thread that may wait for the disk.
    pub(crate) async fn write(&self, change: Change) -> Result<(), ClientError> {
        let store = Arc::clone(&self.store);
        let written = tokio::task::spawn_blocking(move || store.write(change)).await;
        let written: Result<(), StoreError> = written.map_err(|_| ClientError::Closed)?;
        Ok(written?)
    }

    async fn open_session<B: Serialize>(&self, path: &str, body: &B) -> Result<Tokens, ClientError> {
        let response = checked(self.http.post(self.url(path)).json(body).send().await?).await?;
        self.keep(read(response).await?).await
    }

    async fn keep(&self, tokens: Tokens) -> Result<Tokens, ClientError> {
        self.clock.set(tokens.now_ms);
        let change = Change::SignedIn { tokens: tokens.clone(), clock_offset_ms: self.clock.offset_ms() };
        self.write(change).await?;
        Ok(tokens)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, ClientError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        read(self.authorized(|| self.http.get(url.clone())).await?).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, ClientError> {
        let url = self.url(path);
        read(self.authorized(|| self.http.post(url.clone()).json(body)).await?).await
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let url = self.url(path);
        self.authorized(|| self.http.request(Method::DELETE, url.clone())).await.map(drop)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = Url::clone(&self.server);
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        url
    }

    /// Sends with the access token; when that has expired, refreshes it and sends once more.
    async fn authorized(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, ClientError> {
        let tokens = self.tokens().ok_or(ClientError::SignedOut)?;
        let with = |token: &str| request().header(AUTHORIZATION, format!("Bearer {token}"));
        match self.repeat(|| with(&tokens.access_token)).await {
            Err(ClientError::Refused(Refusal {
                code: Code::TokenExpired | Code::Unauthenticated, ..
            })) => {
                let fresh = Box::pin(self.refresh(&tokens.access_token)).await?;
                self.repeat(|| with(&fresh.access_token)).await
            }
            answer => answer,
        }
    }

    /// Sends until there is an answer that another try would not change. Every route but signing up and in may be
    /// repeated.
    async fn repeat(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, ClientError> {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX);
        let mut attempt = 1;
        loop {
            let answer = match request().send().await {
                Ok(response) => checked(response).await,
                Err(error) => Err(error.into()),
            };
            let wait = match &answer {
                Err(ClientError::Unreachable(_)) => Duration::ZERO,
                Err(ClientError::Refused(refusal)) if is_worth_repeating(refusal) => {
                    Duration::from_millis(refusal.retry_after_ms.unwrap_or(0))
                }
                _ => return answer,
            };
            if attempt == ATTEMPTS_MAX || wait > RETRY_AFTER_MAX {
                return answer;
            }
            attempt += 1;
            tokio::time::sleep(backoff.next(random_unit(), wait)).await;
        }
    }
}

/// A bug is not repeated at once, an expired token not without refreshing it.
fn is_worth_repeating(refusal: &Refusal) -> bool {
    codes::meaning(refusal.code).retry && !matches!(refusal.code, Code::Internal | Code::TokenExpired)
}

/// Turns a refusal into an error.
async fn checked(response: Response) -> Result<Response, ClientError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let header_ms = retry_after_ms(&response);
    let body = response.bytes().await?;
    let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
        return Err(without_problem(status, header_ms));
    };
    let retry_after_ms = problem.retry_after_ms.or(header_ms);
    Err(ClientError::Refused(Refusal { code: problem.code, message: problem.detail, retry_after_ms }))
}

/// Something in front of the server answered in its own words.
fn without_problem(status: StatusCode, retry_after_ms: Option<u64>) -> ClientError {
    match status.as_u16() {
        502..=504 => {
            let message = format!("something before the server answered {status}");
            ClientError::Refused(Refusal { code: Code::Unavailable, message, retry_after_ms })
        }
        _ => ClientError::Protocol(format!("{status} without a problem document")),
    }
}

/// The header's seconds; its other form, a date, is not used by this server.
fn retry_after_ms(response: &Response) -> Option<u64> {
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    let body = response.bytes().await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Protocol(error.to_string()))
}

impl Range {
    #[must_use]
    pub fn after(seq: Seq) -> Self {
        Self { after: Some(seq), ..Self::default() }
    }

    fn parameters(self) -> Vec<(&'static str, String)> {
        let seqs = [("after", self.after), ("before", self.before)];
        let seqs = seqs.into_iter().filter_map(|(name, seq)| Some((name, seq?.to_string())));
        seqs.chain(self.limit.map(|limit| ("limit", limit.to_string()))).collect()
    }
}

impl Cursors {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let cursor = self.cursor.clone().map(|cursor| ("cursor", cursor));
        cursor.into_iter().chain(self.limit.map(|limit| ("limit", limit.to_string()))).collect()
    }
}
