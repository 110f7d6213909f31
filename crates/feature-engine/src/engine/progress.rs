use serde::{Deserialize, Serialize};

use super::{recompute_schedule::RecomputeSchedule, row_ranges::RowRanges};

/// How far a zone has come: with its readings, all that a restart needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZoneProgress {
    /// Newest event time of a reading that counts, UTC ms.
    pub newest_ms: Option<i64>,
    /// Newest arrival time of a reading that counts, or of a punctual reading that could have
    /// come while the zone was silent, UTC ms.
    #[serde(default)]
    pub arrival_ms: Option<i64>,
    /// Rows up to this time are final: what had arrived by their time is in them, UTC ms.
    pub final_ms: Option<i64>,
    /// Final rows that later arrivals changed and that are to be computed again.
    #[serde(default, skip_serializing_if = "RowRanges::is_empty")]
    pub recompute: RowRanges,
    /// When that may be.
    #[serde(default, skip_serializing_if = "RecomputeSchedule::is_default")]
    pub(super) schedule: RecomputeSchedule,
    /// Recomputations so far: the revision of the rows of the last one.
    pub corrections: i64,
    /// Whether readings of the zone were measured now, so that time passes for it even while
    /// it is silent.
    pub live: bool,
    /// Signs that the clock of the gateway was ahead, and no longer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) set_back: Option<SetBackSigns>,
    /// Of files that a version before 30 November 2026 wrote: the oldest event time that came
    /// after its row was final.
    #[serde(default, skip_serializing)]
    dirty_ms: Option<i64>,
}

/// Reports that the gateway received long before the zone's newest event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SetBackSigns {
    /// When the first of them was received, UTC ms.
    pub(super) since_ms: i64,
    /// Their readings.
    pub(super) readings: u64,
}

impl ZoneProgress {
    /// Of a zone whose newest reading is of that time, UTC ms, and of which no more is known.
    #[must_use]
    pub fn with_newest(newest_ms: i64) -> Self {
        Self { newest_ms: Some(newest_ms), ..Self::default() }
    }

    /// Completes what an earlier version wrote.
    pub(super) fn migrate(mut self, grid_ms: i64, lateness_ms: i64) -> Self {
        if let (Some(dirty_ms), Some(final_ms)) = (self.dirty_ms.take(), self.final_ms) {
            self.recompute.add_range(round_up_to_grid(dirty_ms, grid_ms), final_ms, grid_ms);
        }
        let arrival_ms = self.final_ms.map(|final_ms| final_ms + lateness_ms);
        self.arrival_ms = self.arrival_ms.or(arrival_ms);
        self
    }

    /// The oldest event time of rows that may still be computed, UTC ms.
    #[must_use]
    pub fn oldest_row_ms(&self) -> Option<i64> {
        let recompute_ms = self.recompute.first_ms();
        self.newest_ms.map(|newest_ms| recompute_ms.map_or(newest_ms, |ms| ms.min(newest_ms)))
    }
}

/// The first grid time that is not before `at_ms`.
pub(super) fn round_up_to_grid(at_ms: i64, grid_ms: i64) -> i64 {
    let below = round_down_to_grid(at_ms, grid_ms);
    if below == at_ms { below } else { below + grid_ms }
}

/// The last grid time that is not after `at_ms`.
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
