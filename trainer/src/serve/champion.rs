use models::Artifact;
use serde::de::DeserializeOwned;

use crate::{input::Input, settings::Comfort, source::Latest};

/// A model that is served, ready to be asked.
#[derive(Debug)]
pub struct Champion {
    /// Its version in the registry.
    pub version: u64,
    /// The model.
    pub artifact: Artifact,
    /// How each input of its schema is made.
    inputs: Vec<Input>,
}

impl Champion {
    /// Reads the names of its inputs once.
    #[must_use]
    pub fn new(version: u64, artifact: Artifact) -> Self {
        let inputs = artifact.card.schema.features.iter().map(|name| Input::parse(name)).collect();
        Self { version, artifact, inputs }
    }

    /// The inputs of a zone's newest row, in the order of the schema; NaN where
    /// one cannot be made.
    #[must_use]
    pub fn row(&self, comfort: &Comfort, latest: &Latest) -> Vec<f64> {
        self.inputs.iter().map(|input| input.value(comfort, |name| latest.value(name))).collect()
    }

    /// The feature columns that its inputs are made from.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().flat_map(Input::columns)
    }

    /// What serving keeps with it, of the kind that its task has.
    ///
    /// # Errors
    /// Where it is of another kind.
    pub fn serving<T: DeserializeOwned>(&self) -> Result<T, String> {
        T::deserialize(&self.artifact.card.serving)
            .map_err(|error| format!("its model says nothing of serving: {error}"))
    }
}
