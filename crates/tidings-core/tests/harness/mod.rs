//! What scenarios and properties share: names for ids, a model of the tables, and one way to write everything down.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this")]

pub mod conversation;
pub mod device;
pub mod names;
pub mod render;
pub mod script;
pub mod shard;
pub mod tables;

use tidings_core::Output;
use tidings_core::ShardWriter;
use tidings_types::Epoch;

/// The incarnation that every test's deployment has.
pub const INCARNATION: Epoch = Epoch(1);

/// Everything the writer wants right now, in order.
pub fn drain(writer: &mut ShardWriter) -> Vec<Output> {
    std::iter::from_fn(|| writer.poll()).collect()
}
