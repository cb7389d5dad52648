//! Reconnecting with full jitter: a thousand clients that lost the same server must not come back in one moment.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, attempt: 0 }
    }

    /// How long to wait now. `random` is uniform in 0..1; `at_least` is the server's wish and is waited for in any case.
    pub(crate) fn next(&mut self, random: f64, at_least: Duration) -> Duration {
        let ceiling = self.base.saturating_mul(2_u32.saturating_pow(self.attempt)).min(self.max);
        self.attempt = self.attempt.saturating_add(1);
        at_least + ceiling.mul_f64(random)
    }

    /// It worked: the next failure starts from the beginning.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceiling_doubles_up_to_the_maximum_and_starts_again_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut waits = (0..6).map(|_| backoff.next(1.0, Duration::ZERO).as_millis());
        assert_eq!(waits.by_ref().collect::<Vec<_>>(), [100, 200, 400, 800, 1_000, 1_000]);
        backoff.reset();
        assert_eq!(backoff.next(0.5, Duration::ZERO), Duration::from_millis(50));
    }

    #[test]
    fn the_servers_wish_is_added_before_the_jitter_even_after_many_attempts() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        for _ in 0..100 {
            assert!(backoff.next(0.0, Duration::from_secs(7)) >= Duration::from_secs(7));
        }
    }
}
