//! How anybody tells a connection's task that something waits for its peer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::Context,
};

use futures_util::task::AtomicWaker;

/// A flag and the task to wake. First put the thing where the peer will look, then call [`Wake::wake`]: the peer's
/// next look comes after that call. Any number of calls before the look are one.
#[derive(Debug, Default)]
pub struct Wake {
    set: AtomicBool,
    task: AtomicWaker,
}

impl Wake {
    #[must_use]
    pub const fn new() -> Self {
        Self { set: AtomicBool::new(false), task: AtomicWaker::new() }
    }

    pub fn wake(&self) {
        // A swap even if the flag is set: what was put before this call must be seen by whoever clears it.
        if !self.set.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }

    /// Whether somebody woke since the last call. If not, the task is woken when somebody does.
    pub(crate) fn take(&self, cx: &Context<'_>) -> bool {
        if self.set.swap(false, Ordering::AcqRel) {
            return true;
        }
        self.task.register(cx.waker());
        self.set.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{Arc, atomic::AtomicU32},
        task::Poll,
        time::{Duration, Instant},
    };

    use super::*;

    /// The two sides meet in every order, also between the look at the flag and the registration of the task.
    #[tokio::test]
    async fn no_wake_is_lost() {
        const ROUNDS: u32 = 50_000;
        const IN_TIME: Duration = Duration::from_secs(5);
        let (wake, seen) = (Arc::new(Wake::new()), Arc::new(AtomicU32::new(0)));
        let (other_wake, other_seen) = (Arc::clone(&wake), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            for round in 0..ROUNDS {
                (0..round % 512).for_each(|_| std::hint::spin_loop());
                other_wake.wake();
                while other_seen.load(Ordering::Acquire) == round {
                    std::hint::spin_loop();
                }
            }
        });
        for round in 0..ROUNDS {
            let taken = poll_fn(|cx| if wake.take(cx) { Poll::Ready(()) } else { Poll::Pending });
            // A time-out polls once more at its end and so would find what was lost: the time tells.
            let begin = Instant::now();
            let _ = tokio::time::timeout(IN_TIME, taken).await;
            let in_time = begin.elapsed() < IN_TIME;
            // The other side must end before this test can fail.
            seen.store(if in_time { round + 1 } else { u32::MAX }, Ordering::Release);
            assert!(in_time, "a wake was lost");
        }
        thread.join().unwrap();
    }
}
