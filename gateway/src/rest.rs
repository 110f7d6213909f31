//! The REST interface.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use axum::{
    Json, Router,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    response::IntoResponse,
    routing::{get, post},
};
use eventlog::{SpoolStatus, TopicStorage};
use serde::{Deserialize, Serialize};
use service::{prometheus, rest::Problem};
use telemetry::DeadLetterReason;

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

pub(crate) fn ledger_routes(gateway: Gateway) -> Router {
    Router::new()
        .route("/ledger", get(get_ledger))
        .route("/duplicates", get(list_duplicates))
        .route("/dead-letters", get(list_dead_letters))
        .route("/dead-letters/reinject", post(reinject_dead_letters))
        .with_state(gateway.clone())
        .merge(http_readings::readings_routes(gateway))
}

/// Builds the routes of a gateway that runs by itself.
pub(crate) fn service_routes(gateway: Gateway) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(gateway.clone())
        .merge(ledger_routes(gateway))
}

/// The response of `/ledger`.
#[derive(Serialize)]
struct LedgerPage {
    #[serde(flatten)]
    ledger: LedgerSnapshot,
    /// The disk usage of each topic of the embedded log.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    topics: BTreeMap<String, TopicStorage>,
    /// The records of each topic's spool that Kafka does not have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    spools: BTreeMap<String, SpoolStatus>,
}

async fn get_ledger(State(gateway): State<Gateway>) -> Result<Json<LedgerPage>, Problem> {
    let log = &gateway.0.log;
    let topics = log.topic_storage().map_err(Problem::internal)?;
    Ok(Json(LedgerPage { ledger: gateway.ledger_snapshot(), topics, spools: log.spool_statuses() }))
}

/// The response of `/duplicates`.
#[derive(Serialize)]
struct DuplicatesPage {
    duplicates: Vec<DuplicateMessage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DuplicatesQuery {
    device: Option<String>,
    limit: Option<usize>,
}

async fn list_duplicates(
    State(gateway): State<Gateway>,
    query: Result<Query<DuplicatesQuery>, QueryRejection>,
) -> Result<Json<DuplicatesPage>, Problem> {
    let Query(query) = query.map_err(|e| {
        Problem::bad_request(e.body_text()).with_hint("as in ?device=probe&limit=20")
    })?;
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    Ok(Json(DuplicatesPage {
        duplicates: gateway.latest_duplicates(query.device.as_deref(), limit),
    }))
}

/// The response of `/dead-letters`.
#[derive(Serialize)]
struct DeadLettersPage {
    dead_letters: Vec<DeadLetterSummary>,
    /// Dead letters since the start of the process, by reason.
    by_reason: BTreeMap<DeadLetterReason, u64>,
    /// Dead letters since the start of the process that repeated others and were not stored.
    repeated: BTreeMap<DeadLetterReason, u64>,
}

#[derive(Deserialize)]
struct DeadLettersQuery {
    limit: Option<usize>,
}

async fn list_dead_letters(
    State(gateway): State<Gateway>,
    page: Result<Query<DeadLettersQuery>, QueryRejection>,
) -> Result<Json<DeadLettersPage>, Problem> {
    let Query(page) =
        page.map_err(|e| Problem::bad_request(e.body_text()).with_hint("as in ?limit=20"))?;
    let dead_letters = gateway.latest_dead_letters(page.limit.unwrap_or(LIMIT_DEFAULT));
    let letters = &gateway.0.dead_letters;
    let (by_reason, repeated) = (letters.counts_by_reason(), letters.repeat_counts());
    Ok(Json(DeadLettersPage { dead_letters, by_reason, repeated }))
}

async fn reinject_dead_letters(
    State(gateway): State<Gateway>,
    selection: Result<Json<DeadLetterSelection>, JsonRejection>,
) -> Result<Json<ReinjectOutcome>, Problem> {
    let Json(selection) = selection.map_err(|e| {
        Problem::bad_request(e.body_text()).with_hint(r#"as in {"reason": "unknown_metric"}"#)
    })?;
    gateway.reinject_dead_letters(&selection).await.map(Json).map_err(Problem::internal)
}

/// The response of `/healthz`.
#[derive(Serialize)]
struct HealthAnswer {
    /// `ok`, `degraded` (Kafka is away and the spool stores records) or `full` (nothing is
    /// acknowledged, because the spool is at its limit or the disk is full).
    status: &'static str,
    spools: BTreeMap<String, SpoolStatus>,
}

/// Reports that the process lives, whatever the state of its surroundings.
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

async fn metrics_text(State(gateway): State<Gateway>) -> impl IntoResponse {
    prometheus::metrics_response(render_metrics(&gateway))
}
