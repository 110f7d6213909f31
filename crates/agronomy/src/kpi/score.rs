use serde::{Deserialize, Serialize};

/// Range of values in which a zone is comfortable for people or plants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComfortBand {
    /// Lowest comfortable value.
    pub low: f64,
    /// Highest comfortable value, ≥ `low`.
    pub high: f64,
    /// Distance outside the band at which comfort reaches 0, above 0.
    pub tolerance: f64,
}

impl ComfortBand {
    /// Whether the numbers form a valid band.
    pub(super) fn is_valid(&self) -> bool {
        let finite = self.low.is_finite() && self.high.is_finite() && self.tolerance.is_finite();
        finite && self.low <= self.high && self.tolerance > 0.0
    }

    /// Comfort of a value, 0–100: 100 inside the band, falling in proportion to the distance
    /// outside. A trapezoidal membership function: L. A. Zadeh, "Fuzzy sets", Information and
    /// Control 8, 1965.
    #[must_use]
    pub fn comfort_score(&self, value: f64) -> f64 {
        let outside = (self.low - value).max(value - self.high).max(0.0);
        100.0 * (1.0 - outside / self.tolerance).max(0.0)
    }
}

/// Data quality, 0–100: the product of the share of expected readings that arrived (completeness),
/// the share of those that were valid (plausibility) and the share of the period outside the
/// largest gap (continuity). Each is 0–1. It is a product, because none of them makes up for
/// another. Dimensions after C. Batini et al., "Methodologies for data quality assessment and
/// improvement", ACM Computing Surveys 41(3), 2009.
pub(super) fn quality_score(completeness: f64, valid_share: f64, continuity: f64) -> f64 {
    100.0
        * [completeness, valid_share, continuity]
            .map(|part| part.clamp(0.0, 1.0))
            .iter()
            .product::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comfort_falls_outside_the_band() {
        let band = ComfortBand { low: 20.0, high: 24.0, tolerance: 4.0 };
        for (value, comfort) in
            [(20.0, 100.0), (22.0, 100.0), (24.0, 100.0), (25.0, 75.0), (18.0, 50.0), (40.0, 0.0)]
        {
            assert_eq!(band.comfort_score(value), comfort, "{value}");
        }
    }

    #[test]
    fn bands_have_two_ends_in_order() {
        let valid = |low, high, tolerance| ComfortBand { low, high, tolerance }.is_valid();
        assert!(valid(1.0, 1.0, 0.1));
        for (low, high, tolerance) in
            [(2.0, 1.0, 1.0), (1.0, 2.0, 0.0), (f64::NAN, 2.0, 1.0), (1.0, f64::INFINITY, 1.0)]
        {
            assert!(!valid(low, high, tolerance), "{low} {high} {tolerance}");
        }
    }

    #[test]
    fn quality_is_as_good_as_all_of_its_parts() {
        assert_eq!(quality_score(1.0, 1.0, 1.0), 100.0);
        assert_eq!(quality_score(0.5, 0.5, 1.0), 25.0);
        assert_eq!(quality_score(1.0, 1.0, 0.0), 0.0);
    }
}
