//! Sends of a link, which does not wait for one answer before the next send.

use std::sync::{Arc, Mutex};

use tidings_core::{Answer, SendTarget, direct_id};
use tidings_service::{LinkReply, LinkSend, LinkSink};
use tidings_types::{Code, Content, Seq, SpaceId, UserId};

use crate::support::{World, until};

/// Answers in the order in which they came.
#[derive(Default)]
struct Answers(Mutex<Vec<(u32, Result<Seq, Code>)>>);

impl LinkSink for Answers {
    fn reply(&self, to: LinkReply, answer: Answer) {
        let LinkReply::Send { ref_, .. } = to else { panic!("{to:?} is no send") };
        let answer = match answer {
            Answer::Accepted { seq, .. } => Ok(seq),
            Answer::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?} answers no send"),
        };
        self.0.lock().unwrap().push((ref_, answer));
    }
}

#[tokio::test(start_paused = true)]
async fn sends_to_a_person_keep_their_order_however_long_each_check_takes() {
    const SENDS: u32 = 200;
    let mut world = World::new(2);
    world.yielding = true;
    let running = world.start().await;
    let (ada, bob) = (world.person(1).await, world.person(2).await);
    let answers = Arc::new(Answers::default());
    for ref_ in 0..SENDS {
        let content = Content::Text(format!("text {ref_}").into());
        let send = LinkSend { ref_, message_id: world.message_id(), content, reply_to: None };
        // Every tenth is for somebody who does not exist: that holds nobody up.
        let peer = if ref_ % 10 == 9 { UserId::from_bytes([9; 16]) } else { bob.user };
        running.service.send_from_link(&ada, SendTarget::Recipient(peer), send, answers.clone());
    }
    until("the answers", || async { (answers.0.lock().unwrap().len() == SENDS as usize).then_some(()) })
        .await;

    let answers = answers.0.lock().unwrap().clone();
    let refused = answers.iter().filter(|(ref_, _)| ref_ % 10 == 9);
    assert!(refused.clone().all(|(_, answer)| *answer == Err(Code::NotFound)));
    let accepted: Vec<_> = answers.iter().filter(|(ref_, _)| ref_ % 10 != 9).copied().collect();
    let wanted = (0..SENDS).filter(|ref_| ref_ % 10 != 9).zip((2..).map(|seq| Ok(Seq(seq))));
    assert_eq!(accepted, wanted.collect::<Vec<_>>());
    let direct = direct_id(SpaceId::DEFAULT, ada.user, bob.user);
    assert_eq!(running.all(&bob, direct).await.len(), 1 + accepted.len());
    running.assert_healthy();
}
