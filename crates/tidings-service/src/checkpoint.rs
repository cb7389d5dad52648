//! Moves the tail into the tables, makes it durable there, and lets go of the log behind it.

use std::sync::Arc;

use tidings_ports::TablesError;
use tidings_types::{Epoch, LogPosition, Place, ShardId};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};

use crate::personal_follower;
use crate::projector::project;
use crate::service::{Ports, ServiceConfig};
use crate::shard::{Snapshot, ToShard};

pub(crate) struct Checkpointer {
    ports: Ports,
    incarnation: Epoch,
    age_ms_max: u64,
    shards: Vec<mpsc::UnboundedSender<ToShard>>,
    tail_is_large: Arc<Notify>,
    on_fatal: Arc<dyn Fn(String) + Send + Sync>,
    /// One checkpoint at a time. Holds the durable positions of the one before.
    previous: Mutex<Vec<LogPosition>>,
}

impl Checkpointer {
    pub(crate) fn new(
        config: &ServiceConfig,
        ports: &Ports,
        shards: Vec<mpsc::UnboundedSender<ToShard>>,
        tail_is_large: Arc<Notify>,
        on_fatal: Arc<dyn Fn(String) + Send + Sync>,
    ) -> Self {
        let previous =
            (0..config.shards).map(|shard| ports.tables.durable_position(ShardId(shard))).collect();
        Self {
            ports: ports.clone(),
            incarnation: config.incarnation,
            age_ms_max: config.checkpoint_age_ms,
            shards,
            tail_is_large,
            on_fatal,
            previous: Mutex::new(previous),
        }
    }

    /// Runs for ever: a checkpoint when a tail is large, and at the latest after `checkpoint_age_ms`.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.tail_is_large.notified() => {}
                () = self.ports.clock.sleep_ms(self.age_ms_max) => {}
            }
            match self.checkpoint().await {
                Ok(()) => {}
                // The log keeps what the tables do not take; senders are told when the tail is full.
                Err(TablesError::Full) => tracing::error!("no room for the tables"),
                Err(error) => return (self.on_fatal)(format!("the tables have failed: {error}")),
            }
        }
    }

    pub(crate) async fn checkpoint(&self) -> Result<(), TablesError> {
        let mut previous = self.previous.lock().await;
        for shard in &self.shards {
            let (sender, receiver) = oneshot::channel();
            // A shard that has stopped has said why itself.
            if shard.send(ToShard::Snapshot(sender)).is_err() {
                continue;
            }
            let Ok(snapshot) = receiver.await else { continue };
            self.project(shard, snapshot).await?;
        }
        self.ports.tables.checkpoint().await?;
        self.trim(&previous).await;
        for (shard, position) in previous.iter_mut().enumerate() {
            *position = self.ports.tables.durable_position(shard_id(shard));
        }
        Ok(())
    }

    async fn project(
        &self,
        shard: &mpsc::UnboundedSender<ToShard>,
        snapshot: Snapshot,
    ) -> Result<(), TablesError> {
        let Snapshot { shard: id, entries, upto, position } = snapshot;
        if position == self.ports.tables.position(id) {
            return Ok(());
        }
        project(&*self.ports.tables, id, &entries, position, self.incarnation).await?;
        if let Some(batch) = upto {
            drop(shard.send(ToShard::Projected(batch)));
        }
        Ok(())
    }

    /// The log is let go behind the checkpoint *before* this one and behind every follower, so that a checkpoint found
    /// to be bad can be made again from the log.
    async fn trim(&self, previous: &[LogPosition]) {
        for (shard, position) in previous.iter().enumerate() {
            let id = shard_id(shard);
            let follower = personal_follower::name(id);
            let followed = match self.ports.directory.follower_position(&follower).await {
                Ok(position) => position.map_or(Place::ZERO, |position| position.place),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "follower position");
                    return;
                }
            };
            if let Err(error) = self.ports.log.trim(id, position.place.min(followed)).await {
                tracing::error!(error = &error as &dyn std::error::Error, "trim");
            }
        }
    }
}

fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).expect("shards are counted in 16 bits"))
}
