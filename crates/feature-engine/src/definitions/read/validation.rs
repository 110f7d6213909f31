use std::collections::BTreeSet;

use telemetry::{MetricTable, SmolStr};

use super::{join_order::order_joins, toml_reader::TomlReader};
use crate::definitions::{FeatureDefinitions, JoinDefinition, diagnostic::suggest_name};
use crate::sql::{ColumnTypes, ExpectedType, ExpressionChecker, READING_COLUMNS, is_reserved};

/// Largest number of features of all known metrics together.
const FEATURES_MAX: usize = 4096;
/// Largest number of joins.
const JOINS_MAX: usize = 256;
/// Columns of feature rows that are not features.
const ROW_COLUMNS: [&str; 6] = ["at_ms", "revision", "schema_hash", "site", "time", "zone"];

/// Checks references between the parts, and completes the joins: the inputs of SQL, and the order
/// of computation.
pub(super) fn validate_definitions(
    reader: &mut TomlReader<'_>,
    read: &mut FeatureDefinitions,
    metrics: &MetricTable,
    checker: &mut dyn ExpressionChecker,
) {
    // If another mistake removed a definition, references to it are not reported again.
    let is_whole = reader.has_no_mistakes();
    check_metrics_known(reader, read, metrics);
    let mut names = collect_names_without_joins(reader, read, metrics);
    check_join_names_free(reader, read, &names);
    if read.joins.len() > JOINS_MAX {
        let what = format!("there are {} joins, at most {JOINS_MAX}", read.joins.len());
        return reader.report_at("joins", what, None);
    }
    names.extend(read.joins.keys().cloned());
    let is_lost = |name: &str| {
        let mut metric_names = metrics.iter().map(|(name, _)| name).chain(read.derived.keys());
        let has_prefix = |metric: &SmolStr| {
            name.strip_prefix(metric.as_str()).is_some_and(|r| r.starts_with('_'))
        };
        !is_whole && metric_names.any(has_prefix)
    };
    let mut unknown = Vec::new();
    for (name, join) in &read.joins {
        let JoinDefinition::Formula { formula, inputs } = join else { continue };
        let path = format!("joins.{name}.inputs");
        let expected = formula.input_count();
        if inputs.len() != expected {
            let what =
                format!("`{}` takes {expected} inputs, found {}", formula.as_str(), inputs.len());
            reader.report_at(
                &path,
                what,
                Some(format!("they are {}", formula.input_description())),
            );
        }
        for (i, input) in inputs.iter().enumerate() {
            let path = format!("{path}.{i}");
            if matches!(read.joins.get(input), Some(JoinDefinition::Sql { .. })) {
                let what = format!("`{input}` is a join by SQL, which formulas cannot use");
                reader.report_at(&path, what, Some("write the formula in SQL too".to_owned()));
            } else if !names.contains(input) && !is_lost(input) {
                unknown.push((path, input.clone()));
            }
        }
    }
    for (path, input) in unknown {
        let known: Vec<&str> = names.iter().map(SmolStr::as_str).collect();
        let hint = suggest_name(&input, &known);
        reader.report_at(&path, format!("`{input}` is not a known feature"), hint);
    }
    let mut sql = ExpressionValidator { reader, checker };
    sql.check_reading_expressions(read);
    let inputs = sql.check_join_expressions(read, &names, is_lost);
    for (join, found) in read.joins.values_mut().filter_map(sql_inputs_mut).zip(inputs) {
        *join = found;
    }
    match order_joins(&read.joins) {
        Ok(order) => read.join_order = order,
        Err(round) => reader.report_at(
            &format!("joins.{}", round[0]),
            format!("joins depend on themselves: {}", round.join(" → ")),
            Some("compute one of them from windows only".to_owned()),
        ),
    }
}

fn sql_inputs_mut(join: &mut JoinDefinition) -> Option<&mut Vec<SmolStr>> {
    match join {
        JoinDefinition::Sql { inputs, .. } => Some(inputs),
        JoinDefinition::Formula { .. } => None,
    }
}

fn check_metrics_known(
    reader: &mut TomlReader<'_>,
    read: &FeatureDefinitions,
    metrics: &MetricTable,
) {
    let known: Vec<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
    let site_metric_hint = "or is it a metric of this site? then give its unit and range in `[metrics]` of the configuration";
    for name in read.metrics.keys().filter(|name| metrics.get(name).is_none()) {
        let (what, hint) = match read.derived.contains_key(name) {
            true => (
                format!("`{name}` is a derived metric"),
                Some(format!("its windows are those of `[derived.{name}]`")),
            ),
            false => {
                let hint =
                    suggest_name(name, &known).map(|hint| format!("{hint} {site_metric_hint}"));
                (format!("`{name}` is not a known metric"), hint)
            }
        };
        reader.report_at(&format!("metrics.{name}"), what, hint);
    }
    for (name, derived) in &read.derived {
        if metrics.get(name).is_some() {
            let hint = Some(format!("choose another name, as in `{name}_high`"));
            reader.report_at(
                &format!("derived.{name}"),
                format!("`{name}` is a metric already"),
                hint,
            );
        }
        let from = &derived.from;
        if metrics.get(from).is_none() && !from.is_empty() {
            let (what, hint) = match read.derived.contains_key(from) {
                true => (
                    format!("`{from}` is derived itself"),
                    Some("derive from what is measured".to_owned()),
                ),
                false => (format!("`{from}` is not a known metric"), suggest_name(from, &known)),
            };
            reader.report_at(&format!("derived.{name}.from"), what, hint);
        }
    }
}

/// Returns the names of all features except joins; reports names that occur twice.
fn collect_names_without_joins(
    reader: &mut TomlReader<'_>,
    read: &FeatureDefinitions,
    metrics: &MetricTable,
) -> BTreeSet<SmolStr> {
    let mut names = BTreeSet::new();
    for feature in read.features_for_metrics(metrics.iter().map(|(name, _)| name.as_str())) {
        let metric = feature.metric().filter(|metric| read.derived.contains_key(*metric));
        // A derived metric with the name of a measured one has already been reported.
        let is_reported = metric.is_some_and(|metric| metrics.get(metric).is_some());
        if !names.insert(feature.name.clone()) && !is_reported {
            let what = format!("two features are named `{}`", feature.name);
            let path = metric.map_or("metrics".to_owned(), |metric| format!("derived.{metric}"));
            reader.report_at(&path, what, Some("give the metric another name".to_owned()));
        }
    }
    if names.len() > FEATURES_MAX {
        let what =
            format!("all metrics together make {} features, at most {FEATURES_MAX}", names.len());
        reader.report_at("windows", what, Some("remove some windows or aggregates".to_owned()));
    }
    names
}

fn check_join_names_free(
    reader: &mut TomlReader<'_>,
    read: &FeatureDefinitions,
    names: &BTreeSet<SmolStr>,
) {
    for name in read.joins.keys() {
        let what = if names.contains(name) {
            "a feature already"
        } else if ROW_COLUMNS.contains(&name.as_str()) {
            "a column of every row"
        } else if is_reserved(name) {
            "a word of SQL"
        } else {
            continue;
        };
        reader.report_at(&format!("joins.{name}"), format!("`{name}` is {what}"), None);
    }
}

struct ExpressionValidator<'a, 'r> {
    reader: &'a mut TomlReader<'r>,
    checker: &'a mut dyn ExpressionChecker,
}

impl ExpressionValidator<'_, '_> {
    fn check_reading_expressions(&mut self, read: &FeatureDefinitions) {
        let column = |name: &str| {
            READING_COLUMNS
                .iter()
                .find(|(column, _)| *column == name)
                .map(|(_, sql_type)| *sql_type)
        };
        let known = READING_COLUMNS.map(|(name, _)| name);
        let metric_filters =
            read.metrics.iter().map(|(name, metric)| ("metrics", name, &metric.filter));
        let derived_filters =
            read.derived.iter().map(|(name, derived)| ("derived", name, &derived.filter));
        let filters = metric_filters.chain(derived_filters).map(|(table, name, text)| {
            (format!("{table}.{name}.where"), text.as_ref(), ExpectedType::Boolean)
        });
        let values = read.derived.iter().map(|(name, derived)| {
            (format!("derived.{name}.value"), derived.value.as_ref(), ExpectedType::Number)
        });
        for (path, text, expect) in filters.chain(values) {
            let Some(text) = text else { continue };
            if let Err(refusal) = self.checker.check_expression(text, &column, &known, expect) {
                self.reader.report_at(&path, refusal.what, refusal.hint);
            }
        }
    }

    /// Returns the features that each SQL join names, sorted by name.
    fn check_join_expressions(
        &mut self,
        read: &FeatureDefinitions,
        names: &BTreeSet<SmolStr>,
        is_lost: impl Fn(&str) -> bool,
    ) -> Vec<Vec<SmolStr>> {
        let column: ColumnTypes<'_> =
            &|name| (names.contains(name) || is_lost(name)).then_some("DOUBLE");
        let known: Vec<&str> = names.iter().map(SmolStr::as_str).collect();
        let mut inputs = Vec::new();
        for (name, join) in &read.joins {
            let JoinDefinition::Sql { value, .. } = join else { continue };
            let found = self.checker.check_expression(value, column, &known, ExpectedType::Number);
            inputs.push(found.unwrap_or_else(|refusal| {
                self.reader.report_at(&format!("joins.{name}.value"), refusal.what, refusal.hint);
                Vec::new()
            }));
        }
        inputs.into_iter().map(|names| names.into_iter().map(SmolStr::from).collect()).collect()
    }
}
