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
use service::rest::{Problem, ProblemDetails, QueryParams};
use telemetry::ZoneId;
use utoipa::IntoParams;

use super::{
    answer_schemas::LatestRows,
    problem::{problem_of_error, run_blocking, unknown_zone_problem},
    request_params,
};
use crate::{FeatureStore, FeatureVersion, OnlineRow, RowStatus, store};

/// Largest number of rows in one answer.
const ROWS_MAX: usize = 10_000;
/// Size of an average row, bytes.
const ROW_BYTES: usize = 8 * 1024;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LatestParams {
    /// Zones, separated by commas; default: all zones.
    #[param(example = "farm/bay-1,farm/bay-2")]
    zones: Option<String>,
    /// Features, separated by commas; default: all features.
    #[param(example = "temperature_last,temperature_mean_1h")]
    names: Option<String>,
    /// Without `zones`: only zones after this one.
    after: Option<String>,
    /// Without `zones`: largest number of zones; default: 1000.
    limit: Option<usize>,
    /// Version of the definitions, whose newest stored rows are returned; default: the active
    /// one, from memory. `/v1/definitions` lists the versions.
    version: Option<i32>,
}

/// Features of zones at their newest event time, from memory.
///
/// Without `zones`, zones that have no valid reading are left out. With `version`, an old
/// version's newest stored final row is returned, from the file.
#[utoipa::path(get, path = "/v1/features/latest", tag = "online", params(LatestParams),
    responses((status = 200, body = LatestRows), (status = 400, body = ProblemDetails),
        (status = 404, body = ProblemDetails)))]
pub(super) async fn latest(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<LatestParams>,
) -> Result<Response, Problem> {
    let names = request_params::split_list("names", params.names.as_deref())?;
    let requested = request_params::parse_zones(params.zones.as_deref())?;
    let (zones, next) = match &requested {
        Some(zones) => (zones.clone(), None),
        None => page_of_zones(&store, &params)?,
    };
    let version = inactive_version(&store, params.version).await?;
    let found = match version {
        None => zones.iter().map(|zone| store.online_row(zone)).collect(),
        Some(version) => read_version_rows(&store, version, &zones).await?,
    };
    let unknown = zones.iter().zip(&found).find(|(_, row)| row.is_none());
    if let (Some(_), Some((zone, _))) = (&requested, unknown) {
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

/// Returns a page of zones, in the order of the cursor.
fn page_of_zones(
    store: &FeatureStore,
    params: &LatestParams,
) -> Result<(Vec<ZoneId>, Option<String>), Problem> {
    let limit = request_params::resolve_limit(params.limit, 1000, ROWS_MAX)?;
    // The cursor compares zones as text.
    let mut zones: Vec<ZoneId> = store.zone_summaries().into_iter().map(|zone| zone.zone).collect();
    zones.sort_by_cached_key(ToString::to_string);
    Ok(request_params::page_by_key(zones, ToString::to_string, params.after.as_deref(), limit))
}

/// Returns the requested version, unless it is the active one, whose rows are in memory.
async fn inactive_version(
    store: &FeatureStore,
    requested: Option<i32>,
) -> Result<Option<i32>, Problem> {
    let Some(number) = requested else { return Ok(None) };
    let versions_store = store.clone();
    let is_active = move |known: &FeatureVersion| known.number == number && known.is_active;
    let is_active =
        run_blocking(move || Ok(versions_store.read_versions()?.iter().any(is_active))).await?;
    Ok(requested.filter(|_| !is_active))
}

/// Reads the newest stored row of each zone by an old version.
async fn read_version_rows(
    store: &FeatureStore,
    version: i32,
    zones: &[ZoneId],
) -> Result<Vec<Option<(Arc<OnlineRow>, RowStatus)>>, Problem> {
    let (query_store, requested) = (store.clone(), zones.to_vec());
    let rows = run_blocking(move || query_store.read_newest_rows(version, &requested)).await?;
    let row_by_zone: HashMap<&ZoneId, &Arc<OnlineRow>> =
        rows.iter().map(|latest| (&latest.row().zone, latest)).collect();
    let row = |zone| row_by_zone.get(zone).map(|latest| (Arc::clone(latest), RowStatus::Final));
    Ok(zones.iter().map(row).collect())
}

/// Refuses names that are in neither the row nor the present columns; a row may be older than a
/// column.
pub(super) fn check_names(
    store: &FeatureStore,
    latest: &OnlineRow,
    names: &[&str],
) -> Result<(), Problem> {
    for name in names.iter().filter(|name| latest.feature_index().find_column(name).is_none()) {
        let schema = store.schema();
        if !schema.names.iter().any(|known_name| known_name == name) {
            let known =
                latest.feature_index().feature_names().iter().map(|known_name| known_name.as_str());
            return Err(problem_of_error(store::unknown_feature_error(name, known)));
        }
    }
    Ok(())
}

/// Refuses names that are not in the row: a row of an old version has all its columns.
fn check_version_names(latest: &OnlineRow, names: &[&str]) -> Result<(), Problem> {
    match names.iter().find(|name| latest.feature_index().find_column(name).is_none()) {
        None => Ok(()),
        Some(name) => {
            let known =
                latest.feature_index().feature_names().iter().map(|known_name| known_name.as_str());
            Err(problem_of_error(store::unknown_feature_error(name, known)))
        }
    }
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
