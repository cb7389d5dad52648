//! The core decides: pure machines that take commands, facts and passed deadlines and answer with entries and effects.
//! Time and ids are arguments. Nothing here knows a clock, randomness, I/O, a runtime or a storage format, so the same
//! inputs give the same bytes, and a rule's test needs no runtime.
//!
//! Start reading at [`decide`] (what a command means for one conversation), then [`ShardWriter`] (order, durability and
//! release for many of them), then [`Link`] (what one device is told).

mod advance;
mod command;
mod decide;
mod derive;
mod facts;
mod link;
mod reader;
mod slot;
mod tail;
mod writer;

pub use advance::{MemberChange, advance, changed_members, changed_personal};
pub use command::{Answer, Command, CommandKind};
pub use decide::{Decision, decide};
pub use derive::{direct_id, personal_id};
pub use facts::{Fact, FactKey, Facts, needs};
pub use link::{
    Alarm, CloseReason, Delivery, Effect, Link, LinkInput, LinkOutput, LinkRequest, Payload, Say, SendTarget,
};
pub use reader::{ReaderRule, Verdict};
pub use slot::{SLOTS, shard_of, slot_of};
pub use tail::{Tail, TailRange};
pub use writer::{
    Append, BatchNumber, Input, Output, ReadNumber, Released, ShardWriter, Ticket, WriterConfig,
};

/// A map that iterates and hashes the same way in every run: its seed is an argument, so a simulator replays it and a
/// peer who cannot know the seed cannot aim at one bucket.
type SeededMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;
