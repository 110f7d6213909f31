//! Splits of time into training, calibration and test sets, in one fold or several.
//!
//! Every fold consists of training, calibration and test set in the order of time, with an embargo
//! of the task's horizon between two sets. Several folds have a rolling origin: their test sets are
//! consecutive, and each is evaluated by models that were fitted on the time before it. R. J.
//! Hyndman, G. Athanasopoulos, "Forecasting: principles and practice", 3rd ed. 2021, section 5.10;
//! embargoes: M. López de Prado, "Advances in financial machine learning", 2018, chapter 7.

use std::{str::FromStr, sync::Arc};

use models::ROWS_MIN;
use telemetry::ZoneId;
use telemetry::time::parse_bound_ms;

use crate::{
    settings,
    split::{DataSplit, SelectionOrigin, SplitSpans, split_spans},
    training_set::LabelledRows,
};

/// Origins by which models are selected, where time allows no more.
pub const ORIGINS_MIN: usize = 3;
/// Most of them.
pub const ORIGINS_MAX: usize = 6;
/// Most folds of one comparison.
pub const FOLDS_MAX: usize = 20;

/// Start of the test set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SplitPoint {
    /// After these shares of the time.
    Shares {
        /// Share that models are fitted on.
        train: f64,
        /// Share on which models are selected and intervals calibrated.
        calibration: f64,
    },
    /// At this time, UTC ms.
    TestFrom(i64),
}

impl FromStr for SplitPoint {
    type Err = String;

    /// Parses `0.6,0.15` (training, calibration) or a time.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((train, calibration)) = text.split_once(',') else {
            let hint = "or the shares of training and calibration, as in 0.6,0.15";
            if text.trim().parse::<f64>().is_ok_and(|number| number < 1.0) {
                return Err(format!("`{text}` is neither a time nor two shares; {hint}"));
            }
            return parse_bound_ms(text)
                .map(Self::TestFrom)
                .map_err(|error| format!("{error}; {hint}"));
        };
        let share = |text: &str| text.trim().parse::<f64>().ok();
        match (share(train), share(calibration)) {
            (Some(train), Some(calibration))
                if train > 0.0 && calibration > 0.0 && train + calibration < 1.0 =>
            {
                Ok(Self::Shares { train, calibration })
            }
            _ => Err(format!(
                "`{text}` are not shares: expected two numbers above 0 that leave some of 1 for testing, as in 0.6,0.15"
            )),
        }
    }
}

/// Division of time and zones in a comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoldPlan {
    /// Start of the (first) test set; the settings' start if `None`.
    pub cut: Option<SplitPoint>,
    /// Number of consecutive test sets; 0 counts as one.
    pub folds: usize,
    /// Zones that are evaluated and not used for fitting. If there are none, all zones are used for
    /// both.
    pub hold_out: Vec<ZoneId>,
}

/// Spans of every fold, the oldest first.
///
/// # Errors
/// States why the time between the first and the last row is too short.
pub fn fold_spans(
    (first_ms, last_ms): (i64, i64),
    horizon_s: i64,
    split: &settings::SplitSettings,
    plan: &FoldPlan,
) -> Result<Vec<SplitSpans>, String> {
    let embargo_ms = horizon_s * 1000;
    let (calibration_ms, test_from_ms) = match plan.cut {
        Some(SplitPoint::TestFrom(at_ms)) => {
            let usable_ms = at_ms - first_ms - 2 * embargo_ms;
            if usable_ms <= 0 || at_ms > last_ms {
                return Err(format!(
                    "too short: rows with known targets lie from {} to {}, and two embargoes of {:.1} h \
                     must fit before the test part begins at {}",
                    format_time(first_ms),
                    format_time(last_ms),
                    horizon_s as f64 / 3600.0,
                    format_time(at_ms)
                ));
            }
            let share = split.calibration / (split.train + split.calibration);
            ((usable_ms as f64 * share) as i64, at_ms)
        }
        Some(SplitPoint::Shares { train, calibration }) => {
            let split = settings::SplitSettings { train, calibration, ..*split };
            let one = split_spans(first_ms, last_ms, horizon_s, &split)?;
            (one.calibration.1 - one.calibration.0, one.test.0)
        }
        None => {
            let one = split_spans(first_ms, last_ms, horizon_s, split)?;
            (one.calibration.1 - one.calibration.0, one.test.0)
        }
    };
    let folds = plan.folds.clamp(1, FOLDS_MAX) as i64;
    let end_ms = last_ms + 1;
    let edge = |fold: i64| test_from_ms + (end_ms - test_from_ms) * fold / folds;
    let of_fold = |fold| {
        let test = (edge(fold), edge(fold + 1));
        let calibration = (test.0 - embargo_ms - calibration_ms, test.0 - embargo_ms);
        SplitSpans { train: (first_ms, calibration.0 - embargo_ms), calibration, test }
    };
    Ok((0..folds).map(of_fold).collect())
}

/// Rows of every fold: those of `learnt` before each test set, and those of `judged` within it.
/// Both are the same rows unless zones are held out.
///
/// # Errors
/// States which set would have too few rows.
pub fn split_folds(
    learnt: &LabelledRows,
    judged: &LabelledRows,
    horizon_s: i64,
    split: &settings::SplitSettings,
    plan: &FoldPlan,
) -> Result<Vec<DataSplit>, String> {
    let ends = |rows: &LabelledRows| Some((*rows.at_ms.first()?, *rows.at_ms.last()?));
    let (Some((first_ms, _)), Some((_, last_ms))) = (ends(learnt), ends(judged)) else {
        return Err("too short: no row has a known target".to_owned());
    };
    let all = fold_spans((first_ms, last_ms), horizon_s, split, plan)?;
    let count = all.len();
    let embargo_ms = horizon_s * 1000;
    // Before the first test set: what selects models is no row of which an error is reported.
    let SplitSpans { train: train_ms, calibration: calibration_ms, .. } = all[0];
    let train = learnt.rows_between(train_ms, split.train_rows_max);
    let calibration = learnt.uncensored_between(calibration_ms, split.test_rows_max);
    let origins = Arc::new(selection_origins(learnt, calibration_ms, embargo_ms, split));
    all.into_iter()
        .enumerate()
        .map(|(fold, spans)| {
            let spans = SplitSpans { train: train_ms, calibration: calibration_ms, ..spans };
            let known_ms = (first_ms, spans.test.0 - embargo_ms);
            let parts = DataSplit {
                train: train.clone(),
                calibration: calibration.clone(),
                origins: origins.clone(),
                known: learnt.rows_between(known_ms, split.train_rows_max),
                known_ms,
                test: judged.uncensored_between(spans.test, split.test_rows_max),
                spans,
            };
            let each = [
                ("train", &parts.train),
                ("calibration", &parts.calibration),
                ("test", &parts.test),
            ];
            match each.iter().find(|(_, rows)| rows.len() < ROWS_MIN) {
                Some((part, rows)) => Err(format!(
                    "too short: the {part} part{} has {} rows, expected at least {ROWS_MIN}",
                    if count > 1 {
                        format!(" of fold {} of {count}", fold + 1)
                    } else {
                        String::new()
                    },
                    rows.len()
                )),
                None => Ok(parts),
            }
        })
        .collect()
}

/// Divides the calibration span into consecutive parts, each validated by models that are
/// fitted on what lies before it. As many parts as `selection_rows_max` allows, from
/// [`ORIGINS_MIN`] to [`ORIGINS_MAX`]; fewer where a part would be shorter than the
/// horizon or have hardly any row.
fn selection_origins(
    learnt: &LabelledRows,
    calibration_ms: (i64, i64),
    embargo_ms: i64,
    split: &settings::SplitSettings,
) -> Vec<SelectionOrigin> {
    let (from_ms, to_ms) = calibration_ms;
    let first_ms = learnt.at_ms.first().copied().unwrap_or_default();
    let fitted_rows = learnt.row_count((first_ms, from_ms)).min(split.train_rows_max).max(1);
    let affordable = (split.selection_rows_max / fitted_rows).clamp(ORIGINS_MIN, ORIGINS_MAX);
    let origins_of = |count: usize| -> Option<Vec<SelectionOrigin>> {
        let edge = |part: usize| from_ms + (to_ms - from_ms) * part as i64 / count as i64;
        if count > 1 && (to_ms - from_ms) / (count as i64) < embargo_ms {
            return None;
        }
        let origin = |part: usize| {
            let validation_ms = (edge(part), edge(part + 1));
            let train_ms = (first_ms, validation_ms.0 - embargo_ms);
            let rows_max = split.test_rows_max.min(split.validation_rows_max);
            let train = learnt.rows_between(train_ms, split.train_rows_max);
            let validation = learnt.uncensored_between(validation_ms, rows_max);
            let is_enough = train.len().min(validation.len()) >= ROWS_MIN;
            (is_enough || count == 1).then_some(SelectionOrigin { train, validation })
        };
        (0..count).map(origin).collect()
    };
    (1..=affordable).rev().find_map(origins_of).unwrap_or_default()
}

pub(crate) fn format_time(at_ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms);
    at.map_or(String::new(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{TrainerSettings, settings::SplitSettings};

    const HOUR: i64 = 3_600_000;

    fn check(cut: &str, folds: usize, expect: &str) {
        let plan = FoldPlan { cut: Some(cut.parse().unwrap()), folds, hold_out: Vec::new() };
        let split =
            SplitSettings { train: 0.6, calibration: 0.15, ..TrainerSettings::default().split };
        let text = match fold_spans((0, 102 * HOUR), 3600, &split, &plan) {
            Err(why) => why,
            Ok(all) => {
                let hours = |(from, to): (i64, i64)| format!("{}–{}", from / HOUR, to / HOUR);
                let of = |s: &SplitSpans| {
                    format!("{} {} {}", hours(s.train), hours(s.calibration), hours(s.test))
                };
                all.iter().map(of).collect::<Vec<_>>().join(", ")
            }
        };
        assert!(text.contains(expect), "{cut}, {folds} folds: {text}, expected {expect}");
    }

    #[test]
    fn parts_in_hours() {
        check("0.6,0.15", 1, "0–60 61–76 77–102");
        check("1970-01-04T06:00:00Z", 1, "0–60"); // hour 78, of 76 usable hours a fifth calibrates
        check("1970-01-04T06:00:00Z", 1, "61–77 78–102");
        check("1970-01-04T06:00:00Z", 2, "78–90, 0–72");
        check("1970-01-04T06:00:00Z", 2, "73–89 90–102");
        check("1970-01-01T01:00:00Z", 1, "too short");
        check("1971-01-01", 1, "too short");
    }

    #[test]
    fn cuts_are_read_or_refused() {
        let check = |text: &str, expect: Option<SplitPoint>| {
            assert_eq!(text.parse::<SplitPoint>().ok(), expect);
        };
        check("2013-08-29", Some(SplitPoint::TestFrom(1_377_734_400_000)));
        check("0.5, 0.2", Some(SplitPoint::Shares { train: 0.5, calibration: 0.2 }));
        check("0.9,0.2", None);
        check("0.5", None);
        check("soon", None);
    }

    #[test]
    fn no_row_that_is_reported_has_selected_anything() {
        let rows = crate::backtest::fixture::room_rows(false);
        let settings = crate::backtest::fixture::small_settings();
        let horizon_s = 600;
        for folds in [1, 4] {
            let plan = FoldPlan { folds, ..FoldPlan::default() };
            let all = split_folds(&rows, &rows, horizon_s, &settings.split, &plan).unwrap();
            let first_test = all[0].test.at_ms[0];
            for parts in &all {
                assert!(parts.origins.len() >= ORIGINS_MIN, "{}", parts.origins.len());
                for origin in parts.origins.iter() {
                    let last = |rows: &LabelledRows| *rows.at_ms.last().unwrap();
                    let gap_ms = horizon_s * 1000;
                    assert!(last(&origin.train) + gap_ms <= origin.validation.at_ms[0]);
                    assert!(last(&origin.validation) + gap_ms <= first_test);
                }
                let last_known = *parts.known.at_ms.last().unwrap();
                assert!(last_known + horizon_s * 1000 <= parts.test.at_ms[0]);
            }
            // Later folds are fitted on more.
            assert!(all.is_sorted_by(|a, b| a.known_ms.1 < b.known_ms.1));
        }
    }

    #[test]
    fn there_are_as_many_origins_as_rows_may_be_fitted() {
        let rows = crate::backtest::fixture::room_rows(false);
        let mut settings = crate::backtest::fixture::small_settings();
        let mut origins = |selection_rows_max: usize| {
            settings.split.selection_rows_max = selection_rows_max;
            let plan = FoldPlan::default();
            split_folds(&rows, &rows, 600, &settings.split, &plan).unwrap()[0].origins.len()
        };
        assert_eq!((origins(0), origins(1500 * 5), origins(1 << 20)), (3, 5, ORIGINS_MAX));
    }

    proptest! {
        /// Test sets are consecutive and end at the last row, and no fitted row has a target that
        /// is known only after its embargo.
        #[test]
        fn folds_never_look_ahead(
            hours in 10_i64..2000,
            horizon_s in 60_i64..200_000,
            count in 1_usize..=FOLDS_MAX,
            train in 0.05_f64..0.9,
            calibration in 0.05_f64..0.9,
            test_from in proptest::option::of(0_i64..2000),
        ) {
            prop_assume!(train + calibration < 0.98);
            let last_ms = hours * HOUR;
            let cut = match test_from {
                Some(hour) => SplitPoint::TestFrom(hour * HOUR),
                None => SplitPoint::Shares { train, calibration },
            };
            let plan = FoldPlan { cut: Some(cut), folds: count, hold_out: Vec::new() };
            let split = TrainerSettings::default().split;
            let Ok(all) = fold_spans((0, last_ms), horizon_s, &split, &plan) else { return Ok(()) };
            let embargo_ms = horizon_s * 1000;
            prop_assert_eq!(all.len(), count);
            prop_assert_eq!(all[count - 1].test.1, last_ms + 1);
            for spans in &all {
                prop_assert!(spans.train.0 <= spans.train.1);
                prop_assert!(spans.train.1 + embargo_ms <= spans.calibration.0);
                prop_assert!(spans.calibration.0 <= spans.calibration.1);
                prop_assert!(spans.calibration.1 + embargo_ms <= spans.test.0);
                prop_assert!(spans.test.0 <= spans.test.1);
            }
            for pair in all.windows(2) {
                prop_assert_eq!(pair[0].test.1, pair[1].test.0);
                prop_assert!(pair[0].train.1 <= pair[1].train.1);
            }
        }
    }
}
