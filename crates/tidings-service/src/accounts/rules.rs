//! What names and passwords may look like.

use tidings_types::{Code, DeviceId, Refusal};

/// Characters of a display name and of a device's name.
const NAME_CHARS_MAX: usize = 128;
const PASSWORD_CHARS_MIN: usize = 10;
pub(super) const PASSWORD_CHARS_MAX: usize = 256;
const PAGE_ITEMS: usize = 50;
const PAGE_ITEMS_MAX: usize = 100;

/// The name as it is stored and compared. Folding stays within ASCII, so no other script folds into it.
pub(super) fn username(text: &str) -> Result<String, Refusal> {
    let folded = text.to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (2..=32).contains(&folded.len()) && folded.bytes().all(allowed) {
        return Ok(folded);
    }
    Err(invalid("a username has 2 to 32 characters out of a-z, 0-9, dot, underscore and hyphen"))
}

pub(super) fn password(text: &str) -> Result<(), Refusal> {
    match text.chars().count() {
        ..PASSWORD_CHARS_MIN => Err(invalid("a password has at least 10 characters")),
        PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX => Ok(()),
        _ => Err(Refusal::new(Code::TooLarge, "a password has at most 256 characters")),
    }
}

/// A name that people read: trimmed; `None` if nothing is left.
pub(super) fn shown_name(text: &str) -> Result<Option<String>, Refusal> {
    let name = text.trim();
    if name.chars().count() > NAME_CHARS_MAX {
        return Err(Refusal::new(Code::TooLarge, "a name has at most 128 characters"));
    }
    // They would reach other people's terminals.
    if name.chars().any(char::is_control) {
        return Err(invalid("a name has no control characters"));
    }
    Ok((!name.is_empty()).then(|| name.to_owned()))
}

/// A device's id is made by the client.
pub(super) fn device_id(device: DeviceId) -> Result<DeviceId, Refusal> {
    if device.version() == 7 { Ok(device) } else { Err(invalid("a device id is a UUIDv7")) }
}

pub(super) fn page_items(limit: Option<usize>) -> Result<usize, Refusal> {
    match limit.unwrap_or(PAGE_ITEMS) {
        items @ 1..=PAGE_ITEMS_MAX => Ok(items),
        _ => Err(invalid("limit is 1 to 100")),
    }
}

pub(super) fn invalid(text: &str) -> Refusal {
    Refusal::new(Code::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(result: Result<T, Refusal>) -> Option<Code> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn usernames_are_folded_and_bounded() {
        for (text, stored) in [("ada", "ada"), ("Ada.L_9-", "ada.l_9-"), ("ab", "ab")] {
            assert_eq!(username(text).unwrap(), stored);
        }
        assert!(username(&"a".repeat(32)).is_ok());
        // The last two fold to "kk" and "ii" beyond ASCII.
        for wrong in
            ["", "a", "a b", " ada", "ada\n", "ädä", "a/b", "a@b", &"a".repeat(33), "\u{212a}k", "\u{130}i"]
        {
            assert_eq!(code(username(wrong)), Some(Code::Invalid), "{wrong:?}");
        }
    }

    #[test]
    fn passwords_are_counted_in_characters() {
        for (text, refused) in [
            ("ä".repeat(9), Some(Code::Invalid)),
            ("ä".repeat(10), None),
            ("ä".repeat(256), None),
            ("ä".repeat(257), Some(Code::TooLarge)),
        ] {
            assert_eq!(code(password(&text)), refused, "{} characters", text.chars().count());
        }
    }

    #[test]
    fn shown_names_are_trimmed_bounded_and_printable() {
        assert_eq!(shown_name("  Ada Lovelace ").unwrap().as_deref(), Some("Ada Lovelace"));
        assert_eq!(shown_name(" \t ").unwrap(), None);
        assert!(shown_name(&"ä".repeat(128)).is_ok());
        assert_eq!(code(shown_name(&"ä".repeat(129))), Some(Code::TooLarge));
        for wrong in ["a\nb", "a\u{1b}[31mb", "a\u{0}"] {
            assert_eq!(code(shown_name(wrong)), Some(Code::Invalid), "{wrong:?}");
        }
    }

    #[test]
    fn page_limits_have_a_default_and_a_bound() {
        assert_eq!((page_items(None), page_items(Some(1)), page_items(Some(100))), (Ok(50), Ok(1), Ok(100)));
        assert_eq!(code(page_items(Some(0))), Some(Code::Invalid));
        assert_eq!(code(page_items(Some(101))), Some(Code::Invalid));
    }
}
