//! SQL expressions of the definitions, run by DuckDB over batches.
//!
//! An expression sees one reading or one row at a time and is deterministic: it has no
//! aggregates, windows, subqueries, random numbers or clocks. Definitions with an expression of
//! another kind or type are refused. If an expression fails on a single value (a logarithm of 0,
//! an overflow), the result is null and the failure is counted. Definitions without SQL open no
//! DuckDB and cost nothing.
//!
//! # Layout
//! - `identifiers`: the words of an expression, and which are allowed
//! - `expression_checker`: checks of an expression before anything runs
//! - `expression_database`: a locked-down DuckDB in memory, and programs of expressions over a
//!   batch in it
//! - `readings`: filters and values of readings
//! - `joins`: features of rows

mod expression_checker;
mod expression_database;
mod identifiers;
mod joins;
mod readings;

pub(super) use expression_checker::{ExpectedType, ExpressionChecker, ExpressionError};
pub(super) use identifiers::is_reserved;
pub use joins::SqlJoinEvaluator;
pub use readings::{EvaluatedReadings, SqlReading, SqlReadingEvaluator};

/// Returns the type of a column, or `None` if an expression may not name it.
pub(super) type ColumnTypes<'a> = &'a dyn Fn(&str) -> Option<&'static str>;

/// Columns that an expression over a reading sees. Times are UTC.
pub(super) const READING_COLUMNS: [(&str, &str); 6] = [
    ("value", "DOUBLE"),
    ("metric", "VARCHAR"),
    ("site", "VARCHAR"),
    ("zone", "VARCHAR"),
    ("device", "VARCHAR"),
    ("event", "TIMESTAMP"),
];
