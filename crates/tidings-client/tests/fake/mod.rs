//! A server that does what a test tells it: one port for REST answers from a list and for sockets that the test drives
//! frame by frame.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Serialize;
use tidings_client::{Change, Event, Events, MemoryStore, Rest, Store};
use tidings_types::{
    Code, ConversationId, ConversationKind, DeviceId, Epoch, MessageId, Refusal, Seq, SessionId, Timestamp,
    UserId,
};
use tidings_wire::rest::{Problem, Tokens, User};
use tidings_wire::{
    CaughtUp, ClientFrame, ClientLimits, Connect, Connected, Content, Gap, ReceiveMessage, ServerFrame,
    Snapshot, decode_client_frame, encode,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Fake {
    pub(crate) url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
    sockets: mpsc::UnboundedReceiver<FakeSocket>,
}

/// A REST request, or an upgrade that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// `GET /path?query`.
    pub(crate) line: String,
    pub(crate) token: String,
    pub(crate) body: String,
}

struct Answer {
    /// Which requests it is for: the beginning of their line.
    line: String,
    status: u16,
    body: String,
}

pub(crate) struct FakeSocket {
    stream: WebSocketStream<TcpStream>,
    pub(crate) token: String,
    pub(crate) received: u64,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (answers, requests) =
            (Arc::<Mutex<VecDeque<Answer>>>::default(), Arc::<Mutex<Vec<Request>>>::default());
        let (sockets_out, sockets) = mpsc::unbounded_channel();
        let shared = (Arc::clone(&answers), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answers, requests) = shared.clone();
                tokio::spawn(serve(stream, answers, requests, sockets_out.clone()));
            }
        });
        Self { url, answers, requests, sockets }
    }

    /// The next request whose line begins with `line` gets this; for `GET /v1/ws` the upgrade is refused with it.
    pub(crate) fn answer<T: Serialize>(&self, line: &str, status: u16, body: &T) {
        let body = serde_json::to_string(body).expect("plain data");
        self.answers.lock().unwrap().push_back(Answer { line: line.into(), status, body });
    }

    pub(crate) fn refuse(&self, line: &str, code: Code, retry_after_ms: Option<u64>) {
        let refusal = Refusal { code, message: "no".into(), retry_after_ms };
        let problem = Problem::from(refusal);
        self.answer(line, problem.status, &problem);
    }

    pub(crate) fn requests(&self, line: &str) -> Vec<Request> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|request| request.line.starts_with(line)).cloned().collect()
    }

    pub(crate) async fn socket(&mut self) -> FakeSocket {
        within(self.sockets.recv()).await.expect("the listener lives")
    }

    /// A signed-in client.
    pub(crate) fn rest(&self, store: Arc<dyn Store>) -> Rest {
        let signed_in = Change::SignedIn { tokens: tokens("access-1"), clock_offset_ms: 0 };
        store.write(signed_in).expect("memory takes it");
        Rest::new(&self.url, store).expect("a good address")
    }

    pub(crate) fn signed_in(&self) -> Rest {
        self.rest(Arc::new(MemoryStore::default()))
    }
}

impl FakeSocket {
    pub(crate) async fn say(&mut self, frame: ServerFrame) {
        let text = String::from_utf8(encode(&frame)).expect("JSON");
        self.stream.send(Message::text(text)).await.expect("the client listens");
    }

    pub(crate) async fn heard(&mut self) -> ClientFrame {
        loop {
            match within(self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    self.received += 1;
                    return decode_client_frame(&text).expect("a good client");
                }
                Some(Ok(_)) => {}
                end => panic!("a frame was awaited: {end:?}"),
            }
        }
    }

    pub(crate) async fn heard_connect(&mut self) -> Connect {
        match self.heard().await {
            ClientFrame::Connect(connect) => connect,
            other => panic!("connect was awaited: {other:?}"),
        }
    }

    /// Answers `connect`, without entries.
    pub(crate) async fn welcome(&mut self, heartbeat_ms: u64) -> Connect {
        let connect = self.heard_connect().await;
        self.say(connected(connect.reference, heartbeat_ms)).await;
        connect
    }

    pub(crate) async fn caught_up(&mut self) {
        self.say(ServerFrame::CaughtUp(CaughtUp { reference: 1 })).await;
    }

    pub(crate) async fn close(mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "because".into() };
        self.stream.close(Some(frame)).await.expect("the client listens");
        while let Some(Ok(_)) = within(self.stream.next()).await {}
    }

    /// The client goes away.
    pub(crate) async fn ended(mut self) {
        while let Some(Ok(_)) = within(self.stream.next()).await {}
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Request>>>,
    sockets: mpsc::UnboundedSender<FakeSocket>,
) {
    // A browser would keep the connection; here each request has its own.
    let mut head = vec![0; 16 * 1024];
    let head_len = loop {
        let Ok(read @ 1..) = stream.peek(&mut head).await else { return };
        if let Some(at) = head[..read].windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        tokio::task::yield_now().await;
    };
    let text = String::from_utf8_lossy(&head[..head_len]).into_owned();
    let line = text.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let header = |name: &str| {
        let mut lines = text.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let token = header("authorization").unwrap_or_default().trim_start_matches("Bearer ").to_owned();
    let answer = {
        let mut answers = answers.lock().unwrap();
        let at = answers.iter().position(|answer| line.starts_with(&answer.line));
        at.and_then(|at| answers.remove(at))
    };
    if answer.is_none() && line == "GET /v1/ws" {
        assert_eq!(header("sec-websocket-protocol").as_deref(), Some(tidings_wire::SUBPROTOCOL));
        let accept = |_: &_, mut response: tokio_tungstenite::tungstenite::handshake::server::Response| {
            let protocol = tidings_wire::SUBPROTOCOL.parse().expect("a header value");
            response.headers_mut().insert("sec-websocket-protocol", protocol);
            Ok(response)
        };
        if let Ok(stream) = accept_hdr_async(stream, accept).await {
            let _ = sockets.send(FakeSocket { stream, token, received: 0 });
        }
        return;
    }
    let body_len = header("content-length").map_or(0, |len| len.parse().expect("a number"));
    let mut whole = vec![0; head_len + body_len];
    stream.read_exact(&mut whole).await.expect("the client sends its body");
    let body = String::from_utf8(whole[head_len..].to_vec()).expect("JSON");
    requests.lock().unwrap().push(Request { line: line.clone(), token, body });
    let Answer { status, body, .. } = answer.unwrap_or_else(|| panic!("no answer is ready for {line}"));
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.expect("the client listens");
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens in time")
}

pub(crate) async fn next(events: &mut Events) -> Event {
    within(events.next()).await.expect("memory can be written").expect("there are more events")
}

/// The next event that is not about the connection.
pub(crate) async fn next_news(events: &mut Events) -> Event {
    loop {
        match next(events).await {
            Event::Online(_) | Event::Offline { .. } => {}
            news => return news,
        }
    }
}

/// The seqs of the next `count` entries; nothing but entries may come.
pub(crate) async fn next_seqs(events: &mut Events, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        match next_news(events).await {
            Event::Entry(entry) => seqs.push(entry.seq.0),
            other => panic!("an entry was awaited: {other:?}"),
        }
    }
    seqs
}

pub(crate) fn tokens(access: &str) -> Tokens {
    let user =
        User { user_id: user(1), username: "alice".into(), display_name: "Alice".into(), admin: false };
    Tokens {
        user,
        device_id: DeviceId::from_bytes([1; 16]),
        session_id: SessionId::from_bytes([1; 16]),
        access_token: access.into(),
        access_expires_at_ms: u64::MAX,
        now_ms: 1_790_000_000_000,
        refresh_token: format!("refresh-of-{access}"),
    }
}

pub(crate) fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

pub(crate) fn group() -> ConversationId {
    ConversationId::v7(Timestamp::from_ms(1), [1; 10])
}

pub(crate) fn message(n: u64) -> MessageId {
    MessageId::v7(Timestamp::from_ms(n), [2; 10])
}

pub(crate) fn connected(reference: u32, heartbeat_ms: u64) -> ServerFrame {
    ServerFrame::Connected(Connected {
        reference,
        user_id: user(1),
        device_id: DeviceId::from_bytes([1; 16]),
        session_id: SessionId::from_bytes([1; 16]),
        personal_id: ConversationId::from_bytes([8; 16]),
        now_ms: 1_790_000_000_000,
        heartbeat_ms,
        limits: ClientLimits::default(),
    })
}

pub(crate) fn snapshot(head: u64) -> ServerFrame {
    ServerFrame::Snapshot(Snapshot {
        conversation_id: group(),
        kind: ConversationKind::Group,
        title: Some("Tea".into()),
        epoch: Epoch(1),
        floor: Seq(1),
        head: Seq(head),
        visible_from: Seq(1),
        member_count: 2,
    })
}

pub(crate) fn received(seq: u64) -> ReceiveMessage {
    ReceiveMessage {
        conversation_id: group(),
        seq: Seq(seq),
        message_id: message(seq),
        sender_id: user(2),
        content: Content::text(format!("number {seq}")),
        created_at_ms: seq,
        messages: seq,
        reply_to: None,
    }
}

pub(crate) fn entry(seq: u64) -> ServerFrame {
    ServerFrame::ReceiveMessage(received(seq))
}

pub(crate) fn gap(from: u64, to: u64) -> ServerFrame {
    ServerFrame::Gap(Gap { conversation_id: group(), epoch: Epoch(1), from_seq: Seq(from), to_seq: Seq(to) })
}
