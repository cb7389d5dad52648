//! A server of one connection, from its HTTP request on, and clients for it.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Instant};

use axum::body::Body;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tidings_gateway::ws::{Connection, DriverConfig, handshake::Upgrade, into_tcp};
use tidings_types::Limits;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, oneshot},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{client::IntoClientRequest, http::HeaderValue},
};

use super::peer::{Inbox, Log, RealTime, TestPeer, soon};

pub(crate) const REQUEST: &str = "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: tidings.v1.json\r\n\r\n";

pub(crate) fn config() -> DriverConfig {
    DriverConfig::from_limits(&Limits::default())
}

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) log: Log,
    over: Option<oneshot::Receiver<()>>,
}

type Slot = Arc<Mutex<Option<(TestPeer, oneshot::Sender<()>)>>>;

/// Waits for one connection on a free port and runs it to its end.
pub(crate) async fn serve(config: DriverConfig) -> Served {
    let inbox = Arc::new(Inbox::default());
    let (peer, log) = TestPeer::new(Arc::clone(&inbox));
    let (ended, over) = oneshot::channel();
    let slot: Slot = Arc::new(Mutex::new(Some((peer, ended))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (config, wake) = (Arc::new(config), Arc::clone(&inbox));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(move |request| {
            upgrade(request, Arc::clone(&slot), Arc::clone(&wake), Arc::clone(&config))
        });
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await
    });
    Served { address, inbox, log, over: Some(over) }
}

async fn upgrade(
    mut request: Request<Incoming>,
    slot: Slot,
    inbox: Arc<Inbox>,
    config: Arc<DriverConfig>,
) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::empty());
    match Upgrade::from_request(request.method(), request.version(), request.headers()) {
        Err(refusal) => {
            *response.status_mut() = refusal.status();
            *response.headers_mut() = refusal.headers();
        }
        Ok(upgrade) => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            *response.headers_mut() = upgrade.response_headers();
            let upgraded = hyper::upgrade::on(&mut request);
            let (peer, ended) = slot.lock().await.take().expect("one connection");
            tokio::spawn(async move {
                let (stream, leftover) = into_tcp(upgraded.await.unwrap()).unwrap();
                assert!(stream.nodelay().unwrap());
                let time = Arc::new(RealTime(Instant::now()));
                Connection::new(stream, leftover, peer, Arc::clone(&inbox.wake), time, config).await;
                let _ = ended.send(());
            });
        }
    }
    Ok(response)
}

impl Served {
    pub(crate) async fn library_client(&self) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let mut request = format!("ws://{}/v1/ws", self.address).into_client_request().unwrap();
        let subprotocol = HeaderValue::from_static("tidings.v1.json");
        request.headers_mut().insert("sec-websocket-protocol", subprotocol);
        soon(connect_async(request)).await.unwrap().0
    }

    pub(crate) async fn raw_client(&self) -> TcpStream {
        self.raw_client_sending(b"").await
    }

    /// Sends `behind` in the same write as the request.
    pub(crate) async fn raw_client_sending(&self, behind: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&[REQUEST.as_bytes(), behind].concat()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(soon(stream.read_u8()).await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        stream
    }

    /// The connection's future has ended.
    pub(crate) async fn over(&mut self) {
        soon(self.over.take().expect("asked once")).await.unwrap();
    }
}

pub(crate) fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..=65535 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The first byte and the payload of the next frame of a server.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    soon(async {
        let first = stream.read_u8().await.unwrap();
        let length = match stream.read_u8().await.unwrap() {
            126 => u64::from(stream.read_u16().await.unwrap()),
            127 => stream.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await.unwrap();
        (first, payload)
    })
    .await
}
