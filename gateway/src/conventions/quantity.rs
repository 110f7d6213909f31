//! What a value of another system is: which metric, in which unit, or no
//! reading at all.

use std::collections::HashMap;

use telemetry::{DeadLetterReason, MetricTable, SmolStr, unit};

use super::{
    ReadingRefusal, device_value,
    ignore_list::{IgnoreList, is_device_field},
    name_pattern::NamePattern,
    settings::{MappingSettings, MetricConversion, MetricRule, UnknownValuePolicy},
    zone_resolver::shorten_text,
};

/// The names that a convention itself gives meaning to.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuiltinName {
    /// In any case; `#` in it is digits.
    pub(super) name: &'static str,
    pub(super) meaning: NameMeaning,
    /// Which of several sensors of a device it is of, where the name tells.
    pub(super) part: &'static str,
}

/// What a name means by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum NameMeaning {
    /// A metric, in the unit that the sender declares, else in this one.
    Metric(&'static str, Option<&'static str>),
    /// Known, and not a quantity that features are about.
    NotAReading,
}

/// A built-in name of a metric; `unit` is that of values without a declared
/// one, where the convention fixes it.
pub(super) const fn metric_named(
    name: &'static str,
    metric: &'static str,
    unit: Option<&'static str>,
) -> BuiltinName {
    metric_of_part("", name, metric, unit)
}

/// A built-in name of a metric of one of several sensors of a device.
pub(super) const fn metric_of_part(
    part: &'static str,
    name: &'static str,
    metric: &'static str,
    unit: Option<&'static str>,
) -> BuiltinName {
    BuiltinName { name, meaning: NameMeaning::Metric(metric, unit), part }
}

/// A built-in name of no reading.
pub(super) const fn not_a_reading(name: &'static str) -> BuiltinName {
    BuiltinName { name, meaning: NameMeaning::NotAReading, part: "" }
}

/// The rules of one mapping.
#[derive(Clone, Debug)]
pub(super) struct QuantityRules {
    rules: Vec<(NameMatcher, Option<MetricConversion>)>,
    builtin: BuiltinNames,
    unknown: UnknownValuePolicy,
}

/// Tables of built-in names, of which the first that has a name counts.
#[derive(Clone, Debug, Default)]
struct BuiltinNames {
    all: Vec<&'static BuiltinName>,
    /// Places of those without digits, by the name in lower case.
    by_name: HashMap<String, usize>,
    /// Places of those with digits.
    numbered: Vec<usize>,
}

impl BuiltinNames {
    fn add_table(&mut self, table: &'static [BuiltinName]) {
        for own in table {
            let rank = self.all.len();
            self.all.push(own);
            if own.name.contains('#') {
                self.numbered.push(rank);
            } else {
                self.by_name.entry(own.name.to_ascii_lowercase()).or_insert(rank);
            }
        }
    }

    fn find_name<'n>(&self, name: &'n str, before: &'n str) -> Option<BuiltinMatch<'n>> {
        let exact = self.by_name.get(&name.to_ascii_lowercase()).map(|rank| (*rank, ""));
        let numbered = self
            .numbered
            .iter()
            .find_map(|rank| Some((*rank, match_digits(self.all[*rank].name, name)?)));
        let (rank, channel) = exact.into_iter().chain(numbered).min_by_key(|(rank, _)| *rank)?;
        let BuiltinName { meaning, part, .. } = *self.all[rank];
        Some(BuiltinMatch { rank, meaning, channel, part, before })
    }
}

/// Which names a rule is for.
#[derive(Clone, Debug)]
enum NameMatcher {
    Exact(String),
    Pattern(NamePattern),
}

impl NameMatcher {
    /// Reads a name, a pattern, or a JSON pointer (RFC 6901), which is the names of its levels.
    fn parse(key: &str) -> Result<Self, String> {
        let levels = match key.strip_prefix('/') {
            Some(levels) => levels.replace("~1", "/").replace("~0", "~"),
            None => key.to_owned(),
        };
        if levels.contains(['*', '+', '#', '{', '}']) {
            return NamePattern::parse(&levels, &[]).map(Self::Pattern);
        }
        Ok(Self::Exact(levels))
    }

    fn is_match(&self, name: &str) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

impl BuiltinMatch<'_> {
    /// The unit that is in the name, or that nobody writes otherwise.
    pub(super) fn unit(&self) -> Option<&'static str> {
        match self.meaning {
            NameMeaning::Metric(_, unit) => unit,
            NameMeaning::NotAReading => None,
        }
    }
}

/// What the user says of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum UserRule<'q> {
    /// Nothing: built-in names may know it.
    Silent,
    /// That it is no reading.
    NotAReading,
    /// That it is of a metric.
    Metric(&'q MetricConversion),
}

/// A built-in name that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuiltinMatch<'n> {
    /// Its place among all built-in names of the mapping.
    pub(super) rank: usize,
    meaning: NameMeaning,
    /// The digits that stand for `#` in it; empty where it has none.
    pub(super) channel: &'n str,
    /// Which of several sensors of a device it is of, where the name tells.
    pub(super) part: &'static str,
    /// What stands before it, where only the end of the name was looked up.
    pub(super) before: &'n str,
}

/// A value as it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundValue<'a> {
    /// What it goes by, the most telling first; rules are matched with all.
    pub(super) names: &'a [&'a str],
    /// What the convention's own table calls it.
    pub(super) builtin: &'a str,
    /// The unit that the sender declares.
    pub(super) unit: Option<&'a str>,
}

/// A rule that a user wrote, checked.
pub(super) fn check_rule(
    key: &str,
    rule: &MetricRule,
    metrics: &MetricTable,
) -> Result<Option<MetricConversion>, String> {
    let full = match rule {
        MetricRule::Ignored(false) => return Ok(None),
        MetricRule::Ignored(true) => {
            return Err(format!("metrics.\"{key}\" = true: expected a metric's name or false"));
        }
        MetricRule::Metric(metric) => {
            MetricConversion { metric: metric.clone(), unit: None, scale: 1.0, offset: 0.0 }
        }
        MetricRule::Full(full) => full.clone(),
    };
    let Some(metric) = metrics.get(&full.metric) else {
        return Err(format!(
            "metrics.\"{key}\": `{0}` is not a metric; add [metrics.{0}] with unit, min and max",
            full.metric
        ));
    };
    if !(full.scale.is_finite() && full.scale != 0.0 && full.offset.is_finite()) {
        return Err(format!("metrics.\"{key}\": scale must be finite and not 0, offset finite"));
    }
    if let Some(own) = &full.unit {
        unit::convert_unit(0.0, own, &metric.unit)
            .map_err(|e| format!("metrics.\"{key}\": {e}, the unit of `{}`", full.metric))?;
    }
    Ok(Some(full))
}

impl QuantityRules {
    pub(super) fn new(
        mapping: &MappingSettings,
        builtin: &'static [BuiltinName],
        metrics: &MetricTable,
    ) -> Result<Self, String> {
        let rules = mapping.metrics.iter().map(|(key, own)| {
            let matcher = NameMatcher::parse(key).map_err(|what| format!("metrics: {what}"))?;
            Ok((matcher, check_rule(key, own, metrics)?))
        });
        let mut rules = rules.collect::<Result<Vec<_>, String>>()?;
        let ignored = IgnoreList::new(&mapping.ignore)?;
        let ignored = ignored.patterns().map(|own| (NameMatcher::Pattern(own.clone()), None));
        rules.extend(ignored);
        let mut names = BuiltinNames::default();
        names.add_table(builtin);
        Ok(Self { rules, builtin: names, unknown: mapping.unknown.unwrap_or_default() })
    }

    /// The same with a further table of built-in names.
    pub(super) fn with_builtin(mut self, further: &'static [BuiltinName]) -> Self {
        self.builtin.add_table(further);
        self
    }

    /// The same, with what becomes of unknown numbers where the user does not say it.
    pub(super) fn with_unknown(
        mut self,
        mapping: &MappingSettings,
        usual: UnknownValuePolicy,
    ) -> Self {
        self.unknown = mapping.unknown.unwrap_or(usual);
        self
    }

    pub(super) fn unknown(&self) -> UnknownValuePolicy {
        self.unknown
    }

    /// The built-in name that is this one, `#` in it being digits.
    pub(super) fn find_builtin<'n>(&self, name: &'n str) -> Option<BuiltinMatch<'n>> {
        self.builtin.find_name(name, "")
    }

    /// The longest built-in name that this one ends with, after `_` or `-`, or is.
    pub(super) fn find_builtin_suffix<'n>(&self, name: &'n str) -> Option<BuiltinMatch<'n>> {
        let ends = name.match_indices(['_', '-']).map(|(at, _)| at + 1);
        std::iter::once(0).chain(ends).find_map(|start| {
            self.builtin.find_name(&name[start..], name[..start].trim_end_matches(['_', '-']))
        })
    }

    /// What the user says of a value.
    pub(super) fn user_rule(&self, found: &FoundValue<'_>) -> UserRule<'_> {
        match self.find_rule(found) {
            None => UserRule::Silent,
            Some(None) => UserRule::NotAReading,
            Some(Some(rule)) => UserRule::Metric(rule),
        }
    }

    /// Whether a rule names exactly this.
    pub(super) fn has_exact_rule(&self, name: &str) -> bool {
        let is = |matcher: &NameMatcher| matches!(matcher, NameMatcher::Exact(own) if own == name);
        self.rules.iter().any(|(matcher, _)| is(matcher))
    }

    /// The names that the user's rules are for, for people.
    pub(super) fn rule_names(&self) -> String {
        let exact = self.rules.iter().filter_map(|(matcher, _)| match matcher {
            NameMatcher::Exact(name) => Some(name.as_str()),
            NameMatcher::Pattern(_) => None,
        });
        exact.collect::<Vec<_>>().join("`, `")
    }

    /// Whether a rule or a built-in name takes this for a metric; if not, its
    /// value need not even be a number.
    pub(super) fn is_metric(&self, found: &FoundValue<'_>) -> bool {
        match self.find_rule(found) {
            Some(rule) => rule.is_some(),
            None => matches!(self.find_meaning(found), Some(NameMeaning::Metric(..))),
        }
    }

    /// Whether the user wrote a rule that takes this for a metric.
    pub(super) fn is_ruled(&self, found: &FoundValue<'_>) -> bool {
        matches!(self.find_rule(found), Some(Some(_)))
    }

    /// The metric and the value in its unit; `None` where it is not a reading. The value comes
    /// with the unit that stands in its text, if it has one.
    pub(super) fn read_quantity(
        &self,
        found: &FoundValue<'_>,
        (value, unit): (f64, Option<&str>),
        metrics: &MetricTable,
    ) -> Result<Option<(SmolStr, f64)>, ReadingRefusal> {
        self.read_value(&FoundValue { unit: unit.or(found.unit), ..*found }, value, metrics)
    }

    /// The metric and the value in its unit; `None` where it is not a reading.
    pub(super) fn read_value(
        &self,
        found: &FoundValue<'_>,
        value: f64,
        metrics: &MetricTable,
    ) -> Result<Option<(SmolStr, f64)>, ReadingRefusal> {
        match self.find_rule(found) {
            Some(Some(rule)) => apply_rule(rule, found, value, metrics).map(Some),
            Some(None) => Ok(None),
            None => match self.find_meaning(found) {
                Some(NameMeaning::Metric(metric, unit)) => {
                    let rule = MetricConversion {
                        metric: metric.into(),
                        unit: None,
                        scale: 1.0,
                        offset: 0.0,
                    };
                    let Some(unit) = found.unit.or(unit) else {
                        return Err(missing_unit_refusal(found, metric));
                    };
                    let found = FoundValue { unit: Some(unit), ..*found };
                    let (metric, value) = apply_rule(&rule, &found, value, metrics)?;
                    Ok(Some(replace_sentinel(metric, found.names, value)))
                }
                Some(NameMeaning::NotAReading) => Ok(None),
                None if self.unknown == UnknownValuePolicy::Ignore => Ok(None),
                None => Err(unknown_metric_refusal(found)),
            },
        }
    }

    fn find_rule(&self, found: &FoundValue<'_>) -> Option<&Option<MetricConversion>> {
        found.names.iter().find_map(|name| {
            self.rules.iter().find(|(matcher, _)| matcher.is_match(name)).map(|(_, rule)| rule)
        })
    }

    fn find_meaning(&self, found: &FoundValue<'_>) -> Option<NameMeaning> {
        let Some(known) = self.find_builtin(found.builtin) else {
            return is_device_field(found.builtin).then_some(NameMeaning::NotAReading);
        };
        match known.meaning {
            NameMeaning::Metric(metric, _)
                if found.names.iter().any(|name| device_value::is_of_device(name, metric)) =>
            {
                Some(NameMeaning::NotAReading)
            }
            meaning => Some(meaning),
        }
    }
}

/// The digits that stand for `#` in a built-in name, if the name is that one.
fn match_digits<'n>(own: &str, name: &'n str) -> Option<&'n str> {
    let (before, after) = own.split_once('#')?;
    let digits_end = name.len().checked_sub(after.len())?;
    let (start, digits) = (name.get(..before.len())?, name.get(before.len()..digits_end)?);
    let is_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let is_same =
        start.eq_ignore_ascii_case(before) && name.get(digits_end..)?.eq_ignore_ascii_case(after);
    (is_digits && is_same).then_some(digits)
}

/// A reading whose value does not say that there is none.
pub(super) fn replace_sentinel(metric: SmolStr, names: &[&str], value: f64) -> (SmolStr, f64) {
    let is_sentinel = device_value::is_sentinel(&metric, names, value);
    (metric, if is_sentinel { f64::NAN } else { value })
}

/// The value by a rule, in the unit of the rule's metric.
pub(super) fn apply_rule(
    rule: &MetricConversion,
    found: &FoundValue<'_>,
    value: f64,
    metrics: &MetricTable,
) -> Result<(SmolStr, f64), ReadingRefusal> {
    let MetricConversion { metric, unit, scale, offset } = rule;
    let Some(known) = metrics.get(metric) else {
        // Rules are checked when they are read; this is a built-in name.
        let what = format!("metric `{metric}` is not in the table; add [metrics.{metric}]");
        return Err((DeadLetterReason::UnknownMetric, what));
    };
    // Exactly the value, where there is nothing to change.
    let value = if *scale == 1.0 && *offset == 0.0 { value } else { value * scale + offset };
    let theirs = unit.as_deref().or(found.unit).unwrap_or(&known.unit);
    match unit::convert_unit(value, theirs, &known.unit) {
        Ok(value) => Ok((metric.clone(), value)),
        Err(error) => {
            let name = display_name(found);
            let what = format!(
                "`{name}`: {error}, the unit of `{metric}`; set `\"{name}\" = {{ metric = \"…\", unit = \"…\" }}` in the mapping's metrics, or `\"{name}\" = false` if it is not a reading"
            );
            Err((DeadLetterReason::UnknownUnit, what))
        }
    }
}

fn display_name(found: &FoundValue<'_>) -> String {
    shorten_text(found.names.first().copied().unwrap_or_default()).replace('"', "'")
}

fn unknown_metric_refusal(found: &FoundValue<'_>) -> ReadingRefusal {
    let (name, unit) = (display_name(found), found.unit.map_or("no unit".to_owned(), shorten_text));
    let what = format!(
        "no metric is known for `{name}` ({unit}); add `\"{name}\" = \"<metric>\"` to the mapping's metrics, or `\"{name}\" = false` if it is not a reading"
    );
    (DeadLetterReason::UnknownMetric, what)
}

fn missing_unit_refusal(found: &FoundValue<'_>, metric: &str) -> ReadingRefusal {
    let name = display_name(found);
    let what = format!(
        "`{name}` came without a unit, and no message has told it; set `\"{name}\" = {{ metric = \"{metric}\", unit = \"…\" }}` in the mapping's metrics"
    );
    (DeadLetterReason::UnknownUnit, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILTIN: &[BuiltinName] = &[
        metric_named("temperature", "temperature", Some("°C")),
        metric_named("voltage", "battery", None),
        not_a_reading("linkquality"),
    ];

    fn build_rules(metrics: &str, unknown: &str) -> Result<QuantityRules, String> {
        let text = format!(
            "convention = \"homie\"\nsite = \"farm\"\nunknown = \"{unknown}\"\nmetrics = {metrics}"
        );
        let mapping = toml::from_str(&text).map_err(|e| e.to_string())?;
        QuantityRules::new(&mapping, BUILTIN, &MetricTable::default())
    }

    /// Rules, name, unit, value → metric and value, nothing, or a reason.
    fn check(
        rules: &str,
        (name, unit, value): (&str, Option<&str>, f64),
        expect: Result<Option<(&str, f64)>, DeadLetterReason>,
    ) {
        let found = FoundValue { names: &[&format!("node/{name}"), name], builtin: name, unit };
        let got = build_rules(rules, "dead-letter").unwrap();
        let got = got.read_value(&found, value, &MetricTable::default());
        let got = got.as_ref().map(|r| r.as_ref().map(|(metric, value)| (metric.as_str(), *value)));
        assert_eq!(got.map_err(|(reason, _)| *reason), expect, "{rules} {name} {unit:?}");
    }

    #[test]
    fn values_become_readings() {
        let temperature = |value| Ok(Some(("temperature", value)));
        check("{}", ("temperature", None, 21.5), temperature(21.5));
        check("{}", ("Temperature", None, 21.5), temperature(21.5));
        check("{}", ("temperature", Some("°F"), 212.0), temperature(100.0));
        check("{}", ("temperature", Some("lx"), 212.0), Err(DeadLetterReason::UnknownUnit));
        check("{}", ("linkquality", None, 212.0), Ok(None));
        check("{}", ("voltage", None, 3.0), Err(DeadLetterReason::UnknownUnit));
        check("{}", ("voltage", Some("mV"), 3000.0), Ok(Some(("battery", 3.0))));
        check("{}", ("warmth", None, 1.0), Err(DeadLetterReason::UnknownMetric));
        check("{ warmth = \"temperature\" }", ("warmth", None, 1.0), temperature(1.0));
        check("{ \"*mth\" = \"temperature\" }", ("warmth", Some("°F"), 212.0), temperature(100.0));
        check("{ temperature = false }", ("temperature", None, 1.0), Ok(None));
        let full =
            r#"{ "node/raw" = { metric = "temperature", unit = "°F", scale = 0.1, offset = 2 } }"#;
        check(full, ("raw", Some("°C"), 2100.0), temperature(100.0));
    }

    #[test]
    fn built_in_names_with_a_number() {
        let check = |own: &str, name: &str, expect: Option<&str>| {
            assert_eq!(match_digits(own, name), expect, "{own} {name}");
        };
        check("temperature_#_C", "temperature_12_C", Some("12"));
        check("temperature_#_C", "temperature_12_c", Some("12"));
        check("temperature_#_C", "temperature_C", None);
        check("temperature_#_C", "temperature__C", None);
        check("tempc#", "tempc2_dp", None);
        check("tempc#", "tempc", None);
        check("tempc#", "ü", None);
        check("temp", "temp", None);
    }

    #[test]
    fn unknown_names_can_be_ignored() {
        let found = FoundValue { names: &["warmth"], builtin: "warmth", unit: None };
        let got =
            build_rules("{}", "ignore").unwrap().read_value(&found, 1.0, &MetricTable::default());
        assert_eq!(got, Ok(None));
    }

    #[test]
    fn bad_rules_are_refused() {
        let refuse = |rules, expect: &str| {
            let error = build_rules(rules, "dead-letter").unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        refuse("{ x = \"warmth\" }", "[metrics.warmth]");
        refuse("{ x = true }", "or false");
        refuse("{ x = { metric = \"co2\", unit = \"°C\" } }", "`°C` cannot be converted to `ppm`");
        refuse("{ x = { metric = \"co2\", scale = 0 } }", "not 0");
        refuse("{ x = { metric = \"co2\", sclae = 1 } }", "expected a metric's name");
    }
}
