//! Start, stop, and what is refused at the start.

use tidings_server::{Config, DEMO_PASSWORD, DEMO_USERS, ServerError};
use tidings_types::ConversationKind;
use tidings_wire::codes::CLOSE_DRAIN;
use tidings_wire::rest::{Conversation, Member, Page};
use tidings_wire::{Entry, ServerFrame};

use crate::support::{Closed, Device, Ending, Running, in_time};

#[tokio::test]
async fn a_second_server_in_the_same_directory_is_refused() {
    let server = Running::start().await;
    let Err(error) = server.start_beside(|_| ()).await else { panic!("two servers in one directory") };
    assert!(matches!(error, ServerError::DataDir(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(server.config.data.to_str().unwrap()), "{text}");
    server.sign_up("alice").await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let server = Running::start().await;
    let other = tempfile::TempDir::new().unwrap();
    let taken = server.start_beside(|config| {
        config.listen = server.address;
        config.data = other.path().to_owned();
    });
    let Err(error) = taken.await else { panic!("two servers on one port") };
    assert!(matches!(error, ServerError::AddressTaken(address) if address == server.address), "{error:?}");
    assert!(error.to_string().contains("--listen"));
}

#[tokio::test]
async fn a_clean_stop_tells_every_socket_and_takes_no_more() {
    let mut server = Running::start().await;
    let alice = server.sign_up("alice").await;
    let mut sockets = [alice.socket().await, alice.socket().await];
    for socket in &mut sockets {
        socket.connect(Vec::new()).await;
    }
    // One that has not said `connect` yet is told as well.
    let mut silent = alice.socket().await;
    let closes = async {
        for socket in sockets.iter_mut().chain([&mut silent]) {
            assert_eq!(socket.until_close().await.1, Closed(Some(CLOSE_DRAIN)));
        }
    };
    tokio::join!(in_time("a clean stop", server.stop()), closes);
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

fn demo(config: &mut Config) {
    config.demo = true;
}

/// What a demo user finds.
async fn found(device: &Device) -> (Vec<Conversation>, Vec<Entry>, Vec<Member>) {
    let conversations: Page<Conversation> = device.get("/v1/conversations").await.unwrap();
    let lobby = conversations.items[0].conversation_id;
    let members: Page<Member> = device.get(&format!("/v1/conversations/{lobby}/members")).await.unwrap();
    let frames = device.socket().await.connect(Vec::new()).await;
    let Some(ServerFrame::Connected(connected)) = frames.first() else { panic!("{frames:?}") };
    (conversations.items, device.entries(connected.personal_id, 0, 1_000).await, members.items)
}

#[tokio::test]
async fn a_demo_that_starts_again_finds_the_same_people_and_data() {
    let mut server = Running::with(demo).await;
    let alice = server.sign_in("alice", DEMO_PASSWORD).await;
    // The followers tell of the device that made the account, and of the lobby.
    let first = crate::support::until("both notes", || async {
        let page: Page<Conversation> = alice.get("/v1/conversations").await.unwrap();
        if page.items.is_empty() {
            return None;
        }
        Some(found(&alice).await).filter(|(_, personal, _)| personal.len() == 3)
    })
    .await;
    assert_eq!((first.0.len(), first.0[0].kind), (1, ConversationKind::Group));
    assert_eq!(first.2.len(), DEMO_USERS.len());
    for ending in [Ending::Stop, Ending::Crash] {
        server = server.restart(ending).await;
        let alice = server.device(alice.tokens.clone());
        assert_eq!(found(&alice).await, first, "{ending:?}");
    }
}

#[tokio::test]
async fn a_demo_starts_again_however_many_devices_its_people_have() {
    let server = Running::with(|config| {
        demo(config);
        config.limits.devices_per_user_max = Some(3);
    })
    .await;
    for _ in 0..3 {
        server.sign_in("alice", DEMO_PASSWORD).await;
    }
    server.restart(Ending::Stop).await;
}

#[tokio::test]
async fn a_demo_among_other_accounts_is_refused() {
    let mut server = Running::start().await;
    server.sign_up("mallory").await;
    server.stop().await;
    let Err(error) = server.start_beside(demo).await else { panic!("a demo among other accounts") };
    assert!(matches!(error, ServerError::DemoAmongAccounts), "{error:?}");
    // Nothing was made.
    let server = server.start_beside(|_| ()).await.unwrap();
    let mallory = server.sign_in("mallory", crate::support::PASSWORD).await;
    let users: serde_json::Value = mallory.get("/v1/users?query=alice").await.unwrap();
    assert_eq!(users["items"].as_array().unwrap().len(), 0);
}
