//! Tells users' personal logs which of their devices were removed. The directory numbers removals; this follower's
//! durable position is the last number it has written.

use std::sync::Arc;

use tidings_ports::DirectoryError;
use tidings_types::{
    ConversationId, ConversationKey, LogPosition, PersonalState, PersonalSubject, Place, Seq,
};
use tokio::sync::Notify;

use crate::service::Service;

const NAME: &str = "devices";
const ROWS_PER_PAGE: usize = 100;
const RETRY_AFTER_MS: u64 = 1_000;

pub(crate) struct DevicesFollower {
    service: Arc<Service>,
    changed: Arc<Notify>,
}

impl DevicesFollower {
    pub(crate) fn new(service: Arc<Service>, changed: Arc<Notify>) -> Self {
        Self { service, changed }
    }

    pub(crate) async fn run(self) {
        loop {
            match self.follow().await {
                Ok(()) => self.changed.notified().await,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the follower of devices waits"
                    );
                    self.service.ports().clock.sleep_ms(RETRY_AFTER_MS).await;
                }
            }
        }
    }

    async fn follow(&self) -> Result<(), DirectoryError> {
        let directory = &self.service.ports().directory;
        loop {
            let done = directory.follower_position(NAME).await?.unwrap_or_default().place.0;
            let removals = directory.device_removals(done, ROWS_PER_PAGE).await?;
            let Some(last) = removals.last().map(|removal| removal.number) else { return Ok(()) };
            for removal in removals {
                // Only the space counts here: the personal log's id is derived from the user.
                let key = ConversationKey {
                    space: removal.space,
                    conversation: ConversationId::from_bytes([0; 16]),
                };
                let subject = PersonalSubject::Device(removal.device);
                self.service
                    .write_note(key, removal.user, subject, PersonalState::DeviceRemoved, Seq::ZERO)
                    .await;
            }
            directory
                .set_follower_position(NAME, LogPosition { place: Place(last), ..LogPosition::default() })
                .await?;
        }
    }
}
