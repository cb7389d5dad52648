//! What a request carries: path, query and body. Whatever does not parse is `invalid`, with a sentence that says where.

use std::future::Future;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::StatusCode;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidings_types::{Code, ConversationId, DeviceId, Limits, MessageId, Refusal, UserId};
use tidings_wire::text;

use super::problem::{Failure, invalid};

/// Items of a page if the request does not say.
const PAGE_ITEMS: usize = 50;

/// From the end of the headers to the end of the body: a client that dribbles is not kept.
const BODY_READ_MS: u64 = 10_000;

/// Ids in the path.
pub(super) struct Ids<T>(pub(super) T);

/// Parameters in the query.
pub(super) struct Parameters<T>(pub(super) T);

/// A JSON body.
pub(super) struct Body<T>(pub(super) T);

#[derive(Deserialize)]
pub(super) struct InConversation {
    #[serde(with = "text")]
    pub(super) conversation_id: ConversationId,
}

#[derive(Deserialize)]
pub(super) struct OneMember {
    #[serde(with = "text")]
    pub(super) conversation_id: ConversationId,
    #[serde(with = "text")]
    pub(super) user_id: UserId,
}

#[derive(Deserialize)]
pub(super) struct OneMessage {
    #[serde(with = "text")]
    pub(super) conversation_id: ConversationId,
    #[serde(with = "text")]
    pub(super) message_id: MessageId,
}

#[derive(Deserialize)]
pub(super) struct OneDevice {
    #[serde(with = "text")]
    pub(super) device_id: DeviceId,
}

/// Where a list goes on, and how much of it is asked for.
#[derive(Deserialize)]
pub(super) struct PageQuery {
    pub(super) cursor: Option<String>,
    pub(super) limit: Option<usize>,
}

/// How many items to answer. More than a page may have is a mistake of the caller and is said so: who asks for 1,000
/// and gets 100 may take them for all.
pub(super) fn page_items(limit: Option<usize>, limits: &Limits) -> Result<usize, Failure> {
    let max = limits.page_items_max;
    match limit.unwrap_or(PAGE_ITEMS.min(max)) {
        items if (1..=max).contains(&items) => Ok(items),
        _ => Err(invalid(format!("`limit` is 1 to {max}"))),
    }
}

impl<T, S> FromRequestParts<S> for Ids<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(ids)) => Ok(Self(ids)),
            Err(rejection) => Err(invalid(rejection.body_text())),
        }
    }
}

impl<T, S> FromRequestParts<S> for Parameters<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(invalid(rejection.body_text())),
        }
    }
}

impl<T, S> FromRequest<S> for Body<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match within(BODY_READ_MS, Json::<T>::from_request(request, state)).await? {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Failure(Refusal::new(Code::TooLarge, "the body is larger than `frame_bytes_max`")))
            }
            Err(rejection) => Err(invalid(rejection.body_text())),
        }
    }
}

async fn within<T>(ms: u64, read: impl Future<Output = T>) -> Result<T, Failure> {
    let read = tokio::time::timeout(Duration::from_millis(ms), read).await;
    read.map_err(|_| invalid("the body did not arrive in time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let failure = within(1, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(failure.0.code, Code::Invalid);
        assert!(within(60_000, std::future::ready(())).await.is_ok());
    }

    #[test]
    fn a_page_has_a_default_and_a_bound() {
        let limits = Limits::default();
        let small = Limits { page_items_max: 10, ..Limits::default() };
        let items = |limit, limits: &Limits| page_items(limit, limits).map_err(|failure| failure.0.code);
        assert_eq!((items(None, &limits), items(None, &small)), (Ok(50), Ok(10)));
        assert_eq!((items(Some(1), &limits), items(Some(100), &limits)), (Ok(1), Ok(100)));
        assert_eq!(
            (items(Some(0), &limits), items(Some(101), &limits)),
            (Err(Code::Invalid), Err(Code::Invalid))
        );
    }
}
