//! SQL expressions of definitions, checked and evaluated by DuckDB over batches.
//!
//! What fails on a single value (a logarithm of 0, an overflow) is null there, and counted.
//! Definitions without SQL open no DuckDB and cost nothing.
//!
//! # Layout
//! - `expression_checker`: an expression, before anything runs
//! - `expression_database`: a locked-down DuckDB in memory, and expressions over a batch in it
//! - `readings`: filters and values of readings
//! - `joins`: features of rows

mod expression_checker;
mod expression_database;
mod joins;
mod readings;

use std::{io::Read, path::Path, sync::Arc};

use feature_engine::{
    FeatureDefinitions, FeatureEngine, SqlExpressions,
    definitions::{DefinitionDiagnostic, DefinitionsError},
    settings::EngineSettings,
    sql::{JoinExpressions, ReadingExpressions},
};
use service::config::ConfigError;
use telemetry::{MetricTable, SmolStr};

pub use expression_checker::DuckDbChecker;
pub use joins::SqlJoinEvaluator;
pub use readings::SqlReadingEvaluator;

use crate::{StoreError, settings::engine_error};

/// Largest file of definitions.
const DEFINITIONS_BYTES_MAX: u64 = 1 << 20;

/// The definitions of a text, with SQL expressions checked by DuckDB; see
/// [`FeatureDefinitions::parse`].
///
/// # Errors
/// Every mistake of the text, with its line and, where that is known, how to fix it.
pub fn parse_definitions(
    file: &str,
    text: &str,
    metrics: &MetricTable,
) -> Result<FeatureDefinitions, DefinitionsError> {
    FeatureDefinitions::parse(file, text, metrics, &mut DuckDbChecker::default())
}

/// The definitions of a file, or the built-in ones where the path is empty, for a site with these
/// metrics.
///
/// # Errors
/// A file that cannot be read, and every mistake in it, with its line and, where that is known,
/// how to fix it.
pub fn load_definitions(
    path: &Path,
    metrics: &MetricTable,
) -> Result<Arc<FeatureDefinitions>, DefinitionsError> {
    if path.as_os_str().is_empty() {
        return Ok(FeatureDefinitions::built_in());
    }
    let file = path.display().to_string();
    let text = read_definitions_text(path).map_err(|what| DefinitionsError {
        mistakes: vec![DefinitionDiagnostic { file: file.clone(), line: None, what, hint: None }],
    })?;
    parse_definitions(&file, &text, metrics).map(Arc::new)
}

/// The definitions that `engine.features` names.
///
/// # Errors
/// Every mistake of the file, with its place.
pub fn configured_definitions(
    settings: &EngineSettings,
    metrics: &MetricTable,
) -> Result<Arc<FeatureDefinitions>, ConfigError> {
    load_definitions(&settings.features, metrics)
        .map_err(|error| ConfigError::invalid("engine.features", format!("\n{error}")))
}

/// An engine without readings for the configured definitions, with columns for the metrics named
/// in `columns`.
///
/// # Errors
/// A time zone, a place or definitions that have no meaning.
pub fn open_engine(
    settings: &EngineSettings,
    metrics: MetricTable,
    columns: &[SmolStr],
) -> Result<FeatureEngine, ConfigError> {
    let definitions = configured_definitions(settings, &metrics)?;
    let no_sql = |error: StoreError| ConfigError::invalid("engine.features", error);
    let readings = SqlReadingEvaluator::new(&definitions).map_err(no_sql)?;
    let joins = SqlJoinEvaluator::new(&definitions).map_err(no_sql)?;
    let sql = SqlExpressions {
        readings: readings.map(|sql| Box::new(sql) as Box<dyn ReadingExpressions>),
        joins: joins.map(|sql| Box::new(sql) as Box<dyn JoinExpressions>),
    };
    FeatureEngine::new(settings, definitions, metrics, columns, sql).map_err(engine_error)
}

fn read_definitions_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let read = file.take(DEFINITIONS_BYTES_MAX + 1).read_to_string(&mut text);
    match read {
        Ok(bytes) if bytes as u64 > DEFINITIONS_BYTES_MAX => {
            Err(format!("is larger than {DEFINITIONS_BYTES_MAX} bytes, more than definitions need"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
mod definition_tests;
