use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::HeaderMap, response::Response};
use serde::Deserialize;
use service::rest::{Body, Params, Problem, ProblemAnswer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{
    dataset::FormatParams,
    format::Format,
    problem::{blocking, refused},
    shapes::SqlRows,
};
use crate::{
    FeatureStore, Query,
    query::{Outcome, Outcomes},
    sql_sandbox::SqlLimits,
};

/// Longest time that a query runs or waits for another.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Largest answer, bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Rows of an answer, unless `limit` says otherwise.
const ROWS: usize = 1000;

/// What the handler needs: the store, and the turn to run a query.
#[derive(Clone)]
pub(super) struct Sql {
    store: FeatureStore,
    turn: Arc<Semaphore>,
}

impl Sql {
    fn outcomes(&self) -> &Outcomes {
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
    /// One SELECT over `bronze`, `silver`, `gold`, `features` and `meta`; tables are
    /// named with their schema.
    #[schema(example = "SELECT zone, count(*) AS n FROM silver.readings GROUP BY zone")]
    sql: String,
    /// At most this many rows, 1000 without it.
    limit: Option<usize>,
}

/// Runs a query in a process of its own: no file, network, extension or setting can be
/// reached, one query runs at a time, and each has limits of rows, bytes, time and memory,
/// which the operating system enforces.
#[utoipa::path(post, path = "/v1/sql", tag = "offline", params(FormatParams),
    request_body = SqlRequest,
    responses((status = 200, content(
            (SqlRows = "application/json"), (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
            (Vec<u8> = "application/vnd.apache.parquet"))),
        (status = 400, body = ProblemAnswer), (status = 413, body = ProblemAnswer),
        (status = 503, body = ProblemAnswer)))]
pub(super) async fn sql(
    State(own): State<Sql>,
    Params(params): Params<FormatParams>,
    headers: HeaderMap,
    Body(request): Body<SqlRequest>,
) -> Result<Response, Problem> {
    let format = Format::asked(params.format, &headers);
    let query = Query::checked(&request.sql).map_err(|why| {
        own.outcomes().note(Outcome::Refused);
        refused(why)
    })?;
    let store = own.store.clone();
    let limits = SqlLimits {
        rows_max: super::query::limit(request.limit, ROWS, store.rows_max())?,
        bytes_max: BYTES_MAX,
        time_max: TIME_MAX,
        memory_bytes_max: u64::from(store.0.settings.store.memory_mb_max) * 1_000_000 / 2,
    };
    let waited = tokio::time::timeout(TIME_MAX, own.turn.clone().acquire_owned()).await;
    let Ok(Ok(turn)) = waited else {
        own.outcomes().note(Outcome::Busy);
        return Err(Problem::unavailable("other queries are running").hint("ask again later"));
    };
    // Cancelled where the client goes away and this is dropped.
    let gone = CancellationToken::new();
    let _guard = gone.clone().drop_guard();
    let bytes = blocking(move || {
        let _turn = turn;
        let answer = store.sql(&query, limits, &gone);
        // Here, and not by the request, which may be gone by now.
        own.outcomes().note(Outcome::of(&answer));
        let (table, truncated) = answer?;
        format.write(&table, &format!("\"truncated\":{truncated},"))
    });
    Ok(format.answer(bytes.await?))
}
