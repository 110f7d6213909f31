//! Rules as they are written in a configuration, and the built-in ones.

use serde::{Deserialize, Serialize};
use telemetry::SmolStr;

use crate::{
    alert::AlertSeverity,
    mute::RawMuteSchedule,
    rule::{AlertCondition, AlertRule, LimitBase, LimitSide, LimitSource, NamedLimit, Threshold},
};

/// Built-in rules, with every key that a rule may have explained.
pub(crate) const BUILT_IN_RULES: &str = include_str!("built_in_rules.toml");
/// Longest name of a rule, characters.
const NAME_LETTERS_MAX: usize = 60;
/// Name that topics use for the sum of a zone's alerts.
const RESERVED_NAME: &str = "problem";
/// Longest duration in a rule, s: a month.
const DURATION_S_MAX: f64 = 31.0 * 86_400.0;
/// Kinds of faults that the anomaly task tells apart.
const FAULTS: [&str; 5] = ["spike", "stuck", "drift", "noise", "dropout"];

/// A limit as it is written: a number or the name of the zone's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawLimit {
    Number(f64),
    Name(String),
}

/// A rule as it is written. A rule with the name of a built-in one changes only the keys that it
/// has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAlertRule {
    /// Name of the rule.
    pub(crate) name: String,
    pub(crate) enabled: Option<bool>,
    pub(crate) summary: Option<String>,
    pub(crate) severity: Option<AlertSeverity>,
    pub(crate) kind: Option<String>,
    pub(crate) zones: Option<Vec<SmolStr>>,
    pub(crate) for_s: Option<f64>,
    pub(crate) metric: Option<SmolStr>,
    pub(crate) metrics: Option<Vec<SmolStr>>,
    pub(crate) statistic: Option<SmolStr>,
    pub(crate) task: Option<SmolStr>,
    pub(crate) above: Option<RawLimit>,
    pub(crate) below: Option<RawLimit>,
    pub(crate) margin: Option<f64>,
    pub(crate) hysteresis: Option<f64>,
    pub(crate) within_h: Option<f64>,
    pub(crate) hysteresis_h: Option<f64>,
    pub(crate) after_s: Option<f64>,
    pub(crate) faults: Option<Vec<SmolStr>>,
    pub(crate) above_s: Option<f64>,
    pub(crate) above_records: Option<f64>,
    pub(crate) above_pct: Option<f64>,
    pub(crate) below_mb: Option<f64>,
    pub(crate) hysteresis_mb: Option<f64>,
    pub(crate) mute: Option<Vec<RawMuteSchedule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRuleFile {
    rules: Vec<RawAlertRule>,
}

/// The built-in rules as they are written.
pub(crate) fn built_in_rules() -> Vec<RawAlertRule> {
    let file: RawRuleFile = toml::from_str(BUILT_IN_RULES).expect("the built-in rules are rules");
    file.rules
}

/// Collects mistakes in one rule.
struct RuleMistakes<'a> {
    place: String,
    found: &'a mut Vec<(String, String)>,
}

impl RuleMistakes<'_> {
    fn push(&mut self, key: &str, what: impl Into<String>) {
        let place =
            if key.is_empty() { self.place.clone() } else { format!("{}.{key}", self.place) };
        self.found.push((place, what.into()));
    }

    /// Returns the number if it is given and within the range; otherwise notes a mistake.
    fn number(&mut self, key: &str, value: Option<f64>, low: f64, high: f64) -> f64 {
        match value {
            Some(value) if value.is_finite() && (low..=high).contains(&value) => value,
            Some(value) => {
                self.push(key, format!("{value} is not {low} to {high}"));
                low
            }
            None => {
                self.push(key, format!("is missing, expected a number from {low} to {high}"));
                low
            }
        }
    }
}

impl RawAlertRule {
    /// Replaces the keys that `over` has.
    fn overlay(&mut self, over: &Self) {
        macro_rules! take {
            ($($key:ident),*) => { $(if over.$key.is_some() { self.$key.clone_from(&over.$key); })* };
        }
        // A limit on the other side replaces the one that the rule had.
        if over.above.is_some() {
            self.below = None;
        }
        if over.below.is_some() {
            self.above = None;
        }
        take!(
            enabled,
            summary,
            severity,
            kind,
            zones,
            for_s,
            metric,
            metrics,
            statistic,
            task,
            above,
            below,
            margin,
            hysteresis,
            within_h,
            hysteresis_h,
            after_s,
            faults,
            above_s,
            above_records,
            above_pct,
            below_mb,
            hysteresis_mb,
            mute
        );
    }

    fn check(&self, is_built_in: bool, found: &mut Vec<(String, String)>) -> Option<AlertRule> {
        let before = found.len();
        let mut mistakes = RuleMistakes { place: format!("alerts.rules.{}", self.name), found };
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= NAME_LETTERS_MAX
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        if !is_name(&self.name) || self.name == RESERVED_NAME {
            let what = format!(
                "`{}` is no name of a rule, expected up to {NAME_LETTERS_MAX} small letters, digits and `_`, as in `too_dry`",
                self.name.chars().take(80).collect::<String>()
            );
            mistakes.push("name", what);
        }
        for zone in self.zones.iter().flatten() {
            let has_both = zone.split_once('/').is_some_and(|(site, zone)| {
                !site.is_empty() && !zone.is_empty() && !zone.contains('/')
            });
            if !has_both {
                mistakes.push(
                    "zones",
                    format!("`{zone}` is no zone, expected `site/zone` or `site/*`"),
                );
            }
        }
        let for_s = match self.for_s {
            None => 0.0,
            given => mistakes.number("for_s", given, 0.0, DURATION_S_MAX),
        };
        let mut mute = Vec::new();
        for raw in self.mute.iter().flatten() {
            match raw.check() {
                Ok(schedule) => mute.push(schedule),
                Err(what) => mistakes.push("mute", what),
            }
        }
        let condition = self.check_condition(&mut mistakes);
        self.refuse_unused_keys(&mut mistakes);
        let condition = condition.filter(|_| found.len() == before)?;
        Some(AlertRule {
            name: self.name.as_str().into(),
            summary: self.summary.clone().unwrap_or_default(),
            severity: self.severity.unwrap_or(AlertSeverity::Warning),
            is_built_in,
            is_enabled: self.enabled.unwrap_or(true),
            for_s,
            zones: self.zones.clone().unwrap_or_default(),
            mute,
            condition,
        })
    }

    fn check_condition(&self, mistakes: &mut RuleMistakes<'_>) -> Option<AlertCondition> {
        let kind = self.kind.as_deref().unwrap_or("threshold");
        Some(match kind {
            "threshold" => {
                let Some(metric) = self.metric.clone() else {
                    mistakes.push("metric", "is missing, expected a metric as in `temperature`");
                    return None;
                };
                let statistic = self.statistic.clone().unwrap_or_else(|| "last".into());
                AlertCondition::Threshold {
                    metric,
                    statistic,
                    threshold: self.check_threshold(mistakes)?,
                }
            }
            "silent_sensor" => AlertCondition::SilentSensor {
                after_s: mistakes.number("after_s", self.after_s, 60.0, DURATION_S_MAX),
                metrics: self.metrics.clone().unwrap_or_default(),
            },
            "silent_zone" => AlertCondition::SilentZone {
                after_s: mistakes.number("after_s", self.after_s, 60.0, DURATION_S_MAX),
            },
            "forecast" => match (&self.task, self.metric.as_deref()) {
                (Some(task), None) => AlertCondition::TaskForecast {
                    task: task.clone(),
                    threshold: self.check_threshold(mistakes)?,
                },
                (None, None | Some("soil_moisture")) => {
                    let threshold = self.check_threshold(mistakes)?;
                    if threshold.side == LimitSide::Above {
                        mistakes.push("above", "soil dries: expected `below`");
                    }
                    AlertCondition::SoilForecast {
                        limit: threshold.limit,
                        within_h: mistakes.number("within_h", self.within_h, 0.1, 48.0),
                        hysteresis_h: mistakes.number(
                            "hysteresis_h",
                            self.hysteresis_h.or(Some(0.0)),
                            0.0,
                            48.0,
                        ),
                    }
                }
                _ => {
                    let what = "expected `metric = \"soil_moisture\"` with `within_h`, or a `task` of predictions";
                    mistakes.push("metric", what);
                    return None;
                }
            },
            "anomaly" => {
                let faults = self.faults.clone().unwrap_or_default();
                for fault in faults.iter().filter(|fault| !FAULTS.contains(&fault.as_str())) {
                    let known = FAULTS.join(", ");
                    mistakes.push(
                        "faults",
                        format!("there is no fault `{fault}`, expected some of {known}"),
                    );
                }
                AlertCondition::Anomaly { faults }
            }
            "battery" => AlertCondition::Battery { threshold: self.check_threshold(mistakes)? },
            "clock_offset" => AlertCondition::ClockOffset {
                above_s: mistakes.number("above_s", self.above_s, 1.0, DURATION_S_MAX),
            },
            "pipeline_lag" => AlertCondition::PipelineLag {
                above_records: mistakes.number("above_records", self.above_records, 1.0, 1e12),
            },
            "spool" => AlertCondition::Spool {
                above_pct: mistakes.number("above_pct", self.above_pct, 0.0, 100.0),
            },
            "disk" => AlertCondition::Disk {
                below_mb: mistakes.number("below_mb", self.below_mb, 1.0, 1e9),
                hysteresis_mb: mistakes.number(
                    "hysteresis_mb",
                    self.hysteresis_mb.or(Some(0.0)),
                    0.0,
                    1e9,
                ),
            },
            other => {
                let what = format!(
                    "there is no kind `{other}`, expected one of threshold, silent_sensor, silent_zone, forecast, anomaly, battery, clock_offset, pipeline_lag, spool, disk"
                );
                mistakes.push("kind", what);
                return None;
            }
        })
    }

    fn check_threshold(&self, mistakes: &mut RuleMistakes<'_>) -> Option<Threshold> {
        let (raw, side, key) = match (&self.above, &self.below) {
            (Some(raw), None) => (raw, LimitSide::Above, "above"),
            (None, Some(raw)) => (raw, LimitSide::Below, "below"),
            _ => {
                mistakes.push("", "expected one of `above` and `below`");
                return None;
            }
        };
        let base = match raw {
            RawLimit::Number(number) if number.is_finite() => LimitBase::Fixed(*number),
            RawLimit::Number(number) => {
                mistakes.push(key, format!("{number} is no limit"));
                return None;
            }
            RawLimit::Name(name) => {
                match NamedLimit::ALL.into_iter().find(|limit| limit.as_str() == name) {
                    Some(limit) => LimitBase::Named(limit),
                    None => {
                        let known = NamedLimit::ALL.map(NamedLimit::as_str).join(", ");
                        let what = format!(
                            "there is no limit `{name}`, expected a number or one of {known}"
                        );
                        mistakes.push(key, what);
                        return None;
                    }
                }
            }
        };
        let margin = mistakes.number("margin", self.margin.or(Some(0.0)), 0.0, 1e9);
        let hysteresis = mistakes.number("hysteresis", self.hysteresis.or(Some(0.0)), 0.0, 1e9);
        Some(Threshold { limit: LimitSource { base, margin }, side, hysteresis })
    }

    /// Refuses keys that have no meaning for the rule's kind, so that a mistake is not ignored.
    fn refuse_unused_keys(&self, mistakes: &mut RuleMistakes<'_>) {
        let kind = self.kind.as_deref().unwrap_or("threshold");
        let used: &[&str] = match kind {
            "threshold" => &["metric", "statistic", "above", "below", "margin", "hysteresis"],
            "silent_sensor" => &["after_s", "metrics"],
            "silent_zone" => &["after_s"],
            "forecast" if self.task.is_some() => {
                &["task", "above", "below", "margin", "hysteresis"]
            }
            "forecast" => &["metric", "below", "above", "margin", "within_h", "hysteresis_h"],
            "anomaly" => &["faults"],
            "battery" => &["above", "below", "margin", "hysteresis"],
            "clock_offset" => &["above_s"],
            "pipeline_lag" => &["above_records"],
            "spool" => &["above_pct"],
            "disk" => &["below_mb", "hysteresis_mb"],
            _ => return,
        };
        let given = [
            ("metric", self.metric.is_some()),
            ("metrics", self.metrics.is_some()),
            ("statistic", self.statistic.is_some()),
            ("task", self.task.is_some()),
            ("above", self.above.is_some()),
            ("below", self.below.is_some()),
            ("margin", self.margin.is_some()),
            ("hysteresis", self.hysteresis.is_some()),
            ("within_h", self.within_h.is_some()),
            ("hysteresis_h", self.hysteresis_h.is_some()),
            ("after_s", self.after_s.is_some()),
            ("faults", self.faults.is_some()),
            ("above_s", self.above_s.is_some()),
            ("above_records", self.above_records.is_some()),
            ("above_pct", self.above_pct.is_some()),
            ("below_mb", self.below_mb.is_some()),
            ("hysteresis_mb", self.hysteresis_mb.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(key, is_given)| *is_given && !used.contains(key))
        {
            mistakes.push(
                key,
                format!("means nothing to a rule of kind `{kind}`, which has {}", used.join(", ")),
            );
        }
    }
}

/// Overlays the built-in rules with the user's, and checks all. Mistakes are (place, what).
pub(crate) fn check_rules(
    own: &[RawAlertRule],
    found: &mut Vec<(String, String)>,
) -> Vec<AlertRule> {
    let mut raw = built_in_rules();
    let built_in = raw.len();
    let mut names: Vec<&str> = Vec::new();
    for rule in own {
        if names.contains(&rule.name.as_str()) {
            let place = format!("alerts.rules.{}", rule.name);
            found.push((place, "there are two rules of this name".to_owned()));
            continue;
        }
        names.push(&rule.name);
        match raw.iter_mut().take(built_in).find(|known| known.name == rule.name) {
            Some(known) => known.overlay(rule),
            None => raw.push(rule.clone()),
        }
    }
    raw.iter().enumerate().filter_map(|(i, rule)| rule.check(i < built_in, found)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Vec<AlertRule>, String> {
        let file: RawRuleFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut found = Vec::new();
        let rules = check_rules(&file.rules, &mut found);
        let lines: Vec<String> =
            found.into_iter().map(|(place, what)| format!("{place}: {what}")).collect();
        if lines.is_empty() { Ok(rules) } else { Err(lines.join("\n")) }
    }

    fn rule(text: &str, name: &str) -> AlertRule {
        check(text).unwrap().into_iter().find(|rule| rule.name == name).unwrap()
    }

    #[test]
    fn the_built_in_rules_are_valid_and_explained() {
        let rules = check("rules = []").unwrap();
        assert!(
            rules.len() >= 10
                && rules.iter().all(|rule| rule.is_built_in && !rule.summary.is_empty())
        );
        let kinds: std::collections::BTreeSet<&str> =
            rules.iter().map(|rule| rule.condition.kind()).collect();
        assert_eq!(kinds.len(), 10, "each kind has a built-in rule: {kinds:?}");
    }

    #[test]
    fn a_built_in_rule_is_changed_or_turned_off_by_its_name() {
        let text = "[[rules]]\nname = \"soil_critical_soon\"\nwithin_h = 12\n[[rules]]\nname = \"frost\"\nenabled = false";
        let AlertCondition::SoilForecast { within_h, limit, .. } =
            rule(text, "soil_critical_soon").condition
        else {
            panic!("the kind stays")
        };
        assert_eq!(within_h, 12.0);
        assert_eq!(limit.base, LimitBase::Named(NamedLimit::SoilMoistureCritical));
        assert!(!rule(text, "frost").is_enabled);
        assert!(rule(text, "soil_critical").is_enabled);
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let refuse = |text: &str, expect: &[&str]| {
            let message = check(text).unwrap_err();
            for part in expect {
                assert!(message.contains(part), "{part:?} is not in: {message}");
            }
        };
        refuse(
            "[[rules]]\nname = \"a\"\nmetric = \"co2\"\n[[rules]]\nname = \"B\"\nkind = \"disk\"\nbelow_mb = 0\n",
            &[
                "alerts.rules.a: expected one of `above`",
                "alerts.rules.B.name",
                "below_mb: 0 is not",
            ],
        );
        refuse(
            "[[rules]]\nname = \"a\"\nmetric = \"co2\"\nabove = \"co2\"",
            &["there is no limit `co2`"],
        );
        refuse("[[rules]]\nname = \"a\"\nkind = \"spook\"", &["there is no kind `spook`"]);
        refuse("[[rules]]\nname = \"a\"\nmetirc = \"co2\"", &["metirc"]);
        refuse(
            "[[rules]]\nname = \"a\"\nmetric = \"co2\"\nabove = 1\nwithin_h = 3",
            &["within_h: means nothing to a rule of kind `threshold`"],
        );
        refuse(
            "[[rules]]\nname = \"a\"\nkind = \"anomaly\"\nfaults = [\"stick\"]",
            &["there is no fault `stick`"],
        );
        refuse(
            "[[rules]]\nname = \"frost\"\n[[rules]]\nname = \"frost\"",
            &["two rules of this name"],
        );
        refuse("[[rules]]\nname = \"frost\"\nzones = [\"farm\"]", &["`farm` is no zone"]);
    }

    #[test]
    fn a_rule_applies_to_its_zones() {
        let mut own = rule("rules = []", "frost");
        let bay = "farm/bay-1".parse().unwrap();
        assert!(own.applies_to(&bay));
        for (zone, expect) in
            [("farm/*", true), ("farm/bay-1", true), ("farm/bay-2", false), ("home/*", false)]
        {
            own.zones = vec![zone.into()];
            assert_eq!(own.applies_to(&bay), expect, "{zone}");
        }
    }
}
