use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Problem, ProblemDetails, QueryParams};
use telemetry::{QualityFlag, ZoneId};
use utoipa::{IntoParams, ToSchema};

use super::{
    problem::run_blocking,
    request_params::{self, EventSpan},
};
use crate::{
    FeatureStore, ReadingCursor, ReadingQuery,
    store::{QualityCount, QualityQuery, ReadingRow},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReadingParams {
    #[param(value_type = Option<String>, example = "farm/bay-1")]
    zone: Option<ZoneId>,
    device: Option<String>,
    metric: Option<String>,
    /// Quality flag: `ok`, `out_of_range`, `stuck`, `spike`, `late`, `future`, `duplicate` or
    /// `not_a_number`.
    #[param(pattern = "^(ok|out_of_range|stuck|spike|late|future|duplicate|not_a_number)$")]
    quality: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    span: EventSpan,
    /// The `next` of the previous answer.
    after: Option<String>,
    /// Largest number of readings; default: 100.
    limit: Option<usize>,
}

/// Readings, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Readings {
    readings: Vec<ReadingRow>,
    /// Value of `after` for the next page, if there are older readings.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Stored readings, including flagged ones, newest first.
#[utoipa::path(get, path = "/v1/readings", tag = "readings", params(ReadingParams, EventSpan),
    responses((status = 200, body = Readings), (status = 400, body = ProblemDetails)))]
pub(super) async fn readings(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<ReadingParams>,
) -> Result<Json<Readings>, Problem> {
    let (from_ms, to_ms) = params.span.bounds_ms(&store.time_zone())?;
    let after: Option<ReadingCursor> = params
        .after
        .map(|after| after.parse())
        .transpose()
        .map_err(|what: String| Problem::bad_request(format!("after: {what}")))?;
    let query = ReadingQuery {
        zone: params.zone,
        device: params.device,
        metric: params.metric,
        quality: params.quality.map(check_quality_name).transpose()?,
        from_ms,
        to_ms,
        after,
        limit: request_params::resolve_limit(params.limit, 100, store.rows_max())?,
    };
    let (readings, next) = run_blocking(move || store.read_readings(&query)).await?;
    Ok(Json(Readings { readings, next: next.map(|next| next.to_string()) }))
}

fn check_quality_name(name: String) -> Result<String, Problem> {
    if QualityFlag::ALL.iter().any(|quality| quality.as_str() == name) {
        return Ok(name);
    }
    let names: Vec<&str> = QualityFlag::ALL.iter().map(|quality| quality.as_str()).collect();
    let hint = format!("there are {}", names.join(", "));
    Err(Problem::bad_request(format!("there is no quality `{name}`")).with_hint(hint))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QualityParams {
    #[param(value_type = Option<String>, example = "farm/bay-1")]
    zone: Option<ZoneId>,
    metric: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    span: EventSpan,
    /// The `next` of the previous answer.
    after: Option<String>,
    /// Largest number of counts; default: 10000.
    limit: Option<usize>,
}

/// Numbers of readings by zone, metric and quality.
#[derive(Serialize, ToSchema)]
pub(super) struct Qualities {
    quality: Vec<QualityCount>,
    /// Value of `after` for the next page, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Numbers of readings by zone, metric and quality flag.
#[utoipa::path(get, path = "/v1/quality", tag = "readings", params(QualityParams, EventSpan),
    responses((status = 200, body = Qualities), (status = 400, body = ProblemDetails)))]
pub(super) async fn quality(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<QualityParams>,
) -> Result<Json<Qualities>, Problem> {
    let (from_ms, to_ms) = params.span.bounds_ms(&store.time_zone())?;
    let query = QualityQuery {
        zone: params.zone,
        metric: params.metric,
        from_ms,
        to_ms,
        after: params.after,
        limit: request_params::resolve_limit(params.limit, 10_000, store.rows_max())?,
    };
    let (quality, next) = run_blocking(move || store.read_quality_counts(&query)).await?;
    Ok(Json(Qualities { quality, next }))
}
