//! The checks before every route: the Host header, the token, and limits of size and time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
};

use super::{
    BODY_BYTES_MAX, PeerAddress, Problem, ServeOptions,
    problem::describe_library_errors,
    session::{self, SessionCookies},
};
use crate::{
    Secret,
    attempts::{AttemptLimiter, address_block},
};

/// Longest time until the head of a response.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Paths that need no token, so that supervisors can query them.
pub(crate) const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];
/// Number of different wrong tokens of one address before it has to wait.
const GUESSES_FREE: u32 = 10;
/// Number of addresses whose guesses are counted.
const GUESSERS_MAX: usize = 1024;

/// Wraps `routes` with the Host check, the token check, the limits, and an error response for
/// unknown paths. `address` is where the server listens.
pub fn with_middleware(
    routes: Router,
    options: &ServeOptions,
    address: SocketAddr,
    shutdown: CancellationToken,
) -> Router {
    let sessions = SessionCookies::new(&options.token, options.tls.is_some());
    let guard = TokenGuard {
        token: options.token.clone(),
        sessions: sessions.clone(),
        page_paths: Arc::new(options.page_paths.clone()),
        guesses: Arc::new(AttemptLimiter::new(GUESSES_FREE, GUESSERS_MAX)),
    };
    let hosts = address.ip().is_loopback().then(|| Arc::new(options.host_names.clone()));
    // Sessions are for pages.
    let routes = if options.page_paths.is_empty() {
        routes
    } else {
        routes.merge(session::session_routes(sessions))
    };
    routes
        .fallback(|request: Request| async move {
            Problem::not_found(format!("there is no {} {}", request.method(), request.uri().path()))
        })
        .layer(from_fn_with_state(shutdown, end_event_streams))
        .layer(from_fn_with_state(guard, check_token))
        .layer(from_fn_with_state(hosts, check_host))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_TIME_MAX))
        .layer(CatchPanicLayer::new())
        .layer(from_fn(describe_library_errors))
}

/// Ends event streams at shutdown, since they have no end of their own.
async fn end_event_streams(
    State(shutdown): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let answer = next.run(request).await;
    let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return answer;
    }
    answer.map(|body| {
        Body::from_stream(body.into_data_stream().take_until(shutdown.cancelled_owned()))
    })
}

/// Refuses requests that name another host than this one. Otherwise a page of any web site could
/// make its own name point at 127.0.0.1 and read everything (DNS rebinding). Applies only on
/// loopback, where no token may be needed.
async fn check_host(
    State(own_names): State<Option<Arc<Vec<String>>>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(own_names) = own_names else { return next.run(request).await };
    let named = header_text(request.headers(), header::HOST)
        .or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    // A browser always names the host.
    if named.is_none_or(|named| is_own_host(named, &own_names)) {
        return next.run(request).await;
    }
    Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "unknown_host",
        format!("this server is not known as {}", named.unwrap_or_default()),
    )
    .with_hint("ask for localhost or 127.0.0.1, or add the name to rest.host_names")
    .into_response()
}

/// Whether a Host header, with or without a port, names this machine.
fn is_own_host(named: &str, own_names: &[String]) -> bool {
    let host = match named.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => named,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
        || own_names.iter().any(|known| known.eq_ignore_ascii_case(bare))
}

#[derive(Clone, Debug)]
struct TokenGuard {
    token: Secret,
    sessions: SessionCookies,
    page_paths: Arc<Vec<String>>,
    guesses: Arc<AttemptLimiter<Option<IpAddr>>>,
}

impl TokenGuard {
    /// Whether a request needs no token: of a supervisor, for a file of the page, or for what a
    /// page asks before it has one.
    fn is_open(&self, request: &Request) -> bool {
        let path = request.uri().path();
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        OPEN_PATHS.contains(&path)
            || is_read && self.page_paths.iter().any(|own| own == path)
            || path == session::PATH
                && request.method() != Method::POST
                && !self.page_paths.is_empty()
    }
}

async fn check_token(State(guard): State<TokenGuard>, request: Request, next: Next) -> Response {
    if guard.token.expose_secret().is_none() || guard.is_open(&request) {
        return next.run(request).await;
    }
    let TokenGuard { token, sessions, guesses, .. } = guard;
    let sent_token = header_text(request.headers(), header::AUTHORIZATION)
        .and_then(|value| value.strip_prefix("Bearer "))
        .or_else(|| stream_token(&request));
    let refusal =
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is needed")
            .with_hint("send the header `Authorization: Bearer <token>`");
    // Who shows none does not guess.
    let Some(sent_token) = sent_token else {
        let is_session = sessions.is_signed_in(request.headers());
        if is_session && session::is_from_own_page(request.headers()) {
            return next.run(request).await;
        }
        return refusal.into_response();
    };
    let peer = request.extensions().get::<PeerAddress>();
    let peer = peer.map(|PeerAddress(address)| address_block(address.ip()));
    // Others may be behind the same address as a guesser: the right token is always let in, and
    // does not clear the address's guesses.
    if token.matches(sent_token) {
        return next.run(request).await;
    }
    let now = Instant::now();
    if guesses.is_known_wrong(&peer, sent_token, now) {
        return refusal.into_response();
    }
    if let Err(wait) = guesses.check_allowed(&peer, now) {
        let wait_s = wait.as_secs() + 1;
        let mut answer = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_attempts",
            "too many different wrong tokens from this address",
        )
        .with_hint(format!("wait {wait_s} s"))
        .into_response();
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_s));
        return answer;
    }
    guesses.note_failure(&peer, sent_token, now);
    refusal.into_response()
}

/// Reads a token from the query. A browser's `EventSource` cannot send headers, so the token of
/// an event stream may be there. Other requests must not use it.
fn stream_token(request: &Request) -> Option<&str> {
    if header_text(request.headers(), header::ACCEPT) != Some("text/event-stream") {
        return None;
    }
    request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("token="))
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let own_names = ["farm.local".to_owned()];
        let check =
            |named: &str, expect| assert_eq!(is_own_host(named, &own_names), expect, "{named}");
        check("localhost", true);
        check("LOCALHOST:8080", true);
        check("127.0.0.1", true);
        check("127.0.0.1:8081", true);
        check("[::1]:8081", true);
        check("[::1]", true);
        check("[::ffff:127.0.0.1]", true);
        check("farm.local:8081", true);
        check("evil.example", false);
        check("evil.example:8081", false);
        check("127.0.0.1.evil.example", false);
        check("localhost.evil.example:80", false);
        check("10.0.0.1", false);
        check("", false);
    }
}
