//! Bounds, and what is said when they are reached.

use std::time::Duration;

use futures_util::future::join_all;
use tidings_types::{Code, Limits, Seq};

use crate::support::{World, assert_contiguous, in_time, until};

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_is_answered_at_once() {
    const MAILBOX: usize = 4;
    let limits = Limits { mailbox_commands_max: MAILBOX, ..Limits::default() };
    let world = World::with(1, limits);
    let running = world.start().await;
    let ada = world.person(1).await;
    let group = running.group(&world, &ada, &[]).await;

    world.log.log.hold();
    // None of these gives way to the shard before all are submitted.
    let mut sends: Vec<_> =
        (0..3 * MAILBOX).map(|_| Box::pin(running.send(&ada, group, world.message_id(), "text"))).collect();
    let at_once = join_all(sends.iter_mut().map(futures_util::future::maybe_done));
    let early = tokio::time::timeout(Duration::ZERO, at_once).await;
    assert!(early.is_err(), "some wait for the log");
    drop(sends);

    let mut refused = 0;
    for _ in 0..3 * MAILBOX {
        let send = running.send(&ada, group, world.message_id(), "text");
        if let Ok(answer) = tokio::time::timeout(Duration::from_secs(1), send).await {
            let refusal = answer.unwrap_err();
            assert_eq!(refusal.code, Code::Overloaded);
            assert!(refusal.retry_after_ms.is_some());
            refused += 1;
        }
    }
    assert!(refused >= 2 * MAILBOX, "{refused}");
    world.log.log.release();
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
