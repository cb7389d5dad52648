//! Which writer has a conversation.

use tidings_types::{ConversationId, ShardId, Slot};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Slots of a deployment, fixed for ever: only the table from slots to shards may change.
pub const SLOTS: u16 = 4096;

/// The slot of a conversation. `seed` is the deployment's `slots_seed`, so nobody can aim at a slot.
#[must_use]
pub fn slot_of(conversation: ConversationId, seed: u64) -> Slot {
    let hash = xxh3_64_with_seed(conversation.as_bytes(), seed);
    Slot(u16::try_from(hash % u64::from(SLOTS)).expect("a remainder of 4096 fits 16 bits"))
}

/// The shard of a slot while slots are spread evenly, which is so until the first slot is moved.
#[must_use]
pub fn shard_of(slot: Slot, shards: u16) -> ShardId {
    ShardId(slot.0 % shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_stable_and_spread() {
        let id = |n: u8| ConversationId::from_bytes([n; 16]);
        // Fixed for ever: data of every release depends on it.
        assert_eq!(slot_of(id(1), 42), slot_of(id(1), 42));
        assert_ne!(slot_of(id(1), 42), slot_of(id(1), 43));
        let mut shards = [0; 4];
        for n in 0..=255 {
            shards[usize::from(shard_of(slot_of(id(n), 42), 4).0)] += 1;
        }
        assert!(shards.iter().all(|count| *count > 30), "{shards:?}");
    }
}
