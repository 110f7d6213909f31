//! Measures for every model the time to fit, the time to predict one row, its error on unseen rows
//! and its size, on rows from a seeded formula.
//!
//! `cargo run -p microclimate-models --example fit_time -- [FOLDER] [ROWS] [MODEL]`
//! writes the rows as `.npy` and the figures as `ours.csv` into the folder (`target/models-bench`).
//! Then `bench/models_peers.py FOLDER` compares them with scikit-learn and LightGBM. There are
//! 100,000 training rows with 100 inputs, and 20,000 test rows. With MODEL, only models whose names
//! contain it are measured.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use microclimate_models::{
    Dataset, FeatureSchema, Predictor, classify, classify::LabelledDataset, detect, fit_regressor,
    metrics, regressors, stats::classes::roc_auc,
};
use ndarray::{Array1, Array2, Axis, Slice};
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

const INPUTS: usize = 100;
const TEST_ROWS: usize = 20_000;
/// Number of rows that are predicted one by one.
const SINGLE_ROWS: usize = 1000;
/// Number of test rows on which detectors are evaluated; every 50th of them is an anomaly.
const DETECTED_ROWS: usize = 2000;

/// Independent normal inputs, of which six are informative, and noise with a standard deviation of
/// 1.
fn seeded_rows(rows: usize) -> (Array2<f64>, Array1<f64>) {
    let mut rng = rand_pcg::Pcg64::seed_from_u64(2026);
    let mut normal = || -> f64 { StandardNormal.sample(&mut rng) };
    let x = Array2::from_shape_simple_fn((rows, INPUTS), &mut normal);
    let target = |r: ndarray::ArrayView1<f64>| {
        2.0 * r[0] - 1.5 * r[1] + r[2] * r[3] + 2.0 * (2.0 * r[4]).sin() + r[5].abs() + normal()
    };
    let y = x.rows().into_iter().map(target).collect();
    (x, y)
}

/// Writes an array in numpy's format 1.0.
fn write_npy(path: &Path, shape: &str, values: impl Iterator<Item = f64>) -> io::Result<()> {
    let mut header =
        format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}").into_bytes();
    // Magic, version, length and header fill a multiple of 64 bytes.
    header.resize((header.len() + 11).next_multiple_of(64) - 11, b' ');
    header.push(b'\n');
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(header.len() as u16).to_le_bytes())?;
    file.write_all(&header)?;
    for value in values {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()
}

/// Figures of one model.
struct ModelFigures {
    kind: &'static str,
    model: &'static str,
    rows: usize,
    took: ModelTimings,
    size_bytes: usize,
    metric: &'static str,
    value: f64,
}

struct ModelTimings {
    fit_s: f64,
    /// Processor time of all threads while the model was fitted, s.
    fit_cpu_s: f64,
    /// Median time to predict one row, µs.
    predict_us: f64,
    predict_p99_us: f64,
}

/// Processor time that all threads have used so far, s, as Linux counts it in hundredths. NaN on
/// other systems.
fn processor_s() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The user and system times are the 12th and 13th fields after the name in parentheses.
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: Result<Vec<f64>, _> = ticks.map(str::parse).collect();
    ticks.ok().filter(|t| t.len() == 2).map_or(f64::NAN, |t| t.iter().sum::<f64>() / 100.0)
}

fn measure_model(
    (kind, model, metric): (&'static str, &'static str, &'static str),
    test: &Array2<f64>,
    fit: impl FnOnce() -> Result<(Predictor, usize), microclimate_models::FitError>,
    evaluate: impl FnOnce(&Predictor) -> f64,
) -> Option<ModelFigures> {
    let (start, cpu_s) = (Instant::now(), processor_s());
    let fitted = fit();
    let (fit_s, fit_cpu_s) = (start.elapsed().as_secs_f64(), processor_s() - cpu_s);
    let (predictor, rows) = match fitted {
        Ok(fitted) => fitted,
        Err(error) => {
            println!("{kind:10} {model:28} {error}");
            return None;
        }
    };
    let mut took: Vec<f64> = (0..SINGLE_ROWS)
        .map(|row| {
            let x = test.select(Axis(0), &[row]);
            let start = Instant::now();
            std::hint::black_box(predictor.predict(x.view()));
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    took.sort_unstable_by(f64::total_cmp);
    let size_bytes = serde_json::to_vec(&predictor).map_or(0, |bytes| bytes.len());
    let value = evaluate(&predictor);
    let (predict_us, predict_p99_us) = (took[SINGLE_ROWS / 2], took[SINGLE_ROWS * 99 / 100]);
    println!(
        "{kind:10} {model:28} {rows:7} rows {fit_s:8.2} s ({fit_cpu_s:.2} CPU) {predict_us:9.1} µs (p99 {predict_p99_us:.1}) {:8} kB {metric} {value:.4}",
        size_bytes / 1024
    );
    let took = ModelTimings { fit_s, fit_cpu_s, predict_us, predict_p99_us };
    Some(ModelFigures { kind, model, rows, took, size_bytes, metric, value })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let folder = PathBuf::from(words.next().unwrap_or_else(|| "target/models-bench".to_owned()));
    let train_rows: usize = words.next().map_or(Ok(100_000), |word| word.parse())?;
    let only = words.next().unwrap_or_default();
    fs::create_dir_all(&folder)?;
    let (x, y) = seeded_rows(train_rows + TEST_ROWS);
    write_npy(&folder.join("x.npy"), &format!("{}, {INPUTS}", x.nrows()), x.iter().copied())?;
    write_npy(&folder.join("y.npy"), &format!("{},", y.len()), y.iter().copied())?;
    let features = (0..INPUTS).map(|number| format!("x{number}")).collect();
    let schema = Arc::new(FeatureSchema { features });
    let ((train_x, test_x), (train_y, test_y)) =
        (x.view().split_at(Axis(0), train_rows), y.view().split_at(Axis(0), train_rows));
    let (train_x, test_x) = (train_x.to_owned(), test_x.to_owned());
    let (train_y, test_y) = (train_y.to_owned(), test_y.to_owned());
    let data = Dataset::new(Arc::clone(&schema), train_x.clone(), train_y.clone())?;
    let mut lines = Vec::new();

    for estimator in
        regressors::all_regressors().iter().filter(|estimator| estimator.name().contains(&only))
    {
        let fit = || {
            let (fitted, rows) = fit_regressor(estimator.as_ref(), &data, 1)?;
            Ok((Predictor::Regressor(fitted), rows))
        };
        let evaluate =
            |p: &Predictor| metrics::rmse(p.predict(test_x.view()).view(), test_y.view());
        lines.extend(measure_model(
            ("regressor", estimator.name(), "rmse"),
            &test_x,
            fit,
            evaluate,
        ));
    }
    let amount = |y: &Array1<f64>| y.mapv(|y| (y / 4.0).exp());
    let amounts = Dataset::new(Arc::clone(&schema), train_x.clone(), amount(&train_y))?;
    for estimator in
        regressors::amount_regressors().iter().filter(|estimator| estimator.name().contains(&only))
    {
        let fit = || {
            let (fitted, rows) =
                microclimate_models::fit_regressor(estimator.as_ref(), &amounts, 1)?;
            Ok((Predictor::Regressor(fitted), rows))
        };
        let evaluate =
            |p: &Predictor| metrics::mae(p.predict(test_x.view()).view(), amount(&test_y).view());
        lines.extend(measure_model(
            ("of amounts", estimator.name(), "mae"),
            &test_x,
            fit,
            evaluate,
        ));
    }
    let class = |y: &Array1<f64>| y.iter().map(|y| usize::from(*y > 1.0)).collect::<Vec<_>>();
    let names = vec!["low".to_owned(), "high".to_owned()];
    let labelled = LabelledDataset::new(schema, train_x.clone(), class(&train_y), names)?;
    let labels: Vec<bool> = class(&test_y).into_iter().map(|class| class == 1).collect();
    for classifier in
        classify::all_classifiers().iter().filter(|classifier| classifier.name().contains(&only))
    {
        let fit = || {
            let (fitted, rows) = classify::fit_classifier(classifier.as_ref(), &labelled, 1)?;
            Ok((Predictor::Classifier(fitted), rows))
        };
        let evaluate = |p: &Predictor| roc_auc(&p.predict(test_x.view()).to_vec(), &labels);
        lines.extend(measure_model(
            ("classifier", classifier.name(), "roc_auc"),
            &test_x,
            fit,
            evaluate,
        ));
    }
    // Anomalous rows: ten inputs are three times as large.
    let mut with_anomalies = test_x.slice_axis(Axis(0), Slice::from(..DETECTED_ROWS)).to_owned();
    for mut row in with_anomalies.rows_mut().into_iter().step_by(50) {
        row.iter_mut().take(10).for_each(|value| *value *= 3.0);
    }
    let labels: Vec<bool> = (0..DETECTED_ROWS).map(|row| row % 50 == 0).collect();
    for detector in
        detect::all_detectors().iter().filter(|detector| detector.name().contains(&only))
    {
        let fit = || {
            let fitted = detector.fit(train_x.view(), 1)?;
            Ok((Predictor::Detector(fitted), train_rows.min(detector.rows_max())))
        };
        let evaluate = |p: &Predictor| {
            metrics::average_precision(&p.predict(with_anomalies.view()).to_vec(), &labels)
        };
        lines.extend(measure_model(
            ("detector", detector.name(), "pr_auc"),
            &test_x,
            fit,
            evaluate,
        ));
    }
    let mut table =
        "kind,model,rows,fit_s,fit_cpu_s,predict_us,predict_p99_us,size_bytes,metric,value\n"
            .to_owned();
    for ModelFigures { kind, model, rows, took, size_bytes, metric, value } in lines {
        let ModelTimings { fit_s, fit_cpu_s, predict_us, predict_p99_us } = took;
        writeln!(
            table,
            "{kind},\"{model}\",{rows},{fit_s:.4},{fit_cpu_s:.2},{predict_us:.2},{predict_p99_us:.2},{size_bytes},{metric},{value:.6}"
        )?;
    }
    fs::write(folder.join("ours.csv"), table)?;
    println!("written: {}", folder.display());
    Ok(())
}
