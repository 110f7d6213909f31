use std::ops::Range;

use crate::feature_frame::ZoneFrame;

/// Metrics that rest or jump by nature, so that hours without a change are normal.
const SWITCHED_METRICS: [&str; 4] = ["motion", "irrigation", "heater", "battery"];
/// Age, s, from which a value no longer counts as the measurement of its minute.
const AGE_S_MAX: f64 = 120.0;
const MINUTE_MS: i64 = 60_000;
/// Largest number of minutes of a series: two years. The last ones are used.
const MINUTES_MAX: i64 = 2 * 366 * 1440;

/// Latest value of each minute, including minutes without a row; NaN where no value is fresh.
#[derive(Clone, Debug, PartialEq)]
pub struct MinuteSeries {
    /// Event time of the first minute, UTC ms.
    pub first_ms: i64,
    /// One value per minute, in the metric's unit.
    pub values: Vec<f64>,
}

impl MinuteSeries {
    /// Creates the series of a metric, if the frame has a value of it.
    #[must_use]
    pub fn from_frame(frame: &ZoneFrame, metric: &str) -> Option<Self> {
        let last = frame.column(&format!("{metric}_last"))?;
        let age_s = frame.column(&format!("{metric}_age_s"))?;
        let minute = |at_ms: i64| at_ms.div_euclid(MINUTE_MS);
        let end = minute(*frame.at_ms.last()?);
        let first = minute(*frame.at_ms.first()?).max(end + 1 - MINUTES_MAX);
        let mut values = vec![f64::NAN; (end - first + 1) as usize];
        for (row, at_ms) in frame.at_ms.iter().enumerate() {
            let Ok(minute_number) = usize::try_from(minute(*at_ms) - first) else { continue };
            // Of several rows in a minute, the later one counts.
            values[minute_number] = if age_s[row] <= AGE_S_MAX { last[row] } else { f64::NAN };
        }
        let has_any = values.iter().any(|value| value.is_finite());
        has_any.then_some(Self { first_ms: first * MINUTE_MS, values })
    }

    /// Indices of the minutes in [from, to).
    #[must_use]
    pub fn minutes_between(&self, (from_ms, to_ms): (i64, i64)) -> Range<usize> {
        let number = |at_ms: i64| {
            let minutes = (at_ms - self.first_ms + MINUTE_MS - 1).div_euclid(MINUTE_MS);
            (minutes.max(0) as usize).min(self.values.len())
        };
        let start = number(from_ms);
        start..number(to_ms).max(start)
    }

    /// Event time of a minute, UTC ms.
    #[must_use]
    pub fn at_ms(&self, minute: usize) -> i64 {
        self.first_ms + minute as i64 * MINUTE_MS
    }
}

/// Metrics of a frame that the task scores.
#[must_use]
pub fn anomaly_metrics(frame: &ZoneFrame) -> Vec<String> {
    let ages = frame.column_names().filter_map(|name| name.strip_suffix("_age_s"));
    let mut metrics: Vec<String> =
        ages.filter(|metric| !SWITCHED_METRICS.contains(metric)).map(str::to_owned).collect();
    metrics.sort_unstable();
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;
    use telemetry::ZoneId;

    fn frame(rows: &[(i64, f64, f64)]) -> ZoneFrame {
        let column = |of: fn(&(i64, f64, f64)) -> f64| rows.iter().map(of).collect::<Vec<f64>>();
        let columns = [("co2_last", column(|row| row.1)), ("co2_age_s", column(|row| row.2))];
        let columns = columns.map(|(name, values)| (name.into(), values)).into();
        let at_ms = rows.iter().map(|row| row.0 * MINUTE_MS).collect();
        ZoneFrame::new(ZoneId::new("farm", "bay"), at_ms, columns)
    }

    #[test]
    fn minutes_without_a_row_or_a_fresh_value_are_missing() {
        let series = MinuteSeries::from_frame(
            &frame(&[(3, 1.0, 0.0), (4, 2.0, 121.0), (6, 3.0, 120.0)]),
            "co2",
        )
        .unwrap();
        assert_eq!(series.first_ms, 3 * MINUTE_MS);
        let there: Vec<Option<f64>> =
            series.values.iter().map(|v| Some(*v).filter(|v| v.is_finite())).collect();
        assert_eq!(there, [Some(1.0), None, None, Some(3.0)]);
        let check = |from: i64, to: i64, expect: Range<usize>| {
            assert_eq!(series.minutes_between((from * MINUTE_MS, to * MINUTE_MS)), expect);
        };
        check(3, 7, 0..4);
        check(4, 6, 1..3);
        check(0, 100, 0..4);
        check(50, 100, 4..4);
        assert_eq!(series.minutes_between((3 * MINUTE_MS + 1, 6 * MINUTE_MS + 1)), 1..4);
        assert_eq!(series.at_ms(3), 6 * MINUTE_MS);
    }

    #[test]
    fn a_metric_without_values_has_no_series() {
        assert_eq!(MinuteSeries::from_frame(&frame(&[(3, f64::NAN, 0.0)]), "co2"), None);
        assert_eq!(MinuteSeries::from_frame(&frame(&[(3, 1.0, 500.0)]), "co2"), None);
        assert_eq!(MinuteSeries::from_frame(&frame(&[]), "co2"), None);
        assert_eq!(anomaly_metrics(&frame(&[])), ["co2"]);
    }
}
