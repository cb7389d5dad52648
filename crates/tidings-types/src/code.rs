//! Reason codes: why something was refused, or why a socket was closed. A code is never renamed. What each means for
//! HTTP and for a socket stands in one table in `tidings-wire`.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A stable reason code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name() == name)
            }
        }
    };
}

codes! {
    /// No valid proof of who is asking.
    Unauthenticated = "unauthenticated",
    /// The access token was valid once.
    TokenExpired = "token_expired",
    /// Known, but not allowed to do this.
    Forbidden = "forbidden",
    /// Does not exist, or is none of the asker's business: the two are not told apart.
    NotFound = "not_found",
    /// The user named in the request is not a member of the conversation.
    NotAMember = "not_a_member",
    /// The request breaks a rule that no retry will change.
    Invalid = "invalid",
    TooLarge = "too_large",
    /// The id is taken by another command.
    IdConflict = "id_conflict",
    /// The id is older than the idempotency memory, so it may have been used already: ask the person.
    IdExpired = "id_expired",
    /// Another node has this conversation.
    Moved = "moved",
    RateLimited = "rate_limited",
    /// The server has more work than it can take right now.
    Overloaded = "overloaded",
    /// The disk has reached its reserve; nothing is written until there is room.
    StorageFull = "storage_full",
    /// A part the request needs is not there right now; the outcome may be unknown.
    Unavailable = "unavailable",
    UnsupportedFrame = "unsupported_frame",
    /// The two sides disagree about the frames sent on this socket.
    LinkLost = "link_lost",
    Internal = "internal",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An ordinary "no": a code to branch on, a sentence that says what to do, and when to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: String,
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}
