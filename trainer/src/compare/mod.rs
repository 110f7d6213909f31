//! Comparison of every task: its leaderboard and champion, or why it does not apply.
//!
//! # Layout
//! - `request`: the tasks and models to compare, and the progress
//! - `query`: the feature columns that a task needs
//! - `condition`: conditions on which a build fails

mod condition;
mod query;
mod request;

use std::{cell::RefCell, collections::BTreeSet, path::PathBuf, sync::Arc, time::Instant};

use feature_api::RevisionMode;
use models::{
    detect,
    registry::{DecisionAuthor, GateVerdict},
};
use rayon::ThreadPool;
use serde::Serialize;
use telemetry::{SmolStr, ZoneId};

use crate::{
    anomaly,
    backtest::{
        self, Backtest, BacktestSetup, ComparisonFacts, LeaderboardEntry, PredictionSample,
        SelectedCandidate, details::ChampionDetails, leakage::LeakageReport,
    },
    error::TrainError,
    feature_frame::{ZoneFrame, ZoneViews},
    folds,
    gate::{GateDecision, RefusedCandidate, TrialOutcome, trial, trial::GateChoice, units},
    relevance::RelevanceReport,
    report,
    serve::{Champion, Trainer},
    settings::TrainerSettings,
    split::SplitSpans,
    tasks::{self, NotApplicable, PredictionTask},
    training_set::LabelledRows,
};
pub use condition::FailCondition;
use query::TaskQueries;
pub use request::{CompareProgress, CompareRequest, RunDescription};

/// Result of one task.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TaskResult {
    /// Name of the task.
    pub task: String,
    /// Title, for people.
    pub title: String,
    /// Unit of the predictions.
    pub unit: String,
    /// Reason why there is no leaderboard, if that is so.
    #[serde(flatten)]
    pub not_applicable: Option<NotApplicable>,
    /// Entries, best on the test set first.
    pub leaderboard: Vec<LeaderboardEntry>,
    /// Name of the model that was best on the calibration set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub champion: Option<String>,
    /// Decision of the gate on the champion, if it was submitted to the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<GateDecision>,
    /// Models that could not be fitted, with the reason.
    pub failed: Vec<(String, String)>,
    /// Reason why there are no intervals and no tests, if that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_intervals: Option<String>,
    /// Predictions of the champion on the test set.
    #[serde(skip)]
    pub sample: PredictionSample,
    /// Facts about the compared rows.
    pub facts: ComparisonFacts,
    /// Details of the champion.
    #[serde(skip)]
    pub details: Option<ChampionDetails>,
    /// Self-test for leakage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leakage: Option<LeakageReport>,
    /// Relevance of the inputs to the best model that is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relevance: Option<RelevanceReport>,
    /// Duration of the task, seconds.
    pub took_s: f64,
}

/// Results of all tasks.
#[derive(Debug, Default, Serialize)]
pub struct ModelComparison {
    /// Name of the run and of its folder.
    pub run_id: String,
    /// Folder of the run.
    pub dir: PathBuf,
    /// Description of the run: its request and its environment.
    pub run: RunDescription,
    /// Results in the order of [`tasks::NAMES`].
    pub tasks: Vec<TaskResult>,
}

impl TaskResult {
    /// Creates an empty result.
    pub(crate) fn empty_for_task(name: &str) -> Self {
        let (title, unit) = title_and_unit(name);
        Self {
            task: name.to_owned(),
            title: title.to_owned(),
            unit: unit.to_owned(),
            ..Self::default()
        }
    }

    /// Returns the champion's entry.
    #[must_use]
    pub fn champion_entry(&self) -> Option<&LeaderboardEntry> {
        let champion = self.champion.as_deref()?;
        self.leaderboard.iter().find(|entry| entry.model == champion)
    }

    /// Returns whether the best baseline makes no error on the test set, so that models cannot be
    /// told apart; for example, if nobody had to heat.
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        let best = self.baseline_entry();
        best.is_some_and(|entry| entry.metric != "pr_auc" && entry.value == 0.0)
    }

    /// Returns the best baseline's entry.
    #[must_use]
    pub fn baseline_entry(&self) -> Option<&LeaderboardEntry> {
        self.leaderboard.iter().find(|entry| entry.is_baseline)
    }
}

impl Trainer {
    /// Compares models, submits the best of each task to the registry, and writes the reports.
    ///
    /// # Errors
    /// Fails with a [`TrainError`] if names are unknown or if the feature store, the registry or
    /// the disk fails; a task that does not apply is no error.
    pub async fn compare_models(
        &self,
        request: &CompareRequest,
        observe: impl Fn(CompareProgress) + Send + Sync + 'static,
    ) -> Result<ModelComparison, TrainError> {
        request.check()?;
        let began = Instant::now();
        let mut settings = self.settings().clone();
        settings.seed = request.seed.unwrap_or(settings.seed);
        let settings = Arc::new(settings);
        let dir = request.out.clone().unwrap_or_else(|| settings.reports_dir.clone());
        let folder = report::ReportFolder::create_new(&dir)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(request.limits.threads).build();
        let pool = Arc::new(pool.map_err(|error| TrainError::Request(error.to_string()))?);
        let columns = Arc::new(self.source().feature_columns().await?);
        let names = tasks::select_tasks(&request.tasks);
        let observe = Arc::new(observe);
        let mut comparison = ModelComparison {
            run_id: folder.run_id.clone(),
            dir: folder.path.clone(),
            run: request.describe_run(settings.seed),
            tasks: Vec::new(),
        };
        for (tasks_done, name) in names.iter().enumerate() {
            let start = Instant::now();
            let progress = CompareProgress {
                task: (*name).to_owned(),
                step: "reading feature rows".to_owned(),
                tasks_done,
                tasks: names.len(),
                steps_done: 0,
                steps: 0,
                finished: None,
            };
            observe(progress.clone());
            let begun = progress.clone();
            // One that is refused is no rival; the one in service is.
            if let Err(error) = self.load_champion(name) {
                tracing::warn!(task = name, %error, "the champion is not compared with");
            }
            let champion = self.champion(name);
            let served: Vec<&str> =
                champion.as_ref().map_or_else(Vec::new, |own| own.source_columns().collect());
            let zones = match query::build_queries(name, &columns, &served, request) {
                Ok(queries) => Ok(self.read_zone_views(&queries).await?),
                Err(missing) => Err(NotApplicable::from(missing)),
            };
            let work = {
                let (settings, request, pool) = (settings.clone(), request.clone(), pool.clone());
                let (columns, observe) = (columns.clone(), observe.clone());
                let name = (*name).to_owned();
                move || {
                    let hear = |step: &str, steps_done: usize, steps: usize| {
                        let step = step.to_owned();
                        observe(CompareProgress { step, steps_done, steps, ..progress.clone() });
                    };
                    let champion = champion.as_deref();
                    let asked = TaskComparison {
                        columns: &columns,
                        request: &request,
                        pool: &pool,
                        champion,
                    };
                    zones.and_then(|zones| asked.compare_task(&name, zones, &settings, &hear))
                }
            };
            let done = tokio::task::spawn_blocking(work).await;
            let outcome = done.map_err(TrainError::Stopped)?;
            let mut result = self.record_result(name, outcome, &folder.run_id, request)?;
            result.took_s = start.elapsed().as_secs_f64();
            observe(CompareProgress {
                step: "finished".to_owned(),
                tasks_done: tasks_done + 1,
                finished: Some(Arc::new(result.clone())),
                ..begun
            });
            comparison.tasks.push(result);
        }
        comparison.run.took_s = began.elapsed().as_secs_f64();
        folder.write_reports(&comparison)?;
        Ok(comparison)
    }

    /// Reads the rows that a task is trained and evaluated on.
    async fn read_zone_views(&self, queries: &TaskQueries) -> Result<Vec<ZoneViews>, TrainError> {
        let as_known = self.source().read_frame(&queries.inputs, RevisionMode::AsKnown).await?;
        let Some(truths) = &queries.truths else {
            // What is learnt from what was known is judged by it, too.
            return ZoneViews::by_zone(&as_known, &as_known);
        };
        let came = self.source().read_frame(truths, RevisionMode::AsCorrected).await?;
        let mut zones = ZoneViews::by_zone(&as_known, &came)?;
        for zone in &mut zones {
            queries.earlier.iter().for_each(|name| zone.as_known.add_lag_column(name));
        }
        Ok(zones)
    }

    /// Builds the result of a task, and submits its best model to the registry.
    fn record_result(
        &self,
        name: &str,
        outcome: Result<ComparedTask, NotApplicable>,
        run_id: &str,
        request: &CompareRequest,
    ) -> Result<TaskResult, TrainError> {
        let mut result = TaskResult::empty_for_task(name);
        let ComparedTask { backtest, outcome, verdict, refused } = match outcome {
            Ok(done) => done,
            Err(why) => {
                if !request.dry_run {
                    self.set_not_applicable(name, Some(why.clone()));
                }
                result.not_applicable = Some(why);
                return Ok(result);
            }
        };
        result.champion = Some(backtest.champion.card.model.clone());
        result.leaderboard = backtest.leaderboard;
        if !request.dry_run {
            let who = request.who.as_deref().unwrap_or("trainer compare");
            let why = format!(
                "selected before the test set of run {run_id}, and fitted again on all rows"
            );
            self.set_not_applicable(name, None);
            let by = DecisionAuthor { who, why: &why };
            result.offered = Some(self.submit_with_verdict(
                &backtest.champion,
                outcome,
                verdict,
                refused,
                by,
            )?);
        }
        result.failed = backtest.failed;
        result.no_intervals = backtest.no_intervals;
        result.sample = backtest.sample;
        result.facts = backtest.facts;
        result.details = backtest.details;
        result.leakage = backtest.leakage;
        result.relevance = backtest.relevance;
        Ok(result)
    }
}

/// Returns a task's title and unit.
#[must_use]
pub fn title_and_unit(name: &str) -> (&'static str, &'static str) {
    let task = tasks::all_tasks().into_iter().find(|task| task.spec().name == name);
    task.map_or((anomaly::TASK_TITLE, anomaly::TASK_UNIT), |task| {
        (task.spec().title, task.spec().unit)
    })
}

/// Inputs that all tasks of a comparison share.
struct TaskComparison<'a> {
    columns: &'a BTreeSet<SmolStr>,
    request: &'a CompareRequest,
    pool: &'a ThreadPool,
    champion: Option<&'a Champion>,
}

impl TaskComparison<'_> {
    fn compare_task(
        &self,
        name: &str,
        zones: Vec<ZoneViews>,
        settings: &TrainerSettings,
        hear: &(dyn Fn(&str, usize, usize) + Sync),
    ) -> Result<ComparedTask, NotApplicable> {
        let Self { columns, request, pool, champion } = *self;
        let models = &request.models;
        let wanted = |name: &str| models.is_empty() || models.iter().any(|own| own == name);
        let Some(task) = tasks::all_tasks().into_iter().find(|task| task.spec().name == name)
        else {
            let detectors: Vec<_> = detect::sensor_faults::all_detectors()
                .into_iter()
                .filter(|d| wanted(d.name()))
                .collect();
            let frames: Vec<ZoneFrame> = zones.into_iter().map(|zone| zone.as_known).collect();
            let done = std::sync::atomic::AtomicUsize::new(0);
            let hear = |step: &str| {
                let done = 1 + done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                hear(step, done, detectors.len());
            };
            let plan = &request.plan;
            let mut backtest = pool.install(|| {
                anomaly::backtest_detectors(&frames, &detectors, plan, settings, &hear)
            })?;
            let span_ms = backtest.facts.folds.last().expect("there is a fold").spans.test;
            let own = &backtest.champion;
            let outcome = trial::run_detection_trial(&frames, span_ms, own, champion, settings)?;
            let verdict = settings.gate.judge_trial(&outcome.trial);
            if !request.dry_run {
                backtest.champion = pool.install(|| {
                    anomaly::refit_on_all_minutes(&frames, &detectors, backtest.champion, settings)
                })?;
            }
            return Ok(ComparedTask { backtest, outcome, verdict, refused: Vec::new() });
        };
        let zones: Vec<&ZoneViews> =
            zones.iter().filter(|zone| has_task_metrics(task.as_ref(), &zone.as_known)).collect();
        let inputs = task.input_names(columns);
        let rows = |is_wanted: &dyn Fn(&ZoneId) -> bool| {
            let own = zones.iter().copied().filter(|zone| is_wanted(zone.zone()));
            LabelledRows::from_zones(task.as_ref(), own, &inputs, settings)
        };
        let hold_out = &request.plan.hold_out;
        let (learnt, judged) = if hold_out.is_empty() {
            let all = rows(&|_| true);
            (all.clone(), all)
        } else {
            let is_held = |zone: &ZoneId| hold_out.contains(zone);
            if let Some(zone) = hold_out.iter().find(|z| !zones.iter().any(|own| own.zone() == *z))
            {
                return Err(format!("{zone}, which is held out, has no rows").into());
            }
            (rows(&|zone| !is_held(zone)), rows(&is_held))
        };
        let horizon_s = task.spec().horizon_s;
        let parts = folds::split_folds(&learnt, &judged, horizon_s, &settings.split, &request.plan)
            .map_err(|why| tasks::without_rows(task.as_ref(), &zones, why))?;
        tasks::check_target_varies(task.as_ref(), &parts, settings)?;
        let estimators: Vec<_> =
            task.estimators().into_iter().filter(|e| wanted(e.name())).collect();
        let last = parts.last().expect("there is a fold");
        let is_judged = |zone: &&ZoneViews| hold_out.is_empty() || hold_out.contains(zone.zone());
        let judged_zones: Vec<&ZoneViews> = zones.iter().copied().filter(is_judged).collect();
        let trials_of = |selected: &[SelectedCandidate]| {
            let (task, zones) = (task.as_ref(), judged_zones.as_slice());
            let rows = (&last.known, &last.test);
            trial::RegressionTrials::prepare(task, zones, rows, champion, selected, settings)
        };
        let choice: RefCell<Option<GateChoice>> = RefCell::new(None);
        let setup = BacktestSetup {
            settings,
            limits: request.limits,
            pool,
            depth: request.depth,
            observe: hear,
            choose: &|selected| {
                let trials = trials_of(selected)?;
                let found = trials.choose(selected);
                let kept = found.kept;
                choice.replace(Some(found));
                Ok(kept)
            },
        };
        let mut backtest = backtest::run_backtest(task.as_ref(), &parts, &estimators, &setup)?;
        let spans = last.spans;
        let card = &mut backtest.champion.card;
        card.facts.input_units = units::input_units(&inputs);
        card.facts.settings = training_settings(settings, spans);
        let GateChoice { trial, verdict, refused, .. } =
            choice.into_inner().ok_or_else(|| "the gate was not asked".to_owned())?;
        let baseline = match champion {
            Some(_) => None,
            None => {
                Some(trial::baseline_artifact_of(task.as_ref(), &backtest.champion, &last.test)?)
            }
        };
        if !request.dry_run {
            hear("fit on all rows", 1, 1);
            let artifact = backtest.champion;
            let all_ms = (i64::MIN, i64::MAX);
            let rows = learnt.rows_between(all_ms, settings.split.train_rows_max);
            let data = rows.to_dataset().map_err(|error| error.to_string())?;
            let trained_ms = (
                rows.at_ms.first().copied().unwrap_or_default(),
                rows.at_ms.last().copied().unwrap_or_default(),
            );
            let recipe = &backtest.selected[backtest.kept].recipe;
            backtest.champion = pool.install(|| {
                backtest::refit_on_all_rows(
                    artifact,
                    recipe,
                    &estimators,
                    &data,
                    trained_ms,
                    spans.test,
                )
            })?;
        }
        let outcome = TrialOutcome { trial, baseline };
        Ok(ComparedTask { backtest, outcome, verdict, refused })
    }
}

/// Result of a task that applies.
struct ComparedTask {
    backtest: Backtest,
    outcome: TrialOutcome,
    verdict: GateVerdict,
    refused: Vec<RefusedCandidate>,
}

/// Returns the settings that training depends on beside the rows, for the artifact.
fn training_settings(settings: &TrainerSettings, spans: SplitSpans) -> serde_json::Value {
    serde_json::json!({
        "split": settings.split,
        "interval_level": settings.interval.level,
        "comfort": settings.comfort,
        "zones": settings.zones,
        "calibration_ms": spans.calibration,
        "test_ms": spans.test,
    })
}

/// Returns whether a zone has the metrics that the task needs.
fn has_task_metrics(task: &dyn PredictionTask, frame: &ZoneFrame) -> bool {
    task.spec().metrics.iter().all(|metric| {
        let column = frame.column(&format!("{metric}_last"));
        column.is_some_and(|values| values.iter().any(|value| value.is_finite()))
    })
}
