//! What a model must show before it is served: it and its rival on the same
//! held-out rows.
//!
//! # Layout
//! - [`trial`]: both models on rows that neither has seen
//! - `units`: of inputs, for the artifact's signature
//! - this file: the model is kept, judged, and promoted or held

pub mod trial;
pub(crate) mod units;

use models::{
    Artifact,
    registry::{By, Entry, Verdict, What},
};
use serde::Serialize;

use crate::{error::TrainError, serve::Trainer};
pub use trial::Outcome;

/// What became of a model that was trained.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// Its version in the registry.
    pub version: u64,
    /// Whether it is champion now; else it is challenger.
    pub promoted: bool,
    /// Why, for people.
    pub why: String,
    /// The champion's version, whoever it is.
    pub champion: Option<u64>,
    /// What the gate was shown.
    pub evidence: Verdict,
}

impl Trainer {
    /// Keeps a model, asks the gate, and takes it into service where it
    /// passes. Where a task's first model is worse than the task's baseline,
    /// the baseline becomes champion instead, and the model waits.
    ///
    /// # Errors
    /// Where the registry fails; the champion stays then.
    pub fn settle(
        &self,
        artifact: &Artifact,
        outcome: Outcome,
        by: By,
    ) -> Result<Decision, TrainError> {
        let (registry, task) = (self.registry(), &artifact.card.task);
        let Outcome { trial, baseline } = outcome;
        let gate = self.settings().gate;
        let verdict = gate.judge(&trial);
        let is_first = registry.champion(task)?.is_none();
        if let Some(baseline) = baseline.filter(|_| is_first && !verdict.passed) {
            let why = format!("{} is not: {}", artifact.card.model, verdict.reason());
            let version = registry.keep(&baseline, By { why: &why, ..by })?;
            let itself = models::registry::Trial {
                losses: trial.rival_losses.clone(),
                latency_p99_us: 0.0,
                size_bytes: 0,
                ..trial
            };
            registry.propose(task, version, &gate.judge(&itself), by.who)?;
        }
        let version = registry.keep(artifact, by)?;
        let Entry { what, why, aliases, .. } = registry.propose(task, version, &verdict, by.who)?;
        self.load_champion(task)?;
        Ok(Decision {
            version,
            promoted: what == What::Promoted,
            why,
            champion: aliases.champion.map(|slot| slot.version),
            evidence: verdict,
        })
    }
}
