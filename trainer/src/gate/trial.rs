//! Trial of two models on rows that neither was trained on.

use std::collections::HashMap;

use models::{
    ModelArtifact, Predictor,
    artifact::GoldenRows,
    metrics,
    registry::{ChampionTrial, GateVerdict, gate::NO_RIVAL},
    regressors::{column::ScaledColumn, constant::ConstantModel},
};
use ndarray::{Array1, Array2};
use serde::Serialize;
use telemetry::ZoneId;

use crate::{
    anomaly,
    backtest::{self, CandidateRecipe, SelectedCandidate, error_intervals::TimeGroups, latency},
    feature_frame::{ZoneFrame, ZoneViews},
    serve::Champion,
    settings::TrainerSettings,
    tasks::PredictionTask,
    training_set::LabelledRows,
};

/// Candidates that the gate is asked about before it keeps the baseline.
const ATTEMPTS_MAX: usize = 6;

/// Result of a trial.
#[derive(Debug)]
pub struct TrialOutcome {
    /// Losses of both models.
    pub trial: ChampionTrial,
    /// Baseline of the task as a model, if there is no champion yet.
    pub baseline: Option<ModelArtifact>,
}

/// The test rows of a comparison, and what its candidates have to beat on them: the
/// champion, or the baseline that was selected before them.
pub struct RegressionTrials<'a> {
    task: &'a dyn PredictionTask,
    settings: &'a TrainerSettings,
    /// All test rows of the last fold.
    rows: &'a LabelledRows,
    /// Those that candidates and rival are compared on.
    compared: Vec<usize>,
    clock: TimeGroups,
    champion: Option<&'a Champion>,
    rival: String,
    rival_losses: Vec<f64>,
    is_champion_asked: bool,
}

impl<'a> RegressionTrials<'a> {
    /// Prepares the trials of `selected` candidates, which were fitted on the `known` rows. A
    /// champion is asked itself where there are test rows enough that it was not trained on.
    /// Where there are not, as after a fit on all rows, its kind is compared as it is when
    /// it is fitted on the known rows. A blend that was not compared is asked on rows that
    /// it knows, which favours it.
    ///
    /// # Errors
    /// Says what cannot be compared.
    pub fn prepare(
        task: &'a dyn PredictionTask,
        zones: &[&ZoneViews],
        (known, rows): (&LabelledRows, &'a LabelledRows),
        champion: Option<&'a Champion>,
        selected: &[SelectedCandidate],
        settings: &'a TrainerSettings,
    ) -> Result<Self, String> {
        let embargo_ms = task.spec().horizon_s * 1000;
        let all: Vec<usize> = (0..rows.len()).collect();
        let clock_of = |compared: &[usize]| {
            let at_ms: Vec<i64> = compared.iter().map(|row| rows.at_ms[*row]).collect();
            TimeGroups::from_times(&at_ms, task.spec().horizon_s, settings.seed)
        };
        let Some(own) = champion else {
            // All of it, so that the table and the gate speak of the same rows.
            let is_baseline =
                |own: &&SelectedCandidate| matches!(own.recipe, CandidateRecipe::Baseline(_));
            let fallback = selected.iter().find(is_baseline).ok_or("no baseline was selected")?;
            return Ok(Self {
                task,
                settings,
                rows,
                clock: clock_of(&all),
                compared: all,
                champion,
                rival: fallback.model.clone(),
                rival_losses: fallback.losses.clone(),
                is_champion_asked: false,
            });
        };
        let seen_ms = own.artifact.card.trained_ms.1.saturating_add(embargo_ms);
        let fresh: Vec<usize> =
            all.iter().copied().filter(|row| rows.at_ms[*row] >= seen_ms).collect();
        let is_fresh = clock_of(&fresh).has_blocks();
        let name = own.artifact.card.model.as_str();
        let same_kind = selected.iter().find(|one| one.model == name);
        let of_kind = match same_kind {
            _ if is_fresh => None,
            Some(same_kind) => Some(same_kind.losses.clone()),
            None => losses_of_kind(task, name, known, rows, settings)?,
        };
        let (compared, rival_losses, is_champion_asked) = match of_kind {
            Some(losses) => (all, losses, false),
            None => {
                let compared = if is_fresh { fresh } else { all };
                let losses =
                    champion_losses(task, zones, own, &rows.select_rows(&compared), settings)?;
                (compared, losses, true)
            }
        };
        Ok(Self {
            task,
            settings,
            rows,
            clock: clock_of(&compared),
            compared,
            champion,
            rival: own.artifact.card.model.clone(),
            rival_losses,
            is_champion_asked,
        })
    }

    /// The losses of a candidate beside those of the rival.
    #[must_use]
    pub fn trial_of(&self, candidate: &SelectedCandidate) -> ChampionTrial {
        let losses: Vec<f64> = self.compared.iter().map(|row| candidate.losses[*row]).collect();
        let at_ms = |row: Option<&usize>| row.map_or(0, |row| self.rows.at_ms[*row]);
        ChampionTrial {
            against: self.champion.map(|own| own.version),
            rival: self.rival.clone(),
            loss_name: loss_name(self.task).to_owned(),
            span_ms: (at_ms(self.compared.first()), at_ms(self.compared.last())),
            rows: self.compared.len(),
            horizon: self.clock.horizon_times(),
            losses: self.clock.row_weighted_by_time(&losses),
            rival_losses: self.clock.row_weighted_by_time(&self.rival_losses),
            latency_p99_us: candidate.latency_p99_us,
            size_bytes: candidate.size_bytes,
        }
    }

    /// Tries the candidates in the order of the selection until one is accepted, the
    /// baseline last: a model that beats it is served wherever the gate accepts its gain.
    /// Returns the number of that candidate, or of the first where none is accepted, with
    /// the verdict on it and those that were refused before it.
    #[must_use]
    pub fn choose(&self, selected: &[SelectedCandidate]) -> GateChoice {
        let gate = self.settings.gate;
        let is_baseline = |own: usize| matches!(selected[own].recipe, CandidateRecipe::Baseline(_));
        // Where the rule of the simplest selected the baseline, any model needs proof.
        let first_attempt = if is_baseline(0) { 2 } else { 1 };
        let (baselines, models): (Vec<usize>, Vec<usize>) =
            (0..selected.len()).partition(|own| is_baseline(*own));
        let mut refused: Vec<(usize, GateVerdict)> = Vec::new();
        let tries = models.into_iter().take(ATTEMPTS_MAX).enumerate();
        for (number, own) in tries {
            let trial = self.trial_of(&selected[own]);
            let is_refit = self.is_champion_asked && self.rival == selected[own].model;
            let verdict = if is_refit {
                gate.judge_refit(&trial)
            } else {
                gate.judge_attempt(&trial, number + first_attempt)
            };
            if verdict.passed {
                return self.choice(selected, own, verdict, refused);
            }
            refused.push((own, verdict));
        }
        for own in baselines {
            let verdict = gate.judge_trial(&self.trial_of(&selected[own]));
            if verdict.passed {
                return self.choice(selected, own, verdict, refused);
            }
            refused.push((own, verdict));
        }
        let (own, verdict) = refused.remove(0);
        self.choice(selected, own, verdict, refused)
    }

    fn choice(
        &self,
        selected: &[SelectedCandidate],
        kept: usize,
        verdict: GateVerdict,
        refused: Vec<(usize, GateVerdict)>,
    ) -> GateChoice {
        let refused = refused
            .into_iter()
            .map(|(own, verdict)| RefusedCandidate {
                model: selected[own].model.clone(),
                why: verdict.reason(),
            })
            .collect();
        GateChoice { kept, trial: self.trial_of(&selected[kept]), verdict, refused }
    }
}

/// Decision of the gate on the candidates of a comparison.
#[derive(Clone, Debug)]
pub struct GateChoice {
    /// The number of the candidate that is kept.
    pub kept: usize,
    /// Its trial.
    pub trial: ChampionTrial,
    /// The verdict on it.
    pub verdict: GateVerdict,
    /// Those that were refused before it.
    pub refused: Vec<RefusedCandidate>,
}

/// A candidate that the gate refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedCandidate {
    /// Its name.
    pub model: String,
    /// Why.
    pub why: String,
}

/// The losses of a model of that name that is fitted on the known rows; none where there is
/// no such model.
fn losses_of_kind(
    task: &dyn PredictionTask,
    name: &str,
    known: &LabelledRows,
    rows: &LabelledRows,
    settings: &TrainerSettings,
) -> Result<Option<Vec<f64>>, String> {
    let text = |error: models::FitError| error.to_string();
    let data = known.to_dataset().map_err(text)?;
    let baseline = task.baselines().into_iter().find(|own| own.name == name);
    let estimator = task.estimators().into_iter().find(|own| own.name() == name);
    let fitted = match (baseline, estimator) {
        (Some(baseline), _) => backtest::build_baseline_model(&data.schema, &baseline)?,
        (None, Some(own)) => {
            models::fit_regressor(own.as_ref(), &data, settings.seed).map_err(text)?.0
        }
        (None, None) => return Ok(None),
    };
    let said = rows.to_levels(&fitted.predict(input_matrix(rows)?.view()), task.spec());
    let errors = prediction_errors(&said, rows);
    Ok(Some(errors.iter().map(|error| error_loss(task, *error)).collect()))
}

/// The losses of a champion on these rows, whose inputs may be others than its own.
fn champion_losses(
    task: &dyn PredictionTask,
    zones: &[&ZoneViews],
    champion: &Champion,
    rows: &LabelledRows,
    settings: &TrainerSettings,
) -> Result<Vec<f64>, String> {
    let card = &champion.artifact.card;
    let own = if card.schema == *rows.schema {
        rows.clone()
    } else {
        let all =
            LabelledRows::from_zones(task, zones.iter().copied(), &card.schema.features, settings);
        let number = |row: usize| (all.at_ms[row], &all.zone[row]);
        let numbers: HashMap<(i64, &ZoneId), usize> =
            (0..all.len()).map(|row| (number(row), row)).collect();
        let found = rows
            .at_ms
            .iter()
            .zip(&rows.zone)
            .map(|(at_ms, zone)| numbers.get(&(*at_ms, zone)).copied());
        let found: Option<Vec<usize>> = found.collect();
        all.select_rows(&found.ok_or("the champion's inputs are not those of these rows")?)
    };
    let said = own
        .to_levels(&champion.artifact.predictor.predict(input_matrix(&own)?.view()), task.spec());
    Ok(prediction_errors(&said, &own).iter().map(|error| error_loss(task, *error)).collect())
}

/// The baseline of `artifact`'s serving as a model of its own, where there is no champion
/// yet.
///
/// # Errors
/// Where the artifact says nothing of serving.
pub fn baseline_artifact_of(
    task: &dyn PredictionTask,
    artifact: &ModelArtifact,
    rows: &LabelledRows,
) -> Result<ModelArtifact, String> {
    let serving: backtest::RegressionServing =
        serde_json::from_value(artifact.card.serving.clone())
            .map_err(|error| format!("the model says nothing of serving: {error}"))?;
    baseline_artifact(task, artifact, &serving, rows)
}

/// Runs the same trial for detectors, on the minutes of `span_ms`. Detectors have no baseline: a
/// first one is accepted.
///
/// # Errors
/// Fails with the reason why they cannot be compared.
pub fn run_detection_trial(
    frames: &[ZoneFrame],
    span_ms: (i64, i64),
    artifact: &ModelArtifact,
    champion: Option<&Champion>,
    settings: &TrainerSettings,
) -> Result<TrialOutcome, String> {
    let serving = |artifact: &ModelArtifact| -> Result<anomaly::AnomalyServing, String> {
        serde_json::from_value(artifact.card.serving.clone())
            .map_err(|error| format!("a model says nothing of serving: {error}"))
    };
    let own = serving(artifact)?;
    let rival = champion.map_or(artifact, |champion| &champion.artifact);
    let seen_ms = champion.map_or(i64::MIN / 2, |own| own.artifact.card.trained_ms.1);
    let losses = anomaly::trial::compare_losses(
        frames,
        (&own, &artifact.predictor),
        (&serving(rival)?, &rival.predictor),
        span_ms,
        seen_ms,
        settings.seed,
    )?;
    let clock = TimeGroups::from_times(&losses.at_ms, anomaly::HISTORY_S, settings.seed);
    let trial = ChampionTrial {
        against: champion.map(|own| own.version),
        rival: champion.map_or(NO_RIVAL, |own| &own.artifact.card.model).to_owned(),
        loss_name: "alarm error".to_owned(),
        span_ms: (
            losses.at_ms.first().copied().unwrap_or_default(),
            losses.at_ms.last().copied().unwrap_or_default(),
        ),
        rows: losses.at_ms.len(),
        horizon: clock.horizon_times(),
        losses: clock.row_weighted_by_time(&losses.own),
        rival_losses: clock.row_weighted_by_time(&losses.rival),
        latency_p99_us: latency::measure_latency(&artifact.predictor, losses.x.view()).p99_us,
        size_bytes: artifact.to_bytes().map_err(|error| error.to_string())?.len(),
    };
    Ok(TrialOutcome { trial, baseline: None })
}

fn prediction_errors(said: &Array1<f64>, rows: &LabelledRows) -> Vec<f64> {
    (said - &rows.actual_values()).to_vec()
}

fn error_loss(task: &dyn PredictionTask, error: f64) -> f64 {
    if task.spec().metric == "mae" { error.abs() } else { error * error }
}

fn loss_name(task: &dyn PredictionTask) -> &'static str {
    if task.spec().metric == "mae" { "absolute error" } else { "squared error" }
}

fn input_matrix(rows: &LabelledRows) -> Result<Array2<f64>, String> {
    rows.to_dataset().map(|data| data.x).map_err(|error| error.to_string())
}

/// Builds the task's baseline as a model. It needs no training, so that held-out rows may determine
/// the width of its interval.
fn baseline_artifact(
    task: &dyn PredictionTask,
    artifact: &ModelArtifact,
    serving: &backtest::RegressionServing,
    rows: &LabelledRows,
) -> Result<ModelArtifact, String> {
    let (input, factor) = &serving.baseline;
    let fitted = match input {
        Some(input) => ScaledColumn::from_schema(&artifact.card.schema, input, *factor, 0.0)
            .map_err(|error| error.to_string())?,
        None => models::FittedRegressor::Constant(ConstantModel { value: 0.0 }),
    };
    let named = task.baselines().into_iter().find(|own| {
        own.input.map(str::to_owned) == *input && (own.input.is_none() || own.factor == *factor)
    });
    let predictor = Predictor::Regressor(fitted);
    let x = input_matrix(rows)?;
    let said = rows.to_levels(&predictor.predict(x.view()), task.spec());
    let errors: Vec<f64> = prediction_errors(&said, rows).iter().map(|error| error.abs()).collect();
    let serving = backtest::RegressionServing {
        half_width: metrics::conformal_quantile(&errors, serving.level),
        widths: None,
        ..serving.clone()
    };
    let losses: Vec<f64> = errors.iter().map(|error| error_loss(task, *error)).collect();
    let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    let value = if task.spec().metric == "rmse" { mean.sqrt() } else { mean };
    let mut card = artifact.card.clone();
    named.map_or("baseline", |own| own.name).clone_into(&mut card.model);
    card.rows = 0;
    card.facts.evaluated = None;
    card.metrics = [task.spec().metric.to_owned(), format!("{}_baseline", task.spec().metric)]
        .map(|name| (name, value))
        .into();
    card.serving = serde_json::to_value(&serving).map_err(|error| error.to_string())?;
    Ok(ModelArtifact { golden: GoldenRows::from_predictor(&predictor, x.view()), card, predictor })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks;

    fn candidate(model: &str, loss: impl Fn(usize) -> f64, is_baseline: bool) -> SelectedCandidate {
        let baseline = tasks::all_tasks()[0].baselines().remove(0);
        SelectedCandidate {
            model: model.to_owned(),
            recipe: if is_baseline {
                CandidateRecipe::Baseline(baseline)
            } else {
                CandidateRecipe::Estimator
            },
            losses: (0..ROWS).map(loss).collect(),
            errors: vec![0.0; ROWS],
            latency_p99_us: 1.0,
            size_bytes: 1000,
            rows: 100,
        }
    }

    const ROWS: usize = 800;

    /// Each candidate is its name and by how much its loss is below the baseline's.
    fn check(selected: &[(&str, f64)], expect: &str, passes: bool, refused: &[&str]) {
        let rows = crate::backtest::fixture::room_rows(false);
        let rows = rows.select_rows(&(0..ROWS).collect::<Vec<_>>());
        let settings = TrainerSettings::default();
        let task = crate::backtest::fixture::temperature_task();
        let noise = |row: usize, of: usize| (row * 7919 % of) as f64 / of as f64 - 0.5;
        let selected: Vec<SelectedCandidate> = selected
            .iter()
            .enumerate()
            .map(|(number, (model, better))| {
                let is_baseline = *model == "line";
                let own = move |row| if is_baseline { 0.0 } else { noise(row, 89 + 2 * number) };
                candidate(model, move |row| 2.0 - better + own(row) + noise(row, 101), is_baseline)
            })
            .collect();
        let trials = RegressionTrials::prepare(
            task.as_ref(),
            &[],
            (&rows, &rows),
            None,
            &selected,
            &settings,
        )
        .unwrap();
        let found = trials.choose(&selected);
        assert_eq!(selected[found.kept].model, expect, "{found:?}");
        assert_eq!(found.verdict.passed, passes, "{found:?}");
        let names: Vec<&str> = found.refused.iter().map(|own| own.model.as_str()).collect();
        assert_eq!(names, refused, "{found:?}");
    }

    #[test]
    fn candidates_are_tried_until_one_is_accepted() {
        check(&[("a", 0.5), ("b", 0.9), ("line", 0.0)], "a", true, &[]);
        // The first is worse than the baseline, and the next is served in its place.
        check(&[("a", -0.5), ("b", 0.5), ("line", 0.0)], "b", true, &["a"]);
        // A gain that may be chance is no gain once another was tried before it.
        check(&[("a", -0.5), ("b", 0.001), ("line", 0.0)], "line", true, &["a", "b"]);
        check(&[("a", -0.5), ("line", 0.0), ("b", 0.5)], "b", true, &["a"]);
        // The rule selected the baseline; a model that is better beyond chance is served.
        check(&[("line", 0.0), ("a", 0.5)], "a", true, &[]);
        check(&[("line", 0.0), ("a", 0.001)], "line", true, &["a"]);
    }
}
