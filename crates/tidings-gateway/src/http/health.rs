//! Whether the process lives, and whether it can do its work.

use std::sync::Arc;

use axum::extract::State;
use tidings_service::{Session, personal_log};
use tidings_types::{DeviceId, SessionId, SpaceId, UserId};

use super::problem::Failure;
use crate::Gateway;

/// The process answers. A restart helps if it does not.
pub(super) async fn live() -> &'static str {
    "alive\n"
}

/// The directory answers, and a question comes back from a writer.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Result<&'static str, Failure> {
    let nobody = nobody();
    gateway.accounts.accounts(&[nobody.user]).await?;
    gateway.service.opened(&nobody, personal_log(&nobody)).await?;
    Ok("ready\n")
}

/// No user has this id. Their personal log is empty and always will be, and everybody may open their own.
const fn nobody() -> Session {
    Session {
        session: SessionId::from_bytes([0; 16]),
        user: UserId::from_bytes([0; 16]),
        space: SpaceId::DEFAULT,
        device: DeviceId::from_bytes([0; 16]),
    }
}
