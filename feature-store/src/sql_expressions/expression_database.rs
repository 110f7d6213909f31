use duckdb::{
    Config, Connection,
    arrow::{
        array::{Array, ArrayRef, AsArray, RecordBatch},
        datatypes::{Field, Float64Type, Schema},
    },
};
use std::sync::Arc;

use crate::{StoreError, store::quote_identifier};

/// Memory limit of DuckDB, MB: for one batch and its results.
const MEMORY_MB_MAX: u32 = 128;

/// An in-memory DuckDB without access to anything else, with one table `batch`.
#[derive(Debug)]
pub(super) struct ExpressionDatabase {
    pub(super) connection: Connection,
}

/// Expressions over the rows of a batch, with their failure counts.
#[derive(Debug)]
pub(super) struct ExpressionProgram {
    sql: String,
    /// Number of failures of each expression.
    pub(super) failures: Vec<u64>,
    /// Batches on which DuckDB itself failed.
    failed_batches: u64,
}

impl ExpressionDatabase {
    /// Opens the database.
    ///
    /// # Errors
    /// Fails if DuckDB cannot be opened.
    pub(super) fn new() -> Result<Self, duckdb::Error> {
        let config = Config::default()
            .max_memory(&format!("{MEMORY_MB_MAX}MB"))?
            // A single thread preserves the order of rows.
            .threads(1)?;
        let connection = Connection::open_in_memory_with_flags(config)?;
        connection.execute_batch(
            // The optimiser moves common subexpressions out of TRY, where their errors would fail
            // the query.
            "PRAGMA disable_optimizer; SET temp_directory = '';
             SET enable_external_access = false; SET lock_configuration = true",
        )?;
        Ok(Self { connection })
    }

    /// Creates the table of the batches, and replaces an existing one.
    ///
    /// # Errors
    /// Returns DuckDB's error.
    pub(super) fn create_table<'a>(
        &self,
        columns: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), duckdb::Error> {
        let column_list: Vec<String> = columns
            .into_iter()
            .map(|(name, sql_type)| format!("{} {sql_type}", quote_identifier(name)))
            .collect();
        self.connection
            .execute_batch(&format!("CREATE OR REPLACE TABLE batch ({})", column_list.join(", ")))
    }

    /// Evaluates a program's expressions over a batch with the table's columns; NaN where a value
    /// is null.
    pub(super) fn evaluate_program(
        &mut self,
        program: &mut ExpressionProgram,
        columns: Vec<(&str, ArrayRef)>,
    ) -> Vec<Vec<f64>> {
        let rows = columns.first().map_or(0, |(_, column)| column.len());
        match self.query_batch(&program.sql, columns) {
            Ok(answers) => program.collect_values(&answers, rows),
            Err(error) => {
                program.failures.iter_mut().for_each(|failures| *failures += rows as u64);
                program.failed_batches += 1;
                // Log less and less often, not for every batch.
                if program.failed_batches.is_power_of_two() {
                    tracing::warn!(batches = program.failed_batches, %error, "SQL of the definitions failed; its values are null");
                }
                vec![vec![f64::NAN; rows]; program.failures.len()]
            }
        }
    }

    fn query_batch(
        &mut self,
        sql: &str,
        columns: Vec<(&str, ArrayRef)>,
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let field =
            |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let arrays = columns.into_iter().map(|(_, column)| column).collect();
        let batch = RecordBatch::try_new(Arc::new(schema), arrays)?;
        // Rolled back at the end, so that nothing stays in the table.
        let transaction = self.connection.transaction()?;
        let mut appender = transaction.appender("batch")?;
        appender.append_record_batch(batch)?;
        appender.flush()?;
        drop(appender);
        let answers = transaction.prepare_cached(sql)?.query_arrow([])?.collect();
        Ok(answers)
    }
}

impl ExpressionProgram {
    /// Builds a program of named expressions, in steps. Expressions may refer to those of earlier
    /// steps.
    pub(super) fn new(steps: &[Vec<(&str, &str)>]) -> Self {
        let mut from = "batch".to_owned();
        let mut answers = Vec::new();
        for expressions in steps {
            let (mut tries, mut values) = (String::new(), String::new());
            for (name, text) in expressions {
                // An error makes the whole struct null; a null expression only makes its field
                // null.
                let attempt = quote_identifier(&format!("try {name}"));
                let tried = format!(", TRY({{'v': CAST(({text}\n) AS DOUBLE)}}) AS {attempt}");
                tries.push_str(&tried);
                let value = format!("CASE WHEN isfinite({attempt}.v) THEN {attempt}.v END");
                values.extend([", ", &value, " AS ", &quote_identifier(name)]);
                answers.push(quote_identifier(name));
                answers.push(format!(
                    "{attempt} IS NULL OR coalesce(NOT isfinite({attempt}.v), false)"
                ));
            }
            from = format!("(SELECT *{values} FROM (SELECT *{tries} FROM {from}))");
        }
        let failures = vec![0; answers.len() / 2];
        Self {
            sql: format!("SELECT {} FROM {from}", answers.join(", ")),
            failures,
            failed_batches: 0,
        }
    }

    pub(super) fn sql(&self) -> &str {
        &self.sql
    }

    fn collect_values(&mut self, answers: &[RecordBatch], rows: usize) -> Vec<Vec<f64>> {
        let mut all = vec![Vec::with_capacity(rows); self.failures.len()];
        for answer in answers {
            for (i, (values, failures)) in all.iter_mut().zip(&mut self.failures).enumerate() {
                let found = answer.column(2 * i).as_primitive::<Float64Type>();
                values.extend(found.iter().map(|value| value.unwrap_or(f64::NAN)));
                *failures += answer.column(2 * i + 1).as_boolean().true_count() as u64;
            }
        }
        all
    }
}
