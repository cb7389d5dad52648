//! Ids that nobody chooses: UUIDv8 over SHA-256 of (kind, space, users), so two people who write first at the same
//! moment get one conversation.

use sha2::{Digest, Sha256};
use tidings_types::{ConversationId, SpaceId, UserId};

/// The conversation of two users, whoever asks.
#[must_use]
pub fn direct_id(space: SpaceId, one: UserId, other: UserId) -> ConversationId {
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    derived(b"direct", space, &[low, high])
}

/// A user's personal log.
#[must_use]
pub fn personal_id(space: SpaceId, user: UserId) -> ConversationId {
    derived(b"personal", space, &[user])
}

fn derived(kind: &[u8], space: SpaceId, users: &[UserId]) -> ConversationId {
    let mut hasher = Sha256::new();
    // The kinds have different lengths and what follows is of fixed size, so no two inputs read alike.
    hasher.update(kind);
    hasher.update(space.as_bytes());
    for user in users {
        hasher.update(user.as_bytes());
    }
    let digest: [u8; 32] = hasher.finalize().into();
    let (id, _) = digest.split_first_chunk::<16>().expect("32 bytes have a first 16");
    ConversationId::v8(*id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_are_symmetric_distinct_and_fixed() {
        let (a, b) = (UserId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        assert_eq!(direct_id(SpaceId::DEFAULT, a, b), direct_id(SpaceId::DEFAULT, b, a));
        assert_ne!(direct_id(SpaceId::DEFAULT, a, a), personal_id(SpaceId::DEFAULT, a));
        assert_ne!(direct_id(SpaceId::from_bytes([9; 16]), a, b), direct_id(SpaceId::DEFAULT, a, b));
        assert_eq!(personal_id(SpaceId::DEFAULT, a).version(), 8);
    }
}
