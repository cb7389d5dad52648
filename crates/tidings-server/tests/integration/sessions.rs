//! The upgrade authenticates, and a socket lives no longer than its session.

use std::time::{Duration, Instant};

use http::HeaderValue;
use tidings_wire::{EntryBody, ServerFrame};

use crate::support::{Closed, Running, Socket};

#[tokio::test]
async fn nobody_unknown_gets_a_socket() {
    let server = Running::start().await;
    let alice = server.sign_up("alice").await;
    for token in ["", "garbage", "eyJhbGciOiJub25lIn0.e30."] {
        assert_eq!(Socket::open(server.address, token).await.err(), Some(401), "{token:?}");
    }
    assert_eq!(Socket::open_with(server.address, None, |_| ()).await.err(), Some(401));
    let token = alice.tokens.access_token.clone();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    assert_eq!(Socket::open(server.address, &forged).await.err(), Some(401));

    let with_origin = async |origin: &str| {
        let authorization = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        let origin = HeaderValue::try_from(origin).unwrap();
        Socket::open_with(server.address, None, move |request| {
            request.headers_mut().insert("authorization", authorization);
            request.headers_mut().insert("origin", origin);
        })
        .await
    };
    for origin in
        ["http://evil.example", "null", "file://", &format!("http://{}.evil.example", server.address)]
    {
        assert_eq!(with_origin(origin).await.err(), Some(403), "{origin}");
    }
    assert!(with_origin(&format!("http://{}", server.address)).await.is_ok());
}

#[tokio::test]
async fn a_socket_ends_with_its_session_and_the_other_devices_are_told() {
    let server = Running::start().await;
    let laptop = server.sign_up("alice").await;
    let mut at_laptop = laptop.socket().await;
    at_laptop.connect(Vec::new()).await;
    for by_itself in [true, false] {
        let phone = server.sign_in("alice", crate::support::PASSWORD).await;
        let mut at_phone = phone.socket().await;
        at_phone.connect(Vec::new()).await;
        let ended = Instant::now();
        let status = if by_itself {
            phone.delete("/v1/sessions/current").await
        } else {
            laptop.delete(&format!("/v1/devices/{}", phone.tokens.device_id)).await
        };
        assert_eq!(status, 204);
        let (_, closed) = at_phone.until_close().await;
        assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
        assert!(matches!(closed, Closed(Some(4100..=4199))), "{closed:?}");
        assert_eq!(Socket::open(server.address, &phone.tokens.access_token).await.err(), Some(401));
        if !by_itself {
            let removed = |frame: &ServerFrame| match frame {
                ServerFrame::Entry(entry) => match &entry.body {
                    EntryBody::DeviceRemoved(removed) => removed.device_id == phone.tokens.device_id,
                    _ => false,
                },
                _ => false,
            };
            at_laptop.until(removed).await;
        }
    }
    at_laptop.round_trip().await;
}

#[tokio::test]
async fn a_removed_device_stays_out_over_a_restart() {
    let server = Running::start().await;
    let laptop = server.sign_up("alice").await;
    let phone = server.sign_in("alice", crate::support::PASSWORD).await;
    assert_eq!(laptop.delete(&format!("/v1/devices/{}", phone.tokens.device_id)).await, 204);
    let server = server.restart(crate::support::Ending::Crash).await;
    assert_eq!(Socket::open(server.address, &phone.tokens.access_token).await.err(), Some(401));
    server.device(laptop.tokens).socket().await.connect(Vec::new()).await;
}
