//! Facts read from the tables.

use std::sync::Arc;

use tidings_core::{Fact, FactKey, Facts};
use tidings_ports::Tables;
use tidings_types::{
    ConversationKey, Head, IdRecord, Member, MessageId, PersonalFact, PersonalSubject, Refusal, UserId,
};

use crate::error::from_tables;

pub(crate) async fn read_facts(
    tables: &dyn Tables,
    keys: Vec<FactKey>,
    id_ahead_ms_max: u64,
) -> Result<Vec<(FactKey, Fact)>, Refusal> {
    let mut facts = Vec::with_capacity(keys.len());
    for key in keys {
        let fact = match key {
            FactKey::Head(conversation) => {
                tables.head(conversation).await.map(|head| Fact::Head(head.map(Arc::new)))
            }
            FactKey::Member(conversation, user) => tables.member(conversation, user).await.map(Fact::Member),
            FactKey::Personal(conversation, subject) => {
                tables.personal(conversation, subject).await.map(Fact::Personal)
            }
            FactKey::Id(conversation, id) => {
                // It cannot have been accepted earlier: an id too far ahead of the clock is refused.
                let since = id.made_at().unwrap_or_default().minus_ms(id_ahead_ms_max);
                tables.id_record(conversation, id, since).await.map(Fact::Id)
            }
        };
        facts.push((key, fact.map_err(|error| from_tables(&error))?));
    }
    Ok(facts)
}

/// A few facts, for a decision that no writer's memory is needed for.
pub(crate) struct ReadFacts(pub(crate) Vec<(FactKey, Fact)>);

impl ReadFacts {
    fn find(&self, key: FactKey) -> Option<&Fact> {
        self.0.iter().find(|(known, _)| *known == key).map(|(_, fact)| fact)
    }
}

impl Facts for ReadFacts {
    fn head(&self, key: ConversationKey) -> Option<&Arc<Head>> {
        match self.find(FactKey::Head(key))? {
            Fact::Head(head) => head.as_ref(),
            fact => unreachable!("a head is read as a head, not as {fact:?}"),
        }
    }

    fn member(&self, key: ConversationKey, user: UserId) -> Option<Member> {
        match self.find(FactKey::Member(key, user))? {
            Fact::Member(member) => *member,
            fact => unreachable!("a member is read as a member, not as {fact:?}"),
        }
    }

    fn id_record(&self, key: ConversationKey, id: MessageId) -> Option<IdRecord> {
        match self.find(FactKey::Id(key, id))? {
            Fact::Id(record) => *record,
            fact => unreachable!("an id is read as an id, not as {fact:?}"),
        }
    }

    fn personal(&self, key: ConversationKey, subject: PersonalSubject) -> Option<PersonalFact> {
        match self.find(FactKey::Personal(key, subject))? {
            Fact::Personal(fact) => *fact,
            fact => unreachable!("a personal fact is read as one, not as {fact:?}"),
        }
    }
}
