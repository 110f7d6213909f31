use std::collections::BTreeMap;

use duckdb::{
    Connection,
    arrow::{
        array::{Array, AsArray, RecordBatch},
        datatypes::{Float64Type, Int64Type},
    },
    params_from_iter,
};
use feature_api::{FrameQuery, RevisionMode};
use polars::prelude::{Column, DataFrame};
use serde::Serialize;
use telemetry::ZoneId;
use utoipa::ToSchema;

use super::{
    super::quote_identifier, ReadSource, unknown_feature_error, version_rows::VersionRows,
    where_clause::WhereClause,
};
use crate::{StoreError, lake::FileScope};

/// Which rows of one zone to take.
#[derive(Clone, Debug)]
pub struct HistoryQuery {
    /// The zone.
    pub zone: ZoneId,
    /// Times, columns and step.
    pub frame: FrameQuery,
    /// One revision of each row, or every one.
    pub mode: Option<RevisionMode>,
    /// The newest this many rows.
    pub limit: usize,
}

/// A stored feature row.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct HistoryRow {
    /// Time of the row, UTC milliseconds.
    pub at_ms: i64,
    /// Always `final`: provisional rows are not stored.
    pub status: &'static str,
    /// How often the row was recomputed; 0 is the row as known at its time.
    pub revision: i64,
    /// Hash of the names and definitions of its features.
    pub schema_hash: String,
    /// Values by name; `null` if a feature has no value.
    pub features: BTreeMap<String, Option<f64>>,
}

/// Number of columns before the features: site, zone, `at_ms`, revision, schema hash.
pub(super) const KEY_COLUMNS: usize = 5;

/// SQL that picks the revision of `mode` from a table of rows `r`: what to join, and
/// the condition.
pub(super) fn revision_filter_sql(
    table: &str,
    mode: Option<RevisionMode>,
) -> (String, &'static str) {
    match mode {
        None => (String::new(), "true"),
        Some(RevisionMode::AsKnown) => (String::new(), "r.revision = 0"),
        // Corrections are few: a join on them is much cheaper than to rank every row.
        Some(RevisionMode::AsCorrected) => (
            format!(
                "LEFT JOIN (
                     SELECT site, zone, time, max(revision) AS newest FROM {table}
                     WHERE revision > 0 GROUP BY ALL
                 ) c ON r.site = c.site AND r.zone = c.zone AND r.time = c.time"
            ),
            "(c.newest IS NULL OR r.revision = c.newest)",
        ),
    }
}

/// Select list of a row `r`: the key columns, then features.
pub(super) fn select_list(features: &[String]) -> String {
    let keys = "r.site, r.zone, epoch_ms(r.time) AS at_ms, r.revision, r.schema_hash";
    features
        .iter()
        .fold(keys.to_owned(), |all, name| format!("{all}, r.{}", quote_identifier(name)))
}

/// Returns the requested names; fails if one is not a column.
pub(super) fn resolve_columns(
    columns: Option<&[String]>,
    known: &[String],
) -> Result<Vec<String>, StoreError> {
    let Some(columns) = columns else { return Ok(known.to_vec()) };
    let unknown = columns.iter().find(|name| !known.contains(name));
    match unknown {
        Some(name) => Err(unknown_feature_error(name, known.iter().map(String::as_str))),
        None => Ok(columns.to_vec()),
    }
}

/// Which files of the lake may have rows of a query.
pub(super) fn file_scope(query: &FrameQuery) -> FileScope<'_> {
    let FrameQuery { zones, from_ms, to_ms, .. } = query;
    FileScope { zones: zones.as_deref(), from_ms: *from_ms, to_ms: *to_ms, ..FileScope::default() }
}

fn build_conditions(query: &FrameQuery) -> WhereClause {
    let mut conditions = WhereClause::default();
    conditions.filter_time_span("r.time", query.from_ms, query.to_ms);
    conditions.push_if_some("epoch_ms(r.time) % ? = 0", query.step_s.map(|step_s| step_s * 1000));
    conditions.filter_zones("r", query.zones.as_deref());
    conditions
}

/// Counts the rows of a table that a query selects.
pub(super) fn count_rows(
    connection: &Connection,
    table: &str,
    query: &FrameQuery,
    mode: RevisionMode,
) -> Result<u64, StoreError> {
    let conditions = build_conditions(query);
    let (join, revision) = revision_filter_sql(table, Some(mode));
    let sql = format!(
        "SELECT count(*) FROM {table} r {join} WHERE {} AND {revision}",
        conditions.to_sql()
    );
    let values = params_from_iter(conditions.values.iter());
    Ok(connection.query_row(&sql, values, |row| row.get(0))?)
}

/// Reads rows of a table as Arrow: the key columns, then features.
pub(super) fn read_feature_rows(
    connection: &Connection,
    table: &str,
    query: &FrameQuery,
    mode: Option<RevisionMode>,
    wanted: &[String],
    limit: Option<usize>,
) -> Result<Vec<RecordBatch>, StoreError> {
    let conditions = build_conditions(query);
    let (join, revision) = revision_filter_sql(table, mode);
    let order = match limit {
        Some(limit) => format!("ORDER BY r.time DESC, r.revision DESC LIMIT {limit}"),
        None => "ORDER BY r.site, r.zone, r.time".to_owned(),
    };
    let mut statement = connection.prepare(&format!(
        "SELECT {} FROM {table} r {join} WHERE {} AND {revision} {order}",
        select_list(wanted),
        conditions.to_sql()
    ))?;
    Ok(statement.query_arrow(params_from_iter(conditions.values.iter()))?.collect())
}

/// Iterates over the values of feature number `i`.
pub(super) fn feature_values(
    batches: &[RecordBatch],
    i: usize,
) -> impl Iterator<Item = Option<f64>> + '_ {
    batches
        .iter()
        .flat_map(move |batch| batch.column(KEY_COLUMNS + i).as_primitive::<Float64Type>())
}

/// Reads feature rows as a table: `site`, `zone`, `at_ms`, then features. `active` has the
/// feature names of the active version.
pub(crate) fn read_feature_frame(
    source: ReadSource<'_>,
    query: &FrameQuery,
    mode: RevisionMode,
    active: &[String],
) -> Result<DataFrame, StoreError> {
    let VersionRows { table, features } =
        VersionRows::new(source, query.version, active, &file_scope(query))?;
    let wanted = resolve_columns(query.columns.as_deref(), &features)?;
    let batches = read_feature_rows(source.connection, &table, query, Some(mode), &wanted, None)?;
    let height = batches.iter().map(RecordBatch::num_rows).sum();
    let text = |i: usize| -> Vec<&str> {
        batches.iter().flat_map(|b| b.column(i).as_string::<i32>().iter().flatten()).collect()
    };
    let at_ms: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(2).as_primitive::<Int64Type>().values())
        .copied()
        .collect();
    let mut columns = vec![
        Column::new("site".into(), text(0)),
        Column::new("zone".into(), text(1)),
        Column::new("at_ms".into(), at_ms),
    ];
    for (i, name) in wanted.iter().enumerate() {
        let values: Vec<Option<f64>> = feature_values(&batches, i).collect();
        columns.push(Column::new(name.as_str().into(), values));
    }
    Ok(DataFrame::new(height, columns)?)
}

/// Reads the newest rows of a zone, in the order of time.
pub(crate) fn read_history(
    source: ReadSource<'_>,
    query: &HistoryQuery,
    active: &[String],
) -> Result<Vec<HistoryRow>, StoreError> {
    let one = FrameQuery { zones: Some(vec![query.zone.clone()]), ..query.frame.clone() };
    let VersionRows { table, features } =
        VersionRows::new(source, one.version, active, &file_scope(&one))?;
    let wanted = resolve_columns(one.columns.as_deref(), &features)?;
    let mut history = Vec::new();
    let limit = Some(query.limit);
    for batch in read_feature_rows(source.connection, &table, &one, query.mode, &wanted, limit)? {
        let at_ms = batch.column(2).as_primitive::<Int64Type>();
        let revision = batch.column(3).as_primitive::<Int64Type>();
        let hash = batch.column(4).as_string::<i32>();
        for row in 0..batch.num_rows() {
            let value = |i: usize| {
                let column = batch.column(KEY_COLUMNS + i);
                column.is_valid(row).then(|| column.as_primitive::<Float64Type>().value(row))
            };
            let features = wanted.iter().enumerate().map(|(i, name)| (name.clone(), value(i)));
            history.push(HistoryRow {
                at_ms: at_ms.value(row),
                status: "final",
                revision: revision.value(row),
                schema_hash: hash.value(row).to_owned(),
                features: features.collect(),
            });
        }
    }
    history.reverse();
    Ok(history)
}
