//! From an upgraded HTTP connection back to its socket.

use std::io;

use bytes::BytesMut;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

#[derive(Debug, thiserror::Error)]
pub enum IntoTcpError {
    /// It was served by something else than `hyper::server::conn::http1` over `TokioIo<TcpStream>`.
    #[error("the upgraded connection is not the plain TCP stream it was served on")]
    NotTcp,
    #[error("the socket refused to send without delay")]
    NoDelay(#[source] io::Error),
}

/// The socket, sending without delay, and what the client sent right behind its request.
///
/// The leftover is copied: hyper's read buffer, several KiB, would live as long as the connection otherwise.
pub fn into_tcp(upgraded: Upgraded) -> Result<(TcpStream, BytesMut), IntoTcpError> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| IntoTcpError::NotTcp)?;
    let leftover = BytesMut::from(&parts.read_buf[..]);
    drop(parts.read_buf);
    let stream = parts.io.into_inner();
    stream.set_nodelay(true).map_err(IntoTcpError::NoDelay)?;
    Ok((stream, leftover))
}
