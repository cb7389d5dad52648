//! What the person, or the script, is told; and its two forms. [`plain`] is a promise to scripts: one line per thing,
//! fields separated by tabs, first what it is. [`human`] may change at any time.

use chrono::{DateTime, Local, TimeZone};
use tidings_types::{ConversationId, ConversationKind, MessageId, Role, Seq, UserId};

use crate::book::Listed;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    SignedIn {
        user: UserId,
        name: String,
    },
    Conversation(Listed),
    Opened {
        conversation: ConversationId,
        name: String,
    },
    Entry(Shown),
    /// A message of the past that was asked for.
    History(Shown),
    /// Entries left for history.
    Skipped {
        conversation: ConversationId,
        name: String,
        from: Seq,
        to: Seq,
    },
    Forgotten {
        conversation: ConversationId,
        name: String,
    },
    Queued {
        message: MessageId,
        text: String,
    },
    Accepted {
        message: MessageId,
        conversation: ConversationId,
        seq: Seq,
    },
    Refused {
        message: MessageId,
        code: &'static str,
        reason: String,
        text: String,
    },
    Member {
        user: UserId,
        name: String,
        display_name: String,
        role: Role,
    },
    CaughtUp {
        unread: Vec<Listed>,
    },
    /// `again`: the person was told that it was not.
    Online {
        again: bool,
    },
    Offline {
        reason: String,
    },
    /// A command failed. `code` is one of docs/codes.md or `client`.
    Error {
        code: &'static str,
        text: String,
    },
    Note(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) conversation: ConversationId,
    pub(crate) conversation_name: String,
    /// In the conversation that is open.
    pub(crate) is_open: bool,
    pub(crate) seq: Seq,
    /// For kind `message`.
    pub(crate) message: Option<MessageId>,
    pub(crate) kind: &'static str,
    pub(crate) sender: String,
    /// Sent by this user, from whichever device.
    pub(crate) is_own: bool,
    pub(crate) at_ms: u64,
    /// The message's text; for other kinds their one interesting field.
    pub(crate) text: String,
}

/// One line for a script, without its newline.
///
/// ```text
/// signed_in     user_id  username
/// conversation  conversation_id  direct|group  name
/// opened        conversation_id  name
/// entry         conversation_id  seq  kind  sender  text
/// history       conversation_id  seq  kind  sender  text
/// skipped       conversation_id  from_seq  to_seq
/// forgotten     conversation_id
/// queued        message_id  text
/// accepted      message_id  conversation_id  seq
/// refused       message_id  code  reason
/// member        user_id  role  username
/// caught_up
/// online
/// offline       reason
/// error         code  text
/// note          text
/// ```
///
/// Tab, newline, carriage return and backslash inside a field are written `\t`, `\n`, `\r` and `\\`.
pub(crate) fn plain(told: &Told) -> String {
    let entry = |word, shown: &Shown| {
        let (id, seq) = (shown.conversation.to_string(), shown.seq.to_string());
        line(&[word, &id, &seq, shown.kind, &shown.sender, &shown.text])
    };
    match told {
        Told::SignedIn { user, name } => line(&["signed_in", &user.to_string(), name]),
        Told::Conversation(listed) => {
            line(&["conversation", &listed.id.to_string(), kind_name(listed.kind), &listed.name])
        }
        Told::Opened { conversation, name } => line(&["opened", &conversation.to_string(), name]),
        Told::Entry(shown) => entry("entry", shown),
        Told::History(shown) => entry("history", shown),
        Told::Skipped { conversation, name: _, from, to } => {
            line(&["skipped", &conversation.to_string(), &from.to_string(), &to.to_string()])
        }
        Told::Forgotten { conversation, name: _ } => line(&["forgotten", &conversation.to_string()]),
        Told::Queued { message, text } => line(&["queued", &message.to_string(), text]),
        Told::Accepted { message, conversation, seq } => {
            line(&["accepted", &message.to_string(), &conversation.to_string(), &seq.to_string()])
        }
        Told::Refused { message, code, reason, text: _ } => {
            line(&["refused", &message.to_string(), code, reason])
        }
        Told::Member { user, name, display_name: _, role } => {
            line(&["member", &user.to_string(), role_name(*role), name])
        }
        Told::CaughtUp { unread: _ } => line(&["caught_up"]),
        Told::Online { again: _ } => line(&["online"]),
        Told::Offline { reason } => line(&["offline", reason]),
        Told::Error { code, text } => line(&["error", code, text]),
        Told::Note(text) => line(&["note", text]),
    }
}

fn line(fields: &[&str]) -> String {
    fields.iter().map(|field| escape(field)).collect::<Vec<_>>().join("\t")
}

fn escape(field: &str) -> String {
    let mut escaped = String::with_capacity(field.len());
    for character in field.chars() {
        match character {
            '\\' => escaped.push_str("\\\\"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Lines for a person, control characters made harmless: what others wrote must not move this terminal's cursor.
pub(crate) fn human(told: &Told) -> Vec<String> {
    let text = match told {
        // The conversation's own entries tell the same.
        Told::Entry(Shown { kind: "joined" | "left", .. }) => return Vec::new(),
        Told::SignedIn { name, .. } => format!("Signed in as {name}. /help shows what you can do."),
        Told::Conversation(listed) => listed_line(listed),
        Told::Opened { name, .. } => format!("-- {name} --"),
        Told::Entry(shown) | Told::History(shown) => shown_line(shown),
        Told::Skipped { name, from, to, .. } => {
            format!("-- {name}: {} older entries, /history shows them --", to.0 - from.0 + 1)
        }
        Told::Forgotten { name, .. } => format!("-- you are not in {name} any more --"),
        // Seen in the lines above the prompt, or on the next line that arrives.
        Told::Queued { .. } | Told::Accepted { .. } | Told::Online { again: false } => return Vec::new(),
        Told::Online { again: true } => "-- online again --".into(),
        Told::Refused { reason, text, .. } => format!("-- not sent: {text} ({reason}) --"),
        Told::Member { name, display_name, role, .. } => member_line(name, display_name, *role),
        Told::CaughtUp { unread } => {
            return unread.iter().map(|listed| clean(&unread_line(listed))).collect();
        }
        Told::Offline { reason } => format!("-- offline: {reason}; what you write is kept and sent later --"),
        Told::Error { text, .. } => format!("-- {text} --"),
        Told::Note(text) => text.clone(),
    };
    text.lines().map(clean).collect()
}

fn listed_line(listed: &Listed) -> String {
    let marker = if listed.kind == ConversationKind::Direct { "@" } else { "#" };
    let unread = if listed.unread > 0 { format!("  ({} new)", listed.unread) } else { String::new() };
    format!("{:>3}  {marker}{}{unread}", listed.number, listed.name)
}

fn unread_line(listed: &Listed) -> String {
    format!("-- {} new in {} (/open {}) --", listed.unread, listed.name, listed.number)
}

fn member_line(name: &str, display_name: &str, role: Role) -> String {
    let role = if role == Role::Member { String::new() } else { format!("  [{}]", role_name(role)) };
    if display_name.is_empty() || display_name == name {
        format!("  {name}{role}")
    } else {
        format!("  {name} ({display_name}){role}")
    }
}

fn shown_line(shown: &Shown) -> String {
    let time = clock(shown.at_ms);
    let place = if shown.is_open { String::new() } else { format!("({}) ", shown.conversation_name) };
    let who = if shown.is_own { "you" } else { &shown.sender };
    let text = &shown.text;
    match shown.kind {
        "message" => {
            let mark = if shown.is_own { " \u{2713}" } else { "" };
            format!("{time} {place}{who}: {text}{mark}")
        }
        "created" if text.is_empty() => format!("{time} {place}-- {who} began this conversation --"),
        "created" => format!("{time} {place}-- {who} made the group {text} --"),
        "members_added" => format!("{time} {place}-- {who} added {text} --"),
        "member_removed" => format!("{time} {place}-- {who} removed {text} --"),
        "member_left" => format!("{time} {place}-- {who} left --"),
        "device_removed" => format!("{time} -- one of your devices was removed --"),
        _ => format!("{time} {place}-- something this version cannot show --"),
    }
}

/// Local time of day; with the date if that is not today.
fn clock(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| Local.timestamp_millis_opt(ms).single());
    at.map_or_else(|| "--:--".into(), |at| clock_at(&at, &Local::now()))
}

fn clock_at<Zone: TimeZone<Offset: std::fmt::Display>>(at: &DateTime<Zone>, now: &DateTime<Zone>) -> String {
    let form = if at.date_naive() == now.date_naive() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.format(form).to_string()
}

pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

const fn kind_name(kind: ConversationKind) -> &'static str {
    match kind {
        ConversationKind::Direct => "direct",
        ConversationKind::Group => "group",
        ConversationKind::Personal => "personal",
    }
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Owner => "owner",
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;

    fn id() -> ConversationId {
        ConversationId::from_bytes([1; 16])
    }

    const ID: &str = "01010101-0101-0101-0101-010101010101";

    fn shown(kind: &'static str, text: &str) -> Shown {
        Shown {
            conversation: id(),
            conversation_name: "Tea".into(),
            is_open: false,
            seq: Seq(7),
            message: None,
            kind,
            sender: "bob".into(),
            is_own: false,
            at_ms: 0,
            text: text.into(),
        }
    }

    /// Without the time, which depends on the zone.
    fn seen(shown: Shown) -> String {
        let lines = human(&Told::Entry(shown));
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].split_once(' ').map(|(_, rest)| rest.split_once(' ').unwrap().1.to_owned()).unwrap()
    }

    #[test]
    fn plain_lines_are_the_promised_ones() {
        let message = MessageId::from_bytes([1; 16]);
        let user = UserId::from_bytes([1; 16]);
        let listed =
            Listed { number: 1, id: id(), kind: ConversationKind::Group, name: "Tea".into(), unread: 0 };
        let name = || "Tea".to_owned();
        let table = [
            (Told::SignedIn { user, name: "bob".into() }, format!("signed_in\t{ID}\tbob")),
            (Told::Conversation(listed), format!("conversation\t{ID}\tgroup\tTea")),
            (Told::Opened { conversation: id(), name: name() }, format!("opened\t{ID}\tTea")),
            (
                Told::Entry(shown("message", "a\tb\nc\\d\r")),
                format!("entry\t{ID}\t7\tmessage\tbob\ta\\tb\\nc\\\\d\\r"),
            ),
            (Told::History(shown("message", "x")), format!("history\t{ID}\t7\tmessage\tbob\tx")),
            (
                Told::Skipped { conversation: id(), name: name(), from: Seq(1), to: Seq(9) },
                format!("skipped\t{ID}\t1\t9"),
            ),
            (Told::Forgotten { conversation: id(), name: name() }, format!("forgotten\t{ID}")),
            (Told::Queued { message, text: "x".into() }, format!("queued\t{ID}\tx")),
            (Told::Accepted { message, conversation: id(), seq: Seq(7) }, format!("accepted\t{ID}\t{ID}\t7")),
            (
                Told::Refused { message, code: "not_found", reason: "gone".into(), text: "x".into() },
                format!("refused\t{ID}\tnot_found\tgone"),
            ),
            (
                Told::Member { user, name: "bob".into(), display_name: "Bob".into(), role: Role::Owner },
                format!("member\t{ID}\towner\tbob"),
            ),
            (Told::CaughtUp { unread: vec![] }, "caught_up".into()),
            (Told::Online { again: true }, "online".into()),
            (Told::Offline { reason: "gone".into() }, "offline\tgone".into()),
            (Told::Error { code: "client", text: "no".into() }, "error\tclient\tno".into()),
            (Told::Note("a\nb".into()), "note\ta\\nb".into()),
        ];
        for (told, expected) in table {
            assert_eq!(plain(&told), expected);
        }
    }

    #[test]
    fn people_see_who_wrote_where() {
        assert_eq!(seen(shown("message", "hello")), "(Tea) bob: hello");
        let own = Shown { is_own: true, is_open: true, ..shown("message", "hello") };
        assert_eq!(seen(own), "you: hello \u{2713}");
        assert_eq!(seen(shown("members_added", "carol, dave")), "(Tea) -- bob added carol, dave --");
        assert_eq!(human(&Told::Entry(shown("joined", "Tea"))), Vec::<String>::new());
        assert!(seen(shown("unsupported", "")).contains("cannot show"));
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        let line = seen(Shown { is_open: true, ..shown("message", "\u{1b}[2J\u{7}x\u{9b}y") });
        assert_eq!(line, "bob: \u{fffd}[2J\u{fffd}x\u{fffd}y");
    }

    #[test]
    fn a_message_of_several_lines_stays_several_lines() {
        let lines = human(&Told::Entry(shown("message", "one\ntwo")));
        assert_eq!((lines.len(), lines[1].as_str()), (2, "two"));
    }

    #[test]
    fn the_date_is_shown_when_it_is_not_today() {
        let at = Utc.with_ymd_and_hms(2026, 11, 22, 9, 5, 0).unwrap();
        let evening = Utc.with_ymd_and_hms(2026, 11, 22, 23, 0, 0).unwrap();
        let tomorrow = Utc.with_ymd_and_hms(2026, 11, 23, 0, 0, 0).unwrap();
        assert_eq!(clock_at(&at, &evening), "09:05");
        assert_eq!(clock_at(&at, &tomorrow), "2026-11-22 09:05");
    }
}
