//! The socket side of the gateway: RFC 6455 for a server, without a buffer or a timer more than a connection needs.
//!
//! Bytes go in and events come out of the [`codec`], which knows no sockets; [`frame`] encodes what is sent;
//! [`handshake`] judges an upgrade request; the [`driver`] is the one task per connection that moves bytes between a
//! socket, the codec, a [`driver::Peer`] and its [`out_queue`]. What the frames mean is the peer's business. Start
//! reading at [`driver::Connection`].
//!
//! Absent on purpose: extensions (their reserved bits are refused), client frames (every frame sent is unmasked), and
//! a buffer that outlives the message it was needed for.

pub mod codec;
pub mod driver;
pub mod frame;
pub mod handshake;
pub mod out_queue;
mod scratch;
mod timer;
mod upgraded;
mod wake;

pub use driver::{ClosedBy, Connection, DriverConfig, Instants, Peer, TimeSource};
pub use out_queue::OutQueue;
pub use upgraded::{IntoTcpError, into_tcp};
pub use wake::Wake;
