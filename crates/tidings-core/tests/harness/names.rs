//! Names for ids, times and spaces, so that a scenario reads like a conversation.

use tidings_core::{direct_id, personal_id};
use tidings_types::{ConversationId, ConversationKey, DeviceId, MessageId, SpaceId, Timestamp, UserId};

/// The moment every scenario begins at.
pub const START: Timestamp = Timestamp::from_ms(1_790_000_000_000);

/// Up to ten letters, as the random part of an id.
fn random_part(name: &str) -> [u8; 10] {
    let mut bytes = [0; 10];
    assert!(name.len() <= bytes.len(), "{name:?} is too long for a name");
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn sixteen(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..10].copy_from_slice(&random_part(name));
    bytes
}

pub fn user(name: &str) -> UserId {
    UserId::from_bytes(sixteen(name))
}

pub fn device(name: &str) -> DeviceId {
    DeviceId::from_bytes(sixteen(name))
}

/// `g`, made at the start; `g@+61s`, made later; `g@v4`, not a UUIDv7; `direct(alice,bob)`; `personal(alice)`.
pub fn conversation(name: &str) -> ConversationId {
    if let Some(users) = inside(name, "direct") {
        let (one, other) = users.split_once(',').expect("direct(one,other)");
        return direct_id(SpaceId::DEFAULT, user(one), user(other));
    }
    if let Some(owner) = inside(name, "personal") {
        return personal_id(SpaceId::DEFAULT, user(owner));
    }
    match made(name) {
        (name, Some(at)) => ConversationId::v7(at, random_part(name)),
        (name, None) => ConversationId::from_bytes(sixteen(name)),
    }
}

pub fn key(name: &str) -> ConversationKey {
    ConversationKey { space: SpaceId::DEFAULT, conversation: conversation(name) }
}

/// `m1`, made at the start; `m1@+61s` and `m1@-31d`, made then; `m1@v4`, not a UUIDv7.
pub fn message(name: &str) -> MessageId {
    match made(name) {
        (name, Some(at)) => MessageId::v7(at, random_part(name)),
        (name, None) => MessageId::from_bytes(sixteen(name)),
    }
}

fn inside<'a>(name: &'a str, function: &str) -> Option<&'a str> {
    name.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')')
}

fn made(name: &str) -> (&str, Option<Timestamp>) {
    match name.split_once('@') {
        None => (name, Some(START)),
        Some((name, "v4")) => (name, None),
        Some((name, ago)) => (name, Some(moved(START, ago))),
    }
}

/// `at` moved by `+5s`, `-31d`, `+61001ms`.
pub fn moved(at: Timestamp, by: &str) -> Timestamp {
    let (back, by) = match by.split_at(1) {
        ("+", by) => (false, by),
        ("-", by) => (true, by),
        _ => panic!("{by:?} has no sign"),
    };
    let digits = by.find(|letter: char| !letter.is_ascii_digit()).expect("a unit");
    let unit = match &by[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        unit => panic!("{unit:?} is no unit"),
    };
    let ms = by[..digits].parse::<u64>().expect("a number") * unit;
    if back { at.minus_ms(ms) } else { at.plus_ms(ms) }
}

/// Finds the names again that a script used.
#[derive(Default)]
pub struct Names(std::collections::BTreeMap<[u8; 16], String>);

impl Names {
    pub fn user(&mut self, name: &str) -> UserId {
        let id = user(name);
        self.0.insert(*id.as_bytes(), name.to_owned());
        self.0.insert(*personal_id(SpaceId::DEFAULT, id).as_bytes(), format!("personal({name})"));
        id
    }

    pub fn device(&mut self, name: &str) -> DeviceId {
        let id = device(name);
        self.0.insert(*id.as_bytes(), name.to_owned());
        id
    }

    pub fn conversation(&mut self, name: &str) -> ConversationId {
        let id = conversation(name);
        self.0.entry(*id.as_bytes()).or_insert_with(|| name.to_owned());
        id
    }

    pub fn key(&mut self, name: &str) -> ConversationKey {
        ConversationKey { space: SpaceId::DEFAULT, conversation: self.conversation(name) }
    }

    pub fn message(&mut self, name: &str) -> MessageId {
        let id = message(name);
        self.0.insert(*id.as_bytes(), name.to_owned());
        id
    }

    pub fn of(&self, id: &[u8; 16]) -> &str {
        self.0.get(id).map_or("?", String::as_str)
    }
}
