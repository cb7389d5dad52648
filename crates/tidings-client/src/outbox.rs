//! Messages on their way to the server: sent in order, resent after every reconnect until they are answered. No clock,
//! no socket; the caller has made each message durable before it comes in here.
//!
//! At most one message per target is on the wire, so that a refusal that asks for a retry cannot let a later message of
//! the same conversation overtake.

use std::collections::{HashMap, HashSet, VecDeque};

use tidings_types::MessageId;
use tidings_wire::rest::SendMessage;
use tidings_wire::{SendMessage as SendFrame, Target};

pub(crate) struct Outbox {
    waiting: VecDeque<SendMessage>,
    /// By `ref`.
    in_flight: HashMap<u32, SendMessage>,
    busy: HashSet<TargetKey>,
    in_flight_max: usize,
}

type TargetKey = [u8; 17];

impl Outbox {
    pub(crate) fn new(saved: Vec<SendMessage>, in_flight_max: usize) -> Self {
        Self { waiting: saved.into(), in_flight: HashMap::new(), busy: HashSet::new(), in_flight_max }
    }

    pub(crate) fn set_in_flight_max(&mut self, max: usize) {
        self.in_flight_max = max.max(1);
    }

    pub(crate) fn push(&mut self, message: SendMessage) {
        self.waiting.push_back(message);
    }

    /// The next frame to send, if one may be sent now.
    pub(crate) fn next(&mut self, reference: u32) -> Option<SendFrame> {
        if self.in_flight.len() >= self.in_flight_max {
            return None;
        }
        let at = self.waiting.iter().position(|message| !self.busy.contains(&key(message.target)))?;
        let message = self.waiting.remove(at)?;
        self.busy.insert(key(message.target));
        let SendMessage { target, message_id, content, reply_to } = message.clone();
        self.in_flight.insert(reference, message);
        Some(SendFrame { reference, target, message_id, content, reply_to })
    }

    /// Is there something that [`Outbox::next`] would give?
    pub(crate) fn has_next(&self) -> bool {
        self.in_flight.len() < self.in_flight_max
            && self.waiting.iter().any(|message| !self.busy.contains(&key(message.target)))
    }

    /// The message was accepted or refused for good.
    pub(crate) fn answered(&mut self, reference: u32) -> Option<SendMessage> {
        let message = self.in_flight.remove(&reference)?;
        self.busy.remove(&key(message.target));
        Some(message)
    }

    /// The message is to be sent again: before everything else for its target.
    pub(crate) fn again(&mut self, reference: u32) -> Option<MessageId> {
        let message = self.answered(reference)?;
        let id = message.message_id;
        self.waiting.push_front(message);
        Some(id)
    }

    /// The socket is gone: whatever was on it is sent again. Order is kept per target, and there was at most one of
    /// each on the wire.
    pub(crate) fn reconnect(&mut self) {
        for (_, message) in self.in_flight.drain() {
            self.waiting.push_front(message);
        }
        self.busy.clear();
    }

    pub(crate) fn is_in_flight(&self, reference: u32) -> bool {
        self.in_flight.contains_key(&reference)
    }
}

fn key(target: Target) -> TargetKey {
    let (tag, bytes) = match &target {
        Target::Conversation(id) => (0, *id.as_bytes()),
        Target::Recipient(id) => (1, *id.as_bytes()),
    };
    let mut key = [tag; 17];
    key[1..].copy_from_slice(&bytes);
    key
}

#[cfg(test)]
mod tests {
    use tidings_types::{ConversationId, Timestamp};
    use tidings_wire::Content;

    use super::*;

    fn message(conversation: u8, n: u8) -> SendMessage {
        SendMessage {
            target: Target::Conversation(ConversationId::from_bytes([conversation; 16])),
            message_id: MessageId::v7(Timestamp::from_ms(1), [n; 10]),
            content: Content::text(n.to_string()),
            reply_to: None,
        }
    }

    fn outbox(messages: &[(u8, u8)]) -> Outbox {
        Outbox::new(messages.iter().map(|(conversation, n)| message(*conversation, *n)).collect(), 8)
    }

    /// Sends all that may be sent; the references are 1, 2, 3 …
    fn sent(outbox: &mut Outbox, reference: &mut u32) -> Vec<MessageId> {
        std::iter::from_fn(|| {
            *reference += 1;
            outbox.next(*reference).map(|frame| frame.message_id)
        })
        .collect()
    }

    fn ids(messages: &[(u8, u8)]) -> Vec<MessageId> {
        messages.iter().map(|(conversation, n)| message(*conversation, *n).message_id).collect()
    }

    #[test]
    fn one_per_conversation_at_a_time_in_order() {
        let mut outbox = outbox(&[(1, 1), (1, 2), (2, 3), (1, 4)]);
        let mut reference = 0;
        assert_eq!(sent(&mut outbox, &mut reference), ids(&[(1, 1), (2, 3)]));
        assert!(!outbox.has_next());
        assert_eq!(outbox.answered(1), Some(message(1, 1)));
        assert!(outbox.has_next());
        assert_eq!(sent(&mut outbox, &mut reference), ids(&[(1, 2)]));
        assert_eq!(outbox.answered(1), None, "answered already");
    }

    #[test]
    fn a_retry_goes_before_later_messages_of_its_conversation() {
        let mut outbox = outbox(&[(1, 1), (1, 2)]);
        let mut reference = 0;
        sent(&mut outbox, &mut reference);
        assert_eq!(outbox.again(1), Some(message(1, 1).message_id));
        assert_eq!(sent(&mut outbox, &mut reference), ids(&[(1, 1)]));
    }

    #[test]
    fn reconnecting_sends_everything_unanswered_again_and_nothing_else() {
        let mut outbox = outbox(&[(1, 1), (2, 2), (1, 3)]);
        let mut reference = 0;
        sent(&mut outbox, &mut reference);
        outbox.answered(2);
        outbox.reconnect();
        assert_eq!(sent(&mut outbox, &mut reference), ids(&[(1, 1)]));
        outbox.answered(reference - 1);
        assert_eq!(sent(&mut outbox, &mut reference), ids(&[(1, 3)]));
    }

    #[test]
    fn no_more_than_the_server_allows_are_in_flight() {
        let mut outbox = outbox(&[(1, 1), (2, 2), (3, 3)]);
        outbox.set_in_flight_max(2);
        assert_eq!(sent(&mut outbox, &mut 0).len(), 2);
        assert!(!outbox.has_next());
    }
}
