//! Scores detectors on the labelled wireless sensor network data of S. Suthaharan et al., "Labelled
//! data collection for anomaly detection in wireless sensor networks", ISSNIP 2010. It has
//! temperature and humidity every 5 seconds. In two of three motes there is one event, made with
//! hot water steam.
//!
//! `cargo run -p microclimate-models --example labelled_motes -- FOLDER` reads `singlehop_*.txt`.
//! The normal profile of each series is fitted on the first 1,000 readings, and detectors on the
//! next 1,000. The rest is used for evaluation. Here a reading stands for a minute: the channels
//! count readings.

use std::{env, fs, io, path::Path};

use microclimate_models::{
    detect::sensor_faults::{NormalProfile, all_detectors},
    metrics::average_precision,
    stats::events::{ScoredSeries, labelled_events, recall_at, vus_pr},
};
use ndarray::{Array2, Axis, Slice, concatenate};

const USUAL: usize = 1000;
const LEARN: usize = 1000;
const READINGS_A_DAY: f64 = 17_280.0;
const WINDOW_MAX: usize = 60;

struct MoteRecording {
    name: String,
    /// Humidity and temperature.
    series: [Vec<f64>; 2],
    labels: Vec<bool>,
}

fn read_mote(path: &Path) -> io::Result<MoteRecording> {
    let mut mote = MoteRecording {
        name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        series: [Vec::new(), Vec::new()],
        labels: Vec::new(),
    };
    for line in fs::read_to_string(path)?.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |column: usize| words.get(column).and_then(|word| word.parse().ok());
        let (Some(humidity), Some(temperature)) = (number(2), number(3)) else { continue };
        mote.series[0].push(humidity);
        mote.series[1].push(temperature);
        mote.labels.push(words.get(4) == Some(&"1"));
    }
    Ok(mote)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args().nth(1).ok_or("expected the folder of the data")?;
    let mut motes = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            motes.push(read_mote(&path)?);
        }
    }
    motes.sort_by(|a, b| a.name.cmp(&b.name));
    let rows = |mote: &MoteRecording| -> Option<Vec<Array2<f64>>> {
        let profile_rows = |values: &Vec<f64>| {
            Some(NormalProfile::from_values(&values[..USUAL])?.rarity_rows(values))
        };
        mote.series.iter().map(profile_rows).collect()
    };
    let rows: Option<Vec<Vec<Array2<f64>>>> = motes.iter().map(rows).collect();
    let rows = rows.ok_or("a series never changes")?;
    let learn: Vec<_> = rows
        .iter()
        .flatten()
        .map(|x| x.slice_axis(Axis(0), Slice::from(USUAL..USUAL + LEARN)))
        .collect();
    let learn = concatenate(Axis(0), &learn)?;
    for (mote, rows) in motes.iter().zip(&rows) {
        let labels = &mote.labels[USUAL + LEARN..];
        let faulty = labelled_events(labels);
        println!(
            "\n{}: {} readings evaluated, {} of them in {} events",
            mote.name,
            labels.len(),
            labels.iter().filter(|label| **label).count(),
            faulty.len()
        );
        if faulty.is_empty() {
            continue;
        }
        println!(
            "{:26} {:>6} {:>6} {:>16} {:>14}",
            "detector", "PR-AUC", "VUS-PR", "without a false", "readings later"
        );
        for detector in all_detectors() {
            let fitted = detector.fit(learn.view(), 1)?;
            // The higher score of the two series.
            let each = rows
                .iter()
                .map(|x| fitted.score_rows(x.slice_axis(Axis(0), Slice::from(USUAL + LEARN..))));
            let scores =
                each.reduce(|a, b| ndarray::Zip::from(&a).and(&b).map_collect(|a, b| a.max(*b)));
            let scores = scores.ok_or("no series")?.to_vec();
            let one = [ScoredSeries { scores: &scores, events: &faulty }];
            let recall = recall_at(&one, READINGS_A_DAY, 0.0).ok_or("no event")?;
            println!(
                "{:26} {:6.3} {:6.3} {:>16} {:14.0}",
                detector.name(),
                average_precision(&scores, labels),
                vus_pr(&scores, labels, WINDOW_MAX).unwrap_or(f64::NAN),
                format!("{:.0} of {}", recall.events * faulty.len() as f64, faulty.len()),
                recall.delay_rows,
            );
        }
    }
    Ok(())
}
