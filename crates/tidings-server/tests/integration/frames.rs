//! Frames that are wrong, or that only keep a socket alive.

use tidings_types::Code;
use tidings_wire::{ClientFrame, Connect, ErrorFrame, ServerFrame};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Closed, Running, Socket};

async fn error(socket: &mut Socket) -> ErrorFrame {
    let frames = socket.until(|frame| matches!(frame, ServerFrame::Error(_))).await;
    let Some(ServerFrame::Error(error)) = frames.last() else { unreachable!() };
    error.clone()
}

#[tokio::test]
async fn a_frame_that_is_not_understood_is_refused_and_the_socket_stays() {
    let server = Running::start().await;
    let alice = server.sign_up("alice").await;
    let mut socket = alice.socket().await;
    socket.say_text(r#"{"type":"ping","ref":1}"#).await;
    assert!(matches!(socket.next().await, ServerFrame::Pong(pong) if pong.reference == 1));
    socket
        .say_text(r#"{"type":"subscribe","ref":2,"conversation_id":"0190b6f0-5a3c-7def-8123-456789abcdef"}"#)
        .await;
    let early = error(&mut socket).await;
    assert_eq!((early.reference, early.code), (Some(2), Code::Invalid), "connect comes first");
    socket.connect(Vec::new()).await;

    let cases = [
        (r#"{"type":"dance","ref":7}"#, Some(7), Code::UnsupportedFrame),
        (r#"{"type":"dance"}"#, None, Code::UnsupportedFrame),
        (r#"{"type":"ping"}"#, None, Code::Invalid),
        (r#"{"type":"send_message","ref":8}"#, Some(8), Code::Invalid),
        (r#"{"ref":9}"#, None, Code::Invalid),
        ("[]", None, Code::Invalid),
        ("", None, Code::Invalid),
    ];
    for (text, reference, code) in cases {
        socket.say_text(text).await;
        let refused = error(&mut socket).await;
        assert_eq!((refused.reference, refused.code), (reference, code), "{text}");
    }
    socket.round_trip().await;

    let reference = socket.reference();
    socket.say(&ClientFrame::Connect(Connect { reference, cursors: Vec::new() })).await;
    let refused = error(&mut socket).await;
    assert_eq!((refused.reference, refused.code), (Some(reference), Code::Invalid), "it is connected");
    socket.round_trip().await;
}

#[tokio::test]
async fn both_sides_count_the_frames_and_a_lost_one_ends_the_socket() {
    let server = Running::start().await;
    let alice = server.sign_up("alice").await;
    let group = alice.group(&[]).await;
    let mut socket = alice.socket().await;
    socket.connect(Vec::new()).await;
    for n in 0..5 {
        alice.send(group, &format!("text {n}")).await;
        let sent = socket.sent;
        let reference = socket.ping(Some(sent)).await;
        let frames = socket
            .until(|frame| matches!(frame, ServerFrame::Pong(pong) if pong.reference == reference))
            .await;
        let Some(ServerFrame::Pong(pong)) = frames.last() else { unreachable!() };
        assert_eq!(pong.sent, socket.received - 1, "what the server sent before the pong");
    }
    let sent = socket.sent;
    socket.ping(Some(sent + 1)).await;
    let (frames, closed) = socket.until_close().await;
    assert!(
        frames
            .iter()
            .any(|frame| { matches!(frame, ServerFrame::Error(error) if error.code == Code::LinkLost) })
    );
    assert!(matches!(closed, Closed(Some(4000..=4099))), "{closed:?}");
}

#[tokio::test]
async fn binary_data_ends_the_socket() {
    let server = Running::start().await;
    let alice = server.sign_up("alice").await;
    let mut socket = alice.socket().await;
    socket.connect(Vec::new()).await;
    socket.say_message(Message::binary(vec![1, 2, 3])).await;
    let (_, closed) = socket.until_close().await;
    assert_eq!(closed, Closed(Some(1003)));
}

#[tokio::test]
async fn a_message_beyond_the_limits_is_refused_and_a_frame_beyond_them_ends_the_socket() {
    let server = Running::start().await;
    let alice = server.sign_up("alice").await;
    let group = alice.group(&[]).await;
    let mut socket = alice.socket().await;
    socket.connect(Vec::new()).await;
    let target = || tidings_wire::Target::Conversation(group);
    let reference = socket.send(target(), crate::support::message_id(), &"x".repeat(16 * 1024 + 1)).await;
    let refused = error(&mut socket).await;
    assert_eq!((refused.reference, refused.code), (Some(reference), Code::TooLarge));
    socket.round_trip().await;
    socket.send(target(), crate::support::message_id(), &"x".repeat(64 * 1024)).await;
    let (_, closed) = socket.until_close().await;
    assert_eq!(closed, Closed(Some(1009)));
}
