//! Accuracy of the course that is forecast, on recorded series that end at many times.
//!
//! ```sh
//! cargo run --workspace --example forecast_accuracy -- FOLDER/*/temperature.csv
//! ```
//!
//! Each file has lines `seconds since 1970, value`, as those of the Sutardja Dai Hall building. A
//! path of 24 h is forecast every three hours from all that was known by then, and compared with
//! the 10-minute means that came. Printed are the mean absolute errors of the path, of the present
//! value and of the value 24 h before the target, and the share of times inside the 90 % interval.

use std::{collections::BTreeMap, env, fs, process::ExitCode};

use microclimate_models::forecast::{SampledSeries, forecast_path};

const STEP_S: i64 = 600;
const DAY: usize = 144;
/// Rows that a forecast rests on, as in service.
const HISTORY: usize = 14 * DAY;
/// Leads that are printed, in steps.
const LEADS: [usize; 6] = [1, 3, 6, 36, 72, 144];
/// Distance of origins, in steps.
const EVERY: usize = 18;

#[derive(Clone, Copy, Default)]
struct LeadErrors {
    path: f64,
    persistence: f64,
    yesterday: f64,
    inside: f64,
    count: f64,
}

fn main() -> ExitCode {
    let files: Vec<String> = env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: forecast_accuracy FILE…   (lines `seconds since 1970, value`)");
        return ExitCode::FAILURE;
    }
    let mut errors: BTreeMap<usize, LeadErrors> = BTreeMap::new();
    for file in &files {
        match fs::read_to_string(file) {
            Ok(text) => evaluate_series(&means_of(&text), &mut errors),
            Err(error) => eprintln!("{file}: {error}"),
        }
    }
    println!("{} series", files.len());
    println!("lead      times  path  present  yesterday  skill  inside 90 %");
    for (lead, LeadErrors { path, persistence, yesterday, inside, count }) in errors {
        let best = persistence.min(yesterday);
        println!(
            "{:>4} min {count:>7} {:>6.3} {:>7.3} {:>9.3} {:>7.2} {:>9.1} %",
            lead as i64 * STEP_S / 60,
            path / count,
            persistence / count,
            yesterday / count,
            1.0 - path / best,
            100.0 * inside / count,
        );
    }
    ExitCode::SUCCESS
}

/// 10-minute means, NaN where nothing was read.
fn means_of(text: &str) -> Vec<f64> {
    let readings = text.lines().filter_map(|line| {
        let (at, value) = line.split_once(',')?;
        let (at, value) = (at.trim().parse::<f64>().ok()?, value.trim().parse::<f64>().ok()?);
        // What the metric table takes for a room's temperature; other metrics lie inside too.
        (value > -40.0 && value < 200_000.0).then_some((at as i64 / STEP_S, value))
    });
    let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (step, value) in readings {
        let (sum, count) = sums.entry(step).or_default();
        *sum += value;
        *count += 1.0;
    }
    let (Some((first, _)), Some((last, _))) = (sums.first_key_value(), sums.last_key_value())
    else {
        return Vec::new();
    };
    let mut values = vec![f64::NAN; (last - first + 1) as usize];
    for (step, (sum, count)) in &sums {
        values[(step - first) as usize] = sum / count;
    }
    values
}

fn evaluate_series(values: &[f64], errors: &mut BTreeMap<usize, LeadErrors>) {
    for known in (4 * DAY..values.len()).step_by(EVERY) {
        let history = &values[known.saturating_sub(HISTORY)..known];
        let series = SampledSeries { values: history, day_steps: DAY, hour_steps: 6 };
        let path = forecast_path(series, DAY, &[0.05, 0.95]);
        for point in path.iter().filter(|point| LEADS.contains(&point.lead)) {
            let target = known - 1 + point.lead;
            let Some(actual) = values.get(target).copied().filter(|value| value.is_finite()) else {
                continue;
            };
            let yesterday = values[target - DAY];
            if yesterday.is_nan() {
                continue;
            }
            let own = errors.entry(point.lead).or_default();
            own.path += (actual - point.value).abs();
            own.persistence += (actual - values[known - 1]).abs();
            own.yesterday += (actual - yesterday).abs();
            own.inside += f64::from(point.quantiles[0] <= actual && actual <= point.quantiles[1]);
            own.count += 1.0;
        }
    }
}
