//! What a device sends: each message until it is answered, and one in ten of the acknowledged ones once more after a
//! restart of the server.

use std::collections::{BTreeSet, HashMap, VecDeque};

use tidings_types::{ConversationId, MessageId, Refusal};
use tidings_wire::{ClientFrame, Content, MessageAccepted, SendMessage, Target, codes};

use super::dice::Dice;
use super::journal::{Answer, Sent};

/// Below `in_flight_sends_max`, which is 128.
const IN_FLIGHT_MAX: usize = 100;
const UNANSWERED_MAX: usize = 32;
const RETRIED_PERCENT: usize = 10;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    sends: Vec<Sent>,
    /// Never answered so far.
    unanswered: BTreeSet<usize>,
    /// Acknowledged, and to be sent again when another server runs than the one of this number.
    to_retry: Vec<(usize, u64)>,
    retrying: BTreeSet<usize>,
    waiting: VecDeque<usize>,
    in_flight: HashMap<u32, usize>,
}

/// What an answer was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    First,
    Retry,
    /// To be asked again.
    Later,
    /// Not one of ours.
    Unknown,
}

impl Outbox {
    /// Takes a new message, unless too many wait already.
    pub(crate) fn write(&mut self, message_id: MessageId, target: Target, text: String) -> bool {
        if self.unanswered.len() >= UNANSWERED_MAX {
            return false;
        }
        let index = self.sends.len();
        self.sends.push(Sent { message_id, target, text, attempts: 0, socket: 0, answers: Vec::new() });
        self.unanswered.insert(index);
        self.waiting.push_back(index);
        true
    }

    /// A new socket: what was not answered is sent again, and so is what was chosen before the restart.
    pub(crate) fn on_connected(&mut self, server: u64) {
        let (due, later): (Vec<_>, Vec<_>) =
            self.to_retry.drain(..).partition(|(_, number)| *number != server);
        self.to_retry = later;
        self.retrying.extend(due.into_iter().map(|(index, _)| index));
        self.in_flight.clear();
        self.sweep();
    }

    /// Queues everything that waits for an answer and is not on its way.
    pub(crate) fn sweep(&mut self) {
        let on_their_way: BTreeSet<usize> = self.in_flight.values().copied().collect();
        let all = self.unanswered.union(&self.retrying);
        self.waiting = all.filter(|index| !on_their_way.contains(index)).copied().collect();
    }

    /// The next frame to send, if the link has room for it.
    pub(crate) fn next_frame(&mut self, reference: u32, socket: usize) -> Option<ClientFrame> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let index = self.waiting.pop_front()?;
        self.in_flight.insert(reference, index);
        let sent = &mut self.sends[index];
        sent.attempts += 1;
        sent.socket = socket;
        Some(ClientFrame::SendMessage(SendMessage {
            reference,
            target: sent.target,
            message_id: sent.message_id,
            content: Content::text(sent.text.as_str()),
            reply_to: None,
        }))
    }

    pub(crate) fn on_accepted(
        &mut self,
        accepted: &MessageAccepted,
        server: u64,
        dice: &mut Dice,
    ) -> Answered {
        let Some(index) = self.in_flight.remove(&accepted.reference) else { return Answered::Unknown };
        if self.sends[index].message_id != accepted.message_id {
            return Answered::Unknown;
        }
        let MessageAccepted { conversation_id, seq, created_at_ms, .. } = *accepted;
        let answer = Answer::Accepted { conversation: conversation_id, seq, created_at_ms };
        let answered = self.on_answer(index, answer);
        if answered == Answered::First && dice.percent(RETRIED_PERCENT) {
            self.to_retry.push((index, server));
        }
        answered
    }

    pub(crate) fn on_refused(&mut self, reference: u32, refusal: &Refusal) -> Answered {
        let Some(index) = self.in_flight.remove(&reference) else { return Answered::Unknown };
        if codes::meaning(refusal.code).retry {
            return Answered::Later;
        }
        self.on_answer(index, Answer::Refused(refusal.code))
    }

    fn on_answer(&mut self, index: usize, answer: Answer) -> Answered {
        self.sends[index].answers.push(answer);
        if self.unanswered.remove(&index) {
            return Answered::First;
        }
        self.retrying.remove(&index);
        Answered::Retry
    }

    /// Where a message to a person ended up.
    pub(crate) fn direct_of(&self, accepted: &MessageAccepted) -> Option<ConversationId> {
        let index = self.in_flight.get(&accepted.reference)?;
        matches!(self.sends[*index].target, Target::Recipient(_)).then_some(accepted.conversation_id)
    }

    /// Nothing waits for an answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.unanswered.is_empty() && self.retrying.is_empty()
    }

    pub(crate) fn into_sends(self) -> Vec<Sent> {
        self.sends
    }
}

#[cfg(test)]
mod tests {
    use tidings_types::{Code, Seq};

    use super::*;

    fn accepted(frame: &ClientFrame, seq: u64) -> MessageAccepted {
        let ClientFrame::SendMessage(send) = frame else { panic!("only sends come from an outbox") };
        MessageAccepted {
            reference: send.reference,
            conversation_id: ConversationId::from_bytes([1; 16]),
            message_id: send.message_id,
            seq: Seq(seq),
            created_at_ms: 5,
        }
    }

    fn target() -> Target {
        Target::Conversation(ConversationId::from_bytes([1; 16]))
    }

    #[test]
    fn what_was_not_answered_is_sent_again_and_nothing_else() {
        let (mut outbox, mut dice) = (Outbox::default(), Dice::new(1, 1));
        for byte in 1..=3 {
            assert!(outbox.write(MessageId::from_bytes([byte; 16]), target(), "x".into()));
        }
        outbox.on_connected(1);
        let first = outbox.next_frame(1, 0).unwrap();
        outbox.next_frame(2, 0).unwrap();
        outbox.next_frame(3, 0).unwrap();
        assert_eq!(outbox.next_frame(4, 0), None);
        assert_eq!(outbox.on_accepted(&accepted(&first, 1), 1, &mut dice), Answered::First);
        assert_eq!(outbox.on_refused(2, &Refusal::new(Code::Overloaded, "")), Answered::Later);
        assert_eq!(outbox.on_refused(3, &Refusal::new(Code::NotFound, "")), Answered::First);
        assert_eq!(outbox.on_refused(9, &Refusal::new(Code::NotFound, "")), Answered::Unknown);
        outbox.to_retry.clear();
        outbox.on_connected(2);
        let again = outbox.next_frame(1, 1).unwrap();
        let ClientFrame::SendMessage(send) = &again else { panic!("only sends come from an outbox") };
        assert_eq!(send.message_id, MessageId::from_bytes([2; 16]));
        assert_eq!(outbox.next_frame(2, 1), None);
        assert!(!outbox.is_settled());
        outbox.on_accepted(&accepted(&again, 2), 2, &mut dice);
        assert!(outbox.is_settled());
    }

    #[test]
    fn one_in_ten_is_retried_once_and_only_after_a_restart() {
        let (mut outbox, mut dice) = (Outbox::default(), Dice::new(7, 1));
        let mut reference = 0;
        for round in 0..100 {
            for byte in 0..10 {
                let id = MessageId::from_bytes([byte, round, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                assert!(outbox.write(id, target(), "x".into()));
                reference += 1;
                let frame = outbox.next_frame(reference, 0).unwrap();
                outbox.on_accepted(&accepted(&frame, 1), 1, &mut dice);
            }
        }
        outbox.on_connected(1);
        assert_eq!(outbox.next_frame(0, 1), None, "the same server is not asked again");
        outbox.on_connected(2);
        let mut retried = 0;
        while let Some(frame) = outbox.next_frame(0, 2) {
            assert_eq!(outbox.on_accepted(&accepted(&frame, 1), 2, &mut dice), Answered::Retry);
            retried += 1;
        }
        assert!((60..=140).contains(&retried), "{retried}");
        outbox.on_connected(3);
        assert_eq!(outbox.next_frame(0, 3), None);
    }
}
