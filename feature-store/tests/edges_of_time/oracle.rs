//! Rows by plain loops over the readings that had arrived (as known) or arrived at all (as
//! corrected).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use telemetry::QualityFlag;

use crate::schedule::{HOUR_MS, METRICS, MINUTE_MS, SimulatedMessage};

/// Definitions that the oracle implements.
pub(crate) const DEFINITIONS: &str = r#"
version = 1
[windows]
10m = ["count", "mean", "std", "min", "max", "coverage"]
1h = ["count", "mean", "last", "slope", "p50"]
24h = ["count", "mean", "min", "max", "p90"]
7d = ["count", "mean", "std"]
"#;

const LATENESS_MS: i64 = 120_000;
const LATE_MAX_MS: i64 = 259_200_000;
const FUTURE_MAX_MS: i64 = 300_000;
const SILENCE_MAX_MS: i64 = HOUR_MS;

/// Returns the quality flag of each message, in the order of arrival.
pub(crate) fn expected_qualities(messages: &[SimulatedMessage]) -> Vec<QualityFlag> {
    let mut newest: BTreeMap<usize, i64> = BTreeMap::new();
    let mut seen = HashSet::new();
    messages
        .iter()
        .map(|message| {
            let SimulatedMessage { zone, device, metric, event_ms, arrival_ms, value } = message;
            let newest_ms = newest.get(zone).copied().unwrap_or(i64::MIN / 2);
            let key = (*zone, *device, *metric, *event_ms, value.to_bits());
            if *event_ms > arrival_ms + FUTURE_MAX_MS {
                return QualityFlag::Future;
            }
            // A copy of a valid reading; flagged readings are not remembered.
            if seen.contains(&key) && *event_ms >= newest_ms - LATENESS_MS - LATE_MAX_MS {
                return QualityFlag::Duplicate;
            }
            if *event_ms < newest_ms - LATENESS_MS - LATE_MAX_MS {
                return if seen.contains(&key) {
                    QualityFlag::Duplicate
                } else {
                    QualityFlag::Late
                };
            }
            newest.insert(*zone, newest_ms.max(*event_ms));
            seen.insert(key);
            QualityFlag::Ok
        })
        .collect()
}

/// Valid readings of one zone, by metric, in the order of event time.
pub(crate) struct ZoneReadings(BTreeMap<&'static str, Vec<(i64, f64, i64)>>);

impl ZoneReadings {
    pub(crate) fn new(
        messages: &[SimulatedMessage],
        qualities: &[QualityFlag],
        zone: usize,
    ) -> Self {
        let mut readings: BTreeMap<&'static str, Vec<(i64, f64, i64)>> = BTreeMap::new();
        for (message, _) in messages
            .iter()
            .zip(qualities)
            .filter(|(message, quality)| message.zone == zone && **quality == QualityFlag::Ok)
        {
            let of_metric = readings.entry(message.metric).or_default();
            of_metric.push((message.event_ms, message.value, message.arrival_ms));
        }
        for of_metric in readings.values_mut() {
            of_metric.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        }
        Self(readings)
    }

    fn readings_inside(
        &self,
        metric: &str,
        after_ms: i64,
        until_ms: i64,
        arrived_ms: i64,
    ) -> Vec<(i64, f64)> {
        let Some(of_metric) = self.0.get(metric) else { return Vec::new() };
        let from = of_metric.partition_point(|reading| reading.0 <= after_ms);
        let end = of_metric.partition_point(|reading| reading.0 <= until_ms);
        let known = of_metric[from..end].iter().filter(|reading| reading.2 <= arrived_ms);
        known.map(|reading| (reading.0, reading.1)).collect()
    }

    /// Returns the times of rows after `after_ms` up to `until_ms`: those with a reading in the
    /// hour before that had arrived by `arrived` of the time.
    pub(crate) fn row_times(
        &self,
        after_ms: i64,
        until_ms: i64,
        arrived: impl Fn(i64) -> i64,
    ) -> BTreeSet<i64> {
        let mut times = BTreeSet::new();
        for (event_ms, _, arrival_ms) in self.0.values().flatten() {
            let first_ms = -(-event_ms).div_euclid(MINUTE_MS) * MINUTE_MS;
            let mut at_ms = first_ms;
            while at_ms < event_ms + SILENCE_MAX_MS {
                if at_ms > after_ms && at_ms <= until_ms && *arrival_ms <= arrived(at_ms) {
                    times.insert(at_ms);
                }
                at_ms += MINUTE_MS;
            }
        }
        times
    }

    /// Returns the features of a time by name, from the readings that had arrived by
    /// `arrived_ms`.
    pub(crate) fn expected_features(
        &self,
        at_ms: i64,
        arrived_ms: i64,
    ) -> BTreeMap<String, Option<f64>> {
        let mut features = BTreeMap::new();
        for metric in METRICS {
            for (window, minutes) in [("10m", 10), ("1h", 60), ("24h", 1440), ("7d", 10_080)] {
                let width_ms = minutes * MINUTE_MS;
                let inside = self.readings_inside(metric, at_ms - width_ms, at_ms, arrived_ms);
                let mut put = |aggregate: &str, value: Option<f64>| {
                    features.insert(format!("{metric}_{aggregate}_{window}"), value);
                };
                let count = inside.len() as f64;
                let mean = inside.iter().map(|r| r.1).sum::<f64>() / count;
                let some = |value: f64| (!inside.is_empty()).then_some(value);
                let mut sorted: Vec<f64> = inside.iter().map(|r| r.1).collect();
                sorted.sort_by(f64::total_cmp);
                let quantile = |q: f64| {
                    let rank = ((q * count).ceil() as usize).max(1);
                    sorted.get(rank - 1).copied()
                };
                // A metric without readings within a week has no features.
                let week =
                    self.readings_inside(metric, at_ms - 10_080 * MINUTE_MS, at_ms, arrived_ms);
                let is_there = !week.is_empty();
                put("count", is_there.then_some(count));
                put("mean", some(mean));
                match window {
                    "10m" | "7d" => {
                        let m2: f64 = inside.iter().map(|r| (r.1 - mean).powi(2)).sum();
                        put("std", (inside.len() > 1).then(|| (m2 / (count - 1.0)).sqrt()));
                    }
                    "1h" => {
                        put("last", inside.last().map(|r| r.1));
                        put("slope", least_squares_slope(&inside, mean));
                        put("p50", quantile(0.5));
                    }
                    _ => {
                        put("min", sorted.first().copied());
                        put("max", sorted.last().copied());
                        put("p90", quantile(0.9));
                    }
                }
                if window == "10m" {
                    let minutes: BTreeSet<i64> =
                        inside.iter().map(|r| (r.0 - 1).div_euclid(MINUTE_MS)).collect();
                    let coverage = (100.0 * minutes.len() as f64 / 10.0).min(100.0);
                    put("coverage", is_there.then_some(coverage));
                    put("min", sorted.first().copied());
                    put("max", sorted.last().copied());
                }
            }
        }
        features
    }
}

fn least_squares_slope(inside: &[(i64, f64)], mean: f64) -> Option<f64> {
    let first = inside.first()?.0;
    let hours = |ms: i64| (ms - first) as f64 / HOUR_MS as f64;
    let t = inside.iter().map(|r| hours(r.0)).sum::<f64>() / inside.len() as f64;
    let tt: f64 = inside.iter().map(|r| (hours(r.0) - t).powi(2)).sum();
    let tv: f64 = inside.iter().map(|r| (hours(r.0) - t) * (r.1 - mean)).sum();
    (tt > 0.0).then(|| tv / tt)
}
