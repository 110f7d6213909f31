//! Zones, metrics, features and counts.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Problem, ProblemDetails, QueryParams};
use telemetry::{MetricTable, SmolStr, ZoneId};
use utoipa::{IntoParams, ToSchema};

use super::request_params;
use crate::{CommittedCounts, FeatureStore};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// Only items after this one, which is the `next` of the previous answer.
    after: Option<String>,
    /// Largest number of items.
    limit: Option<usize>,
}

/// Zones that have sent readings.
#[derive(Serialize, ToSchema)]
pub(super) struct Zones {
    zones: Vec<ZoneLine>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct ZoneLine {
    /// Zone, as `site/zone`.
    #[schema(value_type = String, example = "farm/bay-1")]
    zone: ZoneId,
    metrics: Vec<ZoneMetric>,
    /// Newest event time, UTC ms.
    latest_ms: Option<i64>,
    /// Time up to which rows are final, UTC ms.
    final_ms: Option<i64>,
    /// Devices whose clocks are off by a constant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clock_offsets: Vec<ClockOffset>,
}

/// A device whose clock is off by a constant.
#[derive(Serialize, ToSchema)]
struct ClockOffset {
    #[schema(value_type = String)]
    device: SmolStr,
    /// How far the clock is ahead of the gateway's, s; negative means behind.
    offset_s: f64,
    /// Setting that corrects it.
    #[schema(example = "engine.clock_offsets_s.\"farm/bay-1/probe\" = 28800")]
    correction: String,
}

#[derive(Serialize, ToSchema)]
struct ZoneMetric {
    #[schema(value_type = String)]
    metric: SmolStr,
    #[schema(value_type = Option<String>)]
    unit: Option<SmolStr>,
}

/// Zones, sorted by name.
#[utoipa::path(get, path = "/v1/zones", tag = "what there is", params(PageParams),
    responses((status = 200, body = Zones), (status = 400, body = ProblemDetails)))]
pub(super) async fn zones(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<PageParams>,
) -> Result<Json<Zones>, Problem> {
    let limit = request_params::resolve_limit(params.limit, store.rows_max(), store.rows_max())?;
    let key = |zone: &crate::ZoneSummary| zone.zone.to_string();
    let mut all = store.zone_summaries();
    all.sort_by_cached_key(key);
    let (page, next) = request_params::page_by_key(all, key, params.after.as_deref(), limit);
    let table = store.metrics();
    let unit = |metric: &SmolStr| table.get(metric).map(|known| known.unit.clone());
    let zones = page.into_iter().map(|zone| ZoneLine {
        metrics: zone
            .metrics
            .into_iter()
            .map(|metric| ZoneMetric { unit: unit(&metric), metric })
            .collect(),
        clock_offsets: zone
            .clock_offsets
            .into_iter()
            .map(|(device, offset_ms)| {
                let offset_s = offset_ms as f64 / 1000.0;
                let zone = &zone.zone;
                let correction =
                    format!("engine.clock_offsets_s.\"{zone}/{device}\" = {}", -offset_s);
                ClockOffset { device, offset_s, correction }
            })
            .collect(),
        zone: zone.zone,
        latest_ms: zone.latest_ms,
        final_ms: zone.final_ms,
    });
    Ok(Json(Zones { zones: zones.collect(), next }))
}

/// Metrics of the site, with their units and plausible ranges.
#[derive(Serialize, ToSchema)]
pub(super) struct Metrics {
    #[schema(value_type = std::collections::BTreeMap<String, Object>)]
    metrics: MetricTable,
}

/// All metrics that readings can have.
#[utoipa::path(get, path = "/v1/metrics", tag = "what there is",
    responses((status = 200, body = Metrics)))]
pub(super) async fn metrics(State(store): State<FeatureStore>) -> Json<Metrics> {
    Json(Metrics { metrics: store.metrics().clone() })
}

/// Names of the features.
#[derive(Serialize, ToSchema)]
pub(super) struct Features {
    /// Hash of all names and definitions; a model refuses any hash but its own.
    #[schema(value_type = String)]
    schema_hash: SmolStr,
    /// Names in the order of columns: `<metric>_<aggregate>_<window>`, `<metric>_last`,
    /// `<metric>_age_s`, and joins.
    features: Vec<String>,
    /// Name of the last of them, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Names of features, in the order of columns.
#[utoipa::path(get, path = "/v1/features", tag = "what there is", params(PageParams),
    responses((status = 200, body = Features), (status = 400, body = ProblemDetails)))]
pub(super) async fn features(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<PageParams>,
) -> Result<Json<Features>, Problem> {
    let limit = request_params::resolve_limit(params.limit, store.rows_max(), store.rows_max())?;
    let schema = store.schema();
    let (features, next) =
        request_params::page_of_names(&schema.names, params.after.as_deref(), limit)?;
    let names = features.iter().map(ToString::to_string).collect();
    Ok(Json(Features { schema_hash: schema.hash.clone(), features: names, next }))
}

/// Totals of all commits since the file was created.
#[utoipa::path(get, path = "/v1/counts", tag = "what there is",
    responses((status = 200, body = CommittedCounts)))]
pub(super) async fn counts(State(store): State<FeatureStore>) -> Json<CommittedCounts> {
    Json(store.committed_counts())
}
