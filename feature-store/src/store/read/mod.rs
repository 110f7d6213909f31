//! Queries of the DuckDB file. Nothing here writes to it.
//!
//! # Layout
//! - `conditions`: filters that several questions share
//! - `rows`: feature rows as a table and as history, in either [`feature_api::RevisionMode`]
//! - `kept`: the table that they are in, by the version of the definitions
//! - `newest`: the newest row of each zone, of an old version
//! - `points`: the row that was known, or is known now, at given zones and times
//! - `values`: the values of features over a span, for statistics
//! - `readings`: readings as they are kept, page by page; `quality`: their counts
//! - `explain`: the readings behind one value
//! - `table`: an answer of any columns

mod arrow_table;
mod feature_rows;
mod feature_values;
mod newest_rows;
mod point_in_time;
mod provenance;
mod quality_counts;
mod readings;
mod version_rows;
mod where_clause;

pub use arrow_table::ArrowTable;
pub use feature_rows::{HistoryQuery, HistoryRow};
pub(crate) use feature_rows::{read_feature_frame, read_history};
pub use feature_values::FeatureValues;
pub(crate) use feature_values::read_feature_values;
pub(crate) use newest_rows::read_newest_rows;
pub use point_in_time::PointQuery;
pub(crate) use point_in_time::read_points;
pub(crate) use provenance::{Behind, read_provenance, read_stored_revisions, replay_readings};
pub use provenance::{EdgeReading, ProvenanceQuery};
pub(crate) use quality_counts::read_quality_counts;
pub use quality_counts::{QualityCount, QualityQuery};
pub(crate) use readings::read_readings;
pub use readings::{ReadingCursor, ReadingQuery, ReadingRow};

use duckdb::Connection;

use crate::{StoreError, lake::LakeReader};

/// Source of answers: the DuckDB file, and the lake with the rows that have moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSource<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) lake: &'a LakeReader,
}

/// Builds the error for an unknown feature, with the most similar known name.
pub(crate) fn unknown_feature_error<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> StoreError {
    let near =
        known.into_iter().map(|candidate| (strsim::jaro_winkler(candidate, name), candidate));
    let hint = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.8);
    StoreError::UnknownFeature {
        name: name.to_owned(),
        hint: hint.map(|(_, nearest)| nearest.to_owned()),
    }
}
