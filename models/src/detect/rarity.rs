use serde::{Deserialize, Serialize};

/// Rarity of a value among known values: −log₁₀ of the share of them that are at least as large,
/// the value itself included (a conformal p-value: V. Vovk, A. Gammerman, G. Shafer, "Algorithmic
/// Learning in a Random World", 2005). Beyond the largest value it continues as an exponential tail
/// with the mean excess of the largest hundredth (peaks over threshold: A. Siffer et al., "Anomaly
/// detection in streams with extreme value theory", KDD 2017), by at most 6. It stores five values
/// per power of ten and interpolates between them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RarityScale {
    /// Values and their rarities, both rising.
    knots: Vec<(f64, f64)>,
    /// Mean excess, in the unit of the values.
    excess: f64,
}

/// Fewest known values from which rarity can be measured.
const VALUES_MIN: usize = 30;
const KNOTS_A_DECADE: f64 = 5.0;
/// Share of the values that form the tail.
const TAIL: f64 = 0.01;
const BEYOND_MAX: f64 = 6.0;
/// Smallest mean excess, in the unit of the values. Callers give values on scales where this is
/// small.
const EXCESS_MIN: f64 = 0.05;

impl RarityScale {
    /// Learns from values, ignoring those that are not finite. With fewer than 30 values nothing is
    /// rare.
    #[must_use]
    pub fn from_values(samples: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = samples.filter(|value| value.is_finite()).collect();
        if values.len() < VALUES_MIN {
            return Self::default();
        }
        values.sort_unstable_by(f64::total_cmp);
        let n = values.len();
        let mut knots: Vec<(f64, f64)> = Vec::new();
        let steps = (n as f64).log10() * KNOTS_A_DECADE;
        let ranks = (0..=steps as usize).map(|step| {
            let share = 10_f64.powf(-(step as f64) / KNOTS_A_DECADE);
            ((n as f64 * (1.0 - share)) as usize).min(n - 1)
        });
        for rank in ranks.chain([n - 1]) {
            let value = values[rank];
            if knots.last().is_none_or(|(last, _)| value > *last) {
                let at_least = n - values.partition_point(|other| *other < value);
                knots.push((value, -((at_least + 1) as f64 / (n + 1) as f64).log10()));
            }
        }
        // The smallest value has no rarity.
        knots[0].1 = 0.0;
        let from = ((n as f64 * (1.0 - TAIL)) as usize).min(n - 2);
        let tail = &values[from..];
        let mean = tail.iter().sum::<f64>() / tail.len() as f64;
        Self { knots, excess: (mean - values[from]).max(EXCESS_MIN) }
    }

    /// Rarity of a value: 0 where it is at most the smallest known value, or not finite.
    #[must_use]
    pub fn score_value(&self, value: f64) -> f64 {
        let after = self.knots.partition_point(|(known, _)| *known <= value);
        if after == 0 || !value.is_finite() {
            return 0.0;
        }
        let (below, rarity) = self.knots[after - 1];
        match self.knots.get(after) {
            Some((above, next)) => rarity + (next - rarity) * (value - below) / (above - below),
            None => {
                let tail = (value - below) / self.excess / std::f64::consts::LN_10;
                rarity + tail.min(BEYOND_MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_the_share_of_values_at_least_as_large() {
        let rarity = RarityScale::from_values((0..10_000).map(|i| f64::from(i) / 1e4));
        let check = |value: f64, share: f64| {
            let got = 10_f64.powf(-rarity.score_value(value));
            assert!((got / share - 1.0).abs() < 0.12, "{value}: {got} is not {share}");
        };
        check(0.0, 1.0);
        check(0.5, 0.5);
        check(0.9, 0.1);
        check(0.99, 0.01);
        check(0.999, 0.001);
        assert_eq!(rarity.score_value(-1.0), 0.0);
        assert_eq!(rarity.score_value(f64::NAN), 0.0);
        assert_eq!(rarity.score_value(f64::INFINITY), 0.0);
        assert!(rarity.score_value(1.1) > rarity.score_value(1.05));
        assert!(rarity.score_value(1e9) < 4.0 + BEYOND_MAX);
    }

    #[test]
    fn equal_values_and_few_of_them() {
        let equal = RarityScale::from_values([3.0; 50].into_iter());
        assert_eq!(equal.score_value(3.0), 0.0);
        assert!(equal.score_value(3.5) > 3.0, "it never moved before");
        assert_eq!(RarityScale::from_values([1.0; 29].into_iter()).score_value(9.0), 0.0);
    }

    proptest! {
        #[test]
        fn larger_is_never_more_usual(
            values in prop::collection::vec(-1e3..1e3_f64, 30..400),
            mut queries in prop::collection::vec(-2e3..2e3_f64, 2..20),
        ) {
            let rarity = RarityScale::from_values(values.into_iter());
            queries.sort_by(f64::total_cmp);
            let scores: Vec<f64> = queries.iter().map(|value| rarity.score_value(*value)).collect();
            prop_assert!(scores.is_sorted(), "{scores:?}");
        }
    }
}
