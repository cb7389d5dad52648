//! One WebSocket connection, frame by frame, with the counts that heartbeats compare.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use thiserror::Error;
use tidings_types::Refusal;
use tidings_wire::rest::Problem;
use tidings_wire::{ClientFrame, SUBPROTOCOL, ServerFrame, decode_server_frame, encode_client_frame};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{
    AUTHORIZATION, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL,
};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// A connected, authenticated socket. The first frame to send is `connect`.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    sent: u64,
    received: u64,
}

/// What arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A frame as it was sent.
    Frame(String),
    /// The server closed; 1006 if it did so without a word.
    Closed { code: u16, reason: String },
}

#[derive(Debug, Error)]
pub enum SocketError {
    /// The upgrade was answered with a problem document.
    #[error("the server refused the connection: {0}")]
    Refused(Refusal),
    /// The upgrade was answered in another way.
    #[error("the server answered the upgrade with {status}")]
    Status { status: u16, retry_after: Duration },
    #[error("the server does not answer")]
    Timeout,
    #[error("what arrived is not a frame of this protocol: {0}")]
    Protocol(String),
    #[error("the connection broke")]
    Broken(#[source] Box<tungstenite::Error>),
}

/// Connect and upgrade together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server's frame can be larger than a client's: an entry that creates a group names its members.
const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Sockets are many in some programs and their frames are small.
const READ_BUFFER_BYTES: usize = 4 * 1024;

impl Socket {
    /// Connects to `url` (`ws://…/v1/ws`) with an access token.
    pub async fn connect(url: &str, access_token: &str) -> Result<Self, SocketError> {
        let mut request = url.into_client_request()?;
        let bearer = HeaderValue::from_str(&format!("Bearer {access_token}"))
            .map_err(|_| SocketError::Protocol("the access token does not fit a header".into()))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let connecting = connect_async_with_config(request, Some(config), true);
        let (stream, _) =
            tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| SocketError::Timeout)??;
        Ok(Self { stream, sent: 0, received: 0 })
    }

    pub async fn send(&mut self, frame: &ClientFrame) -> Result<(), SocketError> {
        self.send_text(encode_client_frame(frame)).await
    }

    /// Sends text as it is, whatever it says.
    pub async fn send_text(&mut self, text: String) -> Result<(), SocketError> {
        self.sent += 1;
        Ok(self.stream.send(Message::text(text)).await?)
    }

    /// The next thing from the server. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Incoming, SocketError> {
        loop {
            let message = match self.stream.next().await {
                Some(message) => message?,
                None => return Ok(Incoming::Closed { code: 1006, reason: String::new() }),
            };
            match message {
                Message::Text(text) => {
                    self.received += 1;
                    return Ok(Incoming::Frame(text.as_str().to_owned()));
                }
                Message::Close(frame) => return Ok(closed(frame)),
                Message::Binary(_) => return Err(SocketError::Protocol("binary data".into())),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// The next frame, decoded; frames of types this client does not know are skipped.
    pub async fn next_frame(&mut self) -> Result<Result<ServerFrame, (u16, String)>, SocketError> {
        loop {
            match self.next().await? {
                Incoming::Closed { code, reason } => return Ok(Err((code, reason))),
                Incoming::Frame(text) => match decode_server_frame(&text) {
                    Ok(Some(frame)) => return Ok(Ok(frame)),
                    Ok(None) => {}
                    Err(error) => return Err(SocketError::Protocol(error.to_string())),
                },
            }
        }
    }

    /// Frames sent on this socket so far.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Frames received on this socket so far.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Says goodbye; does not wait long for the answer.
    pub async fn close(mut self) {
        let goodbye = async {
            if self.stream.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.stream.next().await {}
            }
        };
        // Whether it was heard changes nothing.
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
}

fn closed(frame: Option<tungstenite::protocol::CloseFrame>) -> Incoming {
    match frame {
        Some(frame) => Incoming::Closed { code: frame.code.into(), reason: frame.reason.as_str().to_owned() },
        None => Incoming::Closed { code: 1005, reason: String::new() },
    }
}

impl From<tungstenite::Error> for SocketError {
    fn from(error: tungstenite::Error) -> Self {
        let tungstenite::Error::Http(response) = error else {
            return Self::Broken(Box::new(error));
        };
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let problem =
            response.body().as_deref().and_then(|body| serde_json::from_slice::<Problem>(body).ok());
        match problem {
            Some(Problem { code, detail: message, retry_after_ms, .. }) => {
                let retry_after_ms =
                    retry_after_ms.or(seconds.map(|seconds: u64| seconds.saturating_mul(1_000)));
                Self::Refused(Refusal { code, message, retry_after_ms })
            }
            None => Self::Status {
                status: response.status().as_u16(),
                retry_after: Duration::from_secs(seconds.unwrap_or(0)),
            },
        }
    }
}
