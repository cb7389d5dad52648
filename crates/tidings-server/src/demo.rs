//! Demo data: a few people with a known password, and one group, so that two terminals can talk a minute after the
//! first start.

use std::sync::Arc;

use tidings_service::{Account, Accounts, Service, Session, SignUp, SigningDevice};
use tidings_types::{Code, ConversationId, DeviceId, Refusal, SessionId, SpaceId, Timestamp, UserId};

/// Everybody knows it: that is why a demo listens on loopback only.
pub const DEMO_PASSWORD: &str = "tidings-demo";

/// The people of the demo.
pub const DEMO_USERS: &[&str] = &["alice", "bob", "carol", "dave"];

const GROUP_TITLE: &str = "Lobby";

/// Makes what is missing; a second start finds everything there.
pub(crate) async fn prepare(accounts: &Accounts, service: &Service) -> Result<(), Refusal> {
    let mut users = Vec::new();
    for name in DEMO_USERS {
        users.push(user(accounts, name).await?);
    }
    let [owner, members @ ..] = users.as_slice() else { return Ok(()) };
    // A fixed id: creating it again is answered as the first time.
    let group = ConversationId::v7(Timestamp::from_ms(1_700_000_000_000), *b"demo-lobby");
    let members = members.iter().map(|session| session.user).collect::<Vec<UserId>>();
    match service.create_group(owner, group, Some(Arc::from(GROUP_TITLE)), members).await {
        Ok(_) => Ok(()),
        // The owner may have changed it since.
        Err(refusal) if refusal.code == Code::IdConflict => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// The account of one of the demo's people, if it is there already.
pub(crate) async fn find(accounts: &Accounts, name: &str) -> Result<Option<Account>, Refusal> {
    let page = accounts.search(name, None, None).await?;
    Ok(page.items.into_iter().find(|account| account.username == name))
}

/// An account that is there is taken as it is: signing in for it would leave a trace in it at each start. A new one is
/// signed out again: the demo leaves no device behind.
async fn user(accounts: &Accounts, name: &str) -> Result<Session, Refusal> {
    if let Some(account) = find(accounts, name).await? {
        return Ok(acting_for(account.user));
    }
    let signed_up = accounts
        .sign_up(SignUp {
            username: name.to_owned(),
            password: DEMO_PASSWORD.to_owned(),
            display_name: None,
            device: SigningDevice { id: None, name: "demo set-up".to_owned() },
        })
        .await?;
    let user = signed_up.account.user;
    accounts.remove_device(user, signed_up.device).await?;
    Ok(acting_for(user))
}

/// Use cases look at the user and the space; there is no sign-in behind it.
fn acting_for(user: UserId) -> Session {
    let (session, device) = (SessionId::from_bytes([0; 16]), DeviceId::from_bytes([0; 16]));
    Session { session, user, space: SpaceId::DEFAULT, device }
}
