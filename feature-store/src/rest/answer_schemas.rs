//! OpenAPI schemas of answers that are encoded by hand, for speed.

#![expect(dead_code, reason = "documents answers that are encoded without these types")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

use crate::{RevisionMode, RowStatus};

/// The newest row of each zone.
#[derive(ToSchema)]
pub(super) struct LatestRows {
    rows: Vec<LatestRow>,
    /// Cursor of the next page, if there is one.
    next: Option<String>,
}

#[derive(ToSchema)]
struct LatestRow {
    #[schema(example = "farm/bay-1")]
    zone: String,
    /// Event time of the row, UTC ms.
    at_ms: i64,
    /// Hash of the names and definitions of its features.
    schema_hash: String,
    /// Age of the row: now less its event time, seconds.
    age_s: f64,
    /// Whether the row is older than `online.max_age_s`, so that its values are not current.
    /// Single metrics may be older than their row; their `<metric>_age_s` states the difference.
    is_stale: bool,
    status: RowStatus,
    /// Lowest share of minutes with a reading of any metric, by window, %.
    coverage_pct: BTreeMap<String, Option<f64>>,
    /// Values by name; `null` if a feature has no value.
    features: BTreeMap<String, Option<f64>>,
}

/// A data set as JSON.
#[derive(ToSchema)]
pub(super) struct DatasetRows {
    mode: RevisionMode,
    rows: Vec<DatasetRow>,
}

/// One row of a data set. It has one more field for each feature.
#[derive(ToSchema)]
struct DatasetRow {
    zone: String,
    /// Requested time, UTC ms.
    at_ms: i64,
    /// Time of the row, UTC ms; null if there is no row.
    row_ms: Option<i64>,
    /// How often the row was recomputed; 0 is the row as known at its time.
    revision: Option<i64>,
    /// Hash of the names and definitions of its features.
    schema_hash: Option<String>,
}

/// Rows of a query as JSON.
#[derive(ToSchema)]
pub(super) struct SqlRows {
    /// Whether the query has more rows than the limit.
    truncated: bool,
    /// One object for each row.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<serde_json::Value>,
}
