use std::collections::BTreeSet;

use feature_api::LatestFeatures;
use models::ModelArtifact;
use serde::de::DeserializeOwned;

use crate::{input::InputExpression, lag_columns::parse_lag_column, settings::ComfortSettings};

/// A model that is served, ready to be asked.
#[derive(Debug)]
pub struct Champion {
    /// Its version in the registry.
    pub version: u64,
    /// The model.
    pub artifact: ModelArtifact,
    /// How each input of its schema is made.
    inputs: Vec<InputExpression>,
    /// See [`Champion::lag_columns`].
    lag_columns: BTreeSet<String>,
}

impl Champion {
    /// Reads the names of its inputs once.
    #[must_use]
    pub fn new(version: u64, artifact: ModelArtifact) -> Self {
        let inputs: Vec<InputExpression> =
            artifact.card.schema.features.iter().map(|name| InputExpression::parse(name)).collect();
        let columns = inputs.iter().flat_map(InputExpression::source_columns);
        let earlier =
            columns.filter(|name| parse_lag_column(name).1 > 0).map(str::to_owned).collect();
        Self { version, artifact, inputs, lag_columns: earlier }
    }

    /// The inputs of a zone's newest row, in the order of the schema; NaN where
    /// one cannot be made.
    #[must_use]
    pub fn input_row(&self, comfort: &ComfortSettings, latest: &LatestFeatures) -> Vec<f64> {
        self.inputs
            .iter()
            .map(|input| input.compute_value(comfort, |name| latest.feature_value(name)))
            .collect()
    }

    /// The feature columns that its inputs are made from.
    pub fn source_columns(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().flat_map(InputExpression::source_columns)
    }

    /// Those of them that are of earlier rows, by their full names.
    #[must_use]
    pub const fn lag_columns(&self) -> &BTreeSet<String> {
        &self.lag_columns
    }

    /// What serving keeps with it, of the kind that its task has.
    ///
    /// # Errors
    /// Where it is of another kind.
    pub fn serving_facts<T: DeserializeOwned>(&self) -> Result<T, String> {
        T::deserialize(&self.artifact.card.serving)
            .map_err(|error| format!("its model says nothing of serving: {error}"))
    }
}
