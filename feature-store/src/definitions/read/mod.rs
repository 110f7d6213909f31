//! From the text of a file to valid definitions, or to all of its mistakes.
//!
//! # Layout
//! - `toml_reader`: values of the file with their lines
//! - `parser`: keys, types, names of aggregates and formulas, window widths
//! - `validation`: references to other parts of the file, to metrics and to SQL columns
//! - `join_order`: joins sorted by dependency

mod join_order;
mod parser;
mod toml_reader;
mod validation;

use std::{
    io::Read,
    path::Path,
    sync::{Arc, LazyLock},
};

use telemetry::MetricTable;

use super::{BUILT_IN, DefinitionDiagnostic, DefinitionsError, FeatureDefinitions};

/// Largest size of a definitions file, bytes.
const BYTES_MAX: u64 = 1 << 20;

impl FeatureDefinitions {
    /// Returns the built-in definitions.
    ///
    /// # Panics
    /// Never: a test reads them.
    #[must_use]
    pub fn built_in() -> Arc<Self> {
        static READ: LazyLock<Arc<FeatureDefinitions>> = LazyLock::new(|| {
            let read =
                FeatureDefinitions::parse("features.toml", BUILT_IN, &MetricTable::default());
            Arc::new(read.expect("the built-in definitions have no mistake"))
        });
        READ.clone()
    }

    /// Loads the definitions of a file, or the built-in ones if the path is empty, for a site
    /// with these metrics.
    ///
    /// # Errors
    /// Fails with every mistake of the file, each with its line and, if known, how to fix it.
    pub fn load(path: &Path, metrics: &MetricTable) -> Result<Arc<Self>, DefinitionsError> {
        if path.as_os_str().is_empty() {
            return Ok(Self::built_in());
        }
        let file = path.display().to_string();
        let text = read_text(path).map_err(|what| DefinitionsError {
            mistakes: vec![DefinitionDiagnostic {
                file: file.clone(),
                line: None,
                what,
                hint: None,
            }],
        })?;
        Self::parse(&file, &text, metrics).map(Arc::new)
    }

    /// Parses definitions. Mistakes name the text as `file`.
    ///
    /// # Errors
    /// Fails as [`FeatureDefinitions::load`] does.
    ///
    /// ```
    /// use microclimate_feature_store::definitions::FeatureDefinitions;
    /// use telemetry::MetricTable;
    ///
    /// let text = "version = 1\n[windows]\n1h = [\"maen\"]\n";
    /// let error = FeatureDefinitions::parse("own.toml", text, &MetricTable::default()).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "own.toml:3: `maen` is not a known aggregate\n  hint: did you mean `mean`?"
    /// );
    /// ```
    pub fn parse(file: &str, text: &str, metrics: &MetricTable) -> Result<Self, DefinitionsError> {
        let mut reader = toml_reader::TomlReader::new(file, text);
        let mut definitions = None;
        if let Some(root) = reader.parse_root() {
            let mut read = parser::parse_definitions(&mut reader, &root);
            validation::validate_definitions(&mut reader, &mut read, metrics);
            definitions = Some(read);
        }
        match definitions {
            Some(definitions) if reader.has_no_mistakes() => Ok(definitions),
            _ => Err(DefinitionsError { mistakes: reader.into_mistakes() }),
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let read = file.take(BYTES_MAX + 1).read_to_string(&mut text);
    match read {
        Ok(bytes) if bytes as u64 > BYTES_MAX => {
            Err(format!("is larger than {BYTES_MAX} bytes, more than definitions need"))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests;
