//! Demo data: a few people with a known password, and one group, so that two terminals can talk a minute after the
//! first start.

use std::sync::Arc;

use tidings_service::{Accounts, Service, Session, SignIn, SignUp, SigningDevice};
use tidings_types::{Code, ConversationId, Refusal, SpaceId, Timestamp, UserId};

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

/// Signs up or in, and out again: the demo leaves no device behind.
async fn user(accounts: &Accounts, name: &str) -> Result<Session, Refusal> {
    let device = || SigningDevice { id: None, name: "demo set-up".to_owned() };
    let sign_up = SignUp {
        username: name.to_owned(),
        password: DEMO_PASSWORD.to_owned(),
        display_name: None,
        device: device(),
    };
    let signed_in = match accounts.sign_up(sign_up).await {
        Err(refusal) if refusal.code == Code::IdConflict => {
            let sign_in =
                SignIn { username: name.to_owned(), password: DEMO_PASSWORD.to_owned(), device: device() };
            accounts.sign_in(sign_in).await?
        }
        other => other?,
    };
    let user = signed_in.account.user;
    accounts.remove_device(user, signed_in.device).await?;
    Ok(Session { session: signed_in.session, user, space: SpaceId::DEFAULT, device: signed_in.device })
}
