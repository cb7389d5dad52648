//! What every directory must do. Each check starts with an empty directory.

use std::future::Future;

use tidings_types::{
    DeviceId, Fence, LogPosition, Place, RecordNumber, SessionId, SpaceId, Timestamp, UserId,
};

use crate::{
    Account, Directory, DirectoryError, DirectoryError::Conflict, NewAccount, NewSession, RefreshOutcome,
    Session,
};

const SPACE: SpaceId = SpaceId::DEFAULT;
const OTHER_SPACE: SpaceId = SpaceId::from_bytes([9; 16]);
const GRACE_MS: u64 = 30_000;

/// Runs every check; panics at the first that fails. `fresh` makes an empty directory.
pub async fn all<D, F>(fresh: impl Fn() -> F)
where
    D: Directory,
    F: Future<Output = D>,
{
    names_and_ids_are_taken_once(&fresh().await).await;
    only_the_first_account_is_admin(&fresh().await).await;
    an_account_is_found_by_name_and_id_in_its_space(&fresh().await).await;
    search_goes_by_prefix_and_pages_by_username(&fresh().await).await;
    a_known_device_keeps_its_name_and_its_older_session_ends(&fresh().await).await;
    a_device_belongs_to_one_user(&fresh().await).await;
    devices_are_bounded_and_a_refused_one_leaves_nothing(&fresh().await).await;
    a_refused_session_leaves_the_older_one(&fresh().await).await;
    a_refresh_token_rotates_and_repeats_within_its_grace(&fresh().await).await;
    the_previous_token_after_its_grace_ends_the_session(&fresh().await).await;
    an_older_or_foreign_token_is_unknown(&fresh().await).await;
    an_ended_session_is_not_live_and_has_no_token(&fresh().await).await;
    a_removed_device_is_gone_for_ever(&fresh().await).await;
    removals_are_numbered_in_order(&fresh().await).await;
    followers_have_separate_positions(&fresh().await).await;
}

async fn names_and_ids_are_taken_once(directory: &impl Directory) {
    let ada = directory.create_account(new_account(1, "ada")).await.expect("a free name");
    assert_eq!(ada, account(1, "ada", true));
    let same_name = directory.create_account(new_account(2, "ada")).await;
    assert!(matches!(same_name, Err(Conflict)), "{same_name:?}");
    let same_id = directory.create_account(new_account(1, "bob")).await;
    assert!(matches!(same_id, Err(Conflict)), "{same_id:?}");
    assert_eq!(directory.count_accounts().await.expect("a count"), 1);

    let elsewhere = NewAccount { space: OTHER_SPACE, ..new_account(3, "ada") };
    directory.create_account(elsewhere).await.expect("a name is taken in its own space only");
    assert_eq!(directory.count_accounts().await.expect("a count"), 2);
}

async fn only_the_first_account_is_admin(directory: &impl Directory) {
    assert!(sign_up(directory, 1, "ada").await.admin);
    assert!(!sign_up(directory, 2, "bob").await.admin);
    let elsewhere = NewAccount { space: OTHER_SPACE, ..new_account(3, "cy") };
    assert!(!directory.create_account(elsewhere).await.expect("a free name").admin, "one admin per server");
    let found = directory.accounts(SPACE, &[user(1), user(2)]).await.expect("accounts");
    assert_eq!(found.iter().filter(|account| account.admin).count(), 1);
}

async fn an_account_is_found_by_name_and_id_in_its_space(directory: &impl Directory) {
    let ada = sign_up(directory, 1, "ada").await;
    let bob = sign_up(directory, 2, "bob").await;
    let found = directory.account_by_name(SPACE, "ada").await.expect("a lookup").expect("ada exists");
    assert_eq!((found.account, found.password_hash.as_str()), (ada.clone(), "$hash$ada"));
    for (space, name) in [(SPACE, "ad"), (SPACE, "Ada"), (SPACE, ""), (OTHER_SPACE, "ada")] {
        assert!(directory.account_by_name(space, name).await.expect("a lookup").is_none(), "{name}");
    }

    let mut found = directory.accounts(SPACE, &[user(2), user(7), user(1)]).await.expect("accounts");
    found.sort_by_key(|account| account.user);
    assert_eq!(found, [ada, bob.clone()]);
    assert_eq!(directory.accounts(SPACE, &[user(2), user(2)]).await.expect("accounts"), [bob]);
    assert_eq!(directory.accounts(OTHER_SPACE, &[user(1)]).await.expect("accounts"), []);
    assert_eq!(directory.accounts(SPACE, &[]).await.expect("accounts"), []);
}

async fn search_goes_by_prefix_and_pages_by_username(directory: &impl Directory) {
    for (number, username, display_name) in [
        (1, "zoe", "Änne Müller"),
        (2, "anna", "Anna"),
        (3, "a_b", "Zed"),
        (4, "axb", "100% Axel"),
        (5, "bob", "anna's Bob"),
    ] {
        let new = NewAccount { display_name: display_name.to_owned(), ..new_account(number, username) };
        directory.create_account(new).await.expect("a free name");
    }
    let elsewhere = NewAccount { space: OTHER_SPACE, ..new_account(6, "annika") };
    directory.create_account(elsewhere).await.expect("a free name");

    for (query, after, rows_max, expected) in [
        ("", None, 9, vec!["a_b", "anna", "axb", "bob", "zoe"]),
        ("ann", None, 9, vec!["anna", "bob"]),
        ("ann", Some("anna"), 9, vec!["bob"]),
        ("ann", None, 1, vec!["anna"]),
        ("änne m", None, 9, vec!["zoe"]),
        ("z", None, 9, vec!["a_b", "zoe"]),
        // What stands for itself here is a wildcard in many a database.
        ("a_", None, 9, vec!["a_b"]),
        ("100%", None, 9, vec!["axb"]),
        ("%", None, 9, vec![]),
        ("nna", None, 9, vec![]),
        ("", Some("zoe"), 9, vec![]),
    ] {
        let found = directory.search_accounts(SPACE, query, after, rows_max).await.expect("a search");
        let names: Vec<&str> = found.iter().map(|account| account.username.as_str()).collect();
        assert_eq!(names, expected, "query {query:?} after {after:?}");
    }
}

async fn a_known_device_keeps_its_name_and_its_older_session_ends(directory: &impl Directory) {
    sign_up(directory, 1, "ada").await;
    assert_eq!(directory.open_session(new_session(1, 1, 1)).await.expect("a sign-in"), None);
    let again =
        NewSession { device_name: "another name".to_owned(), created_at: at(5), ..new_session(2, 1, 1) };
    assert_eq!(directory.open_session(again).await.expect("a sign-in"), Some(session(1)));
    assert_eq!(live(directory, &[1, 2]).await, [session(2)]);

    let devices = directory.devices(user(1)).await.expect("devices");
    let facts: Vec<_> =
        devices.iter().map(|d| (d.device, d.name.as_str(), d.created_at, d.last_seen_at)).collect();
    assert_eq!(facts, [(device(1), "device 1", at(0), at(5))]);
}

async fn a_device_belongs_to_one_user(directory: &impl Directory) {
    sign_up(directory, 1, "ada").await;
    sign_up(directory, 2, "bob").await;
    directory.open_session(new_session(1, 1, 1)).await.expect("a sign-in");
    let foreign = directory.open_session(new_session(2, 2, 1)).await;
    assert!(matches!(foreign, Err(Conflict)), "{foreign:?}");
    assert_eq!(live(directory, &[1, 2]).await, [session(1)]);
    assert_eq!(directory.devices(user(2)).await.expect("devices"), []);
}

async fn devices_are_bounded_and_a_refused_one_leaves_nothing(directory: &impl Directory) {
    sign_up(directory, 1, "ada").await;
    sign_up(directory, 2, "bob").await;
    let bounded = |number, device| NewSession { devices_max: 2, ..new_session(number, 1, device) };
    directory.open_session(new_session(9, 2, 9)).await.expect("a sign-in of somebody else");
    directory.open_session(bounded(1, 1)).await.expect("the first device");
    directory.open_session(bounded(2, 2)).await.expect("the second device");
    let third = directory.open_session(bounded(3, 3)).await;
    assert!(matches!(third, Err(DirectoryError::TooManyDevices)), "{third:?}");
    assert_eq!(directory.devices(user(1)).await.expect("devices").len(), 2);
    assert_eq!(live(directory, &[1, 2, 3]).await, [session(1), session(2)]);

    directory.open_session(bounded(4, 2)).await.expect("a known device is not one more");
    directory.remove_device(user(1), device(1), at(1)).await.expect("a removal");
    directory.open_session(bounded(5, 3)).await.expect("a removed device makes room");
}

async fn a_refused_session_leaves_the_older_one(directory: &impl Directory) {
    sign_up(directory, 1, "ada").await;
    directory.open_session(new_session(1, 1, 1)).await.expect("a sign-in");
    directory.open_session(new_session(2, 1, 2)).await.expect("a sign-in");
    // The session id is taken, by another device.
    let clash = directory.open_session(new_session(1, 1, 2)).await;
    assert!(matches!(clash, Err(Conflict)), "{clash:?}");
    assert_eq!(live(directory, &[1, 2]).await, [session(1), session(2)]);
}

async fn a_refresh_token_rotates_and_repeats_within_its_grace(directory: &impl Directory) {
    signed_in(directory).await;
    assert_eq!(rotate(directory, 1, 101, at(10)).await, RefreshOutcome::Rotated(whole_session(1)));
    assert_eq!(
        directory.devices(user(1)).await.expect("devices")[0].last_seen_at,
        at(10),
        "a refresh is a sign of life"
    );

    // The answer was lost, or a second tab had the same token: the same successor stays the current token.
    let last_moment = at(10).plus_ms(GRACE_MS);
    assert_eq!(rotate(directory, 1, 101, last_moment).await, RefreshOutcome::Rotated(whole_session(1)));
    assert_eq!(rotate(directory, 101, 102, last_moment).await, RefreshOutcome::Rotated(whole_session(1)));
    assert_eq!(live(directory, &[1]).await, [session(1)]);
}

async fn the_previous_token_after_its_grace_ends_the_session(directory: &impl Directory) {
    signed_in(directory).await;
    rotate(directory, 1, 101, at(10)).await;
    // A repeat does not start the window anew.
    rotate(directory, 1, 101, at(10).plus_ms(GRACE_MS)).await;
    let late = at(10).plus_ms(GRACE_MS + 1);
    assert_eq!(rotate(directory, 1, 101, late).await, RefreshOutcome::Reused(whole_session(1)));
    assert_eq!(live(directory, &[1]).await, []);
    assert_eq!(
        rotate(directory, 101, 102, late).await,
        RefreshOutcome::Unknown,
        "the successor died with it"
    );
    assert_eq!(
        directory.devices(user(1)).await.expect("devices").len(),
        1,
        "the device is signed out, not removed"
    );
}

async fn an_older_or_foreign_token_is_unknown(directory: &impl Directory) {
    signed_in(directory).await;
    assert_eq!(rotate(directory, 77, 78, at(1)).await, RefreshOutcome::Unknown);
    rotate(directory, 1, 101, at(1)).await;
    rotate(directory, 101, 102, at(2)).await;
    assert_eq!(rotate(directory, 1, 101, at(3)).await, RefreshOutcome::Unknown);
    assert_eq!(rotate(directory, 102, 103, at(4)).await, RefreshOutcome::Rotated(whole_session(1)));
}

async fn an_ended_session_is_not_live_and_has_no_token(directory: &impl Directory) {
    signed_in(directory).await;
    directory.open_session(new_session(2, 1, 2)).await.expect("a sign-in");
    directory.end_session(session(1)).await.expect("an end");
    directory.end_session(session(1)).await.expect("ending an ended one is fine");
    directory.end_session(session(50)).await.expect("so is ending an unknown one");
    assert_eq!(live(directory, &[1, 2, 50]).await, [session(2)]);
    assert_eq!(rotate(directory, 1, 101, at(1)).await, RefreshOutcome::Unknown);
    assert_eq!(live(directory, &[]).await, []);

    assert_eq!(directory.open_session(new_session(3, 1, 1)).await.expect("signs in again"), None);
    assert_eq!(live(directory, &[1, 2, 3]).await, [session(2), session(3)]);
}

async fn a_removed_device_is_gone_for_ever(directory: &impl Directory) {
    signed_in(directory).await;
    sign_up(directory, 2, "bob").await;
    assert_eq!(directory.remove_device(user(2), device(1), at(1)).await.expect("an answer"), None);
    assert_eq!(directory.remove_device(user(1), device(44), at(1)).await.expect("an answer"), None);
    assert_eq!(live(directory, &[1]).await, [session(1)], "another user's device is none of Bob's business");

    assert_eq!(
        directory.remove_device(user(1), device(1), at(2)).await.expect("a removal"),
        Some(session(1))
    );
    assert_eq!(live(directory, &[1]).await, []);
    assert_eq!(directory.devices(user(1)).await.expect("devices"), []);
    assert_eq!(rotate(directory, 1, 101, at(3)).await, RefreshOutcome::Unknown);
    assert_eq!(directory.remove_device(user(1), device(1), at(4)).await.expect("an answer"), None);
    let back = directory.open_session(new_session(2, 1, 1)).await;
    assert!(matches!(back, Err(Conflict)), "{back:?}");
}

async fn removals_are_numbered_in_order(directory: &impl Directory) {
    sign_up(directory, 1, "ada").await;
    sign_up(directory, 2, "bob").await;
    for (number, owner, device) in [(1, 1, 5), (2, 2, 3), (3, 1, 4)] {
        directory.open_session(new_session(number, owner, device)).await.expect("a sign-in");
    }
    assert_eq!(directory.device_removals(0, 9).await.expect("removals"), []);
    for (owner, number) in [(1, 5), (2, 3), (1, 5), (1, 4)] {
        directory.remove_device(user(owner), device(number), at(9)).await.expect("a removal");
    }

    let removals = directory.device_removals(0, 9).await.expect("removals");
    let subjects: Vec<_> =
        removals.iter().map(|removal| (removal.user, removal.space, removal.device)).collect();
    assert_eq!(
        subjects,
        [(user(1), SPACE, device(5)), (user(2), SPACE, device(3)), (user(1), SPACE, device(4))],
        "each once, in the order of removal"
    );
    assert!(removals[0].number >= 1 && removals.is_sorted_by(|a, b| a.number < b.number), "{removals:?}");
    assert_eq!(directory.device_removals(removals[0].number, 1).await.expect("removals"), removals[1..2]);
    assert_eq!(directory.device_removals(removals[2].number, 9).await.expect("removals"), []);
}

async fn followers_have_separate_positions(directory: &impl Directory) {
    let at =
        |place| LogPosition { place: Place(place), fence: Fence(place / 2), number: RecordNumber(place / 3) };
    assert_eq!(directory.follower_position("personal-0").await.expect("a position"), None);
    directory.set_follower_position("personal-0", at(7)).await.expect("a commit");
    directory.set_follower_position("personal-1", at(u64::MAX)).await.expect("a commit");
    directory.set_follower_position("personal-0", at(8)).await.expect("a commit");
    assert_eq!(directory.follower_position("personal-0").await.expect("a position"), Some(at(8)));
    assert_eq!(directory.follower_position("personal-1").await.expect("a position"), Some(at(u64::MAX)));
}

/// Ada, signed in with session 1 on device 1; her refresh token has hash 1.
async fn signed_in(directory: &impl Directory) {
    sign_up(directory, 1, "ada").await;
    directory.open_session(new_session(1, 1, 1)).await.expect("a sign-in");
}

async fn sign_up(directory: &impl Directory, number: u8, username: &str) -> Account {
    directory.create_account(new_account(number, username)).await.expect("a free name")
}

async fn rotate(directory: &impl Directory, presented: u8, successor: u8, now: Timestamp) -> RefreshOutcome {
    directory.rotate_refresh([presented; 32], [successor; 32], now, GRACE_MS).await.expect("an outcome")
}

async fn live(directory: &impl Directory, numbers: &[u8]) -> Vec<SessionId> {
    let asked: Vec<SessionId> = numbers.iter().copied().map(session).collect();
    let mut live = directory.live_sessions(&asked).await.expect("an answer");
    live.sort();
    live
}

fn new_account(number: u8, username: &str) -> NewAccount {
    NewAccount {
        user: user(number),
        space: SPACE,
        username: username.to_owned(),
        display_name: username.to_uppercase(),
        password_hash: format!("$hash${username}"),
        created_at: at(0),
    }
}

fn account(number: u8, username: &str, admin: bool) -> Account {
    let new = new_account(number, username);
    Account {
        user: new.user,
        space: new.space,
        username: new.username,
        display_name: new.display_name,
        admin,
        created_at: new.created_at,
    }
}

/// A sign-in whose refresh token has the hash `number`.
fn new_session(number: u8, owner: u8, on_device: u8) -> NewSession {
    NewSession {
        session: session(number),
        user: user(owner),
        device: device(on_device),
        device_name: format!("device {on_device}"),
        refresh_hash: [number; 32],
        created_at: at(0),
        devices_max: 20,
    }
}

fn whole_session(number: u8) -> Session {
    Session { session: session(number), user: user(1), space: SPACE, device: device(1) }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(1_790_000_000_000 + ms)
}

fn user(number: u8) -> UserId {
    UserId::from_bytes([number; 16])
}

fn device(number: u8) -> DeviceId {
    DeviceId::from_bytes([number; 16])
}

fn session(number: u8) -> SessionId {
    SessionId::from_bytes([number; 16])
}
