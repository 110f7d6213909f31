//! The task without a target: how unusually a metric behaves, and which fault its sensor may have.
//!
//! Each metric of a zone is a series of minutes. [`models::detect::sensor_faults`] makes seven
//! inputs of a minute, each expressed as its rarity for that sensor. Normal profiles of the sensors
//! are fitted on the first three quarters of the training set. Detectors are fitted on the last
//! quarter, whose minutes are as new to the profiles as later ones will be. The validation and test
//! sets are evaluated on copies with injected faults, so that labels are known.
//!
//! # Layout
//! - `series`: the minutes of a metric
//! - `data_split`: training, validation and test sets
//! - `detector_fold`: one detector in each fold
//! - `test_minutes`: all evaluated minutes, and intervals of a detector's score
//! - `serving`: the facts that a champion needs to score a zone
//! - `trial`: two detectors on the same faults

mod data_split;
mod detector_fold;
mod series;
mod serving;
mod test_minutes;
pub(crate) mod trial;

use std::collections::BTreeMap;

use models::{
    FeatureSchema, ModelArtifact, ModelCard, ModelProvenance,
    artifact::{EvaluatedFit, GoldenRows},
    detect::{
        AnomalyDetector,
        sensor_faults::{CHANNELS, FaultKind, NormalProfile},
    },
};
use rayon::prelude::*;

use crate::{
    backtest::{
        self, Backtest, FoldFacts, FoldStatistic, LeaderboardEntry, PredictionSample, latency,
    },
    feature_frame::ZoneFrame,
    folds::{self, FoldPlan},
    settings::{SplitSettings, TrainerSettings},
    split::SplitSpans,
};
use data_split::AnomalySplit;
use detector_fold::DetectorCandidate;
pub use series::{MinuteSeries, anomaly_metrics};
pub use serving::{AnomalyScore, AnomalyServing, PastAnomalyScore, score_past_minutes, score_zone};
use test_minutes::{TestMinutes, relative_gain};

/// Name of the task.
pub const TASK_NAME: &str = "anomaly";
/// Title of the task, for people.
pub const TASK_TITLE: &str = "how unusual the sensors behave";
/// Unit of scores: multiples of the score that raises an alarm.
pub const TASK_UNIT: &str = "× alarm";
/// Seconds of the past that the inputs use.
pub const HISTORY_S: i64 = 60 * models::detect::sensor_faults::PAST_MIN as i64;
/// Detector that others are compared with.
const BASELINE_DETECTOR: &str = "robust z-score";
/// Number of points in a report's figures.
const SAMPLE_POINTS: usize = 600;

/// Fits and compares detectors in every fold of the plan.
///
/// # Errors
/// States why there is nothing to compare.
pub fn backtest_detectors(
    frames: &[ZoneFrame],
    detectors: &[Box<dyn AnomalyDetector>],
    plan: &FoldPlan,
    settings: &TrainerSettings,
    observe: &(dyn Fn(&str) + Sync),
) -> Result<Backtest, String> {
    if !plan.hold_out.is_empty() {
        return Err(
            "a normal profile is fitted for each sensor separately: no zone can be held out".into(),
        );
    }
    let series = data_split::collect_series(frames)?;
    // Detectors are selected and calibrated on one part: they need most of the time to know
    // what is usual.
    let known = settings.split.train + settings.split.calibration;
    let split = SplitSettings {
        train: REFIT_TRAIN_SHARE * known,
        calibration: (1.0 - REFIT_TRAIN_SHARE) * known,
        ..settings.split
    };
    let spans = folds::fold_spans(data_split::time_range(&series), HISTORY_S, &split, plan)?;
    let folds = spans.into_iter().enumerate();
    let folds =
        folds.map(|(fold, spans)| AnomalySplit::from_series(&series, spans, fold, settings));
    let folds = folds.collect::<Result<Vec<AnomalySplit>, String>>()?;
    let minutes = TestMinutes::from_folds(&folds, settings.seed);
    let counts: Vec<usize> = minutes.count_by_fold().collect();
    let judged: Vec<Result<DetectorCandidate, (String, String)>> = detectors
        .par_iter()
        .map(|detector| {
            let judged =
                DetectorCandidate::fit_folds(detector.as_ref(), &folds, &counts, settings.seed);
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
    Ok(assemble_backtest(candidates, failed, folds, &minutes, settings))
}

fn assemble_backtest(
    candidates: Vec<DetectorCandidate>,
    failed: Vec<(String, String)>,
    mut folds: Vec<AnomalySplit>,
    minutes: &TestMinutes,
    settings: &TrainerSettings,
) -> Backtest {
    let labels: Vec<bool> = folds.iter().flat_map(AnomalySplit::fault_labels).collect();
    let chance = labels.iter().filter(|label| **label).count() as f64 / labels.len() as f64;
    let areas: Vec<FoldStatistic> =
        candidates.iter().map(|candidate| minutes.pr_auc(candidate)).collect();
    let rival =
        candidates.iter().position(|candidate| candidate.is_baseline).map(|rival| &areas[rival]);
    // Without a baseline detector, the value that chance would reach.
    let baseline = rival.map_or(chance, FoldStatistic::value);
    let last = &folds[folds.len() - 1];
    let mut leaderboard: Vec<LeaderboardEntry> = candidates
        .iter()
        .zip(&areas)
        .map(|(candidate, area)| {
            let took =
                latency::measure_latency(&candidate.last_fold().predictor, last.train.view());
            let compared_with = rival.filter(|_| !candidate.is_baseline);
            LeaderboardEntry {
                value: area.value(),
                interval: area.bootstrap_interval(&minutes.clock),
                baseline_value: baseline,
                skill: relative_gain(area.value(), baseline),
                skill_interval: compared_with.and_then(|rival| minutes.gain_interval(area, rival)),
                predict_us: took.p50_us,
                predict_us_p99: took.p99_us,
                ..leaderboard_entry(candidate)
            }
        })
        .collect();
    leaderboard.sort_by(|a, b| b.value.total_cmp(&a.value));
    let best = candidates
        .into_iter()
        .max_by(|a, b| a.validation_pr_auc().total_cmp(&b.validation_pr_auc()))
        .expect("there is a candidate");
    let value = leaderboard.iter().find(|entry| entry.model == best.name).map(|entry| entry.value);
    let mut metrics = BTreeMap::from([
        ("pr_auc_baseline".to_owned(), baseline),
        ("pr_auc_chance".to_owned(), chance),
    ]);
    let mut metric = |name: String, value: Option<f64>| {
        metrics.extend(value.map(|value| (name, value)));
    };
    metric("pr_auc".to_owned(), value);
    metric("vus_pr".to_owned(), best.mean_over_folds(|evaluation| Some(evaluation.vus_pr)));
    let found = best.mean_over_folds(|evaluation| evaluation.daily.map(|recall| recall.events));
    metric("faults_found_at_1_false_alarm_a_day".to_owned(), found);
    for (number, kind) in FaultKind::ALL.into_iter().enumerate() {
        let kind_pr_auc = best.mean_over_folds(|evaluation| {
            let kind_score = &evaluation.kinds[number];
            (kind_score.faults > 0).then_some(kind_score.pr_auc)
        });
        metric(format!("pr_auc_{}", kind.name()), kind_pr_auc);
    }
    let sample = sample_predictions(&folds, &labels, &best);
    let mut facts = comparison_facts(&folds, minutes);
    let AnomalySplit { spans, scales, kinds, train: learn, .. } =
        folds.swap_remove(folds.len() - 1);
    let last_fold = best.folds.into_iter().next_back().expect("there is a fold");
    let serving = AnomalyServing {
        scales,
        kinds,
        alarm: last_fold.alarm,
        usual: (
            last_fold.normal_range.0 / last_fold.alarm,
            last_fold.normal_range.1 / last_fold.alarm,
        ),
    };
    let card = ModelCard {
        task: TASK_NAME.to_owned(),
        model: best.name.to_owned(),
        schema: channel_schema(),
        unit: TASK_UNIT.to_owned(),
        trained_ms: spans.train,
        rows: last_fold.rows.0,
        seed: settings.seed,
        metrics,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        serving: serde_json::to_value(&serving).expect("serving facts have a JSON form"),
        facts: ModelProvenance::from_rows(learn.view(), None),
    };
    facts.data_hash.clone_from(&card.facts.data_hash);
    let golden = GoldenRows::from_predictor(&last_fold.predictor, learn.view());
    let champion = ModelArtifact { card, golden, predictor: last_fold.predictor };
    let no_intervals = minutes.clock.too_short_reason();
    let plain = Backtest::without_details(leaderboard, failed, champion, sample);
    Backtest { facts, no_intervals, ..plain }
}

/// The share of the known time that a detector is fitted on; its alarm is calibrated on the
/// rest, the newest minutes.
const REFIT_TRAIN_SHARE: f64 = 0.8;
/// Draws faults of their own for the calibration of a refit.
const REFIT_FOLD: usize = 1 << 20;

/// Fits the detector of `artifact`, which was evaluated, again up to the newest minute. The
/// metrics stay those of the evaluated fit, and the card says so.
///
/// # Errors
/// Why it cannot be fitted.
pub fn refit_on_all_minutes(
    frames: &[ZoneFrame],
    detectors: &[Box<dyn AnomalyDetector>],
    artifact: ModelArtifact,
    settings: &TrainerSettings,
) -> Result<ModelArtifact, String> {
    let name = &artifact.card.model;
    let detector = detectors.iter().find(|own| own.name() == name);
    let detector = detector.ok_or_else(|| format!("there is no detector `{name}`"))?;
    let series = data_split::collect_series(frames)?;
    let (first_ms, last_ms) = data_split::time_range(&series);
    let edge_ms = first_ms + ((last_ms - first_ms) as f64 * REFIT_TRAIN_SHARE) as i64;
    let newest = (edge_ms, last_ms + 1);
    let spans = SplitSpans { train: (first_ms, edge_ms), calibration: newest, test: newest };
    let parts = AnomalySplit::from_series(&series, spans, REFIT_FOLD, settings)?;
    let fitted = detector_fold::evaluate_fold(detector.as_ref(), &parts, settings.seed)?;
    // What is usual of a sensor is learnt of all its time: to either it is in the past.
    let mut scales = parts.scales;
    for (name, own) in &series {
        if let Some(scale) =
            NormalProfile::from_values(&own.values).filter(|_| scales.contains_key(name))
        {
            scales.insert(name.clone(), scale);
        }
    }
    let serving = AnomalyServing {
        scales,
        kinds: parts.kinds,
        alarm: fitted.alarm,
        usual: (fitted.normal_range.0 / fitted.alarm, fitted.normal_range.1 / fitted.alarm),
    };
    let mut card = artifact.card;
    let evaluated = EvaluatedFit {
        trained_ms: card.trained_ms,
        rows: card.rows,
        test_ms: (card.trained_ms.1, last_ms),
    };
    card.facts = ModelProvenance {
        evaluated: Some(evaluated),
        ..ModelProvenance::from_rows(parts.train.view(), None)
    };
    card.trained_ms = (first_ms, last_ms);
    card.rows = fitted.rows.0;
    card.serving = serde_json::to_value(&serving).expect("serving facts have a JSON form");
    let golden = GoldenRows::from_predictor(&fitted.predictor, parts.train.view());
    Ok(ModelArtifact { card, golden, predictor: fitted.predictor })
}

/// Builds the entry of one detector, without comparisons with others.
fn leaderboard_entry(candidate: &DetectorCandidate) -> LeaderboardEntry {
    let last = candidate.last_fold();
    let mut scores = BTreeMap::new();
    let mut score = |name, value: Option<f64>| scores.extend(value.map(|value| (name, value)));
    score("vus_pr", candidate.mean_over_folds(|evaluation| Some(evaluation.vus_pr)));
    let daily =
        candidate.mean_over_folds(|evaluation| evaluation.daily.map(|recall| recall.events));
    score("found_at_1_false_alarm_a_day", daily);
    let weekly =
        candidate.mean_over_folds(|evaluation| evaluation.weekly.map(|recall| recall.events));
    score("found_at_1_false_alarm_a_week", weekly);
    LeaderboardEntry {
        model: candidate.name.to_owned(),
        metric: "pr_auc",
        chosen_by: candidate.validation_pr_auc(),
        is_baseline: candidate.is_baseline,
        fit_s: last.fit_s,
        size_bytes: last.size_bytes,
        rows: last.rows.0,
        rows_offered: last.rows.1,
        scores,
        ..LeaderboardEntry::default()
    }
}

fn channel_schema() -> FeatureSchema {
    FeatureSchema { features: CHANNELS.map(str::to_owned).to_vec() }
}

/// Facts of the comparison: minutes of all series together.
fn comparison_facts(folds: &[AnomalySplit], minutes: &TestMinutes) -> backtest::ComparisonFacts {
    let fold = |(parts, test): (&AnomalySplit, usize)| FoldFacts {
        spans: parts.spans,
        train: parts.train.nrows(),
        calibration: parts.choice.iter().map(|part| part.known.len()).sum(),
        test,
    };
    backtest::ComparisonFacts {
        inputs: CHANNELS.len(),
        schema_hash: channel_schema().schema_hash(),
        embargo_s: HISTORY_S,
        folds: folds.iter().zip(minutes.count_by_fold()).map(fold).collect(),
        ..backtest::ComparisonFacts::default()
    }
}

/// Some minutes of the test sets: the label, and the score in multiples of the alarm.
fn sample_predictions(
    folds: &[AnomalySplit],
    labels: &[bool],
    best: &DetectorCandidate,
) -> PredictionSample {
    let at_ms: Vec<i64> = folds.iter().flat_map(AnomalySplit::test_at_ms).collect();
    let in_alarms = |fold: &detector_fold::DetectorFoldResult| -> Vec<f64> {
        fold.scores.iter().map(|score| score / fold.alarm).collect()
    };
    let scores: Vec<f64> = best.folds.iter().flat_map(in_alarms).collect();
    let step = at_ms.len().div_ceil(SAMPLE_POINTS).max(1);
    let picked = (0..at_ms.len()).step_by(step);
    PredictionSample {
        at_ms: picked.clone().map(|i| at_ms[i]).collect(),
        truth: picked.clone().map(|i| f64::from(u8::from(labels[i]))).collect(),
        predicted: picked.map(|i| scores[i]).collect(),
    }
}

/// Key of a series' profile.
fn series_key(zone: &telemetry::ZoneId, metric: &str) -> String {
    format!("{zone} {metric}")
}

#[cfg(test)]
mod tests {
    use models::detect::sensor_faults::all_detectors;
    use telemetry::ZoneId;

    use super::*;

    const MINUTES: i64 = 6 * 1440;
    /// Ends at a minute in the middle of the noise, so that one normal minute in 200 is an alarm.
    const NOW: i64 = MINUTES - 2;

    fn usual(minute: i64) -> f64 {
        let noise = ((minute * 7919) % 97) as f64 / 970.0;
        20.0 + 2.0 * (minute as f64 / 229.0).sin() + noise
    }

    fn frame(zone: &str, minutes: std::ops::Range<i64>, value: impl Fn(i64) -> f64) -> ZoneFrame {
        let values: Vec<f64> = minutes.clone().map(value).collect();
        let ages = vec![0.0; values.len()];
        let columns = [("temperature_last".into(), values), ("temperature_age_s".into(), ages)];
        let at_ms = minutes.map(|minute| minute * 60_000).collect();
        ZoneFrame::new(ZoneId::new("farm", zone), at_ms, columns.into())
    }

    fn backtest(frames: &[ZoneFrame], folds: usize) -> Result<Backtest, String> {
        let names = [BASELINE_DETECTOR, "conformal tails"];
        let detectors: Vec<_> = all_detectors()
            .into_iter()
            .filter(|detector| names.contains(&detector.name()))
            .collect();
        let plan = FoldPlan { folds, ..FoldPlan::default() };
        backtest_detectors(frames, &detectors, &plan, &TrainerSettings::default(), &|_| ())
    }

    #[test]
    fn a_champion_names_the_fault() {
        let zones = ["a", "b", "c"];
        let frames: Vec<ZoneFrame> =
            zones.iter().map(|zone| frame(zone, 0..MINUTES, usual)).collect();
        let done = backtest(&frames, 1).unwrap();
        assert_eq!((done.leaderboard.len(), done.failed.len()), (2, 0));
        let card = &done.champion.card;
        assert_eq!(card.schema.features, CHANNELS);
        assert!(card.metrics["pr_auc"] > 5.0 * card.metrics["pr_auc_chance"], "{card:?}");
        let serving: AnomalyServing = serde_json::from_value(card.serving.clone()).unwrap();
        let check = |value: &dyn Fn(i64) -> f64, expect: Option<FaultKind>| {
            let last_hours = frame("b", NOW - 360..NOW, value);
            let zone = ZoneId::new("farm", "b");
            let prediction =
                score_zone(&zone, &last_hours, &serving, &done.champion.predictor).unwrap();
            assert_eq!(
                (prediction.metric.as_str(), prediction.fault),
                ("temperature", expect),
                "{prediction:?}"
            );
            assert_eq!(prediction.value >= 1.0, expect.is_some(), "{prediction:?}");
        };
        check(&usual, None);
        let late = |minute: i64, from: i64| minute >= NOW - from;
        check(&|m| if late(m, 40) { usual(NOW - 40) } else { usual(m) }, Some(FaultKind::Stuck));
        check(&|m| if late(m, 10) { f64::NAN } else { usual(m) }, Some(FaultKind::Dropout));
        check(&|m| usual(m) + if late(m, 1) { 5.0 } else { 0.0 }, Some(FaultKind::Spike));
        let strange = frame("z", NOW - 360..NOW, usual);
        let zone = ZoneId::new("farm", "z");
        assert_eq!(score_zone(&zone, &strange, &serving, &done.champion.predictor), None);
    }

    #[test]
    fn folds_follow_one_another_and_the_newest_detector_is_kept() {
        // Enough minutes for each fold to have faults.
        let zones = ["a", "b", "c", "d", "e", "f"];
        let frames: Vec<ZoneFrame> =
            zones.iter().map(|zone| frame(zone, 0..MINUTES, usual)).collect();
        let (one, three) = (backtest(&frames, 1).unwrap(), backtest(&frames, 3).unwrap());
        let folds = &three.facts.folds;
        assert_eq!((one.facts.folds.len(), folds.len()), (1, 3));
        for pair in folds.windows(2) {
            assert_eq!(pair[0].spans.test.1, pair[1].spans.test.0);
            assert!(pair[0].train < pair[1].train, "later folds are fitted on more rows");
        }
        let judged = |done: &Backtest| done.facts.folds.iter().map(|fold| fold.test).sum::<usize>();
        assert_eq!(judged(&one), judged(&three), "all minutes of the same time are evaluated");
        let until = |done: &Backtest| done.champion.card.trained_ms.1;
        assert_eq!(until(&three), folds[2].spans.train.1);
        assert!(until(&three) > until(&one));
        for entry in &three.leaderboard {
            let [low, high] = entry.interval.unwrap();
            assert!(low < entry.value && entry.value < high, "{entry:?}");
        }
    }

    #[test]
    fn what_is_served_is_fitted_up_to_the_newest_minute() {
        let frames = [frame("a", 0..MINUTES, usual), frame("b", 0..MINUTES, usual)];
        let evaluated = backtest(&frames, 1).unwrap();
        let (test, champion) = (evaluated.facts.folds[0].spans.test, evaluated.champion);
        let (model, until) = (champion.card.model.clone(), champion.card.trained_ms.1);
        let metrics = champion.card.metrics.clone();
        let settings = TrainerSettings::default();
        let kept = refit_on_all_minutes(&frames, &all_detectors(), champion, &settings).unwrap();
        assert!(
            until <= test.0 && kept.card.trained_ms.1 + 60_000 >= test.1,
            "{:?}",
            kept.card.trained_ms
        );
        assert_eq!((&kept.card.model, &kept.card.metrics), (&model, &metrics));
        assert_eq!(kept.card.facts.evaluated.unwrap().trained_ms.1, until);
    }

    #[test]
    fn a_comparison_that_cannot_be_made_says_why() {
        let check = |frames: &[ZoneFrame], expect: &str| {
            let error = backtest(frames, 1).unwrap_err();
            assert!(error.contains(expect), "{error}");
        };
        check(&[], "no metric that varies");
        check(&[frame("a", 0..60, usual)], "too short");
        check(&[frame("a", 0..MINUTES, |_| 3.0)], "too short");
        let held = FoldPlan { hold_out: vec![ZoneId::new("farm", "a")], ..FoldPlan::default() };
        let frames = [frame("a", 0..MINUTES, usual)];
        let error = backtest_detectors(
            &frames,
            &all_detectors(),
            &held,
            &TrainerSettings::default(),
            &|_| (),
        )
        .unwrap_err();
        assert!(error.contains("no zone can be held out"), "{error}");
    }
}
