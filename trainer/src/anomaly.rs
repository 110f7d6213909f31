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
//! - `minutes`: all judged minutes, and how sure a detector's score is
//! - `serving`: what a champion needs to score a zone
//! - `trial`: two detectors on the same faults

mod judge;
mod minutes;
mod parts;
mod series;
mod serving;
pub(crate) mod trial;

use std::collections::BTreeMap;

use models::{
    Artifact, Card, Facts, Schema,
    artifact::Golden,
    detect::{
        Detector,
        minutes::{CHANNELS, Kind},
    },
};
use rayon::prelude::*;

use crate::{
    backtest::{self, Backtest, Entry, Fold, OfFolds, Sample, latency},
    folds::{self, Plan},
    frame::ZoneFrame,
    settings::Settings,
};
use judge::Candidate;
use minutes::{Minutes, gain};
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

/// Fits and compares detectors in every fold of the plan.
///
/// # Errors
/// Says why there is nothing to compare.
pub fn run(
    frames: &[ZoneFrame],
    detectors: &[Box<dyn Detector>],
    plan: &Plan,
    settings: &Settings,
    observe: &(dyn Fn(&str) + Sync),
) -> Result<Backtest, String> {
    if !plan.hold_out.is_empty() {
        return Err(
            "what is usual is learnt of each sensor by itself: no zone can be held out".into()
        );
    }
    let series = parts::series_of(frames)?;
    let spans = folds::spans_of(parts::ends_of(&series), HISTORY_S, &settings.split, plan)?;
    let folds = spans.into_iter().enumerate();
    let folds = folds.map(|(fold, spans)| Parts::of(&series, spans, fold, settings));
    let folds = folds.collect::<Result<Vec<Parts>, String>>()?;
    let minutes = Minutes::of(&folds, settings.seed);
    let counts: Vec<usize> = minutes.counts().collect();
    let judged: Vec<Result<Candidate, (String, String)>> = detectors
        .par_iter()
        .map(|detector| {
            let judged = Candidate::of(detector.as_ref(), &folds, &counts, settings.seed);
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
    Ok(compare(candidates, failed, folds, &minutes, settings))
}

fn compare(
    candidates: Vec<Candidate>,
    failed: Vec<(String, String)>,
    mut folds: Vec<Parts>,
    minutes: &Minutes,
    settings: &Settings,
) -> Backtest {
    let labels: Vec<bool> = folds.iter().flat_map(Parts::labels).collect();
    let chance = labels.iter().filter(|label| **label).count() as f64 / labels.len() as f64;
    let areas: Vec<OfFolds> = candidates.iter().map(|own| minutes.pr_auc(own)).collect();
    let rival = candidates.iter().position(|own| own.is_baseline).map(|rival| &areas[rival]);
    // Without a baseline detector, what chance would reach.
    let baseline = rival.map_or(chance, OfFolds::value);
    let last = &folds[folds.len() - 1];
    let mut leaderboard: Vec<Entry> = candidates
        .iter()
        .zip(&areas)
        .map(|(own, area)| {
            let took = latency::of(&own.last().predictor, last.learn.view());
            let rival = rival.filter(|_| !own.is_baseline);
            Entry {
                value: area.value(),
                interval: area.interval(&minutes.clock),
                baseline_value: baseline,
                skill: gain(area.value(), baseline),
                skill_interval: rival.and_then(|rival| minutes.gain_interval(area, rival)),
                predict_us: took.p50_us,
                predict_us_p99: took.p99_us,
                ..entry(own)
            }
        })
        .collect();
    leaderboard.sort_by(|a, b| b.value.total_cmp(&a.value));
    let best = candidates
        .into_iter()
        .max_by(|a, b| a.chosen_by().total_cmp(&b.chosen_by()))
        .expect("there is a candidate");
    let value = leaderboard.iter().find(|own| own.model == best.name).map(|own| own.value);
    let mut metrics = BTreeMap::from([
        ("pr_auc_baseline".to_owned(), baseline),
        ("pr_auc_chance".to_owned(), chance),
    ]);
    let mut metric = |name: String, value: Option<f64>| {
        metrics.extend(value.map(|value| (name, value)));
    };
    metric("pr_auc".to_owned(), value);
    metric("vus_pr".to_owned(), best.mean(|own| Some(own.vus_pr)));
    let found = best.mean(|own| own.daily.map(|recall| recall.events));
    metric("faults_found_at_1_false_alarm_a_day".to_owned(), found);
    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        let of_kind = best.mean(|own| {
            let of = &own.kinds[number];
            (of.faults > 0).then_some(of.pr_auc)
        });
        metric(format!("pr_auc_{}", kind.name()), of_kind);
    }
    let sample = sample(&folds, &labels, &best);
    let mut facts = facts(&folds, minutes);
    let Parts { spans, scales, kinds, learn, .. } = folds.swap_remove(folds.len() - 1);
    let kept = best.folds.into_iter().next_back().expect("there is a fold");
    let serving = Serving {
        scales,
        kinds,
        alarm: kept.alarm,
        usual: (kept.usual.0 / kept.alarm, kept.usual.1 / kept.alarm),
    };
    let card = Card {
        task: NAME.to_owned(),
        model: best.name.to_owned(),
        schema: schema(),
        unit: UNIT.to_owned(),
        trained_ms: spans.train,
        rows: kept.rows.0,
        seed: settings.seed,
        metrics,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        serving: serde_json::to_value(&serving).expect("serving facts have a JSON form"),
        facts: Facts::of(learn.view(), None),
    };
    facts.data_hash.clone_from(&card.facts.data_hash);
    let golden = Golden::of(&kept.predictor, learn.view());
    let champion = Artifact { card, golden, predictor: kept.predictor };
    let no_intervals = minutes.clock.too_short();
    let plain = Backtest::plain(leaderboard, failed, champion, sample);
    Backtest { facts, no_intervals, ..plain }
}

/// What is known of a detector without the others.
fn entry(own: &Candidate) -> Entry {
    let last = own.last();
    let mut scores = BTreeMap::new();
    let mut score = |name, value: Option<f64>| scores.extend(value.map(|value| (name, value)));
    score("vus_pr", own.mean(|own| Some(own.vus_pr)));
    let daily = own.mean(|own| own.daily.map(|recall| recall.events));
    score("found_at_1_false_alarm_a_day", daily);
    let weekly = own.mean(|own| own.weekly.map(|recall| recall.events));
    score("found_at_1_false_alarm_a_week", weekly);
    Entry {
        model: own.name.to_owned(),
        metric: "pr_auc",
        chosen_by: own.chosen_by(),
        is_baseline: own.is_baseline,
        fit_s: last.fit_s,
        size_bytes: last.size_bytes,
        rows: last.rows.0,
        rows_offered: last.rows.1,
        scores,
        ..Entry::default()
    }
}

fn schema() -> Schema {
    Schema { features: CHANNELS.map(str::to_owned).to_vec() }
}

/// What was compared: minutes of all series together.
fn facts(folds: &[Parts], minutes: &Minutes) -> backtest::Facts {
    let fold = |(parts, test): (&Parts, usize)| Fold {
        spans: parts.spans,
        train: parts.learn.nrows(),
        calibration: parts.choice.iter().map(|own| own.known.len()).sum(),
        test,
    };
    backtest::Facts {
        inputs: CHANNELS.len(),
        schema_hash: schema().hash(),
        embargo_s: HISTORY_S,
        folds: folds.iter().zip(minutes.counts()).map(fold).collect(),
        ..backtest::Facts::default()
    }
}

/// Some minutes of the test parts: the label, and the score in alarms.
fn sample(folds: &[Parts], labels: &[bool], best: &Candidate) -> Sample {
    let at_ms: Vec<i64> = folds.iter().flat_map(Parts::test_at_ms).collect();
    let in_alarms = |own: &judge::OfFold| -> Vec<f64> {
        own.scores.iter().map(|score| score / own.alarm).collect()
    };
    let scores: Vec<f64> = best.folds.iter().flat_map(in_alarms).collect();
    let step = at_ms.len().div_ceil(SAMPLE_POINTS).max(1);
    let picked = (0..at_ms.len()).step_by(step);
    Sample {
        at_ms: picked.clone().map(|i| at_ms[i]).collect(),
        truth: picked.clone().map(|i| f64::from(u8::from(labels[i]))).collect(),
        predicted: picked.map(|i| scores[i]).collect(),
    }
}

/// Under which a series' scales are kept.
fn key(zone: &telemetry::ZoneId, metric: &str) -> String {
    format!("{zone} {metric}")
}

#[cfg(test)]
mod tests {
    use models::detect::minutes::detectors;
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

    fn backtest(frames: &[ZoneFrame], folds: usize) -> Result<Backtest, String> {
        let names = [BASELINE, "conformal tails"];
        let own: Vec<_> =
            detectors().into_iter().filter(|own| names.contains(&own.name())).collect();
        let plan = Plan { folds, ..Plan::default() };
        run(frames, &own, &plan, &Settings::default(), &|_| ())
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
    fn folds_follow_one_another_and_the_newest_detector_is_kept() {
        // So many that each fold has faults.
        let zones = ["a", "b", "c", "d", "e", "f"];
        let frames: Vec<ZoneFrame> =
            zones.iter().map(|zone| frame(zone, 0..MINUTES, usual)).collect();
        let (one, three) = (backtest(&frames, 1).unwrap(), backtest(&frames, 3).unwrap());
        let folds = &three.facts.folds;
        assert_eq!((one.facts.folds.len(), folds.len()), (1, 3));
        for pair in folds.windows(2) {
            assert_eq!(pair[0].spans.test.1, pair[1].spans.test.0);
            assert!(pair[0].train < pair[1].train, "later folds learn from more");
        }
        let judged = |done: &Backtest| done.facts.folds.iter().map(|fold| fold.test).sum::<usize>();
        assert_eq!(judged(&one), judged(&three), "of the same time, all of it is judged");
        let until = |done: &Backtest| done.champion.card.trained_ms.1;
        assert_eq!(until(&three), folds[2].spans.train.1);
        assert!(until(&three) > until(&one));
        for entry in &three.leaderboard {
            let [low, high] = entry.interval.unwrap();
            assert!(low < entry.value && entry.value < high, "{entry:?}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let check = |frames: &[ZoneFrame], expect: &str| {
            let said = backtest(frames, 1).unwrap_err();
            assert!(said.contains(expect), "{said}");
        };
        check(&[], "no metric that moves");
        check(&[frame("a", 0..60, usual)], "too short");
        check(&[frame("a", 0..MINUTES, |_| 3.0)], "too short");
        let held = Plan { hold_out: vec![ZoneId::new("farm", "a")], ..Plan::default() };
        let frames = [frame("a", 0..MINUTES, usual)];
        let said = run(&frames, &detectors(), &held, &Settings::default(), &|_| ()).unwrap_err();
        assert!(said.contains("no zone can be held out"), "{said}");
    }
}
