use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Problem, ProblemDetails, QueryParams};
use utoipa::{IntoParams, ToSchema};

use super::{
    problem::run_blocking,
    request_params::{self, EventSpan},
};
use crate::{
    FeatureStore, FrameQuery, RevisionMode, StoreError,
    statistics::{FeatureDrift, FeatureHistogram, FeatureValueSummary},
};

/// Default distance between rows, seconds: rows that are closer together add little information.
const STEP_S: i64 = 600;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatisticsParams {
    /// Features, separated by commas; default: all features.
    names: Option<String>,
    /// Zones, separated by commas; default: all zones.
    zones: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    span: EventSpan,
    /// Only rows whose time is a multiple of this, seconds; default: 600.
    step_s: Option<i64>,
    /// Revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: RevisionMode,
}

/// Statistics of features over a span.
#[derive(Serialize, ToSchema)]
pub(super) struct Statistics {
    /// Statistics by feature name.
    statistics: BTreeMap<String, FeatureValueSummary>,
}

/// Count, missing values, mean, standard deviation and quantiles of features over a span.
#[utoipa::path(get, path = "/v1/features/statistics", tag = "statistics", params(StatisticsParams, EventSpan),
    responses((status = 200, body = Statistics), (status = 400, body = ProblemDetails),
        (status = 413, body = ProblemDetails)))]
pub(super) async fn statistics(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<StatisticsParams>,
) -> Result<Json<Statistics>, Problem> {
    let span = params.span.bounds_ms(&store.time_zone())?;
    let names = request_params::parse_names(params.names.as_deref())?;
    let query = build_frame_query(params.zones.as_deref(), span, names, params.step_s)?;
    let compute = move || {
        let values = store.read_feature_values(&query, params.mode)?.into_iter();
        Ok(values
            .map(|mut feature| {
                (
                    feature.name,
                    FeatureValueSummary::from_values(&mut feature.values, feature.missing),
                )
            })
            .collect())
    };
    Ok(Json(Statistics { statistics: run_blocking(compute).await? }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistogramParams {
    /// Name of the feature.
    name: String,
    /// Number of bins; default: 20.
    #[param(minimum = 1, maximum = 1000)]
    bins: Option<usize>,
    /// Zones, separated by commas; default: all zones.
    zones: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    span: EventSpan,
    /// Only rows whose time is a multiple of this, seconds; default: 600.
    step_s: Option<i64>,
    /// Revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: RevisionMode,
}

/// Histogram of one feature, in bins of equal width.
#[utoipa::path(get, path = "/v1/features/histogram", tag = "statistics", params(HistogramParams, EventSpan),
    responses((status = 200, body = FeatureHistogram), (status = 400, body = ProblemDetails),
        (status = 413, body = ProblemDetails)))]
pub(super) async fn histogram(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<HistogramParams>,
) -> Result<Json<FeatureHistogram>, Problem> {
    let span = params.span.bounds_ms(&store.time_zone())?;
    let bins = params.bins.unwrap_or(20);
    if !(1..=1000).contains(&bins) {
        return Err(Problem::bad_request(format!("bins = {bins} is not 1 to 1000")));
    }
    let query =
        build_frame_query(params.zones.as_deref(), span, Some(vec![params.name]), params.step_s)?;
    let compute = move || {
        let values = store.read_feature_values(&query, params.mode)?;
        Ok(FeatureHistogram::from_values(
            values.first().map_or(&[], |feature| &feature.values),
            bins,
        ))
    };
    Ok(Json(run_blocking(compute).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DriftParams {
    /// Features, separated by commas; default: all features.
    names: Option<String>,
    /// Zones, separated by commas; default: all zones.
    zones: Option<String>,
    /// Start of the compared span, included: a date, RFC 3339 or UTC ms.
    from: String,
    /// End of the compared span, included.
    to: String,
    /// Start of the baseline span, included.
    baseline_from: String,
    /// End of the baseline span, included.
    baseline_to: String,
    /// Only rows whose time is a multiple of this, seconds; default: 600. The p-values assume
    /// independent rows, which rows near one another are not.
    step_s: Option<i64>,
    /// Revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: RevisionMode,
}

/// Drift of features between a baseline and a span.
#[derive(Serialize, ToSchema)]
pub(super) struct Drifts {
    /// Version of the formulas and their parameters.
    version: u32,
    /// Drift by feature name.
    drift: BTreeMap<String, FeatureDrift>,
}

/// Version of the formulas of [`FeatureDrift`] and their parameters; changes with them.
const DRIFT_VERSION: u32 = 1;

/// Population stability index, Kolmogorov–Smirnov and Wasserstein-1 distance of a span from a
/// baseline.
#[utoipa::path(get, path = "/v1/features/drift", tag = "statistics", params(DriftParams),
    responses((status = 200, body = Drifts), (status = 400, body = ProblemDetails),
        (status = 413, body = ProblemDetails)))]
pub(super) async fn drift(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<DriftParams>,
) -> Result<Json<Drifts>, Problem> {
    let span = (
        request_params::parse_time(Some(&params.from))?,
        request_params::parse_time(Some(&params.to))?,
    );
    let names = request_params::parse_names(params.names.as_deref())?;
    let now = build_frame_query(params.zones.as_deref(), span, names, params.step_s)?;
    let baseline = FrameQuery {
        from_ms: request_params::parse_time(Some(&params.baseline_from))?,
        to_ms: request_params::parse_time(Some(&params.baseline_to))?,
        ..now.clone()
    };
    let compute = move || -> Result<_, StoreError> {
        let before = store.read_feature_values(&baseline, params.mode)?;
        let now = store.read_feature_values(&now, params.mode)?;
        let pairs = before.into_iter().zip(now);
        let drift = pairs.map(|(mut before, mut now)| {
            let drift = FeatureDrift::from_samples(
                (&mut before.values, before.missing),
                (&mut now.values, now.missing),
            );
            (now.name, drift)
        });
        Ok(drift.collect())
    };
    Ok(Json(Drifts { version: DRIFT_VERSION, drift: run_blocking(compute).await? }))
}

/// Builds the query for the rows of a request.
fn build_frame_query(
    zones: Option<&str>,
    (from_ms, to_ms): (Option<i64>, Option<i64>),
    columns: Option<Vec<String>>,
    step_s: Option<i64>,
) -> Result<FrameQuery, Problem> {
    Ok(FrameQuery {
        zones: request_params::parse_zones(zones)?,
        from_ms,
        to_ms,
        columns,
        step_s: request_params::check_step(step_s)?.or(Some(STEP_S)),
        version: None,
    })
}
