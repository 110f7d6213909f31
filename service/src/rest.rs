//! The frame of every HTTP server: bearer token, body and time limits, panics
//! caught, and errors as `{"error": {"code", "message", "hint"}}`.

use std::{net::TcpListener, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRequest, FromRequestParts, Query, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer, limit::RequestBodyLimitLayer, timeout::TimeoutLayer,
};
use utoipa::ToSchema;

use crate::Secret;

/// Largest body of a request, bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest time to the head of an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// Paths that need no token, so that supervisors can ask.
const OPEN_PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// An error as a client sees it. The cause goes to the log, not to the client.
#[derive(Debug, Serialize, ToSchema)]
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

/// The body of every answer that is an error.
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

    /// 413: more was asked for than one answer holds.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    /// The same with a code of its own, for programs.
    #[must_use]
    pub const fn coded(mut self, code: &'static str) -> Self {
        self.code = code;
        self
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
        (self.status, Json(ProblemAnswer { error: self })).into_response()
    }
}

/// The query of a request; what is wrong with it is a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text()).coded("bad_query")),
        }
    }
}

/// The JSON body of a request; what is wrong with it is a [`Problem`].
#[derive(Clone, Copy, Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::too_large(format!("the body is above {BODY_BYTES_MAX} bytes")))
            }
            Err(rejection) => Err(Problem::bad_request(rejection.body_text()).coded("bad_body")),
        }
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
    // An answer in two writes would else wait for the client's acknowledgement.
    let listener = tokio::net::TcpListener::from_std(listener)?.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
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
    let given = text(request.headers(), header::AUTHORIZATION)
        .and_then(|value| value.strip_prefix("Bearer "))
        .or_else(|| token_of_stream(&request));
    let open = token.reveal().is_none() || OPEN_PATHS.contains(&request.uri().path());
    if open || given.is_some_and(|given| token.matches(given)) {
        next.run(request).await
    } else {
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "a bearer token is needed")
            .hint("send the header `Authorization: Bearer <token>`")
            .into_response()
    }
}

/// A browser's `EventSource` can send no header: for a stream of events, and for
/// nothing else, the token may be in the query.
fn token_of_stream(request: &Request) -> Option<&str> {
    if text(request.headers(), header::ACCEPT) != Some("text/event-stream") {
        return None;
    }
    request.uri().query()?.split('&').find_map(|pair| pair.strip_prefix("token="))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
