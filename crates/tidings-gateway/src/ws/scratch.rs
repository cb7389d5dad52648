//! One buffer per thread for what is read and one for what is written, so that no connection has its own.

use std::{cell::Cell, thread::LocalKey};

/// One read or write moves at most this much, so it is also the most that waits undecoded while a peer wants nothing.
pub(crate) const SCRATCH_BYTES: usize = 64 * 1024;

type Slot = Cell<Option<Box<[u8]>>>;

thread_local! {
    static READ: Slot = const { Cell::new(None) };
    static WRITE: Slot = const { Cell::new(None) };
}

pub(crate) fn with_read<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    with(&READ, work)
}

pub(crate) fn with_write<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    with(&WRITE, work)
}

/// The buffer is taken out while it is used: a nested use gets its own instead of a panic.
fn with<T>(slot: &'static LocalKey<Slot>, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = slot.take().unwrap_or_else(|| vec![0; SCRATCH_BYTES].into_boxed_slice());
    let result = work(&mut buffer);
    slot.set(Some(buffer));
    result
}
