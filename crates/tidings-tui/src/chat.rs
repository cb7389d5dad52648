//! What happens: events of the link and lines of input, one after the other.

mod doing;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tidings_client::{ClientError, Cursors, Event, Events, Link, Rest, Store};
use tidings_types::{Code, ConversationId, ConversationKind, Seq};
use tidings_wire::rest::User;
use tidings_wire::{Entry, EntryBody, MessageAccepted, Snapshot};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::ChatError;
use crate::book::Book;
use crate::editor::Typed;
use crate::told::{Shown, Told};
use crate::ui::{Input, Ui};

pub(crate) struct Chat {
    rest: Rest,
    store: Arc<dyn Store>,
    link: Link,
    ui: Ui,
    book: Book,
    open: Option<ConversationId>,
    progress: Progress,
    /// Conversations whose line a script has seen.
    told: HashSet<ConversationId>,
    /// Conversations whose members were asked for because of an unknown name.
    asked: HashSet<ConversationId>,
    /// Accepted messages whose entries have not come by yet, the highest per conversation.
    awaited: HashMap<ConversationId, Seq>,
}

#[derive(Default)]
struct Progress {
    /// The person knows that the server is away.
    offline: bool,
    /// Everything missed has been told since the last connect.
    caught_up: bool,
    /// Everything missed has been told once.
    ready: bool,
    /// The list was shown.
    listed: bool,
    /// No more lines: end when nothing is open.
    ending: bool,
    /// End now.
    quit: bool,
}

/// A script is read no further while this many of its messages wait.
const OUTBOX_ENOUGH: usize = 1_000;
/// Pause before a script's command is tried again.
const COMMAND_RETRY: Duration = Duration::from_secs(1);

impl Chat {
    pub(crate) fn new(rest: Rest, link: Link, ui: Ui, me: &User) -> Self {
        let store = Arc::clone(rest.store());
        let mut book = Book::new(me);
        for (id, known) in store.saved().conversations {
            book.follow(id, known.kind, known.title.as_deref());
        }
        Self {
            rest,
            store,
            link,
            ui,
            book,
            open: None,
            progress: Progress::default(),
            told: HashSet::new(),
            asked: HashSet::new(),
            awaited: HashMap::new(),
        }
    }

    pub(crate) async fn run(
        mut self,
        mut events: Events,
        mut inputs: mpsc::Receiver<Input>,
    ) -> Result<(), ChatError> {
        let mut terminated = std::pin::pin!(terminated());
        self.tell_waiting()?;
        while !self.progress.quit && !self.is_done() {
            tokio::select! {
                event = events.next() => match event? {
                    Some(event) => {
                        self.on_event(event).await?;
                        events.handled()?;
                    }
                    None => break,
                },
                input = inputs.recv(), if self.takes_input() => self.on_input(input).await?,
                () = &mut terminated => break,
            }
        }
        self.link.close().await;
        self.say_goodbye()
    }

    /// A script's lines wait until it can know what it talks about; a person need not wait.
    fn takes_input(&self) -> bool {
        !self.progress.ending
            && (!self.ui.is_plain() || (self.progress.ready && self.store.outbox_len() < OUTBOX_ENOUGH))
    }

    fn is_done(&self) -> bool {
        self.progress.ending && self.progress.ready && self.store.outbox_len() == 0 && self.awaited.is_empty()
    }

    /// What an earlier run left in the outbox is on its way again.
    fn tell_waiting(&mut self) -> Result<(), ChatError> {
        for message in self.store.saved().outbox {
            let text = doing::text_of(&message.content);
            self.ui.tell(&Told::Queued { message: message.message_id, text })?;
        }
        Ok(())
    }

    fn say_goodbye(&mut self) -> Result<(), ChatError> {
        let waiting = self.store.outbox_len();
        if waiting > 0 && !self.ui.is_plain() {
            self.note(format!("-- {waiting} messages are kept and will be sent next time --"))?;
        }
        Ok(())
    }

    async fn on_input(&mut self, input: Option<Input>) -> Result<(), ChatError> {
        let Some(input) = input else {
            self.progress.ending = true;
            return Ok(());
        };
        match self.ui.on_input(input)? {
            Typed::Line(line) => self.on_line(&line).await,
            Typed::Quit => {
                self.progress.quit = true;
                Ok(())
            }
            Typed::More => Ok(()),
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<(), ChatError> {
        match event {
            Event::Online(_) => self.on_online().await,
            Event::Offline { reason, retry_in: _ } => self.on_offline(reason),
            Event::Snapshot(snapshot) => self.on_snapshot(&snapshot).await,
            Event::Entry(entry) => self.on_entry(&entry).await,
            Event::Skipped { conversation, from, to } => {
                let name = self.book.name(conversation);
                self.tell_if_open(conversation, &Told::Skipped { conversation, name, from, to })
            }
            Event::Forgotten(conversation) => self.on_forgotten(conversation),
            Event::CaughtUp => self.on_caught_up(),
            Event::Accepted(accepted) => self.on_accepted(accepted),
            Event::Refused { message, refusal } => self.tell(&Told::Refused {
                message: message.message_id,
                code: refusal.code.name(),
                reason: refusal.message,
                text: doing::text_of(&message.content),
            }),
            Event::SignedOut => Err(ChatError::SignedOut),
            Event::Stopped { code, reason } => Err(ChatError::Stopped { code, reason }),
        }
    }

    async fn on_online(&mut self) -> Result<(), ChatError> {
        let again = std::mem::take(&mut self.progress.offline);
        self.tell(&Told::Online { again })?;
        if let Err(error) = self.load_list().await {
            return self.fail(&error);
        }
        if !self.progress.listed {
            self.progress.listed = true;
            self.tell_list()?;
        }
        Ok(())
    }

    fn on_offline(&mut self, reason: String) -> Result<(), ChatError> {
        self.progress.caught_up = false;
        if std::mem::replace(&mut self.progress.offline, true) {
            return Ok(());
        }
        self.tell(&Told::Offline { reason })
    }

    async fn on_snapshot(&mut self, snapshot: &Snapshot) -> Result<(), ChatError> {
        let id = snapshot.conversation_id;
        let is_new = !self.book.has(id);
        self.book.follow_snapshot(snapshot);
        if is_new && snapshot.kind == ConversationKind::Direct {
            self.learn_conversation(id).await;
        }
        self.tell_conversation(id)
    }

    async fn on_entry(&mut self, entry: &Entry) -> Result<(), ChatError> {
        let id = entry.conversation_id;
        self.learn_names(entry).await;
        self.book.active(id, entry.created_at_ms);
        if self.awaited.get(&id).is_some_and(|seq| entry.seq >= *seq) {
            self.awaited.remove(&id);
        }
        let shown = self.shown(entry);
        let counts = matches!(entry.body, EntryBody::Message(_)) && !shown.is_own && !shown.is_open;
        if counts {
            self.book.count_unread(id);
        }
        // What happened elsewhere while a person was away is summed up when all of it is here.
        let is_summed_up = !self.ui.is_plain() && !shown.is_open && !self.progress.caught_up;
        if is_summed_up { Ok(()) } else { self.tell(&Told::Entry(shown)) }
    }

    fn on_accepted(&mut self, accepted: MessageAccepted) -> Result<(), ChatError> {
        let MessageAccepted { message_id, conversation_id, seq, .. } = accepted;
        let has = self.store.cursor(conversation_id).map_or(Seq::ZERO, |cursor| cursor.seq);
        if seq > has {
            self.awaited.insert(conversation_id, seq);
        }
        self.tell(&Told::Accepted { message: message_id, conversation: conversation_id, seq })
    }

    fn on_forgotten(&mut self, conversation: ConversationId) -> Result<(), ChatError> {
        let name = self.book.name(conversation);
        self.book.forget(conversation);
        self.told.remove(&conversation);
        self.awaited.remove(&conversation);
        if self.open == Some(conversation) {
            self.open = None;
            self.ui.set_prompt("")?;
        }
        self.tell(&Told::Forgotten { conversation, name })
    }

    fn on_caught_up(&mut self) -> Result<(), ChatError> {
        self.progress.caught_up = true;
        self.progress.ready = true;
        let unread = self.book.unread();
        self.tell(&Told::CaughtUp { unread })
    }

    /// Names in an entry that were never heard of: asked for once per conversation, then again when somebody was added.
    async fn learn_names(&mut self, entry: &Entry) {
        let id = entry.conversation_id;
        self.book.learn_other(id, entry.sender_id);
        let mentioned: Vec<_> = match &entry.body {
            EntryBody::MembersAdded(added) => added.user_ids.clone(),
            EntryBody::MemberRemoved(removed) => vec![removed.user_id],
            EntryBody::Joined(joined) if !self.book.has(joined.joined_conversation_id) => {
                return self.learn_conversation(joined.joined_conversation_id).await;
            }
            _ => Vec::new(),
        };
        let adds = matches!(entry.body, EntryBody::MembersAdded(_));
        let is_unknown = !mentioned.iter().chain([&entry.sender_id]).all(|user| self.book.knows(*user));
        if is_unknown && (adds || self.asked.insert(id)) {
            // Without an answer, ids are shown.
            let _ = self.load_members(id).await;
        }
    }

    async fn learn_conversation(&mut self, id: ConversationId) {
        // Without an answer, its id is shown.
        if let Ok(conversation) = self.rest.conversation(id).await {
            self.book.learn(&conversation);
        }
    }

    async fn load_list(&mut self) -> Result<(), ClientError> {
        let mut page = Cursors { cursor: None, limit: Some(doing::PAGE_ITEMS) };
        loop {
            let answer = self.rest.conversations(&page).await?;
            answer.items.iter().for_each(|conversation| self.book.learn(conversation));
            page.cursor = answer.next_cursor;
            if page.cursor.is_none() {
                return Ok(());
            }
        }
    }

    fn tell_list(&mut self) -> Result<(), ChatError> {
        let list = self.book.list();
        if list.is_empty() && !self.ui.is_plain() {
            self.note("No conversations yet: /new NAME begins one.".into())?;
        }
        for listed in list {
            self.told.insert(listed.id);
            self.tell(&Told::Conversation(listed))?;
        }
        Ok(())
    }

    /// A script hears of each conversation once.
    fn tell_conversation(&mut self, id: ConversationId) -> Result<(), ChatError> {
        match self.book.listed(id) {
            Some(listed) if self.ui.is_plain() && self.told.insert(id) => {
                self.tell(&Told::Conversation(listed))
            }
            _ => Ok(()),
        }
    }

    fn tell(&mut self, told: &Told) -> Result<(), ChatError> {
        Ok(self.ui.tell(told)?)
    }

    fn tell_if_open(&mut self, conversation: ConversationId, told: &Told) -> Result<(), ChatError> {
        if self.ui.is_plain() || self.open == Some(conversation) { self.tell(told) } else { Ok(()) }
    }

    fn note(&mut self, text: String) -> Result<(), ChatError> {
        self.tell(&Told::Note(text))
    }

    /// Tells that something did not work; only what is wrong on this side ends the program.
    fn fail(&mut self, error: &ClientError) -> Result<(), ChatError> {
        let (code, text) = match error {
            ClientError::Refused(refusal) => (refusal.code.name(), refusal.message.clone()),
            ClientError::SignedOut => return Err(ChatError::SignedOut),
            error => ("client", error.to_string()),
        };
        self.tell(&Told::Error { code, text })
    }

    fn complain(&mut self, text: impl Into<String>) -> Result<(), ChatError> {
        self.tell(&Told::Error { code: "client", text: text.into() })
    }

    fn shown(&self, entry: &Entry) -> Shown {
        let id = entry.conversation_id;
        let (kind, text) = doing::kind_and_text(&entry.body, &self.book);
        let message = match &entry.body {
            EntryBody::Message(message) => Some(message.message_id),
            _ => None,
        };
        Shown {
            conversation: id,
            conversation_name: self.book.name(id),
            is_open: self.open == Some(id),
            seq: entry.seq,
            message,
            kind,
            sender: self.book.user_name(entry.sender_id),
            is_own: entry.sender_id == self.book.me(),
            at_ms: entry.created_at_ms,
            text,
        }
    }

    /// A script's command waits for a server that is away; a person is told at once.
    async fn call<T>(
        &mut self,
        work: impl AsyncFn(&Rest) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        loop {
            match work(&self.rest).await {
                Err(error) if self.ui.is_plain() && is_worth_waiting(&error) => sleep(COMMAND_RETRY).await,
                answer => return answer,
            }
        }
    }
}

/// A bug of the server may last; everything else that is temporary passes.
fn is_worth_waiting(error: &ClientError) -> bool {
    error.is_temporary() && error.code() != Some(Code::Internal)
}

/// Resolves when the system asks this program to end.
async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut signal) = signal(SignalKind::terminate()) {
            signal.recv().await;
            return;
        }
    }
    std::future::pending::<()>().await;
}
