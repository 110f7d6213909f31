//! The frame of every HTTP server: bearer token, body and time limits, panics
//! caught, and errors as `{"error": {"code", "message", "hint"}}`.

use std::{net::TcpListener, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
};

use crate::Secret;

/// Largest body of a request, bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest time to the head of an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Paths that need no token, so that supervisors can ask.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// An error as a client sees it. The cause goes to the log, not to the client.
#[derive(Debug, Serialize)]
pub struct Problem {
    #[serde(skip)]
    status: StatusCode,
    /// Stable, for programs.
    code: &'static str,
    /// For people.
    message: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 404: there is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 409: the thing is not in a state for this.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 503: later, perhaps.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 500: our fault; `cause` is logged.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the service failed; its log says why",
        )
    }

    /// The same with a way to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self }))).into_response()
    }
}

/// Serves `routes` on `listener` until `shutdown`, then finishes the requests
/// under way.
///
/// # Errors
/// Where the socket fails.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    token: Secret,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, framed(routes, token))
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

/// `routes` behind the token, the limits and a plain answer for unknown paths.
pub fn framed(routes: Router, token: Secret) -> Router {
    routes
        .fallback(|request: Request| async move {
            Problem::not_found(format!("there is no {} {}", request.method(), request.uri().path()))
        })
        .layer(from_fn_with_state(token, check_token))
        .layer(RequestBodyLimitLayer::new(BODY_BYTES_MAX))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_TIME_MAX))
        .layer(CatchPanicLayer::new())
}

async fn check_token(State(token): State<Secret>, request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let open = token.reveal().is_none() || OPEN_PATHS.contains(&request.uri().path());
    if open || given.is_some_and(|given| token.matches(given)) {
        next.run(request).await
    } else {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is needed")
            .hint("send the header `Authorization: Bearer <token>`")
            .into_response()
    }
}
