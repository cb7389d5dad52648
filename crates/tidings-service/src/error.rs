//! Errors of this layer, and the one place where a port's error becomes a refusal.

use thiserror::Error;
use tidings_ports::{DirectoryError, LogError, TablesError};
use tidings_record::RecordError;
use tidings_types::{Code, Refusal};

/// Why a deployment does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("the log cannot be read")]
    Log(#[from] LogError),
    #[error("the tables cannot be brought up to the log")]
    Tables(#[from] TablesError),
    #[error("the directory cannot be read")]
    Directory(#[from] DirectoryError),
    #[error("a record of the log at place {place} does not decode")]
    Record {
        place: u64,
        #[source]
        source: RecordError,
    },
    #[error("the shard's log takes no record")]
    Append(#[from] tidings_ports::AppendError),
}

/// How long a caller waits before it tries again after a passing trouble.
const RETRY_AFTER_MS: u64 = 1_000;

pub(crate) fn from_tables(error: &TablesError) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "tables");
    match error {
        TablesError::Corrupt(_) => {
            Refusal::new(Code::Internal, "stored data is damaged here; the operator was told")
        }
        TablesError::Full => storage_full(),
        TablesError::Unavailable(_) => unavailable("the tables are not available"),
    }
}

pub(crate) fn from_directory(error: &DirectoryError) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "directory");
    match error {
        DirectoryError::Full => storage_full(),
        _ => unavailable("the directory is not available"),
    }
}

pub(crate) fn storage_full() -> Refusal {
    Refusal::new(Code::StorageFull, "the server's disk is full; nothing is lost, try again later")
        .retry_after_ms(10 * RETRY_AFTER_MS)
}

pub(crate) fn unavailable(text: &str) -> Refusal {
    Refusal::new(Code::Unavailable, text).retry_after_ms(RETRY_AFTER_MS)
}

/// The shard takes nothing more; another process will.
pub(crate) fn stopping() -> Refusal {
    unavailable("the server is stopping")
}

pub(crate) fn overloaded(text: &str) -> Refusal {
    Refusal::new(Code::Overloaded, text).retry_after_ms(RETRY_AFTER_MS)
}
