use std::collections::BTreeMap;

use telemetry::SmolStr;
use toml::{Spanned, de::DeValue};

use super::toml_reader::{TomlNode, TomlReader};
use crate::{
    definitions::{
        Aggregate, DaylightFilter, DerivedMetric, FORMAT_VERSION, FeatureDefinitions,
        FeatureEntity, JoinDefinition, JoinFormula, MetricDefinition, WindowAggregates,
        diagnostic::find_nearest_name,
    },
    settings::WindowDuration,
};

/// Largest number of windows of one metric.
const WINDOWS_MAX: usize = 16;
/// Longest expression, bytes.
const EXPRESSION_MAX: usize = 2000;
/// Largest number of inputs of a join.
const INPUTS_MAX: usize = 32;

const ROOT_KEYS: [&str; 8] =
    ["version", "entity", "calendar", "drying", "windows", "metrics", "derived", "joins"];
const METRIC_KEYS: [&str; 3] = ["inherit", "windows", "where"];
const DERIVED_KEYS: [&str; 8] =
    ["from", "when", "where", "value", "below", "above", "unit", "windows"];
const JOIN_KEYS: [&str; 4] = ["formula", "inputs", "value", "unit"];

/// Parses definitions as far as they can be read; reports what is missing or wrong.
pub(super) fn parse_definitions<'n>(
    reader: &mut TomlReader<'_>,
    root: &'n Spanned<DeValue<'n>>,
) -> FeatureDefinitions {
    let mut read = FeatureDefinitions::default();
    let fields = reader.read_table(root, "", Some(&ROOT_KEYS));
    match fields.iter().find(|field| field.key == "version") {
        None => reader.report_at(
            "",
            format!("there is no `version`, expected `version = {FORMAT_VERSION}`"),
            Some(format!("write `version = {FORMAT_VERSION}` at the top")),
        ),
        Some(node) => {
            read.version = FORMAT_VERSION;
            if let Some(found) =
                reader.read_number(node).filter(|found| *found != f64::from(FORMAT_VERSION))
            {
                let hint = "the file is of another version of this program".to_owned();
                reader.report_at(
                    &node.path,
                    format!("version is {found}, expected {FORMAT_VERSION}"),
                    Some(hint),
                );
            }
        }
    }
    for field in &fields {
        match field.key.as_str() {
            "entity" => {
                let entity = reader.read_one_of(field, "entity", &[("zone", FeatureEntity::Zone)]);
                read.entity = entity.unwrap_or_default();
            }
            "calendar" => {
                read.calendar = parse_names(reader, field, "feature of the clock", &CALENDAR_NAMES);
            }
            "drying" => {
                read.drying = parse_names(reader, field, "feature of drying soil", &DRYING_NAMES);
            }
            "windows" => read.windows = parse_windows(reader, field, EmptyWindowRule::IsMistake),
            "metrics" => read.metrics = parse_entries(reader, field, parse_metric),
            "derived" => read.derived = parse_entries(reader, field, parse_derived),
            "joins" => read.joins = parse_entries(reader, field, parse_join),
            _ => {}
        }
    }
    read
}

static CALENDAR_NAMES: [&str; 10] = agronomy::calendar::CalendarFeatures::NAMES;
static DRYING_NAMES: [&str; 13] = agronomy::drying::DryingTrend::NAMES;

/// Parses the entries of a table by name, and skips those that cannot be read.
fn parse_entries<T>(
    reader: &mut TomlReader<'_>,
    node: &TomlNode<'_>,
    parse: fn(&mut TomlReader<'_>, &TomlNode<'_>) -> Option<T>,
) -> BTreeMap<SmolStr, T> {
    let entries = reader.read_entries(node);
    let read = entries.iter().filter_map(|entry| {
        let name = reader.read_name(entry);
        name.zip(parse(reader, entry))
    });
    read.collect()
}

fn parse_metric(reader: &mut TomlReader<'_>, node: &TomlNode<'_>) -> Option<MetricDefinition> {
    let mut metric =
        MetricDefinition { inherit: true, windows: WindowAggregates::new(), filter: None };
    for field in reader.read_fields(node, &METRIC_KEYS) {
        match field.key.as_str() {
            "inherit" => metric.inherit = reader.read_bool(&field)?,
            "windows" => {
                metric.windows = parse_windows(reader, &field, EmptyWindowRule::RemovesInherited);
            }
            _ => metric.filter = parse_expression(reader, &field),
        }
    }
    Some(metric)
}

fn parse_derived(reader: &mut TomlReader<'_>, node: &TomlNode<'_>) -> Option<DerivedMetric> {
    let mut derived = DerivedMetric::default();
    let fields = reader.read_fields(node, &DERIVED_KEYS);
    for field in &fields {
        match field.key.as_str() {
            "from" => derived.from = reader.read_string(field)?.into(),
            "when" => {
                let known = [("day", DaylightFilter::Day), ("night", DaylightFilter::Night)];
                derived.when = reader.read_one_of(field, "time of the day", &known);
            }
            "where" => derived.filter = parse_expression(reader, field),
            "value" => derived.value = parse_expression(reader, field),
            "below" => derived.below = reader.read_number(field),
            "above" => derived.above = reader.read_number(field),
            "unit" => derived.unit = reader.read_string(field).map(SmolStr::from),
            _ => derived.windows = parse_windows(reader, field, EmptyWindowRule::IsMistake),
        }
    }
    let ways = [derived.value.is_some(), derived.below.is_some(), derived.above.is_some()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        reader.report_at(
            &node.path,
            format!("{} has more than one of `value`, `below` and `above`", node.path),
            Some("make a second derived metric, or write one expression in `value`".to_owned()),
        );
    }
    if derived.from.is_empty() {
        let hint =
            "name the metric that it is derived from, as in `from = \"temperature\"`".to_owned();
        reader.report_at(&node.path, format!("{} has no `from`", node.path), Some(hint));
    }
    if !fields.iter().any(|field| field.key == "windows") {
        let hint = "it inherits none; as in `windows.24h = [\"mean\"]`".to_owned();
        reader.report_at(&node.path, format!("{} has no windows", node.path), Some(hint));
    }
    Some(derived)
}

fn parse_join(reader: &mut TomlReader<'_>, node: &TomlNode<'_>) -> Option<JoinDefinition> {
    let (mut formula, mut inputs, mut value, mut unit) = (None, None, None, None);
    let known = JoinFormula::ALL.map(|formula| (formula.as_str(), formula));
    let fields = reader.read_fields(node, &JOIN_KEYS);
    for field in &fields {
        match field.key.as_str() {
            "formula" => formula = reader.read_one_of(field, "formula", &known),
            "inputs" => {
                let items = reader.read_items(field)?;
                if items.len() > INPUTS_MAX {
                    let what =
                        format!("{} has {} inputs, at most {INPUTS_MAX}", node.path, items.len());
                    reader.report_at(&field.path, what, None);
                }
                let read = items.iter().take(INPUTS_MAX).map(|item| reader.read_string(item));
                inputs = read.collect::<Option<Vec<_>>>();
            }
            "value" => value = parse_expression(reader, field),
            _ => unit = reader.read_string(field).map(SmolStr::from),
        }
    }
    let has = |key: &str| fields.iter().any(|field| field.key == key);
    match (has("formula"), has("value")) {
        (true, false) => {
            if unit.is_some() {
                reader.report_at(
                    &format!("{}.unit", node.path),
                    format!("{} has a `unit`, but a formula has its own", node.path),
                    Some("remove it".to_owned()),
                );
            }
            if !has("inputs") {
                let hint = "name the features it is computed from, as in `inputs = [\"temperature_mean_10m\"]`";
                reader.report_at(
                    &node.path,
                    format!("{} has no `inputs`", node.path),
                    Some(hint.into()),
                );
            }
            let inputs = inputs?.into_iter().map(SmolStr::from).collect();
            Some(JoinDefinition::Formula { formula: formula?, inputs })
        }
        (false, true) => {
            if has("inputs") {
                reader.report_at(
                    &format!("{}.inputs", node.path),
                    format!("{} has `inputs`, but SQL names its own", node.path),
                    Some("remove `inputs`".to_owned()),
                );
            }
            Some(JoinDefinition::Sql { value: value?, unit, inputs: Vec::new() })
        }
        (both, _) => {
            let what =
                if both { "both `formula` and `value`" } else { "no `formula` and no `value`" };
            let hint = "a join is either a formula of `inputs`, or an SQL `value`".to_owned();
            reader.report_at(&node.path, format!("{} has {what}", node.path), Some(hint));
            None
        }
    }
}

/// Meaning of a window without aggregates.
#[derive(Clone, Copy, PartialEq)]
enum EmptyWindowRule {
    /// The metric does not have the common window of that width.
    RemovesInherited,
    IsMistake,
}

fn parse_windows(
    reader: &mut TomlReader<'_>,
    node: &TomlNode<'_>,
    empty: EmptyWindowRule,
) -> WindowAggregates {
    let mut windows = WindowAggregates::new();
    let entries = reader.read_entries(node);
    if entries.len() > WINDOWS_MAX {
        let what = format!("{} has {} windows, at most {WINDOWS_MAX}", node.path, entries.len());
        reader.report_at(&node.path, what, None);
    }
    for entry in entries.iter().take(WINDOWS_MAX) {
        let window = match entry.key.parse::<WindowDuration>() {
            Ok(window) => window,
            Err(what) => {
                let near =
                    find_nearest_name(&entry.key, ["1m", "5m", "10m", "30m", "1h", "24h", "7d"]);
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                reader.report_at(&entry.path, what, hint);
                continue;
            }
        };
        let Some(aggregates) = parse_aggregates(reader, entry, empty) else { continue };
        let twin = windows.keys().find(|other| other.width_ms() == window.width_ms());
        if let Some(twin) = twin {
            let hint = "one of them is enough".to_owned();
            reader.report_at(&entry.path, format!("{window} is as wide as {twin}"), Some(hint));
        } else {
            windows.insert(window, aggregates);
        }
    }
    windows
}

/// Parses aggregates into the order of columns, whatever the order of the file.
fn parse_aggregates(
    reader: &mut TomlReader<'_>,
    node: &TomlNode<'_>,
    empty: EmptyWindowRule,
) -> Option<Vec<Aggregate>> {
    let known = Aggregate::ALL.map(|aggregate| (aggregate.as_str(), aggregate));
    let mut aggregates = Vec::new();
    let items = reader.read_items(node)?;
    if items.is_empty() && empty == EmptyWindowRule::IsMistake {
        let what = format!("{} is a window without aggregates", node.key);
        let hint = "only a metric's own windows can be empty, to remove a common one";
        reader.report_at(&node.path, what, Some(hint.to_owned()));
    }
    for item in items {
        let Some(aggregate) = reader.read_one_of(&item, "aggregate", &known) else { continue };
        if aggregates.contains(&aggregate) {
            reader.report_at(&item.path, format!("`{aggregate}` is listed twice"), None);
        } else {
            aggregates.push(aggregate);
        }
    }
    aggregates.sort_unstable();
    Some(aggregates)
}

/// Parses names into the order of `known`, whatever the order of the file.
fn parse_names(
    reader: &mut TomlReader<'_>,
    node: &TomlNode<'_>,
    what: &str,
    known: &'static [&'static str],
) -> Vec<SmolStr> {
    let places: Vec<(&str, usize)> =
        known.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    let mut found = Vec::new();
    for item in reader.read_items(node).unwrap_or_default() {
        let Some(place) = reader.read_one_of(&item, what, &places) else { continue };
        if found.contains(&place) {
            reader.report_at(&item.path, format!("`{}` is listed twice", known[place]), None);
        } else {
            found.push(place);
        }
    }
    found.sort_unstable();
    found.into_iter().map(|place| SmolStr::new_static(known[place])).collect()
}

fn parse_expression(reader: &mut TomlReader<'_>, node: &TomlNode<'_>) -> Option<String> {
    let string = reader.read_string(node)?;
    let text = string.trim();
    if text.is_empty() {
        reader.report_at(
            &node.path,
            format!("{} is empty, expected an expression", node.path),
            None,
        );
    } else if text.len() > EXPRESSION_MAX {
        let what = format!("{} has {} bytes, at most {EXPRESSION_MAX}", node.path, text.len());
        let hint = "make a derived metric or a join of its parts".to_owned();
        reader.report_at(&node.path, what, Some(hint));
    } else {
        return Some(text.to_owned());
    }
    None
}
