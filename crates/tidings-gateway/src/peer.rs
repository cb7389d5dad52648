//! Between a socket's driver and the link machine: decodes frames, carries out what the link wants, encodes what it
//! says. Every decision is the link's.

use std::sync::Arc;

use tidings_core::{Alarm, CloseReason, Delivery, Link, LinkInput, LinkOutput, LinkRequest, Say, SendTarget};
use tidings_service::{LinkSend, Session, personal_log};
use tidings_types::{Code, Content, ConversationId, ConversationKey, Refusal, Seq};
use tidings_wire::codes::{CLOSE_DRAIN, meaning};
use tidings_wire::{ClientFrame, ClientLimits, ServerFrame};

use crate::Gateway;
use crate::hub::{Frame, LinkEvent, LinkHandle, delivery};
use crate::ws::codec::Close;
use crate::ws::frame::text_frame;
use crate::ws::{ClosedBy, Instants, OutQueue, Peer, Wake};

pub(crate) struct LinkPeer {
    gateway: Arc<Gateway>,
    session: Session,
    handle: Arc<LinkHandle>,
    link: Link<Frame>,
}

impl LinkPeer {
    pub(crate) fn new(gateway: Arc<Gateway>, session: Session, wake: Arc<Wake>, now: Instants) -> Self {
        let handle = gateway.hub.join(session.session, wake);
        let limits = gateway.service.limits().clone();
        let link = Link::new(session.user, personal_log(&session), limits, now.monotonic_ms);
        Self { gateway, session, handle, link }
    }

    fn key(&self, conversation: ConversationId) -> ConversationKey {
        ConversationKey { space: self.session.space, conversation }
    }

    /// Carries out one output; answers the close if it was the last.
    fn carry_out(&mut self, now: Instants, output: LinkOutput<Frame>, out: &mut OutQueue) -> Option<Close> {
        match output {
            LinkOutput::Deliver(Frame(bytes)) => out.push(bytes),
            LinkOutput::Say(say) => {
                let frame = text_frame(&tidings_wire::encode(&self.frame(now, say)));
                self.link.on_queued(frame.len());
                out.push(frame);
            }
            LinkOutput::Submit { ref_, target, message_id, content, reply_to } => {
                let send = LinkSend { ref_, message_id, content, reply_to };
                self.gateway.service.send_from_link(&self.session, target, send, self.handle.clone());
            }
            LinkOutput::WatchAndOpen(conversation) => {
                let key = self.key(conversation);
                self.gateway.hub.watch(key, &self.handle);
                self.gateway.service.open(key, self.session.user, self.handle.clone());
            }
            LinkOutput::Unwatch(conversation) => {
                self.gateway.hub.unwatch(self.key(conversation), &self.handle);
            }
            LinkOutput::ListConversations => self.list_conversations(),
            LinkOutput::Read { conversation, after } => self.read(conversation, after),
            LinkOutput::Alarm(alarm) => self.alarm(alarm),
            LinkOutput::Close(reason) => return Some(close_of(reason)),
        }
        None
    }

    fn list_conversations(&self) {
        let (gateway, session, handle) = (self.gateway.clone(), self.session.clone(), self.handle.clone());
        tokio::spawn(async move {
            let list = gateway.service.conversations_of(session.space, session.user).await;
            handle.push(LinkEvent::Conversations(list));
        });
    }

    fn read(&self, conversation: ConversationId, after: Seq) {
        let (gateway, key, handle) = (self.gateway.clone(), self.key(conversation), self.handle.clone());
        tokio::spawn(async move {
            let page = gateway.service.entries_after(key, after).await;
            let page = page.map(|entries| entries.iter().map(|entry| delivery(entry)).collect());
            handle.push(LinkEvent::Page { conversation, after, page });
        });
    }

    fn alarm(&self, alarm: Alarm) {
        tracing::error!(user = %self.session.user, device = %self.session.device, ?alarm, "link");
    }

    fn frame(&self, now: Instants, say: Say) -> ServerFrame {
        use tidings_wire as wire;
        match say {
            Say::Connected { ref_, personal } => ServerFrame::Connected(wire::Connected {
                reference: ref_,
                user_id: self.session.user,
                device_id: self.session.device,
                session_id: self.session.session,
                personal_id: personal,
                now_ms: now.wall.as_ms(),
                heartbeat_ms: self.gateway.service.limits().heartbeat_ms,
                limits: ClientLimits::from(&**self.gateway.service.limits()),
            }),
            Say::Snapshot { conversation, head, visible_from } => ServerFrame::Snapshot(wire::Snapshot {
                conversation_id: conversation,
                kind: head.kind,
                title: head.title.as_deref().map(str::to_owned),
                epoch: head.epoch,
                floor: head.floor,
                head: head.seq,
                visible_from,
                member_count: head.member_count,
            }),
            Say::Gap { conversation, epoch, from, to } => ServerFrame::Gap(wire::Gap {
                conversation_id: conversation,
                epoch,
                from_seq: from,
                to_seq: to,
            }),
            Say::CaughtUp { ref_ } => ServerFrame::CaughtUp(wire::CaughtUp { reference: ref_ }),
            Say::Subscribed { ref_, conversation } => {
                ServerFrame::Subscribed(wire::Subscribed { reference: ref_, conversation_id: conversation })
            }
            Say::Accepted { ref_, conversation, message_id, seq, created_at } => {
                ServerFrame::MessageAccepted(wire::MessageAccepted {
                    reference: ref_,
                    conversation_id: conversation,
                    message_id,
                    seq,
                    created_at_ms: created_at.as_ms(),
                })
            }
            Say::Pong { ref_, sent } => ServerFrame::Pong(wire::Pong { reference: ref_, sent }),
            Say::Error { ref_, refusal } => ServerFrame::Error(wire::ErrorFrame::new(ref_, refusal)),
        }
    }
}

impl Peer for LinkPeer {
    fn on_text(&mut self, now: Instants, text: &str) {
        self.link.handle(now.monotonic_ms, LinkInput::Request(request_of(text)));
    }

    fn on_wake(&mut self, now: Instants) {
        let waiting = self.handle.take();
        let now_ms = now.monotonic_ms;
        for event in waiting.events {
            self.link.handle(now_ms, input_of(event));
        }
        for delivery in &waiting.live {
            self.link.handle(now_ms, LinkInput::Live(delivery));
        }
        for (conversation, seq) in waiting.heads {
            self.link.handle(now_ms, LinkInput::Head { conversation, seq });
        }
    }

    fn on_deadline(&mut self, now: Instants) {
        self.link.on_deadline(now.monotonic_ms);
    }

    fn next_deadline(&self) -> Option<u64> {
        Some(self.link.deadline_ms())
    }

    fn on_written(&mut self, _now: Instants, bytes: usize) {
        self.link.on_written(bytes);
    }

    fn poll(&mut self, now: Instants, out: &mut OutQueue) -> Option<Close> {
        while let Some(output) = self.link.poll() {
            if let Some(close) = self.carry_out(now, output, out) {
                return Some(close);
            }
        }
        None
    }

    fn wants_read(&self) -> bool {
        self.link.wants_read()
    }

    fn on_closed(&mut self, _now: Instants, why: ClosedBy) {
        tracing::debug!(session = %self.session.session, ?why, "link closed");
    }
}

/// However a connection ends, also by being dropped, its handle leaves every map.
impl Drop for LinkPeer {
    fn drop(&mut self) {
        for conversation in self.link.conversations() {
            self.gateway.hub.unwatch(self.key(conversation), &self.handle);
        }
        self.gateway.hub.leave(&self.handle);
    }
}

fn request_of(text: &str) -> LinkRequest {
    let frame = match tidings_wire::decode_client_frame(text) {
        Ok(frame) => frame,
        Err(error) => {
            let refusal = Refusal::new(error.code, error.message);
            return LinkRequest::Malformed { ref_: error.reference, refusal };
        }
    };
    match frame {
        ClientFrame::Connect(connect) => {
            LinkRequest::Connect { ref_: connect.reference, cursors: connect.cursors }
        }
        ClientFrame::Subscribe(subscribe) => LinkRequest::Subscribe {
            ref_: subscribe.reference,
            conversation: subscribe.conversation_id,
            cursor: subscribe.cursor(),
        },
        ClientFrame::SendMessage(send) => send_of(send),
        ClientFrame::Ping(ping) => LinkRequest::Ping { ref_: ping.reference, sent: ping.sent },
    }
}

fn send_of(send: tidings_wire::SendMessage) -> LinkRequest {
    let ref_ = send.reference;
    let target = match send.target {
        tidings_wire::Target::Conversation(id) => SendTarget::Conversation(id),
        tidings_wire::Target::Recipient(id) => SendTarget::Recipient(id),
    };
    match Content::try_from(send.content) {
        Ok(content) => {
            LinkRequest::Send { ref_, target, message_id: send.message_id, content, reply_to: send.reply_to }
        }
        Err(error) => LinkRequest::Malformed {
            ref_: Some(ref_),
            refusal: Refusal::new(Code::Invalid, error.to_string()),
        },
    }
}

fn input_of<'a>(event: LinkEvent) -> LinkInput<'a, Frame> {
    match event {
        LinkEvent::Answered { ref_, conversation, message_id, answer } => {
            LinkInput::Answered { ref_, conversation, message_id, answer }
        }
        LinkEvent::Opened { conversation, answer } => LinkInput::Opened { conversation, answer },
        LinkEvent::Conversations(list) => LinkInput::Conversations(list),
        LinkEvent::Page { conversation, after, page } => LinkInput::Page { conversation, after, page },
        LinkEvent::SessionEnded => LinkInput::SessionEnded,
        LinkEvent::Drain => LinkInput::Drain,
    }
}

fn close_of(reason: CloseReason) -> Close {
    let (code, text) = match reason {
        CloseReason::Silent => (meaning(Code::LinkLost).close_code, "nothing was heard for two heartbeats"),
        CloseReason::SessionEnded => (meaning(Code::Unauthenticated).close_code, "the session has ended"),
        CloseReason::Drain => (CLOSE_DRAIN, "the server is going away: connect again"),
        CloseReason::Refused(code) => (meaning(code).close_code, code.name()),
    };
    Close::new(code, text)
}

// Deliveries are made once per entry and shared; this keeps the cost of sharing visible.
const _: () = assert!(size_of::<Delivery<Frame>>() <= 96);
