//! One value of everything that travels, with every optional field shown at least once.

use std::sync::Arc;

use tidings_types::{
    Body, Code, CommandHash, Content as CoreContent, ConversationId, ConversationKind, Cursor, DeviceId,
    Entry as CoreEntry, Epoch, Limits, MessageId, Refusal, Role, Seq, SessionId, SpaceId, Timestamp, UserId,
};
use tidings_wire::rest::{self, CreateConversation, Problem, SignIn, SignUp, Tokens, User};
use tidings_wire::{
    CaughtUp, ClientFrame, Connect, Connected, Content, Entry, ErrorFrame, Gap, MessageAccepted, Ping, Pong,
    ReceiveMessage, SendMessage, ServerFrame, Snapshot, Subscribe, Subscribed, Target,
};

const NOW_MS: u64 = 1_790_000_000_123;
const HASH: CommandHash = CommandHash([9; 16]);

fn at() -> Timestamp {
    Timestamp::from_ms(NOW_MS)
}

fn alice() -> UserId {
    UserId::v7(at(), [1; 10])
}

fn bob() -> UserId {
    UserId::v7(at(), [2; 10])
}

fn group_id() -> ConversationId {
    ConversationId::v7(at(), [3; 10])
}

fn direct_id() -> ConversationId {
    ConversationId::v8([4; 16])
}

fn personal_id() -> ConversationId {
    ConversationId::v8([5; 16])
}

fn message_id() -> MessageId {
    MessageId::v7(at(), [6; 10])
}

fn older_message_id() -> MessageId {
    MessageId::v7(at().minus_ms(1_000), [6; 10])
}

fn device_id() -> DeviceId {
    DeviceId::v7(at(), [7; 10])
}

fn session_id() -> SessionId {
    SessionId::v7(at(), [8; 10])
}

/// Quotes, a control character, a line separator and a character outside the basic plane.
fn text() -> Content {
    Content::text("Tea \"at\" five?\n\u{2028}\u{1f375}")
}

pub(crate) fn client_frames() -> Vec<(&'static str, ClientFrame)> {
    let send = SendMessage {
        reference: 3,
        target: Target::Conversation(group_id()),
        message_id: message_id(),
        content: text(),
        reply_to: Some(older_message_id()),
    };
    let cursor = |epoch, seq| Cursor { epoch: Epoch(epoch), seq: Seq(seq) };
    let cursors = vec![(group_id(), cursor(1, 17)), (personal_id(), cursor(2, 0))];
    let ask_again = Subscribe { reference: 2, conversation_id: group_id(), epoch: None, seq: None };
    vec![
        ("connect", ClientFrame::Connect(Connect { reference: 1, cursors })),
        ("subscribe", ClientFrame::Subscribe(ask_again)),
        (
            "subscribe_from",
            ClientFrame::Subscribe(Subscribe { epoch: Some(Epoch(1)), seq: Some(Seq(17)), ..ask_again }),
        ),
        ("send_message", ClientFrame::SendMessage(send.clone())),
        (
            "send_message_to_recipient",
            ClientFrame::SendMessage(SendMessage {
                target: Target::Recipient(bob()),
                reply_to: None,
                ..send
            }),
        ),
        ("ping", ClientFrame::Ping(Ping { reference: u32::MAX, sent: Some(5) })),
    ]
}

pub(crate) fn server_frames() -> Vec<(&'static str, ServerFrame)> {
    let snapshot = Snapshot {
        conversation_id: group_id(),
        kind: ConversationKind::Group,
        title: Some("Tea".into()),
        epoch: Epoch(1),
        floor: Seq(1),
        head: Seq(2_000),
        visible_from: Seq(4),
        member_count: 3,
    };
    let personal = Snapshot {
        conversation_id: personal_id(),
        kind: ConversationKind::Personal,
        title: None,
        ..snapshot.clone()
    };
    let refused = Refusal::new(Code::Overloaded, "too many sends are waiting").retry_after_ms(250);
    vec![
        ("connected", ServerFrame::Connected(connected())),
        ("snapshot", ServerFrame::Snapshot(snapshot)),
        ("snapshot_personal", ServerFrame::Snapshot(personal)),
        ("receive_message", ServerFrame::ReceiveMessage(receive_message())),
        ("entry", ServerFrame::Entry(Entry::from(&core_entries()[0]))),
        ("gap", {
            let range = (Seq(18), Seq(1_000));
            ServerFrame::Gap(Gap {
                conversation_id: group_id(),
                epoch: Epoch(1),
                from_seq: range.0,
                to_seq: range.1,
            })
        }),
        ("caught_up", ServerFrame::CaughtUp(CaughtUp { reference: 1 })),
        ("subscribed", ServerFrame::Subscribed(Subscribed { reference: 2, conversation_id: group_id() })),
        ("message_accepted", {
            let rest::MessageAccepted { conversation_id, message_id, seq, created_at_ms } =
                message_accepted();
            ServerFrame::MessageAccepted(MessageAccepted {
                reference: 3,
                conversation_id,
                message_id,
                seq,
                created_at_ms,
            })
        }),
        ("pong", ServerFrame::Pong(Pong { reference: 4, sent: 12 })),
        ("error", ServerFrame::Error(ErrorFrame::new(Some(3), refused))),
        (
            "error_of_socket",
            ServerFrame::Error(ErrorFrame::new(None, Refusal::new(Code::Invalid, "not a frame"))),
        ),
    ]
}

fn connected() -> Connected {
    Connected {
        reference: 1,
        user_id: alice(),
        device_id: device_id(),
        session_id: session_id(),
        personal_id: personal_id(),
        now_ms: NOW_MS,
        heartbeat_ms: 30_000,
        limits: (&Limits::default()).into(),
    }
}

fn receive_message() -> ReceiveMessage {
    ReceiveMessage {
        conversation_id: group_id(),
        seq: Seq(18),
        message_id: message_id(),
        sender_id: alice(),
        content: text(),
        created_at_ms: NOW_MS,
        messages: 12,
        reply_to: Some(older_message_id()),
    }
}

/// One entry of every kind.
pub(crate) fn core_entries() -> Vec<CoreEntry> {
    let created = Body::Created {
        kind: ConversationKind::Group,
        title: Some("Tea".into()),
        members: vec![(alice(), Role::Owner), (bob(), Role::Member)],
        hash: HASH,
    };
    let message = Body::Message {
        message_id: message_id(),
        content: CoreContent::Text(Arc::from("Hello")),
        reply_to: None,
        hash: HASH,
    };
    vec![
        entry(group_id(), 1, 0, created),
        entry(group_id(), 2, 1, message),
        entry(group_id(), 3, 1, Body::MembersAdded { users: vec![bob(), alice()] }),
        entry(group_id(), 4, 1, Body::MemberRemoved { user: bob() }),
        entry(group_id(), 5, 1, Body::MemberLeft),
        entry(personal_id(), 1, 0, Body::Joined { conversation: group_id(), seq: Seq(1) }),
        entry(personal_id(), 2, 0, Body::Left { conversation: group_id(), seq: Seq(5) }),
        entry(personal_id(), 3, 0, Body::DeviceRemoved { device: device_id() }),
    ]
}

fn entry(conversation: ConversationId, seq: u64, messages: u64, body: Body) -> CoreEntry {
    CoreEntry {
        space: SpaceId::DEFAULT,
        conversation,
        seq: Seq(seq),
        version: seq,
        sender: alice(),
        created_at: at(),
        messages,
        body,
    }
}

pub(crate) fn sign_up() -> SignUp {
    SignUp {
        username: "alice".into(),
        password: "correct horse".into(),
        display_name: Some("Alice".into()),
        device_id: Some(device_id()),
        device_name: Some("laptop".into()),
    }
}

pub(crate) fn sign_in() -> SignIn {
    SignIn { username: "alice".into(), password: "correct horse".into(), device_id: None, device_name: None }
}

pub(crate) fn refresh() -> rest::Refresh {
    rest::Refresh { refresh_token: "refresh".into() }
}

pub(crate) fn tokens() -> Tokens {
    Tokens {
        user: user(),
        device_id: device_id(),
        session_id: session_id(),
        access_token: "access".into(),
        access_expires_at_ms: NOW_MS + 600_000,
        now_ms: NOW_MS,
        refresh_token: "refresh".into(),
    }
}

pub(crate) fn user() -> User {
    User { user_id: alice(), username: "alice".into(), display_name: "Alice".into(), admin: true }
}

pub(crate) fn device() -> rest::Device {
    rest::Device {
        device_id: device_id(),
        name: "laptop".into(),
        created_at_ms: NOW_MS,
        last_seen_at_ms: NOW_MS,
        current: true,
    }
}

pub(crate) fn create_group() -> CreateConversation {
    CreateConversation::Group {
        conversation_id: group_id(),
        title: Some("Tea".into()),
        member_ids: vec![bob()],
    }
}

pub(crate) fn create_direct() -> CreateConversation {
    CreateConversation::Direct { user_id: bob() }
}

pub(crate) fn group() -> rest::Conversation {
    rest::Conversation {
        conversation_id: group_id(),
        kind: ConversationKind::Group,
        title: Some("Tea".into()),
        member_count: 3,
        head: Seq(18),
        floor: Seq(1),
        epoch: Epoch(1),
        last_message: Some(message()),
        visible_from: Seq(4),
        created_at_ms: NOW_MS,
        last_at_ms: NOW_MS + 5_000,
        members: None,
    }
}

pub(crate) fn direct() -> rest::Conversation {
    let other = rest::Member { user_id: bob(), username: None, display_name: None, ..member() };
    rest::Conversation {
        conversation_id: direct_id(),
        kind: ConversationKind::Direct,
        title: None,
        member_count: 2,
        last_message: None,
        members: Some(vec![member(), other]),
        ..group()
    }
}

pub(crate) fn member() -> rest::Member {
    rest::Member {
        user_id: alice(),
        role: Role::Admin,
        joined_at_ms: NOW_MS,
        visible_from: Seq(1),
        username: Some("alice".into()),
        display_name: Some("Alice".into()),
    }
}

pub(crate) fn add_members() -> rest::AddMembers {
    rest::AddMembers { user_ids: vec![alice(), bob()] }
}

pub(crate) fn send_message() -> rest::SendMessage {
    rest::SendMessage {
        target: Target::Recipient(bob()),
        message_id: message_id(),
        content: text(),
        reply_to: Some(older_message_id()),
    }
}

pub(crate) fn message_accepted() -> rest::MessageAccepted {
    rest::MessageAccepted {
        conversation_id: group_id(),
        message_id: message_id(),
        seq: Seq(18),
        created_at_ms: NOW_MS,
    }
}

pub(crate) fn message() -> rest::Message {
    rest::Message {
        message_id: message_id(),
        conversation_id: group_id(),
        seq: Seq(18),
        changed_seq: Seq(18),
        sender_id: alice(),
        content: text(),
        created_at_ms: NOW_MS,
        reply_to: Some(older_message_id()),
    }
}

pub(crate) fn page() -> rest::Page<rest::Message> {
    rest::Page { items: vec![message()], next_cursor: Some("opaque".into()) }
}

pub(crate) fn problem() -> Problem {
    Problem::from(Refusal::new(Code::RateLimited, "ten sign-ins per minute").retry_after_ms(6_000))
}
