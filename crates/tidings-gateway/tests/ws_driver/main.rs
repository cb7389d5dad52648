//! The connection driver over real sockets, against a client library and against clients that misbehave.

#![allow(clippy::unwrap_used, reason = "the lint's exception for tests does not reach their helpers")]

mod peer;
mod server;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use peer::{Inbox, Note, RealTime, Seen, TestPeer, soon};
use server::{client_frame, config, read_frame, serve};
use tidings_gateway::ws::{
    ClosedBy, Connection, Instants, TimeSource,
    codec::{Close, Violation},
};
use tidings_types::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const CLOSE: u8 = 0x88;

#[tokio::test]
async fn messages_of_every_size_are_echoed() {
    let mut served = serve(config()).await;
    let mut client = served.library_client().await;
    for length in [0, 1, 125, 126, 127, 128, 60_000, 65_535, 65_536] {
        let text = "é*".repeat(length / 3) + &"*".repeat(length % 3);
        client.send(Message::text(text.clone())).await.unwrap();
        assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::text(text.clone()));
        assert_eq!(served.log.next().await, Seen::Text(text));
    }
}

#[tokio::test]
async fn a_message_that_arrives_byte_by_byte_is_echoed() {
    let served = serve(config()).await;
    let mut client = served.raw_client().await;
    for byte in client_frame(TEXT, b"slowly") {
        client.write_all(&[byte]).await.unwrap();
        client.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(read_frame(&mut client).await, (TEXT, b"slowly".to_vec()));
}

#[tokio::test]
async fn frames_sent_right_behind_the_request_are_not_lost() {
    let served = serve(config()).await;
    let behind = [client_frame(TEXT, b"one"), client_frame(TEXT, b"two")].concat();
    let mut client = served.raw_client_sending(&behind).await;
    assert_eq!(read_frame(&mut client).await, (TEXT, b"one".to_vec()));
    assert_eq!(read_frame(&mut client).await, (TEXT, b"two".to_vec()));
}

#[tokio::test]
async fn thousands_of_messages_in_one_read_keep_their_order() {
    let served = serve(config()).await;
    let mut client = served.raw_client().await;
    let frames: Vec<u8> = (0..10_000).flat_map(|n| client_frame(TEXT, format!("{n}").as_bytes())).collect();
    let (mut reader, mut writer) = client.split();
    let write = async { writer.write_all(&frames).await.unwrap() };
    let read = async {
        for n in 0..10_000 {
            assert_eq!(read_frame(&mut reader).await, (TEXT, format!("{n}").into_bytes()));
        }
    };
    soon(async { tokio::join!(write, read) }).await;
}

#[tokio::test]
async fn what_waits_leaves_in_few_writes() {
    let (inbox, writes) = (Arc::new(Inbox::default()), Arc::new(AtomicUsize::new(0)));
    for n in 0..1_000 {
        inbox.put(Note::Send(format!("{n:0200}")));
    }
    let (mut client, socket) = tokio::io::duplex(1 << 20);
    let (peer, _log) = TestPeer::new(Arc::clone(&inbox));
    let counted = CountWrites { socket, writes: Arc::clone(&writes) };
    tokio::spawn(connection(counted, peer, &inbox));
    for n in 0..1_000 {
        assert_eq!(read_frame(&mut client).await, (TEXT, format!("{n:0200}").into_bytes()));
    }
    // 204,000 bytes, at most 64 KiB each.
    assert_eq!(writes.load(Ordering::Relaxed), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_from_another_thread_delivers() {
    let mut served = serve(config()).await;
    let mut client = served.library_client().await;
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::text("hello"));
    assert_eq!(served.log.next().await, Seen::Text("hello".into()));
    let inbox = Arc::clone(&served.inbox);
    let thread = std::thread::spawn(move || {
        for n in 0..10_000 {
            inbox.put(Note::Send(n.to_string()));
        }
    });
    for n in 0..10_000 {
        assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::text(n.to_string()));
    }
    thread.join().unwrap();
}

#[tokio::test]
async fn a_reader_that_stops_fills_the_queue_to_its_bound_and_gets_everything_later() {
    let mut served = serve(config()).await;
    let mut client = served.raw_client().await;
    // 40 MB: more than the kernel's buffers take.
    client.write_all(&client_frame(TEXT, b"/flood 4000 10000")).await.unwrap();
    served.log.until(&Seen::Full).await;
    for _ in 0..4_000 {
        let (first, payload) = read_frame(&mut client).await;
        assert_eq!((first, payload.len()), (TEXT, 10_000));
    }
    client.write_all(&client_frame(TEXT, b"still there")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (TEXT, b"still there".to_vec()));
}

#[tokio::test]
async fn a_peer_that_wants_nothing_is_given_nothing() {
    let mut served = serve(config()).await;
    let mut client = served.raw_client().await;
    let frames = [&b"before"[..], b"/pause", b"one", b"two", b"/pause", b"three"];
    let bytes: Vec<u8> = frames.iter().flat_map(|text| client_frame(TEXT, text)).collect();
    client.write_all(&bytes).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (TEXT, b"before".to_vec()));
    served.log.until(&Seen::Text("/pause".into())).await;
    // The driver goes on with everything else meanwhile.
    served.inbox.put(Note::Send("while paused".into()));
    assert_eq!(read_frame(&mut client).await, (TEXT, b"while paused".to_vec()));
    assert!(served.log.nothing_yet());
    served.inbox.put(Note::Resume);
    assert_eq!(read_frame(&mut client).await, (TEXT, b"one".to_vec()));
    assert_eq!(read_frame(&mut client).await, (TEXT, b"two".to_vec()));
    served.log.until(&Seen::Text("/pause".into())).await;
    assert!(served.log.nothing_yet());
    served.inbox.put(Note::Resume);
    assert_eq!(read_frame(&mut client).await, (TEXT, b"three".to_vec()));
}

#[tokio::test]
async fn a_sender_is_held_back_while_the_peer_wants_nothing() {
    let inbox = Arc::new(Inbox::default());
    inbox.put(Note::Pause);
    inbox.put(Note::Send("paused".into()));
    let (mut client, socket) = tokio::io::duplex(1_000);
    let (peer, _log) = TestPeer::new(Arc::clone(&inbox));
    tokio::spawn(connection(socket, peer, &inbox));
    assert_eq!(read_frame(&mut client).await, (TEXT, b"paused".to_vec()));
    let frames = client_frame(TEXT, b"/silent 1234567890").repeat(1_000);
    let (mut reader, mut writer) = tokio::io::split(client);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let writer = tokio::spawn(async move {
        for piece in frames.chunks(100) {
            writer.write_all(piece).await.unwrap();
            counter.fetch_add(piece.len(), Ordering::Relaxed);
        }
        writer.write_all(&client_frame(TEXT, b"done")).await.unwrap();
    });
    // Two round trips through the driver's task show that it does not read on.
    for n in 0..2 {
        inbox.put(Note::Send(n.to_string()));
        assert_eq!(read_frame(&mut reader).await, (TEXT, n.to_string().into_bytes()));
    }
    assert!(sent.load(Ordering::Relaxed) <= 1_000);
    inbox.put(Note::Resume);
    assert_eq!(read_frame(&mut reader).await, (TEXT, b"done".to_vec()));
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_dropped() {
    let mut config = config();
    config.stalled_ms_max = 150;
    let mut served = serve(config).await;
    let mut client = served.raw_client().await;
    client.write_all(&client_frame(TEXT, b"/flood 4000 10000")).await.unwrap();
    assert_eq!(served.log.closed().await, ClosedBy::Stalled);
    served.over().await;
}

#[tokio::test]
async fn a_socket_that_takes_a_little_now_and_then_is_kept() {
    let inbox = Arc::new(Inbox::default());
    inbox.put(Note::Send("x".repeat(10_000)));
    let (mut client, socket) = tokio::io::duplex(1_000);
    let (peer, mut log) = TestPeer::new(Arc::clone(&inbox));
    let time = Arc::new(ManualTime::default());
    let wake = Arc::clone(&inbox.wake);
    let config = config();
    let stalled_ms_max = config.stalled_ms_max;
    let mut connection =
        Connection::new(socket, BytesMut::new(), peer, wake, Arc::clone(&time) as _, Arc::new(config));
    let mut poll = || Pin::new(&mut connection).poll(&mut Context::from_waker(Waker::noop()));
    for _ in 0..8 {
        assert!(poll().is_pending());
        time.pass_ms(stalled_ms_max - 1);
        assert!(poll().is_pending());
        client.read_exact(&mut [0; 1]).await.unwrap();
    }
    assert!(poll().is_pending());
    assert!(log.nothing_yet());
    time.pass_ms(stalled_ms_max);
    assert!(poll().is_ready());
    assert_eq!(log.next().await, Seen::Closed(ClosedBy::Stalled));
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let served = serve(config()).await;
    let mut client = served.library_client().await;
    for payload in [vec![], b"payload".to_vec(), vec![0xFE; 125]] {
        client.send(Message::Ping(payload.clone().into())).await.unwrap();
        assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::Pong(payload.into()));
    }
}

#[tokio::test]
async fn pings_that_nobody_reads_the_answers_of_do_not_pile_up() {
    let inbox = Arc::new(Inbox::default());
    let (mut client, socket) = tokio::io::duplex(1_000);
    let (peer, mut log) = TestPeer::new(Arc::clone(&inbox));
    tokio::spawn(connection(socket, peer, &inbox));
    let pings: Vec<u8> =
        (0..1_000_u32).flat_map(|n| client_frame(PING, format!("{n:0>100}").as_bytes())).collect();
    // The server reads all of it although it can write next to nothing.
    soon(client.write_all(&pings)).await.unwrap();
    soon(client.write_all(&client_frame(TEXT, b"end"))).await.unwrap();
    assert_eq!(log.next().await, Seen::Text("end".into()));
    let mut pongs = Vec::new();
    loop {
        match read_frame(&mut client).await {
            (PONG, payload) => pongs.push(payload),
            other => break assert_eq!(other, (TEXT, b"end".to_vec())),
        }
    }
    assert!(pongs.len() <= 12, "{} pongs", pongs.len());
    assert_eq!(pongs.last(), Some(&format!("{:0>100}", 999).into_bytes()));
}

#[tokio::test]
async fn a_close_of_the_client_is_echoed() {
    let mut served = serve(config()).await;
    let mut client = served.library_client().await;
    let frame = CloseFrame { code: CloseCode::Away, reason: "page closed".into() };
    client.close(Some(frame)).await.unwrap();
    let echo = CloseFrame { code: CloseCode::Away, reason: "".into() };
    assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::Close(Some(echo)));
    assert!(soon(client.next()).await.is_none(), "a clean end, not a reset");
    assert_eq!(served.log.closed().await, ClosedBy::Client { code: Some(1001) });
    served.over().await;
}

#[tokio::test]
async fn after_a_close_of_the_client_only_the_frame_that_has_begun_is_completed() {
    let inbox = Arc::new(Inbox::default());
    inbox.put(Note::Send("x".repeat(2_000)));
    inbox.put(Note::Send("never sent".into()));
    let (mut client, socket) = tokio::io::duplex(1_000);
    let (peer, mut log) = TestPeer::new(Arc::clone(&inbox));
    tokio::spawn(connection(socket, peer, &inbox));
    // The first bytes are here, so the rest waits in the queue.
    assert_eq!(soon(client.read_u8()).await.unwrap(), TEXT);
    client.write_all(&client_frame(CLOSE, b"\x03\xe8")).await.unwrap();
    assert_eq!(log.closed().await, ClosedBy::Client { code: Some(1000) });
    let mut rest = Vec::new();
    soon(client.read_to_end(&mut rest)).await.unwrap();
    let expected = [&[126, 0x07, 0xD0][..], &[b'x'; 2_000], &[CLOSE, 2, 0x03, 0xE8]].concat();
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn a_wake_after_one_that_changed_nothing_is_noticed() {
    let inbox = Arc::new(Inbox::default());
    let (_client, socket) = tokio::io::duplex(1_000);
    let (peer, _log) = TestPeer::new(Arc::clone(&inbox));
    let mut connection = connection(socket, peer, &inbox);
    let woken = Arc::new(CountWakes::default());
    let waker = Waker::from(Arc::clone(&woken));
    for count in 0..5 {
        inbox.put(Note::Resume);
        assert!(Pin::new(&mut connection).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), count);
        inbox.wake.wake();
        inbox.wake.wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), count + 1, "both are one");
    }
}

#[tokio::test]
async fn a_close_without_a_code_is_echoed_without_one() {
    let mut served = serve(config()).await;
    let mut client = served.raw_client().await;
    client.write_all(&client_frame(CLOSE, b"")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (CLOSE, vec![]));
    assert_eq!(soon(client.read(&mut [0; 10])).await.unwrap(), 0);
    assert_eq!(served.log.closed().await, ClosedBy::Client { code: None });
}

#[tokio::test]
async fn a_close_of_the_server_follows_what_was_queued() {
    let mut served = serve(config()).await;
    let mut client = served.library_client().await;
    for text in ["one", "two", "/close 4001 later"] {
        client.feed(Message::text(text)).await.unwrap();
    }
    client.flush().await.unwrap();
    assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::text("one"));
    assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::text("two"));
    let frame = CloseFrame { code: CloseCode::Library(4001), reason: "later".into() };
    assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::Close(Some(frame)));
    assert!(soon(client.next()).await.is_none(), "a clean end, not a reset");
    assert_eq!(served.log.closed().await, ClosedBy::Server(Close::new(4001, "later")));
    served.over().await;
}

#[tokio::test]
async fn a_client_that_does_not_answer_a_close_is_not_waited_for() {
    let mut config = config();
    config.close_ms_max = 100;
    let mut served = serve(config).await;
    let mut client = served.raw_client().await;
    client.write_all(&client_frame(TEXT, b"/close 4001 later")).await.unwrap();
    assert_eq!(read_frame(&mut client).await.0, CLOSE);
    served.over().await;
    assert_eq!(soon(client.read(&mut [0; 10])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_delay_a_close() {
    let mut config = config();
    config.close_ms_max = 100;
    let mut served = serve(config).await;
    let mut client = served.raw_client().await;
    client.write_all(&client_frame(TEXT, b"/flood 4000 10000")).await.unwrap();
    served.log.until(&Seen::Full).await;
    client.write_all(&client_frame(CLOSE, b"\x03\xe8")).await.unwrap();
    assert_eq!(served.log.closed().await, ClosedBy::Client { code: Some(1000) });
    served.over().await;
}

#[tokio::test]
async fn binary_is_refused() {
    let mut served = serve(config()).await;
    let mut client = served.library_client().await;
    client.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = soon(client.next()).await else { panic!("no close") };
    assert_eq!(frame.code, CloseCode::Unsupported);
    assert!(soon(client.next()).await.is_none(), "a clean end, not a reset");
    drop(client);
    assert_eq!(served.log.closed().await, ClosedBy::Binary);
    served.over().await;
}

#[tokio::test]
async fn a_message_too_large_is_refused_and_the_reason_arrives_although_the_client_goes_on_sending() {
    let mut served = serve(config()).await;
    let mut client = served.raw_client().await;
    // Unread bytes at the close would reset the connection and destroy the close frame on its way.
    soon(client.write_all(&client_frame(TEXT, &vec![b'x'; 5_000_000]))).await.unwrap();
    let (first, payload) = read_frame(&mut client).await;
    assert_eq!((first, &payload[..2]), (CLOSE, &1009_u16.to_be_bytes()[..]));
    assert_eq!(soon(client.read(&mut [0; 10])).await.unwrap(), 0);
    drop(client);
    assert_eq!(
        served.log.closed().await,
        ClosedBy::Violation(Violation::TooLarge { bytes_max: config().message_bytes_max })
    );
    served.over().await;
}

#[tokio::test]
async fn what_breaks_the_protocol_is_refused_with_its_code() {
    for (bytes, code) in [
        (vec![0x81, 0x02, b'h', b'i'], 1002_u16),
        (client_frame(0xC1, b"compressed"), 1002),
        (client_frame(0x83, b""), 1002),
        (client_frame(TEXT, b"\xff"), 1007),
        (client_frame(CLOSE, b"\x03"), 1002),
    ] {
        let mut served = serve(config()).await;
        let mut client = served.raw_client().await;
        client.write_all(&client_frame(TEXT, b"before")).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        assert_eq!(read_frame(&mut client).await, (TEXT, b"before".to_vec()));
        let (first, payload) = read_frame(&mut client).await;
        assert_eq!((first, &payload[..2]), (CLOSE, &code.to_be_bytes()[..]));
        drop(client);
        assert!(matches!(served.log.closed().await, ClosedBy::Violation(_)));
        served.over().await;
    }
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_connection() {
    let mut served = serve(config()).await;
    let client = served.raw_client().await;
    drop(client);
    assert!(matches!(served.log.closed().await, ClosedBy::Eof | ClosedBy::Io(_)));
    served.over().await;
}

#[tokio::test]
async fn a_deadline_may_come_closer() {
    let mut served = serve(config()).await;
    let mut client = served.raw_client().await;
    for text in ["/deadline 60000", "/deadline 5"] {
        client.write_all(&client_frame(TEXT, text.as_bytes())).await.unwrap();
        assert_eq!(served.log.next().await, Seen::Text(text.into()));
    }
    assert_eq!(served.log.next().await, Seen::Deadline);
    let (first, payload) = read_frame(&mut client).await;
    assert_eq!((first, &payload[2..]), (CLOSE, &b"no heartbeat"[..]));
}

#[tokio::test]
async fn a_deadline_that_moves_away_does_not_fire_early() {
    let mut served = serve(config()).await;
    let mut client = served.raw_client().await;
    let begin = Instant::now();
    for text in ["/deadline 50", "/deadline 250"] {
        client.write_all(&client_frame(TEXT, text.as_bytes())).await.unwrap();
        assert_eq!(served.log.next().await, Seen::Text(text.into()));
    }
    assert_eq!(served.log.next().await, Seen::Deadline);
    assert!(begin.elapsed().as_millis() >= 250);
}

#[tokio::test]
async fn another_subprotocol_is_not_upgraded() {
    let served = serve(config()).await;
    let mut client = TcpStream::connect(served.address).await.unwrap();
    let request = server::REQUEST.replace("tidings.v1.json", "chat");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    soon(client.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400");
}

/// One is kept per connection, so its size is memory times the number of connections. The timer comes on
/// top, once there is a deadline.
#[test]
fn a_connection_is_small() {
    let (_client, socket) = tokio::io::duplex(1);
    let inbox = Arc::new(Inbox::default());
    let (peer, _log) = TestPeer::new(Arc::clone(&inbox));
    let bytes = size_of_val(&connection(socket, peer, &inbox)) - size_of::<TestPeer>();
    let bytes = bytes - size_of::<DuplexStream>() + size_of::<TcpStream>();
    let timer_bytes = size_of::<tokio::time::Sleep>();
    println!("a connection over TCP takes {bytes} bytes without its peer, and {timer_bytes} for its timer");
    assert!(bytes <= 512, "{bytes}");
}

fn connection<S>(socket: S, peer: TestPeer, inbox: &Inbox) -> Connection<S, TestPeer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let time = Arc::new(RealTime(Instant::now()));
    Connection::new(socket, BytesMut::new(), peer, Arc::clone(&inbox.wake), time, Arc::new(config()))
}

/// Stands still unless the test says otherwise.
#[derive(Default)]
struct ManualTime(AtomicU64);

impl ManualTime {
    fn pass_ms(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl TimeSource for ManualTime {
    fn instants(&self) -> Instants {
        let monotonic_ms = self.0.load(Ordering::Relaxed);
        Instants { monotonic_ms, wall: Timestamp::from_ms(monotonic_ms) }
    }
}

#[derive(Default)]
struct CountWakes(AtomicUsize);

impl std::task::Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct CountWrites<S> {
    socket: S,
    writes: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for CountWrites<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountWrites<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.writes.fetch_add(usize::from(written.is_ready()), Ordering::Relaxed);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
