use std::collections::{HashSet, VecDeque};

use super::sorted_readings::PackedReading;

/// Readings that arrived after the time of a row that is not final yet, and so are not in what
/// was known at that time: in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct PendingReadings {
    readings: VecDeque<PendingReading>,
    /// Metric slot, event time, device and value of each.
    keys: HashSet<(usize, i64, u16, u64)>,
}

/// A reading that waits for its arrival time to be passed by the rows.
#[derive(Clone, Debug)]
pub(super) struct PendingReading {
    /// The number of its metric within the zone.
    pub(super) slot: usize,
    pub(super) point: PackedReading,
    /// UTC ms.
    pub(super) arrival_ms: i64,
    /// What SQL made of it for each derived metric.
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

    /// Whether this very reading is among them.
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

    /// Removes and returns those that had arrived at `at_ms`.
    pub(super) fn take_arrived(&mut self, at_ms: i64) -> Vec<PendingReading> {
        let count = self.readings.partition_point(|reading| reading.arrival_ms <= at_ms);
        let arrived: Vec<PendingReading> = self.readings.drain(..count).collect();
        for reading in &arrived {
            self.keys.remove(&reading.key());
        }
        arrived
    }

    /// All of them, in the order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PendingReading> {
        self.readings.iter()
    }

    /// The oldest event time, ms.
    pub(super) fn oldest_event_ms(&self) -> Option<i64> {
        self.readings.iter().map(|reading| reading.point.event_ms()).min()
    }

    /// The oldest arrival time, ms.
    pub(super) fn next_arrival_ms(&self) -> Option<i64> {
        self.readings.front().map(|reading| reading.arrival_ms)
    }
}
