//! What a signed-in user asks about conversations: each use case checks who asks through the conversation's writer.

use std::sync::Arc;

use tidings_core::{Answer, Command, CommandKind, SendTarget, direct_id, personal_id};
use tidings_ports::{EntryRange, Session};
use tidings_types::{
    Code, Content, ConversationId, ConversationKey, ConversationKind, Entry, Head, Member, MessageId,
    Refusal, Seq, Timestamp, UserId,
};

use crate::error::from_directory;
use crate::reading::PageEnd;
use crate::recipients::RecipientSend;
use crate::service::{LinkReply, LinkSink, ReplyTo, Service, refused};

/// Members shown with a conversation: both of a direct one.
const DIRECT_MEMBERS: usize = 2;

/// A conversation as its member sees it.
#[derive(Clone, Debug)]
pub struct ConversationView {
    pub conversation: ConversationId,
    pub head: Arc<Head>,
    pub member: Member,
    pub last_message: Option<Arc<Entry>>,
    /// The two members of a direct conversation; empty for groups.
    pub members: Vec<MemberView>,
}

#[derive(Clone, Copy, Debug)]
pub struct MemberView {
    pub user: UserId,
    pub member: Member,
}

/// Which messages to read; exclusive bounds, `around` is inclusive.
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagesQuery {
    pub after: Option<Seq>,
    pub before: Option<Seq>,
    pub around: Option<Seq>,
    pub limit: usize,
}

impl Service {
    /// Creates a group with the id the client made; the same create again is answered the same.
    pub async fn create_group(
        &self,
        session: &Session,
        conversation: ConversationId,
        title: Option<Arc<str>>,
        members: Vec<UserId>,
    ) -> Result<ConversationView, Refusal> {
        self.check_users(session, &members).await?;
        let kind = CommandKind::CreateGroup { title, members };
        self.created(session, conversation, kind).await
    }

    /// Creates the direct conversation of two people, or finds it.
    pub async fn create_direct(&self, session: &Session, peer: UserId) -> Result<ConversationView, Refusal> {
        self.check_users(session, &[peer]).await?;
        let conversation = direct_id(session.space, session.user, peer);
        self.created(session, conversation, CommandKind::CreateDirect { peer }).await
    }

    async fn created(
        &self,
        session: &Session,
        conversation: ConversationId,
        kind: CommandKind,
    ) -> Result<ConversationView, Refusal> {
        match self.ask(command(session, conversation, kind)).await {
            Answer::Created { head, member } => self.view(session, conversation, head, member).await,
            other => Err(refused(other)),
        }
    }

    pub async fn conversation(
        &self,
        session: &Session,
        conversation: ConversationId,
    ) -> Result<ConversationView, Refusal> {
        let (head, member) = self.opened(session, conversation).await?;
        if head.kind == ConversationKind::Personal {
            return Err(Refusal::new(Code::NotFound, "there is no such conversation"));
        }
        self.view(session, conversation, head, member).await
    }

    /// The caller's conversations, all of them, newest activity first. Pages are cut by the caller, which knows the
    /// cursor's form.
    pub async fn conversation_heads(
        &self,
        session: &Session,
    ) -> Result<Vec<(ConversationId, Arc<Head>)>, Refusal> {
        let mut heads = Vec::new();
        for conversation in self.conversations_of(session.space, session.user).await? {
            if let Some(head) = self.head(key(session, conversation)).await? {
                heads.push((conversation, head));
            }
        }
        heads.sort_unstable_by(|(a, one), (b, other)| (other.last_at, b).cmp(&(one.last_at, a)));
        Ok(heads)
    }

    async fn view(
        &self,
        session: &Session,
        conversation: ConversationId,
        head: Arc<Head>,
        member: Member,
    ) -> Result<ConversationView, Refusal> {
        let key = key(session, conversation);
        let last_message = match head.last_message {
            seq if seq >= member.visible_from && seq > Seq::ZERO => self.entry(key, seq).await?,
            _ => None,
        };
        let members = if head.kind == ConversationKind::Direct {
            let (members, _) = self.members_page(key, None, DIRECT_MEMBERS).await?;
            members.into_iter().map(|(user, member)| MemberView { user, member }).collect()
        } else {
            Vec::new()
        };
        Ok(ConversationView { conversation, head, member, last_message, members })
    }

    async fn entry(&self, key: ConversationKey, seq: Seq) -> Result<Option<Arc<Entry>>, Refusal> {
        let range = EntryRange {
            after: seq.previous(),
            before: seq.next(),
            newest: false,
            entries_max: 1,
            bytes_max: self.config.limits.page_bytes_max,
        };
        Ok(self.entries(key, range).await?.pop())
    }

    /// The facts of a conversation for a present member; `not_found` for everybody else.
    pub async fn opened(
        &self,
        session: &Session,
        conversation: ConversationId,
    ) -> Result<(Arc<Head>, Member), Refusal> {
        match self.ask(command(session, conversation, CommandKind::Open)).await {
            Answer::Opened { head, member } => Ok((head, member)),
            other => Err(refused(other)),
        }
    }

    /// Members after `after`, in order of user id.
    pub async fn members(
        &self,
        session: &Session,
        conversation: ConversationId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<(Vec<MemberView>, PageEnd), Refusal> {
        self.opened(session, conversation).await?;
        let (members, end) = self.members_page(key(session, conversation), after, limit).await?;
        Ok((members.into_iter().map(|(user, member)| MemberView { user, member }).collect(), end))
    }

    pub async fn add_members(
        &self,
        session: &Session,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> Result<Vec<MemberView>, Refusal> {
        // First who asks: a stranger does not learn which users exist.
        self.opened(session, conversation).await?;
        self.check_users(session, &users).await?;
        match self.ask(command(session, conversation, CommandKind::AddMembers { users })).await {
            Answer::Members(members) => {
                Ok(members.into_iter().map(|(user, member)| MemberView { user, member }).collect())
            }
            other => Err(refused(other)),
        }
    }

    /// Removes a member; oneself: leaves.
    pub async fn remove_member(
        &self,
        session: &Session,
        conversation: ConversationId,
        user: UserId,
    ) -> Result<(), Refusal> {
        match self.ask(command(session, conversation, CommandKind::RemoveMember { user })).await {
            Answer::Done => Ok(()),
            other => Err(refused(other)),
        }
    }

    /// The raw entries a member may see, one per seq, ascending.
    pub async fn entries_page(
        &self,
        session: &Session,
        conversation: ConversationId,
        after: Option<Seq>,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Arc<Entry>>, Refusal> {
        let seen = self.opened(session, conversation).await?;
        let range = self.visible(&seen, after, before, limit);
        self.entries(key(session, conversation), range).await
    }

    /// `after` alone reads forward from it; anything else reads the newest that fit. Never beyond the head at which the
    /// reader was found to be a member: what comes later may be the entry that removed them, and what follows it.
    fn visible(
        &self,
        (head, member): &(Arc<Head>, Member),
        after: Option<Seq>,
        before: Option<Seq>,
        limit: usize,
    ) -> EntryRange {
        EntryRange {
            after: after.unwrap_or(Seq::ZERO).max(member.visible_from.previous()),
            before: before.unwrap_or(Seq::MAX).min(head.seq.next()),
            newest: after.is_none(),
            entries_max: limit,
            bytes_max: self.config.limits.page_bytes_max,
        }
    }

    /// Messages in their current state, ascending, at most `limit`.
    pub async fn messages(
        &self,
        session: &Session,
        conversation: ConversationId,
        query: MessagesQuery,
    ) -> Result<Vec<Arc<Entry>>, Refusal> {
        let seen = self.opened(session, conversation).await?;
        if seen.0.kind == ConversationKind::Personal {
            return Err(Refusal::new(Code::NotFound, "there is no such conversation"));
        }
        let key = key(session, conversation);
        let Some(around) = query.around else {
            return self.messages_in(key, &seen, query.after, query.before, query.limit).await;
        };
        let half = query.limit.div_ceil(2);
        let mut page = self.messages_in(key, &seen, None, Some(around), half).await?;
        let rest = query.limit - page.len();
        page.extend(self.messages_in(key, &seen, Some(around.previous()), None, rest).await?);
        Ok(page)
    }

    /// Reads entries until enough of them are messages.
    async fn messages_in(
        &self,
        key: ConversationKey,
        seen: &(Arc<Head>, Member),
        after: Option<Seq>,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<Arc<Entry>>, Refusal> {
        let mut range = self.visible(seen, after, before, limit);
        let mut messages = Vec::new();
        while messages.len() < limit {
            range.entries_max = (limit - messages.len()).max(16);
            let page = self.entries(key, range).await?;
            let (Some(first), Some(last)) = (page.first().map(|e| e.seq), page.last().map(|e| e.seq)) else {
                break;
            };
            let found = page.into_iter().filter(|entry| entry.body.is_message());
            if range.newest {
                range.before = first;
                messages.splice(0..0, found);
            } else {
                range.after = last;
                messages.extend(found);
            }
        }
        if range.newest {
            messages.drain(..messages.len().saturating_sub(limit));
        } else {
            messages.truncate(limit);
        }
        Ok(messages)
    }

    /// One message by its id.
    pub async fn message(
        &self,
        session: &Session,
        conversation: ConversationId,
        id: MessageId,
    ) -> Result<Arc<Entry>, Refusal> {
        let missing = || Refusal::new(Code::NotFound, "there is no such message");
        let (head, member) = self.opened(session, conversation).await?;
        let key = key(session, conversation);
        let seq = self
            .find_message(key, id)
            .await?
            .filter(|seq| (member.visible_from..=head.seq).contains(seq))
            .ok_or_else(missing)?;
        self.entry(key, seq).await?.ok_or_else(missing)
    }

    /// Sends over REST.
    pub async fn send(
        &self,
        session: &Session,
        target: SendTarget,
        message_id: MessageId,
        content: Content,
        reply_to: Option<MessageId>,
    ) -> Result<(ConversationId, Seq, Timestamp), Refusal> {
        let (conversation, peer) = self.resolve(session, target).await?;
        let kind = CommandKind::Send { message_id, content, reply_to, peer };
        match self.ask(command(session, conversation, kind)).await {
            Answer::Accepted { seq, created_at } => Ok((conversation, seq, created_at)),
            other => Err(refused(other)),
        }
    }

    /// Sends for a link; the answer goes to its sink. Sends to one conversation keep the order of the calls as long as
    /// all of them name the conversation or all of them name the person.
    pub fn send_from_link(
        &self,
        session: &Session,
        target: SendTarget,
        send: LinkSend,
        sink: Arc<dyn LinkSink>,
    ) {
        match target {
            SendTarget::Conversation(conversation) => {
                let LinkSend { ref_, message_id, content, reply_to } = send;
                let kind = CommandKind::Send { message_id, content, reply_to, peer: None };
                let reply = LinkReply::Send { ref_, conversation, message_id };
                self.submit(command(session, conversation, kind), ReplyTo::Link { sink, reply });
            }
            SendTarget::Recipient(peer) => {
                self.send_to_recipient(RecipientSend { session: session.clone(), peer, send, sink });
            }
        }
    }

    async fn resolve(
        &self,
        session: &Session,
        target: SendTarget,
    ) -> Result<(ConversationId, Option<UserId>), Refusal> {
        match target {
            SendTarget::Conversation(conversation) => Ok((conversation, None)),
            SendTarget::Recipient(peer) => {
                self.check_users(session, &[peer]).await?;
                Ok((direct_id(session.space, session.user, peer), Some(peer)))
            }
        }
    }

    /// Every user named must have an account in the caller's space.
    pub(crate) async fn check_users(&self, session: &Session, users: &[UserId]) -> Result<(), Refusal> {
        let mut asked = users.to_vec();
        asked.sort_unstable();
        asked.dedup();
        if asked.len() > self.config.limits.members_per_call_max {
            let text = format!("at most {} users per call", self.config.limits.members_per_call_max);
            return Err(Refusal::new(Code::TooLarge, text));
        }
        let found = self.ports.directory.accounts(session.space, &asked).await;
        let found = found.map_err(|error| from_directory(&error))?;
        if found.len() == asked.len() {
            return Ok(());
        }
        let missing = asked.iter().find(|user| found.iter().all(|account| account.user != **user));
        let missing = missing.expect("fewer accounts than users leaves one without");
        Err(Refusal::new(Code::NotFound, format!("there is no user {missing}")))
    }
}

/// A send of a link, without its target.
#[derive(Clone, Debug)]
pub struct LinkSend {
    pub ref_: u32,
    pub message_id: MessageId,
    pub content: Content,
    pub reply_to: Option<MessageId>,
}

fn key(session: &Session, conversation: ConversationId) -> ConversationKey {
    ConversationKey { space: session.space, conversation }
}

pub(crate) fn command(session: &Session, conversation: ConversationId, kind: CommandKind) -> Command {
    Command { key: key(session, conversation), actor: session.user, kind }
}

/// The user's personal log.
#[must_use]
pub fn personal_log(session: &Session) -> ConversationId {
    personal_id(session.space, session.user)
}
