//! Bounds, and what is said when they are reached.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tidings_types::{Code, Limits, Seq};
use tokio::time::Instant;

use crate::support::{World, assert_contiguous, in_time, until};

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_is_answered_at_once() {
    const MAILBOX: usize = 4;
    const HELD: Duration = Duration::from_secs(60);
    let limits = Limits { mailbox_commands_max: MAILBOX, ..Limits::default() };
    let world = World::with(1, limits);
    let running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;

    world.log.log.hold();
    let began = Instant::now();
    let sends = (0..3 * MAILBOX).map(|_| async {
        let answer = running.send(&ada, group, world.message_id(), "text").await;
        (answer, began.elapsed())
    });
    let release = async {
        tokio::time::sleep(HELD).await; // virtual time
        world.log.log.release();
    };
    // All are submitted before the shard has its turn.
    let (answers, ()) = in_time("answers", join(join_all(sends), release)).await;
    for (answer, after) in &answers[..MAILBOX] {
        assert!(answer.is_ok() && *after >= HELD, "{answer:?} after {after:?}");
    }
    for (answer, after) in &answers[MAILBOX..] {
        let refusal = answer.as_ref().unwrap_err();
        assert_eq!((refusal.code, *after), (Code::Overloaded, Duration::ZERO));
        assert!(refusal.retry_after_ms.is_some());
    }
    until("a send is taken", || async { running.send(&ada, group, world.message_id(), "text").await.ok() })
        .await;
    assert_contiguous(&running.all(&ada, group).await, 1);
    running.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_full_tail_is_overload_until_the_next_checkpoint() {
    let limits = Limits { tail_bytes_max: 20_000, ..Limits::default() };
    let world = World::with(1, limits);
    let running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;
    let mut seq = Seq(1);
    for round in 0..3 {
        let refusal = loop {
            match in_time("an answer", running.send(&ada, group, world.message_id(), "text")).await {
                Ok(next) => {
                    assert_eq!(next, seq.next());
                    seq = next;
                }
                Err(refusal) => break refusal,
            }
            assert!(seq.0 < 1_000, "round {round}: the tail has no bound");
        };
        assert_eq!(refusal.code, Code::Overloaded);
        assert!(refusal.retry_after_ms.is_some());
        // Reading goes on.
        assert_eq!(running.all(&ada, group).await.len() as u64, seq.0);
        running.service.checkpoint().await.unwrap();
    }
    assert_contiguous(&running.all(&ada, group).await, 1);
    running.assert_healthy();
}

#[tokio::test(start_paused = true)]
async fn a_large_tail_begins_a_checkpoint_by_itself() {
    let limits = Limits { tail_bytes_max: 40_000, ..Limits::default() };
    let mut world = World::with(1, limits);
    world.config.checkpoint_bytes = 10_000;
    let running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;
    for _ in 0..1_000 {
        running.send(&ada, group, world.message_id(), "text").await.unwrap();
    }
    assert_eq!(running.all(&ada, group).await.len(), 1_001);
    running.assert_healthy();
}
