//! Entries, answers and facts as one line of text each.

use tidings_core::{Answer, FactKey};
use tidings_types::{Body, Content, Entry, Head, Member, PersonalSubject, Refusal, Role, Timestamp};

use super::names::{Names, START};

pub fn entry(names: &Names, entry: &Entry) -> String {
    format!(
        "{} {} {} (at {}, messages {})",
        place(names, entry),
        names.of(entry.sender.as_bytes()),
        body(names, &entry.body),
        time(entry.created_at),
        entry.messages
    )
}

pub fn place(names: &Names, entry: &Entry) -> String {
    format!("{}#{}", names.of(entry.conversation.as_bytes()), entry.seq)
}

fn body(names: &Names, body: &Body) -> String {
    match body {
        Body::Created { kind, title, members, hash: _ } => {
            let members: Vec<String> = members
                .iter()
                .map(|(user, role)| format!("{}:{}", names.of(user.as_bytes()), self::role(*role)))
                .collect();
            let title = title.as_ref().map_or(String::new(), |title| format!(" {title:?}"));
            format!("created {kind:?}{title} [{}]", members.join(" "))
        }
        Body::Message { message_id, content: Content::Text(text), reply_to, hash: _ } => {
            let reply =
                reply_to.map_or(String::new(), |id| format!(" in reply to {}", names.of(id.as_bytes())));
            format!("wrote {} {text:?}{reply}", names.of(message_id.as_bytes()))
        }
        Body::MembersAdded { users } => {
            let users: Vec<&str> = users.iter().map(|user| names.of(user.as_bytes())).collect();
            format!("added [{}]", users.join(" "))
        }
        Body::MemberRemoved { user } => format!("removed {}", names.of(user.as_bytes())),
        Body::MemberLeft => "left".to_owned(),
        Body::Joined { conversation, seq } => {
            format!("joined {} by #{seq}", names.of(conversation.as_bytes()))
        }
        Body::Left { conversation, seq } => {
            format!("ceased in {} by #{seq}", names.of(conversation.as_bytes()))
        }
        Body::DeviceRemoved { device } => format!("lost device {}", names.of(device.as_bytes())),
    }
}

pub fn answer(names: &Names, answer: &Answer) -> String {
    match answer {
        Answer::Accepted { seq, created_at } => format!("accepted #{seq} at {}", time(*created_at)),
        Answer::Created { head, member } => {
            format!("created: {}, {}", self::head(head), self::member(member))
        }
        Answer::Opened { head, member } => format!("opened: {}, {}", self::head(head), self::member(member)),
        Answer::Members(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(user, member)| format!("{} ({})", names.of(user.as_bytes()), self::member(member)))
                .collect();
            format!("members: {}", members.join(", "))
        }
        Answer::Done => "done".to_owned(),
        Answer::Refused(refusal) => self::refusal(refusal),
    }
}

pub fn refusal(refusal: &Refusal) -> String {
    let later = refusal.retry_after_ms.map_or(String::new(), |ms| format!(" (retry after {ms} ms)"));
    format!("refused {}: {}{later}", refusal.code, refusal.message)
}

pub fn head(head: &Head) -> String {
    format!(
        "{:?} head {} floor {} epoch {} messages {} members {}",
        head.kind, head.seq, head.floor, head.epoch, head.messages, head.member_count
    )
}

fn member(member: &Member) -> String {
    let left = member.left.map_or(String::new(), |seq| format!(", gone by {seq}"));
    format!("{} sees from {}{left}", role(member.role), member.visible_from)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Owner => "owner",
    }
}

pub fn time(at: Timestamp) -> String {
    let (sign, ms) = if at >= START { ('+', at.ms_since(START)) } else { ('-', START.ms_since(at)) };
    if ms % 1_000 == 0 { format!("{sign}{}s", ms / 1_000) } else { format!("{sign}{ms}ms") }
}

pub fn fact_key(names: &Names, key: &FactKey) -> String {
    let conversation = names.of(key.conversation().conversation.as_bytes());
    match key {
        FactKey::Head(_) => format!("head of {conversation}"),
        FactKey::Member(_, user) => format!("{} in {conversation}", names.of(user.as_bytes())),
        FactKey::Id(_, id) => format!("{} in {conversation}", names.of(id.as_bytes())),
        FactKey::Personal(_, PersonalSubject::Conversation(id)) => {
            format!("{} in {conversation}", names.of(id.as_bytes()))
        }
        FactKey::Personal(_, PersonalSubject::Device(id)) => {
            format!("{} in {conversation}", names.of(id.as_bytes()))
        }
    }
}
