//! `GET /`: what to do next, for a person who opened the server's address in a browser.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};

const PAGE: &str = include_str!("welcome.html");

/// Nothing is loaded, run, framed or sent; the one style sheet is named by its hash.
const POLICY: &str = "default-src 'none'; style-src 'sha256-NJiPcNXxCv2OIlxJ7/dtFRwovS9I/L4n58ZB93ETJpY='; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Where the commands on the page point when the request does not say how it got here.
const SERVER: &str = "127.0.0.1:8390";

pub(super) async fn page(headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).filter(|host| is_plain(host));
    let server = format!("http://{}", host.unwrap_or(SERVER));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, PAGE.replace("{{server}}", &server)).into_response()
}

/// Only what means nothing to HTML or to a shell.
fn is_plain(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_names_the_style_sheet_of_the_page() {
        let (_, rest) = PAGE.split_once("<style>").unwrap();
        let (style, rest) = rest.split_once("</style>").unwrap();
        let hash = STANDARD.encode(Sha256::digest(style));
        assert!(POLICY.contains(&format!("'sha256-{hash}'")), "the hash is now {hash}");
        for forbidden in ["<style", "<script", "style=", "src=", "://"] {
            assert!(!rest.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn a_host_reaches_the_page_only_if_it_is_plain() {
        for good in ["localhost:8390", "[::1]:8390", "chat.example.org"] {
            assert!(is_plain(good), "{good}");
        }
        for wrong in ["", "a<b", "a\"b", "a b", "a;b", "a$(b)", "a/b"] {
            assert!(!is_plain(wrong), "{wrong}");
        }
    }
}
