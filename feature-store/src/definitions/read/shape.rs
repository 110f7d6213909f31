use std::collections::BTreeMap;

use telemetry::SmolStr;
use toml::{Spanned, de::DeValue};

use super::node::{Node, Reader};
use crate::{
    definitions::{
        Aggregate, Definitions, Derived, Entity, Formula, Join, MetricDefinition, VERSION, When,
        Windows, mistake::nearest,
    },
    settings::Window,
};

/// Most windows of one metric.
const WINDOWS_MAX: usize = 16;
/// Longest expression, bytes.
const EXPRESSION_MAX: usize = 2000;
/// Most inputs of a join.
const INPUTS_MAX: usize = 32;

const KEYS: [&str; 8] =
    ["version", "entity", "calendar", "drying", "windows", "metrics", "derived", "joins"];
const METRIC_KEYS: [&str; 3] = ["inherit", "windows", "where"];
const DERIVED_KEYS: [&str; 8] =
    ["from", "when", "where", "value", "below", "above", "unit", "windows"];
const JOIN_KEYS: [&str; 4] = ["formula", "inputs", "value", "unit"];

/// Definitions as far as they can be read; what is missing or wrong has been noted.
pub(super) fn definitions<'n>(
    reader: &mut Reader<'_>,
    root: &'n Spanned<DeValue<'n>>,
) -> Definitions {
    let mut read = Definitions::default();
    let fields = reader.table(root, "", Some(&KEYS));
    match fields.iter().find(|field| field.key == "version") {
        None => reader.at(
            "",
            format!("there is no `version`, expected `version = {VERSION}`"),
            Some(format!("write `version = {VERSION}` above all else")),
        ),
        Some(node) => {
            read.version = VERSION;
            if let Some(found) = reader.number(node).filter(|found| *found != f64::from(VERSION)) {
                let hint = "the file is of another version of this program".to_owned();
                reader.at(
                    &node.path,
                    format!("version is {found}, expected {VERSION}"),
                    Some(hint),
                );
            }
        }
    }
    for field in &fields {
        match field.key.as_str() {
            "entity" => {
                let entity = reader.one_of(field, "entity", &[("zone", Entity::Zone)]);
                read.entity = entity.unwrap_or_default();
            }
            "calendar" => read.calendar = names(reader, field, "feature of the clock", &CALENDAR),
            "drying" => read.drying = names(reader, field, "feature of drying soil", &DRYING),
            "windows" => read.windows = windows(reader, field, Empty::IsWrong),
            "metrics" => read.metrics = each(reader, field, metric),
            "derived" => read.derived = each(reader, field, derived),
            "joins" => read.joins = each(reader, field, join),
            _ => {}
        }
    }
    read
}

static CALENDAR: [&str; 10] = agronomy::calendar::Calendar::NAMES;
static DRYING: [&str; 13] = agronomy::drying::Trend::NAMES;

/// The parts of a table by their names, those that can be read.
fn each<T>(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    of: fn(&mut Reader<'_>, &Node<'_>) -> Option<T>,
) -> BTreeMap<SmolStr, T> {
    let entries = reader.entries(node);
    let read = entries.iter().filter_map(|entry| {
        let name = reader.own_name(entry);
        name.zip(of(reader, entry))
    });
    read.collect()
}

fn metric(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<MetricDefinition> {
    let mut metric = MetricDefinition { inherit: true, windows: Windows::new(), filter: None };
    for field in reader.fields(node, &METRIC_KEYS) {
        match field.key.as_str() {
            "inherit" => metric.inherit = reader.flag(&field)?,
            "windows" => metric.windows = windows(reader, &field, Empty::TakesAway),
            _ => metric.filter = expression(reader, &field),
        }
    }
    Some(metric)
}

fn derived(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Derived> {
    let mut derived = Derived::default();
    let fields = reader.fields(node, &DERIVED_KEYS);
    for field in &fields {
        match field.key.as_str() {
            "from" => derived.from = reader.string(field)?.into(),
            "when" => {
                let known = [("day", When::Day), ("night", When::Night)];
                derived.when = reader.one_of(field, "time of the day", &known);
            }
            "where" => derived.filter = expression(reader, field),
            "value" => derived.value = expression(reader, field),
            "below" => derived.below = reader.number(field),
            "above" => derived.above = reader.number(field),
            "unit" => derived.unit = reader.string(field).map(SmolStr::from),
            _ => derived.windows = windows(reader, field, Empty::IsWrong),
        }
    }
    let ways = [derived.value.is_some(), derived.below.is_some(), derived.above.is_some()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        reader.at(
            &node.path,
            format!("{} has more than one of `value`, `below` and `above`", node.path),
            Some("make a second derived metric, or write one expression in `value`".to_owned()),
        );
    }
    if derived.from.is_empty() {
        let hint = "name the metric that it is made of, as in `from = \"temperature\"`".to_owned();
        reader.at(&node.path, format!("{} has no `from`", node.path), Some(hint));
    }
    if !fields.iter().any(|field| field.key == "windows") {
        let hint = "it inherits none; as in `windows.24h = [\"mean\"]`".to_owned();
        reader.at(&node.path, format!("{} has no windows", node.path), Some(hint));
    }
    Some(derived)
}

fn join(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Join> {
    let (mut formula, mut inputs, mut value, mut unit) = (None, None, None, None);
    let known = Formula::ALL.map(|formula| (formula.as_str(), formula));
    let fields = reader.fields(node, &JOIN_KEYS);
    for field in &fields {
        match field.key.as_str() {
            "formula" => formula = reader.one_of(field, "formula", &known),
            "inputs" => {
                let items = reader.items(field)?;
                if items.len() > INPUTS_MAX {
                    let what =
                        format!("{} has {} inputs, at most {INPUTS_MAX}", node.path, items.len());
                    reader.at(&field.path, what, None);
                }
                let read = items.iter().take(INPUTS_MAX).map(|item| reader.string(item));
                inputs = read.collect::<Option<Vec<_>>>();
            }
            "value" => value = expression(reader, field),
            _ => unit = reader.string(field).map(SmolStr::from),
        }
    }
    let has = |key: &str| fields.iter().any(|field| field.key == key);
    match (has("formula"), has("value")) {
        (true, false) => {
            if unit.is_some() {
                reader.at(
                    &format!("{}.unit", node.path),
                    format!("{} has a `unit`, but a formula has its own", node.path),
                    Some("leave it away".to_owned()),
                );
            }
            if !has("inputs") {
                let hint =
                    "the features it is computed of, as in `inputs = [\"temperature_mean_10m\"]`";
                reader.at(&node.path, format!("{} has no `inputs`", node.path), Some(hint.into()));
            }
            let inputs = inputs?.into_iter().map(SmolStr::from).collect();
            Some(Join::Formula { formula: formula?, inputs })
        }
        (false, true) => {
            if has("inputs") {
                reader.at(
                    &format!("{}.inputs", node.path),
                    format!("{} has `inputs`, but SQL names its own", node.path),
                    Some("leave `inputs` away".to_owned()),
                );
            }
            Some(Join::Sql { value: value?, unit, inputs: Vec::new() })
        }
        (both, _) => {
            let what =
                if both { "both `formula` and `value`" } else { "no `formula` and no `value`" };
            let hint = "a join is either a formula of `inputs`, or an SQL `value`".to_owned();
            reader.at(&node.path, format!("{} has {what}", node.path), Some(hint));
            None
        }
    }
}

/// What a window without aggregates is.
#[derive(Clone, Copy, PartialEq)]
enum Empty {
    /// The common window of that width is not this metric's.
    TakesAway,
    IsWrong,
}

fn windows(reader: &mut Reader<'_>, node: &Node<'_>, empty: Empty) -> Windows {
    let mut windows = Windows::new();
    let entries = reader.entries(node);
    if entries.len() > WINDOWS_MAX {
        let what = format!("{} has {} windows, at most {WINDOWS_MAX}", node.path, entries.len());
        reader.at(&node.path, what, None);
    }
    for entry in entries.iter().take(WINDOWS_MAX) {
        let window = match entry.key.parse::<Window>() {
            Ok(window) => window,
            Err(what) => {
                let near = nearest(&entry.key, ["1m", "5m", "10m", "30m", "1h", "24h", "7d"]);
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                reader.at(&entry.path, what, hint);
                continue;
            }
        };
        let Some(aggregates) = aggregates(reader, entry, empty) else { continue };
        let twin = windows.keys().find(|other| other.width_ms() == window.width_ms());
        if let Some(twin) = twin {
            let hint = "one of them is enough".to_owned();
            reader.at(&entry.path, format!("{window} is as wide as {twin}"), Some(hint));
        } else {
            windows.insert(window, aggregates);
        }
    }
    windows
}

/// In the order of columns, whatever the order of the file.
fn aggregates(reader: &mut Reader<'_>, node: &Node<'_>, empty: Empty) -> Option<Vec<Aggregate>> {
    let known = Aggregate::ALL.map(|aggregate| (aggregate.as_str(), aggregate));
    let mut aggregates = Vec::new();
    let items = reader.items(node)?;
    if items.is_empty() && empty == Empty::IsWrong {
        let what = format!("{} is a window without aggregates", node.key);
        let hint = "only a metric's own windows can be empty, to take a common one away";
        reader.at(&node.path, what, Some(hint.to_owned()));
    }
    for item in items {
        let Some(aggregate) = reader.one_of(&item, "aggregate", &known) else { continue };
        if aggregates.contains(&aggregate) {
            reader.at(&item.path, format!("`{aggregate}` is there twice"), None);
        } else {
            aggregates.push(aggregate);
        }
    }
    aggregates.sort_unstable();
    Some(aggregates)
}

/// In the order of `known`, whatever the order of the file.
fn names(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    what: &str,
    known: &'static [&'static str],
) -> Vec<SmolStr> {
    let places: Vec<(&str, usize)> =
        known.iter().enumerate().map(|(place, name)| (*name, place)).collect();
    let mut found = Vec::new();
    for item in reader.items(node).unwrap_or_default() {
        let Some(place) = reader.one_of(&item, what, &places) else { continue };
        if found.contains(&place) {
            reader.at(&item.path, format!("`{}` is there twice", known[place]), None);
        } else {
            found.push(place);
        }
    }
    found.sort_unstable();
    found.into_iter().map(|place| SmolStr::new_static(known[place])).collect()
}

fn expression(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<String> {
    let text = reader.string(node)?;
    let text = text.trim();
    if text.is_empty() {
        reader.at(&node.path, format!("{} is empty, expected an expression", node.path), None);
    } else if text.len() > EXPRESSION_MAX {
        let what = format!("{} has {} bytes, at most {EXPRESSION_MAX}", node.path, text.len());
        let hint = "make a derived metric or a join of its parts".to_owned();
        reader.at(&node.path, what, Some(hint));
    } else {
        return Some(text.to_owned());
    }
    None
}
