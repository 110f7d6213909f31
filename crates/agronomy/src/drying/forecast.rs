use serde::{Deserialize, Serialize};

use super::{
    DryingSettings, MoisturePoint, hourly_rates::DryingRate, hours_between, segment::DryingSegment,
};

/// Time until the critical moisture is reached without watering.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DryingForecast {
    /// Hours from now, 0 to the horizon; the horizon means "not within the horizon".
    pub hours: f64,
    /// Lower end of the interval, hours, ≤ `hours`.
    pub low: f64,
    /// Upper end of the interval, hours, ≥ `hours`.
    pub high: f64,
    /// Basis of the forecast.
    pub basis: ForecastBasis,
}

/// Basis of a [`DryingForecast`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForecastBasis {
    /// The critical moisture has been reached already.
    Reached,
    /// The exponential dry-down of this segment.
    Exponential,
    /// The mean drying rate of the last days, with its daily rhythm.
    Rate,
    /// The line through the readings since the last watering.
    Slope,
}

/// Forecast at a time, from the latest reading `last` at or before it.
pub(super) fn forecast_critical(
    at_ms: i64,
    last: MoisturePoint,
    quantum_pct: f64,
    segment: Option<&DryingSegment>,
    drying: Option<&DryingRate>,
    settings: &DryingSettings,
) -> Option<DryingForecast> {
    let DryingSettings { critical_pct, horizon_h, interval_z: z, .. } = *settings;
    let lost_pct = last.pct - critical_pct;
    if lost_pct <= 0.0 {
        return Some(DryingForecast {
            hours: 0.0,
            low: 0.0,
            high: 0.0,
            basis: ForecastBasis::Reached,
        });
    }
    let age_h = hours_between(last.ms, at_ms).max(0.0);
    // Moisture that the converter's step can hide, as the standard deviation of a uniform
    // distribution.
    let hidden_pct = z * quantum_pct / 12.0_f64.sqrt();
    // Drying slows in the evening, as an exponential does: only a whole day of readings tells
    // the two apart.
    let curve =
        segment.filter(|segment| segment.duration_h() >= 24.0).and_then(|s| s.dry_down_curve());
    let by_rate = |mean: f64, spread: f64, even: &DryingRate, basis| {
        let to_lose =
            |pct: f64, rate: f64| even.hours_to_lose(pct, rate, last.ms, horizon_h + age_h);
        DryingForecast {
            hours: to_lose(lost_pct, mean),
            low: to_lose(lost_pct - hidden_pct, mean + z * spread),
            high: to_lose(lost_pct + hidden_pct, mean - z * spread),
            basis,
        }
    };
    let mut found = match (drying, segment) {
        (Some(drying), _) => {
            by_rate(drying.mean_pct_h, drying.spread_pct_h, drying, ForecastBasis::Rate)
        }
        (None, Some(segment)) => {
            let slope = segment.line().slope()?;
            let spread = segment.line().slope_se().unwrap_or(slope.abs());
            by_rate(-slope, spread, &DryingRate::without_rhythm(), ForecastBasis::Slope)
        }
        (None, None) => return None,
    };
    if let Some(curve) = curve {
        // A curve that ends above the threshold never reaches it. The interval of the rate is kept,
        // because it is the wider of the two.
        let above = (last.pct - curve.residual_pct).max(0.0);
        let above_critical = critical_pct - curve.residual_pct;
        let hours = if above_critical > 0.0 && above > 0.0 {
            curve.tau_h * (above / above_critical).ln().max(0.0)
        } else {
            horizon_h + age_h
        };
        found.hours = hours.min(horizon_h + age_h);
        found.low = found.low.min(found.hours);
        found.high = found.high.max(found.hours);
        found.basis = ForecastBasis::Exponential;
    }
    let from_now = |hours: f64| (hours - age_h).clamp(0.0, horizon_h);
    Some(DryingForecast {
        hours: from_now(found.hours),
        low: from_now(found.low),
        high: from_now(found.high),
        basis: found.basis,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::DryingTracker as Sensor, *};

    /// Computes the forecast after readings `step_min` apart, with the threshold at `critical_pct`.
    fn of(
        value: impl Fn(f64) -> f64,
        step_min: i64,
        count: i64,
        critical_pct: f64,
    ) -> Option<DryingForecast> {
        let settings = DryingSettings {
            critical_pct,
            target_pct: critical_pct + 1.0,
            ..DryingSettings::default()
        };
        let mut sensor = Sensor::default();
        for i in 0..count {
            let ms = i * step_min * 60_000;
            sensor.add_moisture(&settings, ms, value(hours_between(0, ms)));
        }
        sensor.trend_at(&settings, (count - 1) * step_min * 60_000).and_then(|trend| trend.forecast)
    }

    fn check(found: Option<DryingForecast>, basis: ForecastBasis, hours: f64) {
        let found = found.expect("a forecast");
        assert_eq!(found.basis, basis, "{found:?}");
        assert!((found.hours - hours).abs() <= 0.02 * hours + 1e-9, "{found:?} is not {hours} h");
        assert!(found.low <= found.hours && found.hours <= found.high, "{found:?}");
    }

    #[test]
    fn it_rests_on_what_is_known() {
        let line = |hour: f64| 50.0 - hour;
        assert_eq!(of(line, 10, 1, 40.0), None, "one reading tells no rate");
        check(of(line, 10, 4, 40.0), ForecastBasis::Slope, 9.5);
        check(of(line, 10, 31, 40.0), ForecastBasis::Rate, 5.0);
        check(of(line, 10, 61, 40.0), ForecastBasis::Reached, 0.0);
        check(of(|hour| 40.0 + 0.01 * hour, 10, 61, 30.0), ForecastBasis::Rate, 48.0);
        check(of(|hour| 40.0 + 0.01 * hour, 10, 4, 30.0), ForecastBasis::Slope, 48.0);
    }

    #[test]
    fn a_curve_is_believed_after_a_day_and_its_time_constant() {
        let curve = |hour: f64| 20.0 + 30.0 * (-hour / 20.0).exp();
        let exact = |from: f64, to: f64| 20.0 * ((from - 20.0) / (to - 20.0)).ln();
        check(of(curve, 30, 97, 22.0), ForecastBasis::Exponential, exact(curve(48.0), 22.0));
        check(of(curve, 30, 97, 19.0), ForecastBasis::Exponential, 48.0);
        assert_eq!(of(curve, 30, 41, 21.0).unwrap().basis, ForecastBasis::Rate, "20 h");
        let slow = |hour: f64| 20.0 + 30.0 * (-hour / 60.0).exp();
        assert_eq!(of(slow, 30, 97, 21.0).unwrap().basis, ForecastBasis::Rate, "48 of 60 h");
    }

    #[test]
    fn a_coarse_probe_is_less_certain() {
        let fine = of(|hour| 50.0 - hour + 0.01 * hour.sin(), 30, 49, 20.0).unwrap();
        let coarse = of(|hour| (50.0 - hour).floor(), 30, 49, 20.0).unwrap();
        assert!(coarse.high - coarse.low > fine.high - fine.low + 0.4, "{coarse:?} {fine:?}");
    }
}
