//! The conversations and people this client has heard of: names for ids, numbers for the list, what is unread.

use std::collections::HashMap;

use tidings_types::{ConversationId, ConversationKind, UserId};
use tidings_wire::Snapshot;
use tidings_wire::rest::{Conversation, Member, User};

pub(crate) struct Book {
    me: UserId,
    users: HashMap<UserId, String>,
    conversations: HashMap<ConversationId, Page>,
    /// Position in the list is the number to open it by; it changes only when the list is shown again.
    numbers: Vec<ConversationId>,
}

struct Page {
    kind: ConversationKind,
    title: Option<String>,
    /// The other person of a direct conversation.
    other: Option<UserId>,
    last_at_ms: u64,
    unread: u64,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) number: usize,
    pub(crate) id: ConversationId,
    pub(crate) kind: ConversationKind,
    pub(crate) name: String,
    pub(crate) unread: u64,
}

impl Book {
    pub(crate) fn new(me: &User) -> Self {
        let users = HashMap::from([(me.user_id, me.username.clone())]);
        Self { me: me.user_id, users, conversations: HashMap::new(), numbers: Vec::new() }
    }

    pub(crate) fn me(&self) -> UserId {
        self.me
    }

    /// What the server's list says.
    pub(crate) fn learn(&mut self, conversation: &Conversation) {
        for member in conversation.members.iter().flatten() {
            self.learn_member(member);
        }
        let others = conversation.members.iter().flatten().map(|member| member.user_id);
        let other = others.into_iter().find(|id| *id != self.me);
        let page = self.page(conversation.conversation_id, conversation.kind);
        page.title.clone_from(&conversation.title);
        page.other = other.or(page.other);
        page.last_at_ms = page.last_at_ms.max(conversation.last_at_ms);
    }

    /// What a snapshot, or the store, says.
    pub(crate) fn follow(&mut self, id: ConversationId, kind: ConversationKind, title: Option<&str>) {
        let page = self.page(id, kind);
        if let Some(title) = title {
            page.title = Some(title.to_owned());
        }
    }

    pub(crate) fn follow_snapshot(&mut self, snapshot: &Snapshot) {
        self.follow(snapshot.conversation_id, snapshot.kind, snapshot.title.as_deref());
    }

    pub(crate) fn learn_member(&mut self, member: &Member) {
        if let Some(username) = &member.username {
            self.users.insert(member.user_id, username.clone());
        }
    }

    pub(crate) fn learn_user(&mut self, user: &User) {
        self.users.insert(user.user_id, user.username.clone());
    }

    /// The person's part in a direct conversation is known from whoever else is seen in it.
    pub(crate) fn learn_other(&mut self, id: ConversationId, user: UserId) {
        let me = self.me;
        if let Some(page) = self.conversations.get_mut(&id)
            && page.kind == ConversationKind::Direct
            && user != me
        {
            page.other = Some(user);
        }
    }

    pub(crate) fn knows(&self, user: UserId) -> bool {
        self.users.contains_key(&user)
    }

    pub(crate) fn has(&self, id: ConversationId) -> bool {
        self.conversations.contains_key(&id)
    }

    pub(crate) fn is_group(&self, id: ConversationId) -> bool {
        self.conversations.get(&id).is_some_and(|page| page.kind == ConversationKind::Group)
    }

    pub(crate) fn forget(&mut self, id: ConversationId) {
        self.conversations.remove(&id);
        // The others keep their numbers until the list is shown again.
    }

    pub(crate) fn active(&mut self, id: ConversationId, at_ms: u64) {
        if let Some(page) = self.conversations.get_mut(&id) {
            page.last_at_ms = page.last_at_ms.max(at_ms);
        }
    }

    pub(crate) fn count_unread(&mut self, id: ConversationId) {
        if let Some(page) = self.conversations.get_mut(&id) {
            page.unread += 1;
        }
    }

    pub(crate) fn read(&mut self, id: ConversationId) {
        if let Some(page) = self.conversations.get_mut(&id) {
            page.unread = 0;
        }
    }

    /// The username, or the id of somebody whose name is not known.
    pub(crate) fn user_name(&self, id: UserId) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    pub(crate) fn name(&self, id: ConversationId) -> String {
        let Some(page) = self.conversations.get(&id) else { return id.to_string() };
        match (page.kind, &page.title, page.other) {
            (ConversationKind::Personal, ..) => "you".into(),
            (_, Some(title), _) => title.clone(),
            (ConversationKind::Direct, None, Some(other)) => self.user_name(other),
            _ => id.to_string(),
        }
    }

    /// Numbers the conversations anew, the latest activity first.
    pub(crate) fn list(&mut self) -> Vec<Listed> {
        let shown = self.conversations.iter().filter(|(_, page)| page.kind != ConversationKind::Personal);
        let mut order: Vec<_> = shown.map(|(id, page)| (std::cmp::Reverse(page.last_at_ms), *id)).collect();
        order.sort_unstable();
        self.numbers = order.into_iter().map(|(_, id)| id).collect();
        self.numbers.iter().filter_map(|id| self.listed(*id)).collect()
    }

    /// Conversations with something unread.
    pub(crate) fn unread(&self) -> Vec<Listed> {
        let unread = self.numbers.iter().filter_map(|id| self.listed(*id));
        unread.filter(|listed| listed.unread > 0).collect()
    }

    pub(crate) fn listed(&self, id: ConversationId) -> Option<Listed> {
        let page = self.conversations.get(&id)?;
        let number = self.numbers.iter().position(|numbered| *numbered == id)? + 1;
        Some(Listed { number, id, kind: page.kind, name: self.name(id), unread: page.unread })
    }

    /// The conversation meant by a number of the list, an id, a name, or an unambiguous beginning of one. `Err` is a
    /// sentence for the person.
    pub(crate) fn find(&self, wanted: &str) -> Result<ConversationId, String> {
        if let Ok(number) = wanted.parse::<usize>() {
            let numbered = number.checked_sub(1).and_then(|index| self.numbers.get(index));
            return numbered
                .copied()
                .filter(|id| self.has(*id))
                .ok_or_else(|| format!("the list has no number {number}; /list shows it"));
        }
        if let Ok(id) = wanted.parse()
            && self.has(id)
        {
            return Ok(id);
        }
        let wanted = wanted.to_lowercase();
        let named = |accept: &dyn Fn(&str) -> bool| -> Vec<ConversationId> {
            let listed = self.numbers.iter().copied().filter(|id| self.has(*id));
            listed.filter(|id| accept(&self.name(*id).to_lowercase())).collect()
        };
        let exact = named(&|name| name == wanted);
        let found = if exact.is_empty() { named(&|name| name.starts_with(&wanted)) } else { exact };
        match found[..] {
            [id] => Ok(id),
            [] => Err(format!("there is no conversation {wanted}; /list shows yours, /new NAME begins one")),
            _ => Err(format!("{wanted} could be several; open it by its number, /list shows it")),
        }
    }

    /// A conversation heard of for the first time gets the next number.
    fn page(&mut self, id: ConversationId, kind: ConversationKind) -> &mut Page {
        if kind != ConversationKind::Personal && !self.numbers.contains(&id) {
            self.numbers.push(id);
        }
        self.conversations.entry(id).or_insert(Page {
            kind,
            title: None,
            other: None,
            last_at_ms: 0,
            unread: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u8, name: &str) -> User {
        let user_id = UserId::from_bytes([n; 16]);
        User { user_id, username: name.into(), display_name: name.to_uppercase(), admin: false }
    }

    fn id(n: u8) -> ConversationId {
        ConversationId::from_bytes([n; 16])
    }

    fn book() -> Book {
        let mut book = Book::new(&user(1, "alice"));
        book.follow(id(1), ConversationKind::Group, Some("Tea"));
        book.follow(id(2), ConversationKind::Group, Some("Team"));
        book.follow(id(3), ConversationKind::Direct, None);
        book.follow(id(9), ConversationKind::Personal, None);
        book.learn_user(&user(2, "bob"));
        book.learn_other(id(3), user(1, "alice").user_id);
        book.learn_other(id(3), user(2, "bob").user_id);
        book
    }

    #[test]
    fn the_list_is_numbered_by_activity_and_leaves_the_personal_log_out() {
        let mut book = book();
        book.active(id(2), 30);
        book.active(id(3), 20);
        let listed: Vec<_> = book.list().into_iter().map(|listed| (listed.number, listed.name)).collect();
        assert_eq!(listed, [(1, "Team".to_owned()), (2, "bob".into()), (3, "Tea".into())]);
        book.active(id(1), 99);
        assert_eq!(book.find("3"), Ok(id(1)), "numbers stay until the list is shown again");
        book.follow(id(4), ConversationKind::Group, Some("New"));
        assert_eq!(book.find("4"), Ok(id(4)), "a new one gets the next number");
    }

    #[test]
    fn conversations_are_found_by_number_name_beginning_and_id() {
        let mut book = book();
        book.list();
        assert_eq!(book.find("tea"), Ok(id(1)), "an exact name wins over a longer one");
        assert_eq!(book.find("BOB"), Ok(id(3)));
        assert_eq!(book.find("bo"), Ok(id(3)));
        assert_eq!(book.find(&id(2).to_string()), Ok(id(2)));
        assert!(book.find("te").unwrap_err().contains("several"));
        assert!(book.find("carol").unwrap_err().contains("/new"));
        assert!(book.find("0").unwrap_err().contains("number"));
        book.forget(id(3));
        assert!(book.find("bob").is_err());
    }

    #[test]
    fn what_has_no_name_shows_its_id() {
        let mut book = book();
        book.follow(id(5), ConversationKind::Direct, None);
        assert_eq!(book.name(id(5)), id(5).to_string());
        assert_eq!(book.user_name(UserId::from_bytes([7; 16])), UserId::from_bytes([7; 16]).to_string());
    }

    #[test]
    fn unread_is_counted_until_it_is_read() {
        let mut book = book();
        book.count_unread(id(1));
        book.count_unread(id(1));
        assert_eq!(
            book.unread().iter().map(|listed| (listed.id, listed.unread)).collect::<Vec<_>>(),
            [(id(1), 2)]
        );
        book.read(id(1));
        assert!(book.unread().is_empty());
    }
}
