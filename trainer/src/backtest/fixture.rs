//! Small rooms with known temperatures, for tests of comparisons and reports.

use std::collections::{BTreeSet, HashMap};

use models::{Estimator, zoo};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use telemetry::SmolStr;

use super::{Backtest, Depth, Setup};
use crate::{
    folds::{self, Plan},
    frame::{ZoneFrame, ZoneViews},
    rows::Rows,
    settings::Settings,
    split::Parts,
    tasks::{self, Task},
    workers::Limits,
};

/// Ten minutes ahead.
pub(crate) fn task() -> Box<dyn Task> {
    tasks::all().into_iter().find(|task| task.about().name == "temperature-10m").unwrap()
}

/// Of few rows, so that tests are quick.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.split.train_rows_max = 1500;
    settings.split.test_rows_max = 1200;
    settings.split.warm_up_s = 3600;
    settings
}

/// Minutes of a room: a day's wave, a slower one of its own, and noise that
/// lasts. `leak`: a column that is really the change to come, and light that never changes.
pub(crate) fn frame(room: u32, minutes: usize, leak: bool) -> ZoneFrame {
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
pub(crate) fn rows(leak: bool) -> Rows {
    let zones: Vec<ZoneViews> =
        (1..=3).map(|room| ZoneViews::without_late_readings(frame(room, 2880, leak))).collect();
    let columns: BTreeSet<SmolStr> = zones[0].as_known.names().cloned().collect();
    let task = task();
    let inputs = task.inputs(&columns);
    Rows::of(task.as_ref(), &zones, &inputs, &settings())
}

/// Their parts.
pub(crate) fn parts(leak: bool, folds: usize) -> Vec<Parts> {
    let (rows, settings) = (rows(leak), settings());
    let plan = Plan { folds, ..Plan::default() };
    folds::folds(&rows, &rows, task().about().horizon_s, &settings.split, &plan).unwrap()
}

/// A comparison of these models.
pub(crate) fn backtest(names: &[&str], leak: bool, folds: usize, threads: usize) -> Backtest {
    backtest_of(&parts(leak, folds), names, threads)
}

/// The same over these folds.
pub(super) fn backtest_of(parts: &[Parts], names: &[&str], threads: usize) -> Backtest {
    let settings = settings();
    let models: Vec<Box<dyn Estimator>> =
        names.iter().map(|name| zoo::by_name(name).unwrap()).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let setup = Setup {
        settings: &settings,
        limits: Limits { threads, memory_bytes: 64 << 20 },
        pool: &pool,
        depth: Depth::Usual,
        observe: &|_, step, steps| assert!(step <= steps, "step {step} of {steps}"),
    };
    super::run(task().as_ref(), parts, &models, &setup).unwrap()
}
