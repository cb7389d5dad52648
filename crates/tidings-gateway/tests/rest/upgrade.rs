//! The moment between the check of a session and its socket.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use tidings_ports::memory::MemoryDirectory;
use tidings_ports::{
    Account, AccountSecret, Device, DeviceRemoval, Directory, DirectoryError, NewAccount, NewSession,
    RefreshOutcome,
};
use tidings_types::{DeviceId, Limits, LogPosition, SessionId, SpaceId, Timestamp, UserId};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::Server;

/// The directory in memory, whose answers about sessions are on their way for as long as a test wants.
struct LateDirectory {
    directory: MemoryDirectory,
    read: Semaphore,
    arrive: Semaphore,
}

macro_rules! directory {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Directory for LateDirectory {
            async fn live_sessions(&self, sessions: &[SessionId]) -> Result<Vec<SessionId>, DirectoryError> {
                let live = self.directory.live_sessions(sessions).await;
                self.read.add_permits(1);
                self.arrive.acquire().await.map(SemaphorePermit::forget).unwrap();
                live
            }

            $(async fn $name(&self, $($argument: $type),*) -> Result<$answer, DirectoryError> {
                self.directory.$name($($argument),*).await
            })*
        }
    };
}

directory! {
    fn accounts(space: SpaceId, users: &[UserId]) -> Vec<Account>;
    fn create_account(account: NewAccount) -> Account;
    fn account_by_name(space: SpaceId, username: &str) -> Option<AccountSecret>;
    fn search_accounts(space: SpaceId, query: &str, after: Option<&str>, rows_max: usize) -> Vec<Account>;
    fn count_accounts() -> u64;
    fn open_session(session: NewSession) -> Option<SessionId>;
    fn rotate_refresh(
        presented: [u8; 32], successor: [u8; 32], now: Timestamp, grace_ms: u64
    ) -> RefreshOutcome;
    fn end_session(session: SessionId) -> ();
    fn devices(user: UserId) -> Vec<Device>;
    fn remove_device(user: UserId, device: DeviceId, now: Timestamp) -> Option<SessionId>;
    fn device_removals(after: u64, rows_max: usize) -> Vec<DeviceRemoval>;
    fn follower_position(follower: &str) -> Option<LogPosition>;
    fn set_follower_position(follower: &str, position: LogPosition) -> ();
}

#[tokio::test]
async fn a_session_that_ends_while_its_socket_is_made_has_none_a_second_later() {
    let directory = Arc::new(LateDirectory {
        directory: MemoryDirectory::new(),
        read: Semaphore::new(0),
        arrive: Semaphore::new(0),
    });
    let server = Server::on(Limits::default(), directory.clone()).await;
    let ada = server.sign_up("ada").await;
    let mut request = format!("ws://{}/v1/ws", server.address).into_client_request().unwrap();
    let bearer = format!("Bearer {}", ada.tokens.access_token);
    request.headers_mut().insert("authorization", bearer.try_into().unwrap());
    request.headers_mut().insert("sec-websocket-protocol", "tidings.v1.json".try_into().unwrap());

    let removal = async {
        directory.read.acquire().await.map(SemaphorePermit::forget).unwrap();
        ada.delete("/v1/sessions/current").await.done();
        directory.arrive.add_permits(1);
    };
    let (socket, ()) = tokio::join!(connect_async(request), removal);
    let closed = match socket {
        Ok((mut socket, _)) => tokio::time::timeout(Duration::from_secs(1), socket.next()).await,
        Err(Error::Http(response)) => return assert_eq!(response.status(), 401),
        Err(error) => panic!("{error}"),
    };
    match closed.expect("a close within a second") {
        Some(Ok(Message::Close(Some(close)))) => assert!((4100..4200).contains(&u16::from(close.code))),
        other => panic!("{other:?} instead of a close"),
    }
}
