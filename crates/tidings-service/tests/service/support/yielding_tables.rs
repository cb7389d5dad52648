//! The tables in memory, giving way to other tasks before and after every step: what others do meanwhile is then
//! anything that can happen.

use std::sync::Arc;

use async_trait::async_trait;
use tidings_ports::memory::{MemoryTables, SeededRng};
use tidings_ports::{EntryRange, Projection, Tables, TablesError};
use tidings_types::{
    ConversationKey, Entry, Head, IdRecord, LogPosition, Member, MessageId, PersonalFact, PersonalSubject,
    ShardId, Timestamp, UserId,
};

pub(crate) struct YieldingTables {
    pub(crate) tables: Arc<MemoryTables>,
    pub(crate) rng: Arc<SeededRng>,
}

impl YieldingTables {
    async fn around<T>(&self, step: impl Future<Output = T> + Send) -> T {
        self.give_way().await;
        let done = step.await;
        self.give_way().await;
        done
    }

    async fn give_way(&self) {
        for _ in 0..self.rng.below(4) {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Tables for YieldingTables {
    fn position(&self, shard: ShardId) -> LogPosition {
        self.tables.position(shard)
    }

    fn durable_position(&self, shard: ShardId) -> LogPosition {
        self.tables.durable_position(shard)
    }

    fn latest_at(&self, shard: ShardId) -> Timestamp {
        self.tables.latest_at(shard)
    }

    async fn head(&self, key: ConversationKey) -> Result<Option<Head>, TablesError> {
        self.around(self.tables.head(key)).await
    }

    async fn member(&self, key: ConversationKey, user: UserId) -> Result<Option<Member>, TablesError> {
        self.around(self.tables.member(key, user)).await
    }

    async fn id_record(
        &self,
        key: ConversationKey,
        id: MessageId,
        since: Timestamp,
    ) -> Result<Option<IdRecord>, TablesError> {
        self.around(self.tables.id_record(key, id, since)).await
    }

    async fn personal(
        &self,
        key: ConversationKey,
        subject: PersonalSubject,
    ) -> Result<Option<PersonalFact>, TablesError> {
        self.around(self.tables.personal(key, subject)).await
    }

    async fn entries(&self, key: ConversationKey, range: EntryRange) -> Result<Vec<Arc<Entry>>, TablesError> {
        self.around(self.tables.entries(key, range)).await
    }

    async fn members(
        &self,
        key: ConversationKey,
        after: Option<UserId>,
        rows_max: usize,
    ) -> Result<Vec<(UserId, Member)>, TablesError> {
        self.around(self.tables.members(key, after, rows_max)).await
    }

    async fn personal_facts(
        &self,
        key: ConversationKey,
        after: Option<[u8; 16]>,
        rows_max: usize,
    ) -> Result<Vec<(PersonalSubject, PersonalFact)>, TablesError> {
        self.around(self.tables.personal_facts(key, after, rows_max)).await
    }

    async fn project(&self, projection: Projection) -> Result<(), TablesError> {
        self.around(self.tables.project(projection)).await
    }

    async fn checkpoint(&self) -> Result<(), TablesError> {
        self.around(self.tables.checkpoint()).await
    }
}
