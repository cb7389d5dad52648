//! The facts a decision needs. A send in a group of 100,000 takes three of them.

use std::sync::Arc;

use tidings_types::{
    ConversationKey, Head, IdRecord, Member, MessageId, PersonalFact, PersonalSubject, UserId,
};

use crate::{Command, CommandKind};

/// The name of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKey {
    Head(ConversationKey),
    Member(ConversationKey, UserId),
    Id(ConversationKey, MessageId),
    Personal(ConversationKey, PersonalSubject),
}

impl FactKey {
    #[must_use]
    pub const fn conversation(&self) -> ConversationKey {
        match self {
            Self::Head(key) | Self::Member(key, _) | Self::Id(key, _) | Self::Personal(key, _) => *key,
        }
    }
}

/// A fact's value; `None` says that it is known not to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Head(Option<Arc<Head>>),
    Member(Option<Member>),
    Id(Option<IdRecord>),
    Personal(Option<PersonalFact>),
}

/// What a decision may look at. Every fact that [`needs`] names is known when [`crate::decide`] is called.
pub trait Facts {
    fn head(&self, key: ConversationKey) -> Option<&Arc<Head>>;
    fn member(&self, key: ConversationKey, user: UserId) -> Option<Member>;
    fn id_record(&self, key: ConversationKey, id: MessageId) -> Option<IdRecord>;
    fn personal(&self, key: ConversationKey, subject: PersonalSubject) -> Option<PersonalFact>;
}

/// Names every fact that deciding `command` looks at, each at least once.
pub fn needs(command: &Command, mut need: impl FnMut(FactKey)) {
    let (key, actor) = (command.key, command.actor);
    need(FactKey::Head(key));
    match &command.kind {
        CommandKind::Note { subject, .. } => need(FactKey::Personal(key, *subject)),
        CommandKind::CreateGroup { .. }
        | CommandKind::CreateDirect { .. }
        | CommandKind::Leave
        | CommandKind::Open => {
            need(FactKey::Member(key, actor));
        }
        CommandKind::Send { message_id, .. } => {
            need(FactKey::Member(key, actor));
            need(FactKey::Id(key, *message_id));
        }
        CommandKind::AddMembers { users } => {
            need(FactKey::Member(key, actor));
            users.iter().for_each(|user| need(FactKey::Member(key, *user)));
        }
        CommandKind::RemoveMember { user } => {
            need(FactKey::Member(key, actor));
            need(FactKey::Member(key, *user));
        }
    }
}
