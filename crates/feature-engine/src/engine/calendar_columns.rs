use std::ops::Range;

use agronomy::{calendar::CalendarFeatures, sun::GeoLocation};
use jiff::tz::TimeZone;
use telemetry::SmolStr;

use crate::definitions::FormulaContext;

/// Columns of the calendar features, a selection of [`CalendarFeatures::NAMES`].
#[derive(Debug)]
pub(super) struct CalendarColumns {
    columns: Range<usize>,
    /// Indices into [`CalendarFeatures::feature_values`].
    chosen: Vec<usize>,
}

impl CalendarColumns {
    pub(super) fn new(wanted: &[SmolStr], names: &mut Vec<SmolStr>) -> Self {
        let chosen = find_positions(wanted, &CalendarFeatures::NAMES);
        let start = names.len();
        names.extend(chosen.iter().map(|at| SmolStr::new_static(CalendarFeatures::NAMES[*at])));
        Self { columns: start..names.len(), chosen }
    }

    /// Writes the calendar features of a time into a row and returns the inputs of formulas that
    /// depend on the time.
    pub(super) fn fill_row(
        &self,
        at_ms: i64,
        time_zone: &TimeZone,
        place: Option<GeoLocation>,
        row: &mut [f64],
    ) -> FormulaContext {
        let calendar = CalendarFeatures::at_time(at_ms, time_zone, place);
        if let Some(calendar) = calendar {
            let values = calendar.feature_values();
            for (column, at) in row[self.columns.clone()].iter_mut().zip(&self.chosen) {
                *column = values[*at].unwrap_or(f64::NAN);
            }
        }
        FormulaContext { day_of_year: calendar.map(|calendar| calendar.day_of_year), place }
    }
}

/// Positions of the wanted names in `all`. Unknown names are skipped; definitions that contain
/// one were refused when they were read.
pub(super) fn find_positions(wanted: &[SmolStr], all: &[&str]) -> Vec<usize> {
    wanted.iter().filter_map(|name| all.iter().position(|own| own == name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_is_that_of_the_wall_clock() {
        let mut names = Vec::new();
        let clock = CalendarColumns::new(&["hour_cos".into(), "is_day".into()], &mut names);
        assert_eq!(names, ["hour_cos", "is_day"]);
        let noon_utc_in_summer = 1_751_371_200_000; // 2025-07-01T12:00:00Z
        let check = |zone: &str, place: Option<GeoLocation>, hour: f64, is_day: Option<f64>| {
            let mut row = [f64::NAN; 2];
            clock.fill_row(noon_utc_in_summer, &TimeZone::get(zone).unwrap(), place, &mut row);
            assert!((row[0] - (hour / 24.0 * std::f64::consts::TAU).cos()).abs() < 1e-12, "{zone}");
            assert_eq!(Some(row[1]).filter(|v| !v.is_nan()), is_day, "{zone}");
        };
        check("UTC", None, 12.0, None);
        check("Europe/Berlin", GeoLocation::new(52.5, 13.4).ok(), 14.0, Some(1.0));
        check("Pacific/Auckland", GeoLocation::new(-36.8, 174.8).ok(), 0.0, Some(0.0));
    }
}
