//! Ids carry a moment, and the server refuses moments of its future: so they are made from the server's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tidings_types::{ConversationId, DeviceId, MessageId, Timestamp};

/// The server's clock as far as it is known here. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ServerClock {
    /// Server time less local time.
    offset_ms: Arc<AtomicI64>,
}

impl ServerClock {
    #[must_use]
    pub fn new(offset_ms: i64) -> Self {
        Self { offset_ms: Arc::new(AtomicI64::new(offset_ms)) }
    }

    /// The server said what time it is.
    pub fn set(&self, server_now_ms: u64) {
        let offset = i64::try_from(i128::from(server_now_ms) - i128::from(local_now_ms())).unwrap_or(0);
        self.offset_ms.store(offset, Ordering::Relaxed);
    }

    #[must_use]
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::from_ms(local_now_ms().saturating_add_signed(self.offset_ms()))
    }

    #[must_use]
    pub fn message_id(&self) -> MessageId {
        MessageId::v7(self.now(), random())
    }

    /// For a group that is to be created.
    #[must_use]
    pub fn conversation_id(&self) -> ConversationId {
        ConversationId::v7(self.now(), random())
    }

    /// For a new installation.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        DeviceId::v7(self.now(), random())
    }
}

fn local_now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Uniform in 0..1.
pub(crate) fn random_unit() -> f64 {
    let [a, b, c, d, ..] = random();
    f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_servers_clock_and_not_the_local_one() {
        let clock = ServerClock::default();
        let year_2100_ms = 4_102_444_800_000;
        clock.clone().set(year_2100_ms);
        let made_at = clock.message_id().made_at().unwrap();
        assert!(made_at.ms_since(Timestamp::from_ms(year_2100_ms)) < 60_000, "{made_at}");
        assert!(clock.offset_ms() > 0);
    }

    #[test]
    fn jitter_stays_below_one() {
        assert!((0..1_000).map(|_| random_unit()).all(|unit| (0.0..1.0).contains(&unit)));
    }
}
