//! The vocabulary that every other crate shares: ids, positions, times, limits, reason codes, and the plain data that
//! the log and the tables hold. It never holds behaviour, I/O or a serialization format: the stored form lives in
//! `tidings-record`, the form on the wire in `tidings-wire`.
//!
//! Start reading at [`Entry`]: one record of one conversation's log.

mod code;
mod entry;
mod facts;
mod id;
mod limits;
mod position;
mod time;

pub use code::{Code, Refusal};
pub use entry::{Body, CommandHash, Content, ConversationKind, Entry, Role};
pub use facts::{Head, IdRecord, Member, PersonalFact, PersonalState, PersonalSubject};
pub use id::{ConversationId, DeviceId, IdError, MessageId, ServerId, SessionId, SpaceId, UserId};
pub use limits::Limits;
pub use position::{
    ConversationKey, Cursor, Epoch, Fence, LogPosition, Place, RecordNumber, Seq, ShardId, Slot,
};
pub use time::Timestamp;

/// Is this deliberate fault switched on? Always `false` in ordinary builds; with `--cfg planted` the environment
/// variable `TIDINGS_PLANTED` names one fault. docs/testing.md lists them and says which checker must find each.
#[must_use]
pub fn planted(_name: &str) -> bool {
    #[cfg(planted)]
    {
        static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        return CHOSEN.get_or_init(|| std::env::var("TIDINGS_PLANTED").ok()).as_deref() == Some(_name);
    }
    #[cfg(not(planted))]
    false
}
