//! What a value of another system is: which metric, in which unit, or no
//! reading at all.

use std::collections::HashMap;

use telemetry::{MetricTable, Reason, SmolStr, unit};

use super::{
    Refusal, device_value,
    ignore::{IgnoreList, is_about_the_device},
    pattern::Pattern,
    place::shorten,
    settings::{FullRule, Mapping, MetricRule, Unknown},
};

/// The names that a convention itself gives meaning to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Builtin {
    /// In any case; `#` in it is digits.
    pub(super) name: &'static str,
    pub(super) meaning: Meaning,
    /// Which of several sensors of a device it is of, where the name tells.
    pub(super) part: &'static str,
}

/// What a name means by itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning {
    /// A metric, in the unit that the sender declares, else in this one.
    Metric(&'static str, Option<&'static str>),
    /// Known, and not a quantity that features are about.
    NotAReading,
}

/// A built-in name of a metric; `unit` is that of values without a declared
/// one, where the convention fixes it.
pub(super) const fn is(
    name: &'static str,
    metric: &'static str,
    unit: Option<&'static str>,
) -> Builtin {
    is_of("", name, metric, unit)
}

/// A built-in name of a metric of one of several sensors of a device.
pub(super) const fn is_of(
    part: &'static str,
    name: &'static str,
    metric: &'static str,
    unit: Option<&'static str>,
) -> Builtin {
    Builtin { name, meaning: Meaning::Metric(metric, unit), part }
}

/// A built-in name of no reading.
pub(super) const fn no(name: &'static str) -> Builtin {
    Builtin { name, meaning: Meaning::NotAReading, part: "" }
}

/// The rules of one mapping.
#[derive(Clone, Debug)]
pub(super) struct Quantities {
    rules: Vec<(NameMatcher, Option<FullRule>)>,
    builtin: BuiltinNames,
    unknown: Unknown,
}

/// Tables of built-in names, of which the first that has a name counts.
#[derive(Clone, Debug, Default)]
struct BuiltinNames {
    all: Vec<&'static Builtin>,
    /// Places of those without digits, by the name in lower case.
    by_name: HashMap<String, usize>,
    /// Places of those with digits.
    numbered: Vec<usize>,
}

impl BuiltinNames {
    fn extend(&mut self, table: &'static [Builtin]) {
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

    fn find<'n>(&self, name: &'n str, before: &'n str) -> Option<BuiltinMatch<'n>> {
        let exact = self.by_name.get(&name.to_ascii_lowercase()).map(|rank| (*rank, ""));
        let numbered = self
            .numbered
            .iter()
            .find_map(|rank| Some((*rank, digits_of(self.all[*rank].name, name)?)));
        let (rank, channel) = exact.into_iter().chain(numbered).min_by_key(|(rank, _)| *rank)?;
        let Builtin { meaning, part, .. } = *self.all[rank];
        Some(BuiltinMatch { rank, meaning, channel, part, before })
    }
}

/// Which names a rule is for.
#[derive(Clone, Debug)]
enum NameMatcher {
    Exact(String),
    Pattern(Pattern),
}

impl NameMatcher {
    /// Reads a name, a pattern, or a JSON pointer (RFC 6901), which is the names of its levels.
    fn parse(key: &str) -> Result<Self, String> {
        let levels = match key.strip_prefix('/') {
            Some(levels) => levels.replace("~1", "/").replace("~0", "~"),
            None => key.to_owned(),
        };
        if levels.contains(['*', '+', '#', '{', '}']) {
            return Pattern::parse(&levels, &[]).map(Self::Pattern);
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
            Meaning::Metric(_, unit) => unit,
            Meaning::NotAReading => None,
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
    Metric(&'q FullRule),
}

/// A built-in name that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuiltinMatch<'n> {
    /// Its place among all built-in names of the mapping.
    pub(super) rank: usize,
    meaning: Meaning,
    /// The digits that stand for `#` in it; empty where it has none.
    pub(super) channel: &'n str,
    /// Which of several sensors of a device it is of, where the name tells.
    pub(super) part: &'static str,
    /// What stands before it, where only the end of the name was looked up.
    pub(super) before: &'n str,
}

/// A value as it was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// What it goes by, the most telling first; rules are matched with all.
    pub(super) names: &'a [&'a str],
    /// What the convention's own table calls it.
    pub(super) builtin: &'a str,
    /// The unit that the sender declares.
    pub(super) unit: Option<&'a str>,
}

/// A rule that a user wrote, checked.
pub(super) fn rule(
    key: &str,
    rule: &MetricRule,
    metrics: &MetricTable,
) -> Result<Option<FullRule>, String> {
    let full = match rule {
        MetricRule::Ignored(false) => return Ok(None),
        MetricRule::Ignored(true) => {
            return Err(format!("metrics.\"{key}\" = true: expected a metric's name or false"));
        }
        MetricRule::Metric(metric) => {
            FullRule { metric: metric.clone(), unit: None, scale: 1.0, offset: 0.0 }
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
        unit::convert(0.0, own, &metric.unit)
            .map_err(|e| format!("metrics.\"{key}\": {e}, the unit of `{}`", full.metric))?;
    }
    Ok(Some(full))
}

impl Quantities {
    pub(super) fn new(
        mapping: &Mapping,
        builtin: &'static [Builtin],
        metrics: &MetricTable,
    ) -> Result<Self, String> {
        let rules = mapping.metrics.iter().map(|(key, own)| {
            let matcher = NameMatcher::parse(key).map_err(|what| format!("metrics: {what}"))?;
            Ok((matcher, rule(key, own, metrics)?))
        });
        let mut rules = rules.collect::<Result<Vec<_>, String>>()?;
        let ignored = IgnoreList::new(&mapping.ignore)?;
        let ignored = ignored.patterns().map(|own| (NameMatcher::Pattern(own.clone()), None));
        rules.extend(ignored);
        let mut names = BuiltinNames::default();
        names.extend(builtin);
        Ok(Self { rules, builtin: names, unknown: mapping.unknown.unwrap_or_default() })
    }

    /// The same with a further table of built-in names.
    pub(super) fn and_builtin(mut self, further: &'static [Builtin]) -> Self {
        self.builtin.extend(further);
        self
    }

    /// The same, with what becomes of unknown numbers where the user does not say it.
    pub(super) fn or_unknown(mut self, mapping: &Mapping, usual: Unknown) -> Self {
        self.unknown = mapping.unknown.unwrap_or(usual);
        self
    }

    pub(super) fn unknown(&self) -> Unknown {
        self.unknown
    }

    /// The built-in name that is this one, `#` in it being digits.
    pub(super) fn builtin_of<'n>(&self, name: &'n str) -> Option<BuiltinMatch<'n>> {
        self.builtin.find(name, "")
    }

    /// The longest built-in name that this one ends with, after `_` or `-`, or is.
    pub(super) fn builtin_at_end_of<'n>(&self, name: &'n str) -> Option<BuiltinMatch<'n>> {
        let ends = name.match_indices(['_', '-']).map(|(at, _)| at + 1);
        std::iter::once(0).chain(ends).find_map(|start| {
            self.builtin.find(&name[start..], name[..start].trim_end_matches(['_', '-']))
        })
    }

    /// What the user says of a value.
    pub(super) fn ruled(&self, found: &Found<'_>) -> UserRule<'_> {
        match self.rule(found) {
            None => UserRule::Silent,
            Some(None) => UserRule::NotAReading,
            Some(Some(rule)) => UserRule::Metric(rule),
        }
    }

    /// Whether a rule names exactly this.
    pub(super) fn names_exactly(&self, name: &str) -> bool {
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
    pub(super) fn wants(&self, found: &Found<'_>) -> bool {
        match self.rule(found) {
            Some(rule) => rule.is_some(),
            None => matches!(self.meaning(found), Some(Meaning::Metric(..))),
        }
    }

    /// Whether the user wrote a rule that takes this for a metric.
    pub(super) fn is_ruled(&self, found: &Found<'_>) -> bool {
        matches!(self.rule(found), Some(Some(_)))
    }

    /// The metric and the value in its unit; `None` where it is not a reading. The value comes
    /// with the unit that stands in its text, if it has one.
    pub(super) fn read_with_unit(
        &self,
        found: &Found<'_>,
        (value, unit): (f64, Option<&str>),
        metrics: &MetricTable,
    ) -> Result<Option<(SmolStr, f64)>, Refusal> {
        self.read(&Found { unit: unit.or(found.unit), ..*found }, value, metrics)
    }

    /// The metric and the value in its unit; `None` where it is not a reading.
    pub(super) fn read(
        &self,
        found: &Found<'_>,
        value: f64,
        metrics: &MetricTable,
    ) -> Result<Option<(SmolStr, f64)>, Refusal> {
        match self.rule(found) {
            Some(Some(rule)) => apply(rule, found, value, metrics).map(Some),
            Some(None) => Ok(None),
            None => match self.meaning(found) {
                Some(Meaning::Metric(metric, unit)) => {
                    let rule =
                        FullRule { metric: metric.into(), unit: None, scale: 1.0, offset: 0.0 };
                    let Some(unit) = found.unit.or(unit) else {
                        return Err(no_unit(found, metric));
                    };
                    let found = Found { unit: Some(unit), ..*found };
                    let (metric, value) = apply(&rule, &found, value, metrics)?;
                    Ok(Some(without_sentinel(metric, found.names, value)))
                }
                Some(Meaning::NotAReading) => Ok(None),
                None if self.unknown == Unknown::Ignore => Ok(None),
                None => Err(unknown(found)),
            },
        }
    }

    fn rule(&self, found: &Found<'_>) -> Option<&Option<FullRule>> {
        found.names.iter().find_map(|name| {
            self.rules.iter().find(|(matcher, _)| matcher.is_match(name)).map(|(_, rule)| rule)
        })
    }

    fn meaning(&self, found: &Found<'_>) -> Option<Meaning> {
        let Some(known) = self.builtin_of(found.builtin) else {
            return is_about_the_device(found.builtin).then_some(Meaning::NotAReading);
        };
        match known.meaning {
            Meaning::Metric(metric, _)
                if found.names.iter().any(|name| device_value::is_of_device(name, metric)) =>
            {
                Some(Meaning::NotAReading)
            }
            meaning => Some(meaning),
        }
    }
}

/// The digits that stand for `#` in a built-in name, if the name is that one.
fn digits_of<'n>(own: &str, name: &'n str) -> Option<&'n str> {
    let (before, after) = own.split_once('#')?;
    let digits_end = name.len().checked_sub(after.len())?;
    let (start, digits) = (name.get(..before.len())?, name.get(before.len()..digits_end)?);
    let is_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let is_same =
        start.eq_ignore_ascii_case(before) && name.get(digits_end..)?.eq_ignore_ascii_case(after);
    (is_digits && is_same).then_some(digits)
}

/// A reading whose value does not say that there is none.
pub(super) fn without_sentinel(metric: SmolStr, names: &[&str], value: f64) -> (SmolStr, f64) {
    let is_sentinel = device_value::is_sentinel(&metric, names, value);
    (metric, if is_sentinel { f64::NAN } else { value })
}

/// The value by a rule, in the unit of the rule's metric.
pub(super) fn apply(
    rule: &FullRule,
    found: &Found<'_>,
    value: f64,
    metrics: &MetricTable,
) -> Result<(SmolStr, f64), Refusal> {
    let FullRule { metric, unit, scale, offset } = rule;
    let Some(known) = metrics.get(metric) else {
        // Rules are checked when they are read; this is a built-in name.
        let what = format!("metric `{metric}` is not in the table; add [metrics.{metric}]");
        return Err((Reason::UnknownMetric, what));
    };
    // Exactly the value, where there is nothing to change.
    let value = if *scale == 1.0 && *offset == 0.0 { value } else { value * scale + offset };
    let theirs = unit.as_deref().or(found.unit).unwrap_or(&known.unit);
    match unit::convert(value, theirs, &known.unit) {
        Ok(value) => Ok((metric.clone(), value)),
        Err(error) => {
            let name = name(found);
            let what = format!(
                "`{name}`: {error}, the unit of `{metric}`; set `\"{name}\" = {{ metric = \"…\", unit = \"…\" }}` in the mapping's metrics, or `\"{name}\" = false` if it is not a reading"
            );
            Err((Reason::UnknownUnit, what))
        }
    }
}

fn name(found: &Found<'_>) -> String {
    shorten(found.names.first().copied().unwrap_or_default()).replace('"', "'")
}

fn unknown(found: &Found<'_>) -> Refusal {
    let (name, unit) = (name(found), found.unit.map_or("no unit".to_owned(), shorten));
    let what = format!(
        "no metric is known for `{name}` ({unit}); add `\"{name}\" = \"<metric>\"` to the mapping's metrics, or `\"{name}\" = false` if it is not a reading"
    );
    (Reason::UnknownMetric, what)
}

fn no_unit(found: &Found<'_>, metric: &str) -> Refusal {
    let name = name(found);
    let what = format!(
        "`{name}` came without a unit, and no message has told it; set `\"{name}\" = {{ metric = \"{metric}\", unit = \"…\" }}` in the mapping's metrics"
    );
    (Reason::UnknownUnit, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILTIN: &[Builtin] = &[
        is("temperature", "temperature", Some("°C")),
        is("voltage", "battery", None),
        no("linkquality"),
    ];

    fn quantities(metrics: &str, unknown: &str) -> Result<Quantities, String> {
        let text = format!(
            "convention = \"homie\"\nsite = \"farm\"\nunknown = \"{unknown}\"\nmetrics = {metrics}"
        );
        let mapping = toml::from_str(&text).map_err(|e| e.to_string())?;
        Quantities::new(&mapping, BUILTIN, &MetricTable::default())
    }

    /// Rules, name, unit, value → metric and value, nothing, or a reason.
    fn check(
        rules: &str,
        (name, unit, value): (&str, Option<&str>, f64),
        expect: Result<Option<(&str, f64)>, Reason>,
    ) {
        let found = Found { names: &[&format!("node/{name}"), name], builtin: name, unit };
        let got = quantities(rules, "dead-letter").unwrap();
        let got = got.read(&found, value, &MetricTable::default());
        let got = got.as_ref().map(|r| r.as_ref().map(|(metric, value)| (metric.as_str(), *value)));
        assert_eq!(got.map_err(|(reason, _)| *reason), expect, "{rules} {name} {unit:?}");
    }

    #[test]
    fn values() {
        let temperature = |value| Ok(Some(("temperature", value)));
        check("{}", ("temperature", None, 21.5), temperature(21.5));
        check("{}", ("Temperature", None, 21.5), temperature(21.5));
        check("{}", ("temperature", Some("°F"), 212.0), temperature(100.0));
        check("{}", ("temperature", Some("lx"), 212.0), Err(Reason::UnknownUnit));
        check("{}", ("linkquality", None, 212.0), Ok(None));
        check("{}", ("voltage", None, 3.0), Err(Reason::UnknownUnit));
        check("{}", ("voltage", Some("mV"), 3000.0), Ok(Some(("battery", 3.0))));
        check("{}", ("warmth", None, 1.0), Err(Reason::UnknownMetric));
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
            assert_eq!(digits_of(own, name), expect, "{own} {name}");
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
        let found = Found { names: &["warmth"], builtin: "warmth", unit: None };
        let got = quantities("{}", "ignore").unwrap().read(&found, 1.0, &MetricTable::default());
        assert_eq!(got, Ok(None));
    }

    #[test]
    fn refusals() {
        let refuse = |rules, expect: &str| {
            let error = quantities(rules, "dead-letter").unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        refuse("{ x = \"warmth\" }", "[metrics.warmth]");
        refuse("{ x = true }", "or false");
        refuse("{ x = { metric = \"co2\", unit = \"°C\" } }", "`°C` cannot be converted to `ppm`");
        refuse("{ x = { metric = \"co2\", scale = 0 } }", "not 0");
        refuse("{ x = { metric = \"co2\", sclae = 1 } }", "expected a metric's name");
    }
}
