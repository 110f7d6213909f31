//! Training data sets.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use service::rest::{JsonBody, Problem, ProblemDetails, QueryParams};
use telemetry::ZoneId;
use utoipa::{IntoParams, ToSchema};

use super::{
    answer_schemas::DatasetRows,
    problem::run_blocking,
    request_params::{self, Time},
    table_format::{self, TableFormat},
};
use crate::{FeatureStore, FrameQuery, PointQuery, RevisionMode};

/// Largest number of values in one data set.
const CELLS_MAX: usize = 20_000_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DatasetParams {
    /// Zones, separated by commas; default: all zones.
    zones: Option<String>,
    /// Earliest event time, included: a date, RFC 3339 or UTC ms.
    from: Option<String>,
    /// Latest event time, included.
    to: Option<String>,
    /// Features, separated by commas; default: all features.
    columns: Option<String>,
    /// Only rows whose time is a multiple of this, seconds.
    step_s: Option<i64>,
    /// Revision of each row.
    #[serde(default)]
    #[param(inline)]
    mode: RevisionMode,
    /// Rows of this version of the definitions, of the active one without it;
    /// `/v1/definitions` has those that are kept.
    version: Option<i32>,
}

/// Stored rows of a span as Parquet.
///
/// Columns are `site`, `zone`, `at_ms` (UTC), then features. Rows are sorted by zone and time.
#[utoipa::path(get, path = "/v1/dataset.parquet", tag = "offline", params(DatasetParams),
    responses((status = 200, content_type = "application/vnd.apache.parquet"),
        (status = 400, body = ProblemDetails)))]
pub(super) async fn stored(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<DatasetParams>,
) -> Result<Response, Problem> {
    let query = FrameQuery {
        zones: request_params::parse_zones(params.zones.as_deref())?,
        from_ms: request_params::parse_time(params.from.as_deref())?,
        to_ms: request_params::parse_time(params.to.as_deref())?,
        columns: request_params::parse_names(params.columns.as_deref())?,
        step_s: request_params::check_step(params.step_s)?,
        version: params.version,
    };
    let mode = params.mode;
    let bytes = run_blocking(move || {
        table_format::encode_parquet(&mut store.read_feature_frame_as(&query, mode)?)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.apache.parquet")], bytes).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FormatParams {
    /// Format of the answer; overrides the `Accept` header. Default: JSON.
    #[param(inline)]
    pub(super) format: Option<TableFormat>,
}

/// Zones at times, as either `points` or `grid`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DatasetRequest {
    /// Any zones at any times. The answer has one line for each, in this order.
    points: Option<Vec<Point>>,
    /// Several zones at the same times; the answer is sorted by zone.
    grid: Option<Grid>,
    /// As it was known at each point, or with what has arrived since. The two are
    /// never mixed.
    mode: RevisionMode,
    /// Features; every feature without it.
    names: Option<Vec<String>>,
    /// Largest age of a row at its point, seconds; default: 3600.
    #[schema(minimum = 0, maximum = 2_678_400)]
    age_s_max: Option<i64>,
    /// Version of the definitions; default: the active one. `/v1/definitions` lists the stored
    /// versions.
    version: Option<i32>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Point {
    #[schema(value_type = String, example = "farm/bay-1")]
    zone: ZoneId,
    /// Event time: UTC ms, a date or RFC 3339.
    #[schema(value_type = String, example = "2025-06-02T10:00:00Z")]
    at: Time,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Grid {
    /// Zones; default: all zones.
    #[schema(value_type = Option<Vec<String>>)]
    zones: Option<Vec<ZoneId>>,
    /// The first time.
    #[schema(value_type = String)]
    from: Time,
    /// Limit of the times, included.
    #[schema(value_type = String)]
    to: Time,
    /// Distance between two times, seconds.
    step_s: i64,
}

/// Point-in-time join: one line for each zone and time.
///
/// `row_ms` is the time of the grid row that the line shows, and null if there is none.
#[utoipa::path(post, path = "/v1/dataset", tag = "offline", params(FormatParams),
    request_body = DatasetRequest,
    responses((status = 200, content(
            (DatasetRows = "application/json"), (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/vnd.apache.parquet"))),
        (status = 400, body = ProblemDetails), (status = 413, body = ProblemDetails)))]
pub(super) async fn at_points(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<FormatParams>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<DatasetRequest>,
) -> Result<Response, Problem> {
    let format = TableFormat::negotiate(params.format, &headers);
    let mode = request.mode;
    let query = PointQuery {
        points: resolve_points(&store, &request)?,
        mode,
        age_s_max: resolve_age_s_max(request.age_s_max)?,
        columns: request.names,
        version: request.version,
    };
    let columns = query.columns.as_ref().map_or(store.schema().names.len(), Vec::len);
    if query.points.len().saturating_mul(columns) > CELLS_MAX {
        return Err(Problem::too_large(format!(
            "{} points of {columns} features are above {CELLS_MAX} values",
            query.points.len()
        ))
        .with_hint("request fewer features with `names`, or fewer points"));
    }
    let about = format!("\"mode\":{},", serde_json::json!(mode));
    let bytes =
        run_blocking(move || format.encode_table(&store.read_points(&query)?, &about)).await?;
    Ok(format.to_response(bytes))
}

fn resolve_age_s_max(requested: Option<i64>) -> Result<i64, Problem> {
    match requested {
        None => Ok(3600),
        Some(age_s) if (0..=31 * 86_400).contains(&age_s) => Ok(age_s),
        Some(age_s) => {
            Err(Problem::bad_request(format!("age_s_max = {age_s} is not 0 to 2678400")))
        }
    }
}

fn resolve_points(
    store: &FeatureStore,
    request: &DatasetRequest,
) -> Result<Vec<(ZoneId, i64)>, Problem> {
    let rows_max = store.rows_max();
    let too_many = |points: usize| {
        Problem::too_large(format!("{points} points, above {rows_max}"))
            .with_hint("request a part at a time, or a longer `step_s`")
    };
    match (&request.points, &request.grid) {
        (Some(points), None) if points.len() > rows_max => Err(too_many(points.len())),
        (Some(points), None) if !points.is_empty() => {
            points.iter().map(|point| Ok((point.zone.clone(), point.at.to_ms()?))).collect()
        }
        (None, Some(grid)) => {
            let (from_ms, to_ms) = (grid.from.to_ms()?, grid.to.to_ms()?);
            if grid.step_s < 1 || to_ms < from_ms {
                return Err(Problem::bad_request("grid: `to` is before `from`, or `step_s` below 1"));
            }
            let zones = grid.zones.clone().unwrap_or_else(|| {
                store.zone_summaries().into_iter().map(|zone| zone.zone).collect()
            });
            let step_ms = grid.step_s.saturating_mul(1000);
            let times = to_ms.abs_diff(from_ms) / step_ms.unsigned_abs() + 1;
            let points = times.saturating_mul(zones.len() as u64);
            if points > rows_max as u64 {
                return Err(too_many(usize::try_from(points).unwrap_or(usize::MAX)));
            }
            let at = (0..times as i64).map(|i| from_ms + i * step_ms);
            let points_of = |zone: &ZoneId| at.clone().map(move |at_ms| (zone.clone(), at_ms)).collect::<Vec<_>>();
            Ok(zones.iter().flat_map(points_of).collect())
        }
        _ => Err(Problem::bad_request("either `points`, at least one, or `grid`").with_hint(
            r#"as in {"mode": "as_known", "points": [{"zone": "farm/bay-1", "at": "2025-06-02T10:00:00Z"}]}"#,
        )),
    }
}
