//! The commands.

use tidings_client::{ClientError, Cursors, Range};
use tidings_types::{ConversationId, Seq, UserId};
use tidings_wire::rest::{CreateConversation, Message, User};
use tidings_wire::{Content, EntryBody, Target};

use super::Chat;
use crate::ChatError;
use crate::book::Book;
use crate::command::{Command, HELP, parse};
use crate::told::{Shown, Told};

pub(super) const PAGE_ITEMS: u32 = 100;
/// Members whose names are fetched; others show as ids.
const MEMBERS_MAX: usize = 1_000;
/// Shown when a person opens a conversation.
const HISTORY_AT_OPEN: u32 = 10;

impl Chat {
    pub(super) async fn on_line(&mut self, line: &str) -> Result<(), ChatError> {
        let command = match parse(line) {
            Ok(command) => command,
            Err(sentence) => return self.complain(sentence),
        };
        match command {
            Command::Nothing => Ok(()),
            Command::Say(text) => self.say(text).await,
            Command::Open(wanted) => match self.book.find(&wanted) {
                Ok(id) => self.open(id).await,
                Err(sentence) => self.complain(sentence),
            },
            Command::New(name) => self.new_direct(&name).await,
            Command::Group { title, names } => self.new_group(title, names).await,
            Command::Add(names) => self.add(names).await,
            Command::Remove(name) => self.remove(&name).await,
            Command::Leave => self.leave().await,
            Command::Members => self.members().await,
            Command::History(count) => self.history(count).await,
            Command::List => self.list().await,
            Command::Help => self.note(HELP.into()),
            Command::Quit => {
                // A script's messages are sent before it ends; a person's are kept.
                let is_script = self.ui.is_plain();
                self.progress.ending |= is_script;
                self.progress.quit |= !is_script;
                Ok(())
            }
        }
    }

    async fn say(&mut self, text: String) -> Result<(), ChatError> {
        let Some(open) = self.open_conversation()? else { return Ok(()) };
        match self.link.send(Target::Conversation(open), Content::text(text.as_str()), None).await {
            Ok(message) => self.tell(&Told::Queued { message, text }),
            Err(ClientError::OutboxFull) => {
                self.complain("too much is waiting to be sent; this was not taken")
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn open(&mut self, id: ConversationId) -> Result<(), ChatError> {
        self.open = Some(id);
        self.book.read(id);
        let name = self.book.name(id);
        self.ui.set_prompt(&name)?;
        self.tell(&Told::Opened { conversation: id, name })?;
        if self.ui.is_plain() { Ok(()) } else { self.history(HISTORY_AT_OPEN).await }
    }

    async fn new_direct(&mut self, name: &str) -> Result<(), ChatError> {
        let Some(users) = self.users(&[name.to_owned()]).await? else { return Ok(()) };
        let body = CreateConversation::Direct { user_id: users[0] };
        self.create(body).await
    }

    async fn new_group(&mut self, title: String, names: Vec<String>) -> Result<(), ChatError> {
        let Some(member_ids) = self.users(&names).await? else { return Ok(()) };
        // Made once: a repetition is the same group.
        let conversation_id = self.rest.clock().conversation_id();
        let body = CreateConversation::Group { conversation_id, title: Some(title.into()), member_ids };
        self.create(body).await
    }

    async fn create(&mut self, body: CreateConversation) -> Result<(), ChatError> {
        match self.call(async |rest| rest.create_conversation(&body).await).await {
            Ok(conversation) => {
                self.book.learn(&conversation);
                self.tell_conversation(conversation.conversation_id)?;
                self.open(conversation.conversation_id).await
            }
            Err(error) => self.fail(&error),
        }
    }

    async fn add(&mut self, names: Vec<String>) -> Result<(), ChatError> {
        let Some(group) = self.open_group()? else { return Ok(()) };
        let Some(users) = self.users(&names).await? else { return Ok(()) };
        self.change(async |rest| rest.add_members(group, users.clone()).await).await
    }

    async fn remove(&mut self, name: &str) -> Result<(), ChatError> {
        let Some(group) = self.open_group()? else { return Ok(()) };
        let Some(users) = self.users(&[name.to_owned()]).await? else { return Ok(()) };
        self.change(async |rest| rest.remove_member(group, users[0]).await).await
    }

    async fn leave(&mut self) -> Result<(), ChatError> {
        let Some(group) = self.open_group()? else { return Ok(()) };
        let me = self.book.me();
        self.change(async |rest| rest.remove_member(group, me).await).await
    }

    /// The entry that comes through the link is the answer a person sees.
    async fn change(
        &mut self,
        work: impl AsyncFn(&tidings_client::Rest) -> Result<(), ClientError>,
    ) -> Result<(), ChatError> {
        match self.call(work).await {
            Ok(()) => Ok(()),
            Err(error) => self.fail(&error),
        }
    }

    async fn members(&mut self) -> Result<(), ChatError> {
        let Some(open) = self.open_conversation()? else { return Ok(()) };
        match self.load_members(open).await {
            Ok(members) => {
                for member in members {
                    self.tell(&member)?;
                }
                Ok(())
            }
            Err(error) => self.fail(&error),
        }
    }

    async fn list(&mut self) -> Result<(), ChatError> {
        if let Err(error) = self.load_list().await {
            self.fail(&error)?;
        }
        self.tell_list()
    }

    /// The last `count` messages, older pages first.
    async fn history(&mut self, count: u32) -> Result<(), ChatError> {
        let Some(open) = self.open_conversation()? else { return Ok(()) };
        let mut messages = Vec::new();
        let mut before = Seq::MAX;
        while messages.len() < count as usize {
            let missing = count - u32::try_from(messages.len()).unwrap_or(count);
            let range = Range { after: None, before: Some(before), limit: Some(missing.min(PAGE_ITEMS)) };
            let page = match self.call(async |rest| rest.messages(open, range).await).await {
                Ok(page) => page.items,
                Err(error) => return self.fail(&error),
            };
            let Some(first) = page.first() else { break };
            before = first.seq;
            messages.splice(0..0, page);
        }
        for message in messages {
            let shown = self.shown_message(&message);
            self.tell(&Told::History(shown))?;
        }
        Ok(())
    }

    fn shown_message(&self, message: &Message) -> Shown {
        Shown {
            conversation: message.conversation_id,
            conversation_name: self.book.name(message.conversation_id),
            is_open: self.open == Some(message.conversation_id),
            seq: message.seq,
            message: Some(message.message_id),
            kind: "message",
            sender: self.book.user_name(message.sender_id),
            is_own: message.sender_id == self.book.me(),
            at_ms: message.created_at_ms,
            text: text_of(&message.content),
        }
    }

    /// The users of these names; `None` if somebody is unknown and the person was told so.
    async fn users(&mut self, names: &[String]) -> Result<Option<Vec<UserId>>, ChatError> {
        let mut users = Vec::new();
        for name in names {
            let found: Result<Option<User>, _> = self.call(async |rest| rest.user_by_name(name).await).await;
            match found {
                Ok(Some(user)) => {
                    self.book.learn_user(&user);
                    users.push(user.user_id);
                }
                Ok(None) => {
                    self.complain(format!("there is nobody called {name}"))?;
                    return Ok(None);
                }
                Err(error) => {
                    self.fail(&error)?;
                    return Ok(None);
                }
            }
        }
        Ok(Some(users))
    }

    /// Learns the members' names; the first thousand.
    pub(super) async fn load_members(&mut self, id: ConversationId) -> Result<Vec<Told>, ClientError> {
        let mut members = Vec::new();
        let mut page = Cursors { cursor: None, limit: Some(PAGE_ITEMS) };
        loop {
            let answer = self.rest.members(id, &page).await?;
            for member in answer.items {
                self.book.learn_member(&member);
                members.push(Told::Member {
                    user: member.user_id,
                    name: self.book.user_name(member.user_id),
                    display_name: member.display_name.unwrap_or_default(),
                    role: member.role,
                });
            }
            page.cursor = answer.next_cursor;
            if page.cursor.is_none() || members.len() >= MEMBERS_MAX {
                return Ok(members);
            }
        }
    }

    fn open_conversation(&mut self) -> Result<Option<ConversationId>, ChatError> {
        if self.open.is_none() {
            self.complain("open a conversation first: /list shows them, /open N opens one")?;
        }
        Ok(self.open)
    }

    fn open_group(&mut self) -> Result<Option<ConversationId>, ChatError> {
        match self.open_conversation()? {
            Some(open) if !self.book.is_group(open) => {
                self.complain("this is a conversation of two; /group makes a group")?;
                Ok(None)
            }
            open => Ok(open),
        }
    }
}

/// The kind's name and its one interesting field.
pub(super) fn kind_and_text(body: &EntryBody, book: &Book) -> (&'static str, String) {
    match body {
        EntryBody::Created(created) => ("created", created.title.as_deref().unwrap_or_default().to_owned()),
        EntryBody::Message(message) => ("message", text_of(&message.content)),
        EntryBody::MembersAdded(added) => {
            let names: Vec<_> = added.user_ids.iter().map(|user| book.user_name(*user)).collect();
            ("members_added", names.join(", "))
        }
        EntryBody::MemberRemoved(removed) => ("member_removed", book.user_name(removed.user_id)),
        EntryBody::MemberLeft {} => ("member_left", String::new()),
        EntryBody::Joined(joined) => ("joined", book.name(joined.joined_conversation_id)),
        EntryBody::Left(left) => ("left", book.name(left.left_conversation_id)),
        EntryBody::DeviceRemoved(removed) => ("device_removed", removed.device_id.to_string()),
        EntryBody::Unsupported => ("unsupported", String::new()),
    }
}

pub(super) fn text_of(content: &Content) -> String {
    match content {
        Content::Text { text } => text.to_string(),
        Content::Unsupported => "(something this version cannot show)".into(),
    }
}
