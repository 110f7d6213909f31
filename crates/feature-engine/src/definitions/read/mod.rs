//! From the text of a file to definitions that have a meaning, or to all of
//! its mistakes.
//!
//! # Layout
//! - `node`: values of the file, where they stand
//! - `shape`: keys, types, names of aggregates, formulas, widths of windows
//! - `check`: what names another part of the file, or of the program
//! - `order`: joins after what they are made of

mod join_order;
mod parser;
mod toml_reader;
mod validation;

use std::sync::{Arc, LazyLock};

use telemetry::MetricTable;

use super::{BUILT_IN, DefinitionsError, FeatureDefinitions};
use crate::sql::{ExpressionChecker, NoSql};

impl FeatureDefinitions {
    /// The built-in ones.
    ///
    /// # Panics
    /// Never: a test reads them.
    #[must_use]
    pub fn built_in() -> Arc<Self> {
        static READ: LazyLock<Arc<FeatureDefinitions>> = LazyLock::new(|| {
            let read = FeatureDefinitions::parse(
                "features.toml",
                BUILT_IN,
                &MetricTable::default(),
                &mut NoSql,
            );
            Arc::new(read.expect("the built-in definitions have no mistake"))
        });
        READ.clone()
    }

    /// The definitions of a text, for a site with these metrics. `file` is how diagnostics name
    /// the text, and `checker` checks its SQL expressions.
    ///
    /// # Errors
    /// Every mistake of the text, with its line and, where that is known, how to fix it.
    ///
    /// ```
    /// use microclimate_feature_engine::{FeatureDefinitions, sql::NoSql};
    /// use telemetry::MetricTable;
    ///
    /// let text = "version = 1\n[windows]\n1h = [\"maen\"]\n";
    /// let error =
    ///     FeatureDefinitions::parse("own.toml", text, &MetricTable::default(), &mut NoSql).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "own.toml:3: `maen` is no aggregate\n  hint: did you mean `mean`?"
    /// );
    /// ```
    pub fn parse(
        file: &str,
        text: &str,
        metrics: &MetricTable,
        checker: &mut dyn ExpressionChecker,
    ) -> Result<Self, DefinitionsError> {
        let mut reader = toml_reader::TomlReader::new(file, text);
        let mut definitions = None;
        if let Some(root) = reader.parse_root() {
            let mut read = parser::parse_definitions(&mut reader, &root);
            validation::validate_definitions(&mut reader, &mut read, metrics, checker);
            definitions = Some(read);
        }
        match definitions {
            Some(definitions) if reader.has_no_mistakes() => Ok(definitions),
            _ => Err(DefinitionsError { mistakes: reader.into_mistakes() }),
        }
    }
}
