use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use service::rest::{Params, Problem, ProblemAnswer};
use telemetry::ZoneId;
use utoipa::{IntoParams, ToSchema};

use super::{format, problem::blocking, query};
use crate::{
    FeatureStore, StoreError,
    store::{KpiQuery, Period},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KpiParams {
    #[param(value_type = String, example = "farm/bay-1")]
    zone: ZoneId,
    /// An hour or a day.
    #[serde(default)]
    #[param(inline)]
    period: Period,
    /// A line for each of its metrics, or one for the zone.
    #[serde(default)]
    #[param(inline)]
    of: Of,
    metric: Option<String>,
    /// Begin of an hour or day, this and later: a date, RFC 3339 or UTC ms.
    from: Option<String>,
    /// Begin of an hour or day, this and earlier.
    to: Option<String>,
    /// The newest this many lines, 200 without it.
    limit: Option<usize>,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Of {
    /// One metric of the zone.
    #[default]
    Metric,
    /// The zone as a whole.
    Zone,
}

/// Hours or days of one zone.
#[derive(ToSchema)]
#[allow(dead_code)] // written by hand; this is its schema
pub(super) struct Kpis {
    zone: String,
    /// The columns of `gold.hourly`, `gold.daily` and their likes; times end in `_ms`
    /// (UTC).
    #[schema(value_type = Vec<Object>)]
    kpis: Vec<serde_json::Value>,
}

/// Hours or days of one zone, newest first: counts, valid share, min, mean, max, std,
/// and scores where they are computed.
#[utoipa::path(get, path = "/v1/kpis", tag = "readings", params(KpiParams),
    responses((status = 200, body = Kpis), (status = 400, body = ProblemAnswer),
        (status = 404, body = ProblemAnswer)))]
pub(super) async fn kpis(
    State(store): State<FeatureStore>,
    Params(params): Params<KpiParams>,
) -> Result<Response, Problem> {
    let query = KpiQuery {
        zone: params.zone.clone(),
        period: params.period,
        of_zone: params.of == Of::Zone,
        metric: params.metric,
        from_ms: query::time(params.from.as_deref())?,
        to_ms: query::time(params.to.as_deref())?,
        limit: query::limit(params.limit, 200, store.rows_max())?,
    };
    let zone = serde_json::Value::from(params.zone.to_string());
    let body = blocking(move || {
        let Some(table) = store.kpis(&query)? else { return Ok(None) };
        let mut body = format!("{{\"zone\":{zone},\"kpis\":").into_bytes();
        format::json(&table, &mut body)?;
        body.push(b'}');
        Ok::<_, StoreError>(Some(body))
    });
    match body.await? {
        Some(body) => Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response()),
        None => Err(Problem::not_found("these are not computed by this feature store")),
    }
}
