//! One WebSocket connection as raw text, frame by frame. Knows nothing of what the frames say, so that it cannot hide
//! anything: what arrives twice is handed out twice.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use thiserror::Error;
use tidings_wire::{ClientFrame, SUBPROTOCOL, encode_client_frame};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Small on purpose: a device that stops reading is felt by the server after some seconds instead of after megabytes.
const RECEIVE_BUFFER_BYTES: u32 = 8 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
const READ_BUFFER_BYTES: usize = 4 * 1024;

pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    sent: u64,
    received: u64,
}

#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error("the upgrade was answered with {0}")]
    Status(u16),
    #[error("the server is not there")]
    Unreachable,
}

/// Why a socket has no more frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A close frame with this code.
    Closed(u16),
    /// The connection broke without a word.
    Broken,
    /// Something that is not text.
    NotText,
}

impl Socket {
    pub(crate) async fn connect(address: SocketAddr, access_token: &str) -> Result<Self, ConnectError> {
        let connecting = timeout(CONNECT_TIMEOUT, upgrade(address, access_token));
        match connecting.await {
            Ok(Ok(stream)) => Ok(Self { stream, sent: 0, received: 0 }),
            Ok(Err(tungstenite::Error::Http(response))) => {
                Err(ConnectError::Status(response.status().as_u16()))
            }
            Ok(Err(_)) | Err(_) => Err(ConnectError::Unreachable),
        }
    }

    pub(crate) async fn send(&mut self, frame: &ClientFrame) -> Result<(), Ended> {
        self.sent += 1;
        let sending = self.stream.send(Message::text(encode_client_frame(frame)));
        match timeout(SEND_TIMEOUT, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ended::Broken),
        }
    }

    /// The next frame as it was sent. Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<String, Ended> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    self.received += 1;
                    return Ok(text.as_str().to_owned());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(Ended::Closed(frame.map_or(1005, |frame| frame.code.into())));
                }
                Some(Ok(Message::Binary(_))) => return Err(Ended::NotText),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(_)) | None => return Err(Ended::Broken),
            }
        }
    }

    /// Frames sent so far.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Frames received so far.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// A proper close. Dropping the socket instead cuts it.
    pub(crate) async fn close(mut self) {
        let goodbye = async {
            if self.stream.close(None).await.is_ok() {
                while let Some(Ok(_)) = self.stream.next().await {}
            }
        };
        // Whether it was heard changes nothing.
        drop(timeout(GOODBYE_TIMEOUT, goodbye).await);
    }
}

async fn upgrade(
    address: SocketAddr,
    access_token: &str,
) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{address}/v1/ws").into_client_request()?;
    let bearer = HeaderValue::from_str(&format!("Bearer {access_token}"))?;
    request.headers_mut().insert(AUTHORIZATION, bearer);
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES).write_buffer_size(0);
    let (stream, _) = client_async_with_config(request, stream, Some(config)).await?;
    Ok(stream)
}
