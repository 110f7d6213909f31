//! Endpoints for supervisors and Prometheus.

use std::sync::atomic::Ordering;

use axum::{extract::State, response::IntoResponse};
use service::{
    prometheus::{self, MetricsPage, format_label},
    rest::{Problem, ProblemDetails},
};

use telemetry::QualityFlag;

use super::latest::now_ms;
use crate::{CommitTotals, CommittedCounts, FeatureStore};

/// Number of zones with series of their own, so that the page stays small whatever is sent.
const ZONES_IN_METRICS_MAX: usize = 500;

/// Whether the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// Whether readings are ingested.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, body = String), (status = 503, body = ProblemDetails)))]
pub(super) async fn readyz(State(store): State<FeatureStore>) -> Result<&'static str, Problem> {
    store.check_ready().map(|()| "ready")
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(store): State<FeatureStore>) -> impl IntoResponse {
    prometheus::metrics_response(store.render_prometheus())
}

impl FeatureStore {
    /// Checks that readings are ingested.
    ///
    /// # Errors
    /// Fails with status 503 if they are not.
    pub fn check_ready(&self) -> Result<(), Problem> {
        if self.is_running() {
            return Ok(());
        }
        let hint = "the service's log has the reason";
        Err(Problem::unavailable("no readings are ingested").with_hint(hint))
    }

    /// Renders committed counts and the progress of zones in Prometheus's text format.
    #[must_use]
    pub fn render_prometheus(&self) -> String {
        let mut page = MetricsPage::new("microclimate_feature_store");
        let CommittedCounts { by_quality, rejects, rows, corrections, columns, .. } =
            self.committed_counts();
        // Each from the start, so that the first reading of a quality is an increase.
        let labelled_counts = QualityFlag::ALL.iter().map(|quality| {
            let count = by_quality.get(quality.as_str()).copied().unwrap_or_default();
            (format_label("quality", quality.as_str()), count)
        });
        page.add_family(
            ("readings_total", "counter", "Readings committed, by quality"),
            labelled_counts,
        );
        page.add_metric(("rejects_total", "counter", "Log records that held no readings"), rejects);
        page.add_metric(("rows_total", "counter", "Feature rows, each revision counted"), rows);
        let about =
            ("corrections_total", "counter", "Feature rows recomputed because of late readings");
        page.add_metric(about, corrections);
        page.add_metric(("columns", "gauge", "Feature columns"), columns);
        let CommitTotals { count, took } = self.commit_totals();
        page.add_metric(("commits_total", "counter", "Transactions committed"), count);
        let about =
            ("commit_seconds_total", "counter", "Time that transactions of this process took");
        page.add_metric(about, took.as_secs_f64());
        let about = ("log_lag_records", "gauge", "Log records not ingested yet");
        page.add_family(about, self.log_lag().map(|records| (String::new(), records)));
        let about = ("sql_queries_total", "counter", "SQL queries over HTTP, by outcome");
        let outcomes = self.0.counters.sql.iter_counts();
        page.add_family(
            about,
            outcomes.map(|(outcome, count)| (format_label("outcome", outcome), count)),
        );
        let mut zones = self.zone_summaries();
        zones.sort_unstable_by(|a, b| a.zone.cmp(&b.zone));
        page.add_metric(("zones", "gauge", "Zones in memory"), zones.len());
        let evicted = self.0.counters.evicted_zones.load(Ordering::Relaxed);
        let about = ("zones_evicted_total", "counter", "Zones evicted from memory");
        page.add_metric(about, evicted);
        let now_ms = now_ms();
        let lag = |at_ms: Option<i64>| at_ms.map(|at_ms| (now_ms - at_ms) as f64 / 1000.0);
        let newest = lag(zones.iter().filter_map(|zone| zone.latest_ms).max());
        let about = ("newest_age_seconds", "gauge", "Age of the newest event of any zone");
        page.add_family(about, newest.map(|age_s| (String::new(), age_s)));
        let oldest = lag(zones.iter().filter_map(|zone| zone.latest_ms).min());
        let about =
            ("oldest_zone_age_seconds", "gauge", "Age of the most silent zone's newest event");
        page.add_family(about, oldest.map(|age_s| (String::new(), age_s)));
        let about =
            ("zone_age_seconds", "gauge", "Age of a zone's newest event; the first zones by name");
        let ages = zones
            .iter()
            .take(ZONES_IN_METRICS_MAX)
            .filter_map(|zone| Some((format_label("zone", &zone.zone), lag(zone.latest_ms)?)));
        page.add_family(about, ages);
        let behind = zones.iter().filter_map(|zone| Some(zone.latest_ms? - zone.final_ms?)).max();
        let about = (
            "final_lag_seconds_max",
            "gauge",
            "Newest event less the newest final row of its zone",
        );
        page.add_family(about, behind.map(|ms| (String::new(), ms as f64 / 1000.0)));
        page.add_metric(
            ("running", "gauge", "Whether readings are ingested"),
            u8::from(self.is_running()),
        );
        page.into_text()
    }
}
