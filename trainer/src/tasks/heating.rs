use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{
    ConstantTarget, PredictionTask, TaskBaseline, TaskSpec, applicability::format_range,
    available_inputs, metric_windows, other_metric_inputs, over_and_under_prediction,
    relative_inputs, time_and_climate_inputs, yesterday_inputs,
};
use crate::{
    backtest::RowStatistic,
    duration_name,
    feature_frame::ZoneFrame,
    input::{ComfortSide, PresentMetric},
    settings::ComfortSettings,
    target_transform::{MEAN_AFTER_H, TargetTransform},
    training_set::LabelledRows,
};

const MINUTES: i64 = 60;
const MINUTES_KNOWN_MIN: usize = 50;
/// Longest window of inputs, min: the course of the next hour follows from that of the last hour.
const WINDOW_MINUTES_MAX: u64 = 60;

/// Facts that all heating tasks share.
const NEXT_HOUR: TaskSpec = TaskSpec {
    group: "heating",
    horizon_s: 3600,
    step_s: 300,
    metrics: &["temperature"],
    required_metric: Some(PresentMetric::Temperature),
    truth_columns: &PresentMetric::Temperature.source_columns(),
    ..TaskSpec::ANY
};
const HEATING: TaskSpec = TaskSpec {
    name: "heating",
    title: "heating needs of the next hour",
    unit: "°C·min",
    reference: Some("degrees_above_heating"),
    transform: TargetTransform::HourOf(ComfortSide::Heating),
    bounds: (0.0, f64::INFINITY),
    ..NEXT_HOUR
};
const COOLING: TaskSpec = TaskSpec {
    name: "cooling",
    title: "cooling needs of the next hour",
    reference: Some("degrees_above_cooling"),
    transform: TargetTransform::HourOf(ComfortSide::Cooling),
    ..HEATING
};
const CLASS: TaskSpec = TaskSpec {
    name: "heating-class",
    title: "heat, hold or cool in the next hour",
    unit: "0 heat, 1 hold, 2 cool",
    bounds: (0.0, 2.0),
    classes: &["heat", "hold", "cool"],
    ..NEXT_HOUR
};

/// Heating or cooling needs of the next hour: degree-minutes outside the comfort band.
///
/// Target: Σ max(0, `comfort.heat_below` − temperature), or Σ max(0, temperature −
/// `comfort.cool_above`), over the minutes of (T, T + 1 h], °C·min, of the present temperature (see
/// [`PresentMetric::Temperature`]) at each minute; minutes without one are taken as the mean of the
/// others. A row counts if 50 of the 60 minutes are known. Models learn the change to the mean
/// temperature of that hour (see [`TargetTransform::HourOf`]).
pub(super) struct DegreeMinutesTask {
    side: ComfortSide,
}

/// Whether the next hour needs heating, nothing, or cooling.
///
/// Target: the class of the mean temperature over (T, T + 1 h] (of its minutes, as in
/// [`DegreeMinutesTask`]): heat below `comfort.heat_below`, cool above `comfort.cool_above`, else
/// hold. The class at T is that of the present temperature; the most important rows are those where
/// the two classes differ.
pub(super) struct HeatingClassTask;

/// Present temperatures at the minutes of the next hour.
fn next_hour(frame: &ZoneFrame, row: usize) -> Option<Vec<f64>> {
    let at_ms = frame.at_ms[row];
    let known: Vec<f64> = (1..=MINUTES)
        .filter_map(|minute| {
            frame.present_value_at(PresentMetric::Temperature, at_ms + minute * 60_000)
        })
        .collect();
    (known.len() >= MINUTES_KNOWN_MIN).then_some(known)
}

fn mean_temperature(hour: &[f64]) -> f64 {
    hour.iter().sum::<f64>() / hour.len() as f64
}

/// Inputs for the course of the temperature: its windows, the same hour of yesterday, and the other
/// metrics.
fn course_inputs(columns: &BTreeSet<SmolStr>) -> Vec<String> {
    let mut inputs = vec!["temperature_now".to_owned()];
    inputs.extend(relative_inputs(columns, "temperature", "temperature_now", WINDOW_MINUTES_MAX));
    // Only the mean of longer windows: a model could recognise a room and a day by their shape.
    let windows = metric_windows(columns, "temperature").into_iter();
    let longer = windows
        .filter(|window| duration_name::parse_seconds(window) > Some(60 * WINDOW_MINUTES_MAX));
    inputs.extend(longer.map(|window| format!("temperature_mean_{window} - temperature_now")));
    inputs.extend(yesterday_inputs(columns, "temperature", "temperature_now"));
    let others =
        ["humidity", "co2", "light", "motion", "heater", "outdoor_temperature", "soil_moisture"];
    inputs.extend(other_metric_inputs(columns, &others, WINDOW_MINUTES_MAX));
    inputs.extend(time_and_climate_inputs(columns));
    available_inputs(columns, inputs)
}

/// Inputs for the position of the temperature in the comfort band, now and if its trend continues.
fn band_inputs(columns: &BTreeSet<SmolStr>) -> Vec<String> {
    let present = [
        "degrees_above_heating",
        "degrees_above_cooling",
        "class_now",
        "degree_minutes_as_now",
        "cooling_minutes_as_now",
    ];
    let mut inputs: Vec<String> = present.map(str::to_owned).to_vec();
    for side in ["degree_minutes", "cooling_minutes"] {
        for window in ["10m", "30m", "1h"] {
            let line = format!("{side}_by_temperature_slope_{window}");
            inputs.push(format!("{line} - {side}_as_now"));
            inputs.push(line);
        }
    }
    available_inputs(columns, inputs)
}

impl DegreeMinutesTask {
    pub(super) const HEATING: Self = Self { side: ComfortSide::Heating };
    pub(super) const COOLING: Self = Self { side: ComfortSide::Cooling };
}

impl PredictionTask for DegreeMinutesTask {
    fn spec(&self) -> &TaskSpec {
        match self.side {
            ComfortSide::Heating => &HEATING,
            ComfortSide::Cooling => &COOLING,
        }
    }

    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        course_inputs(columns)
    }

    fn actual_value(
        &self,
        corrected: &ZoneFrame,
        row: usize,
        comfort: &ComfortSettings,
    ) -> Option<f64> {
        let hour = next_hour(corrected, row)?;
        let sum: f64 = hour.iter().map(|value| self.side.degrees_outside(comfort, *value)).sum();
        Some(MINUTES as f64 * sum / hour.len() as f64)
    }

    fn training_target(
        &self,
        corrected: &ZoneFrame,
        row: usize,
        comfort: &ComfortSettings,
        (_, above_edge): (f64, f64),
    ) -> Option<f64> {
        Some(
            mean_temperature(&next_hour(corrected, row)?)
                - self.side.band_edge(comfort)
                - above_edge,
        )
    }

    /// Degree-minutes that heating or cooling by the prediction would give in vain, and would leave
    /// lacking.
    fn extra_scores(
        &self,
        predictions: &[f64],
        rows: &LabelledRows,
    ) -> Vec<(&'static str, RowStatistic)> {
        let [in_vain, lacking] = over_and_under_prediction(predictions, rows);
        vec![("in_vain", in_vain), ("lacking", lacking)]
    }

    fn baselines(&self) -> Vec<TaskBaseline> {
        let line = Some("temperature_slope_10m");
        let yesterday = Some("temperature_mean_1h 23h ago - temperature_last 24h ago");
        vec![
            TaskBaseline { name: "as now", input: None, factor: 0.0 },
            TaskBaseline { name: "as the last 10 min go on", input: line, factor: MEAN_AFTER_H },
            TaskBaseline { name: "as the same hour yesterday went", input: yesterday, factor: 1.0 },
        ]
    }

    fn describe_constant(&self, constant: f64, comforts: &[ComfortSettings]) -> ConstantTarget {
        let what = match self.side {
            _ if constant != 0.0 => format!("each hour lacked {constant} °C·min"),
            ComfortSide::Heating => {
                format!(
                    "no zone was below {}",
                    format_range(comforts, |comfort| comfort.heat_below, "°C")
                )
            }
            ComfortSide::Cooling => {
                format!(
                    "no zone was above {}",
                    format_range(comforts, |comfort| comfort.cool_above, "°C")
                )
            }
        };
        let hint = match self.side {
            ComfortSide::Heating => {
                "set comfort.heat_below, or a zone's own, to where it is heated"
            }
            ComfortSide::Cooling => {
                "set comfort.cool_above, or a zone's own, to where it is cooled"
            }
        };
        ConstantTarget { what, hint }
    }
}

impl PredictionTask for HeatingClassTask {
    fn spec(&self) -> &TaskSpec {
        &CLASS
    }

    fn input_names(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        [band_inputs(columns), course_inputs(columns)].concat()
    }

    fn actual_value(
        &self,
        corrected: &ZoneFrame,
        row: usize,
        comfort: &ComfortSettings,
    ) -> Option<f64> {
        let hour = next_hour(corrected, row)?;
        comfort.heating_class(mean_temperature(&hour)).map(|class| class as f64)
    }

    /// F1 of the nearest classes over all rows, and over the rows whose class differs from the
    /// present one, which the prediction "as now" never gets right.
    fn extra_scores(
        &self,
        predictions: &[f64],
        rows: &LabelledRows,
    ) -> Vec<(&'static str, RowStatistic)> {
        let nearest = |value: &f64| value.round().clamp(0.0, 2.0) as usize;
        let predicted: Vec<usize> = predictions.iter().map(nearest).collect();
        let actual: Vec<usize> = rows.actual_values().iter().map(nearest).collect();
        let now: Vec<usize> = rows.input_values("class_now").iter().map(nearest).collect();
        let at_changes = RowStatistic::macro_f1(predicted.clone(), actual.clone(), Some(&now));
        vec![
            ("macro_f1", RowStatistic::macro_f1(predicted, actual, None)),
            ("macro_f1_at_changes", at_changes),
        ]
    }

    fn baselines(&self) -> Vec<TaskBaseline> {
        vec![TaskBaseline { name: "as now", input: Some("class_now"), factor: 1.0 }]
    }

    fn describe_constant(&self, constant: f64, comforts: &[ComfortSettings]) -> ConstantTarget {
        let (low, high) = (
            format_range(comforts, |comfort| comfort.heat_below, "°C"),
            format_range(comforts, |comfort| comfort.cool_above, "°C"),
        );
        let what = match constant as usize {
            0 => format!("every hour was below {low}"),
            1 => format!("no hour was below {low} or above {high}"),
            _ => format!("every hour was above {high}"),
        };
        ConstantTarget {
            what,
            hint: "set comfort.heat_below and comfort.cool_above, or a zone's own",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{actual_value_of, frame};
    use super::*;
    use crate::{TrainerSettings, feature_frame::ZoneViews};

    #[test]
    fn degree_minutes_of_the_hour_to_come() {
        let cold = frame(200, &[("temperature_last", &|m| if m <= 30.0 { 19.0 } else { 22.0 })]);
        let check = |row, expect: Option<f64>| {
            assert_eq!(
                actual_value_of(&DegreeMinutesTask::HEATING, &cold, row),
                expect,
                "row {row}"
            );
        };
        check(0, Some(30.0)); // minutes 1 to 30, one degree each
        check(31, Some(0.0));
        check(150, None); // 49 minutes are known
        check(149, Some(0.0)); // 50 minutes are known
        let hot = frame(200, &[("temperature_last", &|m| if m <= 30.0 { 25.0 } else { 27.0 })]);
        assert_eq!(actual_value_of(&DegreeMinutesTask::COOLING, &hot, 0), Some(60.0));
    }

    #[test]
    fn the_training_target_of_a_straight_line_is_exact() {
        let mut settings = TrainerSettings::default();
        settings.split.warm_up_s = 0;
        // From 21 °C down by 0.6 °C an hour, across the band's edge at 20 °C.
        let falling = frame(200, &[("temperature_last", &|minute| 21.0 - 0.01 * minute)]);
        let rows = ZoneViews::without_late_readings(falling);
        let rows = LabelledRows::from_zones(&DegreeMinutesTask::HEATING, [&rows], &[], &settings);
        let learnt = rows.to_dataset().unwrap().y;
        for change in &learnt.to_vec()[..20] {
            assert!((change + 0.305).abs() < 1e-9, "{change}");
        }
        let actual = rows.actual_values();
        assert!(actual[0] == 0.0 && actual[20] > 0.0, "{actual}");
        let levels = rows.to_levels(&learnt, &HEATING);
        let known = 29; // fewer than 60 minutes are known after the last rows
        for row in 0..known.min(28) {
            assert!((levels[row] - actual[row]).abs() < 1e-6, "row {row}: {levels} {actual}");
        }
    }

    #[test]
    fn yesterday_is_among_the_inputs_where_there_was_one() {
        let mut settings = TrainerSettings::default();
        settings.split.warm_up_s = 0;
        let day = 1440.0;
        let minutes = 2 * 1440 + 120;
        // The mean of the last hour is the number of the minute, the reading is a tenth of it.
        let mut zone =
            frame(minutes, &[("temperature_last", &|m| m / 10.0), ("temperature_mean_1h", &|m| m)]);
        let columns = ["temperature_last", "temperature_mean_1h"].map(Into::into).into();
        let names = yesterday_inputs(&columns, "temperature", "temperature_now");
        assert_eq!(names[0], "temperature_mean_1h 23h ago - temperature_last 24h ago");
        for name in ["temperature_mean_1h 23h ago", "temperature_last 24h ago"] {
            zone.add_lag_column(name);
        }
        let zone = ZoneViews::without_late_readings(zone);
        let rows =
            LabelledRows::from_zones(&DegreeMinutesTask::HEATING, [&zone], &names, &settings);
        let began = rows.input_values(&names[0]);
        let first = rows.at_ms.iter().position(|at_ms| *at_ms == 1440 * 60_000).unwrap();
        assert!(began[..first].iter().all(|value| value.is_nan()), "there was no yesterday");
        for (row, at_ms) in rows.at_ms.iter().enumerate().skip(first) {
            let minute = *at_ms as f64 / 60_000.0;
            let expect = (minute - day + 60.0) - (minute - day) / 10.0;
            assert!((began[row] - expect).abs() < 1e-9, "row {row}: {}", began[row]);
        }
    }

    #[test]
    fn what_is_heated_in_vain_and_what_is_lacking() {
        let mut settings = TrainerSettings::default();
        settings.split.warm_up_s = 0;
        let cold = frame(200, &[("temperature_last", &|_| 19.0)]);
        let cold = ZoneViews::without_late_readings(cold);
        let rows = LabelledRows::from_zones(&DegreeMinutesTask::HEATING, [&cold], &[], &settings);
        assert_eq!(rows.actual_values().to_vec(), [60.0; 30], "each hour lacks a degree");
        let predictions: Vec<f64> = (0..30).map(|row| [70.0, 40.0][row % 2]).collect();
        let scores = DegreeMinutesTask::HEATING.extra_scores(&predictions, &rows);
        let scores: Vec<_> =
            scores.iter().map(|(name, statistic)| (*name, statistic.value())).collect();
        assert_eq!(scores, [("in_vain", 5.0), ("lacking", 10.0)]);
    }

    #[test]
    fn a_constant_target_is_described_with_its_bounds() {
        let warm = TrainerSettings::default().comfort;
        let cold = ComfortSettings { heat_below: 16.0, ..warm };
        let check = |task: &dyn PredictionTask, constant: f64, expect: &str| {
            assert_eq!(task.describe_constant(constant, &[warm, cold]).what, expect);
        };
        check(&DegreeMinutesTask::HEATING, 0.0, "no zone was below 16 to 20 °C");
        check(&DegreeMinutesTask::COOLING, 0.0, "no zone was above 25 °C");
        check(&DegreeMinutesTask::COOLING, 60.0, "each hour lacked 60 °C·min");
        check(&HeatingClassTask, 1.0, "no hour was below 16 to 20 °C or above 25 °C");
        check(&HeatingClassTask, 2.0, "every hour was above 25 °C");
    }

    #[test]
    fn the_class_is_that_of_the_mean_of_the_hour_to_come() {
        let check = |after: f64, expect: f64| {
            let of = move |m: f64| if m <= 30.0 { 22.0 } else { after };
            assert_eq!(
                actual_value_of(&HeatingClassTask, &frame(100, &[("temperature_last", &of)]), 0),
                Some(expect)
            );
        };
        check(17.9, 0.0); // the mean is 19.95 °C
        check(18.1, 1.0);
        check(28.0, 1.0);
        check(28.1, 2.0);
    }
}
