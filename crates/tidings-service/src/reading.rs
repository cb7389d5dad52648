//! Reading: the tail first, the tables below it. Nothing here decides who may read: callers have asked the
//! conversation's writer.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::{MemberChange, TailRange, changed_members, changed_personal, personal_id};
use tidings_ports::EntryRange;
use tidings_types::{
    Body, ConversationId, ConversationKey, Entry, Head, IdRecord, Member, MessageId, PersonalState,
    PersonalSubject, Refusal, Seq, SpaceId, UserId,
};

use crate::error::from_tables;
use crate::service::Service;

/// Rows read from the tables at once.
const ROWS_PER_READ: usize = 1_000;

/// Where a page of members ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageEnd {
    /// There is nothing behind it.
    Last,
    More,
}

impl Service {
    /// Entries in the range, ascending and without gaps: contiguous up to the range's far end or a limit.
    pub(crate) async fn entries(
        &self,
        key: ConversationKey,
        range: EntryRange,
    ) -> Result<Vec<Arc<Entry>>, Refusal> {
        // The tail is taken before the tables are asked: what a checkpoint drops from it is in the tables already.
        let tail = self.tail_range(
            key,
            TailRange {
                after: range.after,
                before: range.before,
                newest: range.newest,
                entries_max: range.entries_max,
            },
        );
        let Some((floor, tail)) = tail else {
            return self.table_entries(key, range).await;
        };
        if range.newest {
            self.newest(key, range, floor, tail).await
        } else {
            self.oldest(key, range, floor, tail).await
        }
    }

    /// What follows `after`, for a link that reads on: one page within the limits, empty at the log's end.
    pub async fn entries_after(&self, key: ConversationKey, after: Seq) -> Result<Vec<Arc<Entry>>, Refusal> {
        let limits = &self.config.limits;
        let entries_max = usize::try_from(limits.replay_entries_max).unwrap_or(usize::MAX);
        let bytes_max = limits.page_bytes_max;
        self.entries(key, EntryRange { after, before: Seq::MAX, newest: false, entries_max, bytes_max }).await
    }

    fn tail_range(&self, key: ConversationKey, range: TailRange) -> Option<(Seq, Vec<Arc<Entry>>)> {
        self.shard(key.conversation).tail.read().expect("no holder of the tail panics").range(key, range)
    }

    async fn table_entries(
        &self,
        key: ConversationKey,
        range: EntryRange,
    ) -> Result<Vec<Arc<Entry>>, Refusal> {
        if range.after.next() >= range.before || range.entries_max == 0 {
            return Ok(Vec::new());
        }
        self.ports.tables.entries(key, range).await.map_err(|error| from_tables(&error))
    }

    async fn oldest(
        &self,
        key: ConversationKey,
        range: EntryRange,
        floor: Seq,
        tail: Vec<Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, Refusal> {
        let below = EntryRange { before: range.before.min(floor), ..range };
        let mut page = self.table_entries(key, below).await?;
        let reached = page.last().map_or(range.after, |entry| entry.seq);
        if reached.next() >= floor {
            page.extend(tail);
        }
        truncate(&mut page, range);
        Ok(page)
    }

    async fn newest(
        &self,
        key: ConversationKey,
        range: EntryRange,
        floor: Seq,
        tail: Vec<Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, Refusal> {
        let kept = truncate_front(tail, range);
        let whole_tail = kept.first().is_none_or(|entry| entry.seq == floor);
        let bytes: usize = kept.iter().map(|entry| size(entry)).sum();
        if !whole_tail || kept.len() >= range.entries_max || bytes >= range.bytes_max {
            return Ok(kept);
        }
        let below = EntryRange {
            before: range.before.min(floor),
            entries_max: range.entries_max - kept.len(),
            bytes_max: range.bytes_max - bytes,
            ..range
        };
        let mut page = self.table_entries(key, below).await?;
        page.extend(kept);
        // The tables answer at least one entry, also where none fits any more.
        Ok(truncate_front(page, range))
    }

    /// The conversation's head as of its last released entry.
    pub(crate) async fn head(&self, key: ConversationKey) -> Result<Option<Arc<Head>>, Refusal> {
        let tail = self.shard(key.conversation).tail.read().expect("no holder of the tail panics").head(key);
        match tail {
            Some(head) => Ok(Some(head)),
            None => Ok(self.ports.tables.head(key).await.map_err(|error| from_tables(&error))?.map(Arc::new)),
        }
    }

    /// Present members in order of user id, after `after`, at most `rows_max`.
    pub(crate) async fn members_page(
        &self,
        key: ConversationKey,
        after: Option<UserId>,
        rows_max: usize,
    ) -> Result<(Vec<(UserId, Member)>, PageEnd), Refusal> {
        let changes = self.tail_member_changes(key);
        let mut page = Vec::new();
        let mut after = after;
        loop {
            let rows = self
                .ports
                .tables
                .members(key, after, ROWS_PER_READ)
                .await
                .map_err(|error| from_tables(&error))?;
            let upto =
                (rows.len() == ROWS_PER_READ).then(|| rows.last().expect("a full read has a last row").0);
            for (user, member) in overlaid(rows, &changes, after, upto) {
                if page.len() == rows_max {
                    return Ok((page, PageEnd::More));
                }
                page.push((user, member));
            }
            match upto {
                Some(last) => after = Some(last),
                None => return Ok((page, PageEnd::Last)),
            }
        }
    }

    fn tail_member_changes(&self, key: ConversationKey) -> Vec<(UserId, MemberChange)> {
        let mut changes = Vec::new();
        if let Some((_, entries)) = self.tail_range(key, TailRange::ALL) {
            entries
                .iter()
                .for_each(|entry| changed_members(entry, |user, change| changes.push((user, change))));
        }
        changes
    }

    /// The conversations a user is a member of, by the personal log.
    pub async fn conversations_of(
        &self,
        space: SpaceId,
        user: UserId,
    ) -> Result<Vec<ConversationId>, Refusal> {
        let key = ConversationKey { space, conversation: personal_id(space, user) };
        let tail = self.tail_range(key, TailRange::ALL);
        let mut states = BTreeMap::new();
        let mut after = None;
        loop {
            let rows = self.ports.tables.personal_facts(key, after, ROWS_PER_READ).await;
            let rows = rows.map_err(|error| from_tables(&error))?;
            after = rows.last().map(|(subject, _)| *subject.as_bytes());
            let full = rows.len() == ROWS_PER_READ;
            states.extend(rows);
            if !full {
                break;
            }
        }
        for (subject, fact) in
            tail.iter().flat_map(|(_, entries)| entries).filter_map(|entry| changed_personal(entry))
        {
            // A checkpoint may have brought the rows beyond this copy of the tail meanwhile.
            let known = states.entry(subject).or_insert(fact);
            if fact.cause > known.cause {
                *known = fact;
            }
        }
        Ok(states
            .into_iter()
            .filter_map(|(subject, fact)| match (subject, fact.state) {
                (PersonalSubject::Conversation(id), PersonalState::Joined) => Some(id),
                _ => None,
            })
            .collect())
    }

    /// Where a message is, by its id.
    pub(crate) async fn find_message(
        &self,
        key: ConversationKey,
        id: MessageId,
    ) -> Result<Option<Seq>, Refusal> {
        let tail = self.tail_range(key, TailRange::ALL);
        let found = tail.iter().flat_map(|(_, entries)| entries).find(|entry| is_message(entry, id));
        if let Some(entry) = found {
            return Ok(Some(entry.seq));
        }
        let Some(made_at) = id.made_at() else { return Ok(None) };
        let since = made_at.minus_ms(self.config.limits.id_ahead_ms_max);
        let record =
            self.ports.tables.id_record(key, id, since).await.map_err(|error| from_tables(&error))?;
        Ok(record.map(|IdRecord { seq, .. }| seq))
    }
}

fn is_message(entry: &Entry, id: MessageId) -> bool {
    matches!(&entry.body, Body::Message { message_id, .. } if *message_id == id)
}

/// The rows in `(after, upto]` with the tail's changes laid over them, present members only.
fn overlaid(
    rows: Vec<(UserId, Member)>,
    changes: &[(UserId, MemberChange)],
    after: Option<UserId>,
    upto: Option<UserId>,
) -> BTreeMap<UserId, Member> {
    let mut members: BTreeMap<UserId, Member> = rows.into_iter().collect();
    let here =
        |user: &UserId| after.is_none_or(|after| *user > after) && upto.is_none_or(|upto| *user <= upto);
    for (user, change) in changes.iter().filter(|(user, _)| here(user)) {
        let row = members.get(user).copied();
        if is_newer(*change, row) {
            members.insert(*user, change.applied_to(row));
        }
    }
    members.retain(|_, member| member.is_present());
    members
}

/// The rows are read after the tail, so a checkpoint may have brought them beyond this change already.
fn is_newer(change: MemberChange, row: Option<Member>) -> bool {
    match change {
        MemberChange::Joined(member) => row.is_none_or(|row| row.visible_from < member.visible_from),
        MemberChange::Left(seq) => row.is_some_and(|row| row.is_present() && row.visible_from < seq),
    }
}

fn size(entry: &Entry) -> usize {
    match &entry.body {
        Body::Message { content, .. } => content.len_bytes(),
        Body::Created { members, .. } => members.len() * 17,
        Body::MembersAdded { users } => users.len() * 16,
        _ => 0,
    }
}

/// Keeps the first ones that fit, and at least one.
fn truncate(page: &mut Vec<Arc<Entry>>, range: EntryRange) {
    let mut bytes = 0;
    let fits = page.iter().take_while(|entry| {
        let first = bytes == 0;
        bytes += size(entry) + 1;
        first || bytes <= range.bytes_max
    });
    let len = fits.count().min(range.entries_max);
    page.truncate(len);
}

/// Keeps the last ones that fit, and at least one.
fn truncate_front(mut page: Vec<Arc<Entry>>, range: EntryRange) -> Vec<Arc<Entry>> {
    page.reverse();
    truncate(&mut page, range);
    page.reverse();
    page
}

#[cfg(test)]
mod tests {
    use tidings_types::{Role, Timestamp};

    use super::*;

    fn member(visible_from: u64, left: Option<u64>) -> Member {
        let joined_at = Timestamp::from_ms(visible_from);
        Member { role: Role::Member, joined_at, visible_from: Seq(visible_from), left: left.map(Seq) }
    }

    #[test]
    fn rows_that_are_newer_than_the_tail_stay() {
        let user = UserId::from_bytes([1; 16]);
        let after = |row: Option<Member>, changes: &[MemberChange]| {
            let changes: Vec<_> = changes.iter().map(|change| (user, *change)).collect();
            overlaid(row.map(|row| (user, row)).into_iter().collect(), &changes, None, None).remove(&user)
        };
        let (left, joined) = (MemberChange::Left(Seq(50)), MemberChange::Joined(member(60, None)));
        assert_eq!(after(Some(member(1, None)), &[left]), None);
        assert_eq!(after(Some(member(1, None)), &[left, joined]), Some(member(60, None)));
        assert_eq!(after(None, &[joined]), Some(member(60, None)));
        // The checkpoint was faster: it has the joining at 60, and then the leaving at 70.
        assert_eq!(after(Some(member(60, None)), &[left]), Some(member(60, None)));
        assert_eq!(after(Some(member(60, Some(70))), &[left, joined]), None);
    }
}
