//! The frame of every HTTP server. Errors have the form `{"error": {"code", "message", "hint"}}`.
//!
//! # Layout
//! - `config`: the settings, and when a server refuses to listen
//! - `middleware`: the checks before every route: host, token, size, time
//! - `server`: connections, TLS, limits, shutdown
//! - this file: errors and inputs of handlers

mod config;
mod middleware;
mod server;
mod session;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

pub use config::{RestConfig, RestTlsConfig, ServeOptions};
pub use middleware::with_middleware;
pub use server::{PeerAddress, is_connection_error, serve_routes};

/// Largest body of a request, bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// An error as a client sees it. The cause goes to the log, not to the client.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    #[serde(skip)]
    status: StatusCode,
    /// Stable code, for programs.
    code: &'static str,
    /// Message, for people.
    message: String,
    /// How to fix the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// The body of every error response.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemAnswer {
    error: Problem,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 404: the requested thing does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 409: the thing is not in a state that permits the request.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 503: the request may succeed later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    /// 500: the service failed. `cause` is logged.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the service failed; its log says why",
        )
    }

    /// 413: the request asks for more than one response may hold.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// Replaces the code by a more specific one, for programs.
    #[must_use]
    pub const fn with_code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Adds a hint that states how to fix the problem.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(ProblemAnswer { error: self })).into_response()
    }
}

/// The query of a request. A mistake in it becomes a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub struct QueryParams<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => {
                Err(Problem::bad_request(rejection.body_text()).with_code("bad_query"))
            }
        }
    }
}

/// The JSON body of a request. A mistake in it becomes a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::too_large(format!("the body is above {BODY_BYTES_MAX} bytes")))
            }
            Err(rejection) => {
                Err(Problem::bad_request(rejection.body_text()).with_code("bad_body"))
            }
        }
    }
}
