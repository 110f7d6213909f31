//! Scores detectors on the known-cause series of the Numenta Anomaly Benchmark.
//!
//! `cargo run -p microclimate-models --example nab -- FOLDER` reads `FOLDER/labels` and
//! `FOLDER/data/realKnownCause`. Detectors are fitted on the first 15 % of a series (750 rows at
//! most), which NAB does not score. Then they score row by row.

use std::{env, fs, ops::Range, path::Path};

use microclimate_models::{
    detect::{
        AnomalyDetector, ConformalTails, FittedDetector, HalfSpaceTrees,
        sensor_faults::NormalProfile,
        series::{self, SeasonalDetector, SeriesDetector},
    },
    stats::nab::{self, NabProfile, NabSeries, PROFILES},
};
use ndarray::{Array2, Axis, Slice};
use serde_json::Value;

const FOLDER: &str = "realKnownCause";
/// Number of lagged values that half-space trees get per row.
const LAGS: usize = 8;

struct NabFile {
    name: String,
    values: Vec<f64>,
    windows: Vec<Range<usize>>,
    /// Number of rows per day.
    day: usize,
}

fn read_files(folder: &Path) -> Result<Vec<NabFile>, Box<dyn std::error::Error>> {
    let labels = fs::read_to_string(folder.join("labels/combined_windows.json"))?;
    let labels: Value = serde_json::from_str(&labels)?;
    let mut paths: Vec<_> = fs::read_dir(folder.join("data").join(FOLDER))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let rows: Vec<(&str, f64)> = text
            .lines()
            .filter_map(|line| line.split_once(','))
            .filter_map(|(at, value)| Some((at, value.trim().parse().ok()?)))
            .collect();
        let row = |at: &Value| {
            let at = at.as_str()?.split('.').next()?;
            rows.iter().position(|(time, _)| *time == at)
        };
        let windows = labels[format!("{FOLDER}/{name}")].as_array().ok_or("no labels")?;
        let windows = windows.iter().map(|window| Some(row(&window[0])?..row(&window[1])? + 1));
        let windows = windows.collect::<Option<_>>().ok_or("a window's end is not a row")?;
        let date = |row: usize| rows[row].0.split(' ').next();
        let middle = rows.len() / 2;
        let day = (0..rows.len()).filter(|row| date(*row) == date(middle)).count();
        let values = rows.iter().map(|(_, value)| *value).collect();
        files.push(NabFile { name, values, windows, day });
    }
    Ok(files)
}

/// Reduces alarms to one a day: a score counts only where it is above all scores of the day before.
fn once_a_day(scores: &[f64], day: usize) -> Vec<f64> {
    let above = |row: usize| {
        let before = &scores[row.saturating_sub(day)..row];
        before.iter().all(|earlier| *earlier < scores[row])
    };
    (0..scores.len()).map(|row| if above(row) { scores[row] } else { 0.0 }).collect()
}

type ScoreSeries = Box<dyn Fn(&NabFile) -> Vec<f64>>;

fn score_functions() -> Vec<(String, ScoreSeries)> {
    let fitted_rows = |file: &NabFile| nab::probation_rows(file.values.len());
    let mut all: Vec<(String, ScoreSeries)> = Vec::new();
    for detector in series::all_detectors() {
        let name = detector.name();
        let score = move |file: &NabFile| {
            let by_day: Box<dyn SeriesDetector> = Box::new(SeasonalDetector { period: file.day });
            let chosen = if by_day.name() == name { &by_day } else { &detector };
            let watch = chosen.fit(&file.values[..fitted_rows(file)]).expect("enough rows to fit");
            watch.score_series(&file.values)
        };
        all.push((name.to_owned(), Box::new(score)));
    }
    let channels = move |file: &NabFile| {
        let fitted_rows = fitted_rows(file);
        let Some(usual) = NormalProfile::from_values(&file.values[..fitted_rows]) else {
            return vec![0.0; file.values.len()];
        };
        let rows = usual.rarity_rows(&file.values);
        let fitted =
            ConformalTails::default().fit(rows.slice_axis(Axis(0), Slice::from(..fitted_rows)), 1);
        fitted.expect("enough rows to fit").score_rows(rows.view()).to_vec()
    };
    all.push(("channels of a sensor, conformal tails".to_owned(), Box::new(channels)));
    let trees = move |file: &NabFile| {
        let value = |(row, lag): (usize, usize)| file.values[row.saturating_sub(lag)];
        let rows = Array2::from_shape_fn((file.values.len(), LAGS), value);
        let mut fitted = HalfSpaceTrees
            .fit(rows.slice_axis(Axis(0), Slice::from(..fitted_rows(file))), 1)
            .expect("enough rows to fit");
        score_then_learn(&mut fitted, &rows)
    };
    all.push((format!("half-space trees, {LAGS} lags"), Box::new(trees)));
    all
}

/// Scores each row before the detector learns it.
fn score_then_learn(fitted: &mut FittedDetector, rows: &Array2<f64>) -> Vec<f64> {
    let mut scores = Vec::new();
    for row in rows.rows() {
        scores.push(fitted.score_rows(row.insert_axis(Axis(0)))[0]);
        fitted.learn_row(row);
    }
    scores
}

fn score_files(files: &[NabFile], scores: &[Vec<f64>], profile: NabProfile) -> nab::NabScore {
    let corpus: Vec<NabSeries> = files
        .iter()
        .zip(scores)
        .map(|(file, scores)| NabSeries { scores, windows: &file.windows })
        .collect();
    nab::best_score(&corpus, profile)
}

/// Compares NAB's windowed Gaussian with its published scores (results/windowedGaussian of NAB 1.1,
/// threshold 1.0: all scores that round to it).
fn check_against_nab(files: &[NabFile]) {
    const PUBLISHED: [(&str, f64); 7] = [
        ("ambient_temperature_system_failure.csv", -2.0),
        ("cpu_utilization_asg_misconfiguration.csv", -1.11),
        ("ec2_request_latency_system_failure.csv", -0.065_910_118_727_807_05),
        ("machine_temperature_system_failure.csv", -4.0),
        ("nyc_taxi.csv", -5.0),
        ("rogue_agent_key_hold.csv", -2.44),
        ("rogue_agent_key_updown.csv", -1.396_490_895_501_411_7),
    ];
    // The published scores have 12 digits: from this z on, 1 − Q(z) rounds to 1.
    const ALL_BUT_CERTAIN: f64 = 7.13;
    println!("NAB's own windowed Gaussian at its published threshold:");
    let gaussian = series::by_name("gaussian window").expect("a detector of that name");
    for file in files {
        let watch = gaussian.fit(&file.values).expect("enough rows");
        let scores = watch.score_series(&file.values);
        let corpus = [NabSeries { scores: &scores, windows: &file.windows }];
        let ours = nab::score_at(&corpus, PROFILES[0], ALL_BUT_CERTAIN).of_series[0];
        let published = PUBLISHED.iter().find(|(name, _)| *name == file.name).map(|entry| entry.1);
        let published = published.unwrap_or(f64::NAN);
        println!("  {:42} ours {ours:10.6}, published {published:10.6}", file.name);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args().nth(1).ok_or("expected the folder of NAB")?;
    let files = read_files(Path::new(&folder))?;
    let windows: usize = files.iter().map(|file| file.windows.len()).sum();
    let rows: usize = files.iter().map(|file| file.values.len()).sum();
    println!("{} series, {rows} rows, {windows} windows\n", files.len());
    check_against_nab(&files);
    println!(
        "\n{:40} {:>9} {:>9} {:>9}   by series (standard)",
        "detector", "standard", "low FP", "low FN"
    );
    let mut lines = Vec::new();
    for (name, score) in score_functions() {
        let each: Vec<Vec<f64>> = files.iter().map(&score).collect();
        let once: Vec<Vec<f64>> =
            files.iter().zip(&each).map(|(file, scores)| once_a_day(scores, file.day)).collect();
        for (name, scores) in [(name.clone(), each), (format!("{name}, once a day"), once)] {
            let results = PROFILES.map(|profile| score_files(&files, &scores, profile));
            let each: Vec<String> =
                results[0].of_series.iter().map(|score| format!("{score:.2}")).collect();
            let [standard, low_fp, low_fn] = results.map(|result| result.normalised);
            let line =
                format!("{name:40} {standard:9.1} {low_fp:9.1} {low_fn:9.1}   {}", each.join(" "));
            lines.push((standard, line));
        }
    }
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    lines.iter().for_each(|(_, line)| println!("{line}"));
    Ok(())
}
