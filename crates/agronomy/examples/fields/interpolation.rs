use crate::field::MoistureField;

const HOUR_MS: i64 = 3_600_000;
/// 19 April 2019, 0:00 UTC.
pub(crate) const TEST_FROM_MS: i64 = 1_555_632_000_000;

/// The measured readings between which the published series was interpolated.
pub(crate) struct FieldKnots {
    /// Row, event time in ms, moisture in %.
    pub(crate) points: Vec<(usize, i64, f64)>,
    pub(crate) interval_rows: f64,
}

impl FieldKnots {
    /// Recovers the measured rows of a field.
    pub(crate) fn recover_from(field: &MoistureField) -> Self {
        let (rows, interval_rows) = recordings::interpolation::recover_measured(&field.moisture);
        let points = rows
            .into_iter()
            .filter_map(|row| Some((row, field.at_ms(row), field.moisture[row]?)))
            .collect();
        Self { points, interval_rows }
    }

    /// Whether the field has more than five days of readings after the test begins.
    pub(crate) fn has_test(&self) -> bool {
        let end_ms = self.points.last().map_or(0, |point| point.1);
        end_ms > TEST_FROM_MS + 5 * 24 * HOUR_MS
    }

    pub(crate) fn times_label(&self) -> &'static str {
        if self.has_test() { "from 19 April" } else { "all" }
    }
}
