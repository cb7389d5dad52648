//! Keys, rows and histories that the checks of the tables are made of.

use std::sync::Arc;

use tidings_types::{
    Body, CommandHash, Content, ConversationId, ConversationKey, ConversationKind, DeviceId, Entry, Epoch,
    Fence, Head, LogPosition, Member, MessageId, PersonalSubject, Place, RecordNumber, Role, Seq, ShardId,
    SpaceId, Timestamp, UserId,
};

use crate::Projection;

pub(super) const SHARD: ShardId = ShardId(0);

/// A history of `len` entries: a creation, then messages of very different sizes, and now and then new members. Several
/// entries share one moment.
pub(super) fn history(key: ConversationKey, len: u64) -> Vec<Arc<Entry>> {
    (1..=len).map(|seq| Arc::new(entry(key, seq))).collect()
}

fn entry(key: ConversationKey, seq: u64) -> Entry {
    let number = seq + 1_000 * u64::from(key.conversation.as_bytes()[0]);
    let hash = CommandHash([seq.to_le_bytes()[0]; 16]);
    let size = match seq % 40 {
        0 => 6_000,
        n => usize::try_from(n).expect("less than 40") * 10,
    };
    let body = match seq {
        1 => Body::Created {
            kind: ConversationKind::Group,
            title: None,
            members: vec![(user(1), Role::Owner)],
            hash,
        },
        n if n % 11 == 0 => Body::MembersAdded { users: vec![user(2), user(3)] },
        _ => Body::Message {
            message_id: message_id(number),
            content: Content::Text("x".repeat(size).into()),
            reply_to: None,
            hash,
        },
    };
    Entry {
        space: key.space,
        conversation: key.conversation,
        seq: Seq(seq),
        version: seq,
        sender: user(1),
        created_at: Timestamp::from_ms(1_000 + seq / 3 * 10),
        messages: seq,
        body,
    }
}

pub(super) fn projection(place: u64) -> Projection {
    Projection { shard: SHARD, upto: position(place), ..Projection::default() }
}

pub(super) fn position(place: u64) -> LogPosition {
    LogPosition { place: Place(place), fence: Fence(place / 100), number: RecordNumber(place % 100) }
}

pub(super) fn key(n: u8) -> ConversationKey {
    ConversationKey { space: SpaceId::DEFAULT, conversation: ConversationId::from_bytes([n; 16]) }
}

pub(super) fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

pub(super) fn message_id(n: u64) -> MessageId {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    MessageId::from_bytes(bytes)
}

pub(super) fn conversation_subject(n: u8) -> PersonalSubject {
    PersonalSubject::Conversation(ConversationId::from_bytes([n; 16]))
}

pub(super) fn device_subject(n: u8) -> PersonalSubject {
    PersonalSubject::Device(DeviceId::from_bytes([n; 16]))
}

pub(super) fn head(seq: u64) -> Head {
    Head {
        space: SpaceId::DEFAULT,
        kind: ConversationKind::Group,
        title: None,
        creator: user(1),
        created_hash: CommandHash([5; 16]),
        created_at: Timestamp::from_ms(1_000),
        seq: Seq(seq),
        version: seq,
        floor: Seq(1),
        epoch: Epoch(1),
        messages: seq,
        last_message: Seq(seq),
        last_at: Timestamp::from_ms(1_000 + seq),
        member_count: 2,
    }
}

pub(super) const fn member(n: u64) -> Member {
    Member { role: Role::Member, joined_at: Timestamp::from_ms(n), visible_from: Seq(n), left: None }
}
