//! The logs as they are at the end, and who was a member when.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidings_types::{ConversationId, ConversationKind, Seq, UserId};
use tidings_wire::{Entry, EntryBody};

use super::{Findings, Kind};
use crate::verify::journal::Read;

#[derive(Debug, Default)]
pub(crate) struct Truth {
    logs: BTreeMap<ConversationId, Log>,
}

#[derive(Debug)]
struct Log {
    entries: BTreeMap<Seq, Arc<Entry>>,
    stays: HashMap<UserId, Vec<Stay>>,
}

/// A membership: from the entry that began it to the one that ended it, both visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    pub(crate) from: Seq,
    pub(crate) to: Option<Seq>,
}

/// What a user's personal log must say about one membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Note {
    pub(crate) conversation: ConversationId,
    pub(crate) cause: Seq,
    pub(crate) is_joined: bool,
}

impl Truth {
    /// Of each conversation the read that goes back farthest.
    pub(crate) fn of<'a>(reads: impl IntoIterator<Item = &'a Read>) -> Self {
        let mut best: BTreeMap<ConversationId, &Read> = BTreeMap::new();
        for read in reads {
            let rank = |read: &Read| (read.visible_from, usize::MAX - read.entries.len());
            let kept = best.entry(read.conversation).or_insert(read);
            if rank(read) < rank(kept) {
                *kept = read;
            }
        }
        Self { logs: best.into_iter().map(|(id, read)| (id, Log::of(read))).collect() }
    }

    pub(crate) fn entry(&self, conversation: ConversationId, seq: Seq) -> Option<&Arc<Entry>> {
        self.logs.get(&conversation)?.entries.get(&seq)
    }

    pub(crate) fn entries(&self, conversation: ConversationId) -> impl Iterator<Item = &Arc<Entry>> {
        self.logs.get(&conversation).into_iter().flat_map(|log| log.entries.values())
    }

    pub(crate) fn all_entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.logs.values().flat_map(|log| log.entries.values())
    }

    pub(crate) fn head(&self, conversation: ConversationId) -> Option<Seq> {
        self.logs.get(&conversation)?.entries.keys().next_back().copied()
    }

    pub(crate) fn heads(&self) -> impl Iterator<Item = (ConversationId, Seq)> + '_ {
        self.logs.keys().filter_map(|id| Some((*id, self.head(*id)?)))
    }

    /// Everybody who is a member at the end.
    pub(crate) fn memberships(&self) -> impl Iterator<Item = (UserId, ConversationId)> + '_ {
        let members = |(id, log): (&ConversationId, &Log)| {
            let id = *id;
            let present = log.stays.iter().filter(|(_, stays)| is_open(stays));
            present.map(move |(user, _)| (*user, id)).collect::<Vec<_>>()
        };
        self.logs.iter().flat_map(members)
    }

    pub(crate) fn is_member(&self, user: UserId, conversation: ConversationId) -> bool {
        is_open(self.stays(user, conversation))
    }

    pub(crate) fn stays(&self, user: UserId, conversation: ConversationId) -> &[Stay] {
        self.logs.get(&conversation).and_then(|log| log.stays.get(&user)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn may_see(&self, user: UserId, conversation: ConversationId, seq: Seq) -> bool {
        let inside = |stay: &Stay| stay.from <= seq && stay.to.is_none_or(|to| seq <= to);
        self.stays(user, conversation).iter().any(inside)
    }

    pub(crate) fn is_personal(&self, conversation: ConversationId) -> bool {
        let created = self.entries(conversation).find_map(|entry| match &entry.body {
            EntryBody::Created(created) => Some(created.conversation_kind),
            _ => None,
        });
        created == Some(ConversationKind::Personal)
    }

    /// What the user's personal log must hold, conversation by conversation in order.
    pub(crate) fn notes_for(&self, user: UserId) -> Vec<Note> {
        let mut notes = Vec::new();
        for conversation in self.logs.keys().copied().filter(|id| !self.is_personal(*id)) {
            for stay in self.stays(user, conversation) {
                notes.push(Note { conversation, cause: stay.from, is_joined: true });
                notes.extend(stay.to.map(|cause| Note { conversation, cause, is_joined: false }));
            }
        }
        notes
    }

    /// One log by itself: no hole, time does not run back, messages are counted right.
    pub(super) fn check(&self, findings: &mut Findings) {
        for (id, log) in &self.logs {
            let (mut seq, mut at_ms, mut messages) = (Seq::ZERO, 0, 0);
            for entry in log.entries.values() {
                if entry.seq != seq.next() {
                    findings.add(Kind::Lost, format!("{id}: {} follows {seq} in the log", entry.seq));
                }
                if entry.created_at_ms < at_ms {
                    findings.add(
                        Kind::Reordered,
                        format!("{id} seq {}: its time is before that of {seq}", entry.seq),
                    );
                }
                messages += u64::from(matches!(entry.body, EntryBody::Message(_)));
                if entry.messages != messages {
                    let text =
                        format!("{id} seq {}: counts {} messages of {messages}", entry.seq, entry.messages);
                    findings.add(Kind::CountWrong, text);
                    messages = entry.messages;
                }
                (seq, at_ms) = (entry.seq, entry.created_at_ms);
            }
        }
    }
}

impl Log {
    fn of(read: &Read) -> Self {
        let mut log = Self { entries: BTreeMap::new(), stays: HashMap::new() };
        for entry in &read.entries {
            log.entries.insert(entry.seq, Arc::clone(entry));
        }
        for entry in log.entries.values() {
            change_stays(&mut log.stays, entry);
        }
        log
    }
}

fn change_stays(stays: &mut HashMap<UserId, Vec<Stay>>, entry: &Entry) {
    let mut begin = |user| stays.entry(user).or_default().push(Stay { from: entry.seq, to: None });
    match &entry.body {
        EntryBody::Created(created) => created.members.iter().for_each(|member| begin(member.user_id)),
        EntryBody::MembersAdded(added) => added.user_ids.iter().for_each(|user| begin(*user)),
        EntryBody::MemberRemoved(removed) => finish(stays, removed.user_id, entry.seq),
        EntryBody::MemberLeft {} => finish(stays, entry.sender_id, entry.seq),
        _ => {}
    }
}

fn finish(stays: &mut HashMap<UserId, Vec<Stay>>, user: UserId, seq: Seq) {
    if let Some(last) = stays.get_mut(&user).and_then(|stays| stays.last_mut()) {
        last.to = Some(seq);
    }
}

fn is_open(stays: &[Stay]) -> bool {
    stays.last().is_some_and(|stay| stay.to.is_none())
}
