//! State of one zone: how urgent it is and why, its latest values and its predictions.

use std::collections::BTreeMap;

use alerts::{AlertId, AlertSeverity, AlertState, notify::AlertView};
use serde::Serialize;
use telemetry::{SmolStr, ZoneId};
use trainer::{Prediction, anomaly::TASK_NAME, serve::ZonePredictions, settings::ComfortSettings};
use utoipa::ToSchema;

/// Age after which a metric counts as silent, unless it is known to report less often, seconds.
const METRIC_SILENT_S: f64 = 3600.0;
/// Longest silence that a slow reporting interval explains, seconds.
const SILENCE_S_MAX: f64 = 6.0 * 3600.0;
/// Length of silence after which a metric counts as removed, seconds.
const METRIC_GONE_S: f64 = 7.0 * 86_400.0;
/// Number of missed readings in a row that make a silence.
const MISSED_READINGS: f64 = 3.0;
/// Expected distance between readings, seconds; the step of the engine's coverage.
const COVERAGE_STEP_S: f64 = 60.0;
/// Distance outside the comfort range beyond which the state is a warning, °C.
const TEMPERATURE_WARNING_C: f64 = 2.0;
/// Ratio to the upper comfort limit of CO2 beyond which the state is a warning.
const CO2_WARNING_SHARE: f64 = 1.33;
/// Hours before critical soil moisture that make a notice, and those that make a warning.
const SOIL_NOTICE_H: f64 = 24.0;
const SOIL_WARNING_H: f64 = 6.0;
/// Duration after which an anomaly is a warning, ms; single minutes come and go.
const ANOMALY_WARNING_MS: i64 = 5 * 60_000;

/// Largest number of alerts that are listed of a zone.
const ALERTS_SHOWN_MAX: usize = 5;

/// Urgency of a zone, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateLevel {
    /// Act now.
    Alarm,
    /// Nothing is known: its sensors are silent.
    Stale,
    /// Act soon.
    Warning,
    /// Worth knowing.
    Notice,
    /// Nothing to do.
    Ok,
}

impl StateLevel {
    /// Every level, most urgent first.
    pub(crate) const ALL: [Self; 5] =
        [Self::Alarm, Self::Stale, Self::Warning, Self::Notice, Self::Ok];

    /// Returns the name in JSON and in queries.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Stale => "stale",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Ok => "ok",
        }
    }
}

/// Cause of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReasonKind {
    NoData,
    ZoneSilent,
    MetricSilent,
    TooCold,
    TooWarm,
    #[serde(rename = "co2_high")]
    Co2High,
    SoilCritical,
    SoilCriticalSoon,
    Anomaly,
}

/// Reason why a zone needs attention.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct StateReason {
    kind: ReasonKind,
    level: StateLevel,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    metric: Option<SmolStr>,
    /// Value in the metric's unit; for an anomaly, a multiple of the alarm threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    /// Limit that the value exceeds, in the metric's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    /// Hours until soil moisture is critical.
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<f64>,
    /// Minutes of irrigation that reach the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    minutes: Option<f64>,
    /// Suspected fault of the sensor: `spike`, `stuck`, `drift`, `noise`, `dropout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    /// Start of the condition, UTC ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<i64>,
}

impl StateReason {
    const fn new(kind: ReasonKind, level: StateLevel) -> Self {
        Self {
            kind,
            level,
            metric: None,
            value: None,
            limit: None,
            hours: None,
            minutes: None,
            fault: None,
            since_ms: None,
        }
    }

    fn with_metric(mut self, metric: &str) -> Self {
        self.metric = Some(metric.into());
        self
    }

    fn with_limit(mut self, value: f64, limit: f64) -> Self {
        self.value = Some(round_value(value));
        self.limit = Some(limit);
        self
    }

    fn with_since(mut self, since_ms: i64) -> Self {
        self.since_ms = Some(since_ms);
        self
    }
}

/// Prediction of a task for a zone.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct NextValue {
    task: String,
    value: f64,
    unit: String,
    interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    /// Probability of `class`, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    /// Whether `value` is the baseline's in place of the model's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fallback: bool,
}

impl From<&Prediction> for NextValue {
    fn from(prediction: &Prediction) -> Self {
        let probability = prediction
            .class
            .and_then(|class| prediction.probabilities.as_ref()?.get(class).copied());
        Self {
            task: prediction.task.clone(),
            value: round_value(prediction.value),
            unit: prediction.unit.clone(),
            interval: prediction.interval.map(|ends| ends.map(round_value)),
            class: prediction.class,
            probability: probability.map(round_value),
            fallback: prediction.fallback,
        }
    }
}

/// Alert of a zone, in short.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ZoneAlert {
    id: AlertId,
    #[schema(value_type = String)]
    rule: SmolStr,
    severity: AlertSeverity,
    state: AlertState,
    message: String,
}

/// State of one zone.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct ZoneOverview {
    #[schema(value_type = String, example = "farm/bay-1")]
    pub(crate) zone: ZoneId,
    /// Event time of the zone's latest feature row, UTC ms.
    pub(crate) at_ms: Option<i64>,
    /// Most urgent level of the zone's reasons.
    pub(crate) state: StateLevel,
    /// Reasons, most urgent first.
    pub(crate) reasons: Vec<StateReason>,
    /// For each metric: its value, the value's age at `at_ms` in seconds, and its trend per hour.
    /// Soil moisture is that of the driest probe.
    #[schema(value_type = BTreeMap<String, [Option<f64>; 3]>)]
    metrics: BTreeMap<SmolStr, [Option<f64>; 3]>,
    next: Vec<NextValue>,
    /// Firing and acknowledged alerts, the most urgent first, at most five.
    alerts: Vec<ZoneAlert>,
    /// Limits of the zone, by name.
    #[schema(value_type = BTreeMap<String, f64>)]
    limits: BTreeMap<&'static str, f64>,
}

impl ZoneOverview {
    /// Adds the zone's alerts that fire. One that nobody has acknowledged makes the state as urgent
    /// as it is; a silent zone stays one without data.
    pub(crate) fn with_alerts(mut self, active: &[AlertView]) -> Self {
        let is_own = |own: &&AlertView| {
            own.zone.as_ref() == Some(&self.zone) && own.state != AlertState::Pending
        };
        let own: Vec<&AlertView> = active.iter().filter(is_own).collect();
        let urgent = own.iter().filter(|own| own.state == AlertState::Firing && !own.is_muted);
        let level = urgent.map(|own| match own.severity {
            AlertSeverity::Critical => StateLevel::Alarm,
            AlertSeverity::Warning => StateLevel::Warning,
            AlertSeverity::Info => StateLevel::Notice,
        });
        if let Some(level) = level.min().filter(|_| self.state != StateLevel::Stale) {
            self.state = self.state.min(level);
        }
        let shown = own.iter().take(ALERTS_SHOWN_MAX).map(|own| ZoneAlert {
            id: own.id.clone(),
            rule: own.rule.clone(),
            severity: own.severity,
            state: own.state,
            message: own.message.clone(),
        });
        self.alerts = shown.collect();
        self
    }
}

/// Input from which the state of a zone is computed.
pub(crate) struct ZoneFacts<'a> {
    pub(crate) zone: &'a ZoneId,
    pub(crate) metrics: &'a [SmolStr],
    /// Event time of the latest feature row, UTC ms.
    pub(crate) at_ms: Option<i64>,
    /// Lookup of a feature's value in that row; gives `None` if it has none.
    pub(crate) feature: &'a dyn Fn(&str) -> Option<f64>,
    pub(crate) predictions: &'a ZonePredictions,
    pub(crate) comfort: ComfortSettings,
    /// Upper comfort limit of CO2, ppm.
    pub(crate) co2_high_ppm: Option<f64>,
    /// Age beyond which a zone that reports every minute counts as silent, seconds.
    pub(crate) stale_after_s: f64,
    /// Current time, UTC ms.
    pub(crate) now_ms: i64,
}

impl ZoneFacts<'_> {
    /// Computes the state of the zone.
    pub(crate) fn compute_state(&self) -> ZoneOverview {
        let mut reasons = self.find_reasons();
        reasons.sort_by_key(|reason| reason.level);
        let state = reasons.first().map_or(StateLevel::Ok, |reason| reason.level);
        let metrics =
            self.metrics.iter().map(|metric| (metric.clone(), self.metric_values(metric)));
        let next = if state == StateLevel::Stale {
            Vec::new()
        } else {
            let fresh = self.predictions.predictions.iter().filter(|own| !own.is_stale);
            fresh.filter(|own| own.task != TASK_NAME).map(NextValue::from).collect()
        };
        ZoneOverview {
            zone: self.zone.clone(),
            at_ms: self.at_ms,
            state,
            reasons,
            metrics: metrics.collect(),
            next,
            alerts: Vec::new(),
            limits: self.collect_limits(),
        }
    }

    fn feature_value(&self, name: &str) -> Option<f64> {
        (self.feature)(name)
    }

    /// Returns the value, its age at the row in seconds, and its trend per hour.
    fn metric_values(&self, metric: &str) -> [Option<f64>; 3] {
        let driest =
            (metric == "soil_moisture").then(|| self.feature_value("soil_moisture_min_30m"));
        let value = driest.flatten().or_else(|| self.feature_value(&format!("{metric}_last")));
        let age_s = self.feature_value(&format!("{metric}_age_s"));
        let trend = self.feature_value(&format!("{metric}_slope_1h"));
        [value, age_s, trend].map(|own| own.map(round_value))
    }

    fn has_metric(&self, metric: &str) -> bool {
        self.metrics.iter().any(|own| own == metric)
    }

    fn collect_limits(&self) -> BTreeMap<&'static str, f64> {
        let mut limits = BTreeMap::new();
        if self.has_metric("temperature") {
            limits.insert("heat_below", self.comfort.heat_below);
            limits.insert("cool_above", self.comfort.cool_above);
        }
        if self.has_metric("soil_moisture") {
            limits.insert("soil_moisture_critical", self.comfort.soil_moisture_critical);
            // Light is wanted where something grows.
            limits.insert("dli_target", self.comfort.dli_wanted());
        }
        if let Some(high) = self.co2_high_ppm.filter(|_| self.has_metric("co2")) {
            limits.insert("co2_high", high);
        }
        limits
    }

    fn find_reasons(&self) -> Vec<StateReason> {
        let Some(at_ms) = self.at_ms else {
            return vec![StateReason::new(ReasonKind::NoData, StateLevel::Stale)];
        };
        let age_s = (self.now_ms - at_ms) as f64 / 1000.0;
        if age_s > self.silence_limit_s() {
            return vec![
                StateReason::new(ReasonKind::ZoneSilent, StateLevel::Stale).with_since(at_ms),
            ];
        }
        let mut reasons = Vec::new();
        reasons.extend(self.check_temperature());
        reasons.extend(self.check_soil());
        reasons.extend(self.check_co2());
        reasons.extend(self.find_silent_metrics(at_ms, age_s));
        reasons.extend(self.check_anomaly());
        reasons
    }

    /// Returns the age beyond which the zone is silent, seconds, from the interval of its most
    /// frequent metric.
    fn silence_limit_s(&self) -> f64 {
        let rhythms = self.metrics.iter().filter_map(|metric| self.interval_s(metric));
        let shortest = rhythms.fold(f64::INFINITY, f64::min);
        if shortest.is_finite() {
            self.stale_after_s.max(MISSED_READINGS * shortest).min(SILENCE_S_MAX)
        } else {
            self.stale_after_s
        }
    }

    /// Returns the usual interval between readings of a metric, seconds; `None` for a new metric,
    /// without a full day of readings.
    fn interval_s(&self, metric: &str) -> Option<f64> {
        let day =
            self.feature_value(&format!("{metric}_coverage_24h")).filter(|share| *share > 0.0)?;
        let week = self.feature_value(&format!("{metric}_coverage_7d"))?;
        // Of a metric that began within the day the week holds no more readings than the day.
        let is_new = week * 7.0 <= day * 1.05;
        (!is_new).then(|| COVERAGE_STEP_S * 100.0 / day)
    }

    fn check_temperature(&self) -> Option<StateReason> {
        let value = self
            .feature_value("temperature_mean_10m")
            .or_else(|| self.fresh_value("temperature"))?;
        let ComfortSettings { heat_below, cool_above, .. } = self.comfort;
        let (kind, limit, beyond) = if value < heat_below {
            (ReasonKind::TooCold, heat_below, heat_below - value)
        } else if value > cool_above {
            (ReasonKind::TooWarm, cool_above, value - cool_above)
        } else {
            return None;
        };
        let level = warning_or_notice(beyond > TEMPERATURE_WARNING_C);
        Some(StateReason::new(kind, level).with_metric("temperature").with_limit(value, limit))
    }

    fn check_co2(&self) -> Option<StateReason> {
        let limit = self.co2_high_ppm?;
        let value = self.feature_value("co2_mean_10m").or_else(|| self.fresh_value("co2"))?;
        let level = warning_or_notice(value > limit * CO2_WARNING_SHARE);
        let reason = StateReason::new(ReasonKind::Co2High, level);
        (value > limit).then(|| reason.with_metric("co2").with_limit(value, limit))
    }

    /// Returns the latest value of a metric that was reported within the hour.
    fn fresh_value(&self, metric: &str) -> Option<f64> {
        let age_s = self.feature_value(&format!("{metric}_age_s"))?;
        (age_s <= METRIC_SILENT_S).then(|| self.feature_value(&format!("{metric}_last"))).flatten()
    }

    fn check_soil(&self) -> Option<StateReason> {
        let limit = self.comfort.soil_moisture_critical;
        let driest = self.feature_value("soil_moisture_min_30m");
        let value = driest.or_else(|| self.feature_value("soil_moisture_last"))?;
        if value <= limit {
            let reason = StateReason::new(ReasonKind::SoilCritical, StateLevel::Alarm);
            let mut reason = reason.with_metric("soil_moisture").with_limit(value, limit);
            reason.minutes = self.feature_value("drying_irrigation_min").map(round_value);
            return Some(reason);
        }
        let watering = self.predictions.predictions.iter().find(|own| own.task == "watering")?;
        let hours = Some(watering.value).filter(|_| !watering.fallback && !watering.is_stale)?;
        let level = warning_or_notice(hours <= SOIL_WARNING_H);
        let mut reason = StateReason::new(ReasonKind::SoilCriticalSoon, level);
        reason.hours = Some(round_value(hours));
        (hours <= SOIL_NOTICE_H)
            .then(|| reason.with_metric("soil_moisture").with_limit(value, limit))
    }

    /// Finds metrics whose sensors are silent while others of the zone still report.
    fn find_silent_metrics(&self, at_ms: i64, row_age_s: f64) -> impl Iterator<Item = StateReason> {
        self.metrics.iter().filter_map(move |metric| {
            let age_s = self.feature_value(&format!("{metric}_age_s"))?;
            // What is sent only when it changes has no coverage, and is not missed.
            let day =
                self.feature_value(&format!("{metric}_coverage_7d")).filter(|share| *share > 0.0);
            let limit_s = self.interval_s(metric).map_or(METRIC_SILENT_S, |interval_s| {
                (MISSED_READINGS * interval_s).clamp(METRIC_SILENT_S, SILENCE_S_MAX)
            });
            let is_silent = day.is_some() && age_s + row_age_s > limit_s && age_s < METRIC_GONE_S;
            let since_ms = at_ms - (age_s * 1000.0) as i64;
            let reason = StateReason::new(ReasonKind::MetricSilent, StateLevel::Warning);
            is_silent.then(|| reason.with_metric(metric).with_since(since_ms))
        })
    }

    fn check_anomaly(&self) -> Option<StateReason> {
        let since_ms = self.predictions.anomaly_since_ms?;
        let anomaly = self.predictions.predictions.iter().find(|own| own.task == TASK_NAME)?;
        let lasts = self.now_ms - since_ms >= ANOMALY_WARNING_MS;
        let mut reason =
            StateReason::new(ReasonKind::Anomaly, warning_or_notice(lasts)).with_since(since_ms);
        reason.metric = anomaly.metric.as_deref().map(SmolStr::from);
        reason.value = Some(round_value(anomaly.value));
        reason.fault = anomaly.fault.map(|fault| fault.name());
        Some(reason)
    }
}

const fn warning_or_notice(is_warning: bool) -> StateLevel {
    if is_warning { StateLevel::Warning } else { StateLevel::Notice }
}

/// Rounds to a thousandth, which is finer than any sensor here; more digits would only enlarge the
/// answer.
fn round_value(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use trainer::settings::CropKind;

    use super::*;

    const NOW_MS: i64 = 1_764_504_000_000;

    const COMFORT: ComfortSettings = ComfortSettings {
        heat_below: 20.0,
        cool_above: 25.0,
        soil_moisture_critical: 30.0,
        crop: CropKind::Any,
        dli_target: 0.0,
        lamp_ppfd: 150.0,
        ppfd_per_lux: 0.0185,
    };

    #[track_caller]
    fn check(metrics: &[&str], age_s: i64, features: &[(&str, f64)], expect: &[(&str, &str)]) {
        let metrics: Vec<SmolStr> = metrics.iter().map(|metric| (*metric).into()).collect();
        let feature =
            |name: &str| features.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
        let state = ZoneFacts {
            zone: &ZoneId::new("farm", "bay-1"),
            metrics: &metrics,
            at_ms: Some(NOW_MS - age_s * 1000),
            feature: &feature,
            predictions: &ZonePredictions::default(),
            comfort: COMFORT,
            co2_high_ppm: Some(1200.0),
            stale_after_s: 900.0,
            now_ms: NOW_MS,
        }
        .compute_state();
        let json = serde_json::to_value(&state).unwrap();
        let text = |reason: &serde_json::Value, key: &str| reason[key].as_str().unwrap().to_owned();
        let reasons = json["reasons"].as_array().unwrap();
        let found: Vec<(String, String)> =
            reasons.iter().map(|own| (text(own, "kind"), text(own, "level"))).collect();
        let expect: Vec<(String, String)> =
            expect.iter().map(|(kind, level)| ((*kind).to_owned(), (*level).to_owned())).collect();
        assert_eq!(found, expect, "{features:?} {age_s} s old");
        let first = expect.first().map_or("ok", |(_, level)| level);
        assert_eq!(state.state.as_str(), first);
    }

    #[test]
    fn comfort_and_soil() {
        let air = ["temperature", "co2"];
        check(&air, 5, &[("temperature_mean_10m", 22.0)], &[]);
        check(&air, 5, &[("temperature_mean_10m", 19.0)], &[("too_cold", "notice")]);
        check(&air, 5, &[("temperature_mean_10m", 17.9)], &[("too_cold", "warning")]);
        check(&air, 5, &[("temperature_mean_10m", 27.1)], &[("too_warm", "warning")]);
        check(&air, 5, &[("co2_mean_10m", 1200.0)], &[]);
        check(&air, 5, &[("co2_mean_10m", 1300.0)], &[("co2_high", "notice")]);
        // An old value is no value of now.
        check(&air, 5, &[("co2_last", 1300.0), ("co2_age_s", 4000.0)], &[]);
        let soil = ["soil_moisture"];
        check(&soil, 5, &[("soil_moisture_last", 30.1)], &[]);
        check(&soil, 5, &[("soil_moisture_last", 30.0)], &[("soil_critical", "alarm")]);
        // The driest probe counts, and the most urgent reason comes first.
        check(
            &["soil_moisture", "temperature"],
            5,
            &[
                ("soil_moisture_last", 40.0),
                ("soil_moisture_min_30m", 29.0),
                ("temperature_mean_10m", 10.0),
            ],
            &[("soil_critical", "alarm"), ("too_cold", "warning")],
        );
    }

    #[test]
    fn silence_is_judged_by_the_rhythm_of_the_sensor() {
        let own = ["temperature"];
        check(&own, 899, &[], &[]);
        check(&own, 901, &[], &[("zone_silent", "stale")]);
        // Every half hour for a week: one reading is missed, then three.
        let slow = [("temperature_coverage_24h", 3.3), ("temperature_coverage_7d", 3.3)];
        check(&own, 3000, &slow, &[]);
        check(&own, 5600, &slow, &[("zone_silent", "stale")]);
        // The same share of a day that has only begun.
        let new = [("temperature_coverage_24h", 3.3), ("temperature_coverage_7d", 3.3 / 7.0)];
        check(&own, 3000, &new, &[("zone_silent", "stale")]);
    }

    #[test]
    fn a_silent_sensor_among_others() {
        let own = ["temperature", "irrigation"];
        let covered = [
            ("temperature_age_s", 3700.0),
            ("temperature_coverage_7d", 99.0),
            ("irrigation_age_s", 9000.0),
        ];
        check(&own, 5, &covered, &[("metric_silent", "warning")]);
        check(&own, 5, &[("temperature_age_s", 700_000.0)], &[]);
    }
}
