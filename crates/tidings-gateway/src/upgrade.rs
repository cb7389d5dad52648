//! `GET /v1/ws`: judges who asks and from where, then turns the HTTP connection into a link.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use tidings_types::{Code, Refusal};

use crate::Gateway;
use crate::http::{bearer, problem, problem_with_status};
use crate::peer::LinkPeer;
use crate::ws::handshake::Upgrade;
use crate::ws::{Connection, TimeSource, Wake, into_tcp};

/// The upgrade authenticates: no socket exists for a client that nobody knows.
pub async fn upgrade(State(gateway): State<Arc<Gateway>>, mut request: Request) -> Response {
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let headers = match Upgrade::from_request(request.method(), request.version(), request.headers()) {
        Ok(upgrade) => upgrade.response_headers(),
        Err(error) => {
            let refusal = Refusal::new(Code::Invalid, error.to_string());
            let mut response = problem_with_status(&refusal, error.status());
            response.headers_mut().extend(error.headers());
            return response;
        }
    };
    let wake = Arc::new(Wake::new());
    let peer = match authenticate(&gateway, request.headers(), &wake).await {
        Ok(peer) => peer,
        Err(refusal) => return problem(&refusal),
    };
    let Some(on_upgrade) = on_upgrade else {
        return problem(&Refusal::new(Code::Invalid, "this connection cannot be upgraded"));
    };
    tokio::spawn(run(gateway, peer, wake, on_upgrade));
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

async fn authenticate(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
    wake: &Arc<Wake>,
) -> Result<LinkPeer, Refusal> {
    check_origin(headers)?;
    let session = gateway.accounts.authenticate(bearer(headers)?)?;
    // Before the look at the session's row: an end of the session that this look misses reaches the peer.
    let peer = LinkPeer::new(gateway.clone(), session.clone(), wake.clone(), gateway.time.instants());
    // A token outlives its session by minutes; a socket must not begin in them.
    if gateway.accounts.live(&[session.session]).await?.is_empty() {
        return Err(Refusal::new(Code::Unauthenticated, "the session has ended: sign in again"));
    }
    Ok(peer)
}

/// Browsers say where a page came from. Only pages of this very host may open a socket; other clients say nothing.
fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let same = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .is_some_and(|(scheme, authority)| matches!(scheme, "http" | "https") && authority == host);
    if same {
        Ok(())
    } else {
        Err(Refusal::new(Code::Forbidden, "pages of this origin may not open a socket here"))
    }
}

async fn run(gateway: Arc<Gateway>, peer: LinkPeer, wake: Arc<Wake>, on_upgrade: OnUpgrade) {
    let (stream, leftover) = match on_upgrade
        .await
        .map_err(|error| error.to_string())
        .and_then(|upgraded| into_tcp(upgraded).map_err(|error| error.to_string()))
    {
        Ok(parts) => parts,
        Err(error) => return tracing::debug!(error, "upgrade"),
    };
    let (time, driver) = (gateway.time.clone(), gateway.driver.clone());
    drop(gateway);
    // Its own task, so that what the upgrade needed is not kept for the life of the connection.
    tokio::spawn(Connection::new(stream, leftover, peer, wake, time, driver));
}
