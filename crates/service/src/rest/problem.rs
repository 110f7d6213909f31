//! Errors as clients see them: problem details (RFC 9457), whatever the origin of the error.

use axum::{
    Json,
    body::to_bytes,
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Media type of problem details.
pub const PROBLEM_TYPE: &str = "application/problem+json";
/// Prefix of the URI that names the type of a problem; its code follows.
const TYPE_PREFIX: &str = "urn:microclimate:problem:";
/// Longest message of a library that is repeated to a client, bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// An error as a client sees it. The cause goes to the log, not to the client.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: Option<String>,
}

/// The body of every error response: problem details as in
/// [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457).
///
/// ```
/// use microclimate_service::rest::{Problem, ProblemDetails};
///
/// let problem = Problem::not_found("there is no task `rain`").with_code("unknown_task");
/// let body = serde_json::to_value(ProblemDetails::from(problem)).unwrap();
/// assert_eq!(body["type"], "urn:microclimate:problem:unknown_task");
/// assert_eq!((body["status"].as_u64(), &body["title"]), (Some(404), &"Not Found".into()));
/// assert_eq!(body["detail"], "there is no task `rain`");
/// ```
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemDetails {
    /// URI of the kind of problem: `urn:microclimate:problem:` and the code.
    #[serde(rename = "type")]
    type_uri: String,
    /// Name of the HTTP status.
    title: &'static str,
    /// HTTP status.
    status: u16,
    /// Message, for people.
    detail: String,
    /// Stable code, for programs.
    code: &'static str,
    /// How to fix the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Code, message and hint once more, as clients of version 0.1 expect them.
    error: ErrorMember,
}

/// The form of errors in version 0.1.
#[derive(Debug, Serialize, ToSchema)]
struct ErrorMember {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
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

    /// Returns the problem of a response that a library made, `text` being its body.
    fn from_library_response(status: StatusCode, text: &str) -> Self {
        let (code, message) = match status {
            StatusCode::METHOD_NOT_ALLOWED => (
                "method_not_allowed",
                "this path has no such method; the header Allow lists its methods",
            ),
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("bad_body", "the body's type is not supported"),
            StatusCode::GATEWAY_TIMEOUT => {
                ("timed_out", "the answer took too long, and the request was given up")
            }
            StatusCode::NOT_FOUND => ("not_found", "there is no such path"),
            status if status.is_server_error() => {
                ("internal", "the service failed; its log says why")
            }
            _ => ("bad_request", "the request cannot be understood"),
        };
        // A library's words about a client's mistake say where it is. Those about a failure of
        // the service are not the client's business.
        let text = text.trim();
        let is_told = status.is_client_error()
            && !text.is_empty()
            && !matches!(status, StatusCode::METHOD_NOT_ALLOWED | StatusCode::PAYLOAD_TOO_LARGE);
        Self::new(status, code, if is_told { text } else { message })
    }
}

impl From<Problem> for ProblemDetails {
    fn from(problem: Problem) -> Self {
        let Problem { status, code, message, hint } = problem;
        Self {
            type_uri: format!("{TYPE_PREFIX}{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: message.clone(),
            code,
            hint: hint.clone(),
            error: ErrorMember { code, message, hint },
        }
    }
}

impl IntoResponse for ProblemDetails {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE))];
        (status, kind, Json(self)).into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        ProblemDetails::from(self).into_response()
    }
}

/// Gives errors of libraries (a method that a path does not have, a body that is too large, a
/// time-out) the form of all other errors.
pub(super) async fn describe_library_errors(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_json(response.headers()) {
        return response;
    }
    let (head, body) = response.into_parts();
    let text = to_bytes(body, TEXT_BYTES_MAX).await.unwrap_or_default();
    let problem = Problem::from_library_response(status, &String::from_utf8_lossy(&text));
    let mut described = problem.into_response();
    for (name, value) in &head.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            described.headers_mut().append(name, value.clone());
        }
    }
    described
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/") && kind.contains("json"))
}
