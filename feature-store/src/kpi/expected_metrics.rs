use std::collections::{BTreeMap, BTreeSet};

use agronomy::kpi::{KpiRules, TimePeriod, ZoneTally};
use jiff::tz::TimeZone;
use telemetry::SmolStr;

use super::hours::HourTallies;

/// Metrics of a zone that are expected to have readings in an hour: those with a valid reading in
/// the days before ([`KpiRules::expected_days`]). A metric that never had readings, or was
/// removed long ago, is not expected.
#[derive(Debug, Default)]
pub(super) struct ExpectedMetrics {
    /// Start of the newest hour with a valid reading, UTC ms, by metric.
    last_valid_ms: BTreeMap<SmolStr, i64>,
    expected_ms: i64,
}

impl ExpectedMetrics {
    pub(super) fn new(rules: &KpiRules) -> Self {
        Self { last_valid_ms: BTreeMap::new(), expected_ms: rules.expected_ms() }
    }

    /// Notes that a metric has a valid reading in the hour that begins at `start_ms`.
    pub(super) fn note_valid(&mut self, metric: &SmolStr, start_ms: i64) {
        match self.last_valid_ms.get_mut(metric) {
            Some(last_ms) => *last_ms = start_ms.max(*last_ms),
            None => drop(self.last_valid_ms.insert(metric.clone(), start_ms)),
        }
    }

    /// Returns the metrics that are expected in an hour, from the earlier hours noted so far.
    fn expected_in_hour(&self, start_ms: i64) -> Vec<SmolStr> {
        let is_expected =
            |last_ms: i64| last_ms < start_ms && start_ms - last_ms <= self.expected_ms;
        let expected = self.last_valid_ms.iter().filter(|(_, last_ms)| is_expected(**last_ms));
        expected.map(|(metric, _)| metric.clone()).collect()
    }

    /// Visits, in order, the hours from `from_ms` to that of `until_ms` in which metrics are
    /// expected. `counted` has the hours with readings; `valid` returns the metrics with valid
    /// readings in such an hour.
    pub(super) fn visit_hours(
        &mut self,
        (from_ms, until_ms): (i64, i64),
        time_zone: &TimeZone,
        counted: &BTreeSet<i64>,
        valid: impl Fn(i64) -> Vec<SmolStr>,
        mut visit: impl FnMut(TimePeriod, &[SmolStr]),
    ) {
        let mut at_ms = from_ms;
        while at_ms <= until_ms {
            let Some(period) = TimePeriod::local_hour(at_ms, time_zone) else { break };
            let expected = self.expected_in_hour(period.start_ms);
            if expected.is_empty() {
                // Years may lie between two readings.
                match counted.range(period.start_ms..).next() {
                    Some(next_ms) if *next_ms >= period.end_ms => {
                        at_ms = *next_ms;
                        continue;
                    }
                    Some(_) => {}
                    None => break,
                }
            } else {
                visit(period, &expected);
            }
            if counted.contains(&period.start_ms) {
                for metric in valid(period.start_ms) {
                    self.note_valid(&metric, period.start_ms);
                }
            }
            at_ms = period.end_ms;
        }
    }
}

/// Adds silent metrics to the hours of a whole history: those that were expected but had no
/// reading, up to the newest valid reading.
pub(super) fn add_silent_metrics(hours: &mut HourTallies, rules: &KpiRules, time_zone: &TimeZone) {
    let is_valid = |start_ms: &i64| hours[start_ms].1.valid_metrics().next().is_some();
    let Some(last_ms) = hours.keys().rev().copied().find(is_valid) else { return };
    let Some(first_ms) = hours.keys().next().copied() else { return };
    let counted: BTreeSet<i64> = hours.keys().copied().collect();
    let valid = |start_ms: i64| hours[&start_ms].1.valid_metrics().cloned().collect();
    let mut silent: Vec<(TimePeriod, Vec<SmolStr>)> = Vec::new();
    ExpectedMetrics::new(rules).visit_hours(
        (first_ms, last_ms),
        time_zone,
        &counted,
        valid,
        |period, expected| silent.push((period, expected.to_vec())),
    );
    for (period, expected) in silent {
        let (_, tally) =
            hours.entry(period.start_ms).or_insert_with(|| (period, ZoneTally::default()));
        expected.iter().for_each(|metric| tally.expect_metric(metric));
    }
}
