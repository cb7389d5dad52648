//! Sends of links that name a person. The directory must know the person before the conversation's writer is asked, and
//! may answer one question later than the next; the sends still go to the writer in the order in which they came.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tidings_core::{Answer, CommandKind, direct_id};
use tidings_ports::Session;
use tidings_types::{Refusal, UserId};
use tokio::sync::mpsc;

use crate::LinkSend;
use crate::conversations::command;
use crate::service::{LinkReply, LinkSink, ReplyTo, Service};

/// Questions to the directory at once.
const CHECKS_IN_FLIGHT_MAX: usize = 64;

pub(crate) struct RecipientSend {
    pub(crate) session: Session,
    pub(crate) peer: UserId,
    pub(crate) send: LinkSend,
    pub(crate) sink: Arc<dyn LinkSink>,
}

impl RecipientSend {
    pub(crate) fn refuse(self, refusal: Refusal) {
        let reply = self.reply();
        self.sink.reply(reply, Answer::Refused(refusal));
    }

    fn reply(&self) -> LinkReply {
        let conversation = direct_id(self.session.space, self.session.user, self.peer);
        LinkReply::Send { ref_: self.send.ref_, conversation, message_id: self.send.message_id }
    }
}

impl Service {
    /// Runs for ever. One line for all: a question takes about as long for everybody, and no map of lines is needed.
    pub(crate) async fn check_recipients(self: Arc<Self>, mut sends: mpsc::Receiver<RecipientSend>) {
        let mut checks = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                Some((send, checked)) = checks.next(), if !checks.is_empty() => {
                    self.submit_to_recipient(send, checked);
                }
                Some(send) = sends.recv(), if checks.len() < CHECKS_IN_FLIGHT_MAX => {
                    checks.push_back(self.check_recipient(send));
                }
            }
        }
    }

    async fn check_recipient(&self, send: RecipientSend) -> (RecipientSend, Result<(), Refusal>) {
        let checked = self.check_users(&send.session, &[send.peer]).await;
        (send, checked)
    }

    fn submit_to_recipient(&self, send: RecipientSend, checked: Result<(), Refusal>) {
        if let Err(refusal) = checked {
            return send.refuse(refusal);
        }
        let reply = send.reply();
        let RecipientSend { session, peer, send, sink } = send;
        let LinkSend { ref_: _, message_id, content, reply_to } = send;
        let kind = CommandKind::Send { message_id, content, reply_to, peer: Some(peer) };
        let conversation = direct_id(session.space, session.user, peer);
        self.submit(command(&session, conversation, kind), ReplyTo::Link { sink, reply });
    }
}
