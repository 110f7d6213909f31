use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use telemetry::SmolStr;

use super::{ComfortBand, MetricKpis, MetricTally, Observation, StateDuration, TimePeriod};

/// Rules by which the KPIs of a zone are computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KpiRules {
    /// Expected interval of readings, s, above 0.
    pub interval_s: u32,
    /// Expected intervals, s, of metrics that have another one, by metric.
    pub intervals_s: BTreeMap<SmolStr, u32>,
    /// Comfort bands by metric.
    pub comfort: BTreeMap<SmolStr, ComfortBand>,
    /// Metric that distinguishes light from dark.
    pub light_metric: SmolStr,
    /// Smallest value that counts as light, lux.
    pub light_min_lux: f64,
    /// Metric that is above 0 while someone is present.
    pub motion_metric: SmolStr,
    /// Time, s, for which a light or motion reading holds.
    pub hold_max_s: u32,
    /// A metric is expected in every hour that begins at most this many days after an hour with a
    /// valid reading of it in the zone. With 0 it is never expected.
    pub expected_days: u32,
}

impl Default for KpiRules {
    fn default() -> Self {
        let band = |low, high, tolerance| ComfortBand { low, high, tolerance };
        Self {
            interval_s: 60,
            intervals_s: BTreeMap::new(),
            // Category II of EN 16798-1 for offices; CO₂ to about 800 ppm above
            // outdoor air.
            comfort: [
                ("temperature", band(20.0, 26.0, 4.0)),
                ("humidity", band(25.0, 60.0, 20.0)),
                ("co2", band(0.0, 1200.0, 800.0)),
            ]
            .map(|(metric, band)| (SmolStr::new_static(metric), band))
            .into(),
            light_metric: SmolStr::new_static("light"),
            light_min_lux: 50.0,
            motion_metric: SmolStr::new_static("motion"),
            hold_max_s: 600,
            expected_days: 7,
        }
    }
}

/// Error: rules are out of range or contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("KPI rules: {0}")]
pub struct KpiRulesError(String);

impl KpiRules {
    /// Returns the rules if they are valid.
    ///
    /// # Errors
    /// Names every interval of 0 and every comfort band whose ends are not in order.
    pub fn into_checked(self) -> Result<Self, KpiRulesError> {
        let mut wrong = Vec::new();
        if self.interval_s == 0 {
            wrong.push("interval_s is 0, expected seconds above it".to_owned());
        }
        for (metric, _) in self.intervals_s.iter().filter(|(_, seconds)| **seconds == 0) {
            wrong.push(format!("intervals_s.{metric} is 0, expected seconds above it"));
        }
        for (metric, band) in self.comfort.iter().filter(|(_, band)| !band.is_valid()) {
            wrong.push(format!(
                "comfort.{metric} is {} to {} ± {}, expected low ≤ high and tolerance above 0",
                band.low, band.high, band.tolerance
            ));
        }
        if wrong.is_empty() { Ok(self) } else { Err(KpiRulesError(wrong.join("; "))) }
    }

    /// Time after an hour with valid readings during which more are expected, ms.
    #[must_use]
    pub fn expected_ms(&self) -> i64 {
        i64::from(self.expected_days) * 86_400_000
    }

    /// KPIs of a metric that was expected in a period and has no reading in it: no statistics, and
    /// a completeness and quality of 0.
    #[must_use]
    pub fn silent_kpis(&self, metric: &str, period: TimePeriod) -> MetricKpis {
        MetricTally::default().compute_kpis(period, self.interval_ms(metric))
    }

    fn interval_ms(&self, metric: &str) -> i64 {
        i64::from(*self.intervals_s.get(metric).unwrap_or(&self.interval_s)) * 1000
    }

    fn hold_max_ms(&self) -> i64 {
        i64::from(self.hold_max_s) * 1000
    }
}

/// Tally of all metrics of a zone over one period, while the period fills. Two tallies merge if the
/// second follows the first: 23, 24 or 25 hours make a day.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZoneTally {
    metrics: BTreeMap<SmolStr, MetricTally>,
    light: StateDuration,
    occupied: StateDuration,
}

/// KPIs of a zone over one period: a row of a gold table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeriodKpis {
    /// The hour or day.
    pub period: TimePeriod,
    /// KPIs by metric.
    pub metrics: BTreeMap<SmolStr, MetricKpis>,
    /// Comfort, 0–100: that of the least comfortable metric, because comfort in one does not make
    /// up for discomfort in another. `None` without a comfort band.
    pub comfort: Option<f64>,
    /// Data quality, 0–100: the mean over the metrics. `None` without metrics.
    pub quality: Option<f64>,
    /// Hours of light, ≥ 0. `None` if light was never observed.
    pub light_h: Option<f64>,
    /// Share of the observed time with someone present, 0–1. `None` if motion was never observed.
    pub occupied_share: Option<f64>,
}

impl ZoneTally {
    /// Adds a reading of a metric, not older than the previous ones of it.
    ///
    /// ```
    /// use microclimate_agronomy::kpi::{Observation, TimePeriod, KpiRules, ZoneTally};
    /// use telemetry::QualityFlag;
    ///
    /// let rules = KpiRules::default();
    /// let hour = TimePeriod { start_ms: 0, end_ms: 3_600_000 };
    /// let mut tally = ZoneTally::default();
    /// for minute in 0..60 {
    ///     let reading =
    ///         Observation { event_ms: minute * 60_000, value: 27.0, quality: QualityFlag::Ok };
    ///     tally.add_reading("temperature", &reading, &rules);
    /// }
    /// let kpis = tally.compute_kpis(hour, &rules);
    /// assert_eq!((kpis.comfort, kpis.quality), (Some(75.0), Some(100.0)));
    /// ```
    pub fn add_reading(&mut self, metric: &str, reading: &Observation, rules: &KpiRules) {
        self.add_readings(metric, std::iter::once(*reading), rules);
    }

    /// Adds readings of a metric, in the order of time, none older than the previous ones of it.
    pub fn add_readings(
        &mut self,
        metric: &str,
        readings: impl Iterator<Item = Observation>,
        rules: &KpiRules,
    ) {
        if !self.metrics.contains_key(metric) {
            self.metrics.insert(metric.into(), MetricTally::default());
        }
        let tally = self.metrics.get_mut(metric).expect("it was inserted");
        let (interval_ms, band) = (rules.interval_ms(metric), rules.comfort.get(metric));
        let (is_light, is_motion) = (metric == rules.light_metric, metric == rules.motion_metric);
        for reading in readings {
            tally.add_reading(&reading, interval_ms, band);
            if !reading.quality.is_ok() {
                continue;
            }
            if is_light {
                let on = reading.value >= rules.light_min_lux;
                self.light.add_reading(reading.event_ms, on, rules.hold_max_ms());
            }
            if is_motion {
                self.occupied.add_reading(
                    reading.event_ms,
                    reading.value > 0.0,
                    rules.hold_max_ms(),
                );
            }
        }
    }

    /// Adds a metric that was expected. Without readings it lowers the quality of the zone.
    pub fn expect_metric(&mut self, metric: &SmolStr) {
        if !self.metrics.contains_key(metric) {
            self.metrics.insert(metric.clone(), MetricTally::default());
        }
    }

    /// Metrics that have a valid reading.
    pub fn valid_metrics(&self) -> impl Iterator<Item = &SmolStr> {
        let is_valid = |tally: &MetricTally| tally.count_quality(telemetry::QualityFlag::Ok) > 0;
        self.metrics.iter().filter(move |(_, tally)| is_valid(tally)).map(|(metric, _)| metric)
    }

    /// Merges the tally of the time that follows.
    pub fn merge_later(&mut self, later: &Self, rules: &KpiRules) {
        for (metric, tally) in &later.metrics {
            let merged = self.metrics.entry(metric.clone()).or_default();
            merged.merge_later(tally, rules.interval_ms(metric));
        }
        self.light.merge_later(&later.light, rules.hold_max_ms());
        self.occupied.merge_later(&later.occupied, rules.hold_max_ms());
    }

    /// Computes the KPIs of the period that this tally covers.
    #[must_use]
    pub fn compute_kpis(&self, period: TimePeriod, rules: &KpiRules) -> PeriodKpis {
        let metrics: BTreeMap<_, _> = self
            .metrics
            .iter()
            .map(|(name, tally)| {
                (name.clone(), tally.compute_kpis(period, rules.interval_ms(name)))
            })
            .collect();
        let comfort = metrics.values().filter_map(|kpis| kpis.comfort).reduce(f64::min);
        let quality = (!metrics.is_empty())
            .then(|| metrics.values().map(|kpis| kpis.quality).sum::<f64>() / metrics.len() as f64);
        let held =
            |duration: StateDuration| duration.hold_until(period.end_ms, rules.hold_max_ms());
        PeriodKpis {
            period,
            metrics,
            comfort,
            quality,
            light_h: held(self.light).on_h(),
            occupied_share: held(self.occupied).on_share(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use telemetry::QualityFlag;

    use super::*;

    /// Tally of a day of a zone in Berlin that begins at `day_ms`, with a reading a minute: light
    /// from 8 h to 20 h after midnight, motion in the first quarter of each hour.
    fn tally(period: TimePeriod, day_ms: i64, rules: &KpiRules) -> ZoneTally {
        let mut tally = ZoneTally::default();
        for event_ms in (period.start_ms..period.end_ms).step_by(60_000) {
            let minute = (event_ms - day_ms) / 60_000;
            let light = if (480..1200).contains(&minute) { 800.0 } else { 1.0 };
            let motion = f64::from(minute % 60 < 15);
            let temperature = 18.0 + f64::from(minute as i32 % 7);
            for (metric, value) in
                [("light", light), ("motion", motion), ("temperature", temperature)]
            {
                let reading = Observation { event_ms, value, quality: QualityFlag::Ok };
                tally.add_reading(metric, &reading, rules);
            }
        }
        tally
    }

    fn check(noon_ms: i64, hours: f64) {
        let rules = KpiRules::default();
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let day = TimePeriod::local_day(noon_ms, &berlin).unwrap();
        assert_eq!(day.length_hours(), hours);
        let mut merged = ZoneTally::default();
        let mut now_ms = day.start_ms;
        while now_ms < day.end_ms {
            let hour = TimePeriod::local_hour(now_ms, &berlin).unwrap();
            merged.merge_later(&tally(hour, day.start_ms, &rules), &rules);
            now_ms = hour.end_ms;
        }
        let (merged, whole) = (
            merged.compute_kpis(day, &rules),
            tally(day, day.start_ms, &rules).compute_kpis(day, &rules),
        );
        assert_eq!(whole.quality, Some(100.0), "{whole:?}");
        assert_eq!((whole.light_h, whole.occupied_share), (Some(12.0), Some(0.25)));
        assert_eq!((merged.light_h, merged.occupied_share), (Some(12.0), Some(0.25)));
        let (a, b) = (merged.metrics["temperature"], whole.metrics["temperature"]);
        assert_eq!((a.count, a.min, a.max, a.gap_max_s), (b.count, b.min, b.max, b.gap_max_s));
        assert_eq!(a.count, (hours * 60.0) as u64);
        let close = |a: Option<f64>, b: Option<f64>| (a.unwrap() - b.unwrap()).abs() < 1e-9;
        assert!(close(a.mean, b.mean) && close(a.std, b.std) && close(a.comfort, b.comfort));
    }

    #[test]
    fn the_hours_of_a_day_merge_into_it_whatever_the_clock_does() {
        check(1_751_371_200_000, 24.0); // 1 July 2025
        check(1_743_328_800_000, 23.0); // 30 March 2025
        check(1_761_476_400_000, 25.0); // 26 October 2025
    }

    #[test]
    fn a_zone_is_as_comfortable_as_its_worst_metric() {
        let rules = KpiRules::default();
        let mut tally = ZoneTally::default();
        for (metric, value) in [("temperature", 22.0), ("co2", 1600.0), ("humidity", 65.0)] {
            let reading = Observation { event_ms: 0, value, quality: QualityFlag::Ok };
            tally.add_reading(metric, &reading, &rules);
        }
        let kpis = tally.compute_kpis(TimePeriod { start_ms: 0, end_ms: 3_600_000 }, &rules);
        assert_eq!(kpis.comfort, Some(50.0), "{kpis:?}");
    }

    #[test]
    fn a_silent_metric_is_there_without_statistics_and_halves_the_quality() {
        let (rules, hour) = (KpiRules::default(), TimePeriod { start_ms: 0, end_ms: 3_600_000 });
        let mut tally = ZoneTally::default();
        for event_ms in (0..3_600_000).step_by(60_000) {
            let reading = Observation { event_ms, value: 21.0, quality: QualityFlag::Ok };
            tally.add_reading("temperature", &reading, &rules);
        }
        let before = tally.compute_kpis(hour, &rules);
        let metrics = ["co2", "temperature"].map(SmolStr::new_static);
        metrics.iter().for_each(|metric| tally.expect_metric(metric));
        let kpis = tally.compute_kpis(hour, &rules);
        let silent = kpis.metrics["co2"];
        assert_eq!(silent, rules.silent_kpis("co2", hour));
        assert_eq!((silent.count, silent.valid_share, silent.mean), (0, None, None));
        assert_eq!((silent.completeness, silent.gap_max_s), (0.0, 3600.0));
        assert_eq!((before.quality, kpis.quality), (Some(100.0), Some(50.0)));
        assert_eq!(before.comfort, kpis.comfort);
        assert!(tally.valid_metrics().eq(["temperature"]));
    }

    #[test]
    fn nothing_is_known_of_an_empty_zone() {
        let day = TimePeriod { start_ms: 0, end_ms: 86_400_000 };
        let kpis = ZoneTally::default().compute_kpis(day, &KpiRules::default());
        assert_eq!((kpis.comfort, kpis.quality), (None, None));
        assert_eq!((kpis.light_h, kpis.occupied_share), (None, None));
    }

    #[test]
    fn wrong_rules_are_named() {
        assert!(KpiRules::default().into_checked().is_ok());
        let mut rules = KpiRules { interval_s: 0, ..KpiRules::default() };
        rules.comfort.insert("co2".into(), ComfortBand { low: 2.0, high: 1.0, tolerance: 1.0 });
        let message = rules.into_checked().unwrap_err().to_string();
        assert!(message.contains("interval_s") && message.contains("comfort.co2"), "{message}");
    }
}
