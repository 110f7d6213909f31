use serde::{Deserialize, Serialize};

use super::{recompute_schedule::RecomputeSchedule, row_ranges::RowRanges};

/// Progress of a zone. Together with its readings, this is all that a restart needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZoneProgress {
    /// Newest event time of a valid reading, UTC ms.
    pub newest_ms: Option<i64>,
    /// Newest arrival time of a valid reading, or, while the zone is silent, the newest arrival
    /// time that a punctual reading could have had, UTC ms.
    #[serde(default)]
    pub arrival_ms: Option<i64>,
    /// Time up to which rows are final, UTC ms. Each has the readings that had arrived by its
    /// time.
    pub final_ms: Option<i64>,
    /// Final rows that later arrivals changed and that must be recomputed.
    #[serde(default, skip_serializing_if = "RowRanges::is_empty")]
    pub recompute: RowRanges,
    /// When they may be recomputed.
    #[serde(default, skip_serializing_if = "RecomputeSchedule::is_default")]
    pub(super) schedule: RecomputeSchedule,
    /// Number of recomputations so far, which is the revision of the rows of the last one.
    pub corrections: i64,
    /// Whether the zone has live readings, so that its time advances by the clock even while it
    /// is silent.
    pub live: bool,
    /// Signs that the gateway's clock was ahead and was set back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) set_back: Option<SetBackSigns>,
    /// Oldest event time that arrived after its row was final. Only files that a version before
    /// 30 November 2026 wrote have it.
    #[serde(default, skip_serializing)]
    dirty_ms: Option<i64>,
}

/// Count of the reports that the gateway received long before the zone's newest event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SetBackSigns {
    /// When the first of them was received, UTC ms.
    pub(super) since_ms: i64,
    /// Number of their readings.
    pub(super) readings: u64,
}

impl ZoneProgress {
    /// Progress of a zone of which only the newest event time, UTC ms, is known.
    #[must_use]
    pub fn with_newest(newest_ms: i64) -> Self {
        Self { newest_ms: Some(newest_ms), ..Self::default() }
    }

    /// Converts the progress that an earlier version wrote.
    pub(super) fn migrate(mut self, grid_ms: i64, lateness_ms: i64) -> Self {
        if let (Some(dirty_ms), Some(final_ms)) = (self.dirty_ms.take(), self.final_ms) {
            self.recompute.add_range(round_up_to_grid(dirty_ms, grid_ms), final_ms, grid_ms);
        }
        let arrival_ms = self.final_ms.map(|final_ms| final_ms + lateness_ms);
        self.arrival_ms = self.arrival_ms.or(arrival_ms);
        self
    }

    /// Returns the oldest time of a row that may still be computed, UTC ms.
    #[must_use]
    pub fn oldest_row_ms(&self) -> Option<i64> {
        let recompute_ms = self.recompute.first_ms();
        self.newest_ms.map(|newest_ms| recompute_ms.map_or(newest_ms, |ms| ms.min(newest_ms)))
    }
}

/// First grid time that is not before `at_ms`.
pub(super) fn round_up_to_grid(at_ms: i64, grid_ms: i64) -> i64 {
    let below = round_down_to_grid(at_ms, grid_ms);
    if below == at_ms { below } else { below + grid_ms }
}

/// Last grid time that is not after `at_ms`.
pub(super) fn round_down_to_grid(at_ms: i64, grid_ms: i64) -> i64 {
    at_ms.div_euclid(grid_ms).saturating_mul(grid_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        let text = r#"{"newest_ms":660500,"watermark_ms":540500,"final_ms":540000,"dirty_ms":130000,
            "dirty_since_ms":540500,"corrections":3,"live":true,"behind":[{"metric":"co2","device":"d",
            "event_ms":1,"arrival_ms":2,"value":3.0}]}"#;
        let progress = serde_json::from_str::<ZoneProgress>(text).unwrap().migrate(60_000, 120_000);
        assert_eq!(progress.recompute.iter().collect::<Vec<_>>(), [(180_000, 540_000)]);
        assert_eq!((progress.arrival_ms, progress.corrections), (Some(660_000), 3));
        assert_eq!(progress.oldest_row_ms(), Some(180_000));
        let again = serde_json::to_string(&progress).unwrap();
        assert_eq!(serde_json::from_str::<ZoneProgress>(&again).unwrap(), progress);
    }

    #[test]
    fn grid_times() {
        for (at_ms, down, up) in [(0, 0, 0), (1, 0, 10), (-1, -10, 0), (10, 10, 10), (19, 10, 20)] {
            assert_eq!(
                (round_down_to_grid(at_ms, 10), round_up_to_grid(at_ms, 10)),
                (down, up),
                "{at_ms}"
            );
        }
    }
}
