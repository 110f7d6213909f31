//! Fits a task's models on its first part, chooses on the second, judges on
//! the third.

use std::{collections::BTreeMap, time::Instant};

use models::{
    Artifact, Card, Dataset, Estimator, Facts, Fitted, Predictor, Schema, artifact::Golden, fit,
    metrics, zoo,
};
use ndarray::{Array1, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    rows::Rows,
    settings::Settings,
    split::Parts,
    tasks::{Baseline, Task},
};

/// One line of a leaderboard.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The model's name.
    pub model: String,
    /// What `value` is: `rmse`, `mae` or `pr_auc`.
    pub metric: &'static str,
    /// On the test part.
    pub value: f64,
    /// The best baseline's.
    pub baseline_value: f64,
    /// Share of the baseline's error that it avoids; for `pr_auc`, of what the
    /// baseline lacks.
    pub skill: f64,
    /// Whether it is a baseline itself.
    pub is_baseline: bool,
    /// Share of the test part's truths within the interval.
    pub coverage: Option<f64>,
    /// To fit, seconds.
    pub fit_s: f64,
    /// To predict one row, microseconds.
    pub predict_us: f64,
    /// Of the written model, bytes.
    pub size_bytes: usize,
    /// Rows that it was fitted on.
    pub rows: usize,
}

/// Some predictions beside what came, for pictures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    /// Event time, UTC ms.
    pub at_ms: Vec<i64>,
    /// What came.
    pub truth: Vec<f64>,
    /// What was said.
    pub predicted: Vec<f64>,
}

/// What came of a task.
#[derive(Debug)]
pub struct Backtest {
    /// Best on the test part first.
    pub leaderboard: Vec<Entry>,
    /// Models that could not be fitted, and why.
    pub failed: Vec<(String, String)>,
    /// The one that was best on the calibration part.
    pub champion: Artifact,
    /// Its predictions on the test part.
    pub sample: Sample,
}

/// What serving keeps with a regression model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Serving {
    /// Half the width of the interval, in the task's unit.
    pub half_width: Option<f64>,
    /// The share of truths that the interval is to cover.
    pub level: f64,
    /// The best baseline's input and factor.
    pub baseline: (Option<String>, f64),
}

/// A model that was fitted, and what it says.
struct Candidate {
    name: String,
    predictor: Predictor,
    baseline: Option<Baseline>,
    rows: usize,
    fit_s: f64,
    predict_us: f64,
    size_bytes: usize,
    /// Error on the calibration part.
    chosen_by: f64,
    half_width: Option<f64>,
    /// Levels on the test part.
    said: Array1<f64>,
}

/// Points in a report's pictures.
const SAMPLE_POINTS: usize = 600;

/// Fits and compares; `observe` hears the name of each model that is done.
///
/// # Errors
/// Says why not even a baseline could be computed.
pub fn run(
    task: &dyn Task,
    parts: &Parts,
    estimators: &[Box<dyn Estimator>],
    settings: &Settings,
    observe: &(dyn Fn(&str) + Sync),
) -> Result<Backtest, String> {
    let train = parts.train.dataset().map_err(|error| error.to_string())?;
    let inputs = Inputs { task, parts, settings, train: &train };
    let mut candidates = Vec::new();
    let mut failed = Vec::new();
    for baseline in task.baselines() {
        match baseline_model(&train.schema, &baseline) {
            Ok(fitted) => candidates.push(inputs.judge(
                baseline.name,
                fitted,
                Some(baseline.clone()),
                0,
                0.0,
            )?),
            Err(error) => failed.push((baseline.name.to_owned(), error)),
        }
    }
    if candidates.is_empty() {
        return Err(format!("no baseline: {failed:?}"));
    }
    let fitted: Vec<Result<Candidate, (String, String)>> = estimators
        .par_iter()
        .map(|estimator| {
            let start = Instant::now();
            let name = estimator.name();
            let fail = |error: String| (name.to_owned(), error);
            let (fitted, rows) = fit(estimator.as_ref(), &train, settings.seed)
                .map_err(|error| fail(error.to_string()))?;
            let judged = inputs.judge(name, fitted, None, rows, start.elapsed().as_secs_f64());
            observe(name);
            judged.map_err(fail)
        })
        .collect();
    for result in fitted {
        match result {
            Ok(candidate) => candidates.push(candidate),
            Err(failure) => failed.push(failure),
        }
    }
    Ok(inputs.compare(candidates, failed))
}

fn baseline_model(schema: &Schema, baseline: &Baseline) -> Result<Fitted, String> {
    match baseline.input {
        Some(input) => zoo::column::Column::of(schema, input, baseline.factor, 0.0)
            .map_err(|error| error.to_string()),
        None => Ok(Fitted::Constant(zoo::constant::Constant { value: 0.0 })),
    }
}

/// Everything that candidates are judged by.
struct Inputs<'a> {
    task: &'a dyn Task,
    parts: &'a Parts,
    settings: &'a Settings,
    train: &'a Dataset,
}

impl Inputs<'_> {
    fn levels(&self, fitted: &Predictor, rows: &Rows) -> Result<Array1<f64>, String> {
        let data = rows.dataset().map_err(|error| error.to_string())?;
        let levels = rows.levels(&fitted.predict(data.x.view()), self.task.bounds());
        if levels.iter().all(|level| level.is_finite()) {
            Ok(levels)
        } else {
            Err("it says what is not a number".to_owned())
        }
    }

    fn error(&self, said: &Array1<f64>, rows: &Rows) -> f64 {
        match self.task.metric() {
            "mae" => metrics::mae(said.view(), rows.truth().view()),
            _ => metrics::rmse(said.view(), rows.truth().view()),
        }
    }

    fn judge(
        &self,
        name: &str,
        fitted: Fitted,
        baseline: Option<Baseline>,
        rows: usize,
        fit_s: f64,
    ) -> Result<Candidate, String> {
        let Parts { calibration, test, .. } = self.parts;
        let predictor = Predictor::Regressor(fitted);
        let calibrated = self.levels(&predictor, calibration)?;
        let truth = calibration.truth();
        let errors: Vec<f64> = (&calibrated - &truth).iter().map(|error| error.abs()).collect();
        let said = self.levels(&predictor, test)?;
        let size_bytes = serde_json::to_vec(&predictor).map_err(|error| error.to_string())?.len();
        let predict_us = self.predict_us(&predictor);
        Ok(Candidate {
            name: name.to_owned(),
            chosen_by: self.error(&calibrated, calibration),
            half_width: metrics::conformal_quantile(&errors, self.settings.interval.level),
            predictor,
            baseline,
            rows,
            fit_s,
            predict_us,
            size_bytes,
            said,
        })
    }

    /// The median time of a prediction of one row, as in serving.
    fn predict_us(&self, predictor: &Predictor) -> f64 {
        let mut took: Vec<f64> = (0..self.train.rows().min(25))
            .map(|row| {
                let x = self.train.x.select(Axis(0), &[row]);
                let start = Instant::now();
                std::hint::black_box(predictor.predict(x.view()));
                start.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        took.sort_unstable_by(f64::total_cmp);
        took.get(took.len() / 2).copied().unwrap_or_default()
    }

    fn compare(&self, candidates: Vec<Candidate>, failed: Vec<(String, String)>) -> Backtest {
        let test = &self.parts.test;
        let truth = test.truth();
        let baselines = candidates.iter().filter(|c| c.baseline.is_some());
        let baseline = baselines
            .min_by(|a, b| self.error(&a.said, test).total_cmp(&self.error(&b.said, test)))
            .expect("there is a baseline");
        let baseline_value = self.error(&baseline.said, test);
        let served = baseline.baseline.clone().expect("it is a baseline");
        let mut leaderboard: Vec<Entry> = candidates
            .iter()
            .map(|candidate| {
                let value = self.error(&candidate.said, test);
                Entry {
                    model: candidate.name.clone(),
                    metric: self.task.metric(),
                    value,
                    baseline_value,
                    skill: skill(value, baseline_value),
                    is_baseline: candidate.baseline.is_some(),
                    coverage: candidate.half_width.map(|half_width| {
                        metrics::coverage(candidate.said.view(), truth.view(), half_width)
                    }),
                    fit_s: candidate.fit_s,
                    predict_us: candidate.predict_us,
                    size_bytes: candidate.size_bytes,
                    rows: candidate.rows,
                }
            })
            .collect();
        leaderboard.sort_by(|a, b| a.value.total_cmp(&b.value));
        // Chosen on the calibration part, so that its error on the test part
        // is not one that it was chosen for.
        let best = candidates
            .into_iter()
            .min_by(|a, b| a.chosen_by.total_cmp(&b.chosen_by))
            .expect("there is a baseline");
        let sample = sample(test, &truth, &best.said);
        let serving = Serving {
            half_width: best.half_width,
            level: self.settings.interval.level,
            baseline: (served.input.map(str::to_owned), served.factor),
        };
        let own = leaderboard.iter().find(|entry| entry.model == best.name);
        let of_test = own.map_or(f64::NAN, |entry| entry.value);
        let card = Card {
            task: self.task.name().to_owned(),
            model: best.name,
            schema: self.train.schema.as_ref().clone(),
            unit: self.task.unit().to_owned(),
            trained_ms: self.parts.spans.train,
            rows: best.rows,
            seed: self.settings.seed,
            metrics: BTreeMap::from([
                (self.task.metric().to_owned(), of_test),
                (format!("{}_baseline", self.task.metric()), baseline_value),
            ]),
            code_version: env!("CARGO_PKG_VERSION").to_owned(),
            serving: serde_json::to_value(&serving).expect("serving facts have a JSON form"),
            facts: Facts::of(self.train.x.view(), Some(self.train.y.view())),
        };
        let golden = Golden::of(&best.predictor, self.train.x.view());
        let champion = Artifact { card, golden, predictor: best.predictor };
        Backtest { leaderboard, failed, champion, sample }
    }
}

/// The share of the baseline's error that a model avoids; 0 where there is
/// none to avoid.
fn skill(value: f64, baseline_value: f64) -> f64 {
    if baseline_value > 0.0 { 1.0 - value / baseline_value } else { 0.0 }
}

fn sample(test: &Rows, truth: &Array1<f64>, said: &Array1<f64>) -> Sample {
    let kept = test.len().min(SAMPLE_POINTS);
    let picked: Vec<usize> = (0..kept).map(|i| i * test.len() / kept).collect();
    Sample {
        at_ms: picked.iter().map(|i| test.at_ms[*i]).collect(),
        truth: picked.iter().map(|i| truth[*i]).collect(),
        predicted: picked.iter().map(|i| said[*i]).collect(),
    }
}
