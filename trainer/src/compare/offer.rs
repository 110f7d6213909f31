//! Where a comparison hands its best model over to the registry.

use models::Artifact;
use serde::Serialize;

use crate::{backtest::Entry, error::TrainError, serve::Trainer};

/// What speaks for a model.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The run whose report tells more.
    pub run_id: String,
    /// Its line in the leaderboard: error, skill and test against the best
    /// baseline, latency, size.
    pub entry: Entry,
}

/// What became of a model that was offered.
#[derive(Clone, Debug, Serialize)]
pub struct Offered {
    /// The version that it is kept as.
    pub version: u64,
    /// Whether it is served now.
    pub is_champion: bool,
    /// Why it is not, where it is not.
    pub refused: Option<String>,
}

impl Trainer {
    /// Keeps a model as a new version, and makes it champion.
    ///
    /// # Errors
    /// Where the registry fails; the champion in service stays.
    pub fn offer(&self, artifact: &Artifact, evidence: &Evidence) -> Result<Offered, TrainError> {
        let version = self.registry().keep(artifact)?;
        self.registry().promote(&artifact.task, version)?;
        self.load_champion(&artifact.task)?;
        let Evidence { run_id, entry } = evidence;
        tracing::debug!(run_id, task = artifact.task, version, skill = entry.skill, "champion");
        Ok(Offered { version, is_champion: true, refused: None })
    }
}
