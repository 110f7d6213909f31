use std::{path::PathBuf, sync::Arc};

use serde::Serialize;
use telemetry::ZoneId;

use super::TaskResult;
use crate::{
    backtest::ComparisonDepth,
    error::TrainError,
    fit_pool::FitLimits,
    folds::{FOLDS_MAX, FoldPlan},
    tasks,
};

/// Tasks and models to compare, and how. Empty fields mean everything, with the settings' values.
#[derive(Clone, Debug, Default)]
pub struct CompareRequest {
    /// Names of tasks.
    pub tasks: Vec<String>,
    /// Names of models; baselines are always there.
    pub models: Vec<String>,
    /// Zones to read.
    pub zones: Vec<ZoneId>,
    /// First event time to read, UTC ms, inclusive.
    pub from_ms: Option<i64>,
    /// Last event time to read, UTC ms, inclusive.
    pub to_ms: Option<i64>,
    /// Division of time and zones.
    pub plan: FoldPlan,
    /// Seed that replaces the settings' seed.
    pub seed: Option<u64>,
    /// Limits of the machine's threads and memory.
    pub limits: FitLimits,
    /// Extent of the analysis beside the leaderboard.
    pub depth: ComparisonDepth,
    /// Folder of the reports that replaces the settings' folder.
    pub out: Option<PathBuf>,
    /// Whether the registry stays unchanged.
    pub dry_run: bool,
    /// Author in the registry's log; `trainer compare` if `None`.
    pub who: Option<String>,
}

/// Progress of a comparison.
#[derive(Clone, Debug)]
pub struct CompareProgress {
    /// Current task.
    pub task: String,
    /// Current step of the task.
    pub step: String,
    /// Number of finished tasks.
    pub tasks_done: usize,
    /// Number of all tasks.
    pub tasks: usize,
    /// Number of finished steps of the task: models of each fold, and the analyses that follow.
    pub steps_done: usize,
    /// Number of all steps of the task; 0 before it is known.
    pub steps: usize,
    /// Result of the task, once it is finished and its champion is served.
    pub finished: Option<Arc<TaskResult>>,
}

impl CompareProgress {
    /// Returns the completed share of all tasks, 0 to 1.
    #[must_use]
    pub fn completed_share(&self) -> f64 {
        let of_task = self.steps_done as f64 / self.steps.max(1) as f64;
        (self.tasks_done as f64 + of_task) / self.tasks.max(1) as f64
    }
}

/// Description of a run in `run.json`: its request and its environment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunDescription {
    /// Version of the program.
    pub code_version: String,
    /// Start of the run, UTC ms.
    pub started_ms: i64,
    /// Duration of the run, seconds.
    pub took_s: f64,
    /// Seed of the random numbers; the same seed gives the same models.
    pub seed: u64,
    /// Number of models that are fitted at once.
    pub threads: usize,
    /// Memory that the models being fitted may use, MB.
    pub memory_mb: usize,
    /// First event time, UTC ms.
    pub from_ms: Option<i64>,
    /// Last event time, UTC ms.
    pub to_ms: Option<i64>,
    /// Names of the compared models; empty for all.
    pub models: Vec<String>,
    /// Zones of the comparison; empty for all.
    pub zones: Vec<ZoneId>,
    /// Zones that are in the test set and not in the training set.
    pub hold_out: Vec<ZoneId>,
    /// Number of folds.
    pub folds: usize,
}

impl CompareRequest {
    /// Refuses unknown names and invalid numbers before any work.
    ///
    /// # Errors
    /// Fails with the refused value and the allowed ones.
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
