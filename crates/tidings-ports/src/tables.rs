//! The tables: what the log says, projected, for readers and for a writer that starts.

use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;
use tidings_types::{
    ConversationKey, Entry, Head, IdRecord, LogPosition, Member, MessageId, PersonalFact, PersonalSubject,
    Seq, ShardId, Timestamp, UserId,
};

/// Values that bring the tables from one place to a later one. Values only, never increments: projecting the same
/// stretch of log twice, or a longer stretch that contains it, is harmless.
#[derive(Clone, Debug, Default)]
pub struct Projection {
    pub shard: ShardId,
    /// After this projection the tables have everything of the shard's log below `upto.place`.
    pub upto: LogPosition,
    /// The latest `created_at` among the projected entries; the tables keep the maximum of all projections.
    pub latest_at: Timestamp,
    pub heads: Vec<(ConversationKey, Head)>,
    pub members: Vec<(ConversationKey, UserId, Member)>,
    pub personal: Vec<(ConversationKey, PersonalSubject, PersonalFact)>,
    /// Runs of consecutive entries of one conversation each, ascending by seq. The tables also keep the idempotency
    /// record of every `Body::Message` in them.
    pub runs: Vec<Vec<Arc<Entry>>>,
}

/// Which entries to read. Exclusive bounds; `Seq::ZERO` and `Seq::MAX` for "from the start", "to the end".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRange {
    pub after: Seq,
    pub before: Seq,
    /// Take the highest ones that fit instead of the lowest. The answer ascends all the same.
    pub newest: bool,
    pub entries_max: usize,
    pub bytes_max: usize,
}

#[derive(Debug, Error)]
pub enum TablesError {
    /// What is stored fails its checksum or does not decode. Never answered as "not there".
    #[error("the tables are damaged: {0}")]
    Corrupt(String),
    #[error("the tables have no room")]
    Full,
    #[error("the tables are not available")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Readers see a projection whole or not at all per row; rows of one projection may appear one after the other, but
/// [`Tables::position`] moves only after all of them are readable.
#[async_trait]
pub trait Tables: Send + Sync {
    /// Everything of the shard's log below this position is readable here.
    fn position(&self, shard: ShardId) -> LogPosition;

    /// Everything of the shard's log below this position survives a crash of the machine.
    fn durable_position(&self, shard: ShardId) -> LogPosition;

    /// The latest `created_at` ever projected for the shard.
    fn latest_at(&self, shard: ShardId) -> Timestamp;

    async fn head(&self, key: ConversationKey) -> Result<Option<Head>, TablesError>;

    /// The last known row of a user, present or left.
    async fn member(&self, key: ConversationKey, user: UserId) -> Result<Option<Member>, TablesError>;

    /// The idempotency record of `id`, if an entry created at or after `since` has it. Bounded work: reads id rows from
    /// `since` on, not messages.
    async fn id_record(
        &self,
        key: ConversationKey,
        id: MessageId,
        since: Timestamp,
    ) -> Result<Option<IdRecord>, TablesError>;

    async fn personal(
        &self,
        key: ConversationKey,
        subject: PersonalSubject,
    ) -> Result<Option<PersonalFact>, TablesError>;

    /// Entries in the range, ascending, without gaps: the answer begins at the lowest entry there is (`newest`: at the
    /// highest), and the next missing seq ends it. At least one entry if there is one, whatever `bytes_max` says.
    async fn entries(&self, key: ConversationKey, range: EntryRange) -> Result<Vec<Arc<Entry>>, TablesError>;

    /// Member rows in order of user id, present and left, after `after`.
    async fn members(
        &self,
        key: ConversationKey,
        after: Option<UserId>,
        rows_max: usize,
    ) -> Result<Vec<(UserId, Member)>, TablesError>;

    /// Personal facts in order of the subject's bytes, after `after`.
    async fn personal_facts(
        &self,
        key: ConversationKey,
        after: Option<[u8; 16]>,
        rows_max: usize,
    ) -> Result<Vec<(PersonalSubject, PersonalFact)>, TablesError>;

    /// Makes the projection readable. An older `upto` than the shard's position changes nothing but is not an error.
    async fn project(&self, projection: Projection) -> Result<(), TablesError>;

    /// Makes everything projected so far durable; then `durable_position` says so.
    async fn checkpoint(&self) -> Result<(), TablesError>;
}
