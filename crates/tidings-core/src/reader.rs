//! Which records of a shard's log count. Everybody who reads a log applies this rule and no other: the projector, the
//! followers, and the writer that looks at what came between.

use tidings_types::{Fence, Place, RecordNumber};

/// The state of the rule, and with it a reader's durable position: where to read on, and what to accept there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderRule {
    pub fence: Fence,
    /// The last accepted number under the fence.
    pub number: RecordNumber,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// A zombie's record, a second copy, or one decided on a record that never arrived: void for everybody.
    Void,
}

impl ReaderRule {
    /// A `writer changed` record at `place` begins a new fence, whoever wrote it.
    pub fn on_writer_changed(&mut self, place: Place) -> Verdict {
        *self = Self { fence: Fence(place.0), number: RecordNumber(0) };
        Verdict::Accepted
    }

    /// A record counts if and only if its fence is the latest one and its number follows the last accepted.
    pub fn on_entries(&mut self, fence: Fence, number: RecordNumber) -> Verdict {
        if fence != self.fence || number.0 != self.number.0 + 1 {
            return Verdict::Void;
        }
        self.number = number;
        Verdict::Accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_copies_and_orphans_are_void() {
        let mut rule = ReaderRule::default();
        rule.on_writer_changed(Place(10));
        assert_eq!(rule.on_entries(Fence(10), RecordNumber(1)), Verdict::Accepted);
        assert_eq!(rule.on_entries(Fence(10), RecordNumber(1)), Verdict::Void, "a second copy");
        assert_eq!(rule.on_entries(Fence(10), RecordNumber(3)), Verdict::Void, "decided on a lost one");
        rule.on_writer_changed(Place(40));
        assert_eq!(rule.on_entries(Fence(10), RecordNumber(2)), Verdict::Void, "an older writer");
        assert_eq!(rule.on_entries(Fence(40), RecordNumber(1)), Verdict::Accepted);
    }
}
