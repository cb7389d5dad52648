//! Why stored bytes do not decode.

use std::fmt;

/// The bytes of an entry or row are not what this version of the encoding writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// A value or a length goes beyond the end of the bytes.
    Truncated,
    /// A number of variable length does not fit 64 bits.
    NumberTooLong,
    /// Written by a newer version: nothing after the version byte may be interpreted.
    UnknownVersion(u8),
    /// An entry kind that has no meaning yet. 9 to 13 are reserved, see [`EntryKind`](crate::EntryKind).
    UnknownKind(u64),
    /// A wire type that does not exist.
    UnknownWireType(u8),
    /// A known field with the wrong wire type, or with a value it cannot have.
    Invalid(&'static str),
    /// A required field is not there.
    Missing(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the value ends too early"),
            Self::NumberTooLong => f.write_str("a number does not fit 64 bits"),
            Self::UnknownVersion(version) => write!(f, "unknown version {version} of the encoding"),
            Self::UnknownKind(kind) => write!(f, "unknown kind of entry {kind}"),
            Self::UnknownWireType(wire) => write!(f, "unknown wire type {wire}"),
            Self::Invalid(field) => write!(f, "field {field} has a value it cannot have"),
            Self::Missing(field) => write!(f, "field {field} is missing"),
        }
    }
}

impl std::error::Error for RecordError {}
