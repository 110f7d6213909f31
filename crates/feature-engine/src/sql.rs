//! SQL expressions of definitions, and the traits through which the engine evaluates them.
//!
//! An expression sees one reading, or one row, at a time, and gives the same result for the same
//! input: no aggregates, windows, subqueries, chance or clock. Expressions are checked with their
//! definitions ([`ExpressionChecker`]) and evaluated over batches ([`ReadingExpressions`],
//! [`JoinExpressions`]). The feature store implements these traits over DuckDB. A host without SQL
//! passes [`NoSql`] and [`SqlExpressions::default`]: definitions with expressions are then refused
//! by name, never ignored.

use std::{collections::BTreeMap, fmt};

use telemetry::{SensorReport, SmolStr};

pub use crate::definitions::identifiers::{SqlIdentifiers, is_reserved, scan_identifiers};

/// Lookup of a column's SQL type; gives `None` if an expression may not name it.
pub type ColumnTypes<'a> = &'a dyn Fn(&str) -> Option<&'static str>;

/// Columns that an expression over a reading can name, with their SQL types. Times are UTC.
pub const READING_COLUMNS: [(&str, &str); 6] = [
    ("value", "DOUBLE"),
    ("metric", "VARCHAR"),
    ("site", "VARCHAR"),
    ("zone", "VARCHAR"),
    ("device", "VARCHAR"),
    ("event", "TIMESTAMP"),
];

/// Reason why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// Found and expected expression.
    pub what: String,
    /// How to fix the expression, if that is known.
    pub hint: Option<String>,
}

impl ExpressionError {
    /// Creates an error with a hint.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: Some(hint.into()) }
    }
}

/// Type that an expression must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedType {
    /// True or false.
    Boolean,
    /// A number; true and false count as 1 and 0.
    Number,
}

/// Checks expressions while definitions are read.
pub trait ExpressionChecker {
    /// Checks an expression over a table with some columns. Returns the columns that it names.
    ///
    /// # Errors
    /// Syntax, an unknown column (with the nearest of `known_columns` as a hint), an unknown or
    /// non-deterministic function, or another type than the expected one.
    fn check_expression(
        &mut self,
        text: &str,
        columns: ColumnTypes<'_>,
        known_columns: &[&str],
        expected: ExpectedType,
    ) -> Result<Vec<String>, ExpressionError>;
}

/// Refuses every expression.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSql;

impl ExpressionChecker for NoSql {
    fn check_expression(
        &mut self,
        _: &str,
        _: ColumnTypes<'_>,
        _: &[&str],
        _: ExpectedType,
    ) -> Result<Vec<String>, ExpressionError> {
        Err(ExpressionError::new(
            "SQL expressions are not evaluated here",
            "use a formula, `below`, `above` or `when`, or run the feature store",
        ))
    }
}

/// A reading in the form in which expressions access it.
#[derive(Clone, Copy, Debug)]
pub struct SqlReading<'a> {
    /// Value in the metric's unit.
    pub value: f64,
    /// Name of the metric.
    pub metric: &'a str,
    /// Name of the site.
    pub site: &'a str,
    /// Name of the zone within the site.
    pub zone: &'a str,
    /// Name of the device.
    pub device: &'a str,
    /// Event time, UTC ms.
    pub event_ms: i64,
}

impl<'a> SqlReading<'a> {
    /// Iterates over the readings of a report, in order.
    pub fn from_report(report: &'a SensorReport) -> impl Iterator<Item = Self> {
        report.readings.iter().map(|reading| Self {
            value: reading.value,
            metric: &reading.metric,
            site: &report.zone.site,
            zone: &report.zone.zone,
            device: &report.device,
            event_ms: reading.event_ms,
        })
    }
}

/// Values of the expressions over a batch of readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvaluatedReadings {
    /// Whether each reading enters features, that is, whether its metric's `where` is true.
    pub kept: Vec<bool>,
    /// Values of each derived metric with a `where` or a `value`: one number for each reading, NaN
    /// if it has none. The engine then applies `below`, `above` and `when`.
    pub derived: BTreeMap<SmolStr, Vec<f64>>,
}

/// Evaluates the `where` and `value` of metrics and derived metrics.
pub trait ReadingExpressions: fmt::Debug + Send {
    /// Returns whether any expression applies to readings of a metric.
    fn has_expressions_for(&self, metric: &str) -> bool;

    /// Evaluates all expressions over a batch. An expression that fails on a reading gives null
    /// there.
    fn evaluate_readings(&mut self, readings: &[SqlReading<'_>]) -> EvaluatedReadings;
}

/// Evaluates the SQL joins over columns of features.
pub trait JoinExpressions: fmt::Debug + Send {
    /// Returns the features that the expressions name, sorted by name.
    fn inputs(&self) -> &[SmolStr];

    /// Returns the joins, each after the joins that it depends on.
    fn outputs(&self) -> &[SmolStr];

    /// Returns the values of each output over `rows` rows, given a column of that length for each
    /// input. NaN stands for null.
    fn evaluate_rows(&mut self, rows: usize, inputs: &[Vec<f64>]) -> Vec<Vec<f64>>;
}

/// SQL of an engine's definitions, ready to be evaluated; empty by default.
#[derive(Debug, Default)]
pub struct SqlExpressions {
    /// SQL over readings, if the definitions have any.
    pub readings: Option<Box<dyn ReadingExpressions>>,
    /// SQL joins, if the definitions have any.
    pub joins: Option<Box<dyn JoinExpressions>>,
}

/// Accepts every expression and returns the names in it; for tests of definitions.
#[cfg(test)]
pub(crate) struct AnyExpression;

#[cfg(test)]
impl ExpressionChecker for AnyExpression {
    fn check_expression(
        &mut self,
        text: &str,
        _: ColumnTypes<'_>,
        _: &[&str],
        _: ExpectedType,
    ) -> Result<Vec<String>, ExpressionError> {
        Ok(scan_identifiers(text)?.names.into_iter().collect())
    }
}
