use std::error::Error;

use thiserror::Error;
use tidings_types::{Code, Refusal};

use crate::{SocketError, StoreError};

#[derive(Debug, Error)]
pub enum ClientError {
    /// The server said no. `Code` tells what kind of no.
    #[error(transparent)]
    Refused(Refusal),
    /// Nobody is signed in, or the session has ended: sign in again.
    #[error("not signed in")]
    SignedOut,
    /// The server could not be reached, or the connection broke before the answer: the outcome is unknown.
    #[error("the server cannot be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// Something answered, but not a Tidings server of this version.
    #[error("the answer is not one of this protocol: {0}")]
    Protocol(String),
    #[error("not the address of a server: {0}")]
    Address(String),
    /// `outbox_max` is reached.
    #[error("too many messages are waiting to be sent")]
    OutboxFull,
    #[error("the link is closed")]
    Closed,
    #[error("what this client keeps cannot be read or written")]
    Store(#[from] StoreError),
    #[error("the connection failed")]
    Socket(#[from] SocketError),
}

impl ClientError {
    /// The refusal's code, if this is one.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            _ => None,
        }
    }

    /// The same request may succeed later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refusal) => tidings_wire::codes::meaning(refusal.code).retry,
            Self::Unreachable(_) | Self::Socket(_) => true,
            _ => false,
        }
    }
}

impl From<reqwest::Error> for ClientError {
    fn from(error: reqwest::Error) -> Self {
        Self::Unreachable(Box::new(error))
    }
}
