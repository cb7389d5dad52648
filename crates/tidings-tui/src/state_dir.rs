//! Where one user's state for one server lives.

use std::env;
use std::path::PathBuf;

use crate::{ChatError, ChatOptions};

pub(crate) fn of(options: &ChatOptions) -> Result<PathBuf, ChatError> {
    match &options.state {
        Some(directory) => Ok(directory.clone()),
        None => {
            Ok(base()?.join("tidings/chat").join(file_name(&options.server)).join(file_name(&options.name)))
        }
    }
}

/// Relative values are to be ignored, says the XDG base directory specification.
fn base() -> Result<PathBuf, ChatError> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .ok_or(ChatError::NoStateDirectory)
}

/// A name that stays inside its directory and differs for different texts.
fn file_name(text: &str) -> String {
    let text = text.trim_end_matches('/').to_lowercase();
    let text = text.strip_prefix("http://").unwrap_or(&text);
    let mut name = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if !name.is_empty() => name.push('.'),
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_and_apart() {
        assert_eq!(file_name("http://127.0.0.1:8390/"), "127.0.0.1%3a8390");
        assert_eq!(file_name(".."), "%2e.");
        assert_eq!(file_name("../x"), "%2e.%2fx");
        assert_ne!(file_name("a/b"), file_name("a_b"));
        assert_eq!(file_name("Alice"), file_name("alice"));
    }

    #[test]
    fn an_explicit_directory_is_taken_as_it_is() {
        let options = ChatOptions {
            name: "alice".into(),
            server: crate::DEFAULT_SERVER.into(),
            plain: true,
            password: None,
            sign_up: false,
            state: Some("here".into()),
        };
        assert_eq!(of(&options).unwrap(), PathBuf::from("here"));
    }
}
