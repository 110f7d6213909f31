use microclimate_agronomy::drying::{DryingForecast, DryingSettings, DryingTracker, ForecastBasis};

use crate::interpolation::{FieldKnots, TEST_FROM_MS};

const HOUR_MS: f64 = 3_600_000.0;
/// Longest time ahead that is forecast, hours.
const HORIZON_H: f64 = 48.0;

/// Errors of the forecast hours to the critical threshold.
#[derive(Default)]
pub(crate) struct ForecastErrors {
    critical_pct: Option<f64>,
    line_h: Vec<f64>,
    drying_h: Vec<f64>,
    covered: usize,
    /// Number of distinct dry-downs. Cases of one dry-down resemble each other.
    dry_downs: usize,
    /// Number of times after which the threshold was not reached within the horizon, or not at all.
    censored: usize,
    /// Number of times after which the field was watered before it reached the threshold.
    watered: usize,
    by_curve: usize,
}

impl ForecastErrors {
    pub(crate) fn from_knots(knots: &FieldKnots) -> Self {
        let points = &knots.points;
        let is_test = |at_ms: i64| !knots.has_test() || at_ms >= TEST_FROM_MS;
        let mut known: Vec<f64> = points
            .iter()
            .filter(|point| !knots.has_test() || point.1 < TEST_FROM_MS)
            .map(|point| point.2)
            .collect();
        known.sort_by(f64::total_cmp);
        let critical_pct = known[known.len() / 5];
        let settings = DryingSettings {
            critical_pct,
            target_pct: critical_pct + 20.0,
            horizon_h: HORIZON_H,
            ..DryingSettings::default()
        };
        let mut found = Self { critical_pct: Some(critical_pct), ..Self::default() };
        let mut drying = DryingTracker::default();
        let mut newest_end = 0;
        for (i, (_, at_ms, pct)) in points.iter().enumerate() {
            drying.add_moisture(&settings, *at_ms, *pct);
            // A line needs two readings, and a drying rate needs a few.
            if i < 6 || !is_test(*at_ms) || *pct <= critical_pct {
                continue;
            }
            let Some(end) = points[i..].iter().position(|point| point.2 <= critical_pct) else {
                found.censored += 1;
                continue;
            };
            let after = &points[i..=i + end];
            if after.windows(2).any(|pair| pair[1].2 - pair[0].2 > settings.rise_min_pct) {
                found.watered += 1;
                continue;
            }
            let [.., a, b] = after else { continue };
            let share = (a.2 - critical_pct) / (a.2 - b.2);
            let actual_h = (a.1 - at_ms) as f64 / HOUR_MS + share * (b.1 - a.1) as f64 / HOUR_MS;
            if actual_h > HORIZON_H {
                found.censored += 1;
                continue;
            }
            let before = points[i - 1];
            let rate = (before.2 - pct) / ((at_ms - before.1) as f64 / HOUR_MS);
            let line =
                if rate > 0.0 { ((pct - critical_pct) / rate).min(HORIZON_H) } else { HORIZON_H };
            found.dry_downs += usize::from(i + end != newest_end);
            newest_end = i + end;
            let forecast = drying.trend_at(&settings, *at_ms).and_then(|trend| trend.forecast);
            found.note_case(actual_h, line, forecast);
        }
        found
    }

    fn note_case(&mut self, actual_h: f64, line: f64, forecast: Option<DryingForecast>) {
        // A method without a forecast counts as "not within the horizon".
        let not_within_horizon = DryingForecast {
            hours: HORIZON_H,
            low: 0.0,
            high: HORIZON_H,
            basis: ForecastBasis::Rate,
        };
        let DryingForecast { hours, low, high, basis } = forecast.unwrap_or(not_within_horizon);
        self.line_h.push((line - actual_h).abs());
        self.drying_h.push((hours - actual_h).abs());
        self.covered += usize::from(low <= actual_h && actual_h <= high);
        self.by_curve += usize::from(basis == ForecastBasis::Exponential);
    }

    pub(crate) fn add_cases(&mut self, other: Self) {
        self.line_h.extend(other.line_h);
        self.drying_h.extend(other.drying_h);
        self.covered += other.covered;
        self.censored += other.censored;
        self.watered += other.watered;
        self.by_curve += other.by_curve;
        self.dry_downs += other.dry_downs;
    }

    pub(crate) const HEAD: [&str; 11] = [
        "field",
        "times",
        "critical",
        "cases",
        "dry-downs",
        "not within 48 h",
        "watered before",
        "line MAE",
        "dry-down MAE",
        "interval covers",
        "by the curve",
    ];

    pub(crate) fn table_row(&self, field: &str, times: &str) -> [String; Self::HEAD.len()] {
        let mean =
            |hours: &[f64]| format!("{:.2} h", hours.iter().sum::<f64>() / hours.len() as f64);
        let cases = self.line_h.len();
        [
            field.into(),
            times.into(),
            self.critical_pct.map_or(String::new(), |pct| format!("{pct} %")),
            cases.to_string(),
            self.dry_downs.to_string(),
            self.censored.to_string(),
            self.watered.to_string(),
            mean(&self.line_h),
            mean(&self.drying_h),
            format!("{:.0} %", 100.0 * self.covered as f64 / cases as f64),
            self.by_curve.to_string(),
        ]
    }
}
