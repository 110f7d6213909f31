//! Scores detectors on faults in the KETI building data: injected ones and real ones.
//!
//! `cargo run -p microclimate-models --example building_faults -- FOLDER [DETECTOR…]`
//! reads `FOLDER/<room>/<sensor>.csv`. Normal profiles of the series are fitted on the days before
//! 27 August 2013 (UTC), and the detectors on the 27th. The best detector is selected on the 28th
//! with injected faults. All are evaluated from the 29th on, with other injected faults. Nothing is
//! fitted on the days of the evaluation.

mod data;
mod real_faults;

use std::{env, path::PathBuf, time::Instant};

use data::BuildingRecording;
use microclimate_models::detect::{
    AnomalyDetector, ConformalTails, FittedDetector,
    sensor_faults::{self, FaultEvaluation, FaultKind, FaultedSeries, NormalProfile},
};
use ndarray::{ArrayView1, Axis, concatenate};
use rayon::prelude::*;

/// Days of August on which the parts begin.
const DETECTORS: i64 = 27;
const CHOICE: i64 = 28;
const TEST: i64 = 29;
const SEED: u64 = 1;

/// Parts of all series that can be evaluated.
struct JudgedParts {
    names: Vec<usize>,
    learn: ndarray::Array2<f64>,
    choice: Vec<FaultedSeries>,
    test: Vec<FaultedSeries>,
}

fn split_parts(building: &BuildingRecording) -> JudgedParts {
    let minutes = building.series[0].plausible.len();
    let [detectors, choice, test] =
        [DETECTORS, CHOICE, TEST].map(|day| building.first_minute_of_day(day));
    // Motion and other switches are stuck most of the time by nature.
    let judged: Vec<_> = (building.series.par_iter().enumerate())
        .filter(|(_, series)| series.metric != "motion")
        .filter_map(|(number, series)| {
            let values = &series.plausible;
            let usual = NormalProfile::from_values(&values[..detectors])?;
            let part = |range, seed: Option<u64>| {
                let seed = seed.map(|seed| 1_000_000 * seed + number as u64);
                FaultedSeries::from_series(values, range, &usual, seed)
            };
            Some((
                number,
                part(detectors..choice, None).usual_rows(),
                part(choice..test, Some(SEED)),
                part(test..minutes, Some(SEED + 1)),
            ))
        })
        .collect();
    let rows: Vec<_> = judged.iter().map(|(_, rows, ..)| rows.view()).collect();
    let learn = concatenate(Axis(0), &rows).expect("as many channels");
    let names = judged.iter().map(|(number, ..)| *number).collect();
    let (mut choice, mut test) = (Vec::new(), Vec::new());
    for (.., first, second) in judged {
        choice.push(first);
        test.push(second);
    }
    JudgedParts { names, learn, choice, test }
}

fn score_parts(fitted: &FittedDetector, parts: &[FaultedSeries]) -> Vec<Vec<f64>> {
    parts.par_iter().map(|part| fitted.score_rows(part.rows.view()).to_vec()).collect()
}

fn print_kinds(verdict: &FaultEvaluation) {
    println!("\nby kind, with one false alarm per day and series:");
    println!(
        "{:8} {:>7} {:>6} {:>6} {:>10}  called",
        "kind", "PR-AUC", "faults", "found", "delay min"
    );
    for kind_score in &verdict.kinds {
        let called: Vec<String> = FaultKind::ALL
            .iter()
            .zip(kind_score.called)
            .filter(|(_, times)| *times > 0)
            .map(|(kind, times)| format!("{} {times}", kind.name()))
            .collect();
        println!(
            "{:8} {:7.3} {:6} {:6} {:10.0}  {}",
            kind_score.kind.name(),
            kind_score.pr_auc,
            kind_score.faults,
            kind_score.found,
            kind_score.delay_min,
            called.join(", ")
        );
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = env::args().skip(1);
    let folder = PathBuf::from(words.next().ok_or("expected the folder of the KETI data")?);
    let only: Vec<String> = words.collect();
    let start = Instant::now();
    let building = BuildingRecording::read_folder(&folder)?;
    println!("read {} series in {:.1} s", building.series.len(), start.elapsed().as_secs_f64());
    let start = Instant::now();
    let parts = split_parts(&building);
    let minutes: usize = parts.test.iter().map(|part| part.known.len()).sum();
    let known =
        parts.test.iter().flat_map(|part| part.minute_kinds().into_iter().zip(part.known.clone()));
    let known: Vec<bool> =
        known.filter(|(_, known)| *known).map(|(kind, _)| kind.is_some()).collect();
    let share = known.iter().filter(|label| **label).count() as f64 / known.len() as f64;
    println!(
        "{} series, {} rows for fitting, {} of {minutes} minutes evaluated, {:.2} % of them faulty ({:.1} s)\n",
        parts.test.len(),
        parts.learn.nrows(),
        known.len(),
        100.0 * share,
        start.elapsed().as_secs_f64()
    );
    println!(
        "{:26} {:>6} {:>6} {:>6} {:>9} {:>9} {:>9} {:>7} {:>8}",
        "detector",
        "chosen",
        "PR-AUC",
        "VUS-PR",
        "at 1/day",
        "at 1/week",
        "delay min",
        "fit s",
        "µs per row"
    );
    let kinds = sensor_faults::all_detectors()
        .into_iter()
        .find(|detector| detector.name() == ConformalTails::NAME);
    let kinds =
        kinds.ok_or("no detector scores channels separately")?.fit(parts.learn.view(), SEED)?;
    let parts_of =
        |row: ArrayView1<f64>| kinds.input_scores(row).expect("it scores channels").to_vec();
    let mut best: Option<(
        f64,
        Vec<Vec<f64>>,
        FaultEvaluation,
        Box<dyn AnomalyDetector>,
        FittedDetector,
    )> = None;
    for detector in sensor_faults::all_detectors() {
        if !only.is_empty() && !only.iter().any(|word| detector.name().contains(word)) {
            continue;
        }
        let start = Instant::now();
        let fitted = detector.fit(parts.learn.view(), SEED)?;
        let fit_s = start.elapsed().as_secs_f64();
        let chosen = FaultEvaluation::from_scores(
            &parts.choice,
            &score_parts(&fitted, &parts.choice),
            &parts_of,
        )
        .pr_auc;
        let start = Instant::now();
        let scores = score_parts(&fitted, &parts.test);
        let row_us = start.elapsed().as_secs_f64() * 1e6 / minutes as f64;
        let verdict = FaultEvaluation::from_scores(&parts.test, &scores, &parts_of);
        let recall = |recall: Option<microclimate_models::stats::events::EventRecall>| {
            recall.map_or(0.0, |r| r.events)
        };
        println!(
            "{:26} {chosen:6.3} {:6.3} {:6.3} {:9.3} {:9.3} {:9.1} {fit_s:7.2} {row_us:8.2}",
            detector.name(),
            verdict.pr_auc,
            verdict.vus_pr,
            recall(verdict.daily),
            recall(verdict.weekly),
            verdict.daily.map_or(f64::NAN, |r| r.delay_rows),
        );
        if best.as_ref().is_none_or(|(before, ..)| chosen > *before) {
            best = Some((chosen, scores, verdict, detector, fitted));
        }
    }
    let (_, scores, verdict, detector, _) = best.ok_or("no such detector")?;
    println!("\nchosen: {}", detector.name());
    print_kinds(&verdict);
    println!("\nby metric:");
    for (_, metric) in data::METRICS {
        let indices: Vec<usize> = (0..parts.names.len())
            .filter(|i| building.series[parts.names[*i]].metric == metric)
            .collect();
        if indices.is_empty() {
            continue;
        }
        let judged: Vec<FaultedSeries> = indices.iter().map(|i| parts.test[*i].clone()).collect();
        let scores: Vec<Vec<f64>> = indices.iter().map(|i| scores[*i].clone()).collect();
        let verdict = FaultEvaluation::from_scores(&judged, &scores, &parts_of);
        println!("{metric:12} PR-AUC {:.3}, VUS-PR {:.3}", verdict.pr_auc, verdict.vus_pr);
    }
    real_faults::print_real_faults(&building);
    Ok(())
}
