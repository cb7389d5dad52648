//! Entries. Fields 1 to 15 are the same for every kind, 16 and above belong to the kind.

use std::sync::Arc;

use tidings_types::{
    Body, CommandHash, Content, ConversationId, ConversationKind, DeviceId, Entry, MessageId, Role, Seq,
    SpaceId, Timestamp, UserId,
};

use crate::RecordError;
use crate::fields::{FieldWriter, Fields, Value, required};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What an entry is, without decoding it.
        ///
        /// Reserved numbers, which decode to [`RecordError::UnknownKind`] until they get their meaning: 9 edit,
        /// 10 tombstone, 11 reaction, 12 role, 13 settings.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EntryKind {
            $($(#[$doc])* $name,)*
        }

        impl EntryKind {
            /// Every kind, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number in the stored form.
            #[must_use]
            pub const fn number(self) -> u64 {
                match self {
                    $(Self::$name => $number,)*
                }
            }

            const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    Created = 1,
    Message = 2,
    MembersAdded = 3,
    MemberRemoved = 4,
    MemberLeft = 5,
    Joined = 6,
    Left = 7,
    DeviceRemoved = 8,
}

impl EntryKind {
    #[must_use]
    pub const fn of(body: &Body) -> Self {
        match body {
            Body::Created { .. } => Self::Created,
            Body::Message { .. } => Self::Message,
            Body::MembersAdded { .. } => Self::MembersAdded,
            Body::MemberRemoved { .. } => Self::MemberRemoved,
            Body::MemberLeft => Self::MemberLeft,
            Body::Joined { .. } => Self::Joined,
            Body::Left { .. } => Self::Left,
            Body::DeviceRemoved { .. } => Self::DeviceRemoved,
        }
    }
}

// Fields of every entry.
const KIND: u64 = 1;
const SPACE: u64 = 2;
const CONVERSATION: u64 = 3;
const SEQ: u64 = 4;
const VERSION: u64 = 5;
const SENDER: u64 = 6;
const CREATED_AT: u64 = 7;
const MESSAGES: u64 = 8;

// `Created`.
const CREATED_KIND: u64 = 16;
const CREATED_TITLE: u64 = 17;
/// Repeated: nested fields of one member.
const CREATED_MEMBER: u64 = 18;
const CREATED_HASH: u64 = 19;

// One member inside `Created`. The default role is `Member`.
const MEMBER_USER: u64 = 1;
const MEMBER_ROLE: u64 = 2;

// `Message`. Another kind of content gets a field of its own beside the text; exactly one is there.
const MESSAGE_ID: u64 = 16;
const MESSAGE_TEXT: u64 = 17;
const MESSAGE_REPLY_TO: u64 = 18;
const MESSAGE_HASH: u64 = 19;

// `MembersAdded` (repeated) and `MemberRemoved`.
const USER: u64 = 16;

// `Joined` and `Left`.
const SUBJECT_CONVERSATION: u64 = 16;
const SUBJECT_SEQ: u64 = 17;

// `DeviceRemoved`.
const DEVICE: u64 = 16;

/// Appends the stored form of an entry to `out`.
pub fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    let mut fields = FieldWriter::value(out);
    // The kind comes first, so that `peek_kind` looks at two fields at most.
    fields.number(KIND, EntryKind::of(&entry.body).number());
    if entry.space != SpaceId::DEFAULT {
        fields.sixteen(SPACE, entry.space.as_bytes());
    }
    fields.sixteen(CONVERSATION, entry.conversation.as_bytes());
    fields.number(SEQ, entry.seq.0);
    fields.number(VERSION, entry.version);
    fields.sixteen(SENDER, entry.sender.as_bytes());
    fields.number(CREATED_AT, entry.created_at.as_ms());
    fields.number_unless_zero(MESSAGES, entry.messages);
    encode_body(&entry.body, &mut fields);
}

/// An entry from its stored form.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, RecordError> {
    let fields = Fields::of_value(bytes)?;
    let kind = peek_kind(bytes)?;
    let mut space = SpaceId::DEFAULT;
    let (mut conversation, mut seq, mut version, mut sender, mut created_at) = (None, None, None, None, None);
    let mut messages = 0;
    for field in fields {
        let (number, value) = field?;
        match number {
            SPACE => space = SpaceId::from_bytes(value.sixteen("space")?),
            CONVERSATION => conversation = Some(ConversationId::from_bytes(value.sixteen("conversation")?)),
            SEQ => seq = Some(Seq(value.number("seq")?)),
            VERSION => version = Some(value.number("version")?),
            SENDER => sender = Some(UserId::from_bytes(value.sixteen("sender")?)),
            CREATED_AT => created_at = Some(Timestamp::from_ms(value.number("created_at")?)),
            MESSAGES => messages = value.number("messages")?,
            _ => {}
        }
    }
    Ok(Entry {
        space,
        conversation: required(conversation, "conversation")?,
        seq: required(seq, "seq")?,
        version: required(version, "version")?,
        sender: required(sender, "sender")?,
        created_at: required(created_at, "created_at")?,
        messages,
        body: decode_body(kind, fields)?,
    })
}

/// The kind of an encoded entry. Lets a follower pass over messages without decoding them.
pub fn peek_kind(bytes: &[u8]) -> Result<EntryKind, RecordError> {
    for field in Fields::of_value(bytes)? {
        if let (KIND, value) = field? {
            let number = value.number("kind")?;
            return EntryKind::from_number(number).ok_or(RecordError::UnknownKind(number));
        }
    }
    Err(RecordError::Missing("kind"))
}

pub(crate) const fn kind_number(kind: ConversationKind) -> u64 {
    match kind {
        ConversationKind::Direct => 1,
        ConversationKind::Group => 2,
        ConversationKind::Personal => 3,
    }
}

pub(crate) fn kind_of(value: Value<'_>) -> Result<ConversationKind, RecordError> {
    match value.number("conversation kind")? {
        1 => Ok(ConversationKind::Direct),
        2 => Ok(ConversationKind::Group),
        3 => Ok(ConversationKind::Personal),
        _ => Err(RecordError::Invalid("conversation kind")),
    }
}

/// `Member` is the default and therefore 0.
pub(crate) const fn role_number(role: Role) -> u64 {
    match role {
        Role::Member => 0,
        Role::Admin => 1,
        Role::Owner => 2,
    }
}

pub(crate) fn role_of(value: Value<'_>) -> Result<Role, RecordError> {
    match value.number("role")? {
        0 => Ok(Role::Member),
        1 => Ok(Role::Admin),
        2 => Ok(Role::Owner),
        _ => Err(RecordError::Invalid("role")),
    }
}

fn encode_body(body: &Body, fields: &mut FieldWriter<'_>) {
    match body {
        Body::Created { kind, title, members, hash } => {
            fields.number(CREATED_KIND, kind_number(*kind));
            if let Some(title) = title {
                fields.bytes(CREATED_TITLE, title.as_bytes());
            }
            for (user, role) in members {
                fields.bytes(CREATED_MEMBER, &encode_created_member(*user, *role));
            }
            fields.sixteen(CREATED_HASH, &hash.0);
        }
        Body::Message { message_id, content: Content::Text(text), reply_to, hash } => {
            fields.sixteen(MESSAGE_ID, message_id.as_bytes());
            fields.bytes(MESSAGE_TEXT, text.as_bytes());
            if let Some(reply_to) = reply_to {
                fields.sixteen(MESSAGE_REPLY_TO, reply_to.as_bytes());
            }
            fields.sixteen(MESSAGE_HASH, &hash.0);
        }
        Body::MembersAdded { users } => {
            for user in users {
                fields.sixteen(USER, user.as_bytes());
            }
        }
        Body::MemberRemoved { user } => fields.sixteen(USER, user.as_bytes()),
        Body::MemberLeft => {}
        Body::Joined { conversation, seq } | Body::Left { conversation, seq } => {
            fields.sixteen(SUBJECT_CONVERSATION, conversation.as_bytes());
            fields.number(SUBJECT_SEQ, seq.0);
        }
        Body::DeviceRemoved { device } => fields.sixteen(DEVICE, device.as_bytes()),
    }
}

fn encode_created_member(user: UserId, role: Role) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20);
    let mut fields = FieldWriter::nested(&mut bytes);
    fields.sixteen(MEMBER_USER, user.as_bytes());
    fields.number_unless_zero(MEMBER_ROLE, role_number(role));
    bytes
}

fn decode_body(kind: EntryKind, fields: Fields<'_>) -> Result<Body, RecordError> {
    match kind {
        EntryKind::Created => decode_created(fields),
        EntryKind::Message => decode_message(fields),
        EntryKind::MembersAdded => decode_members_added(fields),
        EntryKind::MemberRemoved => {
            Ok(Body::MemberRemoved { user: UserId::from_bytes(find(fields, USER, "user")?.sixteen("user")?) })
        }
        EntryKind::MemberLeft => Ok(Body::MemberLeft),
        EntryKind::Joined => {
            decode_subject(fields).map(|(conversation, seq)| Body::Joined { conversation, seq })
        }
        EntryKind::Left => decode_subject(fields).map(|(conversation, seq)| Body::Left { conversation, seq }),
        EntryKind::DeviceRemoved => Ok(Body::DeviceRemoved {
            device: DeviceId::from_bytes(find(fields, DEVICE, "device")?.sixteen("device")?),
        }),
    }
}

fn decode_created(fields: Fields<'_>) -> Result<Body, RecordError> {
    let (mut kind, mut title, mut members, mut hash) = (None, None, Vec::new(), None);
    for field in fields {
        let (number, value) = field?;
        match number {
            CREATED_KIND => kind = Some(kind_of(value)?),
            CREATED_TITLE => title = Some(Arc::from(value.text("title")?)),
            CREATED_MEMBER => members.push(decode_created_member(Fields::nested(value.bytes("member")?))?),
            CREATED_HASH => hash = Some(CommandHash(value.sixteen("hash")?)),
            _ => {}
        }
    }
    Ok(Body::Created {
        kind: required(kind, "conversation kind")?,
        title,
        members,
        hash: required(hash, "hash")?,
    })
}

fn decode_created_member(fields: Fields<'_>) -> Result<(UserId, Role), RecordError> {
    let (mut user, mut role) = (None, Role::Member);
    for field in fields {
        let (number, value) = field?;
        match number {
            MEMBER_USER => user = Some(UserId::from_bytes(value.sixteen("user")?)),
            MEMBER_ROLE => role = role_of(value)?,
            _ => {}
        }
    }
    Ok((required(user, "user")?, role))
}

fn decode_message(fields: Fields<'_>) -> Result<Body, RecordError> {
    let (mut message_id, mut content, mut reply_to, mut hash) = (None, None, None, None);
    for field in fields {
        let (number, value) = field?;
        match number {
            MESSAGE_ID => message_id = Some(MessageId::from_bytes(value.sixteen("message_id")?)),
            MESSAGE_TEXT => content = Some(Content::Text(Arc::from(value.text("text")?))),
            MESSAGE_REPLY_TO => reply_to = Some(MessageId::from_bytes(value.sixteen("reply_to")?)),
            MESSAGE_HASH => hash = Some(CommandHash(value.sixteen("hash")?)),
            _ => {}
        }
    }
    Ok(Body::Message {
        message_id: required(message_id, "message_id")?,
        content: required(content, "content")?,
        reply_to,
        hash: required(hash, "hash")?,
    })
}

fn decode_members_added(fields: Fields<'_>) -> Result<Body, RecordError> {
    let mut users = Vec::new();
    for field in fields {
        if let (USER, value) = field? {
            users.push(UserId::from_bytes(value.sixteen("user")?));
        }
    }
    if users.is_empty() {
        return Err(RecordError::Missing("user"));
    }
    Ok(Body::MembersAdded { users })
}

fn decode_subject(fields: Fields<'_>) -> Result<(ConversationId, Seq), RecordError> {
    let conversation = find(fields, SUBJECT_CONVERSATION, "conversation")?.sixteen("conversation")?;
    let seq = find(fields, SUBJECT_SEQ, "seq")?.number("seq")?;
    Ok((ConversationId::from_bytes(conversation), Seq(seq)))
}

fn find<'a>(fields: Fields<'a>, wanted: u64, name: &'static str) -> Result<Value<'a>, RecordError> {
    for field in fields {
        let (number, value) = field?;
        if number == wanted {
            return Ok(value);
        }
    }
    Err(RecordError::Missing(name))
}
