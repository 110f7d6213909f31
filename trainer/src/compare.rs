//! Every task: its leaderboard, its champion, or why it does not apply.

use std::{collections::BTreeSet, path::PathBuf};

use feature_store::FrameQuery;
use models::{detect, zoo};
use serde::Serialize;
use telemetry::{SmolStr, ZoneId};

use crate::{
    anomaly,
    backtest::{self, Backtest, Entry, Sample},
    error::TrainError,
    frame::ZoneFrame,
    input::Input,
    report,
    rows::Rows,
    serve::Trainer,
    settings::Settings,
    split,
    tasks::{self, Task},
};

/// What to compare; nothing given means everything.
#[derive(Clone, Debug, Default)]
pub struct Request {
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
}

/// How far a comparison has come.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The task under way.
    pub task: String,
    /// What is done or being done in it.
    pub step: String,
    /// Tasks that are finished.
    pub tasks_done: usize,
    /// Tasks in all.
    pub tasks: usize,
}

/// What came of one task.
#[derive(Debug, Serialize)]
pub struct TaskResult {
    /// Its name.
    pub task: String,
    /// For people.
    pub title: String,
    /// Of predictions.
    pub unit: String,
    /// Why there is no leaderboard, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_applicable: Option<String>,
    /// Best on the test part first.
    pub leaderboard: Vec<Entry>,
    /// The champion's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub champion: Option<String>,
    /// Models that could not be fitted, and why.
    pub failed: Vec<(String, String)>,
    /// The champion's predictions on the test part.
    #[serde(skip)]
    pub sample: Sample,
}

/// What came of all tasks.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Names the run's folder.
    pub run_id: String,
    /// The run's folder.
    pub dir: PathBuf,
    /// In the order of [`tasks::NAMES`].
    pub tasks: Vec<TaskResult>,
}

impl Trainer {
    /// Compares models, keeps the best of each task as its champion, and
    /// writes the reports.
    ///
    /// # Errors
    /// [`TrainError`] where names are unknown or the feature store, the
    /// registry or the disk fails; a task that does not apply is no error.
    pub async fn compare(
        &self,
        request: &Request,
        observe: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Comparison, TrainError> {
        check(request)?;
        let columns = self.source().columns().await?;
        let names: Vec<&str> = tasks::NAMES
            .into_iter()
            .filter(|name| request.tasks.is_empty() || request.tasks.iter().any(|own| own == name))
            .collect();
        let observe = std::sync::Arc::new(observe);
        let mut results = Vec::new();
        for (tasks_done, name) in names.iter().enumerate() {
            let progress = Progress {
                task: (*name).to_owned(),
                step: "reading feature rows".to_owned(),
                tasks_done,
                tasks: names.len(),
            };
            observe(progress.clone());
            let frames = match query(name, &columns, request) {
                Ok(query) => {
                    let table = self.source().frame(&query).await?;
                    Ok(ZoneFrame::by_zone(&table)?)
                }
                Err(missing) => Err(missing),
            };
            let (settings, models) = (self.settings().clone(), request.models.clone());
            let (name, columns, heard) = ((*name).to_owned(), columns.clone(), observe.clone());
            let work = move || {
                let hear =
                    |step: &str| heard(Progress { step: step.to_owned(), ..progress.clone() });
                frames.and_then(|frames| run(&name, &columns, &frames, &models, &settings, &hear))
            };
            let done = tokio::task::spawn_blocking(work).await;
            let outcome = done.map_err(|error| TrainError::Source(error.to_string()))?;
            results.push(self.keep(names[tasks_done], outcome)?);
        }
        report::write(&self.settings().reports_dir, results)
    }

    /// Keeps a task's best model, and makes it champion.
    fn keep(
        &self,
        name: &str,
        outcome: Result<Backtest, String>,
    ) -> Result<TaskResult, TrainError> {
        let (title, unit) = facts(name);
        let mut result = TaskResult {
            task: name.to_owned(),
            title: title.to_owned(),
            unit: unit.to_owned(),
            not_applicable: None,
            leaderboard: Vec::new(),
            champion: None,
            failed: Vec::new(),
            sample: Sample::default(),
        };
        match outcome {
            Ok(backtest) => {
                let version = self.registry().keep(&backtest.champion)?;
                self.registry().promote(name, version)?;
                self.load_champion(name)?;
                result.champion = Some(backtest.champion.model);
                result.leaderboard = backtest.leaderboard;
                result.failed = backtest.failed;
                result.sample = backtest.sample;
            }
            Err(why) => result.not_applicable = Some(why),
        }
        Ok(result)
    }
}

/// A task's title and unit.
#[must_use]
pub fn facts(name: &str) -> (&'static str, &'static str) {
    let task = tasks::all().into_iter().find(|task| task.name() == name);
    task.map_or((anomaly::TITLE, anomaly::UNIT), |task| (task.title(), task.unit()))
}

fn check(request: &Request) -> Result<(), TrainError> {
    if let Some(task) = request.tasks.iter().find(|task| !tasks::NAMES.contains(&task.as_str())) {
        return Err(TrainError::UnknownTask(task.clone()));
    }
    let known: Vec<&str> = zoo::regressors()
        .iter()
        .map(|own| own.name())
        .chain(detect::detectors().iter().map(|own| own.name()))
        .collect();
    match request.models.iter().find(|model| !known.contains(&model.as_str())) {
        Some(model) => Err(TrainError::UnknownModel(model.clone(), known.join(", "))),
        None => Ok(()),
    }
}

/// The columns that a task needs, or which metric is not there.
fn query(name: &str, columns: &BTreeSet<SmolStr>, request: &Request) -> Result<FrameQuery, String> {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut step_s = None;
    if let Some(task) = tasks::all().into_iter().find(|task| task.name() == name) {
        let has = |metric: &&&str| columns.contains(format!("{metric}_last").as_str());
        if let Some(metric) = task.metrics().iter().find(|metric| !has(metric)) {
            return Err(format!("no {metric} in these zones"));
        }
        for input in task.inputs(columns) {
            wanted.extend(Input::parse(&input).columns().into_iter().map(str::to_owned));
        }
        wanted.extend(task.target_columns().iter().map(|column| (*column).to_owned()));
        wanted.extend(task.anchor().map(str::to_owned));
        wanted.retain(|column| columns.contains(column.as_str()));
        step_s = Some(60);
    } else {
        let own = columns.iter().filter(|c| c.ends_with("_last") || c.ends_with("_age_s"));
        wanted.extend(own.map(ToString::to_string));
    }
    Ok(FrameQuery {
        zones: (!request.zones.is_empty()).then(|| request.zones.clone()),
        from_ms: request.from_ms,
        to_ms: request.to_ms,
        columns: Some(wanted.into_iter().collect()),
        step_s,
    })
}

fn run(
    name: &str,
    columns: &BTreeSet<SmolStr>,
    frames: &[ZoneFrame],
    models: &[String],
    settings: &Settings,
    hear: &(dyn Fn(&str) + Sync),
) -> Result<Backtest, String> {
    let wanted = |name: &str| models.is_empty() || models.iter().any(|own| own == name);
    let Some(task) = tasks::all().into_iter().find(|task| task.name() == name) else {
        let detectors: Vec<_> =
            detect::minutes::detectors().into_iter().filter(|d| wanted(d.name())).collect();
        return anomaly::run(frames, &detectors, settings, hear);
    };
    let frames: Vec<ZoneFrame> =
        frames.iter().filter(|frame| applies(task.as_ref(), frame)).cloned().collect();
    let inputs = task.inputs(columns);
    let rows = Rows::of(task.as_ref(), &frames, &inputs, settings);
    let parts = split::parts(&rows, task.horizon_s(), &settings.split)?;
    let estimators: Vec<_> = zoo::regressors().into_iter().filter(|e| wanted(e.name())).collect();
    backtest::run(task.as_ref(), &parts, &estimators, settings, hear)
}

/// Whether a zone has the metrics that the task is about.
fn applies(task: &dyn Task, frame: &ZoneFrame) -> bool {
    task.metrics().iter().all(|metric| {
        let column = frame.column(&format!("{metric}_last"));
        column.is_some_and(|values| values.iter().any(|value| value.is_finite()))
    })
}
