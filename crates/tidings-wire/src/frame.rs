//! Frames: flat objects, `type` first, in both directions. Unknown fields are ignored. An unknown type is answered
//! with `unsupported_frame` by the server and ignored by a client.

use serde::{Deserialize, Serialize};
use tidings_types::{
    Body, Code, ConversationId, ConversationKind, Cursor, DeviceId, Epoch, Limits, MessageId, Refusal, Seq,
    SessionId, UserId,
};

use crate::{Content, Entry, EntryBody, Message, Target, text};

/// Defines the enum of one direction: its types, their names, and the way from a name to its fields.
macro_rules! frames {
    ($(#[$doc:meta])* $enum:ident { $($(#[$variant_doc:meta])* $variant:ident($fields:ty) = $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize)]
        #[serde(tag = "type")]
        pub enum $enum {
            $($(#[$variant_doc])* #[serde(rename = $name)] $variant($fields),)+
        }

        impl $enum {
            /// Every `type`.
            pub const TYPES: &[&str] = &[$($name),+];

            /// The `type` of this frame.
            #[must_use]
            pub const fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)+ }
            }

            /// `None` for an unknown type.
            fn from_fields(type_name: &str, text: &str) -> Option<serde_json::Result<Self>> {
                match type_name {
                    $($name => Some(serde_json::from_str(text).map(Self::$variant)),)+
                    _ => None,
                }
            }
        }
    };
}

frames! {
    /// From a client. Every request has a `ref` that its answer repeats.
    ClientFrame {
        Connect(Connect) = "connect",
        Subscribe(Subscribe) = "subscribe",
        SendMessage(SendMessage) = "send_message",
        Ping(Ping) = "ping",
    }
}

frames! {
    /// From the server.
    ServerFrame {
        Connected(Connected) = "connected",
        Snapshot(Snapshot) = "snapshot",
        ReceiveMessage(ReceiveMessage) = "receive_message",
        Entry(Entry) = "entry",
        Gap(Gap) = "gap",
        CaughtUp(CaughtUp) = "caught_up",
        Subscribed(Subscribed) = "subscribed",
        MessageAccepted(MessageAccepted) = "message_accepted",
        Pong(Pong) = "pong",
        Error(ErrorFrame) = "error",
    }
}

/// First frame of a socket: what this device has, conversation by conversation. A conversation without a cursor is
/// answered with a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    #[serde(rename = "ref")]
    pub reference: u32,
    #[serde(default, with = "text::cursors")]
    pub cursors: Vec<(ConversationId, Cursor)>,
}

/// Asks again for one conversation, from a cursor or without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    #[serde(rename = "ref")]
    pub reference: u32,
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(default, with = "text::epoch_option", skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    #[serde(default, with = "text::seq_option", skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
}

impl Subscribe {
    /// Both halves or nothing.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        Some(Cursor { epoch: self.epoch?, seq: self.seq? })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendMessage {
    #[serde(rename = "ref")]
    pub reference: u32,
    #[serde(flatten)]
    pub target: Target,
    #[serde(with = "text")]
    pub message_id: MessageId,
    pub content: Content,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    #[serde(rename = "ref")]
    pub reference: u32,
    /// How many frames this client sent on this socket before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<u64>,
}

/// Answers `connect`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    #[serde(rename = "ref")]
    pub reference: u32,
    #[serde(with = "text")]
    pub user_id: UserId,
    #[serde(with = "text")]
    pub device_id: DeviceId,
    #[serde(with = "text")]
    pub session_id: SessionId,
    /// The user's personal log, a conversation like any other.
    #[serde(with = "text")]
    pub personal_id: ConversationId,
    /// The server's clock: clients make their ids from it.
    pub now_ms: u64,
    pub heartbeat_ms: u64,
    pub limits: ClientLimits,
}

/// The limits a client needs, by the names of [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientLimits {
    pub content_bytes_max: u64,
    pub frame_bytes_max: u64,
    pub title_chars_max: u64,
    pub members_per_call_max: u64,
    pub group_members_max: u64,
    pub conversations_per_user_max: u64,
    pub devices_per_user_max: u64,
    pub cursors_per_connect_max: u64,
    pub in_flight_sends_max: u64,
    pub replay_entries_max: u64,
    pub page_items_max: u64,
    pub id_ahead_ms_max: u64,
    pub id_age_ms_max: u64,
}

impl From<&Limits> for ClientLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            content_bytes_max: limits.content_bytes_max as u64,
            frame_bytes_max: limits.frame_bytes_max as u64,
            title_chars_max: limits.title_chars_max as u64,
            members_per_call_max: limits.members_per_call_max as u64,
            group_members_max: limits.group_members_max.into(),
            conversations_per_user_max: limits.conversations_per_user_max as u64,
            devices_per_user_max: limits.devices_per_user_max as u64,
            cursors_per_connect_max: limits.cursors_per_connect_max as u64,
            in_flight_sends_max: limits.in_flight_sends_max as u64,
            replay_entries_max: limits.replay_entries_max,
            page_items_max: limits.page_items_max as u64,
            id_ahead_ms_max: limits.id_ahead_ms_max,
            id_age_ms_max: limits.id_age_ms_max,
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// Sent before the entries of a conversation for which the client has no usable cursor (none, one of another epoch, or
/// one beyond the head): the client forgets what it had of it and goes on from what follows, which begins at
/// `max(floor, visible_from)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(with = "text::kind")]
    pub kind: ConversationKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(with = "text::epoch")]
    pub epoch: Epoch,
    #[serde(with = "text::seq")]
    pub floor: Seq,
    #[serde(with = "text::seq")]
    pub head: Seq,
    #[serde(with = "text::seq")]
    pub visible_from: Seq,
    pub member_count: u32,
}

/// An entry whose body is a message, as a frame of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiveMessage {
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(with = "text::seq")]
    pub seq: Seq,
    #[serde(with = "text")]
    pub message_id: MessageId,
    #[serde(with = "text")]
    pub sender_id: UserId,
    pub content: Content,
    pub created_at_ms: u64,
    /// How many countable messages the log has up to and including this one.
    pub messages: u64,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
}

impl From<ReceiveMessage> for Entry {
    fn from(frame: ReceiveMessage) -> Self {
        let ReceiveMessage {
            conversation_id,
            seq,
            message_id,
            sender_id,
            content,
            created_at_ms,
            messages,
            reply_to,
        } = frame;
        let body = EntryBody::Message(Message { message_id, content, reply_to });
        Self { conversation_id, seq, sender_id, created_at_ms, messages, body }
    }
}

/// The entries from `from_seq` to `to_seq`, both included, are not sent here: fetch them over REST `entries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(with = "text::epoch")]
    pub epoch: Epoch,
    #[serde(with = "text::seq")]
    pub from_seq: Seq,
    #[serde(with = "text::seq")]
    pub to_seq: Seq,
}

/// Everything missed before `connect` has been sent or named by a `gap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    #[serde(rename = "ref")]
    pub reference: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    #[serde(rename = "ref")]
    pub reference: u32,
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
}

/// The message is durable at this place. A retry gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageAccepted {
    #[serde(rename = "ref")]
    pub reference: u32,
    #[serde(with = "text")]
    pub conversation_id: ConversationId,
    #[serde(with = "text")]
    pub message_id: MessageId,
    #[serde(with = "text::seq")]
    pub seq: Seq,
    pub created_at_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    #[serde(rename = "ref")]
    pub reference: u32,
    /// How many frames the server sent on this socket before this one.
    pub sent: u64,
}

/// A request was refused, or (without `ref`) something about the socket is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFrame {
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<u32>,
    #[serde(with = "text::code")]
    pub code: Code,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ErrorFrame {
    #[must_use]
    pub fn new(reference: Option<u32>, refusal: Refusal) -> Self {
        let Refusal { code, message, retry_after_ms } = refusal;
        Self { reference, code, message, retry_after_ms }
    }
}

/// A frame that cannot be used, with what an `error` frame needs to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The frame's `ref`, if that much could be read.
    pub reference: Option<u32>,
    /// `invalid` or `unsupported_frame`.
    pub code: Code,
    pub message: String,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for DecodeError {}

impl From<DecodeError> for ErrorFrame {
    fn from(error: DecodeError) -> Self {
        let DecodeError { reference, code, message } = error;
        Self { reference, code, message, retry_after_ms: None }
    }
}

/// Reads a client's frame. The error is ready to be answered.
pub fn decode_client_frame(text: &str) -> Result<ClientFrame, DecodeError> {
    let head = read_head(text)?;
    let frame = match ClientFrame::from_fields(&head.type_name, text) {
        Some(fields) => fields.map_err(|error| head.invalid(&error)),
        None => Err(DecodeError {
            reference: head.reference,
            code: Code::UnsupportedFrame,
            message: format!("frame type `{}` is not supported", head.shown_type()),
        }),
    }?;
    match &frame {
        ClientFrame::SendMessage(send) if send.content == Content::Unsupported => {
            Err(head.invalid(&crate::UnsupportedContent))
        }
        ClientFrame::Subscribe(subscribe) if subscribe.epoch.is_some() != subscribe.seq.is_some() => {
            Err(head.invalid(&"`epoch` and `seq` belong together"))
        }
        _ => Ok(frame),
    }
}

/// Reads a server's frame; `None` for a type this client does not know and may skip.
pub fn decode_server_frame(text: &str) -> Result<Option<ServerFrame>, DecodeError> {
    let head = read_head(text)?;
    ServerFrame::from_fields(&head.type_name, text).transpose().map_err(|error| head.invalid(&error))
}

#[must_use]
pub fn encode(frame: &ServerFrame) -> Vec<u8> {
    to_json(frame)
}

#[must_use]
pub fn encode_client_frame(frame: &ClientFrame) -> String {
    String::from_utf8(to_json(frame)).expect("serde_json writes UTF-8")
}

/// The frame that carries an entry to clients: `receive_message` for a message, `entry` for everything else. Made once
/// per entry and shared by all links; the text is not copied on the way.
#[must_use]
pub fn entry_frame(entry: &tidings_types::Entry) -> Vec<u8> {
    let Body::Message { message_id, content, reply_to, hash: _ } = &entry.body else {
        return to_json(&ServerFrame::Entry(Entry::from(entry)));
    };
    to_json(&ServerFrame::ReceiveMessage(ReceiveMessage {
        conversation_id: entry.conversation,
        seq: entry.seq,
        message_id: *message_id,
        sender_id: entry.sender,
        content: Content::from(content),
        created_at_ms: entry.created_at.as_ms(),
        messages: entry.messages,
        reply_to: *reply_to,
    }))
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("frames have only string keys and never refuse to be written")
}

/// What every frame begins with.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    type_name: String,
    #[serde(rename = "ref")]
    reference: Option<u32>,
}

impl Head {
    fn invalid(&self, reason: &dyn std::fmt::Display) -> DecodeError {
        DecodeError { reference: self.reference, code: Code::Invalid, message: reason.to_string() }
    }

    /// Never echoes more than a name's worth of what a peer made up.
    fn shown_type(&self) -> &str {
        let end = self.type_name.char_indices().nth(32).map_or(self.type_name.len(), |(at, _)| at);
        &self.type_name[..end]
    }
}

fn read_head(text: &str) -> Result<Head, DecodeError> {
    serde_json::from_str(text).map_err(|error| DecodeError {
        reference: None,
        code: Code::Invalid,
        message: format!("not a frame: {error}"),
    })
}
