//! Ids are types, so that swapping two arguments does not compile. Each is a UUID (RFC 9562): 16 bytes in memory and in
//! storage, lower-case hyphenated text at the edges.

use std::fmt;
use std::str::FromStr;

use uuid::{Builder, Uuid};

use crate::Timestamp;

/// The text is not a lower-case hyphenated UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdError;

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a lower-case hyphenated UUID")
    }
}

impl std::error::Error for IdError {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// A UUIDv7 (RFC 9562, 5.7) of this moment: 48 bits of milliseconds, then 74 bits of `random`.
            #[must_use]
            pub fn v7(now: Timestamp, random: [u8; 10]) -> Self {
                Self(Builder::from_unix_timestamp_millis(now.as_ms(), &random).into_uuid().into_bytes())
            }

            /// A UUIDv8 (RFC 9562, 5.8) over 16 bytes of a digest, for ids that are derived and not chosen.
            #[must_use]
            pub fn v8(digest: [u8; 16]) -> Self {
                Self(Builder::from_custom_bytes(digest).into_uuid().into_bytes())
            }

            /// The UUID's version number: 7 for ids made by a client, 8 for derived ones.
            #[must_use]
            pub fn version(&self) -> usize {
                Uuid::from_bytes(self.0).get_version_num()
            }

            /// The moment inside a UUIDv7; `None` for any other version.
            #[must_use]
            pub fn made_at(&self) -> Option<Timestamp> {
                let [a, b, c, d, e, f, ..] = self.0;
                (self.version() == 7).then(|| Timestamp::from_ms(u64::from_be_bytes([0, 0, a, b, c, d, e, f])))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(Uuid::from_bytes(self.0).as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != 36 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(IdError);
                }
                Uuid::try_parse(text).map(|uuid| Self(uuid.into_bytes())).map_err(|_| IdError)
            }
        }
    };
}

id!(
    /// A person with an account.
    UserId
);
id!(
    /// One ordered log with people: a group, a direct conversation, or a user's personal log.
    ConversationId
);
id!(
    /// Made by the client, unique in its conversation; the idempotency key of a send.
    MessageId
);
id!(
    /// One installation of a client.
    DeviceId
);
id!(
    /// One sign-in of a device, until sign-out.
    SessionId
);
id!(
    /// A tenant. No query crosses a space.
    SpaceId
);
id!(
    /// One installation of the server, made with its data directory.
    ServerId
);

impl SpaceId {
    /// The one space of a server that has not been told of others.
    pub const DEFAULT: Self = Self([0; 16]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_strict_and_round_trips() {
        let text = "0190b6f0-5a3c-7def-8123-456789abcdef";
        let id: UserId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        for wrong in
            ["", "0190B6F0-5a3c-7def-8123-456789abcdef", "0190b6f05a3c7def8123456789abcdef", "not-a-uuid"]
        {
            assert_eq!(wrong.parse::<UserId>(), Err(IdError), "{wrong}");
        }
    }

    #[test]
    fn v7_carries_its_moment_and_v8_has_none() {
        let at = Timestamp::from_ms(1_790_000_000_123);
        let id = MessageId::v7(at, [7; 10]);
        assert_eq!((id.version(), id.made_at()), (7, Some(at)));
        let derived = ConversationId::v8([255; 16]);
        assert_eq!((derived.version(), derived.made_at()), (8, None));
    }
}
