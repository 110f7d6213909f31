use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use recordings::{RecordedRow, RejectedLine, SensorKey};
use telemetry::ZoneId;

/// All readings of one zone in a recording, in memory.
#[derive(Debug)]
pub(crate) struct ZoneHistory {
    pub(crate) zone: ZoneId,
    pub(crate) files: Vec<SourceFile>,
    pub(crate) series: Vec<SensorSeries>,
    pub(crate) rejects: Vec<RejectedLine>,
}

/// A file with readings.
#[derive(Clone, Debug)]
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// Readings of one sensor in one file, in the order of arrival.
#[derive(Debug)]
pub(crate) struct SensorSeries {
    pub(crate) sensor: Arc<SensorKey>,
    /// Index into the zone's files.
    pub(crate) file: usize,
    pub(crate) event_ms: Vec<i64>,
    /// Arrival times, if any differs from its event time.
    pub(crate) arrival_ms: Option<Vec<i64>>,
    pub(crate) value: Vec<f64>,
    pub(crate) line: Vec<u32>,
}

impl SensorSeries {
    pub(crate) fn new(sensor: Arc<SensorKey>, file: usize) -> Self {
        let (event_ms, value, line) = (Vec::new(), Vec::new(), Vec::new());
        Self { sensor, file, event_ms, arrival_ms: None, value, line }
    }

    pub(crate) fn push(&mut self, row: &RecordedRow) {
        if row.arrival_ms != row.event_ms && self.arrival_ms.is_none() {
            self.arrival_ms = Some(self.event_ms.clone());
        }
        self.event_ms.push(row.event_ms);
        self.value.push(row.value);
        self.line.push(row.line);
        if let Some(arrivals) = &mut self.arrival_ms {
            arrivals.push(row.arrival_ms);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.event_ms.len()
    }

    pub(crate) fn arrival_ms(&self, at: usize) -> i64 {
        self.arrival_ms.as_ref().map_or(self.event_ms[at], |arrivals| arrivals[at])
    }

    /// Keeps the readings of [from, to), in the order of arrival.
    fn trim_and_sort(&mut self, from_ms: i64, to_ms: i64) {
        let key = |series: &Self, at: usize| (series.arrival_ms(at), series.event_ms[at]);
        let is_whole = self.event_ms.iter().all(|ms| (from_ms..to_ms).contains(ms));
        if is_whole && (1..self.len()).all(|at| key(self, at - 1) <= key(self, at)) {
            return;
        }
        let mut kept: Vec<usize> =
            (0..self.len()).filter(|at| (from_ms..to_ms).contains(&self.event_ms[*at])).collect();
        kept.sort_by_key(|at| key(self, *at));
        self.retain_readings(&kept);
    }

    /// Keeps the readings at these indices, in this order.
    fn retain_readings(&mut self, kept: &[usize]) {
        self.event_ms = kept.iter().map(|at| self.event_ms[*at]).collect();
        self.value = kept.iter().map(|at| self.value[*at]).collect();
        self.line = kept.iter().map(|at| self.line[*at]).collect();
        if let Some(arrivals) = &mut self.arrival_ms {
            *arrivals = kept.iter().map(|at| arrivals[*at]).collect();
        }
    }
}

impl ZoneHistory {
    pub(crate) fn new(zone: ZoneId) -> Self {
        Self { zone, files: Vec::new(), series: Vec::new(), rejects: Vec::new() }
    }

    /// Keeps the readings of [from, to), in the order of arrival.
    pub(crate) fn trim_and_sort(&mut self, from_ms: Option<i64>, to_ms: Option<i64>) {
        let (from_ms, to_ms) = (from_ms.unwrap_or(i64::MIN), to_ms.unwrap_or(i64::MAX));
        self.series.iter_mut().for_each(|series| series.trim_and_sort(from_ms, to_ms));
        self.series.retain(|series| series.len() > 0);
    }

    /// Keeps the readings after the first `lines` lines of their file, in the order of arrival.
    pub(crate) fn retain_after_line(&mut self, lines: u64) {
        for series in &mut self.series {
            let kept: Vec<usize> =
                (0..series.len()).filter(|at| u64::from(series.line[*at]) > lines).collect();
            if kept.len() < series.len() {
                series.retain_readings(&kept);
            }
        }
        self.trim_and_sort(None, None);
    }

    pub(crate) fn reading_count(&self) -> usize {
        self.series.iter().map(SensorSeries::len).sum()
    }

    /// Iterates over all readings as (series, index), by arrival time, then event time, then
    /// series.
    pub(crate) fn iter_by_arrival(&self) -> impl Iterator<Item = (usize, usize)> {
        // A zone has few sensors, which mostly take turns. A sorted list of heads, into which a
        // sensor's next reading is inserted from the front, is cheaper than a heap.
        let head = |series: usize, at: usize| {
            let sensor = self.series.get(series)?;
            (at < sensor.len()).then(|| (sensor.arrival_ms(at), sensor.event_ms[at], series, at))
        };
        let mut heads: Vec<(i64, i64, usize, usize)> =
            (0..self.series.len()).filter_map(|series| head(series, 0)).collect();
        heads.sort_unstable();
        std::iter::from_fn(move || {
            let (_, _, series, at) = *heads.first()?;
            match head(series, at + 1) {
                Some(next) => {
                    let before = heads[1..].iter().take_while(|other| **other < next).count();
                    heads.copy_within(1..=before, 0);
                    heads[before] = next;
                }
                None => drop(heads.remove(0)),
            }
            Some((series, at))
        })
    }
}

/// Histories of several zones, by zone and sensor.
#[derive(Debug, Default)]
pub(super) struct ZoneHistories {
    pub(super) zones: BTreeMap<ZoneId, ZoneHistory>,
    series_by_sensor: std::collections::HashMap<Arc<SensorKey>, usize>,
}

impl ZoneHistories {
    /// Adds a row of a file.
    pub(crate) fn push(&mut self, row: &RecordedRow, file: &SourceFile) {
        let RecordedRow { sensor, .. } = row;
        let history = self
            .zones
            .entry(sensor.zone.clone())
            .or_insert_with(|| ZoneHistory::new(sensor.zone.clone()));
        let at = *self.series_by_sensor.entry(sensor.clone()).or_insert_with(|| {
            if history.files.last().is_none_or(|last| last.path != file.path) {
                history.files.push(file.clone());
            }
            history.series.push(SensorSeries::new(sensor.clone(), history.files.len() - 1));
            history.series.len() - 1
        });
        history.series[at].push(row);
    }

    /// Starts the next file, whose readings are separate series.
    pub(crate) fn start_next_file(&mut self) {
        self.series_by_sensor.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(metric: &str, readings: &[(i64, i64)]) -> SensorSeries {
        let zone = ZoneId::new("a", "b");
        let sensor = Arc::new(SensorKey { zone, device: "d".into(), metric: metric.into() });
        let mut series = SensorSeries::new(sensor.clone(), 0);
        for (line, (event_ms, late_ms)) in readings.iter().enumerate() {
            series.push(&RecordedRow {
                sensor: sensor.clone(),
                event_ms: *event_ms,
                arrival_ms: event_ms + late_ms,
                value: line as f64,
                line: line as u32,
            });
        }
        series
    }

    proptest! {
        #[test]
        fn it_is_in_the_order_of_arrival_and_whole(
            all in prop::collection::vec(prop::collection::vec((0..100_i64, 0..3_i64), 0..20), 0..6),
            from_ms in 0..40_i64, to_ms in 60..100_i64,
        ) {
            let mut history = ZoneHistory::new(ZoneId::new("a", "b"));
            history.series = all.iter().map(|readings| series("m", readings)).collect();
            history.trim_and_sort(Some(from_ms), Some(to_ms));
            let order: Vec<(usize, usize)> = history.iter_by_arrival().collect();
            let key = |(s, at): (usize, usize)| (history.series[s].arrival_ms(at), history.series[s].event_ms[at]);
            prop_assert!(order.windows(2).all(|pair| key(pair[0]) <= key(pair[1])));
            let mut kept: Vec<(i64, i64)> =
                all.concat().into_iter().map(|(ms, late)| (ms + late, ms)).filter(|(_, ms)| (from_ms..to_ms).contains(ms)).collect();
            kept.sort_unstable();
            let mut got: Vec<(i64, i64)> = order.into_iter().map(key).collect();
            got.sort_unstable();
            prop_assert_eq!(got, kept);
        }
    }
}
