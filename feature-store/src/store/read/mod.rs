//! What can be asked of the file. Nothing here writes to it.
//!
//! # Layout
//! - `conditions`: filters that several questions share
//! - `rows`: feature rows as a table and as history, in either [`Mode`]
//! - `kept`: the table that they are in, by the version of the definitions
//! - `newest`: the newest row of each zone, of an old version
//! - `points`: the row that was known, or is known now, at given zones and times
//! - `values`: the values of features over a span, for statistics
//! - `readings`: readings as they are kept, page by page; `quality`: their counts
//! - `explain`: the readings behind one value
//! - `table`: an answer of any columns

mod conditions;
mod explain;
mod kept;
mod newest;
mod points;
mod quality;
mod readings;
mod rows;
mod table;
mod values;

pub(crate) use explain::{Behind, behind, replay, stored};
pub use explain::{BehindQuery, EdgeReading};
pub(crate) use newest::newest;
pub use points::PointQuery;
pub(crate) use points::points;
pub(crate) use quality::quality;
pub use quality::{QualityCount, QualityQuery};
pub(crate) use readings::readings;
pub use readings::{Cursor, ReadingQuery, ReadingRow};
pub use rows::{FrameQuery, HistoryQuery, HistoryRow, Mode};
pub(crate) use rows::{frame, history};
pub use table::Table;
pub use values::FeatureValues;
pub(crate) use values::values;

use duckdb::Connection;

use crate::{StoreError, lake::LakeReader};

/// Where answers come from: the DuckDB file and what has moved from it to the lake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) lake: &'a LakeReader,
}

/// That there is no such feature, with the nearest that there is.
pub(crate) fn unknown_feature<'a>(
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> StoreError {
    let near = known.into_iter().map(|own| (strsim::jaro_winkler(own, name), own));
    let hint = near.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.8);
    StoreError::UnknownFeature { name: name.to_owned(), hint: hint.map(|(_, own)| own.to_owned()) }
}
