//! What the inside of Tidings needs from the outside, as traits that promise things. A port speaks our types, names no
//! technology, and its comments are the guarantees a caller may rely on; every adapter passes the same [`suite`].
//!
//! Adapters: `tidings-embedded` (one process, one directory) and [`memory`] (tests and the simulator).

mod clock;
mod directory;
mod disk;
mod log;
pub mod memory;
pub mod suite;
mod tables;

pub use clock::{Clock, Rng, Tasks};
pub use directory::{
    Account, AccountSecret, Device, DeviceRemoval, Directory, DirectoryError, NewAccount, NewSession,
    RefreshOutcome, Session,
};
pub use disk::{Disk, DiskFile};
pub use log::{AppendError, Draft, LogError, LogPage, RecordKind, ShardLog, Stored};
pub use tables::{EntryRange, Projection, Tables, TablesError};

use std::future::Future;
use std::pin::Pin;

/// A future that a port hands out. Boxed, so that ports can be `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
