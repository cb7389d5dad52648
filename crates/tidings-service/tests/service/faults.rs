//! Appends that fail: nothing is lost, nothing doubled, nobody waits for ever.

use futures_util::future::join_all;
use tidings_types::{Code, ConversationId, MessageId, Seq};

use crate::support::{Fault, Running, World, assert_contiguous, in_time, until};

#[tokio::test(start_paused = true)]
async fn a_full_log_is_said_to_the_senders_and_later_sends_work() {
    // The second record may find room that the first did not: it must not count.
    for faults in [&[Fault::Full][..], &[Fault::Full, Fault::None], &[Fault::None, Fault::Full]] {
        let world = World::new(1);
        let running = world.start().await;
        let ada = world.person(1).await;
        let group = running.group(&world, &ada, &[]).await;
        world.log.plan(faults.iter().copied());
        // Longer than one record, so that several are on their way.
        let ids: Vec<MessageId> = (0..60).map(|_| world.message_id()).collect();
        let text = "x".repeat(16_000);
        let sends = ids.iter().map(|id| running.send(&ada, group, *id, &text));
        let answers = in_time("answers", join_all(sends)).await;
        assert!(answers.iter().any(Result::is_err));
        for refusal in answers.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(refusal.code, Code::StorageFull);
            assert!(refusal.retry_after_ms.is_some());
        }
        for (id, first) in ids.iter().zip(&answers) {
            let again = running.send(&ada, group, *id, &text).await.unwrap();
            assert!(first.as_ref().ok().is_none_or(|first| *first == again));
        }
        check_once(&running, &ada, group, &ids, &world).await;
        running.assert_healthy();
    }
}

#[tokio::test(start_paused = true)]
async fn while_there_is_no_room_everybody_is_told_and_checkpoints_go_on() {
    let world = World::new(2);
    let running = world.start().await;
    let (ada, bob) = (world.person(1).await, world.person(2).await);
    let groups = [running.group(&world, &ada, &[]).await, running.group(&world, &ada, &[]).await];
    world.log.log.set_full(true);
    for group in groups {
        for _ in 0..3 {
            let refused = in_time("an answer", running.send(&ada, group, world.message_id(), "x")).await;
            assert_eq!(refused.unwrap_err().code, Code::StorageFull);
        }
    }
    // Reading needs no room.
    for group in groups {
        let view = in_time("an answer", running.service.conversation(&ada, group)).await.unwrap();
        assert_eq!(view.head.seq, Seq(1));
        assert_eq!(running.all(&ada, group).await.len(), 1);
        let foreign = running.service.conversation(&bob, group).await.unwrap_err();
        assert_eq!(foreign.code, Code::NotFound);
    }
    // Only a checkpoint lets the log be trimmed, and only a trim makes room.
    in_time("a checkpoint", running.service.checkpoint()).await.unwrap();
    world.log.log.set_full(false);
    for group in groups {
        until("a send is taken", || async { running.send(&ada, group, world.message_id(), "x").await.ok() })
            .await;
        assert_contiguous(&running.all(&ada, group).await, 1);
    }
    in_time("a checkpoint", running.service.checkpoint()).await.unwrap();
    for group in groups {
        assert_eq!(running.all(&ada, group).await.len(), 2);
    }
    running.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_commands_are_decided_again_and_answered_once() {
    for fault in [Fault::UnknownWritten, Fault::UnknownLost] {
        for sends in [1, 60] {
            let world = World::new(1);
            let running = world.start().await;
            let ada = world.person(1).await;
            let group = running.group(&world, &ada, &[]).await;
            running.send(&ada, group, world.message_id(), "first").await.unwrap();
            world.log.plan([fault]);
            let ids: Vec<MessageId> = (0..sends).map(|_| world.message_id()).collect();
            let text = "x".repeat(16_000);
            let answers = join_all(ids.iter().map(|id| running.send(&ada, group, *id, &text)));
            let answers: Vec<Seq> =
                in_time("answers", answers).await.into_iter().map(Result::unwrap).collect();
            assert!(answers.iter().copied().eq((3..3 + sends).map(Seq)), "{fault:?}: {answers:?}");

            assert_eq!(running.all(&ada, group).await.len() as u64, 2 + sends);
            // A link that only listens hears of the last entry, too.
            let heard = running.delivered.seqs(group);
            assert!((1..3 + sends).all(|seq| heard.contains(&Seq(seq))), "{fault:?}: {heard:?}");
            running.service.checkpoint().await.unwrap();
            check_once(&running, &ada, group, &ids, &world).await;
            running.assert_healthy();
        }
    }
}

/// Every message is there once, in the running process and in the next.
async fn check_once(
    running: &Running,
    ada: &tidings_ports::Session,
    group: ConversationId,
    ids: &[MessageId],
    world: &World,
) {
    let next = world.start().await;
    for running in [running, &next] {
        let entries = running.all(ada, group).await;
        assert_contiguous(&entries, 1);
        for id in ids {
            let found = entries.iter().filter(|entry| {
                matches!(&entry.body, tidings_types::Body::Message { message_id, .. } if message_id == id)
            });
            assert_eq!(found.count(), 1);
        }
    }
    next.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_log_stops_the_shard_and_nobody_waits_for_it() {
    let world = World::new(1);
    let running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;
    world.log.close();
    let ids: Vec<MessageId> = (0..3).map(|_| world.message_id()).collect();
    let links: Vec<_> = ids.iter().map(|id| running.send_from_link(&ada, group, *id)).collect();
    let sends = ids.iter().map(|id| running.send(&ada, group, *id, "text"));
    for answer in in_time("answers", join_all(sends)).await {
        assert_eq!(answer.unwrap_err().code, Code::Unavailable);
    }
    for answer in links {
        assert_eq!(in_time("an answer for a link", answer).await.unwrap().code, Code::Unavailable);
    }
    let fatal = running.fatal.lock().unwrap().clone();
    assert!(matches!(&*fatal, [reason] if reason.contains("shard 0")), "{fatal:?}");

    // Who comes later is not told that it will pass.
    let late = in_time("an answer", running.send(&ada, group, world.message_id(), "text")).await;
    assert_eq!(late.unwrap_err().code, Code::Unavailable);
    let late = in_time("an answer", running.send_from_link(&ada, group, world.message_id())).await;
    assert_eq!(late.unwrap().code, Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_panics_is_reported_and_nobody_waits_for_it() {
    let world = World::new(1);
    let running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;
    running.delivered.panic_at_next();
    drop(running.send(&ada, group, world.message_id(), "text").await);
    until("the panic is reported", || async { (!running.fatal.lock().unwrap().is_empty()).then_some(()) })
        .await;
    let late = in_time("an answer", running.send(&ada, group, world.message_id(), "text")).await;
    assert_eq!(late.unwrap_err().code, Code::Unavailable);
}
