//! What became of every message that was written.

use std::collections::{HashMap, HashSet};

use tidings_types::{Code, ConversationId, Seq, UserId};
use tidings_wire::{Content, Entry, EntryBody, Target};

use super::{Findings, Kind, Truth};
use crate::verify::journal::{Answer, DeviceJournal, Journal, Sent};

/// Every answer is the first answer.
pub(super) fn check_answers(journal: &Journal, findings: &mut Findings) {
    for (_, sent) in all(journal) {
        let Some((first, others)) = sent.answers.split_first() else { continue };
        for other in others.iter().filter(|other| *other != first) {
            let text = format!("message {}: first {first:?}, then {other:?}", sent.message_id);
            findings.add(Kind::RetryWrong, text);
        }
    }
}

/// Messages that one device wrote into one conversation on one socket, each sent once, keep their order. Only those that
/// name the conversation: for those that name a person nothing is promised.
pub(super) fn check_order(journal: &Journal, findings: &mut Findings) {
    for device in &journal.devices {
        let mut last: HashMap<(usize, ConversationId), Seq> = HashMap::new();
        let named = |sent: &&Sent| matches!(sent.target, Target::Conversation(_)) && sent.attempts == 1;
        for sent in device.sends.iter().filter(named) {
            let Some((conversation, seq, _)) = sent.accepted() else { continue };
            let last = last.entry((sent.socket, conversation)).or_insert(Seq::ZERO);
            if seq <= *last {
                let text =
                    format!("{conversation} message {}: at {seq}, written after {last}", sent.message_id);
                findings.add(Kind::Reordered, text);
            }
            *last = seq;
        }
    }
}

pub(super) fn check_against(journal: &Journal, truth: &Truth, findings: &mut Findings) {
    let in_log: HashSet<_> = truth.all_entries().filter_map(|entry| message_id(entry)).collect();
    let mut written = HashMap::new();
    for (device, sent) in all(journal) {
        written.insert(sent.message_id, (device.user, sent));
        check_accepted(device.user, sent, truth, findings);
        check_refused(device.user, sent, truth, findings);
        if sent.accepted().is_none() && in_log.contains(&sent.message_id) && !sent.answers.is_empty() {
            findings.add(Kind::RetryWrong, format!("message {}: refused, and in the log", sent.message_id));
        }
        if sent.answers.is_empty() {
            findings.add(Kind::NotCaughtUp, format!("message {}: never answered", sent.message_id));
        }
    }
    for entry in truth.all_entries() {
        let EntryBody::Message(message) = &entry.body else { continue };
        let known = written.get(&message.message_id);
        if known.is_none_or(|(user, sent)| !is_as_written(entry, *user, sent)) {
            let text = format!("{} seq {}: nobody wrote this", entry.conversation_id, entry.seq);
            findings.add(Kind::Invented, text);
        }
    }
}

fn check_accepted(user: UserId, sent: &Sent, truth: &Truth, findings: &mut Findings) {
    let Some((conversation, seq, created_at_ms)) = sent.accepted() else { return };
    let is_there = truth.entry(conversation, seq).is_some_and(|entry| {
        entry.created_at_ms == created_at_ms
            && message_id(entry) == Some(sent.message_id)
            && is_as_written(entry, user, sent)
    });
    if !is_there {
        findings.add(
            Kind::Lost,
            format!("{conversation} seq {seq}: message {} was acknowledged", sent.message_id),
        );
    }
}

/// Whoever was a member all the time is refused nothing.
fn check_refused(user: UserId, sent: &Sent, truth: &Truth, findings: &mut Findings) {
    for answer in &sent.answers {
        let Answer::Refused(code) = answer else { continue };
        let may_be_out = match sent.target {
            Target::Conversation(id) => {
                let always = truth.stays(user, id).first().is_some_and(|stay| stay.to.is_none());
                !always
            }
            Target::Recipient(_) => false,
        };
        if *code != Code::NotFound || !may_be_out {
            findings.add(Kind::RefusedWrong, format!("message {}: {code}", sent.message_id));
        }
    }
}

fn is_as_written(entry: &Entry, user: UserId, sent: &Sent) -> bool {
    let EntryBody::Message(message) = &entry.body else { return false };
    let is_target = match sent.target {
        Target::Conversation(id) => entry.conversation_id == id,
        Target::Recipient(_) => true,
    };
    is_target
        && entry.sender_id == user
        && message.reply_to.is_none()
        && message.content == Content::text(sent.text.as_str())
}

fn message_id(entry: &Entry) -> Option<tidings_types::MessageId> {
    match &entry.body {
        EntryBody::Message(message) => Some(message.message_id),
        _ => None,
    }
}

fn all(journal: &Journal) -> impl Iterator<Item = (&DeviceJournal, &Sent)> {
    journal.devices.iter().flat_map(|device| device.sends.iter().map(move |sent| (device, sent)))
}
