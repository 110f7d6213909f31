use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use service::rest::{Problem, ProblemAnswer, QueryParams};
use telemetry::ZoneId;
use utoipa::IntoParams;

use super::{
    answer_schemas::LatestRows,
    problem::{problem_of_error, run_blocking, unknown_zone_problem},
    request_params,
};
use crate::{FeatureStore, FeatureVersion, OnlineRow, RowStatus, store};

/// Most rows of one answer.
const ROWS_MAX: usize = 10_000;
/// What a row of usual width has, bytes.
const ROW_BYTES: usize = 8 * 1024;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LatestParams {
    /// Zones, separated by commas; every zone without it.
    #[param(example = "farm/bay-1,farm/bay-2")]
    zones: Option<String>,
    /// Features, separated by commas; every feature without it.
    #[param(example = "temperature_last,temperature_mean_1h")]
    names: Option<String>,
    /// Without `zones`: only zones that follow this one.
    after: Option<String>,
    /// Without `zones`: at most this many, 1000 without it.
    limit: Option<usize>,
    /// The newest rows that are kept of this version of the definitions; those of the
    /// active one, from memory, without it. `/v1/definitions` has the versions.
    version: Option<i32>,
}

/// The features of zones at their newest event time, from memory. Zones that have
/// no reading that counts are left out where zones are not named. Of an old version it
/// is the newest final row that is kept, from the file.
#[utoipa::path(get, path = "/v1/features/latest", tag = "online", params(LatestParams),
    responses((status = 200, body = LatestRows), (status = 400, body = ProblemAnswer),
        (status = 404, body = ProblemAnswer)))]
pub(super) async fn latest(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<LatestParams>,
) -> Result<Response, Problem> {
    let names = request_params::split_list("names", params.names.as_deref())?;
    let asked = request_params::parse_zones(params.zones.as_deref())?;
    let (zones, next) = match &asked {
        Some(zones) => (zones.clone(), None),
        None => page_of_zones(&store, &params)?,
    };
    let version = inactive_version(&store, params.version).await?;
    let found = match version {
        None => zones.iter().map(|zone| store.online_row(zone)).collect(),
        Some(version) => read_version_rows(&store, version, &zones).await?,
    };
    let unknown = zones.iter().zip(&found).find(|(_, row)| row.is_none());
    if let (Some(_), Some((zone, _))) = (&asked, unknown) {
        return Err(unknown_zone_problem(zone));
    }
    let rows: OnlineRows = found.into_iter().flatten().collect();
    if let (Some(names), Some((latest, _))) = (&names, rows.first()) {
        match version {
            None => check_names(&store, latest, names)?,
            Some(_) => check_version_names(latest, names)?,
        }
    }
    let (now_ms, max_age_s) = (now_ms(), store.online_age_limits().row_max_age_s());
    let mut body = Vec::with_capacity(32 + rows.len() * ROW_BYTES);
    body.extend_from_slice(b"{\"rows\":[");
    for (i, (latest, status)) in rows.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        latest.write_json(&mut body, names.as_deref(), *status, now_ms, max_age_s);
    }
    body.push(b']');
    if let Some(next) = next {
        body.extend_from_slice(format!(",\"next\":{}", serde_json::Value::from(next)).as_bytes());
    }
    body.push(b'}');
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

type OnlineRows = Vec<(Arc<OnlineRow>, RowStatus)>;

/// A page of zones, in the order of the cursor.
fn page_of_zones(
    store: &FeatureStore,
    params: &LatestParams,
) -> Result<(Vec<ZoneId>, Option<String>), Problem> {
    let limit = request_params::resolve_limit(params.limit, 1000, ROWS_MAX)?;
    // In the order of the cursor, which is that of the text.
    let mut zones: Vec<ZoneId> = store.zone_summaries().into_iter().map(|zone| zone.zone).collect();
    zones.sort_by_cached_key(ToString::to_string);
    Ok(request_params::page_by_key(zones, ToString::to_string, params.after.as_deref(), limit))
}

/// The version that was asked for, unless it is the active one, whose rows are in memory.
async fn inactive_version(
    store: &FeatureStore,
    asked: Option<i32>,
) -> Result<Option<i32>, Problem> {
    let Some(number) = asked else { return Ok(None) };
    let store = store.clone();
    let is_active = move |known: &FeatureVersion| known.number == number && known.is_active;
    let is_active = run_blocking(move || Ok(store.read_versions()?.iter().any(is_active))).await?;
    Ok(asked.filter(|_| !is_active))
}

/// The newest row that is kept of each zone by an old version.
async fn read_version_rows(
    store: &FeatureStore,
    version: i32,
    zones: &[ZoneId],
) -> Result<Vec<Option<(Arc<OnlineRow>, RowStatus)>>, Problem> {
    let (own, asked) = (store.clone(), zones.to_vec());
    let rows = run_blocking(move || own.read_newest_rows(version, &asked)).await?;
    let of: HashMap<&ZoneId, &Arc<OnlineRow>> =
        rows.iter().map(|latest| (&latest.row().zone, latest)).collect();
    let row = |zone| of.get(zone).map(|latest| (Arc::clone(latest), RowStatus::Final));
    Ok(zones.iter().map(row).collect())
}

/// A row may be older than a column: what is in no row and no column is unknown.
pub(super) fn check_names(
    store: &FeatureStore,
    latest: &OnlineRow,
    names: &[&str],
) -> Result<(), Problem> {
    for name in names.iter().filter(|name| latest.feature_index().find_column(name).is_none()) {
        let schema = store.schema();
        if !schema.names.iter().any(|own| own == name) {
            let known = latest.feature_index().feature_names().iter().map(|own| own.as_str());
            return Err(problem_of_error(store::unknown_feature_error(name, known)));
        }
    }
    Ok(())
}

/// The row of an old version has every column that there is of it.
fn check_version_names(latest: &OnlineRow, names: &[&str]) -> Result<(), Problem> {
    match names.iter().find(|name| latest.feature_index().find_column(name).is_none()) {
        None => Ok(()),
        Some(name) => {
            let known = latest.feature_index().feature_names().iter().map(|own| own.as_str());
            Err(problem_of_error(store::unknown_feature_error(name, known)))
        }
    }
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
