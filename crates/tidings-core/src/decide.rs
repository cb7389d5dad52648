//! What a command means for one conversation: the rules, and nothing else. Reads facts, changes nothing.

use std::sync::Arc;

use tidings_types::{
    Body, Code, CommandHash, Content, ConversationKind, Entry, Epoch, Head, Limits, Member, MessageId,
    PersonalFact, PersonalState, PersonalSubject, Refusal, Role, Seq, Timestamp, UserId,
};
use xxhash_rust::xxh3::Xxh3;

use crate::{Answer, Command, CommandKind, Facts, advance, direct_id, personal_id};

/// The entries that come of a command, in order, and its answer. No entries: nothing changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub entries: Vec<(Entry, Arc<Head>)>,
    pub answer: Answer,
}

/// Decides one command on `facts`. `now` never runs back between calls; `incarnation` is that of the deployment's log.
pub fn decide(
    facts: &impl Facts,
    now: Timestamp,
    incarnation: Epoch,
    limits: &Limits,
    command: &Command,
) -> Decision {
    let head = facts.head(command.key).map(|head| of_incarnation(head, incarnation));
    let mut rules = Rules { facts, now, incarnation, limits, command, head, entries: Vec::new() };
    let answer = rules.answer().unwrap_or_else(Answer::Refused);
    debug_assert!(
        !matches!(answer, Answer::Refused(_)) || rules.entries.is_empty(),
        "a refusal changes nothing"
    );
    Decision { entries: rules.entries, answer }
}

struct Rules<'a, F> {
    facts: &'a F,
    now: Timestamp,
    incarnation: Epoch,
    limits: &'a Limits,
    command: &'a Command,
    /// The head after the entries so far.
    head: Option<Arc<Head>>,
    entries: Vec<(Entry, Arc<Head>)>,
}

impl<F: Facts> Rules<'_, F> {
    fn answer(&mut self) -> Result<Answer, Refusal> {
        match &self.command.kind {
            CommandKind::CreateGroup { title, members } => self.create_group(title.as_ref(), members),
            CommandKind::CreateDirect { peer } => self.create_direct(*peer),
            CommandKind::Send { message_id, content, reply_to, peer } => {
                self.send(*message_id, content, *reply_to, *peer)
            }
            CommandKind::AddMembers { users } => self.add_members(users),
            CommandKind::RemoveMember { user } if *user == self.command.actor => self.leave(),
            CommandKind::RemoveMember { user } => self.remove_member(*user),
            CommandKind::Leave => self.leave(),
            CommandKind::Note { subject, state, cause } => self.note(*subject, *state, *cause),
            CommandKind::Open => self.open(),
        }
    }

    fn create_group(&mut self, title: Option<&Arc<str>>, members: &[UserId]) -> Result<Answer, Refusal> {
        // Before anything is looked up: whether two others have a direct conversation is nobody's business.
        self.check_new_id(self.command.key.conversation.made_at(), "conversation_id")?;
        let hash = hash_of_create(title, members);
        if let Some(head) = self.head.clone() {
            return self.created_before(&head, hash);
        }
        if title.is_some_and(|title| title.chars().count() > self.limits.title_chars_max) {
            return Err(too_large(format!("a title has at most {} characters", self.limits.title_chars_max)));
        }
        self.check_member_count(members.len())?;
        let mut everybody = vec![(self.command.actor, Role::Owner)];
        for user in members {
            if everybody.iter().all(|(present, _)| present != user) {
                everybody.push((*user, Role::Member));
            }
        }
        self.push(Body::Created {
            kind: ConversationKind::Group,
            title: title.cloned(),
            members: everybody,
            hash,
        });
        Ok(self.created(Role::Owner))
    }

    fn create_direct(&mut self, peer: UserId) -> Result<Answer, Refusal> {
        self.check_direct(peer)?;
        if let Some(head) = self.head.clone() {
            let member = self.present_member()?;
            return Ok(Answer::Created { head, member });
        }
        self.push_created_direct(peer);
        Ok(self.created(Role::Member))
    }

    /// The same create again is answered as the first time; anything else under this id is a clash.
    fn created_before(&self, head: &Arc<Head>, hash: CommandHash) -> Result<Answer, Refusal> {
        match self.facts.member(self.command.key, self.command.actor) {
            Some(member) if head.creator == self.command.actor && head.created_hash == hash => {
                Ok(Answer::Created { head: head.clone(), member })
            }
            _ => Err(Refusal::new(Code::IdConflict, "this conversation_id is taken: make a new one")),
        }
    }

    fn send(
        &mut self,
        message_id: MessageId,
        content: &Content,
        reply_to: Option<MessageId>,
        peer: Option<UserId>,
    ) -> Result<Answer, Refusal> {
        let hash = hash_of_send(content, reply_to);
        // Before any permission: a retry must get its first answer even if the sender was removed meanwhile.
        if let Some(first) = self.facts.id_record(self.command.key, message_id) {
            return first_answer(&first, self.command.actor, hash);
        }
        if let Some(peer) = peer {
            self.check_direct(peer)?;
        }
        if !(peer.is_some() && self.head.is_none()) {
            self.present_member()?;
        }
        if self.head.as_ref().is_some_and(|head| head.kind == ConversationKind::Personal) {
            return Err(Refusal::new(Code::Forbidden, "nobody writes messages into a personal log"));
        }
        self.check_content(content)?;
        self.check_new_id(message_id.made_at(), "message_id")?;
        self.check_id_age(message_id)?;
        if let (Some(peer), None) = (peer, &self.head) {
            self.push_created_direct(peer);
        }
        let (seq, created_at) =
            self.push(Body::Message { message_id, content: content.clone(), reply_to, hash });
        Ok(Answer::Accepted { seq, created_at })
    }

    fn add_members(&mut self, users: &[UserId]) -> Result<Answer, Refusal> {
        self.present_member()?;
        self.check_group("members of a direct conversation do not change")?;
        let mut asked: Vec<UserId> = Vec::with_capacity(users.len());
        users.iter().for_each(|user| {
            if !asked.contains(user) {
                asked.push(*user);
            }
        });
        let new: Vec<UserId> = asked.iter().copied().filter(|user| self.present(*user).is_none()).collect();
        self.check_member_count(new.len())?;
        let mut members: Vec<(UserId, Member)> =
            asked.iter().filter_map(|user| self.present(*user).map(|member| (*user, member))).collect();
        if !new.is_empty() {
            let (visible_from, joined_at) = self.push(Body::MembersAdded { users: new.clone() });
            let member = Member { role: Role::Member, joined_at, visible_from, left: None };
            members.extend(new.into_iter().map(|user| (user, member)));
        }
        Ok(Answer::Members(members))
    }

    fn remove_member(&mut self, user: UserId) -> Result<Answer, Refusal> {
        let actor = self.present_member()?;
        self.check_group("nobody is removed from a direct conversation")?;
        if actor.role == Role::Member {
            return Err(Refusal::new(Code::Forbidden, "only the owner and admins remove members"));
        }
        let Some(target) = self.present(user) else { return Ok(Answer::Done) };
        if target.role == Role::Owner {
            return Err(Refusal::new(Code::Forbidden, "the owner cannot be removed"));
        }
        self.push(Body::MemberRemoved { user });
        Ok(Answer::Done)
    }

    fn leave(&mut self) -> Result<Answer, Refusal> {
        let Some(member) = self.facts.member(self.command.key, self.command.actor) else {
            return Err(not_found());
        };
        self.check_group("nobody leaves a direct conversation")?;
        if member.is_present() {
            self.push(Body::MemberLeft);
        }
        Ok(Answer::Done)
    }

    /// Idempotent by (subject, cause): a follower may tell the same thing twice and in bursts after a crash.
    fn note(
        &mut self,
        subject: PersonalSubject,
        state: PersonalState,
        cause: Seq,
    ) -> Result<Answer, Refusal> {
        let actor = self.command.actor;
        if self.command.key.conversation != personal_id(self.command.key.space, actor) {
            return Err(not_found());
        }
        if let Some(PersonalFact { cause: known, .. }) = self.facts.personal(self.command.key, subject)
            && cause <= known
        {
            return Ok(Answer::Done);
        }
        let body = match (subject, state) {
            (PersonalSubject::Conversation(conversation), PersonalState::Joined) => {
                Body::Joined { conversation, seq: cause }
            }
            (PersonalSubject::Conversation(conversation), _) => Body::Left { conversation, seq: cause },
            (PersonalSubject::Device(device), _) => Body::DeviceRemoved { device },
        };
        if self.head.is_none() {
            let members = vec![(actor, Role::Owner)];
            let hash = hash_of_create(None, &[actor]);
            self.push(Body::Created { kind: ConversationKind::Personal, title: None, members, hash });
        }
        self.push(body);
        Ok(Answer::Done)
    }

    fn open(&mut self) -> Result<Answer, Refusal> {
        if self.head.is_none()
            && self.command.key.conversation == personal_id(self.command.key.space, self.command.actor)
        {
            return Ok(self.open_unwritten_personal_log());
        }
        let member = self.present_member()?;
        let head = self.head.clone().expect("a conversation with a member has a head");
        Ok(Answer::Opened { head, member })
    }

    /// A personal log begins with its first entry; until then its user finds it empty.
    fn open_unwritten_personal_log(&self) -> Answer {
        let head = Head {
            space: self.command.key.space,
            kind: ConversationKind::Personal,
            title: None,
            creator: self.command.actor,
            created_hash: hash_of_create(None, &[self.command.actor]),
            created_at: self.now,
            seq: Seq::ZERO,
            version: 0,
            floor: Seq(1),
            epoch: self.incarnation,
            messages: 0,
            last_message: Seq::ZERO,
            last_at: self.now,
            member_count: 1,
        };
        let member = Member { role: Role::Owner, joined_at: self.now, visible_from: Seq(1), left: None };
        Answer::Opened { head: Arc::new(head), member }
    }

    /// Appends an entry to the decision and answers its seq and time.
    fn push(&mut self, body: Body) -> (Seq, Timestamp) {
        let head = self.head.as_deref();
        let seq = head.map_or(Seq::ZERO, |head| head.seq).next();
        // Every 50th entry of a conversation reuses the seq before it: `verify` must call that doubled.
        let seq = if tidings_types::planted("seq_reused") && seq.0.is_multiple_of(50) {
            seq.previous()
        } else {
            seq
        };
        let entry = Entry {
            space: self.command.key.space,
            conversation: self.command.key.conversation,
            seq,
            version: head.map_or(0, |head| head.version) + 1,
            sender: self.command.actor,
            // Never runs back within a conversation, whatever the clock does.
            created_at: head.map_or(self.now, |head| head.last_at.max(self.now)),
            messages: head.map_or(0, |head| head.messages) + u64::from(body.is_message()),
            body,
        };
        let at = entry.created_at;
        let head = Arc::new(advance(head, &entry, self.incarnation));
        self.head = Some(head.clone());
        self.entries.push((entry, head));
        (seq, at)
    }

    fn push_created_direct(&mut self, peer: UserId) {
        let members = vec![(self.command.actor, Role::Member), (peer, Role::Member)];
        let hash = hash_of_create(None, &[]);
        self.push(Body::Created { kind: ConversationKind::Direct, title: None, members, hash });
    }

    fn created(&self, role: Role) -> Answer {
        let head = self.head.clone().expect("the entry just pushed made a head");
        let member = Member { role, joined_at: head.created_at, visible_from: Seq(1), left: None };
        Answer::Created { head, member }
    }

    fn present(&self, user: UserId) -> Option<Member> {
        self.facts.member(self.command.key, user).filter(Member::is_present)
    }

    /// Foreign, unknown and left conversations are not told apart.
    fn present_member(&self) -> Result<Member, Refusal> {
        if self.head.is_none() {
            return Err(not_found());
        }
        self.present(self.command.actor).ok_or_else(not_found)
    }

    fn check_group(&self, text: &str) -> Result<(), Refusal> {
        match self.head.as_ref().map(|head| head.kind) {
            Some(ConversationKind::Group) => Ok(()),
            _ => Err(Refusal::new(Code::Forbidden, text)),
        }
    }

    fn check_direct(&self, peer: UserId) -> Result<(), Refusal> {
        if peer == self.command.actor {
            return Err(Refusal::new(Code::Invalid, "a direct conversation needs another person"));
        }
        if self.command.key.conversation != direct_id(self.command.key.space, self.command.actor, peer) {
            return Err(Refusal::new(Code::Invalid, "this is not the conversation of these two users"));
        }
        Ok(())
    }

    fn check_member_count(&self, new: usize) -> Result<(), Refusal> {
        if new > self.limits.members_per_call_max {
            return Err(too_large(format!("at most {} members per call", self.limits.members_per_call_max)));
        }
        let present = self.head.as_ref().map_or(1, |head| head.member_count);
        if u64::from(present) + new as u64 > u64::from(self.limits.group_members_max) {
            return Err(too_large(format!("a group has at most {} members", self.limits.group_members_max)));
        }
        Ok(())
    }

    fn check_content(&self, content: &Content) -> Result<(), Refusal> {
        match content.len_bytes() {
            0 => Err(Refusal::new(Code::Invalid, "the text is empty")),
            len if len > self.limits.content_bytes_max => {
                Err(too_large(format!("a message has at most {} bytes", self.limits.content_bytes_max)))
            }
            _ => Ok(()),
        }
    }

    /// `made_at` is the moment inside a client-made id, `None` if the id is not a UUIDv7.
    fn check_new_id(&self, made_at: Option<Timestamp>, field: &str) -> Result<(), Refusal> {
        let Some(made_at) = made_at else {
            return Err(Refusal::new(Code::Invalid, format!("{field} is not a UUIDv7")));
        };
        if made_at > self.now.plus_ms(self.limits.id_ahead_ms_max) {
            let text = format!("{field} is ahead of the server's clock, which says {} ms", self.now.as_ms());
            return Err(Refusal::new(Code::Invalid, text));
        }
        Ok(())
    }

    fn check_id_age(&self, message_id: MessageId) -> Result<(), Refusal> {
        let oldest = self.now.minus_ms(self.limits.id_age_ms_max);
        if message_id.made_at().is_some_and(|made_at| made_at < oldest) {
            let text = "this message waited too long to be sent safely: send it again under a new id";
            return Err(Refusal::new(Code::IdExpired, text));
        }
        Ok(())
    }
}

/// After a restore every conversation is of the new incarnation, whatever its stored head says.
fn of_incarnation(head: &Arc<Head>, incarnation: Epoch) -> Arc<Head> {
    if head.epoch >= incarnation {
        return head.clone();
    }
    Arc::new(Head { epoch: incarnation, ..Head::clone(head) })
}

fn first_answer(
    first: &tidings_types::IdRecord,
    sender: UserId,
    hash: CommandHash,
) -> Result<Answer, Refusal> {
    if first.sender == sender && first.hash == hash {
        return Ok(Answer::Accepted { seq: first.seq, created_at: first.created_at });
    }
    Err(Refusal::new(Code::IdConflict, "this message_id is taken by another message: make a new one"))
}

fn not_found() -> Refusal {
    Refusal::new(Code::NotFound, "there is no such conversation")
}

fn too_large(text: String) -> Refusal {
    Refusal::new(Code::TooLarge, text)
}

fn hash_of_send(content: &Content, reply_to: Option<MessageId>) -> CommandHash {
    let mut hasher = Xxh3::new();
    match content {
        Content::Text(text) => {
            hasher.update(b"text");
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    }
    if let Some(id) = reply_to {
        hasher.update(id.as_bytes());
    }
    CommandHash(hasher.digest128().to_le_bytes())
}

fn hash_of_create(title: Option<&Arc<str>>, members: &[UserId]) -> CommandHash {
    let mut hasher = Xxh3::new();
    hasher.update(&[u8::from(title.is_some())]);
    if let Some(title) = title {
        hasher.update(&(title.len() as u64).to_le_bytes());
        hasher.update(title.as_bytes());
    }
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    sorted.iter().for_each(|user| hasher.update(user.as_bytes()));
    CommandHash(hasher.digest128().to_le_bytes())
}
