//! What a device has: the client's half of catching up.

use std::collections::BTreeMap;

use tidings_types::{ConversationId, ConversationKind, Cursor, Seq, UserId};
use tidings_wire::{Entry, EntryBody, Gap, Left, Snapshot};

use super::dice::Dice;

#[derive(Clone, Debug, Default)]
pub(crate) struct Holdings(BTreeMap<ConversationId, Held>);

#[derive(Clone, Debug)]
struct Held {
    kind: ConversationKind,
    cursor: Cursor,
    /// The last entry said that the user is out.
    is_left: bool,
    /// Ranges that a `gap` named and REST has not filled yet; both seqs included.
    holes: Vec<(Seq, Seq)>,
}

impl Holdings {
    /// For `connect`.
    pub(crate) fn cursors(&self) -> Vec<(ConversationId, Cursor)> {
        self.0.iter().map(|(id, held)| (*id, held.cursor)).collect()
    }

    pub(crate) fn cursor(&self, conversation: ConversationId) -> Option<Cursor> {
        self.0.get(&conversation).map(|held| held.cursor)
    }

    pub(crate) fn on_snapshot(&mut self, snapshot: &Snapshot) {
        let before_first = snapshot.floor.max(snapshot.visible_from).previous();
        let cursor = Cursor { epoch: snapshot.epoch, seq: before_first };
        let held = Held { kind: snapshot.kind, cursor, is_left: false, holes: Vec::new() };
        self.0.insert(snapshot.conversation_id, held);
    }

    pub(crate) fn on_gap(&mut self, gap: &Gap) {
        if let Some(held) = self.0.get_mut(&gap.conversation_id) {
            held.holes.push((gap.from_seq, gap.to_seq));
            held.cursor = Cursor { epoch: gap.epoch, seq: gap.to_seq };
        }
    }

    /// Goes on from every entry, also from a wrong one, so that one fault of the server is reported once.
    pub(crate) fn on_entry(&mut self, entry: &Entry, user: UserId) {
        if let EntryBody::Left(left) = &entry.body {
            self.on_left_elsewhere(left);
        }
        let Some(held) = self.0.get_mut(&entry.conversation_id) else { return };
        held.cursor.seq = held.cursor.seq.max(entry.seq);
        match &entry.body {
            EntryBody::MemberRemoved(removed) if removed.user_id == user => held.is_left = true,
            EntryBody::MemberLeft {} if entry.sender_id == user => held.is_left = true,
            EntryBody::MembersAdded(added) if added.user_ids.contains(&user) => held.is_left = false,
            _ => {}
        }
    }

    /// The personal log says so. Whoever is past that entry is in again, or knows.
    fn on_left_elsewhere(&mut self, left: &Left) {
        if let Some(held) = self.0.get_mut(&left.left_conversation_id)
            && held.cursor.seq < left.cause_seq
        {
            held.is_left = true;
        }
    }

    /// Loses what it had of one conversation.
    pub(crate) fn forget_one(&mut self, dice: &mut Dice) {
        let ids: Vec<_> = self.0.keys().copied().collect();
        if let Some(id) = dice.pick(&ids) {
            self.0.remove(id);
        }
    }

    /// Conversations that take messages of this device's user, as far as it knows.
    pub(crate) fn writable(&self) -> Vec<ConversationId> {
        let writable = |held: &Held| !held.is_left && held.kind != ConversationKind::Personal;
        self.0.iter().filter(|(_, held)| writable(held)).map(|(id, _)| *id).collect()
    }

    pub(crate) fn open(&self) -> Vec<ConversationId> {
        self.0.iter().filter(|(_, held)| !held.is_left).map(|(id, _)| *id).collect()
    }

    pub(crate) fn holes(&self) -> Vec<(ConversationId, Seq, Seq)> {
        self.0.iter().flat_map(|(id, held)| held.holes.iter().map(|(from, to)| (*id, *from, *to))).collect()
    }

    pub(crate) fn fill(&mut self, conversation: ConversationId, hole: (Seq, Seq)) {
        if let Some(held) = self.0.get_mut(&conversation) {
            held.holes.retain(|known| *known != hole);
        }
    }

    /// Up to where this device has everything, for every conversation without a hole.
    pub(crate) fn positions(&self) -> BTreeMap<ConversationId, Seq> {
        self.0
            .iter()
            .filter(|(_, held)| held.holes.is_empty())
            .map(|(id, held)| (*id, held.cursor.seq))
            .collect()
    }
}
