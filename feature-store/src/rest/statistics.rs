use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Problem, ProblemAnswer, QueryParams};
use utoipa::{IntoParams, ToSchema};

use super::{
    problem::run_blocking,
    request_params::{self, EventSpan},
};
use crate::{
    FeatureStore, FrameQuery, RevisionMode, StoreError,
    statistics::{FeatureDrift, FeatureHistogram, FeatureValueSummary},
};

/// Rows this far apart are taken, unless `step_s` says otherwise: near ones say the
/// same again.
const STEP_S: i64 = 600;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StatisticsParams {
    /// Features, separated by commas; every feature without it.
    names: Option<String>,
    /// Zones, separated by commas; every zone without it.
    zones: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    span: EventSpan,
    /// Only rows whose time is a multiple of this, seconds; 600 without it.
    step_s: Option<i64>,
    /// Which revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: RevisionMode,
}

/// What features look like over a span.
#[derive(Serialize, ToSchema)]
pub(super) struct Statistics {
    /// By feature.
    statistics: BTreeMap<String, FeatureValueSummary>,
}

/// Count, missing, mean, standard deviation and quantiles of features over a span.
#[utoipa::path(get, path = "/v1/features/statistics", tag = "statistics", params(StatisticsParams, EventSpan),
    responses((status = 200, body = Statistics), (status = 400, body = ProblemAnswer),
        (status = 413, body = ProblemAnswer)))]
pub(super) async fn statistics(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<StatisticsParams>,
) -> Result<Json<Statistics>, Problem> {
    let span = params.span.bounds_ms(&store.time_zone())?;
    let names = request_params::parse_names(params.names.as_deref())?;
    let query = build_frame_query(params.zones.as_deref(), span, names, params.step_s)?;
    let of = move || {
        let values = store.read_feature_values(&query, params.mode)?.into_iter();
        Ok(values
            .map(|mut of| (of.name, FeatureValueSummary::from_values(&mut of.values, of.missing)))
            .collect())
    };
    Ok(Json(Statistics { statistics: run_blocking(of).await? }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistogramParams {
    /// The feature.
    name: String,
    /// How many bins, 20 without it.
    bins: Option<usize>,
    /// Zones, separated by commas; every zone without it.
    zones: Option<String>,
    #[serde(flatten)]
    #[param(ignore)]
    span: EventSpan,
    /// Only rows whose time is a multiple of this, seconds; 600 without it.
    step_s: Option<i64>,
    /// Which revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: RevisionMode,
}

/// Counts of one feature in bins of equal width.
#[utoipa::path(get, path = "/v1/features/histogram", tag = "statistics", params(HistogramParams, EventSpan),
    responses((status = 200, body = FeatureHistogram), (status = 400, body = ProblemAnswer),
        (status = 413, body = ProblemAnswer)))]
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
    let of = move || {
        let values = store.read_feature_values(&query, params.mode)?;
        Ok(FeatureHistogram::from_values(values.first().map_or(&[], |of| &of.values), bins))
    };
    Ok(Json(run_blocking(of).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DriftParams {
    /// Features, separated by commas; every feature without it.
    names: Option<String>,
    /// Zones, separated by commas; every zone without it.
    zones: Option<String>,
    /// The span that is judged, this and later: a date, RFC 3339 or UTC ms.
    from: String,
    /// The span that is judged, this and earlier.
    to: String,
    /// The span that it is judged by, this and later.
    baseline_from: String,
    /// The span that it is judged by, this and earlier.
    baseline_to: String,
    /// Only rows whose time is a multiple of this, seconds; 600 without it. Rows near
    /// one another are not independent, and p-values take them to be.
    step_s: Option<i64>,
    /// Which revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: RevisionMode,
}

/// How features of a span differ from those of a baseline.
#[derive(Serialize, ToSchema)]
pub(super) struct Drifts {
    /// Of the formulas and their parameters.
    version: u32,
    /// By feature.
    drift: BTreeMap<String, FeatureDrift>,
}

/// Changes when a formula of [`FeatureDrift`] or a parameter of it does.
const DRIFT_VERSION: u32 = 1;

/// Population stability index, Kolmogorov–Smirnov and Wasserstein-1 of a span against
/// a baseline.
#[utoipa::path(get, path = "/v1/features/drift", tag = "statistics", params(DriftParams),
    responses((status = 200, body = Drifts), (status = 400, body = ProblemAnswer),
        (status = 413, body = ProblemAnswer)))]
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
    let of = move || -> Result<_, StoreError> {
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
    Ok(Json(Drifts { version: DRIFT_VERSION, drift: run_blocking(of).await? }))
}

/// The rows that a request is about.
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
