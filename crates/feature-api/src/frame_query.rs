//! Which feature rows to read, and which revision of each.

use serde::{Deserialize, Serialize};
use telemetry::ZoneId;
use utoipa::ToSchema;

/// Selects which revision of each row is read. The two are never mixed in one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Mode)]
pub enum RevisionMode {
    /// Each row as it was known at its own time, without readings that arrived later.
    AsKnown,
    /// Each row with every reading that has arrived by now.
    #[default]
    AsCorrected,
}

impl RevisionMode {
    /// The name in JSON and in query parameters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AsKnown => "as_known",
            Self::AsCorrected => "as_corrected",
        }
    }
}

/// Selection of feature rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameQuery {
    /// Zones to read; `None` reads all zones.
    pub zones: Option<Vec<ZoneId>>,
    /// First event time to read, UTC ms, inclusive.
    pub from_ms: Option<i64>,
    /// Last event time to read, UTC ms, inclusive.
    pub to_ms: Option<i64>,
    /// Features to read; `None` reads all features.
    pub columns: Option<Vec<String>>,
    /// Step of the rows, seconds: only rows whose time is a multiple of it are read.
    pub step_s: Option<i64>,
    /// Version of the feature definitions; `None` reads the active version.
    pub version: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_mode_is_its_json() {
        for mode in [RevisionMode::AsKnown, RevisionMode::AsCorrected] {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
    }
}
