use agronomy::sun::{self, GeoLocation};

use super::DAY_MS;
use crate::definitions::{DaylightFilter, DerivedMetric};

/// Rule by which a reading of one metric becomes a reading of a derived metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Derivation {
    how: ValueTransform,
    when: Option<DaylightFilter>,
}

#[derive(Clone, Copy, Debug)]
enum ValueTransform {
    Same,
    Below(f64),
    Above(f64),
}

impl Derivation {
    pub(super) fn from_definition(derived: &DerivedMetric) -> Self {
        let how = match (derived.below, derived.above) {
            (Some(below), _) => ValueTransform::Below(below),
            (None, Some(above)) => ValueTransform::Above(above),
            (None, None) => ValueTransform::Same,
        };
        Self { how, when: derived.when }
    }

    /// Derives a value. Returns `None` if the rule wants day or night and it is the other or
    /// unknown (`is_up` is `None`).
    pub(super) fn derive_value(self, value: f64, is_up: Option<bool>) -> Option<f64> {
        let is_wanted = match self.when {
            None => true,
            Some(DaylightFilter::Day) => is_up == Some(true),
            Some(DaylightFilter::Night) => is_up == Some(false),
        };
        is_wanted.then_some(match self.how {
            ValueTransform::Same => value,
            ValueTransform::Below(below) => (below - value).max(0.0),
            ValueTransform::Above(above) => (value - above).max(0.0),
        })
    }
}

/// Answers whether the sun is up, and caches the day of the last question.
#[derive(Debug, Default)]
pub(super) struct DaylightCache(Option<(i64, sun::SolarDay)>);

impl DaylightCache {
    pub(super) fn is_up(&mut self, at_ms: i64, place: Option<GeoLocation>) -> Option<bool> {
        let place = place?;
        // Days run from one mean solar midnight to the next.
        let east_ms = (place.longitude_deg() * 240_000.0) as i64;
        let number = (at_ms + east_ms).div_euclid(DAY_MS);
        let day = match self.0 {
            Some((known, day)) if known == number => day,
            _ => sun::solar_day_near(number * DAY_MS + DAY_MS / 2 - east_ms, place),
        };
        self.0 = Some((number, day));
        Some(day.is_up(at_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_day_by_night_and_beyond_a_base() {
        let check = |when: Option<DaylightFilter>,
                     [below, above]: [Option<f64>; 2],
                     value,
                     is_up,
                     expect| {
            let derived = DerivedMetric { when, below, above, ..DerivedMetric::default() };
            assert_eq!(
                Derivation::from_definition(&derived).derive_value(value, is_up),
                expect,
                "{derived:?}"
            );
        };
        let same = [None; 2];
        check(None, same, 3.0, None, Some(3.0));
        check(Some(DaylightFilter::Day), same, 3.0, Some(true), Some(3.0));
        check(Some(DaylightFilter::Day), same, 3.0, Some(false), None);
        check(Some(DaylightFilter::Day), same, 3.0, None, None);
        check(Some(DaylightFilter::Night), same, 3.0, Some(false), Some(3.0));
        check(None, [Some(18.0), None], 15.5, None, Some(2.5));
        check(None, [Some(18.0), None], 20.0, None, Some(0.0));
        check(None, [None, Some(24.0)], 25.0, None, Some(1.0));
    }

    #[test]
    fn the_sun_rises_and_sets_in_greenwich() {
        let greenwich = GeoLocation::new(51.4769, 0.0).ok();
        let midsummer_ms = 1_718_928_000_000; // 21 June 2024, 0:00 UTC
        let mut sun = DaylightCache::default();
        let mut at = |hour: f64| sun.is_up(midsummer_ms + (hour * 3.6e6) as i64, greenwich);
        // almanac: 3:43 to 20:21 UTC
        let found = [3.6, 3.8, 12.0, 20.3, 20.5, 27.6, 27.8].map(&mut at);
        assert_eq!(found.map(Option::unwrap), [false, true, true, true, false, false, true]);
        assert_eq!(DaylightCache::default().is_up(0, None), None);
    }
}
