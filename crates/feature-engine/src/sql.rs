//! SQL expressions of definitions: what the engine asks of whoever evaluates them.
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

/// The SQL type of a column, or `None` where an expression may not name it.
pub type ColumnTypes<'a> = &'a dyn Fn(&str) -> Option<&'static str>;

/// The columns that an expression over a reading sees, with their SQL types. Times are UTC.
pub const READING_COLUMNS: [(&str, &str); 6] = [
    ("value", "DOUBLE"),
    ("metric", "VARCHAR"),
    ("site", "VARCHAR"),
    ("zone", "VARCHAR"),
    ("device", "VARCHAR"),
    ("event", "TIMESTAMP"),
];

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpressionError {
    /// What was found and what was expected.
    pub what: String,
    /// How to fix it, where that is known.
    pub hint: Option<String>,
}

impl ExpressionError {
    /// An error with a hint.
    pub fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: Some(hint.into()) }
    }
}

/// The type that an expression must have.
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

/// A reading as expressions see it.
#[derive(Clone, Copy, Debug)]
pub struct SqlReading<'a> {
    /// In the metric's unit.
    pub value: f64,
    /// Name of the metric.
    pub metric: &'a str,
    /// Name of the site.
    pub site: &'a str,
    /// Name of the zone within the site.
    pub zone: &'a str,
    /// Name of the device.
    pub device: &'a str,
    /// Event time, UTC milliseconds.
    pub event_ms: i64,
}

impl<'a> SqlReading<'a> {
    /// The readings of a report, in order.
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

/// The values of the expressions over a batch of readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EvaluatedReadings {
    /// For each reading, whether it enters features: its metric's `where` is true.
    pub kept: Vec<bool>,
    /// By derived metric with a `where` or a `value`: a number for each reading, NaN where
    /// it has none. `below`, `above` and `when` are the engine's to apply to it.
    pub derived: BTreeMap<SmolStr, Vec<f64>>,
}

/// Evaluates the `where` and `value` of metrics and derived metrics.
pub trait ReadingExpressions: fmt::Debug + Send {
    /// Whether any expression is about readings of a metric.
    fn has_expressions_for(&self, metric: &str) -> bool;

    /// Evaluates all expressions over a batch. An expression that fails on a reading is null there.
    fn evaluate_readings(&mut self, readings: &[SqlReading<'_>]) -> EvaluatedReadings;
}

/// Evaluates the joins by SQL over columns of features.
pub trait JoinExpressions: fmt::Debug + Send {
    /// The features that the expressions name, in the order of their names.
    fn inputs(&self) -> &[SmolStr];

    /// The joins, each behind those that it is made of.
    fn outputs(&self) -> &[SmolStr];

    /// The values of each output over `rows` rows, given a column of that length for each input;
    /// NaN stands for null.
    fn evaluate_rows(&mut self, rows: usize, inputs: &[Vec<f64>]) -> Vec<Vec<f64>>;
}

/// The SQL of an engine's definitions, ready to be evaluated; by default there is none.
#[derive(Debug, Default)]
pub struct SqlExpressions {
    /// Where definitions have SQL over readings.
    pub readings: Option<Box<dyn ReadingExpressions>>,
    /// Where definitions have joins by SQL.
    pub joins: Option<Box<dyn JoinExpressions>>,
}

/// Accepts every expression and returns the names in it: for tests of what definitions say.
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
