use serde::{Deserialize, Serialize};

use super::{Point, Settings, hours, rates::Drying, segment::Segment};

/// When the critical moisture will be reached without watering.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Hours from now, 0 to the horizon; the horizon stands for "not within
    /// it".
    pub hours: f64,
    /// Earliest, hours, ≤ `hours`.
    pub low: f64,
    /// Latest, hours, ≥ `hours`.
    pub high: f64,
    /// What it rests on.
    pub basis: Basis,
}

/// What a forecast rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// It has been reached.
    Reached,
    /// The exponential dry-down of this segment.
    Exponential,
    /// The mean drying rate of the last days, by the rhythm of the day.
    Rate,
    /// The line through the readings since the last watering.
    Slope,
}

/// The forecast at a time, from the newest reading `last` at or before it.
pub(super) fn forecast(
    at_ms: i64,
    last: Point,
    quantum_pct: f64,
    segment: Option<&Segment>,
    drying: Option<&Drying>,
    settings: &Settings,
) -> Option<Forecast> {
    let Settings { critical_pct, horizon_h, interval_z: z, .. } = *settings;
    let lost_pct = last.pct - critical_pct;
    if lost_pct <= 0.0 {
        return Some(Forecast { hours: 0.0, low: 0.0, high: 0.0, basis: Basis::Reached });
    }
    let age_h = hours(last.ms, at_ms).max(0.0);
    // What a step of the converter hides, as the spread of an equal
    // distribution.
    let hidden_pct = z * quantum_pct / 12.0_f64.sqrt();
    // The evening slows drying as an exponential does: only a whole day tells
    // the two apart.
    let curve = segment.filter(|segment| segment.hours() >= 24.0).and_then(|s| s.curve());
    let by_rate = |mean: f64, spread: f64, even: &Drying, basis| {
        let to_lose =
            |pct: f64, rate: f64| even.hours_to_lose(pct, rate, last.ms, horizon_h + age_h);
        Forecast {
            hours: to_lose(lost_pct, mean),
            low: to_lose(lost_pct - hidden_pct, mean + z * spread),
            high: to_lose(lost_pct + hidden_pct, mean - z * spread),
            basis,
        }
    };
    let mut found = match (drying, segment) {
        (Some(drying), _) => by_rate(drying.mean_pct_h, drying.spread_pct_h, drying, Basis::Rate),
        (None, Some(segment)) => {
            let slope = segment.line().slope()?;
            let spread = segment.line().slope_se().unwrap_or(slope.abs());
            by_rate(-slope, spread, &Drying::even(), Basis::Slope)
        }
        (None, None) => return None,
    };
    if let Some(curve) = curve {
        // Beyond the curve's end the threshold is never reached; the rate's
        // interval stays, as the wider of the two.
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
        found.basis = Basis::Exponential;
    }
    let from_now = |hours: f64| (hours - age_h).clamp(0.0, horizon_h);
    Some(Forecast {
        hours: from_now(found.hours),
        low: from_now(found.low),
        high: from_now(found.high),
        basis: found.basis,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Drying as Sensor, *};

    /// The forecast after readings `step_min` apart, with the threshold at
    /// `critical_pct`.
    fn of(
        value: impl Fn(f64) -> f64,
        step_min: i64,
        count: i64,
        critical_pct: f64,
    ) -> Option<Forecast> {
        let settings =
            Settings { critical_pct, target_pct: critical_pct + 1.0, ..Settings::default() };
        let mut sensor = Sensor::default();
        for i in 0..count {
            let ms = i * step_min * 60_000;
            sensor.moisture(&settings, ms, value(hours(0, ms)));
        }
        sensor.trend(&settings, (count - 1) * step_min * 60_000).and_then(|trend| trend.forecast)
    }

    fn check(found: Option<Forecast>, basis: Basis, hours: f64) {
        let found = found.expect("a forecast");
        assert_eq!(found.basis, basis, "{found:?}");
        assert!((found.hours - hours).abs() <= 0.02 * hours + 1e-9, "{found:?} is not {hours} h");
        assert!(found.low <= found.hours && found.hours <= found.high, "{found:?}");
    }

    #[test]
    fn it_rests_on_what_is_known() {
        let line = |hour: f64| 50.0 - hour;
        assert_eq!(of(line, 10, 1, 40.0), None, "one reading tells no rate");
        check(of(line, 10, 4, 40.0), Basis::Slope, 9.5);
        check(of(line, 10, 31, 40.0), Basis::Rate, 5.0);
        check(of(line, 10, 61, 40.0), Basis::Reached, 0.0);
        check(of(|hour| 40.0 + 0.01 * hour, 10, 61, 30.0), Basis::Rate, 48.0);
        check(of(|hour| 40.0 + 0.01 * hour, 10, 4, 30.0), Basis::Slope, 48.0);
    }

    #[test]
    fn a_curve_is_believed_after_a_day_and_its_time_constant() {
        let curve = |hour: f64| 20.0 + 30.0 * (-hour / 20.0).exp();
        let truth = |from: f64, to: f64| 20.0 * ((from - 20.0) / (to - 20.0)).ln();
        check(of(curve, 30, 97, 22.0), Basis::Exponential, truth(curve(48.0), 22.0));
        check(of(curve, 30, 97, 19.0), Basis::Exponential, 48.0);
        assert_eq!(of(curve, 30, 41, 21.0).unwrap().basis, Basis::Rate, "20 h");
        let slow = |hour: f64| 20.0 + 30.0 * (-hour / 60.0).exp();
        assert_eq!(of(slow, 30, 97, 21.0).unwrap().basis, Basis::Rate, "48 of 60 h");
    }

    #[test]
    fn a_coarse_probe_is_less_certain() {
        let fine = of(|hour| 50.0 - hour + 0.01 * hour.sin(), 30, 49, 20.0).unwrap();
        let coarse = of(|hour| (50.0 - hour).floor(), 30, 49, 20.0).unwrap();
        assert!(coarse.high - coarse.low > fine.high - fine.low + 0.4, "{coarse:?} {fine:?}");
    }
}
