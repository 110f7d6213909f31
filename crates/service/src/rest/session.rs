//! Sessions of browsers: who has shown the token once gets a cookie in its place, which no script
//! can read and which the browser sends to this server only.
//!
//! A cookie says until when it holds, signed with a key that is made of the token. So sessions
//! outlive a restart, as a display on a wall needs it, and end when the token is changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use ring::hmac;
use serde::Serialize;
use utoipa::{ToSchema, openapi::OpenApi};

use super::Problem;
use crate::Secret;

/// Where sessions begin and end. Beginning one needs the token, as every other path does.
pub(super) const PATH: &str = "/v1/session";
pub(crate) const COOKIE: &str = "microclimate_session";
/// A session holds this long.
const SESSION_TIME: Duration = Duration::from_secs(30 * 86_400);
/// Told apart from whatever else may once be signed with the token.
const PURPOSE: &str = "microclimate session until ";

/// Signs and checks session cookies.
#[derive(Clone, Debug)]
pub(super) struct SessionCookies {
    /// None where no token is set: everybody is let in, and nobody needs a session.
    key: Option<hmac::Key>,
    /// Whether cookies may go over TLS only.
    is_secure: bool,
}

/// The answer of `/v1/session`.
#[derive(Debug, Serialize, ToSchema)]
struct SessionState {
    /// Whether a token or a session is needed.
    is_required: bool,
    /// Whether the request has a session.
    is_signed_in: bool,
}

impl SessionCookies {
    pub(super) fn new(token: &Secret, is_secure: bool) -> Self {
        let key =
            token.expose_secret().map(|token| hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()));
        Self { key, is_secure }
    }

    /// Whether a request has a cookie of ours that still holds.
    pub(super) fn is_signed_in(&self, request: &HeaderMap) -> bool {
        self.has_valid_cookie(request, now_s())
    }

    fn has_valid_cookie(&self, request: &HeaderMap, now_s: u64) -> bool {
        let Some(key) = &self.key else { return false };
        let cookies = request.get_all(header::COOKIE).into_iter();
        let pairs =
            cookies.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
        let mut own = pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        own.any(|value| is_valid(key, value, now_s))
    }

    fn new_cookie(&self, now_s: u64) -> Option<HeaderValue> {
        let until_s = now_s + SESSION_TIME.as_secs();
        let signature = hmac::sign(self.key.as_ref()?, signed_text(until_s).as_bytes());
        let value = format!("{until_s}.{}", as_hex(signature.as_ref()));
        Some(self.cookie(&value, SESSION_TIME.as_secs()))
    }

    fn cookie(&self, value: &str, age_s: u64) -> HeaderValue {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let text =
            format!("{COOKIE}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::try_from(text).expect("a cookie is of visible letters")
    }
}

fn signed_text(until_s: u64) -> String {
    format!("{PURPOSE}{until_s}")
}

/// Whether the value of a cookie was signed by us and has not run out.
fn is_valid(key: &hmac::Key, value: &str, now_s: u64) -> bool {
    let Some((until, signature)) = value.split_once('.') else { return false };
    let (Ok(until_s), Some(signature)) = (until.parse::<u64>(), from_hex(signature)) else {
        return false;
    };
    now_s < until_s && hmac::verify(key, signed_text(until_s).as_bytes(), &signature).is_ok()
}

fn as_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Whether a request comes from a page of this server, or from no page: a cookie alone lets no
/// other page on this machine act in the reader's name.
pub(super) fn is_from_own_page(request: &HeaderMap) -> bool {
    let text = |name| request.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else { return true };
    let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    text(header::HOST).is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

/// Describes the paths of sessions as OpenAPI 3.1.
#[must_use]
pub fn session_openapi() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(paths(session_state, begin_session, end_session))]
    struct SessionPaths;
    <SessionPaths as utoipa::OpenApi>::openapi()
}

/// `POST` begins a session, `GET` says whether there is one, `DELETE` ends it.
pub(super) fn session_routes(sessions: SessionCookies) -> Router {
    let methods = get(session_state).post(begin_session).delete(end_session);
    Router::new().route(PATH, methods).with_state(sessions)
}

/// Reports whether a token or a session is needed, and whether the request has a session.
#[utoipa::path(get, path = "/v1/session", tag = "session", security(()),
    responses((status = 200, body = SessionState)))]
async fn session_state(State(sessions): State<SessionCookies>, request: HeaderMap) -> Response {
    let is_signed_in = sessions.is_signed_in(&request);
    no_store(Json(SessionState { is_required: sessions.key.is_some(), is_signed_in }))
}

/// Begins a session: sets its cookie. Needs the token.
#[utoipa::path(post, path = "/v1/session", tag = "session",
    responses((status = 200, body = SessionState)))]
async fn begin_session(State(sessions): State<SessionCookies>) -> Result<Response, Problem> {
    let is_required = sessions.key.is_some();
    let mut response = no_store(Json(SessionState { is_required, is_signed_in: is_required }));
    if let Some(cookie) = sessions.new_cookie(now_s()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Ends the session: removes its cookie.
#[utoipa::path(delete, path = "/v1/session", tag = "session", security(()),
    responses((status = 200, body = SessionState)))]
async fn end_session(State(sessions): State<SessionCookies>) -> Response {
    let is_required = sessions.key.is_some();
    let mut response = no_store(Json(SessionState { is_required, is_signed_in: false }));
    response.headers_mut().insert(header::SET_COOKIE, sessions.cookie("", 0));
    response
}

fn no_store(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_764_504_000;

    fn with_cookie(text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, text.parse().unwrap());
        headers
    }

    #[test]
    fn a_session_holds_until_its_time_and_with_its_token() {
        let sessions = SessionCookies::new(&"s3cret".into(), true);
        let cookie = sessions.new_cookie(NOW_S).unwrap();
        let text = cookie.to_str().unwrap();
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(text.contains(part), "{text}");
        }
        let own = text.split(';').next().unwrap();
        let check = |sessions: &SessionCookies, cookie: &str, now_s, expect| {
            assert_eq!(sessions.has_valid_cookie(&with_cookie(cookie), now_s), expect, "{cookie}");
        };
        check(&sessions, own, NOW_S, true);
        check(&sessions, &format!("other=1; {own}"), NOW_S + 86_400, true);
        check(&sessions, own, NOW_S + SESSION_TIME.as_secs(), false);
        check(&SessionCookies::new(&"other".into(), true), own, NOW_S, false);
        check(&SessionCookies::new(&Secret::default(), true), own, NOW_S, false);
        // Neither the time nor the signature can be changed.
        let later = own.replace('=', "=9");
        check(&sessions, &later, NOW_S, false);
        for cookie in ["microclimate_session=", "microclimate_session=1.2", "microclimate_session"]
        {
            check(&sessions, cookie, NOW_S, false);
        }
    }

    #[test]
    fn other_pages_are_told_from_ours() {
        let check = |origin: Option<&str>, expect| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "farm.local:8080".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_from_own_page(&headers), expect, "{origin:?}");
        };
        check(None, true);
        check(Some("https://farm.local:8080"), true);
        check(Some("https://farm.local:3000"), false);
        check(Some("https://evil.example"), false);
        check(Some("null"), false);
    }
}
