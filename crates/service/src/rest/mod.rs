//! The frame of every HTTP server. Errors are problem details (RFC 9457).
//!
//! # Layout
//! - `config`: the settings, and when a server refuses to listen
//! - `middleware`: the checks before every route: host, token, size, time
//! - `problem`: errors as clients see them
//! - `server`: connections, TLS, limits, shutdown
//! - this file: inputs of handlers

mod config;
mod middleware;
mod problem;
mod server;
mod session;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;

pub use config::{RestConfig, RestTlsConfig, ServeOptions};
pub(crate) use middleware::OPEN_PATHS;
pub use middleware::with_middleware;
pub use problem::{PROBLEM_TYPE, Problem, ProblemDetails};
pub use server::{PeerAddress, is_connection_error, serve_routes};
pub(crate) use session::COOKIE as SESSION_COOKIE;
pub use session::session_openapi;

/// Largest body of a request, bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

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
        let bad_body = |what: String| Problem::bad_request(what).with_code("bad_body");
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let is_json = kind.is_some_and(|kind| {
            let essence = kind.split(';').next().unwrap_or_default().trim();
            essence == "application/json" || essence.ends_with("+json")
        });
        if !is_json {
            let what = "Expected request with `Content-Type: application/json`";
            return Err(bad_body(what.to_owned()));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return Problem::too_large(format!("the body is above {BODY_BYTES_MAX} bytes"));
            }
            bad_body(rejection.body_text())
        })?;
        // A struct would be read from an array too, by position.
        if bytes.trim_ascii_start().first() == Some(&b'[') {
            return Err(bad_body("the body is an array, expected an object".to_owned()));
        }
        match Json::from_bytes(&bytes) {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(bad_body(rejection.body_text())),
        }
    }
}
