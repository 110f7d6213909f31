use std::collections::BTreeSet;

use models::{Estimator, metrics::ScoreRanking, regressors};
use telemetry::SmolStr;

use super::{
    ConstantTarget, HOUR_MS, PredictionTask, TaskBaseline, TaskSpec, applicability::format_range,
    available_inputs, over_and_under_prediction, relative_inputs, time_and_climate_inputs,
};
use crate::{
    backtest::RowStatistic,
    feature_frame::ZoneFrame,
    input::{HOURS_MAX, PresentMetric},
    settings::ComfortSettings,
    training_set::LabelledRows,
};

/// Hours until the soil moisture falls to the zone's critical value.
///
/// Target: hours from T to the first row at which the present soil moisture (see
/// [`PresentMetric::SoilMoisture`]: the driest of several probes, because its plants must not wait
/// for the others) is at or below `comfort.soil_moisture_critical`, at most 48. Rows that are
/// critical at T do not count, because there is nothing to wait for.
///
/// A target is censored, that is, only a lower bound is known, if the zone was watered before
/// (moisture rose by [`RISE_PCT`] above its lowest value; the bound is that time), and if readings
/// ended or paused for 8 h. Models learn from censored rows and are evaluated on the others.
pub(super) struct HoursToCriticalTask;

/// Soil moisture some hours ahead.
///
/// Target: present soil moisture at T + 6 h or T + 24 h, %, learnt as the change since T, including
/// the effect of any watering in between.
pub(super) struct SoilMoistureTask {
    spec: TaskSpec,
    hours: i64,
}

/// Whether a watering begins in the next two hours.
///
/// Target: 1 if the drying trend of a later row, up to T + 8 h, dates the onset of its latest
/// watering in (T, T + 2 h], else 0. With a valve's signal the onset is the time at which the valve
/// opens. Without one it is the trough before the rise, which becomes visible hours later if
/// readings are hours apart.
pub(super) struct WateringStartTask;

/// Rise that counts as a watering, %, as in `agronomy::drying`.
const RISE_PCT: f64 = 2.5;
const DRYING_FEATURES: [&str; 8] = [
    "drying_since_watering_h",
    "drying_watering_rise_pct",
    "drying_slope_pct_h",
    "drying_slope_se_pct_h",
    "drying_r2",
    "drying_tau_h",
    "drying_rate_pct_h",
    "drying_response_pct_min",
];
const DRYING_PACES: [&str; 5] = [
    "soil_moisture_slope_6h",
    "soil_moisture_slope_24h",
    "soil_moisture_slope_7d",
    "drying_slope_pct_h",
    "drying_rate_pct_h",
];
const START_H: f64 = 2.0;
const START_KNOWN_H: i64 = 8;

/// Facts that all watering tasks share.
const SOIL: TaskSpec =
    TaskSpec { group: "watering", step_s: 1800, metrics: &["soil_moisture"], ..TaskSpec::ANY };
const MOISTURE: TaskSpec = TaskSpec {
    unit: "%",
    required_metric: Some(PresentMetric::SoilMoisture),
    truth_columns: &PresentMetric::SoilMoisture.source_columns(),
    ..SOIL
};
const HOURS_TO_CRITICAL: TaskSpec = TaskSpec {
    name: "watering",
    title: "hours until it must be watered",
    unit: "h",
    metric: "mae",
    horizon_s: 48 * 3600,
    bounds: (0.0, HOURS_MAX),
    ..MOISTURE
};
const START: TaskSpec = TaskSpec {
    name: "watering-start-2h",
    title: "whether a watering begins within 2 hours",
    unit: "probability",
    horizon_s: START_KNOWN_H * 3600,
    truth_columns: &["drying_since_watering_h"],
    bounds: (0.0, 1.0),
    classes: &["no watering", "watering"],
    ..SOIL
};

/// Inputs of the watering tasks: moisture, drying, the last watering, and the weather. A valve's
/// signal is not an input by itself, because the drying trend includes it.
fn soil_inputs(columns: &BTreeSet<SmolStr>) -> Vec<String> {
    let mut inputs: Vec<String> =
        ["soil_moisture_now", "soil_moisture_above_critical", "soil_moisture_age_s"]
            .map(str::to_owned)
            .to_vec();
    inputs.extend(DRYING_PACES.map(|pace| format!("hours_to_critical_by_{pace}")));
    inputs.extend(DRYING_FEATURES.map(str::to_owned));
    inputs.extend(relative_inputs(columns, "soil_moisture", "soil_moisture_now", u64::MAX));
    for metric in ["temperature", "humidity", "light", "soil_temperature", "wind_speed"] {
        inputs.extend(["1h", "24h", "7d"].map(|window| format!("{metric}_mean_{window}")));
    }
    inputs.extend(time_and_climate_inputs(columns));
    available_inputs(columns, inputs)
}

/// Time from a row until the soil is critical.
#[derive(Clone, Copy, Debug, PartialEq)]
struct DryingOutcome {
    hours: f64,
    is_censored: bool,
}

fn drying_outcome(
    frame: &ZoneFrame,
    row: usize,
    comfort: &ComfortSettings,
) -> Option<DryingOutcome> {
    let start_ms = frame.at_ms[row];
    let hours = |at_ms: i64| (at_ms - start_ms) as f64 / HOUR_MS as f64;
    let present = frame.present_values(PresentMetric::SoilMoisture);
    let mut lowest = present(row);
    if lowest.is_nan() || lowest <= comfort.soil_moisture_critical {
        return None;
    }
    let mut known_ms = start_ms;
    for (later, at_ms) in frame.at_ms.iter().enumerate().skip(row) {
        let moisture = present(later);
        if hours(*at_ms) > HOURS_MAX || moisture.is_nan() {
            break;
        }
        if moisture <= comfort.soil_moisture_critical {
            return Some(DryingOutcome { hours: hours(*at_ms), is_censored: false });
        }
        if moisture > lowest + RISE_PCT {
            return Some(DryingOutcome { hours: hours(known_ms), is_censored: true });
        }
        lowest = lowest.min(moisture);
        known_ms = *at_ms;
    }
    // A row may be missing at the very end of the 48 h.
    let is_over = hours(known_ms) > HOURS_MAX - 0.1;
    let bound_h = if is_over { HOURS_MAX } else { hours(known_ms) };
    Some(DryingOutcome { hours: bound_h, is_censored: !is_over })
}

impl PredictionTask for HoursToCriticalTask {
    fn spec(&self) -> &TaskSpec {
        &HOURS_TO_CRITICAL
    }

    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        let mut all = vec!["linear_hours_to_critical".to_owned()];
        all.extend(soil_inputs(columns));
        all
    }

    fn actual_value(
        &self,
        corrected: &ZoneFrame,
        row: usize,
        comfort: &ComfortSettings,
    ) -> Option<f64> {
        drying_outcome(corrected, row, comfort).map(|outcome| outcome.hours)
    }

    fn is_censored(&self, corrected: &ZoneFrame, row: usize, comfort: &ComfortSettings) -> bool {
        drying_outcome(corrected, row, comfort).is_some_and(|outcome| outcome.is_censored)
    }

    /// Hours by which watering at the predicted time would be too late (plants are dry for so
    /// long), or too early.
    fn extra_scores(
        &self,
        predictions: &[f64],
        rows: &LabelledRows,
    ) -> Vec<(&'static str, RowStatistic)> {
        let [late, early] = over_and_under_prediction(predictions, rows);
        vec![("too_late_h", late), ("too_early_h", early)]
    }

    fn estimators(&self) -> Vec<Box<dyn Estimator>> {
        regressors::all_regressors().into_iter().chain(regressors::amount_regressors()).collect()
    }

    fn baselines(&self) -> Vec<TaskBaseline> {
        let by = |name, input| TaskBaseline { name, input: Some(input), factor: 1.0 };
        vec![
            by("line of 24 h", "linear_hours_to_critical"),
            by("line of 6 h", "hours_to_critical_by_soil_moisture_slope_6h"),
            by("line since watering", "hours_to_critical_by_drying_slope_pct_h"),
            by("mean drying rate", "hours_to_critical_by_drying_rate_pct_h"),
        ]
    }

    fn describe_constant(&self, constant: f64, comforts: &[ComfortSettings]) -> ConstantTarget {
        let critical = format_range(comforts, |comfort| comfort.soil_moisture_critical, "%");
        let what = if constant >= HOURS_MAX {
            format!("no soil dried to {critical} within {HOURS_MAX} h")
        } else {
            format!("each soil dried to {critical} within {constant} h")
        };
        ConstantTarget { what, hint: "set comfort.soil_moisture_critical, or a zone's own" }
    }
}

impl SoilMoistureTask {
    pub(super) const IN_6H: Self = Self::hours_ahead(6, "watering-6h", "soil moisture in 6 hours");
    pub(super) const IN_24H: Self =
        Self::hours_ahead(24, "watering-24h", "soil moisture in 24 hours");

    const fn hours_ahead(hours: i64, name: &'static str, title: &'static str) -> Self {
        let reference = Some("soil_moisture_now");
        Self {
            spec: TaskSpec {
                name,
                title,
                horizon_s: hours * 3600,
                reference,
                forecast_metric: Some("soil_moisture"),
                ..MOISTURE
            },
            hours,
        }
    }
}

impl PredictionTask for SoilMoistureTask {
    fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        soil_inputs(columns)
    }

    fn actual_value(&self, corrected: &ZoneFrame, row: usize, _: &ComfortSettings) -> Option<f64> {
        corrected.present_value_at(
            PresentMetric::SoilMoisture,
            corrected.at_ms[row] + self.hours * HOUR_MS,
        )
    }

    fn baselines(&self) -> Vec<TaskBaseline> {
        let hours = self.hours as f64;
        vec![
            TaskBaseline { name: "persistence", input: None, factor: 0.0 },
            TaskBaseline {
                name: "mean drying rate",
                input: Some("drying_rate_pct_h"),
                factor: -hours,
            },
        ]
    }
}

impl PredictionTask for WateringStartTask {
    fn spec(&self) -> &TaskSpec {
        &START
    }

    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        soil_inputs(columns)
    }

    fn actual_value(&self, corrected: &ZoneFrame, row: usize, _: &ComfortSettings) -> Option<f64> {
        let since = corrected.column("drying_since_watering_h")?;
        let start_ms = corrected.at_ms[row];
        let until_ms = start_ms + START_KNOWN_H * HOUR_MS;
        corrected.row_at(until_ms)?;
        let later = (row..since.len()).take_while(|later| corrected.at_ms[*later] <= until_ms);
        let mut onsets = later.map(|later| {
            (corrected.at_ms[later] - start_ms) as f64 / HOUR_MS as f64 - since[later]
        });
        // An onset a few seconds after T is the one before T, rounded.
        Some(f64::from(u8::from(onsets.any(|hours| hours > 0.01 && hours <= START_H))))
    }

    fn extra_scores(
        &self,
        predictions: &[f64],
        rows: &LabelledRows,
    ) -> Vec<(&'static str, RowStatistic)> {
        let began: Vec<bool> = rows.actual_values().iter().map(|actual| *actual > 0.5).collect();
        vec![("roc_auc", RowStatistic::RocAuc(ScoreRanking::from_scores(predictions, &began)))]
    }

    fn baselines(&self) -> Vec<TaskBaseline> {
        vec![TaskBaseline { name: "never", input: None, factor: 0.0 }]
    }

    fn describe_constant(&self, constant: f64, _: &[ComfortSettings]) -> ConstantTarget {
        let what = if constant == 0.0 { "no watering began" } else { "a watering was always near" };
        ConstantTarget {
            what: what.to_owned(),
            hint: "waterings are seen where soil_moisture rises, or irrigation (a valve) goes on; a \
                   longer recording may have some",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{actual_value_of, frame};
    use super::*;
    use crate::TrainerSettings;

    const LOWEST: &str = "soil_moisture_min_30m";

    fn check(frame: &ZoneFrame, row: usize, expect: Option<(f64, bool)>) {
        let comfort = TrainerSettings::default().comfort; // critical at 30 %
        let got = drying_outcome(frame, row, &comfort);
        let got = got.map(|outcome| (outcome.hours, outcome.is_censored));
        assert_eq!(got, expect, "row {row}");
    }

    #[test]
    fn hours_to_the_crossing_at_most_48() {
        // one percent an hour from 90 %: critical after 60 h
        let drying = frame(70 * 60, &[(LOWEST, &|m| 90.0 - m / 60.0)]);
        check(&drying, 50 * 60, Some((10.0, false)));
        check(&drying, 0, Some((48.0, false)));
        check(&drying, 65 * 60, None);
    }

    #[test]
    fn who_waters_or_stops_measuring_hides_when_it_would_have_been_dry() {
        let watered = frame(60 * 60, &[(LOWEST, &|m| if m < 300.0 { 50.0 } else { 53.0 })]);
        check(&watered, 0, Some((299.0 / 60.0, true)));
        check(&watered, 300, Some((48.0, false)));
        let ended = frame(20 * 60 + 1, &[(LOWEST, &|_| 50.0)]);
        check(&ended, 0, Some((20.0, true)));
        // up to 1 % above, then down to 49 % and up again: a rise of 2 % is not a watering
        let swings = frame(60 * 60, &[(LOWEST, &|m| 50.0 + (m / 300.0).sin())]);
        check(&swings, 0, Some((48.0, false)));
    }

    #[test]
    fn moisture_hours_later() {
        let drying = frame(30 * 60, &[(LOWEST, &|m| 90.0 - m / 60.0)]);
        assert_eq!(actual_value_of(&SoilMoistureTask::IN_6H, &drying, 60), Some(83.0));
        assert_eq!(actual_value_of(&SoilMoistureTask::IN_24H, &drying, 60), Some(65.0));
        assert_eq!(
            actual_value_of(&SoilMoistureTask::IN_24H, &drying, 6 * 60),
            None,
            "not known yet"
        );
    }

    #[test]
    fn a_watering_begins_where_a_later_trend_dates_it() {
        // watered at minute 300, which becomes visible at minute 420
        let since = |m: f64| if m < 420.0 { 10.0 + m / 60.0 } else { (m - 300.0) / 60.0 };
        let trend = frame(1200, &[("drying_since_watering_h", &since)]);
        let check = |row, expect| {
            assert_eq!(actual_value_of(&WateringStartTask, &trend, row), expect, "row {row}");
        };
        check(170, Some(0.0));
        check(180, Some(1.0));
        check(290, Some(1.0));
        check(300, Some(0.0));
        check(800, None);
    }
}
