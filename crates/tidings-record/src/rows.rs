//! Table rows: the facts of `tidings-types`, as values. What stands in a row's key is not in its value, but for the
//! kind of a personal subject, which the key's bytes do not tell.

use std::sync::Arc;

use tidings_types::{
    CommandHash, ConversationId, DeviceId, Epoch, Head, Member, PersonalFact, PersonalState, PersonalSubject,
    Role, Seq, SpaceId, Timestamp, UserId,
};

use crate::RecordError;
use crate::entry::{kind_number, kind_of, role_number, role_of};
use crate::fields::{FieldWriter, Fields, required};

// `Head`.
const HEAD_SPACE: u64 = 1;
const HEAD_KIND: u64 = 2;
const HEAD_TITLE: u64 = 3;
const HEAD_CREATOR: u64 = 4;
const HEAD_CREATED_HASH: u64 = 5;
const HEAD_CREATED_AT: u64 = 6;
const HEAD_SEQ: u64 = 7;
const HEAD_VERSION: u64 = 8;
const HEAD_FLOOR: u64 = 9;
const HEAD_EPOCH: u64 = 10;
const HEAD_MESSAGES: u64 = 11;
const HEAD_LAST_MESSAGE: u64 = 12;
const HEAD_LAST_AT: u64 = 13;
const HEAD_MEMBER_COUNT: u64 = 14;

// `Member`.
const MEMBER_ROLE: u64 = 1;
const MEMBER_JOINED_AT: u64 = 2;
const MEMBER_VISIBLE_FROM: u64 = 3;
const MEMBER_LEFT: u64 = 4;

// `PersonalFact`.
const FACT_SUBJECT: u64 = 1;
const FACT_STATE: u64 = 2;
const FACT_CAUSE: u64 = 3;

const SUBJECT_CONVERSATION: u64 = 1;
const SUBJECT_DEVICE: u64 = 2;

const STATE_JOINED: u64 = 1;
const STATE_LEFT: u64 = 2;
const STATE_DEVICE_REMOVED: u64 = 3;

/// Appends a head's row to `out`.
pub fn encode_head(head: &Head, out: &mut Vec<u8>) {
    let mut fields = FieldWriter::value(out);
    if head.space != SpaceId::DEFAULT {
        fields.sixteen(HEAD_SPACE, head.space.as_bytes());
    }
    fields.number(HEAD_KIND, kind_number(head.kind));
    if let Some(title) = &head.title {
        fields.bytes(HEAD_TITLE, title.as_bytes());
    }
    fields.sixteen(HEAD_CREATOR, head.creator.as_bytes());
    fields.sixteen(HEAD_CREATED_HASH, &head.created_hash.0);
    fields.number(HEAD_CREATED_AT, head.created_at.as_ms());
    fields.number(HEAD_SEQ, head.seq.0);
    fields.number(HEAD_VERSION, head.version);
    fields.number(HEAD_FLOOR, head.floor.0);
    fields.number_unless_zero(HEAD_EPOCH, u64::from(head.epoch.0));
    fields.number_unless_zero(HEAD_MESSAGES, head.messages);
    fields.number_unless_zero(HEAD_LAST_MESSAGE, head.last_message.0);
    fields.number(HEAD_LAST_AT, head.last_at.as_ms());
    fields.number_unless_zero(HEAD_MEMBER_COUNT, u64::from(head.member_count));
}

/// A head from its row.
pub fn decode_head(bytes: &[u8]) -> Result<Head, RecordError> {
    let mut space = SpaceId::DEFAULT;
    let (mut kind, mut title, mut creator, mut created_hash, mut created_at) = (None, None, None, None, None);
    let (mut seq, mut version, mut floor, mut last_at) = (None, None, None, None);
    let (mut epoch, mut messages, mut last_message, mut member_count) = (0, 0, 0, 0);
    for field in Fields::of_value(bytes)? {
        let (number, value) = field?;
        match number {
            HEAD_SPACE => space = SpaceId::from_bytes(value.sixteen("space")?),
            HEAD_KIND => kind = Some(kind_of(value)?),
            HEAD_TITLE => title = Some(Arc::from(value.text("title")?)),
            HEAD_CREATOR => creator = Some(UserId::from_bytes(value.sixteen("creator")?)),
            HEAD_CREATED_HASH => created_hash = Some(CommandHash(value.sixteen("created_hash")?)),
            HEAD_CREATED_AT => created_at = Some(Timestamp::from_ms(value.number("created_at")?)),
            HEAD_SEQ => seq = Some(Seq(value.number("seq")?)),
            HEAD_VERSION => version = Some(value.number("version")?),
            HEAD_FLOOR => floor = Some(Seq(value.number("floor")?)),
            HEAD_EPOCH => epoch = narrow(value.number("epoch")?, "epoch")?,
            HEAD_MESSAGES => messages = value.number("messages")?,
            HEAD_LAST_MESSAGE => last_message = value.number("last_message")?,
            HEAD_LAST_AT => last_at = Some(Timestamp::from_ms(value.number("last_at")?)),
            HEAD_MEMBER_COUNT => member_count = narrow(value.number("member_count")?, "member_count")?,
            _ => {}
        }
    }
    Ok(Head {
        space,
        kind: required(kind, "conversation kind")?,
        title,
        creator: required(creator, "creator")?,
        created_hash: required(created_hash, "created_hash")?,
        created_at: required(created_at, "created_at")?,
        seq: required(seq, "seq")?,
        version: required(version, "version")?,
        floor: required(floor, "floor")?,
        epoch: Epoch(epoch),
        messages,
        last_message: Seq(last_message),
        last_at: required(last_at, "last_at")?,
        member_count,
    })
}

/// Appends a member's row to `out`.
pub fn encode_member(member: &Member, out: &mut Vec<u8>) {
    let mut fields = FieldWriter::value(out);
    fields.number_unless_zero(MEMBER_ROLE, role_number(member.role));
    fields.number(MEMBER_JOINED_AT, member.joined_at.as_ms());
    fields.number(MEMBER_VISIBLE_FROM, member.visible_from.0);
    if let Some(left) = member.left {
        fields.number(MEMBER_LEFT, left.0);
    }
}

/// A member from its row.
pub fn decode_member(bytes: &[u8]) -> Result<Member, RecordError> {
    let (mut role, mut joined_at, mut visible_from, mut left) = (Role::Member, None, None, None);
    for field in Fields::of_value(bytes)? {
        let (number, value) = field?;
        match number {
            MEMBER_ROLE => role = role_of(value)?,
            MEMBER_JOINED_AT => joined_at = Some(Timestamp::from_ms(value.number("joined_at")?)),
            MEMBER_VISIBLE_FROM => visible_from = Some(Seq(value.number("visible_from")?)),
            MEMBER_LEFT => left = Some(Seq(value.number("left")?)),
            _ => {}
        }
    }
    Ok(Member {
        role,
        joined_at: required(joined_at, "joined_at")?,
        visible_from: required(visible_from, "visible_from")?,
        left,
    })
}

/// Appends the row of a personal fact to `out`. The subject's bytes are the row's key; only its kind is in the value.
pub fn encode_personal_fact(subject: &PersonalSubject, fact: &PersonalFact, out: &mut Vec<u8>) {
    let mut fields = FieldWriter::value(out);
    fields.number(
        FACT_SUBJECT,
        match subject {
            PersonalSubject::Conversation(_) => SUBJECT_CONVERSATION,
            PersonalSubject::Device(_) => SUBJECT_DEVICE,
        },
    );
    fields.number(
        FACT_STATE,
        match fact.state {
            PersonalState::Joined => STATE_JOINED,
            PersonalState::Left => STATE_LEFT,
            PersonalState::DeviceRemoved => STATE_DEVICE_REMOVED,
        },
    );
    fields.number_unless_zero(FACT_CAUSE, fact.cause.0);
}

/// A personal fact from its row, and its subject from the key's bytes.
pub fn decode_personal_fact(
    subject: [u8; 16],
    bytes: &[u8],
) -> Result<(PersonalSubject, PersonalFact), RecordError> {
    let (mut kind, mut state, mut cause) = (None, None, Seq::ZERO);
    for field in Fields::of_value(bytes)? {
        let (number, value) = field?;
        match number {
            FACT_SUBJECT => kind = Some(value.number("subject")?),
            FACT_STATE => state = Some(value.number("state")?),
            FACT_CAUSE => cause = Seq(value.number("cause")?),
            _ => {}
        }
    }
    let subject = match required(kind, "subject")? {
        SUBJECT_CONVERSATION => PersonalSubject::Conversation(ConversationId::from_bytes(subject)),
        SUBJECT_DEVICE => PersonalSubject::Device(DeviceId::from_bytes(subject)),
        _ => return Err(RecordError::Invalid("subject")),
    };
    let state = match required(state, "state")? {
        STATE_JOINED => PersonalState::Joined,
        STATE_LEFT => PersonalState::Left,
        STATE_DEVICE_REMOVED => PersonalState::DeviceRemoved,
        _ => return Err(RecordError::Invalid("state")),
    };
    Ok((subject, PersonalFact { state, cause }))
}

fn narrow(value: u64, name: &'static str) -> Result<u32, RecordError> {
    u32::try_from(value).map_err(|_| RecordError::Invalid(name))
}
