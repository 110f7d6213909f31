//! Answers that are written by hand, for speed: these are their schemas.

#![expect(dead_code, reason = "what is said of answers, which are made without it")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

use crate::{RevisionMode, RowStatus};

/// The newest row of each zone.
#[derive(ToSchema)]
pub(super) struct LatestRows {
    rows: Vec<LatestRow>,
    /// Where the next page begins, where there is one.
    next: Option<String>,
}

#[derive(ToSchema)]
struct LatestRow {
    #[schema(example = "farm/bay-1")]
    zone: String,
    /// Its event time, UTC ms.
    at_ms: i64,
    /// Of the names and meaning of its features.
    schema_hash: String,
    /// Now less its event time, seconds.
    age_s: f64,
    /// Whether it is older than `online.max_age_s`: its values are none of now. Single metrics
    /// may be older than their row, as their `<metric>_age_s` says.
    is_stale: bool,
    status: RowStatus,
    /// By window, the lowest share of minutes with a reading of any metric, %.
    coverage_pct: BTreeMap<String, Option<f64>>,
    /// `null` where there is no value.
    features: BTreeMap<String, Option<f64>>,
}

/// A data set as JSON.
#[derive(ToSchema)]
pub(super) struct DatasetRows {
    mode: RevisionMode,
    rows: Vec<DatasetRow>,
}

/// Beside these fields there is one for each feature.
#[derive(ToSchema)]
struct DatasetRow {
    zone: String,
    /// The time asked for, UTC ms.
    at_ms: i64,
    /// The time of the row, UTC ms; null where there is none.
    row_ms: Option<i64>,
    /// 0 as it was known at its time; higher ones have readings that came later.
    revision: Option<i64>,
    /// Of the names and meaning of its features.
    schema_hash: Option<String>,
}

/// A query's rows as JSON.
#[derive(ToSchema)]
pub(super) struct SqlRows {
    /// Whether there were more rows than the limit.
    truncated: bool,
    /// An object a row.
    rows: Vec<BTreeMap<String, String>>,
}
