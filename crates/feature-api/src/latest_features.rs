//! The newest feature row of a zone.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use telemetry::SmolStr;
use utoipa::ToSchema;

/// How sure a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowStatus {
    /// At the newest event time; readings of that time may still come.
    Provisional,
    /// The watermark has passed it.
    Final,
}

impl RowStatus {
    /// The name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provisional => "provisional",
            Self::Final => "final",
        }
    }
}

/// The newest feature row of a zone.
#[derive(Clone, Debug, PartialEq)]
pub struct LatestFeatures {
    /// Event time, UTC ms.
    pub at_ms: i64,
    /// Whether readings of that time may still change the row.
    pub status: RowStatus,
    /// Finite values by feature name. A feature without a value has no entry.
    pub features: HashMap<SmolStr, f64>,
}

impl LatestFeatures {
    /// The value of a feature, NaN where there is none.
    #[must_use]
    pub fn feature_value(&self, name: &str) -> f64 {
        self.features.get(name).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_status_is_its_json() {
        for status in [RowStatus::Provisional, RowStatus::Final] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
