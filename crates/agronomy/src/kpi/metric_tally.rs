use serde::{Deserialize, Serialize};
use telemetry::QualityFlag;

use super::{ComfortBand, Observation, TimePeriod, ValueMoments, score};

/// Tally of one metric over one period, while the period fills. Two tallies merge if the second
/// follows the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricTally {
    /// Number of readings by quality, in the order of [`QualityFlag::ALL`].
    counts: [u64; QualityFlag::ALL.len()],
    values: ValueMoments,
    /// Comfort of the valid readings, 0–100.
    comfort: ValueMoments,
    /// Number of slots of the expected interval that have a valid reading.
    slots: u64,
    /// Event times, ms, of the first and the last valid reading.
    span: Option<(i64, i64)>,
    /// Largest gap between valid readings, ms.
    gap_max_ms: i64,
}

/// KPIs of one metric over one period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricKpis {
    /// Number of readings, flagged ones included.
    pub count: u64,
    /// Share of the readings that are valid, 0–1. `None` without readings.
    pub valid_share: Option<f64>,
    /// Smallest valid value.
    pub min: Option<f64>,
    /// Mean of the valid values.
    pub mean: Option<f64>,
    /// Largest valid value.
    pub max: Option<f64>,
    /// Sample standard deviation of the valid values.
    pub std: Option<f64>,
    /// Share of the expected intervals with a valid reading, 0–1.
    pub completeness: f64,
    /// Longest time without a valid reading, s, edges of the period included.
    pub gap_max_s: f64,
    /// Mean comfort, 0–100. `None` without a comfort band or values.
    pub comfort: Option<f64>,
    /// Data quality, 0–100.
    pub quality: f64,
}

impl MetricTally {
    /// Adds a reading, not older than the previous ones. `interval_ms`, above 0, is the expected
    /// time between readings.
    pub fn add_reading(
        &mut self,
        reading: &Observation,
        interval_ms: i64,
        band: Option<&ComfortBand>,
    ) {
        self.counts[reading.quality as usize] += 1;
        if !reading.quality.is_ok() || !reading.value.is_finite() {
            return;
        }
        let mut one = Self { slots: 1, ..Self::default() };
        one.values.add_value(reading.value);
        if let Some(band) = band {
            one.comfort.add_value(band.comfort_score(reading.value));
        }
        one.span = Some((reading.event_ms, reading.event_ms));
        self.merge_later(&one, interval_ms);
    }

    /// Merges the tally of the time that follows.
    pub fn merge_later(&mut self, later: &Self, interval_ms: i64) {
        for (count, more) in self.counts.iter_mut().zip(later.counts) {
            *count += more;
        }
        self.values.merge(&later.values);
        self.comfort.merge(&later.comfort);
        self.slots += later.slots;
        self.gap_max_ms = self.gap_max_ms.max(later.gap_max_ms);
        self.span = match (self.span, later.span) {
            (Some((first_ms, last_ms)), Some((next_ms, end_ms))) => {
                self.gap_max_ms = self.gap_max_ms.max(next_ms - last_ms);
                let slot = |ms: i64| ms.div_euclid(interval_ms.max(1));
                if slot(last_ms) == slot(next_ms) {
                    self.slots = self.slots.saturating_sub(1);
                }
                Some((first_ms, end_ms))
            }
            (before, after) => before.or(after),
        };
    }

    /// Number of readings with a quality flag.
    #[must_use]
    pub const fn count_quality(&self, quality: QualityFlag) -> u64 {
        self.counts[quality as usize]
    }

    /// Computes the KPIs of the period that this tally covers.
    #[must_use]
    pub fn compute_kpis(&self, period: TimePeriod, interval_ms: i64) -> MetricKpis {
        let count: u64 = self.counts.iter().sum();
        let valid_share = (count > 0).then(|| self.values.count() as f64 / count as f64);
        let expected = (period.length_ms() as f64 / interval_ms.max(1) as f64).max(1.0);
        let completeness = (self.slots as f64 / expected).min(1.0);
        let gap_max_ms = self.span.map_or(period.length_ms(), |(first_ms, last_ms)| {
            let edges_ms = (first_ms - period.start_ms).max(period.end_ms - last_ms);
            self.gap_max_ms.max(edges_ms)
        });
        let missing_ms = (gap_max_ms - interval_ms).max(0);
        let continuity = 1.0 - missing_ms as f64 / period.length_ms().max(1) as f64;
        MetricKpis {
            count,
            valid_share,
            min: self.values.min(),
            mean: self.values.mean(),
            max: self.values.max(),
            std: self.values.std_dev(),
            completeness,
            gap_max_s: gap_max_ms as f64 / 1000.0,
            comfort: self.comfort.mean(),
            quality: score::quality_score(completeness, valid_share.unwrap_or(0.0), continuity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: TimePeriod = TimePeriod { start_ms: 0, end_ms: 3_600_000 };
    const MINUTE_MS: i64 = 60_000;

    /// Builds a tally from readings of (second, value, quality).
    fn of(readings: &[(i64, f64, QualityFlag)]) -> MetricTally {
        let mut tally = MetricTally::default();
        for (second, value, quality) in readings {
            let reading = Observation { event_ms: second * 1000, value: *value, quality: *quality };
            tally.add_reading(&reading, MINUTE_MS, None);
        }
        tally
    }

    fn check(
        readings: &[(i64, f64, QualityFlag)],
        completeness: f64,
        valid_share: Option<f64>,
        gap_max_s: f64,
        quality: f64,
    ) {
        for cut in 0..=readings.len() {
            let mut tally = of(&readings[..cut]);
            tally.merge_later(&of(&readings[cut..]), MINUTE_MS);
            let kpis = tally.compute_kpis(HOUR, MINUTE_MS);
            assert!((kpis.completeness - completeness).abs() < 1e-12, "{kpis:?}");
            assert_eq!(
                (kpis.valid_share, kpis.gap_max_s),
                (valid_share, gap_max_s),
                "cut at {cut}"
            );
            assert!((kpis.quality - quality).abs() < 1e-9, "{kpis:?}");
        }
    }

    #[test]
    fn every_missing_thing_costs_quality() {
        let ok = |range: std::ops::Range<i64>| range.map(|m| (m * 60, 20.0, QualityFlag::Ok));
        let full: Vec<_> = ok(0..60).collect();
        check(&full, 1.0, Some(1.0), 60.0, 100.0);
        let half: Vec<_> = ok(0..30).collect();
        // The gap is from minute 29 to 60; one minute of it is the expected interval.
        check(&half, 0.5, Some(1.0), 31.0 * 60.0, 25.0);
        let twice: Vec<_> = (0..120).map(|i| (i * 30, 20.0, QualityFlag::Ok)).collect();
        check(&twice, 1.0, Some(1.0), 30.0, 100.0);
        let twice_half: Vec<_> = (0..60).map(|i| (i * 30, 20.0, QualityFlag::Ok)).collect();
        check(&twice_half, 0.5, Some(1.0), 1830.0, 50.0 * (1.0 - 1770.0 / 3600.0));
        let flagged: Vec<_> = (0..120)
            .map(|i| (i * 30, 20.0, if i % 2 == 0 { QualityFlag::Ok } else { QualityFlag::Spike }))
            .collect();
        check(&flagged, 1.0, Some(0.5), 60.0, 50.0);
        check(&[], 0.0, None, 3600.0, 0.0);
        check(&[(0, 999.0, QualityFlag::OutOfRange)], 0.0, Some(0.0), 3600.0, 0.0);
    }

    #[test]
    fn values_are_those_of_the_valid_readings() {
        let tally = of(&[
            (0, 20.0, QualityFlag::Ok),
            (60, 579.27, QualityFlag::OutOfRange),
            (120, 22.0, QualityFlag::Ok),
        ]);
        let kpis = tally.compute_kpis(HOUR, MINUTE_MS);
        assert_eq!((kpis.count, tally.count_quality(QualityFlag::OutOfRange)), (3, 1));
        assert_eq!((kpis.min, kpis.mean, kpis.max), (Some(20.0), Some(21.0), Some(22.0)));
        assert_eq!(kpis.std, Some(std::f64::consts::SQRT_2));
    }
}
