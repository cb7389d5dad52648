//! Everything that anybody was shown, by place: one place has one entry, one message has one place.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_types::{ConversationId, MessageId, Seq};
use tidings_wire::{Entry, EntryBody};

use super::{Findings, Kind, Truth};
use crate::verify::journal::{Event, Journal};

#[derive(Default)]
pub(super) struct Seen {
    places: HashMap<(ConversationId, Seq), Place>,
    messages: HashMap<(ConversationId, MessageId), Vec<Seq>>,
}

#[derive(Default)]
struct Place {
    /// Different ones, each with the first device that saw it; `None` for REST.
    entries: Vec<(Arc<Entry>, Option<usize>)>,
    /// Different ones.
    acknowledged: Vec<MessageId>,
}

impl Seen {
    pub(super) fn collect(&mut self, journal: &Journal) {
        for device in &journal.devices {
            for event in device.sockets.iter().flat_map(|socket| &socket.events) {
                match event {
                    Event::Entry(entry) => self.see(entry, Some(device.number)),
                    Event::Fetched { entries, .. } => {
                        entries.iter().for_each(|entry| self.see(entry, Some(device.number)));
                    }
                    _ => {}
                }
            }
            for sent in &device.sends {
                for answer in &sent.answers {
                    self.acknowledge(sent.message_id, *answer);
                }
            }
        }
        for read in journal.ending.iter().flat_map(|ending| &ending.reads) {
            read.entries.iter().for_each(|entry| self.see(entry, None));
        }
    }

    fn see(&mut self, entry: &Arc<Entry>, device: Option<usize>) {
        let place = self.places.entry((entry.conversation_id, entry.seq)).or_default();
        if place.entries.iter().any(|(known, _)| Arc::ptr_eq(known, entry) || known == entry) {
            return;
        }
        place.entries.push((Arc::clone(entry), device));
        if let EntryBody::Message(message) = &entry.body {
            self.place_message(entry.conversation_id, message.message_id, entry.seq);
        }
    }

    fn acknowledge(&mut self, message_id: MessageId, answer: crate::verify::journal::Answer) {
        let crate::verify::journal::Answer::Accepted { conversation, seq, .. } = answer else { return };
        let place = self.places.entry((conversation, seq)).or_default();
        if !place.acknowledged.contains(&message_id) {
            place.acknowledged.push(message_id);
        }
        self.place_message(conversation, message_id, seq);
    }

    fn place_message(&mut self, conversation: ConversationId, message_id: MessageId, seq: Seq) {
        let seqs = self.messages.entry((conversation, message_id)).or_default();
        if !seqs.contains(&seq) {
            seqs.push(seq);
        }
    }

    pub(super) fn check(&self, findings: &mut Findings) {
        for ((conversation, seq), place) in &self.places {
            if place.entries.len() > 1 {
                let text = format!("{conversation} seq {seq}: {} different entries", place.entries.len());
                findings.add(Kind::Doubled, text.clone());
                if place.entries.windows(2).any(|pair| pair[0].1 != pair[1].1) {
                    findings.add(Kind::Reordered, format!("{text} for different devices"));
                }
            }
            if place.acknowledged.len() > 1 {
                let text = format!(
                    "{conversation} seq {seq}: acknowledged for {} messages",
                    place.acknowledged.len()
                );
                findings.add(Kind::Doubled, text);
            }
        }
        for ((conversation, message), seqs) in self.messages.iter().filter(|(_, seqs)| seqs.len() > 1) {
            findings.add(Kind::Doubled, format!("{conversation} message {message}: at {} seqs", seqs.len()));
        }
    }

    /// Whatever a device was shown is still there.
    pub(super) fn check_against(&self, truth: &Truth, findings: &mut Findings) {
        for ((conversation, seq), place) in &self.places {
            if !place.entries.is_empty() && truth.entry(*conversation, *seq).is_none() {
                findings.add(
                    Kind::Lost,
                    format!("{conversation} seq {seq}: delivered, and not there at the end"),
                );
            }
        }
    }
}
