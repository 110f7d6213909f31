//! From a zone's features and predictions to observations.

use telemetry::{SmolStr, ZoneId};

use crate::{
    alert::AlertKey,
    lifecycle::{AlertObservation, ConditionLevel},
    rule::{AlertCondition, AlertRule, LimitBase, LimitSide, LimitSource, NamedLimit, Threshold},
    silence::{MISSED_READINGS, SILENCE_S_MAX},
};

/// Age beyond which a sensor counts as removed, s.
const SENSOR_GONE_S: f64 = 7.0 * 86_400.0;
/// Expected distance of readings in a coverage, s.
const COVERAGE_STEP_S: f64 = 60.0;
/// Coverage of a day, %, from which the rhythm of a sensor without a full day is known: half an
/// hour of readings a minute apart.
const COVERAGE_KNOWN_PCT: f64 = 2.0;
/// Ratio to the alarm below which an anomaly has ended.
const ANOMALY_CLEAR: f64 = 0.7;
/// Difference of two limits of soil moisture that are the same, %.
const SAME_LIMIT_PCT: f64 = 0.01;

/// Prediction of a task for a zone.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskPrediction {
    /// The task.
    pub task: SmolStr,
    /// Predicted value.
    pub value: f64,
    /// Event time of the features that it is made of, UTC ms.
    pub event_ms: i64,
}

/// Score of a zone's most unusual sensor at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct AnomalyFinding {
    /// Event time, UTC ms.
    pub event_ms: i64,
    /// Multiple of the score that raises an alarm.
    pub value: f64,
    /// The metric.
    pub metric: SmolStr,
    /// Kind of fault that it resembles, if the score is an alarm.
    pub fault: Option<SmolStr>,
}

/// A zone at one event time.
pub struct ZoneSnapshot<'a> {
    /// The zone.
    pub zone: &'a ZoneId,
    /// Event time of the feature row, UTC ms.
    pub at_ms: i64,
    /// Whether the row is of now.
    pub is_live: bool,
    /// Metrics of the zone.
    pub metrics: &'a [SmolStr],
    /// Lookup of a feature's value in the row.
    pub feature: &'a dyn Fn(&str) -> Option<f64>,
    /// Lookup of the zone's own limits.
    pub limit: &'a dyn Fn(NamedLimit) -> Option<f64>,
    /// Soil moisture to which the feature `drying_hours_to_critical` counts, %.
    pub drying_critical_pct: f64,
    /// Event time since which rows have followed each other without a long gap, UTC ms. A sensor
    /// is not silent because of a time in which the whole zone was not heard.
    pub continuous_since_ms: i64,
    /// Predictions that are of now and the model's own.
    pub predictions: &'a [TaskPrediction],
}

/// Usual distance of a metric's readings, s: by the coverage of a day. `None` for a new metric,
/// without a full day of readings.
pub fn reporting_interval_s(feature: &dyn Fn(&str) -> Option<f64>, metric: &str) -> Option<f64> {
    let day = feature(&format!("{metric}_coverage_24h")).filter(|share| *share > 0.0)?;
    let week = feature(&format!("{metric}_coverage_7d"))?;
    // Of a metric that began within the day the week holds no more readings than the day.
    let is_new = week * 7.0 <= day * 1.05;
    (!is_new).then(|| COVERAGE_STEP_S * 100.0 / day)
}

/// Interval of a metric for judging a silence, s: a new metric that has reported often enough
/// counts as one that reports every minute. `None` if too little is known.
pub fn known_interval_s(feature: &dyn Fn(&str) -> Option<f64>, metric: &str) -> Option<f64> {
    reporting_interval_s(feature, metric).or_else(|| {
        let day = feature(&format!("{metric}_coverage_24h"))?;
        (day >= COVERAGE_KNOWN_PCT).then_some(COVERAGE_STEP_S)
    })
}

/// Features that the rules look at, for the metrics of a zone.
#[must_use]
pub fn needed_features(rules: &[AlertRule], metrics: &[SmolStr]) -> Vec<String> {
    let mut names = Vec::new();
    for rule in rules.iter().filter(|rule| rule.is_enabled) {
        match &rule.condition {
            AlertCondition::Threshold { metric, statistic, .. } => {
                names.extend([format!("{metric}_{statistic}"), format!("{metric}_last")]);
                names.push(format!("{metric}_age_s"));
            }
            AlertCondition::Battery { .. } => {
                names.extend(["battery_last", "battery_age_s"].map(str::to_owned));
            }
            AlertCondition::SoilForecast { .. } => names.extend(
                [
                    "soil_moisture_min_30m",
                    "soil_moisture_last",
                    "soil_moisture_age_s",
                    "drying_hours_to_critical",
                    "drying_rate_pct_h",
                ]
                .map(str::to_owned),
            ),
            AlertCondition::SilentSensor { .. } | AlertCondition::SilentZone { .. } => {
                for metric in metrics {
                    names.push(format!("{metric}_age_s"));
                    names.push(format!("{metric}_coverage_24h"));
                    names.push(format!("{metric}_coverage_7d"));
                }
            }
            _ => {}
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

impl ZoneSnapshot<'_> {
    /// Checks all rules that look at feature rows. A rule whose value is not known at this time
    /// gives nothing.
    #[must_use]
    pub fn check_rules<'r>(
        &self,
        rules: &'r [AlertRule],
    ) -> Vec<(&'r AlertRule, AlertKey, AlertObservation)> {
        let mut found = Vec::new();
        for rule in rules.iter().filter(|rule| rule.is_enabled && rule.applies_to(self.zone)) {
            let key = |subject: &str| AlertKey::for_zone(&rule.name, self.zone, subject);
            match &rule.condition {
                AlertCondition::Threshold { metric, statistic, threshold } => {
                    let observed = self.check_threshold(metric, statistic, threshold);
                    found.extend(observed.map(|own| (rule, key(metric), own)));
                }
                AlertCondition::Battery { threshold } => {
                    let observed = self.check_threshold("battery", "last", threshold);
                    found.extend(observed.map(|own| (rule, key("battery"), own)));
                }
                AlertCondition::SoilForecast { limit, within_h, hysteresis_h } => {
                    let observed = self.check_soil_forecast(limit, *within_h, *hysteresis_h);
                    found.extend(observed.map(|own| (rule, key("soil_moisture"), own)));
                }
                AlertCondition::TaskForecast { task, threshold } => {
                    let observed = self.check_prediction(task, threshold);
                    found.extend(observed.map(|own| (rule, key(task), own)));
                }
                AlertCondition::SilentSensor { after_s, metrics } => {
                    let own = |metric: &&SmolStr| metrics.is_empty() || metrics.contains(metric);
                    for metric in self.metrics.iter().filter(own) {
                        let observed = self.check_silent_sensor(metric, *after_s);
                        found.extend(observed.map(|own| (rule, key(metric), own)));
                    }
                }
                _ => {}
            }
        }
        found
    }

    fn feature_value(&self, name: &str) -> Option<f64> {
        (self.feature)(name)
    }

    fn resolve_limit(&self, source: &LimitSource, side: LimitSide) -> Option<f64> {
        let base = match source.base {
            LimitBase::Fixed(number) => number,
            LimitBase::Named(name) => (self.limit)(name)?,
        };
        Some(match side {
            LimitSide::Above => base + source.margin,
            LimitSide::Below => base - source.margin,
        })
    }

    fn observation(
        &self,
        event_ms: i64,
        level: ConditionLevel,
        value: f64,
        limit: f64,
    ) -> AlertObservation {
        AlertObservation {
            event_ms,
            is_live: self.is_live,
            level,
            value: Some(value),
            limit: Some(limit),
            detail: SmolStr::default(),
        }
    }

    /// A newest value has the event time of its reading, an aggregate that of the row. An aggregate
    /// that the definitions do not have, or that is empty, gives way to a fresh newest value.
    fn check_threshold(
        &self,
        metric: &str,
        statistic: &str,
        threshold: &Threshold,
    ) -> Option<AlertObservation> {
        let limit = self.resolve_limit(&threshold.limit, threshold.side)?;
        let age_s = self.feature_value(&format!("{metric}_age_s"))?;
        let newest_ms = self.at_ms - (age_s * 1000.0) as i64;
        let aggregate = (statistic != "last")
            .then(|| self.feature_value(&format!("{metric}_{statistic}")))
            .flatten();
        let (value, event_ms) = match aggregate {
            Some(value) => (value, self.at_ms),
            None if age_s <= SILENCE_S_MAX => {
                (self.feature_value(&format!("{metric}_last"))?, newest_ms)
            }
            None => return None,
        };
        let level = find_level(threshold, limit, value);
        Some(self.observation(event_ms, level, value, limit))
    }

    fn check_soil_forecast(
        &self,
        source: &LimitSource,
        within_h: f64,
        hysteresis_h: f64,
    ) -> Option<AlertObservation> {
        let limit = self.resolve_limit(source, LimitSide::Below)?;
        let age_s = self.feature_value("soil_moisture_age_s")?;
        if age_s > SILENCE_S_MAX {
            return None;
        }
        let driest = self.feature_value("soil_moisture_min_30m");
        let moisture = driest.or_else(|| self.feature_value("soil_moisture_last"))?;
        let is_engine_limit = (limit - self.drying_critical_pct).abs() < SAME_LIMIT_PCT;
        let by_engine = self.feature_value("drying_hours_to_critical").filter(|_| is_engine_limit);
        let by_rate = || {
            let rate = self.feature_value("drying_rate_pct_h")?;
            Some(if rate > 0.0 { (moisture - limit) / rate } else { f64::INFINITY })
        };
        let (level, hours) = if moisture <= limit {
            // That it is critical now is another rule's alert.
            (ConditionLevel::Clear, Some(0.0))
        } else {
            let hours = by_engine.or_else(by_rate)?;
            let level = if hours <= within_h {
                ConditionLevel::Exceeded
            } else if hours <= within_h + hysteresis_h {
                ConditionLevel::Between
            } else {
                ConditionLevel::Clear
            };
            (level, Some(hours).filter(|hours| hours.is_finite()))
        };
        let value = hours;
        Some(AlertObservation { value, ..self.observation(self.at_ms, level, 0.0, within_h) })
    }

    fn check_prediction(&self, task: &str, threshold: &Threshold) -> Option<AlertObservation> {
        let limit = self.resolve_limit(&threshold.limit, threshold.side)?;
        let prediction = self.predictions.iter().find(|own| own.task == task)?;
        let level = find_level(threshold, limit, prediction.value);
        Some(self.observation(prediction.event_ms, level, prediction.value, limit))
    }

    fn check_silent_sensor(&self, metric: &str, after_s: f64) -> Option<AlertObservation> {
        let age_s = self.feature_value(&format!("{metric}_age_s"))?;
        // What is sent only when it changes has no coverage, and is not missed.
        self.feature_value(&format!("{metric}_coverage_7d")).filter(|share| *share > 0.0)?;
        let interval_s = known_interval_s(self.feature, metric);
        let rhythm_s =
            interval_s.map(|interval_s| (MISSED_READINGS * interval_s).min(SILENCE_S_MAX));
        let limit_s = after_s.max(rhythm_s.unwrap_or_default());
        let heard_s = (self.at_ms - self.continuous_since_ms) as f64 / 1000.0;
        let level = if age_s < limit_s {
            ConditionLevel::Clear
        } else if rhythm_s.is_some() && age_s < SENSOR_GONE_S && heard_s >= limit_s {
            ConditionLevel::Exceeded
        } else {
            return None;
        };
        Some(self.observation(self.at_ms, level, age_s, limit_s))
    }
}

/// Checks the rules about anomalies.
#[must_use]
pub fn check_anomaly<'r>(
    rules: &'r [AlertRule],
    zone: &ZoneId,
    finding: &AnomalyFinding,
    is_live: bool,
) -> Vec<(&'r AlertRule, AlertKey, AlertObservation)> {
    let mut found = Vec::new();
    for rule in rules.iter().filter(|rule| rule.is_enabled && rule.applies_to(zone)) {
        let AlertCondition::Anomaly { faults } = &rule.condition else { continue };
        let fault = finding.fault.as_ref().filter(|_| finding.value >= 1.0);
        let is_own = fault.is_some_and(|fault| faults.is_empty() || faults.contains(fault));
        let level = if is_own {
            ConditionLevel::Exceeded
        } else if finding.value >= ANOMALY_CLEAR {
            ConditionLevel::Between
        } else {
            ConditionLevel::Clear
        };
        let detail = fault
            .map_or(SmolStr::default(), |fault| format!("{} {}", finding.metric, fault).into());
        let observation = AlertObservation {
            event_ms: finding.event_ms,
            is_live,
            level,
            value: Some(finding.value),
            limit: Some(1.0),
            detail,
        };
        found.push((rule, AlertKey::for_zone(&rule.name, zone, ""), observation));
    }
    found
}

/// Where a value lies.
pub(crate) fn find_level(threshold: &Threshold, limit: f64, value: f64) -> ConditionLevel {
    // Distance beyond the limit.
    let beyond = match threshold.side {
        LimitSide::Above => value - limit,
        LimitSide::Below => limit - value,
    };
    if beyond > 0.0 || (beyond == 0.0 && threshold.side == LimitSide::Below) {
        ConditionLevel::Exceeded
    } else if beyond > -threshold.hysteresis {
        ConditionLevel::Between
    } else {
        ConditionLevel::Clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::AlertSettings;

    const NOW_MS: i64 = 1_764_504_000_000;

    /// Levels by rule and subject, with values.
    fn check(
        features: &[(&str, f64)],
        continuous_min: i64,
    ) -> Vec<(String, ConditionLevel, Option<f64>)> {
        let rules = AlertSettings::default().check().unwrap().rules;
        let zone = "farm/bay-1".parse().unwrap();
        let metrics = ["temperature", "soil_moisture", "battery"].map(SmolStr::from);
        let feature =
            |name: &str| features.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
        let limit = |name: NamedLimit| (name == NamedLimit::SoilMoistureCritical).then_some(24.0);
        let snapshot = ZoneSnapshot {
            zone: &zone,
            at_ms: NOW_MS,
            is_live: true,
            metrics: &metrics,
            feature: &feature,
            limit: &limit,
            drying_critical_pct: 25.0,
            continuous_since_ms: NOW_MS - continuous_min * 60_000,
            predictions: &[],
        };
        let mut found: Vec<_> = snapshot
            .check_rules(&rules)
            .into_iter()
            .map(|(rule, key, own)| {
                (format!("{} {}", rule.name, key.subject), own.level, own.value)
            })
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    fn level(features: &[(&str, f64)], continuous_min: i64, rule: &str) -> Option<ConditionLevel> {
        check(features, continuous_min)
            .into_iter()
            .find(|(name, ..)| name == rule)
            .map(|(_, level, _)| level)
    }

    #[test]
    fn a_threshold_has_a_limit_and_a_way_back() {
        use ConditionLevel::{Between, Clear, Exceeded};
        let frost = |value| {
            level(
                &[("temperature_mean_10m", value), ("temperature_age_s", 5.0)],
                0,
                "frost temperature",
            )
        };
        assert_eq!(frost(1.9), Some(Exceeded));
        assert_eq!(frost(2.0), Some(Exceeded));
        assert_eq!(frost(2.5), Some(Between));
        assert_eq!(frost(3.0), Some(Clear));
        // Without the mean, the newest value counts while it is fresh.
        let last = |age_s| {
            level(
                &[("temperature_last", 1.0), ("temperature_age_s", age_s)],
                0,
                "frost temperature",
            )
        };
        assert_eq!((last(60.0), last(30_000.0)), (Some(Exceeded), None));
        assert_eq!(check(&[], 0), []);
    }

    #[test]
    fn soil_is_compared_with_the_zones_own_limit() {
        use ConditionLevel::{Between, Clear, Exceeded};
        let soon = |moisture: f64, rate: f64| {
            let features = [
                ("soil_moisture_min_30m", moisture),
                ("soil_moisture_age_s", 60.0),
                ("drying_rate_pct_h", rate),
                // This counts to another limit.
                ("drying_hours_to_critical", 0.0),
            ];
            let found = check(&features, 0);
            let own =
                found.iter().find(|(name, ..)| name == "soil_critical_soon soil_moisture").cloned();
            own.map(|(_, level, hours)| (level, hours))
        };
        assert_eq!(soon(26.0, 0.5), Some((Exceeded, Some(4.0))));
        assert_eq!(soon(27.5, 0.5), Some((Between, Some(7.0))));
        assert_eq!(soon(34.0, 0.5), Some((Clear, Some(20.0))));
        assert_eq!(soon(34.0, -0.1), Some((Clear, None)));
        assert_eq!(soon(23.0, 0.5), Some((Clear, Some(0.0))), "it is critical now");
    }

    #[test]
    fn a_silent_sensor_among_others() {
        use ConditionLevel::{Clear, Exceeded};
        let silent = |age_s, day, week, continuous_min| {
            let features = [
                ("temperature_age_s", age_s),
                ("temperature_coverage_24h", day),
                ("temperature_coverage_7d", week),
            ];
            level(&features, continuous_min, "sensor_silent temperature")
        };
        assert_eq!(silent(3500.0, 90.0, 90.0, 600), Some(Clear));
        assert_eq!(silent(3700.0, 90.0, 90.0, 600), Some(Exceeded));
        assert_eq!(
            silent(3700.0, 90.0, 90.0, 30),
            None,
            "the whole zone was not heard for a while"
        );
        assert_eq!(silent(3700.0, 3.3, 3.3, 600), Some(Clear), "it reports every half hour");
        assert_eq!(silent(5600.0, 3.3, 3.3, 600), Some(Exceeded));
        assert_eq!(silent(3700.0, 1.0, 1.0 / 7.0, 600), None, "it is new");
        assert_eq!(
            silent(3700.0, 5.0, 5.0 / 7.0, 600),
            Some(Exceeded),
            "new, and its rhythm is known"
        );
        assert_eq!(silent(3700.0, 0.0, 0.0, 600), None, "it is sent when it changes");
        assert_eq!(silent(700_000.0, 90.0, 90.0, 60_000), None, "it was removed");
    }

    #[test]
    fn anomalies_by_kind() {
        let rules = AlertSettings::default().check().unwrap().rules;
        let zone = "farm/bay-1".parse().unwrap();
        let check = |value: f64, fault: &str, rule: &str| {
            let fault = (!fault.is_empty()).then(|| fault.into());
            let finding = AnomalyFinding { event_ms: NOW_MS, value, metric: "co2".into(), fault };
            let found = check_anomaly(&rules, &zone, &finding, true);
            let own = found.into_iter().find(|(own, ..)| own.name == rule).unwrap().2;
            (own.level, own.detail.to_string())
        };
        assert_eq!(
            check(1.2, "stuck", "sensor_fault"),
            (ConditionLevel::Exceeded, "co2 stuck".into())
        );
        assert_eq!(check(1.2, "spike", "sensor_fault").0, ConditionLevel::Between);
        assert_eq!(check(0.8, "", "sensor_fault").0, ConditionLevel::Between);
        assert_eq!(check(0.5, "", "sensor_fault").0, ConditionLevel::Clear);
    }
}
