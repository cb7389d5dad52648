//! One table: what each reason code means for HTTP, for a socket and for a retry. docs/codes.md is generated from it
//! (`TIDINGS_BLESS=1 cargo test -p tidings-wire`).

use std::fmt::Write as _;

use tidings_types::Code;

/// The server is going away for maintenance: reconnect, resume.
pub const CLOSE_DRAIN: u16 = 1012;

/// What a code means at the edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub http_status: u16,
    /// Used when a socket is closed for this reason; most codes only ever answer a frame.
    pub close_code: u16,
    /// The same request, unchanged, may succeed later (after `retry_after_ms` where given).
    pub retry: bool,
    pub text: &'static str,
}

/// What a client does after a close code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseAdvice {
    /// Reconnect with back-off and resume. Also the answer to any code outside 4100–4299.
    Resume,
    /// Refresh the session first; if that is refused, sign in again.
    RefreshThenResume,
    /// Reconnecting would end the same way.
    Stop,
}

/// The table.
#[must_use]
pub const fn meaning(code: Code) -> Meaning {
    const fn row(http_status: u16, close_code: u16, retry: bool, text: &'static str) -> Meaning {
        Meaning { http_status, close_code, retry, text }
    }
    match code {
        Code::Unauthenticated => row(401, 4100, false, "No valid proof of who is asking."),
        Code::TokenExpired => row(401, 4101, true, "The access token has expired; refresh it."),
        Code::Forbidden => row(403, 4200, false, "Known, but not allowed to do this."),
        Code::NotFound => row(404, 4201, false, "Does not exist, or is none of the asker's business."),
        Code::NotAMember => row(404, 4202, false, "The user named is not a member of the conversation."),
        Code::Invalid => row(400, 4203, false, "The request breaks a rule that no retry will change."),
        Code::TooLarge => row(413, 4204, false, "A limit is exceeded."),
        Code::IdConflict => row(409, 4205, false, "The id is taken by another command."),
        Code::IdExpired => row(
            409,
            4206,
            false,
            "The id is older than the idempotency memory; ask the person and use a new one.",
        ),
        Code::Moved => row(421, 4000, true, "Another node has this conversation."),
        Code::RateLimited => row(429, 4001, true, "Too many requests; come back later."),
        Code::Overloaded => row(503, 4002, true, "More work than the server can take right now."),
        Code::StorageFull => row(507, 4003, true, "The disk has reached its reserve; nothing is written."),
        Code::Unavailable => {
            row(503, 4004, true, "A part is not there right now; the outcome may be unknown.")
        }
        Code::UnsupportedFrame => row(400, 4207, false, "The server does not know this frame type."),
        Code::LinkLost => row(400, 4005, true, "The two sides disagree about the frames sent; reconnect."),
        Code::Internal => row(500, 4006, true, "A bug; the alarm has been raised."),
    }
}

#[must_use]
pub const fn advice(close_code: u16) -> CloseAdvice {
    match close_code {
        4100..=4199 => CloseAdvice::RefreshThenResume,
        4200..=4299 => CloseAdvice::Stop,
        _ => CloseAdvice::Resume,
    }
}

/// docs/codes.md.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(HEADER);
    for &code in Code::ALL {
        let Meaning { http_status, close_code, retry, text } = meaning(code);
        let retry = if retry { "yes" } else { "no" };
        // Writing into a String cannot fail.
        let _ = writeln!(page, "| `{code}` | {http_status} | {close_code} | {retry} | {text} |");
    }
    page
}

const HEADER: &str = "\
# Codes

Generated from `crates/tidings-wire/src/codes.rs`; do not edit. A code is never renamed.

Over HTTP a refusal is a problem document (RFC 9457) with `code`; over a socket it is
`{\"type\":\"error\",\"ref\"?,\"code\",\"message\",\"retry_after_ms\"?}`. *Retry* says whether the same request, unchanged, may
succeed later.

Close codes: 4000–4099 reconnect and resume; 4100–4199 refresh the session first, sign in again if that is refused;
4200–4299 do not reconnect; 1012 the server is draining, reconnect and resume. A client treats every other code like
4000–4099.

| code | HTTP | close | retry | meaning |
|---|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn close_codes_are_distinct_and_agree_with_retry() {
        let mut seen = HashSet::new();
        for &code in Code::ALL {
            let Meaning { close_code, retry, http_status, .. } = meaning(code);
            assert!(seen.insert(close_code), "{code} shares {close_code}");
            assert!((400..600).contains(&http_status), "{code}");
            let expected = match advice(close_code) {
                CloseAdvice::Resume => retry,
                CloseAdvice::RefreshThenResume => http_status == 401,
                CloseAdvice::Stop => !retry,
            };
            assert!(expected, "{code}: {close_code} contradicts the table");
        }
    }

    #[test]
    fn unknown_and_standard_close_codes_mean_resume() {
        for close_code in [1000, 1001, 1006, 1011, CLOSE_DRAIN, 4000, 4099, 4300] {
            assert_eq!(advice(close_code), CloseAdvice::Resume, "{close_code}");
        }
    }
}
