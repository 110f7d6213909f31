//! SQL expressions of definitions, run by DuckDB over batches.
//!
//! An expression sees one reading, or one row, at a time and gives the same for the same:
//! no aggregates, windows, subqueries, no chance, no clock. It is refused with its
//! definitions where it is not of that kind or has a wrong type. What fails on a single
//! value (a logarithm of 0, an overflow) is null there, and counted. Definitions without
//! SQL open no DuckDB and cost nothing.
//!
//! # Layout
//! - `words`: the words of an expression, and which there may be
//! - `check`: an expression, before anything runs
//! - `batch`: a locked-down DuckDB in memory, and expressions over a batch in it
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

/// Type of a column, and whether an expression may name it.
pub(super) type ColumnTypes<'a> = &'a dyn Fn(&str) -> Option<&'static str>;

/// The columns that an expression over a reading sees. Times are UTC.
pub(super) const READING_COLUMNS: [(&str, &str); 6] = [
    ("value", "DOUBLE"),
    ("metric", "VARCHAR"),
    ("site", "VARCHAR"),
    ("zone", "VARCHAR"),
    ("device", "VARCHAR"),
    ("event", "TIMESTAMP"),
];
