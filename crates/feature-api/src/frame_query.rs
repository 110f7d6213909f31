//! Which feature rows to read, and which revision of each.

use serde::{Deserialize, Serialize};
use telemetry::ZoneId;
use utoipa::ToSchema;

/// Which of a row's revisions is meant. The two are never mixed in one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Mode)]
pub enum RevisionMode {
    /// As it was known at its own time: readings that arrived later are not in it.
    AsKnown,
    /// With every reading that has arrived by now.
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

/// Which feature rows to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameQuery {
    /// All zones where there are none.
    pub zones: Option<Vec<ZoneId>>,
    /// Event time, UTC ms, this and later.
    pub from_ms: Option<i64>,
    /// Event time, UTC ms, this and earlier.
    pub to_ms: Option<i64>,
    /// All features where there are none.
    pub columns: Option<Vec<String>>,
    /// Only rows whose time is a multiple of this, seconds.
    pub step_s: Option<i64>,
    /// Of which version of the definitions; of the active one where there is none.
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
