use serde::{Deserialize, Serialize};

/// Count, mean, spread and extremes of a set of values. Two of them merge into those of both sets.
/// The moments are centred, so that a small spread on a high level keeps its digits. Sources: B. P.
/// Welford, Technometrics 4(3), 1962; T. F. Chan, G. H. Golub, R. J. LeVeque, Stanford CS-79-773,
/// 1979.
///
/// ```
/// use microclimate_agronomy::kpi::ValueMoments;
///
/// let [mut a, mut b] = [ValueMoments::default(); 2];
/// [20.0, 21.0].map(|value| a.add_value(value));
/// b.add_value(22.0);
/// a.merge(&b);
/// assert_eq!((a.count(), a.mean(), a.std_dev(), a.max()), (3, Some(21.0), Some(1.0), Some(22.0)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueMoments {
    count: u64,
    mean: f64,
    m2: f64,
    min: f64,
    max: f64,
}

impl ValueMoments {
    /// Adds a value. Values that are not finite are ignored.
    pub fn add_value(&mut self, value: f64) {
        if value.is_finite() {
            self.merge(&Self { count: 1, mean: value, m2: 0.0, min: value, max: value });
        }
    }

    /// Merges another set.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let share = b / (a + b);
        let delta = other.mean - self.mean;
        self.count += other.count;
        self.mean += delta * share;
        self.m2 += other.m2 + delta * delta * (a * share);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Number of values.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Arithmetic mean.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Sample standard deviation (n − 1). Needs two values.
    #[must_use]
    pub fn std_dev(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.m2 / (self.count - 1) as f64).sqrt())
    }

    /// Smallest value.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        (self.count > 0).then_some(self.min)
    }

    /// Largest value.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> ValueMoments {
        let mut moments = ValueMoments::default();
        values.iter().for_each(|value| moments.add_value(*value));
        moments
    }

    #[test]
    fn the_spread_of_nist_is_exact() {
        // NIST Statistical Reference Datasets, NumAcc3: mean 1000000.2,
        // standard deviation 0.1
        let mut values = vec![1_000_000.2];
        for _ in 0..500 {
            values.extend([1_000_000.1, 1_000_000.3]);
        }
        let found = of(&values);
        assert!((found.mean().unwrap() - 1_000_000.2).abs() < 1e-9);
        assert!((found.std_dev().unwrap() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn nothing_is_none_and_no_number_is_nothing() {
        let none = of(&[f64::NAN, f64::INFINITY]);
        assert_eq!((none.count(), none.mean(), none.min(), none.max()), (0, None, None, None));
        assert_eq!((of(&[3.0]).std_dev(), of(&[3.0, 3.0]).std_dev()), (None, Some(0.0)));
    }
}
