//! Scenario files: a line at the margin is a command, the indented lines below it are what must come of it. `==`
//! begins a case with a machine of its own; `#` begins a comment.

use std::fmt::Write as _;
use std::path::Path;

use tidings_core::{Command, CommandKind};
use tidings_types::{Content, Limits, PersonalState, PersonalSubject, Seq};

use super::names::Names;

pub trait Machine {
    /// Carries out one line of a scenario; answers the lines that come of it.
    fn run(&mut self, words: &[&str]) -> Vec<String>;
}

/// Runs every scenario file in `tests/scenarios/<folder>`. With `TIDINGS_BLESS=1` the expected lines are rewritten.
pub fn check<M: Machine>(folder: &str, new: impl Fn() -> M) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(folder);
    let bless = std::env::var_os("TIDINGS_BLESS").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios in {}", folder.display());
    let mut failed = Vec::new();
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let actual = play(&file, &expected, &new);
        if actual == expected {
            continue;
        }
        if bless {
            std::fs::write(&file, actual).unwrap();
        } else {
            failed.push(difference(&file, &expected, &actual));
        }
    }
    assert!(failed.is_empty(), "{}\nIf this is right: TIDINGS_BLESS=1", failed.join("\n"));
}

fn play<M: Machine>(file: &Path, text: &str, new: &impl Fn() -> M) -> String {
    let mut machine = new();
    let mut played = String::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with(' ') {
            continue;
        }
        writeln!(played, "{line}").unwrap();
        if line.starts_with("==") {
            machine = new();
        } else if !line.is_empty() && !line.starts_with('#') {
            let at = format!("{}:{}", file.display(), number + 1);
            let words = words(line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let run = std::panic::AssertUnwindSafe(|| machine.run(&words));
            let Ok(lines) = std::panic::catch_unwind(run) else { panic!("{at}: {line}") };
            lines.iter().for_each(|line| writeln!(played, "  {line}").unwrap());
        }
    }
    played
}

fn difference(file: &Path, expected: &str, actual: &str) -> String {
    let mut text = format!("{}:\n", file.display());
    let (expected, actual): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let same = expected.iter().zip(&actual).take_while(|(one, other)| one == other).count();
    let command = actual[..same].iter().rev().find(|line| !line.starts_with(' ')).unwrap_or(&"");
    writeln!(text, "line {}, after: {command}", same + 1).unwrap();
    expected[same..].iter().take(4).for_each(|line| writeln!(text, "- {line}").unwrap());
    actual[same..].iter().take(4).for_each(|line| writeln!(text, "+ {line}").unwrap());
    text
}

/// Words; one in quotes may hold blanks and keeps its quote at the front.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(format!("\"{part}"));
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The text of a quoted word.
pub fn quoted(word: &str) -> &str {
    word.strip_prefix('"').unwrap_or_else(|| panic!("{word:?} is not quoted"))
}

pub fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is not a number"))
}

/// A command to a conversation, as `actor verb …`; `None` if the verb is none.
pub fn command(names: &mut Names, words: &[&str]) -> Option<Command> {
    let [actor_name, verb, rest @ ..] = words else { return None };
    let to = |names: &mut Names, conversation: &str, kind| {
        let actor = names.user(actor_name);
        Some(Command { key: names.key(conversation), actor, kind })
    };
    match (*verb, rest) {
        ("create", [group, rest @ ..]) => {
            let (title, members) = match rest {
                [title, members @ ..] if title.starts_with('"') => (Some(quoted(title).into()), members),
                members => (None, members),
            };
            let members = members.iter().map(|name| names.user(name)).collect();
            to(names, group, CommandKind::CreateGroup { title, members })
        }
        ("create_direct", [peer, rest @ ..]) => {
            let derived = format!("direct({actor_name},{peer})");
            let conversation = rest.first().map_or(derived.as_str(), |other| *other);
            let peer = names.user(peer);
            to(names, conversation, CommandKind::CreateDirect { peer })
        }
        ("send" | "write_to", [target, message, text, rest @ ..]) => {
            let message_id = names.message(message);
            let content = Content::Text(quoted(text).into());
            let mut reply_to = None;
            let mut conversation = (*verb == "send").then(|| (*target).to_owned());
            for word in rest {
                match word.split_once('=') {
                    Some(("reply", id)) => reply_to = Some(names.message(id)),
                    Some(("in", id)) => conversation = Some(id.to_owned()),
                    _ => panic!("{word:?} is not understood"),
                }
            }
            let peer = (*verb == "write_to").then(|| names.user(target));
            let conversation = conversation.unwrap_or_else(|| format!("direct({actor_name},{target})"));
            to(names, &conversation, CommandKind::Send { message_id, content, reply_to, peer })
        }
        ("add", [group, users @ ..]) => {
            let users = users.iter().map(|name| names.user(name)).collect();
            to(names, group, CommandKind::AddMembers { users })
        }
        ("remove", [group, user]) => {
            let user = names.user(user);
            to(names, group, CommandKind::RemoveMember { user })
        }
        ("leave", [group]) => to(names, group, CommandKind::Leave),
        ("open", [conversation]) => to(names, conversation, CommandKind::Open),
        ("note", [state, subject, cause, rest @ ..]) => {
            let (state, subject) = match *state {
                "joined" => {
                    (PersonalState::Joined, PersonalSubject::Conversation(names.conversation(subject)))
                }
                "left" => (PersonalState::Left, PersonalSubject::Conversation(names.conversation(subject))),
                "lost" => (PersonalState::DeviceRemoved, PersonalSubject::Device(names.device(subject))),
                _ => panic!("{state:?} is no state"),
            };
            let own = format!("personal({actor_name})");
            let log = rest.first().map_or(own.as_str(), |other| *other);
            let cause = Seq(number(cause));
            to(names, log, CommandKind::Note { subject, state, cause })
        }
        _ => None,
    }
}

/// `limits name=value …`
pub fn set_limits(limits: &mut Limits, words: &[&str]) {
    for word in words {
        let (name, value) = word.split_once('=').expect("name=value");
        let value: usize = value.parse().expect("a number");
        let count = value as u64;
        match name {
            "content_bytes_max" => limits.content_bytes_max = value,
            "title_chars_max" => limits.title_chars_max = value,
            "members_per_call_max" => limits.members_per_call_max = value,
            "group_members_max" => limits.group_members_max = u32::try_from(value).unwrap(),
            "conversations_per_user_max" => limits.conversations_per_user_max = value,
            "cursors_per_connect_max" => limits.cursors_per_connect_max = value,
            "in_flight_sends_max" => limits.in_flight_sends_max = value,
            "output_bytes_max" => limits.output_bytes_max = value,
            "replay_entries_max" => limits.replay_entries_max = count,
            "mailbox_commands_max" => limits.mailbox_commands_max = value,
            "record_bytes_max" => limits.record_bytes_max = value,
            "appends_in_flight_max" => limits.appends_in_flight_max = value,
            "tail_bytes_max" => limits.tail_bytes_max = value,
            "facts_cached_max" => limits.facts_cached_max = value,
            "ids_cached_max" => limits.ids_cached_max = value,
            _ => panic!("{name:?} is no limit"),
        }
    }
}
