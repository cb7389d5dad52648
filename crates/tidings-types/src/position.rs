//! Positions: in a conversation (what clients see) and in a shard's log (what the server recovers from).

use std::fmt;

use crate::{ConversationId, SpaceId};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// Position in a conversation: from 1, without gaps, so a client that sees 7 after 5 knows it missed exactly one
    /// entry. 0 stands for "before the first".
    Seq(u64)
);
number!(
    /// Position of a record in a shard's log. Only comparable within one log; grows, with gaps allowed.
    Place(u64)
);
number!(
    /// The place of a writer's `writer changed` record. A record counts only under the latest fence.
    Fence(u64)
);
number!(
    /// A record's number under its fence: `writer changed` is 0, then 1, 2, 3 without gaps.
    RecordNumber(u64)
);
number!(
    /// The incarnation of a conversation's log that clients see. It changes only when a log was restored or lost.
    Epoch(u32)
);
number!(
    /// Fixed hash bucket of a conversation, 0 to 4095.
    Slot(u16)
);
number!(
    /// The unit that has one writer.
    ShardId(u16)
);

impl Seq {
    pub const ZERO: Self = Self(0);
    /// The largest seq that a JSON number carries exactly.
    pub const MAX: Self = Self((1 << 53) - 1);

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The seq before this one; `ZERO` stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Place {
    pub const ZERO: Self = Self(0);
}

/// A reader's durable position in a shard's log: it has accepted everything below `place`, and goes on there under the
/// rule that only record `number + 1` of `fence`, or a new `writer changed` record, is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogPosition {
    pub place: Place,
    pub fence: Fence,
    pub number: RecordNumber,
}

/// "I have everything of this conversation up to here."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: Epoch,
    pub seq: Seq,
}

/// A conversation's full name: no key, lock or query is made without its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationKey {
    pub space: SpaceId,
    pub conversation: ConversationId,
}
