//! The REST interface.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    response::IntoResponse,
};
use eventlog::{SpoolStatus, TopicStorage};
use serde::{Deserialize, Serialize};
use service::{
    prometheus,
    rest::{JsonBody, Problem, ProblemDetails},
};
use telemetry::DeadLetterReason;
use utoipa::{IntoParams, ToSchema, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    dead_letters::{DeadLetterSelection, DeadLetterSummary, ReinjectOutcome},
    duplicates::DuplicateMessage,
    gateway::Gateway,
    http_readings,
    ledger::LedgerSnapshot,
    metrics::render_metrics,
};

/// Default number of dead letters in a response.
const LIMIT_DEFAULT: usize = 100;
/// Largest number of dead letters or duplicates in a response.
const LIMIT_MAX: usize = 100_000;

/// Builds the routes of the gateway, to be merged with those of other services.
pub(crate) fn ledger_routes(gateway: Gateway) -> Router {
    Router::from(ledger_paths().with_state(gateway.clone()))
        .merge(http_readings::readings_routes(gateway))
}

/// Builds the routes of a gateway that runs by itself.
pub(crate) fn service_routes(gateway: Gateway) -> Router {
    let mut document = openapi();
    document.merge(operation_paths().into_openapi());
    Router::from(operation_paths().with_state(gateway.clone()))
        .merge(ledger_routes(gateway))
        .merge(service::openapi::openapi_routes(service::openapi::complete_document(document)))
}

/// Describes the paths of the gateway, without those for supervisors, as OpenAPI 3.1.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = ledger_paths().into_openapi();
    document.merge(http_readings::openapi());
    "Microclimate gateway".clone_into(&mut document.info.title);
    document.info.description = Some(
        "Readings by HTTP, and the account of every message that was received. Times are UTC."
            .to_owned(),
    );
    document
}

fn ledger_paths() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(get_ledger))
        .routes(routes!(list_duplicates))
        .routes(routes!(list_dead_letters))
        .routes(routes!(reinject_dead_letters))
}

fn operation_paths() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(metrics_text))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
}

/// Checks the requested number of items.
fn resolve_limit(requested: Option<usize>) -> Result<usize, Problem> {
    match requested {
        None => Ok(LIMIT_DEFAULT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Some(limit) => {
            Err(Problem::bad_request(format!("limit = {limit} is not 1 to {LIMIT_MAX}")))
        }
    }
}

/// The response of `/ledger`.
#[derive(Serialize, ToSchema)]
struct LedgerPage {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    ledger: LedgerSnapshot,
    /// The disk usage of each topic of the embedded log.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Object>)]
    topics: BTreeMap<String, TopicStorage>,
    /// The records of each topic's spool that Kafka does not have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Object>)]
    spools: BTreeMap<String, SpoolStatus>,
}

/// The ledger: what became of every message, in all and by device; disk usage and spools.
#[utoipa::path(get, path = "/ledger", tag = "gateway",
    responses((status = 200, body = LedgerPage)))]
async fn get_ledger(State(gateway): State<Gateway>) -> Result<Json<LedgerPage>, Problem> {
    let log = &gateway.0.log;
    let topics = log.topic_storage().map_err(Problem::internal)?;
    Ok(Json(LedgerPage { ledger: gateway.ledger_snapshot(), topics, spools: log.spool_statuses() }))
}

/// The response of `/duplicates`.
#[derive(Serialize, ToSchema)]
struct DuplicatesPage {
    duplicates: Vec<DuplicateMessage>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DuplicatesQuery {
    /// Only copies from this device.
    device: Option<String>,
    /// Largest number of copies, 100 without it.
    limit: Option<usize>,
}

/// The latest messages that were acknowledged but not logged, because their originals were.
#[utoipa::path(get, path = "/duplicates", tag = "gateway", params(DuplicatesQuery),
    responses((status = 200, body = DuplicatesPage), (status = 400, body = ProblemDetails)))]
async fn list_duplicates(
    State(gateway): State<Gateway>,
    query: Result<Query<DuplicatesQuery>, QueryRejection>,
) -> Result<Json<DuplicatesPage>, Problem> {
    let Query(query) = query.map_err(|e| {
        Problem::bad_request(e.body_text()).with_hint("as in ?device=probe&limit=20")
    })?;
    let limit = resolve_limit(query.limit)?;
    Ok(Json(DuplicatesPage {
        duplicates: gateway.latest_duplicates(query.device.as_deref(), limit),
    }))
}

/// The response of `/dead-letters`.
#[derive(Serialize, ToSchema)]
struct DeadLettersPage {
    dead_letters: Vec<DeadLetterSummary>,
    /// Dead letters since the start of the process, by reason.
    #[schema(value_type = BTreeMap<String, u64>)]
    by_reason: BTreeMap<DeadLetterReason, u64>,
    /// Dead letters since the start of the process that repeated others and were not stored.
    #[schema(value_type = BTreeMap<String, u64>)]
    repeated: BTreeMap<DeadLetterReason, u64>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeadLettersQuery {
    /// Largest number of dead letters, 100 without it.
    limit: Option<usize>,
}

/// The latest messages that could not be decoded, and their number by reason.
#[utoipa::path(get, path = "/dead-letters", tag = "gateway", params(DeadLettersQuery),
    responses((status = 200, body = DeadLettersPage), (status = 400, body = ProblemDetails)))]
async fn list_dead_letters(
    State(gateway): State<Gateway>,
    page: Result<Query<DeadLettersQuery>, QueryRejection>,
) -> Result<Json<DeadLettersPage>, Problem> {
    let Query(page) =
        page.map_err(|e| Problem::bad_request(e.body_text()).with_hint("as in ?limit=20"))?;
    let dead_letters = gateway.latest_dead_letters(resolve_limit(page.limit)?);
    let letters = &gateway.0.dead_letters;
    let (by_reason, repeated) = (letters.counts_by_reason(), letters.repeat_counts());
    Ok(Json(DeadLettersPage { dead_letters, by_reason, repeated }))
}

/// Decodes dead letters again, with the present configuration, and logs those that are readings
/// now.
#[utoipa::path(post, path = "/dead-letters/reinject", tag = "gateway",
    request_body = DeadLetterSelection,
    responses((status = 200, body = ReinjectOutcome), (status = 400, body = ProblemDetails)))]
async fn reinject_dead_letters(
    State(gateway): State<Gateway>,
    selection: Result<JsonBody<DeadLetterSelection>, Problem>,
) -> Result<Json<ReinjectOutcome>, Problem> {
    let JsonBody(selection) =
        selection.map_err(|problem| problem.with_hint(r#"as in {"reason": "unknown_metric"}"#))?;
    gateway.reinject_dead_letters(&selection).await.map(Json).map_err(Problem::internal)
}

/// The response of `/healthz`.
#[derive(Serialize, ToSchema)]
struct HealthAnswer {
    /// `ok`, `degraded` (Kafka is away and the spool stores records) or `full` (nothing is
    /// acknowledged, because the spool is at its limit or the disk is full).
    status: &'static str,
    #[schema(value_type = BTreeMap<String, Object>)]
    spools: BTreeMap<String, SpoolStatus>,
}

/// Reports that the process lives, whatever the state of its surroundings.
#[utoipa::path(get, path = "/healthz", tag = "operation",
    responses((status = 200, body = HealthAnswer)))]
async fn healthz(State(gateway): State<Gateway>) -> Json<HealthAnswer> {
    let spools = gateway.0.log.spool_statuses();
    let is_disk_full = gateway.0.log.is_disk_full();
    let status = if is_disk_full || spools.values().any(|spool| spool.is_full) {
        "full"
    } else if spools.values().any(|spool| !spool.is_direct && spool.records > 0) {
        "degraded"
    } else {
        "ok"
    };
    Json(HealthAnswer { status, spools })
}

/// Reports whether messages are accepted.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, body = String), (status = 503, body = ProblemDetails)))]
async fn readyz(State(gateway): State<Gateway>) -> Result<&'static str, Problem> {
    gateway.check_ready().map(|()| "ready")
}

impl Gateway {
    /// Checks whether messages are accepted.
    ///
    /// # Errors
    /// 503 with the obstacle: a full spool or disk, no broker, or no listener yet.
    pub fn check_ready(&self) -> Result<(), Problem> {
        if let Some((topic, _)) =
            self.0.log.spool_statuses().iter().find(|(_, spool)| spool.is_full)
        {
            let what =
                format!("Kafka is away and the spool of {topic} is full: no messages are accepted");
            return Err(Problem::unavailable(what)
                .with_hint("bring Kafka back, or raise log.spool.bytes_max"));
        }
        if self.0.log.is_disk_full() {
            let what = "the disk has no room for the log: no messages are accepted until it has";
            return Err(Problem::unavailable(what)
                .with_hint("make room (`df -h`), or let the log keep less: log.retention"));
        }
        if self.0.is_ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(Problem::unavailable("no messages are accepted now; the log says why"))
        }
    }
}

/// Counts, times and sizes for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics_text(State(gateway): State<Gateway>) -> impl IntoResponse {
    prometheus::metrics_response(render_metrics(&gateway))
}
