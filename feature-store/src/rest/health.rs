//! What supervisors and Prometheus ask.

use std::sync::atomic::Ordering;

use axum::{extract::State, response::IntoResponse};
use service::{
    prometheus::{self, Page, label},
    rest::{Problem, ProblemAnswer},
};

use super::latest::now_ms;
use crate::{Commits, Counts, FeatureStore};

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// Readings are taken in.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, body = String), (status = 503, body = ProblemAnswer)))]
pub(super) async fn readyz(State(store): State<FeatureStore>) -> Result<&'static str, Problem> {
    store.ready().map(|()| "ready")
}

/// Counts for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(store): State<FeatureStore>) -> impl IntoResponse {
    prometheus::answer(store.prometheus())
}

impl FeatureStore {
    /// Whether readings are taken in.
    ///
    /// # Errors
    /// 503 where they are not.
    pub fn ready(&self) -> Result<(), Problem> {
        if self.is_running() {
            return Ok(());
        }
        let hint = "the log of the service says why";
        Err(Problem::unavailable("no readings are taken in").hint(hint))
    }

    /// What has been committed, and how far the zones have come, in Prometheus's text
    /// format.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut page = Page::new("microclimate_feature_store");
        let Counts { by_quality, rejects, rows, corrections, columns, .. } = self.counts();
        let by_quality = by_quality.into_iter();
        let by_quality = by_quality.map(|(quality, count)| (label("quality", quality), count));
        page.family(("readings_total", "counter", "Readings committed, by quality"), by_quality);
        page.one(("rejects_total", "counter", "Log records that held no readings"), rejects);
        page.one(("rows_total", "counter", "Feature rows, each revision counted"), rows);
        let about = ("corrections_total", "counter", "Feature rows made anew by late readings");
        page.one(about, corrections);
        page.one(("columns", "gauge", "Feature columns"), columns);
        let Commits { count, took } = self.commits();
        page.one(("commits_total", "counter", "Transactions committed"), count);
        let about =
            ("commit_seconds_total", "counter", "Time that transactions of this process took");
        page.one(about, took.as_secs_f64());
        let about = ("log_lag_records", "gauge", "Log records still to be taken in");
        page.family(about, self.log_lag().map(|records| (String::new(), records)));
        let about = ("sql_queries_total", "counter", "SQL queries over HTTP, by what came of them");
        let outcomes = self.0.counters.sql.counts();
        page.family(about, outcomes.map(|(outcome, count)| (label("outcome", outcome), count)));
        let zones = self.zones();
        page.one(("zones", "gauge", "Zones in memory"), zones.len());
        let evicted = self.0.counters.evicted_zones.load(Ordering::Relaxed);
        let about = ("zones_evicted_total", "counter", "Zones put away because there were many");
        page.one(about, evicted);
        let now_ms = now_ms();
        let lag = |at_ms: Option<i64>| at_ms.map(|at_ms| (now_ms - at_ms) as f64 / 1000.0);
        let newest = lag(zones.iter().filter_map(|zone| zone.latest_ms).max());
        let about = ("newest_age_seconds", "gauge", "Age of the newest event of any zone");
        page.family(about, newest.map(|age_s| (String::new(), age_s)));
        let behind = zones.iter().filter_map(|zone| Some(zone.latest_ms? - zone.final_ms?)).max();
        let about = (
            "final_lag_seconds_max",
            "gauge",
            "Newest event less the newest final row of its zone",
        );
        page.family(about, behind.map(|ms| (String::new(), ms as f64 / 1000.0)));
        page.one(
            ("running", "gauge", "Whether readings are taken in"),
            u8::from(self.is_running()),
        );
        page.finish()
    }
}
