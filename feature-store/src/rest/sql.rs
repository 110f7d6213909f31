use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::HeaderMap, response::Response};
use serde::Deserialize;
use service::rest::{JsonBody, Problem, ProblemDetails, QueryParams};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{
    answer_schemas::SqlRows,
    dataset::FormatParams,
    problem::{problem_of_refusal, run_blocking},
    table_format::TableFormat,
};
use crate::{
    FeatureStore, SqlQuery,
    sql_query::{QueryOutcome, QueryOutcomeCounters},
    sql_sandbox::SqlLimits,
};

/// Longest time that a query runs, or waits for another one.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Largest answer, bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rows of an answer without `limit`.
const DEFAULT_ROWS: usize = 1000;

/// State of the handler: the store, and a semaphore that lets one query run at a time.
#[derive(Clone)]
pub(super) struct SqlEndpointState {
    store: FeatureStore,
    turn: Arc<Semaphore>,
}

impl SqlEndpointState {
    fn outcomes(&self) -> &QueryOutcomeCounters {
        &self.store.0.counters.sql
    }

    pub(super) fn new(store: FeatureStore) -> Self {
        Self { store, turn: Arc::new(Semaphore::new(1)) }
    }
}

/// A query in DuckDB's SQL.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlRequest {
    /// One SELECT over `bronze`, `silver`, `gold`, `features` and `meta`. Tables are named with
    /// their schema.
    #[schema(example = "SELECT zone, count(*) AS n FROM silver.readings GROUP BY zone")]
    sql: String,
    /// Largest number of rows; default: 1000.
    #[schema(minimum = 1, maximum = 100_000)]
    limit: Option<usize>,
}

/// Runs a SQL query in a sandbox.
///
/// The query runs in a separate process that can access no file, network, extension or setting.
/// One query runs at a time. The operating system enforces its limits of rows, bytes, time and
/// memory.
#[utoipa::path(post, path = "/v1/sql", tag = "offline", params(FormatParams),
    request_body = SqlRequest,
    responses((status = 200, content(
            (SqlRows = "application/json"), (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/vnd.apache.parquet"))),
        (status = 400, body = ProblemDetails), (status = 413, body = ProblemDetails),
        (status = 503, body = ProblemDetails)))]
pub(super) async fn sql(
    State(state): State<SqlEndpointState>,
    QueryParams(params): QueryParams<FormatParams>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<SqlRequest>,
) -> Result<Response, Problem> {
    let format = TableFormat::negotiate(params.format, &headers);
    let query = SqlQuery::checked(&request.sql).map_err(|why| {
        state.outcomes().record_outcome(QueryOutcome::Refused);
        problem_of_refusal(why)
    })?;
    let store = state.store.clone();
    let limits = SqlLimits {
        rows_max: super::request_params::resolve_limit(
            request.limit,
            DEFAULT_ROWS,
            store.rows_max(),
        )?,
        bytes_max: BYTES_MAX,
        time_max: TIME_MAX,
        memory_bytes_max: u64::from(store.0.settings.store.memory_mb_max) * 1_000_000 / 2,
    };
    let waited = tokio::time::timeout(TIME_MAX, state.turn.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = waited else {
        state.outcomes().record_outcome(QueryOutcome::Busy);
        return Err(Problem::unavailable("other queries are running").with_hint("try again later"));
    };
    // Cancelled when the client disconnects and this future is dropped.
    let gone = CancellationToken::new();
    let _guard = gone.clone().drop_guard();
    let bytes = run_blocking(move || {
        let _turn = turn;
        let answer = store.run_sql(&query, limits, &gone);
        // Recorded here and not by the request, which may have ended by now.
        state.outcomes().record_outcome(QueryOutcome::from_answer(&answer));
        let (table, truncated) = answer?;
        format.encode_table(&table, &format!("\"truncated\":{truncated},"))
    });
    Ok(format.to_response(bytes.await?))
}
