//! What waits for one socket is bounded, however large the pages are that are read for it.

#![allow(clippy::unwrap_used, reason = "a test's helper may fail the test")]

use std::sync::Arc;

use tidings_core::{
    Answer, Delivery, Effect, Link, LinkInput, LinkOutput, LinkRequest, Payload, Say, personal_id,
};
use tidings_types::{
    CommandHash, ConversationId, ConversationKind, Cursor, Epoch, Head, Limits, Member, Role, Seq, SpaceId,
    Timestamp, UserId,
};

const FRAME_BYTES: usize = 330;
const ENTRIES: u64 = 900;

#[derive(Clone, Debug)]
struct Frame(Seq);

impl Payload for Frame {
    fn len_bytes(&self) -> usize {
        FRAME_BYTES
    }
}

#[test]
fn a_page_larger_than_the_output_is_queued_in_parts() {
    let limits = Arc::new(Limits { output_bytes_max: 20 * FRAME_BYTES, ..Limits::default() });
    let me = UserId::from_bytes([1; 16]);
    let personal = personal_id(SpaceId::DEFAULT, me);
    let group = ConversationId::from_bytes([7; 16]);
    let mut link = Link::new(me, personal, limits.clone(), 0);
    let cursors = vec![(group, Cursor { epoch: Epoch(1), seq: Seq(1) })];
    link.handle(0, LinkInput::Request(LinkRequest::Connect { ref_: 1, cursors }));

    let (mut sent, mut queued, mut caught_up) = (1, 0, false);
    while !caught_up {
        let Some(output) = link.poll() else {
            assert!(queued > 0, "nothing is queued and nothing asked for after entry {sent}");
            // The socket takes everything at once.
            link.on_written(std::mem::take(&mut queued));
            continue;
        };
        match output {
            LinkOutput::WatchAndOpen(conversation) => {
                let head = if conversation == group { ENTRIES } else { 0 };
                link.handle(0, LinkInput::Opened { conversation, answer: opened(me, head) });
            }
            LinkOutput::ListConversations => link.handle(0, LinkInput::Conversations(Ok(vec![group]))),
            LinkOutput::Read { conversation, after } => {
                let page = (after.0 + 1..=ENTRIES).map(|seq| delivery(conversation, Seq(seq))).collect();
                link.handle(0, LinkInput::Page { conversation, after, page: Ok(page) });
            }
            LinkOutput::Deliver(Frame(seq)) => {
                sent += 1;
                assert_eq!(seq, Seq(sent));
                queued += FRAME_BYTES;
            }
            LinkOutput::Say(say) => caught_up |= say == Say::CaughtUp { ref_: 1 },
            other => panic!("{other:?}"),
        }
        assert!(queued <= limits.output_bytes_max, "{queued} bytes wait for the socket");
    }
    assert_eq!(sent, ENTRIES);
}

fn delivery(conversation: ConversationId, seq: Seq) -> Delivery<Frame> {
    Delivery { conversation, seq, effect: Effect::None, payload: Frame(seq) }
}

fn opened(me: UserId, head: u64) -> Answer {
    let at = Timestamp::from_ms(1);
    let head = Head {
        space: SpaceId::DEFAULT,
        kind: ConversationKind::Group,
        title: None,
        creator: me,
        created_hash: CommandHash([0; 16]),
        created_at: at,
        seq: Seq(head),
        version: head,
        floor: Seq(1),
        epoch: Epoch(1),
        messages: 0,
        last_message: Seq::ZERO,
        last_at: at,
        member_count: 1,
    };
    let member = Member { role: Role::Owner, joined_at: at, visible_from: Seq(1), left: None };
    Answer::Opened { head: Arc::new(head), member }
}
