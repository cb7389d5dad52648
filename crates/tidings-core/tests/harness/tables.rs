//! A model of the tables: every entry applied, one after the other, and nothing forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_core::{Fact, FactKey, Facts, advance, changed_members, changed_personal};
use tidings_types::{
    Body, ConversationKey, Entry, Epoch, Head, IdRecord, Member, MessageId, PersonalFact, PersonalSubject,
    Timestamp, UserId,
};

use super::INCARNATION;

#[derive(Clone, Debug)]
pub struct Tables {
    pub incarnation: Epoch,
    pub heads: BTreeMap<ConversationKey, Arc<Head>>,
    pub members: BTreeMap<(ConversationKey, UserId), Member>,
    pub ids: BTreeMap<(ConversationKey, MessageId), IdRecord>,
    pub personal: BTreeMap<(ConversationKey, PersonalSubject), PersonalFact>,
    pub entries: BTreeMap<ConversationKey, Vec<Arc<Entry>>>,
    pub latest_at: Timestamp,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            incarnation: INCARNATION,
            heads: BTreeMap::new(),
            members: BTreeMap::new(),
            ids: BTreeMap::new(),
            personal: BTreeMap::new(),
            entries: BTreeMap::new(),
            latest_at: Timestamp::from_ms(0),
        }
    }
}

impl Tables {
    /// # Panics
    /// If the entry does not follow, or its message id is there already.
    pub fn apply(&mut self, entry: &Arc<Entry>) {
        let key = entry.key();
        let head = advance(self.heads.get(&key).map(AsRef::as_ref), entry, self.incarnation);
        self.heads.insert(key, Arc::new(head));
        changed_members(entry, |user, change| {
            let row = change.applied_to(self.members.get(&(key, user)).copied());
            self.members.insert((key, user), row);
        });
        if let Some((subject, fact)) = changed_personal(entry) {
            self.personal.insert((key, subject), fact);
        }
        if let Body::Message { message_id, hash, .. } = &entry.body {
            let record =
                IdRecord { seq: entry.seq, sender: entry.sender, hash: *hash, created_at: entry.created_at };
            let before = self.ids.insert((key, *message_id), record);
            assert_eq!(before, None, "one message id at two seqs: {entry:?}");
        }
        self.latest_at = self.latest_at.max(entry.created_at);
        self.entries.entry(key).or_default().push(entry.clone());
    }

    pub fn fact(&self, key: &FactKey) -> Fact {
        match key {
            FactKey::Head(key) => Fact::Head(self.heads.get(key).cloned()),
            FactKey::Member(key, user) => Fact::Member(self.member(*key, *user)),
            FactKey::Id(key, id) => Fact::Id(self.id_record(*key, *id)),
            FactKey::Personal(key, subject) => Fact::Personal(Facts::personal(self, *key, *subject)),
        }
    }
}

impl Facts for Tables {
    fn head(&self, key: ConversationKey) -> Option<&Arc<Head>> {
        self.heads.get(&key)
    }

    fn member(&self, key: ConversationKey, user: UserId) -> Option<Member> {
        self.members.get(&(key, user)).copied()
    }

    fn id_record(&self, key: ConversationKey, id: MessageId) -> Option<IdRecord> {
        self.ids.get(&(key, id)).copied()
    }

    fn personal(&self, key: ConversationKey, subject: PersonalSubject) -> Option<PersonalFact> {
        self.personal.get(&(key, subject)).copied()
    }
}
