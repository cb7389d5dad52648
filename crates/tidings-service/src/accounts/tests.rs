use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidings_ports::memory::{MemoryDirectory, SeededRng};
use tidings_ports::{BoxFuture, Clock, Directory, Tasks};
use tidings_types::{Code, DeviceId, Refusal, SessionId, Timestamp, UserId};

use super::*;

const START: Timestamp = Timestamp::from_ms(1_790_000_000_000);
const TTL_MS: u64 = 600_000;
const GRACE_MS: u64 = 30_000;
const PASSWORD: &str = "correct horse battery";

/// Time that moves only when a test moves it.
struct ManualClock(AtomicU64);

impl ManualClock {
    fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(self.0.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn sleep_ms(&self, _ms: u64) -> BoxFuture<'static, ()> {
        panic!("accounts do not sleep")
    }
}

struct Threads;

impl Tasks for Threads {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(work);
    }
}

struct World {
    accounts: Arc<Accounts>,
    directory: Arc<MemoryDirectory>,
    clock: Arc<ManualClock>,
    ended: Arc<Mutex<Vec<SessionId>>>,
    removals: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| ())
    }

    /// Hashing as cheap as argon2 allows; everything else as shipped, but open.
    fn with(change: impl FnOnce(&mut AccountsConfig)) -> Self {
        let mut config = AccountsConfig {
            registration: Registration::Open,
            hashing_cost: HashingCost { memory_kib: 8, passes: 1, lanes: 1 },
            ..AccountsConfig::default()
        };
        change(&mut config);
        let directory = Arc::new(MemoryDirectory::new());
        let clock = Arc::new(ManualClock(AtomicU64::new(START.as_ms())));
        let ports = AccountsPorts {
            directory: directory.clone(),
            clock: clock.clone(),
            rng: Arc::new(SeededRng::new(1)),
            tasks: Arc::new(Threads),
        };
        let (ended, removals) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let (told, counted) = (ended.clone(), removals.clone());
        let hooks = AccountsHooks {
            session_ended: Arc::new(move |session| told.lock().unwrap().push(session)),
            device_removed: Arc::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            }),
        };
        let keys = AccountsKeys { access_seed: [1; 32], refresh_key: [2; 32] };
        let accounts = Arc::new(Accounts::new(config, &keys, ports, hooks).unwrap());
        Self { accounts, directory, clock, ended, removals }
    }

    async fn sign_up(&self, username: &str) -> SignedIn {
        self.accounts.sign_up(sign_up(username)).await.unwrap()
    }

    /// A sign-in on another device.
    async fn sign_in(&self, username: &str) -> SignedIn {
        self.accounts.sign_in(sign_in(username, PASSWORD)).await.unwrap()
    }

    fn ended(&self) -> Vec<SessionId> {
        self.ended.lock().unwrap().clone()
    }

    async fn is_live(&self, session: SessionId) -> bool {
        !self.accounts.live(&[session]).await.unwrap().is_empty()
    }
}

#[tokio::test]
async fn who_signs_up_is_signed_in() {
    let world = World::new();
    let ada = world.sign_up("Ada").await;
    assert_eq!((ada.account.username.as_str(), ada.account.display_name.as_str()), ("ada", "ada"));
    assert!(ada.account.admin, "the first account");
    assert_eq!(ada.access_expires_at, START.plus_ms(TTL_MS));
    let session = world.accounts.authenticate(&ada.access_token).unwrap();
    assert_eq!((session.user, session.device, session.session), (ada.account.user, ada.device, ada.session));
    assert_eq!(session.space, SpaceId::DEFAULT);
    assert_eq!(world.accounts.live(&[ada.session]).await.unwrap(), [ada.session]);
    assert_eq!(world.accounts.account(ada.account.user).await.unwrap(), ada.account);
    assert_eq!(world.accounts.devices(ada.account.user).await.unwrap()[0].name, "laptop");

    let named = SignUp { display_name: Some(" Bob B. ".to_owned()), ..sign_up("bob") };
    let bob = world.accounts.sign_up(named).await.unwrap().account;
    assert_eq!((bob.display_name.as_str(), bob.admin), ("Bob B.", false));
}

#[tokio::test]
async fn sign_up_is_refused_with_a_reason() {
    let world = World::new();
    world.sign_up("ada").await;
    let long_name = Some("x".repeat(129));
    for (request, code) in [
        (sign_up("ADA"), Code::IdConflict),
        (sign_up("a"), Code::Invalid),
        (SignUp { password: "too short".to_owned(), ..sign_up("bob") }, Code::Invalid),
        (SignUp { password: "x".repeat(257), ..sign_up("bob") }, Code::TooLarge),
        (SignUp { display_name: long_name, ..sign_up("bob") }, Code::TooLarge),
        (SignUp { device: device(Some(DeviceId::v8([1; 16]))), ..sign_up("bob") }, Code::Invalid),
    ] {
        let username = request.username.clone();
        assert_eq!(refused(world.accounts.sign_up(request).await), code, "{username}");
    }
    assert_eq!(world.directory.count_accounts().await.unwrap(), 1, "nothing was left behind");

    let closed = World::with(|config| config.registration = Registration::Invite);
    assert_eq!(refused(closed.accounts.sign_up(sign_up("ada")).await), Code::Forbidden);
}

#[tokio::test]
async fn two_people_who_want_one_name_at_the_same_moment_get_one() {
    let world = World::new();
    let (one, two) =
        tokio::join!(world.accounts.sign_up(sign_up("ada")), world.accounts.sign_up(sign_up("ada")));
    let codes = [one, two].map(|answer| answer.map(|_| ()).map_err(|refusal| refusal.code));
    assert!(codes.contains(&Ok(())) && codes.contains(&Err(Code::IdConflict)), "{codes:?}");
}

#[tokio::test]
async fn sign_in_needs_the_password_and_does_not_tell_what_was_wrong() {
    let world = World::new();
    let first = world.sign_up("ada").await;
    let second = world.accounts.sign_in(sign_in("ADA", PASSWORD)).await.unwrap();
    assert_eq!(second.account, first.account);
    assert!(second.device != first.device && second.session != first.session);
    assert_eq!(world.accounts.devices(first.account.user).await.unwrap().len(), 2);

    let wrong = world.accounts.sign_in(sign_in("ada", "correct horse batterz")).await.unwrap_err();
    assert_eq!(wrong.code, Code::Unauthenticated);
    for request in [
        sign_in("nobody", PASSWORD),
        sign_in("no body", PASSWORD),
        sign_in("", PASSWORD),
        sign_in("ada", ""),
        sign_in("ada", &"x".repeat(100_000)),
    ] {
        assert_eq!(world.accounts.sign_in(request).await.unwrap_err(), wrong);
    }
}

#[tokio::test]
async fn an_unknown_name_takes_the_same_way_through_the_hashing_as_a_known_one() {
    let world = World::new();
    world.sign_up("ada").await;
    // With no room to hash, whoever needs a hash is turned away: all of them.
    let busy = world.accounts.passwords.occupy();
    for request in [sign_in("ada", PASSWORD), sign_in("nobody", PASSWORD), sign_in("no body", PASSWORD)] {
        let refusal = world.accounts.sign_in(request).await.unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::Overloaded, Some(1_000)));
    }
    assert_eq!(refused(world.accounts.sign_up(sign_up("bob")).await), Code::Overloaded);
    drop(busy);
    world.sign_in("ada").await;
}

#[tokio::test]
async fn an_access_token_expires_by_the_clock_and_a_changed_one_proves_nothing() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    world.clock.advance(TTL_MS - 1);
    world.accounts.authenticate(&ada.access_token).unwrap();
    world.clock.advance(1);
    let expired = world.accounts.authenticate(&ada.access_token).unwrap_err();
    assert_eq!(expired.code, Code::TokenExpired);
    for wrong in ["", "a.b.c", &ada.access_token[1..], &format!("{}x", ada.access_token), &ada.refresh_token]
    {
        let refusal = world.accounts.authenticate(wrong).unwrap_err();
        assert_eq!(refusal.code, Code::Unauthenticated, "{wrong}");
    }
}

#[tokio::test]
async fn refresh_makes_new_proofs_of_the_same_session() {
    let world = World::new();
    let first = world.sign_up("ada").await;
    world.clock.advance(TTL_MS);
    let second = world.accounts.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(
        (second.session, second.device, &second.account),
        (first.session, first.device, &first.account)
    );
    assert_ne!(second.refresh_token, first.refresh_token);
    assert_eq!(second.access_expires_at, START.plus_ms(2 * TTL_MS));
    assert_eq!(world.accounts.authenticate(&second.access_token).unwrap().session, first.session);
    let third = world.accounts.refresh(&second.refresh_token).await.unwrap();
    assert_ne!(third.refresh_token, second.refresh_token);
    assert_eq!(world.ended(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_refreshes_at_once_get_the_same_successor() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    let mut refreshes = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (accounts, token) = (world.accounts.clone(), ada.refresh_token.clone());
        refreshes.spawn(async move { accounts.refresh(&token).await.unwrap().refresh_token });
    }
    let mut successors = refreshes.join_all().await;
    successors.dedup();
    assert_eq!(successors.len(), 1);
    // The answer was lost: the same again until the grace is over.
    world.clock.advance(GRACE_MS);
    assert_eq!(world.accounts.refresh(&ada.refresh_token).await.unwrap().refresh_token, successors[0]);
    world.accounts.refresh(&successors[0]).await.unwrap();
    assert_eq!(world.ended(), []);
}

#[tokio::test]
async fn the_previous_token_after_its_grace_ends_the_session() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    let phone = world.sign_in("ada").await;
    let second = world.accounts.refresh(&ada.refresh_token).await.unwrap();
    world.clock.advance(GRACE_MS + 1);
    assert_eq!(refused(world.accounts.refresh(&ada.refresh_token).await), Code::Unauthenticated);
    assert_eq!(world.ended(), [ada.session]);
    assert!(!world.is_live(ada.session).await);
    assert_eq!(refused(world.accounts.refresh(&second.refresh_token).await), Code::Unauthenticated);
    assert!(world.is_live(phone.session).await, "other sessions of the user go on");
    world.accounts.refresh(&phone.refresh_token).await.unwrap();
}

#[tokio::test]
async fn a_thief_who_rotates_twice_is_found_when_the_owner_comes_back() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    let second = world.accounts.refresh(&ada.refresh_token).await.unwrap();
    let third = world.accounts.refresh(&second.refresh_token).await.unwrap();
    // The directory has forgotten the first token; its tag still says whose it is.
    assert_eq!(refused(world.accounts.refresh(&ada.refresh_token).await), Code::Unauthenticated);
    assert_eq!(world.ended(), [ada.session]);
    assert_eq!(refused(world.accounts.refresh(&third.refresh_token).await), Code::Unauthenticated);
    assert_eq!(world.ended(), [ada.session], "an ended session does not end again");
}

#[tokio::test]
async fn a_made_up_refresh_token_ends_nothing() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    let foreign = RefreshTokens::new([9; 32]).first(ada.session, [1; 32]).text();
    for wrong in ["", "x", &ada.refresh_token[1..], &foreign, &ada.access_token] {
        assert_eq!(refused(world.accounts.refresh(wrong).await), Code::Unauthenticated, "{wrong}");
    }
    assert_eq!(world.ended(), []);
    assert!(world.is_live(ada.session).await);
}

#[tokio::test]
async fn signing_out_ends_the_session_and_tells() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    world.accounts.sign_out(ada.session).await.unwrap();
    assert_eq!(world.ended(), [ada.session]);
    assert!(!world.is_live(ada.session).await);
    assert_eq!(refused(world.accounts.refresh(&ada.refresh_token).await), Code::Unauthenticated);
    world.accounts.sign_out(ada.session).await.unwrap();
}

#[tokio::test]
async fn a_device_that_signs_in_again_leaves_its_older_session() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    let again = SignIn { device: device(Some(ada.device)), ..sign_in("ada", PASSWORD) };
    let again = world.accounts.sign_in(again).await.unwrap();
    assert_eq!(again.device, ada.device);
    assert_eq!(world.ended(), [ada.session]);
    assert!(world.is_live(again.session).await && !world.is_live(ada.session).await);

    world.sign_up("bob").await;
    let stolen = SignIn { device: device(Some(ada.device)), ..sign_in("bob", PASSWORD) };
    assert_eq!(refused(world.accounts.sign_in(stolen).await), Code::IdConflict);
    assert!(world.is_live(again.session).await);
}

#[tokio::test]
async fn a_removed_device_is_out_and_stays_out() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    let phone = world.sign_in("ada").await;
    let bob = world.sign_up("bob").await;
    let user = ada.account.user;
    assert_eq!(world.accounts.remove_device(bob.account.user, phone.device).await.unwrap(), None);
    assert!(world.is_live(phone.session).await, "a device of somebody else");

    assert_eq!(world.accounts.remove_device(user, phone.device).await.unwrap(), Some(phone.session));
    assert_eq!(world.ended(), [phone.session]);
    assert!(world.removals.load(Ordering::SeqCst) >= 1, "the follower of removals was woken");
    assert_eq!(world.directory.device_removals(0, 9).await.unwrap()[0].device, phone.device);
    let left: Vec<_> = world.accounts.devices(user).await.unwrap().iter().map(|d| d.device).collect();
    assert_eq!(left, [ada.device]);
    let back = SignIn { device: device(Some(phone.device)), ..sign_in("ada", PASSWORD) };
    assert_eq!(refused(world.accounts.sign_in(back).await), Code::IdConflict);
    assert_eq!(world.accounts.remove_device(user, phone.device).await.unwrap(), None);
}

#[tokio::test]
async fn devices_are_bounded() {
    let world = World::with(|config| config.devices_max = 2);
    let ada = world.sign_up("ada").await;
    world.sign_in("ada").await;
    assert_eq!(refused(world.accounts.sign_in(sign_in("ada", PASSWORD)).await), Code::TooLarge);
    world.accounts.remove_device(ada.account.user, ada.device).await.unwrap();
    world.sign_in("ada").await;
}

#[tokio::test]
async fn search_pages_by_a_cursor() {
    let world = World::new();
    for name in ["ann", "anna", "bob", "annika"] {
        world.sign_up(name).await;
    }
    let (mut names, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = world.accounts.search(" ANN", cursor.as_deref(), Some(2)).await.unwrap();
        names.extend(page.items.into_iter().map(|account| account.username));
        pages += 1;
        let Some(next) = page.next_cursor else { break };
        cursor = Some(next);
    }
    assert_eq!((names, pages), (["ann", "anna", "annika"].map(str::to_owned).to_vec(), 2));

    let whole = world.accounts.search("ann", None, Some(3)).await.unwrap();
    assert_eq!((whole.items.len(), whole.next_cursor), (3, None), "a full last page has no next one");
    assert_eq!(refused(world.accounts.search("", Some("%%%"), None).await), Code::Invalid);
    assert_eq!(refused(world.accounts.search("", None, Some(101)).await), Code::Invalid);
}

#[tokio::test]
async fn long_lists_of_ids_are_asked_in_parts() {
    let world = World::new();
    let ada = world.sign_up("ada").await;
    let mut users: Vec<UserId> = (0..2_500_u16).map(|n| UserId::v8(u128::from(n).to_be_bytes())).collect();
    users.push(ada.account.user);
    assert_eq!(world.accounts.accounts(&users).await.unwrap(), [ada.account]);
    assert_eq!(refused(world.accounts.account(users[0]).await), Code::NotFound);
    let mut sessions: Vec<SessionId> =
        (0..2_500_u16).map(|n| SessionId::v8(u128::from(n).to_be_bytes())).collect();
    sessions.push(ada.session);
    assert_eq!(world.accounts.live(&sessions).await.unwrap(), [ada.session]);
}

#[test]
fn a_configuration_without_hashing_is_refused() {
    let make = |config| {
        let ports = AccountsPorts {
            directory: Arc::new(MemoryDirectory::new()),
            clock: Arc::new(ManualClock(AtomicU64::new(0))),
            rng: Arc::new(SeededRng::new(1)),
            tasks: Arc::new(Threads),
        };
        let hooks = AccountsHooks { session_ended: Arc::new(drop), device_removed: Arc::new(|| ()) };
        Accounts::new(config, &AccountsKeys { access_seed: [1; 32], refresh_key: [2; 32] }, ports, hooks)
    };
    let none = AccountsConfig { hashing_parallel_max: 0, ..AccountsConfig::default() };
    assert!(matches!(make(none), Err(AccountsError::NoHashing)));
    let cost = HashingCost { memory_kib: 1, passes: 0, lanes: 1 };
    let cheap = AccountsConfig { hashing_cost: cost, ..AccountsConfig::default() };
    assert!(matches!(make(cheap), Err(AccountsError::HashingCost(_))));
}

fn sign_up(username: &str) -> SignUp {
    SignUp {
        username: username.to_owned(),
        password: PASSWORD.to_owned(),
        display_name: None,
        device: device(None),
    }
}

fn sign_in(username: &str, password: &str) -> SignIn {
    SignIn { username: username.to_owned(), password: password.to_owned(), device: device(None) }
}

fn device(id: Option<DeviceId>) -> SigningDevice {
    SigningDevice { id, name: "laptop".to_owned() }
}

fn refused<T: fmt::Debug>(answer: Result<T, Refusal>) -> Code {
    answer.unwrap_err().code
}
