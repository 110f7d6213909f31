use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Problem, ProblemDetails, QueryParams};
use telemetry::ZoneId;
use utoipa::{IntoParams, ToSchema};

use super::{problem::run_blocking, request_params};
use crate::{
    FeatureStore,
    kpi::{KpiQuery, PeriodLength, ZoneKpis},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KpiParams {
    #[param(value_type = String, example = "farm/bay-1")]
    zone: ZoneId,
    /// `hour` or `day`.
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(hour|day)$")]
    period: PeriodLength,
    /// Earliest start of an hour or day, included: a date, a time (UTC without an offset) or a
    /// number since 1970.
    from: Option<String>,
    /// Latest start of an hour or day, excluded.
    to: Option<String>,
    /// Largest number of periods; default: 200.
    limit: Option<usize>,
    /// The `next` of the previous page.
    after: Option<String>,
}

/// Hours or days of one zone.
#[derive(Serialize, ToSchema)]
pub(super) struct Kpis {
    #[schema(value_type = String)]
    zone: ZoneId,
    #[schema(value_type = Vec<Object>)]
    kpis: Vec<ZoneKpis>,
    /// Cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// KPIs of one zone by hour or day, newest first, with its metrics and scores.
#[utoipa::path(get, path = "/v1/kpis", tag = "readings", params(KpiParams),
    responses((status = 200, body = Kpis), (status = 400, body = ProblemDetails)))]
pub(super) async fn kpis(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<KpiParams>,
) -> Result<Json<Kpis>, Problem> {
    let limit = request_params::resolve_limit(params.limit, 200, store.rows_max())?;
    // Newest first, so the next page has earlier periods.
    let after_ms = params.after.as_deref().map(|after| {
        after
            .parse::<i64>()
            .map_err(|_| Problem::bad_request("after: not the `next` of a page of KPIs".to_owned()))
    });
    let to_ms = request_params::parse_time(params.to.as_deref())?;
    let query = KpiQuery {
        zone: params.zone.clone(),
        length: params.period,
        from_ms: request_params::parse_time(params.from.as_deref())?,
        to_ms: [to_ms, after_ms.transpose()?].into_iter().flatten().min(),
        limit: limit + 1,
    };
    let mut kpis = run_blocking(move || store.read_kpis(&query)).await?;
    let has_more = kpis.len() > limit;
    kpis.truncate(limit);
    let next = kpis.last().filter(|_| has_more).map(|last| last.period.start_ms.to_string());
    Ok(Json(Kpis { zone: params.zone, kpis, next }))
}
