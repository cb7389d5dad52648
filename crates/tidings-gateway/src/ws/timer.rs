//! The one timer of a connection.

use std::{pin::Pin, task::Context, time::Duration};

use tokio::time::{Instant, Sleep, sleep_until};

/// One timer for whatever comes first. A deadline that moves away, as each heartbeat does, leaves it alone: firing
/// early once costs less than setting it anew each time.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed_for_ms: Option<u64>,
}

impl Timer {
    /// True when a moment not after `at_ms` was reached; until then the task is woken at it.
    pub(super) fn fired(&mut self, cx: &mut Context<'_>, now_ms: u64, at_ms: u64) -> bool {
        let armed = self.armed_for_ms.is_some_and(|armed_ms| armed_ms <= at_ms);
        if !armed {
            self.arm(now_ms, at_ms);
        }
        let fired = self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
        if fired {
            self.armed_for_ms = None;
        }
        fired
    }

    fn arm(&mut self, now_ms: u64, at_ms: u64) {
        let at = Instant::now() + Duration::from_millis(at_ms.saturating_sub(now_ms));
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(at),
            None => self.sleep = Some(Box::pin(sleep_until(at))),
        }
        self.armed_for_ms = Some(at_ms);
    }
}
