//! The task without a target: how unusual a metric behaves, and what may be
//! wrong with its sensor.
//!
//! Each metric of a zone is a series of minutes; [`models::detect::minutes`]
//! makes seven inputs of a minute, each as rare as it is for that sensor. What
//! is usual of a sensor is learnt from the first three quarters of the training
//! part, and detectors from the last, whose minutes are as new to the sensors'
//! scales as later ones will be. The other parts are judged on copies with
//! faults put in, so that labels are known.
//!
//! # Layout
//! - `series`: the minutes of a metric
//! - `parts`: what is learnt from, chosen by and judged on
//! - `judge`: one detector
//! - `intervals`: how sure its score is
//! - `serving`: what a champion needs to score a zone
//! - `trial`: two detectors on the same faults

mod intervals;
mod judge;
mod parts;
mod series;
mod serving;
pub(crate) mod trial;

use std::collections::BTreeMap;

use models::{
    Artifact, Card, Facts, Schema,
    artifact::Golden,
    detect::{Detector, minutes::CHANNELS},
};
use rayon::prelude::*;

use crate::{
    backtest::{Backtest, Entry, Sample, latency},
    frame::ZoneFrame,
    settings::Settings,
};
use intervals::Intervals;
use judge::{Candidate, judge};
use parts::Parts;
pub use series::{Series, metrics_of};
pub use serving::{Score, Serving, score};

/// The task's name.
pub const NAME: &str = "anomaly";
/// For people.
pub const TITLE: &str = "how unusual the sensors behave";
/// Scores are given in multiples of the score that raises an alarm.
pub const UNIT: &str = "× alarm";
/// How much of the past the inputs look at, seconds.
pub const HISTORY_S: i64 = 60 * models::detect::minutes::PAST_MIN as i64;
/// The detector that others are compared with.
const BASELINE: &str = "robust z-score";
/// Points in a report's pictures.
const SAMPLE_POINTS: usize = 600;

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
    let parts = Parts::of(frames, settings)?;
    let judged: Vec<Result<Candidate, (String, String)>> = detectors
        .par_iter()
        .map(|detector| {
            let judged = judge(detector.as_ref(), &parts, settings.seed);
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
    Ok(compare(candidates, failed, parts, settings))
}

fn compare(
    mut candidates: Vec<Candidate>,
    failed: Vec<(String, String)>,
    parts: Parts,
    settings: &Settings,
) -> Backtest {
    let labels = parts.labels();
    // Without a baseline detector, what chance would reach.
    let chance = labels.iter().filter(|label| **label).count() as f64 / labels.len() as f64;
    let baseline =
        candidates.iter().find(|c| c.entry.is_baseline).map_or(chance, |c| c.entry.value);
    let intervals = Intervals::of(&parts, settings.seed);
    let ranking = |own: &Candidate| intervals.as_ref().ok().map(|all| all.ranking(&own.scores));
    let of_baseline = candidates.iter().find(|c| c.entry.is_baseline).and_then(ranking);
    for candidate in &mut candidates {
        if let (Ok(all), Some(own)) = (&intervals, ranking(candidate)) {
            let rival = of_baseline.as_ref().filter(|_| !candidate.entry.is_baseline);
            (candidate.entry.interval, candidate.entry.skill_interval) = all.pr_auc(&own, rival);
        }
        let took = latency::of(&candidate.predictor, parts.learn.view());
        candidate.entry.predict_us = took.p50_us;
        candidate.entry.predict_us_p99 = took.p99_us;
        candidate.entry.baseline_value = baseline;
        candidate.entry.skill = (candidate.entry.value - baseline) / (1.0 - baseline).max(1e-9);
    }
    candidates.sort_by(|a, b| b.entry.value.total_cmp(&a.entry.value));
    let leaderboard: Vec<Entry> = candidates.iter().map(|c| c.entry.clone()).collect();
    let best = candidates
        .into_iter()
        .max_by(|a, b| a.chosen_by.total_cmp(&b.chosen_by))
        .expect("there is a candidate");
    let mut metrics = BTreeMap::from([
        ("pr_auc".to_owned(), best.verdict.pr_auc),
        ("pr_auc_baseline".to_owned(), baseline),
        ("pr_auc_chance".to_owned(), chance),
        ("vus_pr".to_owned(), best.verdict.vus_pr),
    ]);
    if let Some(recall) = best.verdict.daily {
        metrics.insert("faults_found_at_1_false_alarm_a_day".to_owned(), recall.events);
    }
    for of in best.verdict.kinds.iter().filter(|of| of.faults > 0) {
        metrics.insert(format!("pr_auc_{}", of.kind.name()), of.pr_auc);
    }
    let sample = sample(&parts, &labels, &best);
    let rows = parts.learn;
    let serving = Serving {
        scales: parts.scales,
        kinds: parts.kinds,
        alarm: best.alarm,
        usual: (best.usual.0 / best.alarm, best.usual.1 / best.alarm),
    };
    let predictor = best.predictor;
    let card = Card {
        task: NAME.to_owned(),
        model: best.entry.model,
        schema: Schema { features: CHANNELS.map(str::to_owned).to_vec() },
        unit: UNIT.to_owned(),
        trained_ms: parts.spans.train,
        rows: best.entry.rows,
        seed: settings.seed,
        metrics,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        serving: serde_json::to_value(&serving).expect("serving facts have a JSON form"),
        facts: Facts::of(rows.view(), None),
    };
    let golden = Golden::of(&predictor, rows.view());
    let champion = Artifact { card, golden, predictor };
    let no_intervals = intervals.err();
    Backtest { no_intervals, ..Backtest::plain(leaderboard, failed, champion, sample) }
}

/// Some minutes of the test part: the label, and the score in alarms.
fn sample(parts: &Parts, labels: &[bool], best: &Candidate) -> Sample {
    let at_ms = parts.test_at_ms();
    let step = at_ms.len().div_ceil(SAMPLE_POINTS).max(1);
    let picked = (0..at_ms.len()).step_by(step);
    Sample {
        at_ms: picked.clone().map(|i| at_ms[i]).collect(),
        truth: picked.clone().map(|i| f64::from(u8::from(labels[i]))).collect(),
        predicted: picked.map(|i| best.scores[i] / best.alarm).collect(),
    }
}

/// Under which a series' scales are kept.
fn key(zone: &telemetry::ZoneId, metric: &str) -> String {
    format!("{zone} {metric}")
}

#[cfg(test)]
mod tests {
    use models::detect::minutes::{Kind, detectors};
    use telemetry::ZoneId;

    use super::*;

    const MINUTES: i64 = 6 * 1440;
    /// Ends at a minute in the middle of the noise: one usual minute in 200 is
    /// an alarm.
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

    fn backtest(frames: &[ZoneFrame]) -> Result<Backtest, String> {
        let names = [BASELINE, "conformal tails"];
        let own: Vec<_> =
            detectors().into_iter().filter(|own| names.contains(&own.name())).collect();
        run(frames, &own, &Settings::default(), &|_| ())
    }

    #[test]
    fn a_champion_names_the_fault() {
        let zones = ["a", "b", "c"];
        let frames: Vec<ZoneFrame> =
            zones.iter().map(|zone| frame(zone, 0..MINUTES, usual)).collect();
        let done = backtest(&frames).unwrap();
        assert_eq!((done.leaderboard.len(), done.failed.len()), (2, 0));
        let card = &done.champion.card;
        assert_eq!(card.schema.features, CHANNELS);
        assert!(card.metrics["pr_auc"] > 5.0 * card.metrics["pr_auc_chance"], "{card:?}");
        let serving: Serving = serde_json::from_value(card.serving.clone()).unwrap();
        let check = |value: &dyn Fn(i64) -> f64, expect: Option<Kind>| {
            let last_hours = frame("b", NOW - 360..NOW, value);
            let zone = ZoneId::new("farm", "b");
            let said = score(&zone, &last_hours, &serving, &done.champion.predictor).unwrap();
            assert_eq!((said.metric.as_str(), said.fault), ("temperature", expect), "{said:?}");
            assert_eq!(said.value >= 1.0, expect.is_some(), "{said:?}");
        };
        check(&usual, None);
        let late = |minute: i64, from: i64| minute >= NOW - from;
        check(&|m| if late(m, 40) { usual(NOW - 40) } else { usual(m) }, Some(Kind::Stuck));
        check(&|m| if late(m, 10) { f64::NAN } else { usual(m) }, Some(Kind::Dropout));
        check(&|m| usual(m) + if late(m, 1) { 5.0 } else { 0.0 }, Some(Kind::Spike));
        let strange = frame("z", NOW - 360..NOW, usual);
        let zone = ZoneId::new("farm", "z");
        assert_eq!(score(&zone, &strange, &serving, &done.champion.predictor), None);
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let check = |frames: &[ZoneFrame], expect: &str| {
            let said = backtest(frames).unwrap_err();
            assert!(said.contains(expect), "{said}");
        };
        check(&[], "no metric that moves");
        check(&[frame("a", 0..60, usual)], "too short");
        check(&[frame("a", 0..MINUTES, |_| 3.0)], "too short");
    }
}
