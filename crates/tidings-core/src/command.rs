//! What may be asked of a conversation, and what is answered.

use std::sync::Arc;

use tidings_types::{
    Content, ConversationKey, Head, Member, MessageId, PersonalState, PersonalSubject, Refusal, Seq,
    Timestamp, UserId,
};

/// One request to one conversation. Besides sends, commands are sets and never toggles: repeating one has the same
/// effect, no new entry and the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub key: ConversationKey,
    pub actor: UserId,
    pub kind: CommandKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// The key's id was made by the client. The actor becomes the owner.
    CreateGroup {
        title: Option<Arc<str>>,
        members: Vec<UserId>,
    },
    /// The key's id is derived from the two users.
    CreateDirect {
        peer: UserId,
    },
    /// `peer` is given when the sender named a person and not a conversation: then the direct conversation is created
    /// with its first message.
    Send {
        message_id: MessageId,
        content: Content,
        reply_to: Option<MessageId>,
        peer: Option<UserId>,
    },
    AddMembers {
        users: Vec<UserId>,
    },
    /// Removing oneself is leaving.
    RemoveMember {
        user: UserId,
    },
    Leave,
    /// Into the actor's personal log; only followers ask for it.
    Note {
        subject: PersonalSubject,
        state: PersonalState,
        cause: Seq,
    },
    /// Changes nothing: the facts a reader needs, as of this point in the order.
    Open,
}

/// What came of a command. It leaves the writer only when everything it rests on is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted { seq: Seq, created_at: Timestamp },
    Created { head: Arc<Head>, member: Member },
    Members(Vec<(UserId, Member)>),
    Done,
    Opened { head: Arc<Head>, member: Member },
    Refused(Refusal),
}
