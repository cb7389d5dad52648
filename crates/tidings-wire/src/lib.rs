//! What travels between a client and the server: frames, REST bodies, and one table of codes. The JSON shapes live here
//! and nowhere else; the types they carry come from `tidings-types` and know nothing of JSON. No business rules.
//!
//! Start reading at [`ClientFrame`] and [`ServerFrame`]. Every shape has a golden file in `tests/golden`.

pub mod codes;
mod content;
mod entry;
mod frame;
pub mod rest;
pub mod text;

pub use content::{Content, Target, UnsupportedContent};
pub use entry::{
    Created, DeviceRemoved, Entry, EntryBody, Joined, Left, MemberAtCreation, MemberRemoved, MembersAdded,
    Message,
};
pub use frame::{
    CaughtUp, ClientFrame, ClientLimits, Connect, Connected, DecodeError, ErrorFrame, Gap, MessageAccepted,
    Ping, Pong, ReceiveMessage, SendMessage, ServerFrame, Snapshot, Subscribe, Subscribed,
    decode_client_frame, decode_server_frame, encode, encode_client_frame, entry_frame,
};

/// The WebSocket subprotocol that these frames belong to.
pub const SUBPROTOCOL: &str = "tidings.v1.json";
