use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Params, Problem, ProblemAnswer};
use utoipa::{IntoParams, ToSchema};

use super::{
    problem::blocking,
    query::{self, Span},
};
use crate::{
    FeatureStore, FrameQuery, Mode, StoreError,
    statistics::{Drift, Histogram, Summary},
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
    span: Span,
    /// Only rows whose time is a multiple of this, seconds; 600 without it.
    step_s: Option<i64>,
    /// Which revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: Mode,
}

/// What features look like over a span.
#[derive(Serialize, ToSchema)]
pub(super) struct Statistics {
    /// By feature.
    statistics: BTreeMap<String, Summary>,
}

/// Count, missing, mean, standard deviation and quantiles of features over a span.
#[utoipa::path(get, path = "/v1/features/statistics", tag = "statistics", params(StatisticsParams, Span),
    responses((status = 200, body = Statistics), (status = 400, body = ProblemAnswer),
        (status = 413, body = ProblemAnswer)))]
pub(super) async fn statistics(
    State(store): State<FeatureStore>,
    Params(params): Params<StatisticsParams>,
) -> Result<Json<Statistics>, Problem> {
    let span = params.span.ms(&store.time_zone())?;
    let names = query::list(params.names.as_deref())?;
    let query = frame(params.zones.as_deref(), span, names, params.step_s)?;
    let of = move || {
        let values = store.values(&query, params.mode)?.into_iter();
        Ok(values.map(|mut of| (of.name, Summary::of(&mut of.values, of.missing))).collect())
    };
    Ok(Json(Statistics { statistics: blocking(of).await? }))
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
    span: Span,
    /// Only rows whose time is a multiple of this, seconds; 600 without it.
    step_s: Option<i64>,
    /// Which revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: Mode,
}

/// Counts of one feature in bins of equal width.
#[utoipa::path(get, path = "/v1/features/histogram", tag = "statistics", params(HistogramParams, Span),
    responses((status = 200, body = Histogram), (status = 400, body = ProblemAnswer),
        (status = 413, body = ProblemAnswer)))]
pub(super) async fn histogram(
    State(store): State<FeatureStore>,
    Params(params): Params<HistogramParams>,
) -> Result<Json<Histogram>, Problem> {
    let span = params.span.ms(&store.time_zone())?;
    let bins = params.bins.unwrap_or(20);
    if !(1..=1000).contains(&bins) {
        return Err(Problem::bad_request(format!("bins = {bins} is not 1 to 1000")));
    }
    let query = frame(params.zones.as_deref(), span, Some(vec![params.name]), params.step_s)?;
    let of = move || {
        let values = store.values(&query, params.mode)?;
        Ok(Histogram::of(values.first().map_or(&[], |of| &of.values), bins))
    };
    Ok(Json(blocking(of).await?))
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
    mode: Mode,
}

/// How features of a span differ from those of a baseline.
#[derive(Serialize, ToSchema)]
pub(super) struct Drifts {
    /// Of the formulas and their parameters.
    version: u32,
    /// By feature.
    drift: BTreeMap<String, Drift>,
}

/// Changes when a formula of [`Drift`] or a parameter of it does.
const DRIFT_VERSION: u32 = 1;

/// Population stability index, Kolmogorov–Smirnov and Wasserstein-1 of a span against
/// a baseline.
#[utoipa::path(get, path = "/v1/features/drift", tag = "statistics", params(DriftParams),
    responses((status = 200, body = Drifts), (status = 400, body = ProblemAnswer),
        (status = 413, body = ProblemAnswer)))]
pub(super) async fn drift(
    State(store): State<FeatureStore>,
    Params(params): Params<DriftParams>,
) -> Result<Json<Drifts>, Problem> {
    let span = (query::time(Some(&params.from))?, query::time(Some(&params.to))?);
    let names = query::list(params.names.as_deref())?;
    let now = frame(params.zones.as_deref(), span, names, params.step_s)?;
    let baseline = FrameQuery {
        from_ms: query::time(Some(&params.baseline_from))?,
        to_ms: query::time(Some(&params.baseline_to))?,
        ..now.clone()
    };
    let of = move || -> Result<_, StoreError> {
        let before = store.values(&baseline, params.mode)?;
        let now = store.values(&now, params.mode)?;
        let pairs = before.into_iter().zip(now);
        let drift = pairs.map(|(mut before, mut now)| {
            let drift =
                Drift::of((&mut before.values, before.missing), (&mut now.values, now.missing));
            (now.name, drift)
        });
        Ok(drift.collect())
    };
    Ok(Json(Drifts { version: DRIFT_VERSION, drift: blocking(of).await? }))
}

/// The rows that a request is about.
fn frame(
    zones: Option<&str>,
    (from_ms, to_ms): (Option<i64>, Option<i64>),
    columns: Option<Vec<String>>,
    step_s: Option<i64>,
) -> Result<FrameQuery, Problem> {
    Ok(FrameQuery {
        zones: query::zones(zones)?,
        from_ms,
        to_ms,
        columns,
        step_s: query::step(step_s)?.or(Some(STEP_S)),
        version: None,
    })
}
