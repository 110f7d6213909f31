//! Gate: evaluates a model and its rival on the same held-out rows before the model is served.
//!
//! # Layout
//! - [`trial`]: both models on rows that neither was trained on
//! - `units`: units of inputs, for the artifact's signature
//! - this file: stores the model, evaluates it, and promotes or holds it

pub mod trial;
pub(crate) mod units;

use models::{
    ModelArtifact,
    registry::{DecisionAuthor, DecisionKind, DecisionRecord, GateVerdict},
};
use serde::Serialize;

use crate::{error::TrainError, serve::Trainer};
pub use trial::{RefusedCandidate, TrialOutcome};

/// Decision of the gate on a trained model.
#[derive(Clone, Debug, Serialize)]
pub struct GateDecision {
    /// Version of the model in the registry.
    pub version: u64,
    /// Whether the model is now champion; otherwise it is challenger.
    pub promoted: bool,
    /// Reason, for people.
    pub why: String,
    /// Version of the present champion, whichever model it is.
    pub champion: Option<u64>,
    /// Verdict of the gate.
    pub evidence: GateVerdict,
    /// Candidates that were selected before it, and refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedCandidate>,
}

impl Trainer {
    /// Stores a model, evaluates it by the gate, and takes it into service if it passes. If a
    /// task's first model is worse than the task's baseline, the baseline becomes champion and the
    /// model challenger.
    ///
    /// # Errors
    /// Fails if the registry fails; the champion then stays.
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
