use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use telemetry::{SmolStr, ZoneId};
use utoipa::ToSchema;

use crate::{
    alert::{
        AcknowledgedBy, ActiveAlert, AlertId, AlertOutcome, AlertSeverity, AlertState, PastAlert,
    },
    rule::{AlertCondition, AlertRule, LimitSide},
};

/// An alert as people and programs see it: in REST, in MQTT, in messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertView {
    /// Identifier.
    pub id: AlertId,
    /// Name of the rule.
    #[schema(value_type = String, example = "soil_critical")]
    pub rule: SmolStr,
    /// Kind of the rule's condition; empty for a rule that no longer exists.
    #[schema(example = "threshold")]
    pub kind: String,
    /// Urgency.
    pub severity: AlertSeverity,
    /// State.
    pub state: AlertState,
    /// The zone, `site/zone`; `null` for the process itself.
    #[schema(value_type = Option<String>, example = "farm/bay-1")]
    pub zone: Option<ZoneId>,
    /// Metric, device or topic; empty for the whole zone.
    #[schema(value_type = String, example = "soil_moisture")]
    pub subject: SmolStr,
    /// Meaning of the rule, and advice.
    pub summary: String,
    /// The finding, in a sentence.
    #[schema(example = "soil moisture is 23.1 %, limit 24 %")]
    pub message: String,
    /// Event time since which the condition has held, UTC ms.
    pub started_ms: i64,
    /// Event time at which it began to fire, UTC ms; `null` while it is pending.
    pub fired_ms: Option<i64>,
    /// Event time of its newest observation, UTC ms.
    pub observed_ms: i64,
    /// Event time of its end, UTC ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved_ms: Option<i64>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<AlertOutcome>,
    /// Newest value.
    pub value: Option<f64>,
    /// Value furthest beyond the limit.
    pub peak: Option<f64>,
    /// Limit of the value.
    pub limit: Option<f64>,
    /// Unit of the values.
    #[schema(value_type = String, example = "%")]
    pub unit: SmolStr,
    /// Metric and kind of fault, for an anomaly; may be empty.
    #[schema(value_type = String)]
    pub detail: SmolStr,
    /// Whether a schedule keeps it from notifying anybody now.
    pub is_muted: bool,
    /// Who acknowledged it.
    pub acknowledged: Option<AcknowledgedBy>,
}

impl AlertView {
    /// Describes an active alert. `unit_of` looks up the unit of a metric.
    #[must_use]
    pub fn from_active(
        alert: &ActiveAlert,
        rule: Option<&AlertRule>,
        is_muted: bool,
        unit_of: &dyn Fn(&str) -> Option<SmolStr>,
    ) -> Self {
        let unit = rule.map_or(SmolStr::default(), |rule| find_unit(rule, unit_of));
        Self {
            id: alert.id.clone(),
            rule: alert.key.rule.clone(),
            kind: rule.map_or("", |rule| rule.condition.kind()).to_owned(),
            severity: alert.severity,
            state: alert.state(),
            zone: alert.key.zone.clone(),
            subject: alert.key.subject.clone(),
            summary: rule.map_or(String::new(), |rule| rule.summary.clone()),
            message: describe_finding(alert, rule, &unit),
            started_ms: alert.started_ms,
            fired_ms: alert.fired_ms,
            observed_ms: alert.observed_ms,
            resolved_ms: None,
            outcome: None,
            value: alert.value.map(round_value),
            peak: alert.peak.map(round_value),
            limit: alert.limit.map(round_value),
            unit,
            detail: alert.detail.clone(),
            is_muted,
            acknowledged: alert.acknowledged.clone(),
        }
    }

    /// Describes a past alert.
    #[must_use]
    pub fn from_past(
        past: &PastAlert,
        rule: Option<&AlertRule>,
        unit_of: &dyn Fn(&str) -> Option<SmolStr>,
    ) -> Self {
        // What was found at its worst says more than the value that ended it.
        let worst = ActiveAlert { value: past.alert.peak, ..past.alert.clone() };
        Self {
            state: AlertState::Resolved,
            resolved_ms: Some(past.resolved_ms),
            outcome: Some(past.outcome),
            value: past.alert.value.map(round_value),
            ..Self::from_active(&worst, rule, false, unit_of)
        }
    }

    /// Where it is, in words: the zone, or the process.
    #[must_use]
    pub fn place(&self) -> String {
        self.zone.as_ref().map_or_else(|| "microclimate".to_owned(), ToString::to_string)
    }
}

fn find_unit(rule: &AlertRule, unit_of: &dyn Fn(&str) -> Option<SmolStr>) -> SmolStr {
    match &rule.condition {
        AlertCondition::Threshold { metric, .. } => unit_of(metric).unwrap_or_default(),
        AlertCondition::Battery { .. } => "V".into(),
        AlertCondition::SoilForecast { .. } => "h".into(),
        AlertCondition::TaskForecast { task, .. } => {
            let metric = task.split('-').next().unwrap_or_default();
            unit_of(metric).unwrap_or_default()
        }
        AlertCondition::Anomaly { .. } => "× alarm".into(),
        AlertCondition::SilentSensor { .. }
        | AlertCondition::SilentZone { .. }
        | AlertCondition::ClockOffset { .. } => "s".into(),
        AlertCondition::PipelineLag { .. } => "records".into(),
        AlertCondition::Spool { .. } => "%".into(),
        AlertCondition::Disk { .. } => "MB".into(),
    }
}

/// Describes what was found, as in `soil moisture is 23.1 %, limit 24 %`.
fn describe_finding(alert: &ActiveAlert, rule: Option<&AlertRule>, unit: &str) -> String {
    let subject = alert.key.subject.replace('_', " ");
    let number = |value: Option<f64>| {
        value.map_or_else(
            || "unknown".to_owned(),
            |value| {
                let rounded = (value * 10.0).round() / 10.0;
                if unit.is_empty() { rounded.to_string() } else { format!("{rounded} {unit}") }
            },
        )
    };
    let value = number(alert.value);
    let span = |value: Option<f64>| value.map_or_else(|| "unknown".to_owned(), format_span);
    let Some(rule) = rule else { return value };
    let mut text = match &rule.condition {
        AlertCondition::Threshold { .. } | AlertCondition::Battery { .. } => {
            let side = match rule.condition.side() {
                LimitSide::Above => "above",
                LimitSide::Below => "below",
            };
            return format!("{subject} is {value}, {side} {}", number(alert.limit));
        }
        AlertCondition::SoilForecast { .. } => return format!("soil is critical in {value}"),
        AlertCondition::TaskForecast { .. } => format!("{subject} is predicted to be {value}"),
        AlertCondition::SilentSensor { .. } => {
            return format!("{subject}: no reading for {}", span(alert.value));
        }
        AlertCondition::SilentZone { .. } => {
            return format!("no reading for {}", span(alert.value));
        }
        AlertCondition::Anomaly { .. } => {
            format!("{} ({value})", if alert.detail.is_empty() { "unusual" } else { &alert.detail })
        }
        AlertCondition::ClockOffset { .. } => {
            return format!("the clock of {} is off by {}", alert.key.subject, span(alert.value));
        }
        AlertCondition::PipelineLag { .. } => format!("{value} wait to be stored"),
        AlertCondition::Spool { .. } => {
            format!("the spool of {} is {value} full", alert.key.subject)
        }
        AlertCondition::Disk { .. } => {
            format!("{value} are free on the disk of {}", alert.key.subject)
        }
    };
    if let Some(limit) =
        alert.limit.filter(|_| !matches!(rule.condition, AlertCondition::Anomaly { .. }))
    {
        let _ = write!(text, ", limit {}", number(Some(limit)));
    }
    text
}

/// Formats seconds as `45 s`, `12 min`, `3.5 h` or `2 days`.
fn format_span(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 2.0 * 86_400.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// Rounds to a thousandth, which is finer than any sensor here.
fn round_value(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::AlertKey, settings::AlertSettings};

    #[test]
    fn findings_in_words() {
        let rules = AlertSettings::default().check().unwrap().rules;
        let check =
            |rule: &str, subject: &str, value: f64, limit: f64, detail: &str, expect: &str| {
                let rule = rules.iter().find(|own| own.name == rule).unwrap();
                let key = AlertKey::for_zone(&rule.name, &"farm/bay-1".parse().unwrap(), subject);
                let alert = ActiveAlert {
                    id: AlertId::from_start(&key, 0),
                    key,
                    severity: rule.severity,
                    started_ms: 0,
                    fired_ms: Some(0),
                    observed_ms: 0,
                    value: Some(value),
                    peak: Some(value),
                    limit: Some(limit),
                    detail: detail.into(),
                    is_recorded: false,
                    acknowledged: None,
                };
                let view = AlertView::from_active(&alert, Some(rule), false, &|_| Some("%".into()));
                assert_eq!(view.message, expect);
            };
        check(
            "soil_critical",
            "soil_moisture",
            23.14,
            24.0,
            "",
            "soil moisture is 23.1 %, below 24 %",
        );
        check("soil_critical_soon", "soil_moisture", 3.96, 6.0, "", "soil is critical in 4 h");
        check("sensor_silent", "co2", 7800.0, 3600.0, "", "co2: no reading for 2.2 h");
        check("zone_silent", "", 1900.0, 1800.0, "", "no reading for 32 min");
        check("sensor_fault", "", 1.52, 1.0, "co2 stuck", "co2 stuck (1.5 × alarm)");
        check("clock_wrong", "probe", 28_800.0, 120.0, "", "the clock of probe is off by 8.0 h");
        check(
            "disk_filling",
            "data",
            900.0,
            1024.0,
            "",
            "900 MB are free on the disk of data, limit 1024 MB",
        );
    }
}
