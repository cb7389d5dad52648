//! The one place where a refusal becomes an HTTP answer: problem details (RFC 9457) with the status of the table of
//! codes in `tidings_wire::codes`.

use axum::extract::OriginalUri;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header};
use tidings_types::{Code, Refusal};
use tidings_wire::rest::Problem;

/// A refusal on its way out of a handler.
#[derive(Debug)]
pub(super) struct Failure(pub(super) Refusal);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        problem(&self.0)
    }
}

/// A request that no retry makes better.
pub(super) fn invalid(text: impl Into<String>) -> Failure {
    Failure(Refusal::new(Code::Invalid, text))
}

pub(crate) fn problem(refusal: &Refusal) -> Response {
    respond(&Problem::from(refusal.clone()))
}

/// For the few answers whose status HTTP prescribes.
pub(crate) fn problem_with_status(refusal: &Refusal, status: StatusCode) -> Response {
    respond(&Problem { status: status.as_u16(), ..Problem::from(refusal.clone()) })
}

fn respond(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).expect("the table has statuses from 400 to 599");
    let body = serde_json::to_vec(problem).expect("strings and numbers have a JSON form");
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
    if let Some(ms) = problem.retry_after_ms {
        // Rounded up: who comes back a little late is not refused again.
        headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, challenge(problem.code));
    }
    response
}

/// RFC 6750, 3: an error is named only if there was a token.
fn challenge(code: Code) -> HeaderValue {
    HeaderValue::from_static(match code {
        Code::TokenExpired => {
            r#"Bearer realm="tidings", error="invalid_token", error_description="the access token expired""#
        }
        _ => r#"Bearer realm="tidings""#,
    })
}

pub(super) async fn no_such_route(OriginalUri(uri): OriginalUri) -> Response {
    problem(&Refusal::new(Code::NotFound, format!("there is nothing at {}", uri.path())))
}

/// The router adds `Allow`.
pub(super) async fn no_such_method(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    let refusal = Refusal::new(Code::Invalid, format!("{} does not take {method}", uri.path()));
    problem_with_status(&refusal, StatusCode::METHOD_NOT_ALLOWED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_of_the_table() {
        for &code in Code::ALL {
            let response = problem(&Refusal::new(code, "no"));
            assert_eq!(response.status().as_u16(), tidings_wire::codes::meaning(code).http_status, "{code}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], Problem::MEDIA_TYPE);
            assert_eq!(response.headers().get(header::RETRY_AFTER), None);
            let challenged = response.headers().contains_key(header::WWW_AUTHENTICATE);
            assert_eq!(challenged, response.status() == StatusCode::UNAUTHORIZED, "{code}");
        }
    }

    #[test]
    fn retry_after_is_rounded_up_to_seconds() {
        for (ms, seconds) in [(0, "0"), (1, "1"), (1_000, "1"), (1_001, "2"), (10_000, "10")] {
            let response = problem(&Refusal::new(Code::Overloaded, "later").retry_after_ms(ms));
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds, "{ms} ms");
        }
    }
}
