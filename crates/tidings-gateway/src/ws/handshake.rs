//! Judges a request to become a WebSocket (RFC 6455, 4.2) and writes the answer's headers. Pure: who is asking and
//! from which origin is judged elsewhere.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{
        CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use sha1::{Digest, Sha1};

/// The subprotocol spoken on the socket; the only one echoed to the client.
pub const SUBPROTOCOL: &str = "tidings.v1.json";

/// Browsers cannot set headers on an upgrade, so their proof of identity is offered as if it were a subprotocol.
const TICKET_PREFIX: &str = "tidings.ticket.";
/// 32 bytes in base64url without padding.
const TICKET_CHARS: usize = 43;
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An upgrade that may be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    accept: HeaderValue,
    /// The 43 characters of the ticket that the client offered. Nobody has checked yet whether it is good.
    pub ticket: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    #[error("a WebSocket begins with GET")]
    NotGet,
    #[error("a WebSocket begins with HTTP/1.1")]
    NotHttp11,
    #[error("the request does not ask for an upgrade to websocket")]
    NotAnUpgrade,
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    WrongVersion,
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    BadKey,
    #[error("the subprotocol tidings.v1.json must be offered")]
    SubprotocolMissing,
    #[error("the ticket must be one, of 43 base64url characters")]
    BadTicket,
}

impl HandshakeError {
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAnUpgrade | Self::WrongVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BadTicket => StatusCode::UNAUTHORIZED,
            Self::NotHttp11 | Self::BadKey | Self::SubprotocolMissing => StatusCode::BAD_REQUEST,
        }
    }

    /// Headers that the refusal must carry, so that a client can do better.
    #[must_use]
    pub fn headers(self) -> HeaderMap {
        let headers: &[(HeaderName, &str)] = match self {
            Self::NotGet => &[(http::header::ALLOW, "GET")],
            Self::NotAnUpgrade | Self::WrongVersion => {
                &[(CONNECTION, "upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_VERSION, "13")]
            }
            _ => &[],
        };
        headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }
}

impl<'a> Upgrade<'a> {
    pub fn from_request(
        method: &Method,
        version: Version,
        headers: &'a HeaderMap,
    ) -> Result<Self, HandshakeError> {
        if method != Method::GET {
            return Err(HandshakeError::NotGet);
        }
        if version != Version::HTTP_11 {
            return Err(HandshakeError::NotHttp11);
        }
        if !has_token(headers, &CONNECTION, "upgrade") || !has_token(headers, &UPGRADE, "websocket") {
            return Err(HandshakeError::NotAnUpgrade);
        }
        if single(headers, &SEC_WEBSOCKET_VERSION).map(str::trim) != Some("13") {
            return Err(HandshakeError::WrongVersion);
        }
        let key = single(headers, &SEC_WEBSOCKET_KEY).map(str::trim).ok_or(HandshakeError::BadKey)?;
        let accept = accept_of(key)?;
        if !list(headers, &SEC_WEBSOCKET_PROTOCOL).any(|offered| offered == SUBPROTOCOL) {
            return Err(HandshakeError::SubprotocolMissing);
        }
        Ok(Self { accept, ticket: ticket(headers)? })
    }

    /// The headers of the answer `101 Switching Protocols`.
    #[must_use]
    pub fn response_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        headers
    }
}

fn accept_of(key: &str) -> Result<HeaderValue, HandshakeError> {
    let decoded = STANDARD.decode(key).map_err(|_| HandshakeError::BadKey)?;
    if decoded.len() != 16 {
        return Err(HandshakeError::BadKey);
    }
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).map_err(|_| HandshakeError::BadKey)
}

fn ticket(headers: &HeaderMap) -> Result<Option<&str>, HandshakeError> {
    let mut tickets =
        list(headers, &SEC_WEBSOCKET_PROTOCOL).filter_map(|offered| offered.strip_prefix(TICKET_PREFIX));
    let Some(ticket) = tickets.next() else { return Ok(None) };
    let base64url = ticket.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if ticket.len() != TICKET_CHARS || !base64url || tickets.next().is_some() {
        return Err(HandshakeError::BadTicket);
    }
    Ok(Some(ticket))
}

/// A header that must not be repeated.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok()).flatten()
}

/// The elements of a comma-separated header, which may also be spread over several lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    list(headers, name).any(|offered| offered.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICKET: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJK012-_x";

    fn request(change: &[(&'static str, Option<&str>)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "tidings.v1.json"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for (name, value) in change {
            match value {
                Some(value) => headers.insert(*name, HeaderValue::from_str(value).unwrap()),
                None => headers.remove(*name),
            };
        }
        headers
    }

    fn refusal(change: &[(&'static str, Option<&str>)]) -> HandshakeError {
        Upgrade::from_request(&Method::GET, Version::HTTP_11, &request(change)).unwrap_err()
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let headers = request(&[]);
        let upgrade = Upgrade::from_request(&Method::GET, Version::HTTP_11, &headers).unwrap();
        assert_eq!(upgrade.ticket, None);
        let answer = upgrade.response_headers();
        assert_eq!(answer["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(answer["sec-websocket-protocol"], "tidings.v1.json");
        assert_eq!(answer["upgrade"], "websocket");
        assert_eq!(answer["connection"], "upgrade");
    }

    #[test]
    fn a_ticket_is_found_beside_the_subprotocol_and_not_echoed() {
        let offers = [
            format!("tidings.v1.json, tidings.ticket.{TICKET}"),
            format!("tidings.ticket.{TICKET},tidings.v1.json"),
        ];
        for offer in offers {
            let headers = request(&[("sec-websocket-protocol", Some(offer.as_str()))]);
            let upgrade = Upgrade::from_request(&Method::GET, Version::HTTP_11, &headers).unwrap();
            assert_eq!(upgrade.ticket, Some(TICKET));
            assert_eq!(upgrade.response_headers()["sec-websocket-protocol"], "tidings.v1.json");
        }
    }

    #[test]
    fn a_ticket_on_a_line_of_its_own_is_found() {
        let mut headers = request(&[]);
        let ticket = HeaderValue::from_str(&format!("tidings.ticket.{TICKET}")).unwrap();
        headers.append("sec-websocket-protocol", ticket);
        let upgrade = Upgrade::from_request(&Method::GET, Version::HTTP_11, &headers).unwrap();
        assert_eq!(upgrade.ticket, Some(TICKET));
    }

    #[test]
    fn a_malformed_ticket_is_refused() {
        for ticket in [&TICKET[1..], &format!("{TICKET}A"), &TICKET.replace('-', "+")] {
            let offer = format!("tidings.v1.json, tidings.ticket.{ticket}");
            assert_eq!(
                refusal(&[("sec-websocket-protocol", Some(offer.as_str()))]),
                HandshakeError::BadTicket
            );
        }
        let twice = format!("tidings.v1.json, tidings.ticket.{TICKET}, tidings.ticket.{TICKET}");
        assert_eq!(refusal(&[("sec-websocket-protocol", Some(twice.as_str()))]), HandshakeError::BadTicket);
    }

    #[test]
    fn each_part_of_the_request_is_checked() {
        use HandshakeError::*;
        let cases: &[(&'static str, Option<&str>, HandshakeError)] = &[
            ("connection", Some("keep-alive"), NotAnUpgrade),
            ("connection", None, NotAnUpgrade),
            ("upgrade", Some("h2c"), NotAnUpgrade),
            ("upgrade", None, NotAnUpgrade),
            ("sec-websocket-version", Some("8"), WrongVersion),
            ("sec-websocket-version", None, WrongVersion),
            ("sec-websocket-key", None, BadKey),
            ("sec-websocket-key", Some(""), BadKey),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25j"), BadKey),
            ("sec-websocket-key", Some("not base64 at all!!!!=="), BadKey),
            ("sec-websocket-protocol", None, SubprotocolMissing),
            ("sec-websocket-protocol", Some("tidings.v2.json, chat"), SubprotocolMissing),
            ("sec-websocket-protocol", Some("TIDINGS.V1.JSON"), SubprotocolMissing),
        ];
        for (name, value, expected) in cases {
            assert_eq!(refusal(&[(name, *value)]), *expected, "{name}: {value:?}");
        }
        let headers = request(&[]);
        let post = Upgrade::from_request(&Method::POST, Version::HTTP_11, &headers);
        assert_eq!(post, Err(NotGet));
        let old = Upgrade::from_request(&Method::GET, Version::HTTP_10, &headers);
        assert_eq!(old, Err(NotHttp11));
    }

    #[test]
    fn a_repeated_key_is_refused() {
        let mut headers = request(&[]);
        headers.append("sec-websocket-key", HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let answer = Upgrade::from_request(&Method::GET, Version::HTTP_11, &headers);
        assert_eq!(answer, Err(HandshakeError::BadKey));
    }

    #[test]
    fn a_refusal_tells_the_client_what_would_do() {
        assert_eq!(HandshakeError::WrongVersion.headers()["sec-websocket-version"], "13");
        assert_eq!(HandshakeError::WrongVersion.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(HandshakeError::NotGet.headers()["allow"], "GET");
        assert_eq!(HandshakeError::SubprotocolMissing.status(), StatusCode::BAD_REQUEST);
        assert_eq!(HandshakeError::BadTicket.status(), StatusCode::UNAUTHORIZED);
    }
}
