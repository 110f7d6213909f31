use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::sorted_readings::PackedReading;

/// Readings that arrived after the time of a row that is not final yet, so that this row as known
/// must exclude them. They are in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct PendingReadings {
    readings: VecDeque<PendingReading>,
    /// Metric slot, event time, device and value bits of each.
    keys: HashSet<(usize, i64, u16, u64)>,
}

/// A reading that waits until the rows have passed its arrival time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PendingReading {
    /// Number of its metric within the zone.
    pub(super) slot: usize,
    pub(super) point: PackedReading,
    /// Arrival time, UTC ms.
    pub(super) arrival_ms: i64,
    /// SQL values for each derived metric.
    pub(super) derived: Option<Vec<Option<f64>>>,
}

impl PendingReading {
    fn key(&self) -> (usize, i64, u16, u64) {
        reading_key(self.slot, &self.point)
    }
}

fn reading_key(slot: usize, point: &PackedReading) -> (usize, i64, u16, u64) {
    (slot, point.event_ms(), point.device(), point.value.to_bits())
}

impl PendingReadings {
    pub(super) fn is_empty(&self) -> bool {
        self.readings.is_empty()
    }

    /// Returns whether an equal reading of the same device is pending.
    pub(super) fn contains(&self, slot: usize, point: &PackedReading) -> bool {
        !self.keys.is_empty() && self.keys.contains(&reading_key(slot, point))
    }

    pub(super) fn push(&mut self, reading: PendingReading) {
        self.keys.insert(reading.key());
        let arrival_ms = reading.arrival_ms;
        if self.readings.back().is_none_or(|last| last.arrival_ms <= arrival_ms) {
            self.readings.push_back(reading);
        } else {
            let at = self.readings.partition_point(|other| other.arrival_ms <= arrival_ms);
            self.readings.insert(at, reading);
        }
    }

    /// Removes and returns the readings that had arrived by `at_ms`.
    pub(super) fn take_arrived(&mut self, at_ms: i64) -> Vec<PendingReading> {
        let count = self.readings.partition_point(|reading| reading.arrival_ms <= at_ms);
        let arrived: Vec<PendingReading> = self.readings.drain(..count).collect();
        for reading in &arrived {
            self.keys.remove(&reading.key());
        }
        arrived
    }

    /// Iterates over all readings, in the order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PendingReading> {
        self.readings.iter()
    }

    /// Returns the oldest event time, ms.
    pub(super) fn oldest_event_ms(&self) -> Option<i64> {
        self.readings.iter().map(|reading| reading.point.event_ms()).min()
    }

    /// Returns the oldest arrival time, ms.
    pub(super) fn next_arrival_ms(&self) -> Option<i64> {
        self.readings.front().map(|reading| reading.arrival_ms)
    }
}
