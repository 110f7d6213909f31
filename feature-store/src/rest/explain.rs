use axum::{Json, extract::State};
use serde::Deserialize;
use service::rest::{Problem, ProblemDetails, QueryParams};
use telemetry::ZoneId;
use utoipa::IntoParams;

use super::{
    problem::{run_blocking, unknown_zone_problem},
    request_params,
};
use crate::{FeatureStore, explain::Explanation};

/// Largest number of readings in one explanation.
const READINGS_MAX: usize = 10_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExplainParams {
    #[param(value_type = String, example = "farm/bay-1")]
    zone: ZoneId,
    #[param(example = "temperature_mean_1h")]
    feature: String,
    /// Event time: a date, RFC 3339 or UTC ms. The answer has a stored value if this is a time of
    /// the grid.
    at: String,
    /// Largest number of readings; default: 100.
    limit: Option<usize>,
}

/// Explains one value: its window, tiles and readings, the stored revisions, and the value
/// recomputed from the readings.
#[utoipa::path(get, path = "/v1/features/explain", tag = "offline", params(ExplainParams),
    responses((status = 200, body = Explanation), (status = 400, body = ProblemDetails),
        (status = 404, body = ProblemDetails)))]
pub(super) async fn explain(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<ExplainParams>,
) -> Result<Json<Explanation>, Problem> {
    let at_ms = request_params::parse_time(Some(&params.at))?.unwrap_or_default();
    let limit = request_params::resolve_limit(params.limit, 100, READINGS_MAX)?;
    let ExplainParams { zone, feature, .. } = params;
    if !store.zone_summaries().iter().any(|summary| summary.zone == zone) {
        return Err(unknown_zone_problem(&zone));
    }
    let explained = run_blocking(move || store.explain_value(&zone, &feature, at_ms, limit));
    Ok(Json(explained.await?))
}
