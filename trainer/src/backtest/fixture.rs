//! Small rooms with known temperatures, for tests of comparisons and reports.

use std::collections::{BTreeSet, HashMap};

use models::{Estimator, regressors};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use telemetry::SmolStr;

use super::{Backtest, BacktestSetup, ComparisonDepth, SelectedCandidate};
use crate::{
    feature_frame::{ZoneFrame, ZoneViews},
    fit_pool::FitLimits,
    folds::{self, FoldPlan},
    settings::TrainerSettings,
    split::DataSplit,
    tasks::{self, PredictionTask},
    training_set::LabelledRows,
};

/// Ten minutes ahead.
pub(crate) fn temperature_task() -> Box<dyn PredictionTask> {
    tasks::all_tasks().into_iter().find(|task| task.spec().name == "temperature-10m").unwrap()
}

/// Settings with few rows, so that tests are quick.
pub(crate) fn small_settings() -> TrainerSettings {
    let mut settings = TrainerSettings::default();
    settings.split.train_rows_max = 1500;
    settings.split.test_rows_max = 1200;
    settings.split.warm_up_s = 3600;
    settings
}

/// Minutes of a room: a day's wave, a slower one of its own, and noise that
/// lasts. `leak`: a column that is really the change to come, and light that never changes.
pub(crate) fn room_frame(room: u32, minutes: usize, leak: bool) -> ZoneFrame {
    let mut rng = Pcg64::seed_from_u64(u64::from(room));
    let mut noise = 0.0;
    let wave = |minute: usize, period_min: f64| {
        (std::f64::consts::TAU * (minute as f64 / period_min + f64::from(room) / 5.0)).sin()
    };
    let last: Vec<f64> = (0..minutes + 10)
        .map(|minute| {
            noise = 0.97 * noise + 0.02 * rng.random_range(-1.0..1.0);
            21.0 + 2.0 * wave(minute, 1440.0) + 0.4 * wave(minute, 170.0) + noise
        })
        .collect();
    let back = |minute: usize, by: usize| last[minute.saturating_sub(by)];
    let mean = |minute: usize, over: usize| {
        let window = &last[(minute + 1).saturating_sub(over)..=minute];
        window.iter().sum::<f64>() / window.len() as f64
    };
    let column = |of: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..minutes).map(of).collect() };
    let mut columns: HashMap<SmolStr, Vec<f64>> = HashMap::from([
        ("temperature_last".into(), column(&|m| last[m])),
        ("temperature_mean_10m".into(), column(&|m| mean(m, 10))),
        ("temperature_slope_10m".into(), column(&|m| (last[m] - back(m, 9)) * 60.0 / 9.0)),
        ("temperature_mean_1h".into(), column(&|m| mean(m, 60))),
        ("temperature_slope_1h".into(), column(&|m| last[m] - back(m, 60))),
        ("temperature_mean_24h".into(), column(&|m| mean(m, 1440))),
        ("hour_sin".into(), column(&|m| (std::f64::consts::TAU * m as f64 / 1440.0).sin())),
        ("hour_cos".into(), column(&|m| (std::f64::consts::TAU * m as f64 / 1440.0).cos())),
    ]);
    if leak {
        columns.insert("co2_last".into(), column(&|m| last[m + 10] - last[m]));
        columns.insert("light_last".into(), column(&|_| 5.0));
        columns.insert("light_mean_30m".into(), column(&|_| 5.0));
    }
    // From 2013-08-24 on.
    let at_ms = (0..minutes as i64).map(|minute| 1_377_302_400_000 + minute * 60_000).collect();
    ZoneFrame::new(format!("house/room-{room}").parse().unwrap(), at_ms, columns)
}

/// The rows of three rooms over two days.
pub(crate) fn room_rows(leak: bool) -> LabelledRows {
    let zones: Vec<ZoneViews> = (1..=3)
        .map(|room| ZoneViews::without_late_readings(room_frame(room, 2880, leak)))
        .collect();
    let columns: BTreeSet<SmolStr> = zones[0].as_known.column_names().cloned().collect();
    let task = temperature_task();
    let inputs = task.input_names(&columns);
    LabelledRows::from_zones(task.as_ref(), &zones, &inputs, &small_settings())
}

/// Their parts.
pub(crate) fn room_splits(leak: bool, folds: usize) -> Vec<DataSplit> {
    let (rows, settings) = (room_rows(leak), small_settings());
    let plan = FoldPlan { folds, ..FoldPlan::default() };
    folds::split_folds(&rows, &rows, temperature_task().spec().horizon_s, &settings.split, &plan)
        .unwrap()
}

/// A comparison of these models.
pub(crate) fn run_backtest(names: &[&str], leak: bool, folds: usize, threads: usize) -> Backtest {
    run_backtest_of(&room_splits(leak, folds), names, threads)
}

/// The same over these folds.
pub(super) fn run_backtest_of(parts: &[DataSplit], names: &[&str], threads: usize) -> Backtest {
    run_backtest_with(parts, names, threads, &|_| Ok(0))
}

/// The same, keeping the candidate that `choose` says.
pub(super) fn run_backtest_with(
    parts: &[DataSplit],
    names: &[&str],
    threads: usize,
    choose: &dyn Fn(&[SelectedCandidate]) -> Result<usize, String>,
) -> Backtest {
    let settings = small_settings();
    let models: Vec<Box<dyn Estimator>> =
        names.iter().map(|name| regressors::by_name(name).unwrap()).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let setup = BacktestSetup {
        settings: &settings,
        limits: FitLimits { threads, memory_bytes: 64 << 20 },
        pool: &pool,
        depth: ComparisonDepth::Usual,
        observe: &|_, step, steps| assert!(step <= steps, "step {step} of {steps}"),
        choose,
    };
    super::run_backtest(temperature_task().as_ref(), parts, &models, &setup).unwrap()
}
