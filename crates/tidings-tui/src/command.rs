//! What a typed line means.

/// A line of input, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Say(String),
    /// A number of the list, a name, or an id.
    Open(String),
    New(String),
    Group {
        title: String,
        names: Vec<String>,
    },
    Add(Vec<String>),
    Remove(String),
    Leave,
    Members,
    History(u32),
    List,
    Help,
    Quit,
    Nothing,
}

pub(crate) const HELP: &str = "\
/list                     your conversations, numbered
/open N|NAME              go into one; what you type is sent there
/new NAME                 talk to a person
/group TITLE NAME...      make a group; quote a title with spaces: /group \"Tea time\" bob carol
/members                  who is in this conversation
/add NAME...              add people to this group
/remove NAME              remove a person from this group
/leave                    leave this group
/history [N]              the last N messages (20)
/help                     this
/quit                     good-bye
//text                    sends a text that begins with a slash";

const HISTORY_DEFAULT: u32 = 20;
pub(crate) const HISTORY_MAX: u32 = 1_000;

/// `Err` is a sentence for the person.
pub(crate) fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim_end_matches(['\r', '\n']);
    let Some(rest) = line.strip_prefix('/') else {
        return Ok(if line.trim().is_empty() { Command::Nothing } else { Command::Say(line.to_owned()) });
    };
    if rest.starts_with('/') {
        return Ok(Command::Say(rest.to_owned()));
    }
    let mut words = words(rest)?.into_iter();
    let name = words.next().unwrap_or_default();
    command(&name, words.collect())
}

fn command(name: &str, mut words: Vec<String>) -> Result<Command, String> {
    let usage = |form: &str| Err(format!("use it like this: /{name} {form}"));
    match (name, words.len()) {
        ("open", 0) => usage("N or NAME"),
        ("open", _) => Ok(Command::Open(words.join(" "))),
        ("new", 1) => Ok(Command::New(words.remove(0))),
        ("new", _) => usage("NAME"),
        ("group", 0 | 1) => usage("TITLE NAME..."),
        ("group", _) => Ok(Command::Group { title: words.remove(0), names: words }),
        ("add", 0) => usage("NAME..."),
        ("add", _) => Ok(Command::Add(words)),
        ("remove", 1) => Ok(Command::Remove(words.remove(0))),
        ("remove", _) => usage("NAME"),
        ("history", 0) => Ok(Command::History(HISTORY_DEFAULT)),
        ("history", 1) => match words[0].parse() {
            Ok(count) if (1..=HISTORY_MAX).contains(&count) => Ok(Command::History(count)),
            _ => usage(&format!("[1 to {HISTORY_MAX}]")),
        },
        ("history", _) => usage("[N]"),
        ("leave", 0) => Ok(Command::Leave),
        ("members", 0) => Ok(Command::Members),
        ("list", 0) => Ok(Command::List),
        ("help" | "?", 0) => Ok(Command::Help),
        ("quit" | "exit", 0) => Ok(Command::Quit),
        ("leave" | "members" | "list" | "help" | "?" | "quit" | "exit", _) => usage(""),
        _ => Err(format!("there is no command /{name}; /help shows all of them")),
    }
}

/// Words between spaces; double quotes keep spaces together.
fn words(text: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    for character in text.chars() {
        match character {
            '"' => (quoted, begun) = (!quoted, true),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if quoted {
        return Err("a quote is not closed".into());
    }
    words.extend(begun.then_some(word));
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lines_are_understood() {
        let table = [
            ("hello there", Command::Say("hello there".into())),
            ("  indented\r\n", Command::Say("  indented".into())),
            ("//usr/bin", Command::Say("/usr/bin".into())),
            ("   ", Command::Nothing),
            ("/open 3", Command::Open("3".into())),
            ("/open Tea time", Command::Open("Tea time".into())),
            ("/new bob", Command::New("bob".into())),
            ("/group Tea bob carol", Command::Group { title: "Tea".into(), names: list(&["bob", "carol"]) }),
            ("/group \"Tea time\"  bob", Command::Group { title: "Tea time".into(), names: list(&["bob"]) }),
            ("/add bob carol", Command::Add(list(&["bob", "carol"]))),
            ("/remove bob", Command::Remove("bob".into())),
            ("/history", Command::History(HISTORY_DEFAULT)),
            ("/history 5", Command::History(5)),
            ("/leave", Command::Leave),
            ("/members", Command::Members),
            ("/list", Command::List),
            ("/help", Command::Help),
            ("/quit", Command::Quit),
        ];
        for (line, command) in table {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_gets_a_sentence() {
        let table = [
            ("/dance", "/help"),
            ("/", "/help"),
            ("/open", "N or NAME"),
            ("/new", "NAME"),
            ("/new bob carol", "NAME"),
            ("/group Tea", "TITLE NAME"),
            ("/history 0", "1 to"),
            ("/history many", "1 to"),
            ("/leave now", "/leave"),
            ("/group \"Tea bob", "quote"),
        ];
        for (line, part) in table {
            let sentence = parse(line).expect_err(line);
            assert!(sentence.contains(part), "{line}: {sentence}");
        }
    }

    #[test]
    fn help_names_every_command() {
        for name in
            ["list", "open", "new", "group", "members", "add", "remove", "leave", "history", "help", "quit"]
        {
            assert!(HELP.contains(&format!("/{name}")), "{name}");
        }
    }
}
