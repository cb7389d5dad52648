//! What a fresh device finds, and whether every device has all of it.

use std::collections::BTreeSet;

use tidings_types::{ConversationId, Seq, UserId};
use tidings_wire::EntryBody;

use super::truth::Note;
use super::{Findings, Kind, Truth};
use crate::verify::journal::{Ending, Journal, List, Read};

pub(super) fn check(journal: &Journal, ending: &Ending, truth: &Truth, findings: &mut Findings) {
    ending.reads.iter().for_each(|read| check_read(read, truth, findings));
    ending.lists.iter().for_each(|list| check_list(list, ending, truth, findings));
    for probe in ending.probes.iter().filter(|probe| probe.was_answered) {
        findings.add(
            Kind::Leaked,
            format!("{}: read by {}, who is not a member", probe.conversation, probe.user),
        );
    }
    let users: BTreeSet<UserId> = journal.devices.iter().map(|device| device.user).collect();
    for user in users {
        if ending.lists.iter().all(|list| list.user != user) {
            findings.add(Kind::NotCaughtUp, format!("user {user}: could not sign in and read at the end"));
        }
    }
    check_devices(journal, truth, findings);
}

/// All of it, from the first visible entry to the head, and the same for everybody.
fn check_read(read: &Read, truth: &Truth, findings: &mut Findings) {
    let Read { user, conversation: id, visible_from, entries } = read;
    let stay = truth.stays(*user, *id).last().filter(|stay| stay.to.is_none());
    if !entries.is_empty() && stay.is_none_or(|stay| stay.from != *visible_from) {
        findings
            .add(Kind::Leaked, format!("{id}: {user} reads from {visible_from}, no membership begins there"));
    }
    let mut next = *visible_from;
    for entry in entries {
        if entry.seq != next {
            findings.add(Kind::Lost, format!("{id}: {user} reads {} where {next} should be", entry.seq));
        }
        next = entry.seq.next();
    }
    let head = truth.head(*id).unwrap_or(Seq::ZERO);
    if next <= head {
        findings.add(Kind::Lost, format!("{id}: {user} reads up to {} of {head}", next.previous()));
    }
}

fn check_list(list: &List, ending: &Ending, truth: &Truth, findings: &mut Findings) {
    let List { user, conversations } = list;
    let is_shared = |id: &ConversationId| !truth.is_personal(*id);
    let member_of: BTreeSet<ConversationId> = truth
        .memberships()
        .filter(|(member, _)| member == user)
        .map(|(_, id)| id)
        .filter(is_shared)
        .collect();
    for id in member_of.difference(conversations) {
        findings.add(Kind::NotCaughtUp, format!("{id}: not in the list of its member {user}"));
    }
    for id in conversations.difference(&member_of) {
        findings.add(Kind::Leaked, format!("{id}: in the list of {user}, who is not a member"));
    }
    let reads: Vec<_> = ending.reads.iter().filter(|read| read.user == *user).collect();
    for id in conversations.iter().filter(|id| reads.iter().all(|read| read.conversation != **id)) {
        findings.add(Kind::NotCaughtUp, format!("{id}: its member {user} could not read it"));
    }
    match reads.iter().find(|read| truth.is_personal(read.conversation)) {
        Some(read) => check_personal_log(read, truth, findings),
        // It begins with the first membership.
        None if truth.notes_for(*user).is_empty() => {}
        None => findings.add(Kind::NotCaughtUp, format!("user {user}: no personal log")),
    }
}

/// The personal log tells every change of membership once, each conversation's in order.
fn check_personal_log(read: &Read, truth: &Truth, findings: &mut Findings) {
    let mut told: Vec<Note> = read.entries.iter().filter_map(|entry| note(&entry.body)).collect();
    // Stable: the order within a conversation stays as it was told.
    told.sort_by_key(|note| note.conversation);
    let expected = truth.notes_for(read.user);
    if told == expected {
        return;
    }
    let text = |what, note: &Note| format!("personal log of {}: {what} {note:?}", read.user);
    for note in expected.iter().filter(|note| !told.contains(note)) {
        findings.add(Kind::NotCaughtUp, text("does not tell", note));
    }
    for (index, note) in told.iter().enumerate() {
        if told[..index].contains(note) {
            findings.add(Kind::Doubled, text("tells twice", note));
        } else if !expected.contains(note) {
            findings.add(Kind::Invented, text("tells what never was,", note));
        }
    }
    let is_sorted = told
        .windows(2)
        .all(|pair| (pair[0].conversation, pair[0].cause) <= (pair[1].conversation, pair[1].cause));
    if !is_sorted {
        findings.add(Kind::Reordered, format!("personal log of {}", read.user));
    }
}

fn note(body: &EntryBody) -> Option<Note> {
    match body {
        EntryBody::Joined(joined) => {
            let (conversation, cause) = (joined.joined_conversation_id, joined.cause_seq);
            Some(Note { conversation, cause, is_joined: true })
        }
        EntryBody::Left(left) => {
            let (conversation, cause) = (left.left_conversation_id, left.cause_seq);
            Some(Note { conversation, cause, is_joined: false })
        }
        _ => None,
    }
}

fn check_devices(journal: &Journal, truth: &Truth, findings: &mut Findings) {
    for device in &journal.devices {
        let Some(end) = &device.end else {
            findings.add(Kind::NotCaughtUp, format!("device {}: not in time", device.number));
            continue;
        };
        for (_, id) in truth.memberships().filter(|(user, _)| *user == device.user) {
            let head = truth.head(id).unwrap_or(Seq::ZERO);
            let have = end.get(&id).copied().unwrap_or(Seq::ZERO);
            if have < head {
                findings
                    .add(Kind::NotCaughtUp, format!("device {}: {id} up to {have} of {head}", device.number));
            }
        }
    }
}
