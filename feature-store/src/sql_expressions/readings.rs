use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use duckdb::arrow::{
    array::{ArrayRef, Float64Array, StringArray, TimestampMicrosecondArray, new_null_array},
    datatypes::{DataType, TimeUnit},
};
use feature_engine::{
    definitions::FeatureDefinitions,
    sql::{EvaluatedReadings, READING_COLUMNS, ReadingExpressions, SqlReading, scan_identifiers},
};
use telemetry::SmolStr;

use super::expression_database::{ExpressionDatabase, ExpressionProgram};
use crate::StoreError;

/// Evaluates the `where` and `value` expressions of metrics and derived metrics.
///
/// ```
/// use feature_engine::sql::{ReadingExpressions, SqlReading};
/// use microclimate_feature_store::sql_expressions::{SqlReadingEvaluator, parse_definitions};
/// use telemetry::MetricTable;
///
/// let text = r#"
/// version = 1
/// [metrics.co2]
/// where = "device <> 'broken'"
/// [derived.co2_excess]
/// from = 'co2'
/// value = 'greatest(0, value - 1000)'
/// windows.1h = ['integral']
/// "#;
/// let definitions = parse_definitions("own.toml", text, &MetricTable::default()).unwrap();
/// let mut sql = SqlReadingEvaluator::new(&definitions).unwrap().unwrap();
/// let reading = |device, value| SqlReading {
///     value, metric: "co2", site: "s", zone: "z", device, event_ms: 0,
/// };
/// let mapped = sql.evaluate_readings(&[reading("a", 1200.0), reading("broken", 400.0)]);
/// assert_eq!(mapped.kept, [true, false]);
/// assert_eq!(mapped.derived["co2_excess"], [200.0, 0.0]);
/// ```
#[derive(Debug)]
pub struct SqlReadingEvaluator {
    sandbox: ExpressionDatabase,
    metrics: BTreeMap<SmolStr, MetricExpressions>,
}

/// Expressions over the readings of one metric.
#[derive(Debug)]
struct MetricExpressions {
    program: ExpressionProgram,
    /// Paths of the expressions in the file.
    places: Vec<String>,
    /// Which of [`READING_COLUMNS`] the expressions name.
    named: [bool; READING_COLUMNS.len()],
    /// Indices of expressions in the program.
    filter: Option<usize>,
    derived: Vec<(SmolStr, DerivedExpressions)>,
}

#[derive(Clone, Copy, Debug)]
struct DerivedExpressions {
    filter: Option<usize>,
    value: Option<usize>,
}

impl SqlReadingEvaluator {
    /// Creates the evaluator; `None` if no definition over readings has SQL.
    ///
    /// # Errors
    /// Fails if DuckDB cannot be opened.
    pub fn new(definitions: &FeatureDefinitions) -> Result<Option<Self>, StoreError> {
        let measured = definitions.metrics.keys();
        let from = definitions.derived.values().map(|derived| &derived.from);
        let metrics: BTreeMap<SmolStr, MetricExpressions> = measured
            .chain(from)
            .filter_map(|metric| {
                Some((metric.clone(), MetricExpressions::new(definitions, metric)?))
            })
            .collect();
        if metrics.is_empty() {
            return Ok(None);
        }
        let sandbox = ExpressionDatabase::new()?;
        sandbox.create_table(READING_COLUMNS)?;
        Ok(Some(Self { sandbox, metrics }))
    }

    /// How often each expression failed on a reading so far, by its place in the file, as
    /// in `derived.co2_excess.value`; it was null there.
    #[must_use]
    pub fn failure_counts(&self) -> BTreeMap<String, u64> {
        let each = self.metrics.values().flat_map(|metric| {
            metric.places.iter().cloned().zip(metric.program.failures.iter().copied())
        });
        each.collect()
    }
}

impl ReadingExpressions for SqlReadingEvaluator {
    fn has_expressions_for(&self, metric: &str) -> bool {
        self.metrics.contains_key(metric)
    }

    fn evaluate_readings(&mut self, readings: &[SqlReading<'_>]) -> EvaluatedReadings {
        let mut mapped =
            EvaluatedReadings { kept: vec![true; readings.len()], derived: BTreeMap::new() };
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (place, reading) in readings.iter().enumerate() {
            if self.has_expressions_for(reading.metric) {
                places.entry(reading.metric).or_default().push(place);
            }
        }
        for (name, metric) in &mut self.metrics {
            let Some(places) = places.get(name.as_str()) else { continue };
            let columns = metric.build_columns(readings, places);
            let values = self.sandbox.evaluate_program(&mut metric.program, columns);
            if let Some(filter) = metric.filter {
                for (row, place) in places.iter().enumerate() {
                    mapped.kept[*place] = values[filter][row] == 1.0;
                }
            }
            for (derived, DerivedExpressions { filter, value }) in &metric.derived {
                let mut all = vec![f64::NAN; readings.len()];
                for (row, place) in places.iter().enumerate() {
                    if filter.is_none_or(|filter| values[filter][row] == 1.0) {
                        all[*place] = value
                            .map_or(readings[*place].value, |expression| values[expression][row]);
                    }
                }
                mapped.derived.insert(derived.clone(), all);
            }
        }
        mapped
    }
}

impl MetricExpressions {
    fn new(definitions: &FeatureDefinitions, metric: &SmolStr) -> Option<Self> {
        let (mut texts, mut places) = (Vec::new(), Vec::new());
        let mut number = |text: &Option<String>, place: String| {
            texts.push(text.clone()?);
            places.push(place);
            Some(texts.len() - 1)
        };
        let definition = definitions.metrics.get(metric);
        let filter = definition
            .and_then(|definition| number(&definition.filter, format!("metrics.{metric}.where")));
        let mut derived = Vec::new();
        for (name, definition) in definitions.derived_from(metric) {
            let filter = number(&definition.filter, format!("derived.{name}.where"));
            let value = number(&definition.value, format!("derived.{name}.value"));
            if filter.is_some() || value.is_some() {
                derived.push((name.clone(), DerivedExpressions { filter, value }));
            }
        }
        if texts.is_empty() {
            return None;
        }
        let named = READING_COLUMNS.map(|(column, _)| {
            texts
                .iter()
                .any(|text| scan_identifiers(text).is_ok_and(|words| words.names.contains(column)))
        });
        let names: Vec<String> = (0..texts.len()).map(|number| format!("e{number}")).collect();
        let step = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str));
        let program = ExpressionProgram::new(&[step.collect()]);
        Some(Self { program, places, named, filter, derived })
    }

    /// Builds the columns of the batch's table. Columns that no expression names are null.
    fn build_columns(
        &self,
        readings: &[SqlReading<'_>],
        places: &[usize],
    ) -> Vec<(&'static str, ArrayRef)> {
        let all = places.iter().map(|place| &readings[*place]);
        let text = |field: for<'b> fn(&SqlReading<'b>) -> &'b str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(all.clone().map(field)))
        };
        let columns = READING_COLUMNS.iter().zip(self.named).map(|((name, _), is_named)| {
            let column: ArrayRef = match *name {
                "event" if is_named => {
                    let micros = all.clone().map(|reading| reading.event_ms.saturating_mul(1000));
                    Arc::new(TimestampMicrosecondArray::from_iter_values(micros))
                }
                "event" => {
                    let timestamp = DataType::Timestamp(TimeUnit::Microsecond, None);
                    new_null_array(&timestamp, places.len())
                }
                "value" => Arc::new(Float64Array::from_iter_values(
                    all.clone().map(|reading| reading.value),
                )),
                _ if !is_named => new_null_array(&DataType::Utf8, places.len()),
                "metric" => text(|reading| reading.metric),
                "site" => text(|reading| reading.site),
                "zone" => text(|reading| reading.zone),
                _ => text(|reading| reading.device),
            };
            (*name, column)
        });
        columns.collect()
    }
}

#[cfg(test)]
mod tests;
