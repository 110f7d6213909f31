//! Sums of temperature over time.

use super::in_range;

/// Heating degree-hours, °C h, ≥ 0, of air with a mean temperature over a number of hours:
/// Σ max(0, base − T) Δt. ASHRAE Handbook Fundamentals, 2017, chapter 14, by the hour.
#[must_use]
pub fn heating_degree_hours(temperature_c: f64, base_c: f64, hours: f64) -> Option<f64> {
    let below = in_range(base_c, -100.0, 100.0)? - in_range(temperature_c, -100.0, 100.0)?;
    Some(below.max(0.0) * in_range(hours, 0.0, 1e6)?)
}

/// Cooling degree-hours, °C h, ≥ 0: Σ max(0, T − base) Δt.
#[must_use]
pub fn cooling_degree_hours(temperature_c: f64, base_c: f64, hours: f64) -> Option<f64> {
    heating_degree_hours(-temperature_c, -base_c, hours)
}

/// Value that is raised to the base before growing degree-days are counted. These are two
/// interpretations of the same equation; they differ on days with a cold night.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DegreeDayClamp {
    /// Mean of the day: "method 1", for wheat and barley.
    Mean,
    /// Maximum and minimum, each separately: "method 2", for maize.
    Extremes,
}

/// Growing degree-days, °C d, ≥ 0, of a day with these extremes and a base temperature. Above the
/// upper threshold, if there is one, more warmth does not help. The threshold is applied where the
/// base is: to the mean, or to each extreme. G. S. McMaster, W. W. Wilhelm, "Growing degree-days:
/// one equation, two interpretations", Agric. For. Meteorol. 87, 1997.
///
/// ```
/// use microclimate_agronomy::formula::degrees::{DegreeDayClamp, growing_degree_days};
///
/// let cold_night = |clamp| growing_degree_days(20.0, 4.0, 10.0, None, clamp);
/// assert_eq!(cold_night(DegreeDayClamp::Mean), Some(2.0));
/// assert_eq!(cold_night(DegreeDayClamp::Extremes), Some(5.0));
/// ```
#[must_use]
pub fn growing_degree_days(
    max_c: f64,
    min_c: f64,
    base_c: f64,
    upper_c: Option<f64>,
    clamp: DegreeDayClamp,
) -> Option<f64> {
    let max_c = in_range(max_c, -100.0, 100.0)?;
    let min_c = in_range(min_c, -100.0, max_c)?;
    let base_c = in_range(base_c, -100.0, 100.0)?;
    let upper_c = match upper_c {
        Some(upper_c) => in_range(upper_c, base_c, 100.0)?,
        None => 100.0,
    };
    let clamped = |c: f64| c.clamp(base_c, upper_c);
    let mean_c = match clamp {
        DegreeDayClamp::Mean => clamped(f64::midpoint(max_c, min_c)),
        DegreeDayClamp::Extremes => f64::midpoint(clamped(max_c), clamped(min_c)),
    };
    Some(mean_c - base_c)
}

#[cfg(test)]
mod tests {
    use super::{super::close, *};

    #[test]
    fn degree_hours_count_one_side_of_the_base() {
        close(heating_degree_hours(15.0, 18.0, 2.0), 6.0, 1e-12);
        close(heating_degree_hours(20.0, 18.0, 2.0), 0.0, 0.0);
        close(cooling_degree_hours(30.0, 26.0, 0.5), 2.0, 1e-12);
        close(cooling_degree_hours(20.0, 26.0, 0.5), 0.0, 0.0);
        assert_eq!(heating_degree_hours(f64::NAN, 18.0, 1.0), None);
        assert_eq!(heating_degree_hours(1.0, 18.0, -1.0), None);
    }

    #[test]
    fn the_two_readings_of_one_equation_differ_on_cold_nights_only() {
        let at = |max, min, clamp| growing_degree_days(max, min, 10.0, Some(30.0), clamp);
        for (max, min, mean, extremes) in [
            (28.0, 14.0, 11.0, 11.0),
            (20.0, 4.0, 2.0, 5.0),
            (9.0, -3.0, 0.0, 0.0),
            (36.0, 20.0, 18.0, 15.0),
            (45.0, 35.0, 20.0, 20.0),
        ] {
            close(at(max, min, DegreeDayClamp::Mean), mean, 1e-12);
            close(at(max, min, DegreeDayClamp::Extremes), extremes, 1e-12);
        }
        assert_eq!(at(10.0, 11.0, DegreeDayClamp::Mean), None, "the minimum above the maximum");
        // The 86/50 rule of maize, °F: 91 and 60 give (86 + 60)/2 − 50 = 23
        let fahrenheit = |f: f64| (f - 32.0) / 1.8;
        let days = growing_degree_days(
            fahrenheit(91.0),
            fahrenheit(60.0),
            fahrenheit(50.0),
            Some(fahrenheit(86.0)),
            DegreeDayClamp::Extremes,
        );
        close(days.map(|c| c * 1.8), 23.0, 1e-9);
    }
}
