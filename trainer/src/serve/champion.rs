use std::collections::BTreeSet;

use models::Artifact;
use serde::de::DeserializeOwned;

use crate::{earlier::column_of, input::Input, settings::Comfort, source::Latest};

/// A model that is served, ready to be asked.
#[derive(Debug)]
pub struct Champion {
    /// Its version in the registry.
    pub version: u64,
    /// The model.
    pub artifact: Artifact,
    /// How each input of its schema is made.
    inputs: Vec<Input>,
    /// See [`Champion::earlier`].
    earlier: BTreeSet<String>,
}

impl Champion {
    /// Reads the names of its inputs once.
    #[must_use]
    pub fn new(version: u64, artifact: Artifact) -> Self {
        let inputs: Vec<Input> =
            artifact.card.schema.features.iter().map(|name| Input::parse(name)).collect();
        let columns = inputs.iter().flat_map(Input::columns);
        let earlier = columns.filter(|name| column_of(name).1 > 0).map(str::to_owned).collect();
        Self { version, artifact, inputs, earlier }
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

    /// Those of them that are of earlier rows, by their full names.
    #[must_use]
    pub const fn earlier(&self) -> &BTreeSet<String> {
        &self.earlier
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
