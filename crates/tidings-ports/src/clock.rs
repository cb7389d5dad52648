//! Time and randomness come in as ports, so that a simulator can drive the real code.

use tidings_types::Timestamp;

use crate::BoxFuture;

pub trait Clock: Send + Sync {
    /// Wall-clock time. May jump in either direction; callers that need order keep their own maximum.
    fn now(&self) -> Timestamp;

    /// Milliseconds since some fixed moment; never runs back.
    fn monotonic_ms(&self) -> u64;

    /// Resolves after about `ms` milliseconds.
    fn sleep_ms(&self, ms: u64) -> BoxFuture<'static, ()>;
}

/// Where work runs. The inside names no runtime.
pub trait Tasks: Send + Sync {
    /// Runs a task beside the caller; it ends with the process if it does not end by itself.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Runs work that computes or blocks for long on a thread of its own.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>);
}

pub trait Rng: Send + Sync {
    /// Fills `bytes` from a cryptographically strong source (a simulator's: from its seed).
    fn fill(&self, bytes: &mut [u8]);
}
