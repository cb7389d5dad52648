//! The JSON forms of the core types, for `#[serde(with = "…")]`: ids, kinds and roles as text, positions as numbers.
//! The core types carry no serialization of their own. Clients use these for what they keep on disk, too.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serializer};

pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    parse(&Text::deserialize(deserializer)?.0)
}

fn parse<T: FromStr<Err: Display>, E: serde::de::Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(E::custom)
}

/// Borrowed from the input where the text has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// An id that may be missing; together with `default` and `skip_serializing_if`.
pub mod option {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer, Text, parse};

    pub fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Option::<Text<'de>>::deserialize(deserializer)?.map(|text| parse(&text.0)).transpose()
    }
}

pub mod list {
    use super::{Deserialize, Deserializer, Display, FromStr, Serializer, Text, parse};

    pub fn serialize<T: Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        Vec::<Text<'de>>::deserialize(deserializer)?.iter().map(|text| parse(&text.0)).collect()
    }
}

/// Text that is shared, not copied, on its way out.
pub mod shared {
    use std::sync::Arc;

    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }
}

pub mod shared_option {
    use std::sync::Arc;

    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(text: &Option<Arc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
        match text {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
        Option::<String>::deserialize(deserializer).map(|text| text.map(Arc::from))
    }
}

pub mod seq {
    use tidings_types::Seq;

    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(seq: &Seq, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(seq.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Seq, D::Error> {
        super::bounded_seq(u64::deserialize(deserializer)?)
    }
}

pub mod seq_option {
    use tidings_types::Seq;

    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(seq: &Option<Seq>, serializer: S) -> Result<S::Ok, S::Error> {
        match seq {
            Some(seq) => serializer.serialize_u64(seq.0),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Seq>, D::Error> {
        Option::<u64>::deserialize(deserializer)?.map(super::bounded_seq).transpose()
    }
}

/// A seq beyond [`tidings_types::Seq::MAX`] would not survive a reader that keeps numbers as doubles.
fn bounded_seq<E: serde::de::Error>(number: u64) -> Result<tidings_types::Seq, E> {
    let seq = tidings_types::Seq(number);
    if seq > tidings_types::Seq::MAX { Err(E::custom("a seq is at most 2^53 - 1")) } else { Ok(seq) }
}

pub mod epoch {
    use tidings_types::Epoch;

    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(epoch.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Epoch, D::Error> {
        u32::deserialize(deserializer).map(Epoch)
    }
}

pub mod epoch_option {
    use tidings_types::Epoch;

    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(epoch: &Option<Epoch>, serializer: S) -> Result<S::Ok, S::Error> {
        match epoch {
            Some(epoch) => serializer.serialize_u32(epoch.0),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Epoch>, D::Error> {
        Option::<u32>::deserialize(deserializer).map(|epoch| epoch.map(Epoch))
    }
}

pub mod code {
    use tidings_types::Code;

    use super::{Deserializer, Serializer, Text};
    use serde::Deserialize;

    pub fn serialize<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(code.name())
    }

    /// A code of a newer server reads as `internal`: the request failed for a reason this side cannot branch on.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let text = Text::deserialize(deserializer)?;
        Ok(Code::from_name(&text.0).unwrap_or(Code::Internal))
    }
}

/// `{"<conversation_id>": [epoch, seq], …}`: compact on purpose, so that 1,000 cursors fit one frame.
pub mod cursors {
    use std::fmt;

    use serde::de::{MapAccess, Visitor};
    use serde::ser::SerializeMap;
    use tidings_types::{ConversationId, Cursor, Epoch};

    use super::{Deserializer, Serializer, Text};

    pub fn serialize<S: Serializer>(
        cursors: &[(ConversationId, Cursor)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(cursors.len()))?;
        for (conversation, cursor) in cursors {
            map.serialize_entry(&conversation.to_string(), &(cursor.epoch.0, cursor.seq.0))?;
        }
        map.end()
    }

    pub fn deserialize<'de, D>(deserializer: D) -> Result<Vec<(ConversationId, Cursor)>, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_map(CursorsVisitor)
    }

    struct CursorsVisitor;

    impl<'de> Visitor<'de> for CursorsVisitor {
        type Value = Vec<(ConversationId, Cursor)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map from conversation ids to [epoch, seq]")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut cursors = Vec::new();
            while let Some((Text(id), (epoch, seq))) = map.next_entry::<Text<'de>, (u32, u64)>()? {
                let cursor = Cursor { epoch: Epoch(epoch), seq: super::bounded_seq(seq)? };
                cursors.push((super::parse(&id)?, cursor));
            }
            Ok(cursors)
        }
    }
}

/// Names for enums of the core types that have no text form of their own.
macro_rules! names {
    ($module:ident, $type:ty, $($variant:ident = $name:literal),+ $(,)?) => {
        pub mod $module {
            use super::{Deserialize, Deserializer, Serializer, Text};
            use serde::de::Error as _;

            type Named = $type;

            pub fn serialize<S: Serializer>(value: &Named, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(match value { $(Named::$variant => $name,)+ })
            }

            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named, D::Error> {
                match &*Text::deserialize(deserializer)?.0 {
                    $($name => Ok(Named::$variant),)+
                    other => Err(D::Error::custom(format_args!("unknown name `{other}`"))),
                }
            }
        }
    };
}

names!(kind, tidings_types::ConversationKind, Direct = "direct", Group = "group", Personal = "personal");
names!(role, tidings_types::Role, Member = "member", Admin = "admin", Owner = "owner");
