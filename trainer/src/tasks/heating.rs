use std::collections::BTreeSet;

use telemetry::SmolStr;

use super::{
    About, Baseline, Task, Unchanging, above_and_below, anchored, applicable::among, circumstances,
    made_of, surroundings, windows, yesterday,
};
use crate::{
    backtest::Statistic,
    frame::ZoneFrame,
    input::{Metric, Side},
    link::{Link, MEAN_AFTER_H},
    rows::Rows,
    settings::Comfort,
    width,
};

const MINUTES: i64 = 60;
const MINUTES_KNOWN_MIN: usize = 50;
/// How the next hour goes is in the last one.
const WINDOW_MINUTES_MAX: u64 = 60;

/// What all of them have in common.
const NEXT_HOUR: About = About {
    group: "heating",
    horizon_s: 3600,
    step_s: 300,
    metrics: &["temperature"],
    present: Some(Metric::Temperature),
    truth_columns: &Metric::Temperature.columns(),
    ..About::ANY
};
const HEATING: About = About {
    name: "heating",
    title: "heating needs of the next hour",
    unit: "°C·min",
    anchor: Some("degrees_above_heating"),
    link: Link::HourOf(Side::Heating),
    bounds: (0.0, f64::INFINITY),
    ..NEXT_HOUR
};
const COOLING: About = About {
    name: "cooling",
    title: "cooling needs of the next hour",
    anchor: Some("degrees_above_cooling"),
    link: Link::HourOf(Side::Cooling),
    ..HEATING
};
const CLASS: About = About {
    name: "heating-class",
    title: "heat, hold or cool in the next hour",
    unit: "0 heat, 1 hold, 2 cool",
    bounds: (0.0, 2.0),
    classes: &["heat", "hold", "cool"],
    ..NEXT_HOUR
};

/// How much heating or cooling the next hour lacks: degree-minutes outside the
/// comfort band.
///
/// Target: Σ max(0, `comfort.heat_below` − temperature), or Σ max(0, temperature
/// − `comfort.cool_above`), over the minutes of (T, T + 1 h], °C·min, of the
/// present temperature (see [`Metric::Temperature`]) at each minute; minutes
/// without one are taken as the mean of the others. A row counts where 50 of the
/// 60 minutes are known. Models learn the change to the mean temperature of that
/// hour (see [`Link::HourOf`]).
pub(super) struct DegreeMinutes {
    side: Side,
}

/// Whether the next hour wants heating, nothing, or cooling.
///
/// Target: the class of the mean temperature over (T, T + 1 h] (of its minutes,
/// as in [`DegreeMinutes`]): below `comfort.heat_below` heat, above
/// `comfort.cool_above` cool, else hold. The class of T is that of the present
/// temperature; the rows that count are those where the two differ.
pub(super) struct Class;

/// The present temperatures of the next hour's minutes.
fn next_hour(frame: &ZoneFrame, row: usize) -> Option<Vec<f64>> {
    let at_ms = frame.at_ms[row];
    let known: Vec<f64> = (1..=MINUTES)
        .filter_map(|minute| frame.now(Metric::Temperature, at_ms + minute * 60_000))
        .collect();
    (known.len() >= MINUTES_KNOWN_MIN).then_some(known)
}

fn mean(hour: &[f64]) -> f64 {
    hour.iter().sum::<f64>() / hour.len() as f64
}

/// Where the temperature goes, how the same hour went yesterday, and what is
/// around.
fn course(columns: &BTreeSet<SmolStr>) -> Vec<String> {
    let mut inputs = vec!["temperature_now".to_owned()];
    inputs.extend(anchored(columns, "temperature", "temperature_now", WINDOW_MINUTES_MAX));
    // Of longer windows the mean alone: their shape tells a room and a day by heart.
    let longer = windows(columns, "temperature").into_iter();
    let longer = longer.filter(|own| width::seconds(own) > Some(60 * WINDOW_MINUTES_MAX));
    inputs.extend(longer.map(|own| format!("temperature_mean_{own} - temperature_now")));
    inputs.extend(yesterday(columns, "temperature", "temperature_now"));
    let others =
        ["humidity", "co2", "light", "motion", "heater", "outdoor_temperature", "soil_moisture"];
    inputs.extend(surroundings(columns, &others, WINDOW_MINUTES_MAX));
    inputs.extend(circumstances(columns));
    made_of(columns, inputs)
}

/// Where the temperature is in the band, and would be if it went on as it goes.
fn band(columns: &BTreeSet<SmolStr>) -> Vec<String> {
    let own = [
        "degrees_above_heating",
        "degrees_above_cooling",
        "class_now",
        "degree_minutes_as_now",
        "cooling_minutes_as_now",
    ];
    let mut inputs: Vec<String> = own.map(str::to_owned).to_vec();
    for side in ["degree_minutes", "cooling_minutes"] {
        for window in ["10m", "30m", "1h"] {
            let line = format!("{side}_by_temperature_slope_{window}");
            inputs.push(format!("{line} - {side}_as_now"));
            inputs.push(line);
        }
    }
    made_of(columns, inputs)
}

impl DegreeMinutes {
    pub(super) const HEATING: Self = Self { side: Side::Heating };
    pub(super) const COOLING: Self = Self { side: Side::Cooling };
}

impl Task for DegreeMinutes {
    fn about(&self) -> &About {
        match self.side {
            Side::Heating => &HEATING,
            Side::Cooling => &COOLING,
        }
    }

    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        course(columns)
    }

    fn truth(&self, came: &ZoneFrame, row: usize, comfort: &Comfort) -> Option<f64> {
        let hour = next_hour(came, row)?;
        let sum: f64 = hour.iter().map(|own| self.side.degrees(comfort, *own)).sum();
        Some(MINUTES as f64 * sum / hour.len() as f64)
    }

    fn learnt(
        &self,
        came: &ZoneFrame,
        row: usize,
        comfort: &Comfort,
        (_, above_edge): (f64, f64),
    ) -> Option<f64> {
        Some(mean(&next_hour(came, row)?) - self.side.edge(comfort) - above_edge)
    }

    /// Who heats or cools as much as is said does so much in vain, and leaves so
    /// much lacking.
    fn scores(&self, said: &[f64], rows: &Rows) -> Vec<(&'static str, Statistic)> {
        let [in_vain, lacking] = above_and_below(said, rows);
        vec![("in_vain", in_vain), ("lacking", lacking)]
    }

    fn baselines(&self) -> Vec<Baseline> {
        let line = Some("temperature_slope_10m");
        let yesterday = Some("temperature_mean_1h 23h ago - temperature_last 24h ago");
        vec![
            Baseline { name: "as now", input: None, factor: 0.0 },
            Baseline { name: "as the last 10 min go on", input: line, factor: MEAN_AFTER_H },
            Baseline { name: "as the same hour yesterday went", input: yesterday, factor: 1.0 },
        ]
    }

    fn unchanging(&self, truth: f64, comforts: &[Comfort]) -> Unchanging {
        let what = match self.side {
            _ if truth != 0.0 => format!("each hour lacked {truth} °C·min"),
            Side::Heating => {
                format!("no zone was below {}", among(comforts, |own| own.heat_below, "°C"))
            }
            Side::Cooling => {
                format!("no zone was above {}", among(comforts, |own| own.cool_above, "°C"))
            }
        };
        let hint = match self.side {
            Side::Heating => "set comfort.heat_below, or a zone's own, to where it is heated",
            Side::Cooling => "set comfort.cool_above, or a zone's own, to where it is cooled",
        };
        Unchanging { what, hint }
    }
}

impl Task for Class {
    fn about(&self) -> &About {
        &CLASS
    }

    fn inputs(&self, columns: &BTreeSet<SmolStr>) -> Vec<String> {
        [band(columns), course(columns)].concat()
    }

    fn truth(&self, came: &ZoneFrame, row: usize, comfort: &Comfort) -> Option<f64> {
        let hour = next_hour(came, row)?;
        comfort.class(mean(&hour)).map(|class| class as f64)
    }

    /// Rounded to the nearest class: F1 of all rows, and of those whose class is
    /// not that of now, which to say "as now" never gets right.
    fn scores(&self, said: &[f64], rows: &Rows) -> Vec<(&'static str, Statistic)> {
        let nearest = |value: &f64| value.round().clamp(0.0, 2.0) as usize;
        let said: Vec<usize> = said.iter().map(nearest).collect();
        let truth: Vec<usize> = rows.truth().iter().map(nearest).collect();
        let now: Vec<usize> = rows.input("class_now").iter().map(nearest).collect();
        let at_changes = Statistic::macro_f1(said.clone(), truth.clone(), Some(&now));
        vec![
            ("macro_f1", Statistic::macro_f1(said, truth, None)),
            ("macro_f1_at_changes", at_changes),
        ]
    }

    fn baselines(&self) -> Vec<Baseline> {
        vec![Baseline { name: "as now", input: Some("class_now"), factor: 1.0 }]
    }

    fn unchanging(&self, truth: f64, comforts: &[Comfort]) -> Unchanging {
        let (low, high) = (
            among(comforts, |own| own.heat_below, "°C"),
            among(comforts, |own| own.cool_above, "°C"),
        );
        let what = match truth as usize {
            0 => format!("every hour was below {low}"),
            1 => format!("no hour was below {low} or above {high}"),
            _ => format!("every hour was above {high}"),
        };
        Unchanging { what, hint: "set comfort.heat_below and comfort.cool_above, or a zone's own" }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{frame, truth};
    use super::*;
    use crate::{Settings, frame::ZoneViews};

    #[test]
    fn degree_minutes_of_the_hour_to_come() {
        let cold = frame(200, &[("temperature_last", &|m| if m <= 30.0 { 19.0 } else { 22.0 })]);
        let check = |row, expect: Option<f64>| {
            assert_eq!(truth(&DegreeMinutes::HEATING, &cold, row), expect, "row {row}");
        };
        check(0, Some(30.0)); // minutes 1 to 30, one degree each
        check(31, Some(0.0));
        check(150, None); // 49 minutes are known
        check(149, Some(0.0)); // 50 minutes are known
        let hot = frame(200, &[("temperature_last", &|m| if m <= 30.0 { 25.0 } else { 27.0 })]);
        assert_eq!(truth(&DegreeMinutes::COOLING, &hot, 0), Some(60.0));
    }

    #[test]
    fn a_straight_line_is_learnt_without_loss() {
        let mut settings = Settings::default();
        settings.split.warm_up_s = 0;
        // From 21 °C down by 0.6 °C an hour, across the band's edge at 20 °C.
        let falling = frame(200, &[("temperature_last", &|minute| 21.0 - 0.01 * minute)]);
        let rows = ZoneViews::without_late_readings(falling);
        let rows = Rows::of(&DegreeMinutes::HEATING, [&rows], &[], &settings);
        let learnt = rows.dataset().unwrap().y;
        for change in &learnt.to_vec()[..20] {
            assert!((change + 0.305).abs() < 1e-9, "{change}");
        }
        let truth = rows.truth();
        assert!(truth[0] == 0.0 && truth[20] > 0.0, "{truth}");
        let levels = rows.levels(&learnt, &HEATING);
        let known = 29; // of the last ones fewer than 60 minutes are known
        for row in 0..known.min(28) {
            assert!((levels[row] - truth[row]).abs() < 1e-6, "row {row}: {levels} {truth}");
        }
    }

    #[test]
    fn yesterday_is_among_the_inputs_where_there_was_one() {
        let mut settings = Settings::default();
        settings.split.warm_up_s = 0;
        let day = 1440.0;
        let minutes = 2 * 1440 + 120;
        // The mean of the last hour is the minute's number, the reading a tenth of it.
        let mut zone =
            frame(minutes, &[("temperature_last", &|m| m / 10.0), ("temperature_mean_1h", &|m| m)]);
        let columns = ["temperature_last", "temperature_mean_1h"].map(Into::into).into();
        let names = yesterday(&columns, "temperature", "temperature_now");
        assert_eq!(names[0], "temperature_mean_1h 23h ago - temperature_last 24h ago");
        for name in ["temperature_mean_1h 23h ago", "temperature_last 24h ago"] {
            zone.recall(name);
        }
        let zone = ZoneViews::without_late_readings(zone);
        let rows = Rows::of(&DegreeMinutes::HEATING, [&zone], &names, &settings);
        let began = rows.input(&names[0]);
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
        let mut settings = Settings::default();
        settings.split.warm_up_s = 0;
        let cold = frame(200, &[("temperature_last", &|_| 19.0)]);
        let cold = ZoneViews::without_late_readings(cold);
        let rows = Rows::of(&DegreeMinutes::HEATING, [&cold], &[], &settings);
        assert_eq!(rows.truth().to_vec(), [60.0; 30], "each hour lacks a degree");
        let said: Vec<f64> = (0..30).map(|row| [70.0, 40.0][row % 2]).collect();
        let scores = DegreeMinutes::HEATING.scores(&said, &rows);
        let scores: Vec<_> = scores.iter().map(|(name, own)| (*name, own.value())).collect();
        assert_eq!(scores, [("in_vain", 5.0), ("lacking", 10.0)]);
    }

    #[test]
    fn what_is_never_lacking_is_said_with_its_bounds() {
        let warm = Settings::default().comfort;
        let cold = Comfort { heat_below: 16.0, ..warm };
        let check = |task: &dyn Task, truth: f64, expect: &str| {
            assert_eq!(task.unchanging(truth, &[warm, cold]).what, expect);
        };
        check(&DegreeMinutes::HEATING, 0.0, "no zone was below 16 to 20 °C");
        check(&DegreeMinutes::COOLING, 0.0, "no zone was above 25 °C");
        check(&DegreeMinutes::COOLING, 60.0, "each hour lacked 60 °C·min");
        check(&Class, 1.0, "no hour was below 16 to 20 °C or above 25 °C");
        check(&Class, 2.0, "every hour was above 25 °C");
    }

    #[test]
    fn the_class_is_that_of_the_mean_of_the_hour_to_come() {
        let check = |after: f64, expect: f64| {
            let of = move |m: f64| if m <= 30.0 { 22.0 } else { after };
            assert_eq!(truth(&Class, &frame(100, &[("temperature_last", &of)]), 0), Some(expect));
        };
        check(17.9, 0.0); // the mean is 19.95 °C
        check(18.1, 1.0);
        check(28.0, 1.0);
        check(28.1, 2.0);
    }
}
