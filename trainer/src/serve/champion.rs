use std::collections::BTreeSet;

use feature_api::LatestFeatures;
use models::ModelArtifact;
use serde::de::DeserializeOwned;

use crate::{input::InputExpression, lag_columns::parse_lag_column, settings::ComfortSettings};

/// A served model, ready to predict.
#[derive(Debug)]
pub struct Champion {
    /// Version of the model in the registry.
    pub version: u64,
    /// The model.
    pub artifact: ModelArtifact,
    /// Expression of each input in the schema.
    inputs: Vec<InputExpression>,
    /// See [`Champion::lag_columns`].
    lag_columns: BTreeSet<String>,
}

impl Champion {
    /// Creates a champion and parses the names of its inputs once.
    #[must_use]
    pub fn new(version: u64, artifact: ModelArtifact) -> Self {
        let inputs: Vec<InputExpression> =
            artifact.card.schema.features.iter().map(|name| InputExpression::parse(name)).collect();
        let columns = inputs.iter().flat_map(InputExpression::source_columns);
        let earlier =
            columns.filter(|name| parse_lag_column(name).1 > 0).map(str::to_owned).collect();
        Self { version, artifact, inputs, lag_columns: earlier }
    }

    /// Returns the inputs of a zone's latest row, in the order of the schema; NaN for an input that
    /// cannot be computed.
    #[must_use]
    pub fn input_row(&self, comfort: &ComfortSettings, latest: &LatestFeatures) -> Vec<f64> {
        self.inputs
            .iter()
            .map(|input| input.compute_value(comfort, |name| latest.feature_value(name)))
            .collect()
    }

    /// Returns the feature columns from which the inputs are computed.
    pub fn source_columns(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().flat_map(InputExpression::source_columns)
    }

    /// Returns the lag features among them, by their full names.
    #[must_use]
    pub const fn lag_columns(&self) -> &BTreeSet<String> {
        &self.lag_columns
    }

    /// Reads the serving facts of the artifact in the form that the task needs.
    ///
    /// # Errors
    /// Fails if they have another form.
    pub fn serving_facts<T: DeserializeOwned>(&self) -> Result<T, String> {
        T::deserialize(&self.artifact.card.serving)
            .map_err(|error| format!("its model says nothing of serving: {error}"))
    }
}
