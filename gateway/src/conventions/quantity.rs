//! The meaning of another system's value: its metric and unit, or that it is not a reading.

use std::collections::HashMap;

use telemetry::{DeadLetterReason, MetricTable, SmolStr, unit};

use super::{
    ReadingRefusal, device_value,
    ignore_list::{IgnoreList, is_device_field},
    name_pattern::NamePattern,
    settings::{MappingSettings, MetricConversion, MetricRule, UnknownValuePolicy},
    zone_resolver::shorten_text,
};

/// A name to which a convention gives a meaning.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuiltinName {
    /// The name, in any case. `#` in it stands for digits.
    pub(super) name: &'static str,
    pub(super) meaning: NameMeaning,
    /// The sensor of a device with several, if the name states it.
    pub(super) part: &'static str,
}

/// The meaning of a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum NameMeaning {
    /// A metric, in the unit that the sender declares, or else in this one.
    Metric(&'static str, Option<&'static str>),
    /// Known, but not a quantity for features.
    NotAReading,
}

/// Creates a built-in name of a metric. `unit` applies to values without a declared unit, if the
/// convention fixes one.
pub(super) const fn metric_named(
    name: &'static str,
    metric: &'static str,
    unit: Option<&'static str>,
) -> BuiltinName {
    metric_of_part("", name, metric, unit)
}

/// Creates a built-in name of a metric of one of several sensors of a device.
pub(super) const fn metric_of_part(
    part: &'static str,
    name: &'static str,
    metric: &'static str,
    unit: Option<&'static str>,
) -> BuiltinName {
    BuiltinName { name, meaning: NameMeaning::Metric(metric, unit), part }
}

/// Creates a built-in name of a value that is not a reading.
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

/// Tables of built-in names. The first table that has a name takes precedence.
#[derive(Clone, Debug, Default)]
struct BuiltinNames {
    all: Vec<&'static BuiltinName>,
    /// Indices of names without digits, by the name in lower case.
    by_name: HashMap<String, usize>,
    /// Indices of names with digits.
    numbered: Vec<usize>,
}

impl BuiltinNames {
    fn add_table(&mut self, table: &'static [BuiltinName]) {
        for builtin in table {
            let rank = self.all.len();
            self.all.push(builtin);
            if builtin.name.contains('#') {
                self.numbered.push(rank);
            } else {
                self.by_name.entry(builtin.name.to_ascii_lowercase()).or_insert(rank);
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

/// The names that a rule matches.
#[derive(Clone, Debug)]
enum NameMatcher {
    Exact(String),
    Pattern(NamePattern),
}

impl NameMatcher {
    /// Parses a name, a pattern, or a JSON pointer (RFC 6901), whose levels form the name.
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
            Self::Exact(exact) => exact == name,
            Self::Pattern(pattern) => pattern.is_match(name),
        }
    }
}

impl BuiltinMatch<'_> {
    /// Returns the unit in the name, or the only usual one.
    pub(super) fn unit(&self) -> Option<&'static str> {
        match self.meaning {
            NameMeaning::Metric(_, unit) => unit,
            NameMeaning::NotAReading => None,
        }
    }
}

/// The user's rule for a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum UserRule<'q> {
    /// No rule; built-in names may know the value.
    Silent,
    /// The value is not a reading.
    NotAReading,
    /// The value is of a metric.
    Metric(&'q MetricConversion),
}

/// A built-in name that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuiltinMatch<'n> {
    /// Its index among all built-in names of the mapping.
    pub(super) rank: usize,
    meaning: NameMeaning,
    /// The digits that `#` stands for; empty if it has none.
    pub(super) channel: &'n str,
    /// The sensor of a device with several, if the name states it.
    pub(super) part: &'static str,
    /// The text before the name, if only the end of the text was looked up.
    pub(super) before: &'n str,
}

/// A value with its names.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundValue<'a> {
    /// Its names, the most specific first. Rules are matched with all of them.
    pub(super) names: &'a [&'a str],
    /// Its name in the convention's own table.
    pub(super) builtin: &'a str,
    /// The unit that the sender declares.
    pub(super) unit: Option<&'a str>,
}

/// Checks a rule that a user wrote.
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
    if let Some(rule_unit) = &full.unit {
        unit::convert_unit(0.0, rule_unit, &metric.unit)
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
        let checked = mapping.metrics.iter().map(|(key, rule)| {
            let matcher = NameMatcher::parse(key).map_err(|what| format!("metrics: {what}"))?;
            Ok((matcher, check_rule(key, rule, metrics)?))
        });
        let mut rules = checked.collect::<Result<Vec<_>, String>>()?;
        let ignore_list = IgnoreList::new(&mapping.ignore)?;
        let ignored =
            ignore_list.patterns().map(|pattern| (NameMatcher::Pattern(pattern.clone()), None));
        rules.extend(ignored);
        let mut names = BuiltinNames::default();
        names.add_table(builtin);
        Ok(Self { rules, builtin: names, unknown: mapping.unknown.unwrap_or_default() })
    }

    /// Adds a further table of built-in names.
    pub(super) fn with_builtin(mut self, further: &'static [BuiltinName]) -> Self {
        self.builtin.add_table(further);
        self
    }

    /// Sets the default policy for unknown numbers.
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

    /// Finds a built-in name that equals this one. `#` in it stands for digits.
    pub(super) fn find_builtin<'n>(&self, name: &'n str) -> Option<BuiltinMatch<'n>> {
        self.builtin.find_name(name, "")
    }

    /// Finds the longest built-in name that this one equals or ends with, after `_` or `-`.
    pub(super) fn find_builtin_suffix<'n>(&self, name: &'n str) -> Option<BuiltinMatch<'n>> {
        let ends = name.match_indices(['_', '-']).map(|(at, _)| at + 1);
        std::iter::once(0).chain(ends).find_map(|start| {
            self.builtin.find_name(&name[start..], name[..start].trim_end_matches(['_', '-']))
        })
    }

    /// Returns the user's rule for a value.
    pub(super) fn user_rule(&self, found: &FoundValue<'_>) -> UserRule<'_> {
        match self.find_rule(found) {
            None => UserRule::Silent,
            Some(None) => UserRule::NotAReading,
            Some(Some(rule)) => UserRule::Metric(rule),
        }
    }

    /// Whether a rule names exactly this.
    pub(super) fn has_exact_rule(&self, name: &str) -> bool {
        let is =
            |matcher: &NameMatcher| matches!(matcher, NameMatcher::Exact(exact) if exact == name);
        self.rules.iter().any(|(matcher, _)| is(matcher))
    }

    /// Returns the names of the user's rules, for people.
    pub(super) fn rule_names(&self) -> String {
        let exact = self.rules.iter().filter_map(|(matcher, _)| match matcher {
            NameMatcher::Exact(name) => Some(name.as_str()),
            NameMatcher::Pattern(_) => None,
        });
        exact.collect::<Vec<_>>().join("`, `")
    }

    /// Whether a rule or a built-in name gives this a metric. If not, its value need not even be
    /// a number.
    pub(super) fn is_metric(&self, found: &FoundValue<'_>) -> bool {
        match self.find_rule(found) {
            Some(rule) => rule.is_some(),
            None => matches!(self.find_meaning(found), Some(NameMeaning::Metric(..))),
        }
    }

    /// Whether a user's rule gives this a metric.
    pub(super) fn is_ruled(&self, found: &FoundValue<'_>) -> bool {
        matches!(self.find_rule(found), Some(Some(_)))
    }

    /// Returns the metric and the value in its unit; `None` if it is not a reading. The value
    /// comes with the unit in its text, if there is one.
    pub(super) fn read_quantity(
        &self,
        found: &FoundValue<'_>,
        (value, unit): (f64, Option<&str>),
        metrics: &MetricTable,
    ) -> Result<Option<(SmolStr, f64)>, ReadingRefusal> {
        self.read_value(&FoundValue { unit: unit.or(found.unit), ..*found }, value, metrics)
    }

    /// Returns the metric and the value in its unit; `None` if it is not a reading.
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

/// Returns the digits that `#` stands for in a built-in name, if `name` matches it.
fn match_digits<'n>(builtin: &str, name: &'n str) -> Option<&'n str> {
    let (before, after) = builtin.split_once('#')?;
    let digits_end = name.len().checked_sub(after.len())?;
    let (start, digits) = (name.get(..before.len())?, name.get(before.len()..digits_end)?);
    let is_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let is_same =
        start.eq_ignore_ascii_case(before) && name.get(digits_end..)?.eq_ignore_ascii_case(after);
    (is_digits && is_same).then_some(digits)
}

/// Replaces a value that means "no value" by NaN.
pub(super) fn replace_sentinel(metric: SmolStr, names: &[&str], value: f64) -> (SmolStr, f64) {
    let is_sentinel = device_value::is_sentinel(&metric, names, value);
    (metric, if is_sentinel { f64::NAN } else { value })
}

/// Applies a rule to a value. The result is in the unit of the rule's metric.
pub(super) fn apply_rule(
    rule: &MetricConversion,
    found: &FoundValue<'_>,
    value: f64,
    metrics: &MetricTable,
) -> Result<(SmolStr, f64), ReadingRefusal> {
    let MetricConversion { metric, unit, scale, offset } = rule;
    let Some(known) = metrics.get(metric) else {
        // User rules are checked when they are loaded, so this is a built-in name.
        let what = format!("metric `{metric}` is not in the table; add [metrics.{metric}]");
        return Err((DeadLetterReason::UnknownMetric, what));
    };
    // Without a change the value stays exactly the same.
    let value = if *scale == 1.0 && *offset == 0.0 { value } else { value * scale + offset };
    let source_unit = unit.as_deref().or(found.unit).unwrap_or(&known.unit);
    match unit::convert_unit(value, source_unit, &known.unit) {
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
        "`{name}` has no unit, and no message has announced one; set `\"{name}\" = {{ metric = \"{metric}\", unit = \"…\" }}` in the mapping's metrics"
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

    /// Checks rules, name, unit and value against metric and value, nothing, or a reason.
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
        let check = |builtin: &str, name: &str, expect: Option<&str>| {
            assert_eq!(match_digits(builtin, name), expect, "{builtin} {name}");
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
