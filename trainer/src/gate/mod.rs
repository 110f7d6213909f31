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
    ModelArtifact,
    registry::{DecisionAuthor, DecisionKind, DecisionRecord, GateVerdict},
};
use serde::Serialize;

use crate::{error::TrainError, serve::Trainer};
pub use trial::{RefusedCandidate, TrialOutcome};

/// What became of a model that was trained.
#[derive(Clone, Debug, Serialize)]
pub struct GateDecision {
    /// Its version in the registry.
    pub version: u64,
    /// Whether it is champion now; else it is challenger.
    pub promoted: bool,
    /// Why, for people.
    pub why: String,
    /// The champion's version, whoever it is.
    pub champion: Option<u64>,
    /// What the gate was shown.
    pub evidence: GateVerdict,
    /// Candidates that were selected before it, and refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedCandidate>,
}

impl Trainer {
    /// Keeps a model, asks the gate, and takes it into service where it
    /// passes. Where a task's first model is worse than the task's baseline,
    /// the baseline becomes champion instead, and the model waits.
    ///
    /// # Errors
    /// Where the registry fails; the champion stays then.
    pub fn submit_to_gate(
        &self,
        artifact: &ModelArtifact,
        outcome: TrialOutcome,
        by: DecisionAuthor,
    ) -> Result<GateDecision, TrainError> {
        let verdict = self.settings().gate.judge_trial(&outcome.trial);
        self.submit_with_verdict(artifact, outcome, verdict, Vec::new(), by)
    }

    /// The same where the gate has been asked already, about this candidate and about
    /// those that were `refused` before it.
    ///
    /// # Errors
    /// As [`Trainer::submit_to_gate`].
    pub fn submit_with_verdict(
        &self,
        artifact: &ModelArtifact,
        outcome: TrialOutcome,
        verdict: GateVerdict,
        refused: Vec<RefusedCandidate>,
        by: DecisionAuthor,
    ) -> Result<GateDecision, TrainError> {
        let (registry, task) = (self.registry(), &artifact.card.task);
        let TrialOutcome { trial, baseline } = outcome;
        let gate = self.settings().gate;
        let is_first = registry.champion_version(task)?.is_none();
        if let Some(baseline) = baseline.filter(|_| is_first && !verdict.passed) {
            let why = format!("{} is not: {}", artifact.card.model, verdict.reason());
            let version = registry.add_version(&baseline, DecisionAuthor { why: &why, ..by })?;
            let itself = models::registry::ChampionTrial {
                losses: trial.rival_losses.clone(),
                latency_p99_us: 0.0,
                size_bytes: 0,
                ..trial
            };
            registry.propose_version(task, version, &gate.judge_trial(&itself), by.who)?;
        }
        let version = registry.add_version(artifact, by)?;
        let DecisionRecord { what, why, aliases, .. } =
            registry.propose_version(task, version, &verdict, by.who)?;
        self.load_champion(task)?;
        Ok(GateDecision {
            version,
            promoted: what == DecisionKind::Promoted,
            why,
            champion: aliases.champion.map(|slot| slot.version),
            evidence: verdict,
            refused,
        })
    }
}
