//! How the tables follow the log: entries of a stretch become values. Projecting a stretch again is harmless, also when
//! the tables already have rows from beyond it (a crash may keep some of what was not yet durable).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::Vacant;
use std::sync::Arc;

use tidings_core::{advance, changed_members, changed_personal};
use tidings_ports::{Projection, Tables, TablesError};
use tidings_types::{
    ConversationKey, Entry, Epoch, Head, LogPosition, Member, PersonalFact, PersonalSubject, ShardId,
    Timestamp, UserId,
};

/// Projects `entries`, which are everything of the shard's log from the tables' position up to `upto`.
pub(crate) async fn project(
    tables: &dyn Tables,
    shard: ShardId,
    entries: &[Arc<Entry>],
    upto: LogPosition,
    incarnation: Epoch,
) -> Result<(), TablesError> {
    let mut stretch = Stretch::default();
    for entry in entries {
        stretch.load(tables, entry).await?;
        stretch.add(entry, incarnation);
    }
    tables.project(stretch.into_projection(shard, upto)).await
}

#[derive(Default)]
struct Stretch {
    heads: BTreeMap<ConversationKey, Option<Head>>,
    members: BTreeMap<(ConversationKey, UserId), Option<Member>>,
    personal: BTreeMap<(ConversationKey, PersonalSubject), PersonalFact>,
    runs: BTreeMap<ConversationKey, Vec<Arc<Entry>>>,
    latest_at: Timestamp,
}

impl Stretch {
    /// Reads the values that `entry` builds on and that are not here yet.
    async fn load(&mut self, tables: &dyn Tables, entry: &Entry) -> Result<(), TablesError> {
        let key = entry.key();
        if let Vacant(unread) = self.heads.entry(key) {
            unread.insert(tables.head(key).await?);
        }
        let mut users = Vec::new();
        changed_members(entry, |user, _| users.push(user));
        for user in users {
            if let Vacant(unread) = self.members.entry((key, user)) {
                unread.insert(tables.member(key, user).await?);
            }
        }
        Ok(())
    }

    fn add(&mut self, entry: &Arc<Entry>, incarnation: Epoch) {
        let key = entry.key();
        let head = self.heads.entry(key).or_default();
        // Rows from beyond the durable position may have survived a crash; a head that is ahead is right already.
        if head.as_ref().is_none_or(|head| head.version < entry.version) {
            *head = Some(advance(head.as_ref(), entry, incarnation));
        }
        changed_members(entry, |user, change| {
            let row = self.members.entry((key, user)).or_default();
            *row = Some(change.applied_to(*row));
        });
        if let Some((subject, fact)) = changed_personal(entry) {
            self.personal.insert((key, subject), fact);
        }
        self.runs.entry(key).or_default().push(entry.clone());
        self.latest_at = self.latest_at.max(entry.created_at);
    }

    fn into_projection(self, shard: ShardId, upto: LogPosition) -> Projection {
        Projection {
            shard,
            upto,
            latest_at: self.latest_at,
            heads: self.heads.into_iter().filter_map(|(key, head)| Some((key, head?))).collect(),
            members: self
                .members
                .into_iter()
                .filter_map(|((key, user), row)| Some((key, user, row?)))
                .collect(),
            personal: self.personal.into_iter().map(|((key, subject), fact)| (key, subject, fact)).collect(),
            runs: self.runs.into_values().collect(),
        }
    }
}
