use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Params, Problem, ProblemAnswer};
use telemetry::ZoneId;
use utoipa::{IntoParams, ToSchema};

use super::{problem::blocking, query};
use crate::{
    FeatureStore,
    kpi::{KpiQuery, Length, ZoneKpis},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KpiParams {
    #[param(value_type = String, example = "farm/bay-1")]
    zone: ZoneId,
    /// An hour or a day.
    #[serde(default)]
    #[param(value_type = String)]
    period: Length,
    /// Begin of an hour or day, this and later: a date, RFC 3339 or UTC ms.
    from: Option<String>,
    /// Begin of an hour or day, before this.
    to: Option<String>,
    /// The newest this many lines, 200 without it.
    limit: Option<usize>,
}

/// Hours or days of one zone.
#[derive(Serialize, ToSchema)]
pub(super) struct Kpis {
    #[schema(value_type = String)]
    zone: ZoneId,
    #[schema(value_type = Vec<Object>)]
    kpis: Vec<ZoneKpis>,
}

/// Hours or days of one zone, newest first, with its metrics and scores.
#[utoipa::path(get, path = "/v1/kpis", tag = "readings", params(KpiParams),
    responses((status = 200, body = Kpis), (status = 400, body = ProblemAnswer)))]
pub(super) async fn kpis(
    State(store): State<FeatureStore>,
    Params(params): Params<KpiParams>,
) -> Result<Json<Kpis>, Problem> {
    let query = KpiQuery {
        zone: params.zone.clone(),
        length: params.period,
        from_ms: query::time(params.from.as_deref())?,
        to_ms: query::time(params.to.as_deref())?,
        limit: query::limit(params.limit, 200, store.rows_max())?,
    };
    let kpis = blocking(move || store.kpis(&query)).await?;
    Ok(Json(Kpis { zone: params.zone, kpis }))
}
