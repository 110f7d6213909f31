use models::{Predictor, ROWS_MIN, fit_regressor};
use rayon::prelude::*;
use serde::Serialize;

use super::{
    RelevanceStudy,
    windows::{self, InputWindow},
};
use crate::backtest::{
    SignificanceTest,
    details::pick_evenly,
    error_intervals::{ErrorMetric, TimeGroups},
    table::DatasetTable,
};

/// Result of fitting a model again without some windows.
#[derive(Clone, Debug, Serialize)]
pub struct WindowAblation {
    /// Removed windows: `7 d`, `24 h and longer`, `all windows`.
    pub without: String,
    /// Shortest of the removed windows, seconds.
    pub from_s: u64,
    /// Number of inputs that were removed.
    pub inputs_removed: usize,
    /// Number of inputs that were left.
    pub inputs_left: usize,
    /// Error on the test set.
    pub error: f64,
    /// Relative change of the error; a positive change means that the windows were useful.
    pub change: f64,
    /// 95 % interval of the change, where the test set is long enough.
    pub interval: Option<[f64; 2]>,
    /// Significance test of the difference; a positive statistic means that the model is worse
    /// without the windows.
    pub test: Option<SignificanceTest>,
}

/// Length, s, from which windows count as long-term data.
pub(super) const LONG_S: u64 = 86_400;

/// Rows that models are fitted to without a window, at most.
const ABLATION_ROWS_MAX: usize = 20_000;

/// Inputs to leave out.
struct AblationVariant {
    without: String,
    from_s: u64,
    kept: Vec<usize>,
}

impl RelevanceStudy<'_> {
    pub(super) fn ablate_windows(
        &self,
        predictor: &Predictor,
        known: &DatasetTable,
        test: &DatasetTable,
    ) -> Result<Vec<WindowAblation>, String> {
        let Predictor::Regressor(full) = predictor else { return Ok(Vec::new()) };
        // Many rows would be fitted once a window: then all are fitted to fewer.
        let thinned;
        let (known, full) = if known.y.len() > ABLATION_ROWS_MAX {
            let all: Vec<usize> = (0..known.y.len()).collect();
            let known = known.select_rows(&pick_evenly(&all, ABLATION_ROWS_MAX));
            let data = known.to_dataset().map_err(|error| error.to_string())?;
            let (full, _) = fit_regressor(self.estimator, &data, self.seed)
                .map_err(|error| error.to_string())?;
            thinned = (known, full);
            (&thinned.0, &thinned.1)
        } else {
            (known, full)
        };
        let metric = ErrorMetric::from_name(self.task.spec().metric);
        let clock = TimeGroups::from_times(&test.at_ms, self.task.spec().horizon_s, self.seed);
        let full_losses = test.model_losses(metric, full);
        let inputs = &known.schema.features;
        let without = |variant: AblationVariant| -> Result<WindowAblation, String> {
            let (known, test) = (known.with_inputs(&variant.kept), test.with_inputs(&variant.kept));
            let fitted =
                known.to_dataset().and_then(|data| fit_regressor(self.estimator, &data, self.seed));
            let (fitted, _) = fitted.map_err(|error| {
                format!("{} without {}: {error}", self.estimator.name(), variant.without)
            })?;
            let losses = test.model_losses(metric, &fitted);
            let error = metric.error_from_losses(&losses);
            let interval = clock.skill_interval(metric, &losses, &full_losses);
            Ok(WindowAblation {
                without: variant.without,
                from_s: variant.from_s,
                inputs_removed: inputs.len() - variant.kept.len(),
                inputs_left: variant.kept.len(),
                error,
                change: error / metric.error_from_losses(&full_losses) - 1.0,
                interval: interval.map(|[low, high]| [0.0 - high, 0.0 - low]),
                test: clock.test_difference(&losses, &full_losses),
            })
        };
        debug_assert!(known.y.len() >= ROWS_MIN, "the split sees to it");
        ablation_variants(inputs).into_par_iter().map(without).collect()
    }
}

/// Variants that remove each window by itself, long-term ones together, and all together, if an
/// input is left.
fn ablation_variants(inputs: &[String]) -> Vec<AblationVariant> {
    let windows_by_input: Vec<Vec<InputWindow>> =
        inputs.iter().map(|input| windows::input_windows(input)).collect();
    let mut widths: Vec<InputWindow> = windows_by_input.iter().flatten().cloned().collect();
    widths.sort();
    widths.dedup();
    let without = |without: String, from_s: u64, goes: &dyn Fn(&InputWindow) -> bool| {
        let kept = (0..inputs.len()).filter(|i| !windows_by_input[*i].iter().any(goes)).collect();
        AblationVariant { without, from_s, kept }
    };
    let mut variants: Vec<AblationVariant> = widths
        .iter()
        .rev()
        .map(|window| without(format_width(&window.name), window.seconds, &|width| width == window))
        .collect();
    let long: Vec<&InputWindow> = widths.iter().filter(|width| width.seconds >= LONG_S).collect();
    if let [shortest, _, ..] = long.as_slice() {
        let name = format!("{} and longer", format_width(&shortest.name));
        variants.push(without(name, LONG_S, &|width| width.seconds >= LONG_S));
    }
    if let [shortest, _, ..] = widths.as_slice() {
        variants.push(without("all windows".to_owned(), shortest.seconds, &|_| true));
    }
    variants.retain(|variant| !variant.kept.is_empty());
    variants
}

/// Formats `24h` as `24 h`.
pub(super) fn format_width(width: &str) -> String {
    let (count, unit) = width.split_at(width.len() - 1);
    format!("{count} {}", if unit == "m" { "min" } else { unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out() {
        let check = |inputs: &[&str], expect: &[(&str, &[usize])]| {
            let inputs: Vec<String> = inputs.iter().map(|name| (*name).to_owned()).collect();
            let found = ablation_variants(&inputs);
            let found: Vec<(&str, &[usize])> =
                found.iter().map(|v| (v.without.as_str(), v.kept.as_slice())).collect();
            assert_eq!(found, expect);
        };
        check(
            &["a_mean_10m", "a_mean_24h - a_last", "a_slope_7d", "hour_sin"],
            &[
                ("7 d", &[0, 1, 3]),
                ("24 h", &[0, 2, 3]),
                ("10 min", &[1, 2, 3]),
                ("24 h and longer", &[0, 3]),
                ("all windows", &[3]),
            ],
        );
        check(&["a_mean_1h", "hour_sin"], &[("1 h", &[1])]);
        check(&["a_mean_1h", "b_mean_24h"], &[("24 h", &[0]), ("1 h", &[1])]);
        check(&["a_last", "hour_sin"], &[]);
    }
}
