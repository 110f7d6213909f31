use std::path::PathBuf;

use serde::Serialize;
use telemetry::ZoneId;

use crate::{
    backtest::ComparisonDepth,
    error::TrainError,
    fit_pool::FitLimits,
    folds::{FOLDS_MAX, FoldPlan},
    tasks,
};

/// What to compare, and how; nothing said means everything, as the settings
/// have it.
#[derive(Clone, Debug, Default)]
pub struct CompareRequest {
    /// Names of tasks.
    pub tasks: Vec<String>,
    /// Names of models; baselines are always there.
    pub models: Vec<String>,
    /// Zones.
    pub zones: Vec<ZoneId>,
    /// Event time, UTC ms, this and later.
    pub from_ms: Option<i64>,
    /// Event time, UTC ms, this and earlier.
    pub to_ms: Option<i64>,
    /// How time and zones are divided.
    pub plan: FoldPlan,
    /// Instead of the settings' seed.
    pub seed: Option<u64>,
    /// Of the machine.
    pub limits: FitLimits,
    /// How much is asked beside the leaderboard.
    pub depth: ComparisonDepth,
    /// Reports go here instead of to the settings' folder.
    pub out: Option<PathBuf>,
    /// Leaves the registry as it is.
    pub dry_run: bool,
    /// Who asks, for the registry's log, instead of `trainer compare`.
    pub who: Option<String>,
}

/// How far a comparison has come.
#[derive(Clone, Debug)]
pub struct CompareProgress {
    /// The task under way.
    pub task: String,
    /// What is done or being done in it.
    pub step: String,
    /// Tasks that are finished.
    pub tasks_done: usize,
    /// Tasks in all.
    pub tasks: usize,
    /// Steps of this task that are done: models of each fold, and what follows.
    pub steps_done: usize,
    /// Steps of this task in all; 0 before they are known.
    pub steps: usize,
}

impl CompareProgress {
    /// Of all tasks, 0 to 1.
    #[must_use]
    pub fn completed_share(&self) -> f64 {
        let of_task = self.steps_done as f64 / self.steps.max(1) as f64;
        (self.tasks_done as f64 + of_task) / self.tasks.max(1) as f64
    }
}

/// What was asked and with what, as it stands in `run.json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunDescription {
    /// Of this program.
    pub code_version: String,
    /// When it began, UTC ms.
    pub started_ms: i64,
    /// How long it took, seconds.
    pub took_s: f64,
    /// The same seed gives the same models.
    pub seed: u64,
    /// Models that are fitted at once.
    pub threads: usize,
    /// What models being fitted may take, MB.
    pub memory_mb: usize,
    /// From here on, UTC ms.
    pub from_ms: Option<i64>,
    /// Up to here, UTC ms.
    pub to_ms: Option<i64>,
    /// Only these models.
    pub models: Vec<String>,
    /// Only these zones.
    pub zones: Vec<ZoneId>,
    /// Judged and not learnt from.
    pub hold_out: Vec<ZoneId>,
    /// Test parts that follow one another.
    pub folds: usize,
}

impl CompareRequest {
    /// Refuses unknown names and numbers without meaning, before any work.
    ///
    /// # Errors
    /// Says which, and what there is.
    pub fn check(&self) -> Result<(), TrainError> {
        if let Some(task) = self.tasks.iter().find(|task| !tasks::NAMES.contains(&task.as_str())) {
            return Err(TrainError::UnknownTask(task.clone()));
        }
        let known = tasks::model_names();
        if let Some(model) = self.models.iter().find(|model| !known.contains(&model.as_str())) {
            return Err(TrainError::UnknownModel(model.clone(), known.join(", ")));
        }
        if self.plan.folds > FOLDS_MAX {
            let what = format!("{} folds, expected at most {FOLDS_MAX}", self.plan.folds);
            return Err(TrainError::Request(what));
        }
        if let (Some(from_ms), Some(to_ms)) = (self.from_ms, self.to_ms)
            && from_ms >= to_ms
        {
            let what = "--from is not before --to: no row can lie between".to_owned();
            return Err(TrainError::Request(what));
        }
        let outside = |zone: &&ZoneId| !self.zones.is_empty() && !self.zones.contains(zone);
        if let Some(zone) = self.plan.hold_out.iter().find(outside) {
            let what = format!("{zone} is to be held out and is not among the zones");
            return Err(TrainError::Request(what));
        }
        Ok(())
    }

    pub(super) fn describe_run(&self, seed: u64) -> RunDescription {
        RunDescription {
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: jiff::Timestamp::now().as_millisecond(),
            took_s: 0.0,
            seed,
            threads: self.limits.threads,
            memory_mb: self.limits.memory_bytes >> 20,
            from_ms: self.from_ms,
            to_ms: self.to_ms,
            models: self.models.clone(),
            zones: self.zones.clone(),
            hold_out: self.plan.hold_out.clone(),
            folds: self.plan.folds.max(1),
        }
    }
}
