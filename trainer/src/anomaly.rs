//! The task without a target: how unusual a metric behaves.
//!
//! Each metric of a zone is a series of minutes. A minute's six inputs are
//! made from it and the six hours before: residual against the median of 15
//! minutes, step, spread, drift, minutes without change, minutes without a
//! reading. Detectors learn them from the training part as it came; the other
//! parts are judged on copies with faults put in, so that labels are known.

mod fault;
mod inputs;
pub(crate) mod trial;

use std::{collections::BTreeMap, time::Instant};

use models::{
    Artifact, Card, Facts, Predictor, Schema,
    artifact::Golden,
    detect::{Detector, FittedDetector},
    metrics,
};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use telemetry::ZoneId;

use crate::{
    backtest::{Backtest, Entry, Sample},
    frame::ZoneFrame,
    settings::Settings,
    split::{Spans, spans},
};
pub use inputs::{HISTORY_S, Series};
use inputs::{NAMES, Scales};

/// The task's name.
pub const NAME: &str = "anomaly";
/// For people.
pub const TITLE: &str = "how unusual the sensors behave";
/// Scores are given in multiples of the score that raises an alarm.
pub const UNIT: &str = "× alarm";
/// Metrics that jump by nature.
const SWITCHED: [&str; 4] = ["motion", "irrigation", "heater", "battery"];
/// Share of usual minutes below the score that raises an alarm.
const ALARM_QUANTILE: f64 = 0.995;
/// Minutes of one part that are scored, at most.
const MINUTES_MAX: usize = 30_000;

/// What serving keeps with a detector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Serving {
    /// Of each series, by `site/zone metric`.
    pub scales: BTreeMap<String, Scales>,
    /// The score that raises an alarm.
    pub alarm: f64,
    /// Between these lie 90 % of the scores of usual minutes.
    pub usual: (f64, f64),
}

/// The metrics of a frame that the task is about.
#[must_use]
pub fn metrics_of(frame: &ZoneFrame) -> Vec<String> {
    let ages = frame.names().filter_map(|name| name.strip_suffix("_age_s"));
    let mut metrics: Vec<String> =
        ages.filter(|metric| !SWITCHED.contains(metric)).map(str::to_owned).collect();
    metrics.sort_unstable();
    metrics
}

/// A score of a zone: its most unusual metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The metric.
    pub metric: String,
    /// In multiples of the alarm.
    pub value: f64,
}

/// Scores the newest minute of each metric in the last hours of a zone.
#[must_use]
pub fn score(
    zone: &ZoneId,
    frame: &ZoneFrame,
    serving: &Serving,
    model: &Predictor,
) -> Option<Score> {
    let scores = metrics_of(frame).into_iter().filter_map(|metric| {
        let series = Series::of(frame, &metric)?;
        let scales = serving.scales.get(&key(zone, &metric))?;
        let inputs = series.inputs(scales);
        let newest = inputs.rows().into_iter().next_back()?.insert_axis(Axis(0));
        let value = model.predict(newest)[0] / serving.alarm;
        value.is_finite().then_some(Score { metric, value })
    });
    scores.max_by(|a, b| a.value.total_cmp(&b.value))
}

fn key(zone: &ZoneId, metric: &str) -> String {
    format!("{zone} {metric}")
}

/// One part of all series, with faults and labels.
struct Judged {
    x: Array2<f64>,
    labels: Vec<bool>,
    at_ms: Vec<i64>,
}

/// Fits and compares detectors.
///
/// # Errors
/// Says why there is nothing to compare.
pub fn run(
    frames: &[ZoneFrame],
    detectors: &[Box<dyn Detector>],
    settings: &Settings,
    observe: &(dyn Fn(&str) + Sync),
) -> Result<Backtest, String> {
    let mut all: Vec<(String, Series)> = Vec::new();
    for frame in frames {
        for metric in metrics_of(frame) {
            all.extend(Series::of(frame, &metric).map(|s| (key(&frame.zone, &metric), s)));
        }
    }
    let first_ms = all.iter().filter_map(|(_, series)| series.at_ms.first()).min();
    let last_ms = all.iter().filter_map(|(_, series)| series.at_ms.last()).max();
    let (Some(first_ms), Some(last_ms)) = (first_ms, last_ms) else {
        return Err("no metric that moves in these zones".to_owned());
    };
    let spans = spans(*first_ms, *last_ms, HISTORY_S, &settings.split)?;
    let mut scales = BTreeMap::new();
    for (name, series) in &all {
        if let Some(found) = Scales::of(&series.between(spans.train)) {
            scales.insert(name.clone(), found);
        }
    }
    all.retain(|(name, _)| scales.contains_key(name));
    let clean = |span| part(&all, &scales, span, None);
    let train = thinned(clean(spans.train), settings.split.train_rows_max);
    let usual = clean(spans.calibration);
    let calibration = part(&all, &scales, spans.calibration, Some(settings.seed));
    let test = part(&all, &scales, spans.test, Some(settings.seed + 1));
    if train.x.nrows() < models::ROWS_MIN || !test.labels.contains(&true) {
        return Err("too short: hardly any minute of any series".to_owned());
    }
    let judged: Vec<Result<Candidate, (String, String)>> = detectors
        .par_iter()
        .map(|detector| {
            let judged = judge(detector.as_ref(), &train, &usual, &calibration, &test, settings);
            observe(detector.name());
            judged.map_err(|error| (detector.name().to_owned(), error))
        })
        .collect();
    let (mut candidates, mut failed) = (Vec::new(), Vec::new());
    for result in judged {
        match result {
            Ok(candidate) => candidates.push(candidate),
            Err(failure) => failed.push(failure),
        }
    }
    if candidates.is_empty() {
        return Err(format!("no detector could be fitted: {failed:?}"));
    }
    Ok(compare(candidates, failed, &train, test, scales, spans, settings))
}

struct Candidate {
    name: &'static str,
    fitted: FittedDetector,
    chosen_by: f64,
    alarm: f64,
    usual: (f64, f64),
    scores: Vec<f64>,
    entry: Entry,
}

fn judge(
    detector: &dyn Detector,
    train: &Judged,
    usual: &Judged,
    calibration: &Judged,
    test: &Judged,
    settings: &Settings,
) -> Result<Candidate, String> {
    let start = Instant::now();
    let fitted = detector.fit(train.x.view(), settings.seed).map_err(|error| error.to_string())?;
    let fit_s = start.elapsed().as_secs_f64();
    let score = |x: ArrayView2<f64>| fitted.score(x).to_vec();
    let mut of_usual = score(usual.x.view());
    of_usual.sort_unstable_by(f64::total_cmp);
    let quantile = |q: f64| {
        let rank = (of_usual.len() as f64 * q) as usize;
        of_usual.get(rank.min(of_usual.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    };
    let alarm = quantile(ALARM_QUANTILE).max(1e-9);
    let start = Instant::now();
    let scores = score(test.x.view());
    let predict_us = start.elapsed().as_secs_f64() * 1e6 / scores.len().max(1) as f64;
    let size_bytes = serde_json::to_vec(&fitted).map_err(|error| error.to_string())?.len();
    Ok(Candidate {
        name: detector.name(),
        chosen_by: metrics::average_precision(&score(calibration.x.view()), &calibration.labels),
        alarm,
        usual: (quantile(0.05), quantile(0.95)),
        entry: Entry {
            model: detector.name().to_owned(),
            metric: "pr_auc",
            value: metrics::average_precision(&scores, &test.labels),
            baseline_value: f64::NAN,
            skill: 0.0,
            is_baseline: detector.name() == "robust z-score",
            coverage: None,
            fit_s,
            predict_us,
            size_bytes,
            rows: train.x.nrows(),
            ..Entry::default()
        },
        scores,
        fitted,
    })
}

fn compare(
    mut candidates: Vec<Candidate>,
    failed: Vec<(String, String)>,
    train: &Judged,
    test: Judged,
    scales: BTreeMap<String, Scales>,
    spans: Spans,
    settings: &Settings,
) -> Backtest {
    let positives = test.labels.iter().filter(|label| **label).count() as f64;
    // Without a baseline detector, what chance would reach.
    let chance = positives / test.labels.len() as f64;
    let baseline =
        candidates.iter().find(|c| c.entry.is_baseline).map_or(chance, |c| c.entry.value);
    for candidate in &mut candidates {
        candidate.entry.baseline_value = baseline;
        candidate.entry.skill = (candidate.entry.value - baseline) / (1.0 - baseline).max(1e-9);
    }
    candidates.sort_by(|a, b| b.entry.value.total_cmp(&a.entry.value));
    let leaderboard: Vec<Entry> = candidates.iter().map(|c| c.entry.clone()).collect();
    let best = candidates
        .into_iter()
        .max_by(|a, b| a.chosen_by.total_cmp(&b.chosen_by))
        .expect("there is a candidate");
    let step = test.at_ms.len().div_ceil(600).max(1);
    let picked = (0..test.at_ms.len()).step_by(step);
    let sample = Sample {
        at_ms: picked.clone().map(|i| test.at_ms[i]).collect(),
        truth: picked.clone().map(|i| f64::from(u8::from(test.labels[i]))).collect(),
        predicted: picked.map(|i| best.scores[i] / best.alarm).collect(),
    };
    let serving = Serving {
        scales,
        alarm: best.alarm,
        usual: (best.usual.0 / best.alarm, best.usual.1 / best.alarm),
    };
    let predictor = Predictor::Detector(best.fitted);
    let card = Card {
        task: NAME.to_owned(),
        model: best.name.to_owned(),
        schema: Schema { features: NAMES.map(str::to_owned).to_vec() },
        unit: UNIT.to_owned(),
        trained_ms: spans.train,
        rows: train.x.nrows(),
        seed: settings.seed,
        metrics: BTreeMap::from([
            ("pr_auc".to_owned(), best.entry.value),
            ("pr_auc_baseline".to_owned(), baseline),
            ("pr_auc_chance".to_owned(), chance),
        ]),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        serving: serde_json::to_value(&serving).expect("serving facts have a JSON form"),
        facts: Facts::of(train.x.view(), None),
    };
    let golden = Golden::of(&predictor, train.x.view());
    let champion = Artifact { card, golden, predictor };
    Backtest::plain(leaderboard, failed, champion, sample)
}

/// The inputs of all series in a span, with faults put in where `seed` is.
fn part(
    all: &[(String, Series)],
    scales: &BTreeMap<String, Scales>,
    span: (i64, i64),
    seed: Option<u64>,
) -> Judged {
    let (mut x, mut labels, mut at_ms) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (name, series)) in all.iter().enumerate() {
        let mut series = series.between(span);
        let scales = &scales[name];
        let own = match seed {
            Some(seed) => {
                fault::inject(&mut series, scales, seed.wrapping_add(1000 * number as u64))
            }
            None => vec![false; series.at_ms.len()],
        };
        x.extend(series.inputs(scales).iter().copied());
        labels.extend(own);
        at_ms.extend(series.at_ms);
    }
    let x = Array2::from_shape_vec((labels.len(), NAMES.len()), x).expect("six inputs a minute");
    thinned(Judged { x, labels, at_ms }, MINUTES_MAX)
}

fn thinned(part: Judged, rows_max: usize) -> Judged {
    let rows = part.labels.len();
    if rows <= rows_max {
        return part;
    }
    let kept: Vec<usize> = (0..rows_max).map(|i| i * rows / rows_max).collect();
    Judged {
        x: part.x.select(Axis(0), &kept),
        labels: kept.iter().map(|i| part.labels[*i]).collect(),
        at_ms: kept.iter().map(|i| part.at_ms[*i]).collect(),
    }
}
