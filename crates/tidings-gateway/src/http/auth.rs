//! Who is asking. The layers here run before a handler sees the request; a handler gets the session from them and from
//! nowhere else, so a route whose row in the table lets anybody in cannot act for somebody.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, header};
use tidings_service::Session;
use tidings_types::{Code, Refusal};

use super::problem::Failure;
use crate::Gateway;

/// The session that the request's access token proves.
pub(super) struct Authenticated(pub(super) Session);

impl<S: Sync> FromRequestParts<S> for Authenticated {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        parts.extensions.get::<Session>().cloned().map(Self).ok_or_else(|| Failure(no_token()))
    }
}

/// The token in `Authorization: Bearer …` (RFC 6750, 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(no_token()) };
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(no_token)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(no_token()) }
}

pub(super) async fn signed_in(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let session = gateway.accounts.authenticate(bearer(request.headers())?)?;
    request.extensions_mut().insert(session);
    Ok(next.run(request).await)
}

pub(super) async fn live_session(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let session = gateway.accounts.authenticate(bearer(request.headers())?)?;
    if gateway.accounts.live(&[session.session]).await?.is_empty() {
        return Err(Failure(Refusal::new(Code::Unauthenticated, "the session has ended: sign in again")));
    }
    request.extensions_mut().insert(session);
    Ok(next.run(request).await)
}

fn no_token() -> Refusal {
    Refusal::new(Code::Unauthenticated, "send the access token as `Authorization: Bearer <token>`")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(values: &[&str]) -> Result<String, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        bearer(&headers).map(ToOwned::to_owned).map_err(|refusal| refusal.code)
    }

    #[test]
    fn only_one_bearer_token_counts() {
        for good in ["Bearer abc", "bearer abc", "BEARER  abc "] {
            assert_eq!(asked(&[good]).as_deref(), Ok("abc"), "{good}");
        }
        for wrong in [&[][..], &["abc"], &["Basic abc"], &["Bearer"], &["Bearer abc", "Bearer abc"]] {
            assert_eq!(asked(wrong), Err(Code::Unauthenticated), "{wrong:?}");
        }
    }
}
