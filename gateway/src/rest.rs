//! The HTTP interface.

use std::{collections::BTreeMap, fmt::Write as _, sync::atomic::Ordering};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::IntoResponse,
    routing::get,
};
use serde::{Deserialize, Serialize};
use service::rest::Problem;
use telemetry::Reason;

use crate::{
    dead_letters::Shown,
    gateway::{Gateway, Inner},
    ledger::{Counts, Snapshot},
};

/// Dead letters of an answer, unless `limit` says otherwise.
const LIMIT_DEFAULT: usize = 100;

pub(crate) fn routes(gateway: Gateway) -> Router {
    Router::new()
        .route("/ledger", get(ledger))
        .route("/dead-letters", get(dead_letters))
        .with_state(gateway)
}

/// The routes of a gateway that runs by itself.
pub(crate) fn service_routes(gateway: Gateway) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .with_state(gateway.clone())
        .merge(routes(gateway))
}

async fn ledger(State(gateway): State<Gateway>) -> Json<Snapshot> {
    Json(gateway.ledger())
}

/// The answer of `/dead-letters`.
#[derive(Serialize)]
struct DeadLettersPage {
    dead_letters: Vec<Shown>,
    /// Messages since the start of the process.
    by_reason: BTreeMap<Reason, u64>,
}

#[derive(Deserialize)]
struct Page {
    limit: Option<usize>,
}

async fn dead_letters(
    State(gateway): State<Gateway>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<DeadLettersPage>, Problem> {
    let Query(page) =
        page.map_err(|e| Problem::bad_request(e.body_text()).hint("as in ?limit=20"))?;
    let dead_letters = gateway.dead_letters(page.limit.unwrap_or(LIMIT_DEFAULT));
    Ok(Json(DeadLettersPage { dead_letters, by_reason: gateway.0.dead_letters.by_reason() }))
}

async fn readyz(State(gateway): State<Gateway>) -> Result<&'static str, Problem> {
    if gateway.0.is_ready.load(Ordering::Relaxed) {
        Ok("ready")
    } else {
        Err(Problem::unavailable("no messages are taken now; the log says why"))
    }
}

async fn metrics_text(State(gateway): State<Gateway>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics(&gateway))
}

/// Prometheus' text format, version 0.0.4.
pub(crate) fn metrics(gateway: &Gateway) -> String {
    let Inner { connections, downlink, dead_letters, is_ready, .. } = &*gateway.0;
    let Snapshot { messages, lost_sessions, totals, devices, .. } = gateway.ledger();
    let Counts { received, logged, dead_lettered, duplicates, in_flight, .. } = totals;
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, String)]| {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "# HELP microclimate_gateway_{name} {help}\n# TYPE microclimate_gateway_{name} {kind}"
        );
        for (labels, value) in samples {
            let _ = writeln!(text, "microclimate_gateway_{name}{labels} {value}");
        }
    };
    let one = |value: u64| [("", value.to_string())];
    family("messages_total", "counter", "MQTT messages that came", &one(messages));
    family("readings_received_total", "counter", "Readings that came", &one(received));
    let outcomes =
        [("logged", logged), ("dead_lettered", dead_lettered), ("duplicate", duplicates)]
            .map(|(name, count)| (format!("{{outcome=\"{name}\"}}"), count.to_string()));
    let outcomes = outcomes.each_ref().map(|(label, count)| (label.as_str(), count.clone()));
    family("readings_total", "counter", "Readings settled, by outcome", &outcomes);
    family("readings_in_flight", "gauge", "Readings not yet durable", &one(in_flight));
    let unaccounted = [("", totals.unaccounted.to_string())];
    family("readings_unaccounted", "gauge", "Readings lost: must be 0", &unaccounted);
    let reasons: Vec<_> = dead_letters.by_reason().into_iter().collect();
    let labels: Vec<_> =
        reasons.iter().map(|(reason, _)| format!("{{reason=\"{reason}\"}}")).collect();
    let samples =
        labels.iter().zip(&reasons).map(|(label, (_, count))| (label.as_str(), count.to_string()));
    family("dead_letters_total", "counter", "Messages, by reason", &samples.collect::<Vec<_>>());
    family(
        "sequence_gaps",
        "gauge",
        "Numbers missing in the devices' counting",
        &one(totals.sequence_gaps),
    );
    family(
        "device_resets_total",
        "counter",
        "Times that devices began to count anew",
        &one(totals.resets),
    );
    family(
        "lost_sessions_total",
        "counter",
        "MQTT sessions that a broker lost",
        &one(lost_sessions),
    );
    family("devices", "gauge", "Devices seen", &one(devices.len() as u64));
    family(
        "connections",
        "gauge",
        "MQTT clients connected",
        &one(connections.load(Ordering::Relaxed) as u64),
    );
    family(
        "downlink_missed_total",
        "counter",
        "Messages that slow subscribers missed",
        &one(downlink.missed()),
    );
    family(
        "ready",
        "gauge",
        "Whether messages are taken",
        &one(is_ready.load(Ordering::Relaxed).into()),
    );
    text
}
