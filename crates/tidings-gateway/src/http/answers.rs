//! From what the service answers to the bodies of `tidings_wire::rest`.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_service::{Account, Accounts, ConversationView, MemberView, SignedIn};
use tidings_types::{Code, ConversationKind, DeviceId, Entry, Refusal, UserId};
use tidings_wire::rest::{Conversation, Device, Member, Message, Page, Tokens, User};

use super::problem::Failure;
use crate::Gateway;

/// The names of the users that an answer shows, read at once.
pub(super) struct Names(HashMap<UserId, (String, String)>);

impl Names {
    pub(super) async fn of(
        accounts: &Accounts,
        users: impl Iterator<Item = UserId>,
    ) -> Result<Self, Refusal> {
        let mut users: Vec<UserId> = users.collect();
        users.sort_unstable();
        users.dedup();
        if users.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let found = accounts.accounts(&users).await?;
        Ok(Self(found.into_iter().map(|found| (found.user, (found.username, found.display_name))).collect()))
    }

    pub(super) fn member(&self, MemberView { user, member }: MemberView) -> Member {
        let (username, display_name) = self.0.get(&user).cloned().unzip();
        Member {
            user_id: user,
            role: member.role,
            joined_at_ms: member.joined_at.as_ms(),
            visible_from: member.visible_from,
            username,
            display_name,
        }
    }

    pub(super) fn conversation(&self, view: ConversationView) -> Conversation {
        let ConversationView { conversation, head, member, last_message, members } = view;
        let is_direct = head.kind == ConversationKind::Direct;
        Conversation {
            conversation_id: conversation,
            kind: head.kind,
            title: head.title.as_deref().map(ToOwned::to_owned),
            member_count: head.member_count,
            head: head.seq,
            floor: head.floor,
            epoch: head.epoch,
            last_message: last_message.and_then(|entry| Message::from_entry(&entry)),
            visible_from: member.visible_from,
            created_at_ms: head.created_at.as_ms(),
            last_at_ms: head.last_at.as_ms(),
            members: is_direct.then(|| members.into_iter().map(|member| self.member(member)).collect()),
        }
    }
}

pub(super) fn tokens(gateway: &Gateway, signed_in: SignedIn) -> Tokens {
    Tokens {
        user: user(signed_in.account),
        device_id: signed_in.device,
        session_id: signed_in.session,
        access_token: signed_in.access_token,
        access_expires_at_ms: signed_in.access_expires_at.as_ms(),
        now_ms: gateway.service.now().as_ms(),
        refresh_token: signed_in.refresh_token,
    }
}

pub(super) fn user(account: Account) -> User {
    let Account { user, username, display_name, admin, space: _, created_at: _ } = account;
    User { user_id: user, username, display_name, admin }
}

pub(super) fn device(device: tidings_service::Device, asking: DeviceId) -> Device {
    Device {
        device_id: device.device,
        name: device.name,
        created_at_ms: device.created_at.as_ms(),
        last_seen_at_ms: device.last_seen_at.as_ms(),
        current: device.device == asking,
    }
}

pub(super) async fn conversation(
    accounts: &Accounts,
    view: ConversationView,
) -> Result<Conversation, Refusal> {
    let names = Names::of(accounts, view.members.iter().map(|member| member.user)).await?;
    Ok(names.conversation(view))
}

pub(super) async fn members(accounts: &Accounts, views: Vec<MemberView>) -> Result<Vec<Member>, Refusal> {
    let names = Names::of(accounts, views.iter().map(|view| view.user)).await?;
    Ok(views.into_iter().map(|view| names.member(view)).collect())
}

pub(super) fn message(entry: &Entry) -> Result<Message, Failure> {
    Message::from_entry(entry)
        .ok_or_else(|| Failure(Refusal::new(Code::Internal, "an entry was found where a message belongs")))
}

pub(super) fn messages(entries: &[Arc<Entry>]) -> Page<Message> {
    last_page(entries.iter().filter_map(|entry| Message::from_entry(entry)).collect())
}

pub(super) fn entries(entries: &[Arc<Entry>]) -> Page<tidings_wire::Entry> {
    last_page(entries.iter().map(|entry| tidings_wire::Entry::from(&**entry)).collect())
}

/// A page that no cursor follows.
pub(super) fn last_page<T>(items: Vec<T>) -> Page<T> {
    Page { items, next_cursor: None }
}
