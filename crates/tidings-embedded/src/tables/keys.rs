//! Row keys: space, conversation, then what tells the conversation's rows apart. Numbers are big endian, so that rows
//! lie in the order of their seqs.

use tidings_types::{ConversationKey, Seq};

/// The most entries a block has. A reader looks this far back for a block that reaches into its range, so raising it
/// is safe and lowering it is not.
pub(super) const BLOCK_ENTRIES_MAX: u64 = 64;

const CONVERSATION_BYTES: usize = 32;
const ROW_BYTES: usize = 48;

/// The seqs of one block, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Seq,
    pub(super) last: Seq,
}

/// The key of a head, and the prefix of all the conversation's rows.
pub(super) fn conversation(key: ConversationKey) -> [u8; CONVERSATION_BYTES] {
    let mut row = [0; CONVERSATION_BYTES];
    row[..16].copy_from_slice(key.space.as_bytes());
    row[16..].copy_from_slice(key.conversation.as_bytes());
    row
}

/// The key of a member or of a personal fact.
pub(super) fn with_id(key: ConversationKey, id: &[u8; 16]) -> [u8; ROW_BYTES] {
    let mut row = [0; ROW_BYTES];
    row[..32].copy_from_slice(&conversation(key));
    row[32..].copy_from_slice(id);
    row
}

/// The key of a block of entries and of the id row beside it. Both ends are in it: a replay may cut the same stretch
/// elsewhere, and a shorter block must not replace a longer one that begins at the same seq.
pub(super) fn block(key: ConversationKey, span: Span) -> [u8; ROW_BYTES] {
    let mut row = [0; ROW_BYTES];
    row[..32].copy_from_slice(&conversation(key));
    row[32..40].copy_from_slice(&span.first.0.to_be_bytes());
    row[40..].copy_from_slice(&span.last.0.to_be_bytes());
    row
}

/// The id in the key of a member or of a personal fact.
pub(super) fn id_of(row: &[u8]) -> Option<[u8; 16]> {
    row.get(CONVERSATION_BYTES..)?.try_into().ok()
}

/// The span in the key of a block; `None` for a key that no block can have.
pub(super) fn span_of(row: &[u8]) -> Option<Span> {
    let ends = id_of(row)?;
    let (first, last) = ends.split_at(8);
    let span = Span {
        first: Seq(u64::from_be_bytes(first.try_into().ok()?)),
        last: Seq(u64::from_be_bytes(last.try_into().ok()?)),
    };
    (span.first <= span.last).then_some(span)
}
