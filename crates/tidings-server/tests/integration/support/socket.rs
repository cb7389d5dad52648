//! A client's side of a socket, frame by frame.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use tidings_types::{ConversationId, Cursor, MessageId, Seq};
use tidings_wire::{
    ClientFrame, Connect, Content, Entry, EntryBody, Ping, SendMessage, ServerFrame, Subscribe, Target,
    decode_server_frame, encode_client_frame,
};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{content, in_time};

pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    next_ref: u32,
    /// Frames sent and received.
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// The code of the server's close frame; `None` if the connection just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) Option<u16>);

impl Socket {
    /// The HTTP status if the upgrade is refused.
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Result<Self, u16> {
        let authorization = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        Self::open_with(address, None, |request| {
            request.headers_mut().insert("authorization", authorization);
        })
        .await
    }

    /// `receive_bytes` bounds what the kernel takes while nobody reads.
    pub(crate) async fn open_with(
        address: SocketAddr,
        receive_bytes: Option<u32>,
        change: impl FnOnce(&mut Request),
    ) -> Result<Self, u16> {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let tcp = in_time("a connection", socket.connect(address)).await.unwrap();
        let mut request = format!("ws://{address}/v1/ws").into_client_request().unwrap();
        let subprotocol = HeaderValue::from_static(tidings_wire::SUBPROTOCOL);
        request.headers_mut().insert("sec-websocket-protocol", subprotocol);
        change(&mut request);
        match in_time("the upgrade", client_async(request, tcp)).await {
            Ok((stream, _)) => Ok(Self { stream, next_ref: 1, sent: 0, received: 0 }),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn say(&mut self, frame: &ClientFrame) {
        self.say_text(&encode_client_frame(frame)).await;
    }

    pub(crate) async fn say_text(&mut self, text: &str) {
        self.say_message(Message::text(text)).await;
        self.sent += 1;
    }

    pub(crate) async fn say_message(&mut self, message: Message) {
        in_time("the socket takes a frame", self.stream.send(message)).await.unwrap();
    }

    pub(crate) fn reference(&mut self) -> u32 {
        self.next_ref += 1;
        self.next_ref - 1
    }

    /// Says `connect` and answers everything up to `caught_up`, both ends included.
    pub(crate) async fn connect(&mut self, cursors: Vec<(ConversationId, Cursor)>) -> Vec<ServerFrame> {
        let reference = self.reference();
        self.say(&ClientFrame::Connect(Connect { reference, cursors })).await;
        self.until(|frame| matches!(frame, ServerFrame::CaughtUp(up) if up.reference == reference)).await
    }

    pub(crate) async fn subscribe(&mut self, conversation_id: ConversationId, cursor: Option<Cursor>) -> u32 {
        let reference = self.reference();
        let (epoch, seq) = cursor.map(|Cursor { epoch, seq }| (epoch, seq)).unzip();
        self.say(&ClientFrame::Subscribe(Subscribe { reference, conversation_id, epoch, seq })).await;
        reference
    }

    pub(crate) async fn send(&mut self, target: Target, message_id: MessageId, text: &str) -> u32 {
        let reference = self.reference();
        let frame = SendMessage { reference, target, message_id, content: content(text), reply_to: None };
        self.say(&ClientFrame::SendMessage(frame)).await;
        reference
    }

    pub(crate) async fn ping(&mut self, sent: Option<u64>) -> u32 {
        let reference = self.reference();
        self.say(&ClientFrame::Ping(Ping { reference, sent })).await;
        reference
    }

    /// A ping through the whole of the link: what it was told before has been handled.
    pub(crate) async fn round_trip(&mut self) -> Vec<ServerFrame> {
        let reference = self.ping(None).await;
        self.until(|frame| matches!(frame, ServerFrame::Pong(pong) if pong.reference == reference)).await
    }

    pub(crate) async fn next(&mut self) -> ServerFrame {
        self.next_or_close().await.unwrap_or_else(|closed| panic!("{closed:?} instead of a frame"))
    }

    pub(crate) async fn next_or_close(&mut self) -> Result<ServerFrame, Closed> {
        loop {
            match in_time("a frame", self.stream.next()).await {
                Some(Ok(Message::Text(text))) => {
                    self.received += 1;
                    return Ok(decode_server_frame(&text).unwrap().unwrap());
                }
                Some(Ok(Message::Close(close))) => {
                    return Err(Closed(close.map(|close| u16::from(close.code))));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Closed(None)),
            }
        }
    }

    /// The frames up to the first wanted one, which is the last.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&ServerFrame) -> bool) -> Vec<ServerFrame> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.next().await);
            if wanted(frames.last().unwrap()) {
                return frames;
            }
        }
    }

    /// The frames up to the conversation's entry `seq`, which is the last.
    pub(crate) async fn until_seq(&mut self, conversation: ConversationId, seq: Seq) -> Vec<ServerFrame> {
        self.until(|frame| entry(frame).is_some_and(|e| e.conversation_id == conversation && e.seq == seq))
            .await
    }

    /// What comes before the server's close frame, and its code.
    pub(crate) async fn until_close(&mut self) -> (Vec<ServerFrame>, Closed) {
        let mut frames = Vec::new();
        loop {
            match self.next_or_close().await {
                Ok(frame) => frames.push(frame),
                Err(closed) => return (frames, closed),
            }
        }
    }
}

fn entry(frame: &ServerFrame) -> Option<Entry> {
    match frame {
        ServerFrame::Entry(entry) => Some(entry.clone()),
        ServerFrame::ReceiveMessage(message) => Some(Entry::from(message.clone())),
        _ => None,
    }
}

/// The conversation's entries among the frames.
pub(crate) fn entries(frames: &[ServerFrame], conversation: ConversationId) -> Vec<Entry> {
    frames.iter().filter_map(entry).filter(|entry| entry.conversation_id == conversation).collect()
}

pub(crate) fn seqs(frames: &[ServerFrame], conversation: ConversationId) -> Vec<u64> {
    entries(frames, conversation).iter().map(|entry| entry.seq.0).collect()
}

/// The texts of the conversation's messages among the frames.
pub(crate) fn texts(frames: &[ServerFrame], conversation: ConversationId) -> Vec<String> {
    let text = |entry: Entry| match entry.body {
        EntryBody::Message(message) => match message.content {
            Content::Text { text } => Some(text.to_string()),
            other => panic!("{other:?} is no text"),
        },
        _ => None,
    };
    entries(frames, conversation).into_iter().filter_map(text).collect()
}
