use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Problem, ProblemDetails, QueryParams};
use telemetry::ZoneId;
use utoipa::{IntoParams, ToSchema};

use super::{
    problem::run_blocking,
    request_params::{self, EventSpan},
};
use crate::{FeatureStore, FrameQuery, HistoryQuery, HistoryRow, RevisionMode};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    #[param(value_type = String, example = "farm/bay-1")]
    zone: ZoneId,
    #[serde(flatten)]
    #[param(ignore)]
    span: EventSpan,
    /// Features, separated by commas; default: all features.
    names: Option<String>,
    /// Only rows whose time is a multiple of this, seconds.
    step_s: Option<i64>,
    /// Revisions of each row.
    #[serde(default)]
    revisions: Revisions,
    /// Version of the definitions; default: the active one. `/v1/definitions` lists the stored
    /// versions.
    version: Option<i32>,
    /// Only rows before this time, which is the `next` of the previous answer.
    before: Option<i64>,
    /// Largest number of rows; the newest are taken. Default: 1000.
    limit: Option<usize>,
}

/// Selects revisions of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Revisions {
    /// The newest revision.
    #[default]
    AsCorrected,
    /// Revision 0, without later arrivals.
    AsKnown,
    /// All revisions, the oldest of a time first.
    All,
}

/// Rows of one zone, in the order of time.
#[derive(Serialize, ToSchema)]
pub(super) struct History {
    #[schema(value_type = String)]
    zone: ZoneId,
    rows: Vec<HistoryRow>,
    /// Value of `before` for the next page, if there are older rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Final rows of a zone: the newest ones of the span.
#[utoipa::path(get, path = "/v1/features/history", tag = "offline", params(HistoryParams, EventSpan),
    responses((status = 200, body = History), (status = 400, body = ProblemDetails)))]
pub(super) async fn history(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<HistoryParams>,
) -> Result<Json<History>, Problem> {
    let (from_ms, to_ms) = params.span.bounds_ms(&store.time_zone())?;
    let before = request_params::check_before(params.before)?.map(|before| before - 1);
    let limit = request_params::resolve_limit(params.limit, 1000, store.rows_max())?;
    let query = HistoryQuery {
        zone: params.zone.clone(),
        frame: FrameQuery {
            zones: None,
            from_ms,
            to_ms: [to_ms, before].into_iter().flatten().min(),
            columns: request_params::parse_names(params.names.as_deref())?,
            step_s: request_params::check_step(params.step_s)?,
            version: params.version,
        },
        mode: match params.revisions {
            Revisions::AsCorrected => Some(RevisionMode::AsCorrected),
            Revisions::AsKnown => Some(RevisionMode::AsKnown),
            Revisions::All => None,
        },
        limit: limit + 1,
    };
    let rows = run_blocking(move || store.read_history(&query)).await?;
    let (rows, next) = truncate_page(rows, limit);
    Ok(Json(History { zone: params.zone, rows, next }))
}

/// Keeps the newest `limit` of the rows, which are in the order of time; also returns the end of
/// the next page. Revisions of one time stay together, unless a page has no other time.
fn truncate_page(mut rows: Vec<HistoryRow>, limit: usize) -> (Vec<HistoryRow>, Option<i64>) {
    if rows.len() <= limit {
        return (rows, None);
    }
    let cut_ms = rows[0].at_ms;
    let whole = rows.iter().position(|row| row.at_ms > cut_ms).unwrap_or(0);
    rows.drain(..whole);
    let next = rows.first().map(|row| row.at_ms);
    (rows, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_of_one_time_stay_together() {
        let check = |times: &[i64], limit, expect: &[i64], next| {
            let row = |at_ms: &i64| HistoryRow {
                at_ms: *at_ms,
                status: "final",
                revision: 0,
                schema_hash: String::new(),
                features: std::collections::BTreeMap::new(),
            };
            let (rows, found) = truncate_page(times.iter().map(row).collect(), limit);
            let times: Vec<i64> = rows.iter().map(|row| row.at_ms).collect();
            assert_eq!((&times[..], found), (expect, next));
        };
        check(&[1, 2, 3], 3, &[1, 2, 3], None);
        check(&[1, 2, 3], 2, &[2, 3], Some(2));
        check(&[1, 1, 2, 3], 3, &[2, 3], Some(2));
        check(&[1, 1, 1], 2, &[1, 1, 1], Some(1));
    }
}
