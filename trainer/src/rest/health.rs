//! Health and metrics, for supervisors and Prometheus.

use axum::{extract::State, response::IntoResponse};
use service::{
    prometheus,
    rest::{Problem, ProblemDetails},
};

use crate::{serve::Trainer, tasks::NAMES};

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// Some task has a champion, and the feature store can be reached.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, body = String), (status = 503, body = ProblemDetails)))]
pub(super) async fn readyz(State(trainer): State<Trainer>) -> Result<&'static str, Problem> {
    if !NAMES.iter().any(|name| trainer.champion(name).is_some()) {
        let hint = "`trainer compare` trains and selects one";
        return Err(Problem::unavailable("no task has a champion yet").with_hint(hint));
    }
    match trainer.zones().await {
        Ok(_) => Ok("ready"),
        Err(error) => Err(Problem::unavailable(error.to_string())),
    }
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(trainer): State<Trainer>) -> impl IntoResponse {
    prometheus::metrics_response(trainer.metrics())
}
