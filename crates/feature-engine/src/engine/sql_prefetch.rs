use std::{collections::VecDeque, sync::Arc};

use telemetry::SmolStr;

use super::feature_row::FeatureRow;
use crate::{
    definitions::FeatureDefinitions,
    sql::{JoinExpressions, ReadingExpressions, SqlReading},
};

/// SQL over readings, evaluated in batches that are announced before the engine ingests them.
#[derive(Debug)]
pub(super) struct SqlPrefetch {
    sql: Box<dyn ReadingExpressions>,
    definitions: Arc<FeatureDefinitions>,
    values_by_reading: VecDeque<(ReadingKey, DerivedValues)>,
}

/// Results of SQL for one reading.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DerivedValues {
    /// Whether the reading enters features.
    pub(super) is_kept: bool,
    /// Value from which each metric derived from this reading's metric starts, in the order of
    /// names; `None` where the derived metric has no such reading.
    pub(super) derived: Vec<Option<f64>>,
}

/// All inputs of an expression: readings that differ in any of them may have different results.
#[derive(Debug, PartialEq)]
struct ReadingKey {
    event_ms: i64,
    bits: u64,
    metric: SmolStr,
    site: SmolStr,
    zone: SmolStr,
    device: SmolStr,
}

impl ReadingKey {
    fn from_reading(reading: &SqlReading<'_>) -> Self {
        // Destructured, so that a new field of `SqlReading` must be added here too.
        let SqlReading { value, metric, site, zone, device, event_ms } = *reading;
        Self {
            event_ms,
            bits: value.to_bits(),
            metric: metric.into(),
            site: site.into(),
            zone: zone.into(),
            device: device.into(),
        }
    }
}

impl SqlPrefetch {
    pub(super) fn new(
        sql: Box<dyn ReadingExpressions>,
        definitions: Arc<FeatureDefinitions>,
    ) -> Self {
        Self { sql, definitions, values_by_reading: VecDeque::new() }
    }

    /// Evaluates the expressions on the next readings, in this order.
    pub(super) fn evaluate_batch<'a>(&mut self, readings: impl Iterator<Item = SqlReading<'a>>) {
        let readings: Vec<_> =
            readings.filter(|own| self.sql.has_expressions_for(own.metric)).collect();
        self.values_by_reading.clear();
        if readings.is_empty() {
            return;
        }
        let mapped = self.sql.evaluate_readings(&readings);
        for (i, reading) in readings.iter().enumerate() {
            let derived = self.definitions.derived_from(reading.metric);
            let derived = derived.map(|(name, _)| match mapped.derived.get(name) {
                Some(values) => Some(values[i]).filter(|value| !value.is_nan()),
                None => Some(reading.value),
            });
            let made = DerivedValues { is_kept: mapped.kept[i], derived: derived.collect() };
            self.values_by_reading.push_back((ReadingKey::from_reading(reading), made));
        }
    }

    /// Returns the results for a reading, or `None` if no expression applies to its metric.
    /// Evaluates a reading that was not announced by itself, which is slow.
    pub(super) fn take_values(&mut self, reading: &SqlReading<'_>) -> Option<DerivedValues> {
        if !self.sql.has_expressions_for(reading.metric) {
            return None;
        }
        let key = ReadingKey::from_reading(reading);
        if let Some(place) = self.values_by_reading.iter().position(|(own, _)| *own == key) {
            // The skipped readings did not count for other reasons.
            return self.values_by_reading.drain(..=place).next_back().map(|(_, made)| made);
        }
        let waiting = std::mem::take(&mut self.values_by_reading);
        self.evaluate_batch(std::iter::once(*reading));
        let made = self.values_by_reading.pop_front().map(|(_, made)| made);
        self.values_by_reading = waiting;
        made
    }
}

/// Fills the joins by SQL of some rows.
pub(super) fn apply_sql_joins(sql: &mut dyn JoinExpressions, rows: &mut [FeatureRow]) {
    for rows in rows.chunk_by_mut(|a, b| Arc::ptr_eq(&a.schema, &b.schema)) {
        let schema = rows[0].schema.clone();
        let column = |name: &SmolStr| schema.names.iter().position(|own| own == name);
        let values = |name: &SmolStr| match column(name) {
            Some(column) => rows.iter().map(|row| row.values[column]).collect(),
            None => vec![f64::NAN; rows.len()],
        };
        let inputs: Vec<Vec<f64>> = sql.inputs().iter().map(values).collect();
        let outputs = sql.evaluate_rows(rows.len(), &inputs);
        for (name, values) in sql.outputs().iter().zip(outputs) {
            let Some(column) = column(name) else { continue };
            for (row, value) in rows.iter_mut().zip(values) {
                Arc::make_mut(&mut row.values)[column] = value;
            }
        }
    }
}
