//! A client of a Tidings server, for programs: REST calls, and the resumable stream of a signed-in device.
//!
//! - [`Rest`]: every route, with the session's tokens kept fresh.
//! - [`Link`] and [`Events`]: entries of all conversations in order and without holes or doubles across reconnects, and
//!   an outbox whose messages are sent exactly once.
//! - [`Store`]: what must survive a restart (tokens, cursors, outbox), in memory or in a directory.
//! - [`Socket`]: one connection and its frames, for tools that want to see every one.
//!
//! Speaks `http` and `ws` only: over a network, put it behind something that ends TLS, or tunnel it.

mod backoff;
mod clock;
mod error;
mod link;
mod outbox;
mod positions;
mod rest;
mod socket;
mod store;

pub use clock::ServerClock;
pub use error::ClientError;
pub use link::{Event, Events, Link, LinkOptions};
pub use rest::{Cursors, Range, Rest};
pub use socket::{Incoming, Socket, SocketError};
pub use store::{Change, FileStore, Known, MemoryStore, Saved, Store, StoreError};
