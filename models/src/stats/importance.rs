//! Importance of inputs: how much worse predictions become without them.

use ndarray::{Array2, ArrayView1, ArrayView2};
use rand::{SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;
use rayon::prelude::*;
use serde::Serialize;

use super::{bootstrap::BlockBootstrap, mean_ranks};

/// Importance of a group of inputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InputImportance {
    /// Columns that were shuffled together.
    pub inputs: Vec<usize>,
    /// Increase of the mean squared error, in squares of the targets' unit; about 0 for useless
    /// inputs.
    pub rise: f64,
    /// Interval of the increase, at the requested level.
    pub interval: (f64, f64),
}

/// Settings of [`permutation_importance`].
#[derive(Clone, Copy, Debug)]
pub struct PermutationSettings {
    /// Number of shuffles per group.
    pub repeats: usize,
    /// Seed; the same seed gives the same numbers.
    pub seed: u64,
    /// Number of rows over which predictions overlap.
    pub horizon: usize,
    /// Probability that an interval contains the increase.
    pub level: f64,
}

impl Default for PermutationSettings {
    fn default() -> Self {
        Self { repeats: 5, seed: 0, horizon: 1, level: 0.95 }
    }
}

/// Increase of the mean squared error when the columns of each group are shuffled over rows,
/// together, so that they carry no information about their row. L. Breiman, "Random forests",
/// Machine Learning 45(1), 2001; the model-agnostic form of A. Fisher, C. Rudin, F. Dominici, JMLR
/// 20(177), 2019. Intervals come from blocks of rows. `x` (rows × inputs, in the order of time)
/// should be of a time that was not used for fitting. Correlated inputs replace one another: put
/// them in one group, see [`correlated_groups`].
#[must_use]
pub fn permutation_importance(
    predict: impl Fn(ArrayView2<f64>) -> ndarray::Array1<f64> + Sync,
    x: ArrayView2<f64>,
    actual: ArrayView1<f64>,
    groups: &[Vec<usize>],
    shuffling: PermutationSettings,
) -> Vec<InputImportance> {
    let rows = x.nrows();
    let squares = |x: ArrayView2<f64>| (predict(x) - actual).mapv(|error| error * error);
    let whole = squares(x);
    let group_importance = |inputs: &Vec<usize>| {
        let mut rise = -whole.clone();
        for repeat in 0..shuffling.repeats.max(1) {
            let mut order: Vec<usize> = (0..rows).collect();
            let mut rng = Pcg64::seed_from_u64(shuffling.seed.wrapping_add(repeat as u64));
            order.shuffle(&mut rng);
            let mut shuffled = x.to_owned();
            for input in inputs {
                let values = order.iter().map(|row| x[(*row, *input)]);
                shuffled
                    .column_mut(*input)
                    .iter_mut()
                    .zip(values)
                    .for_each(|(to, from)| *to = from);
            }
            rise += &(squares(shuffled.view()) / shuffling.repeats.max(1) as f64);
        }
        let mean =
            |rows: &[usize]| rows.iter().map(|row| rise[*row]).sum::<f64>() / rows.len() as f64;
        let bootstrap = BlockBootstrap::for_rows(rows, shuffling.horizon, shuffling.seed);
        let interval = bootstrap.percentile_interval(rows, shuffling.level, mean);
        InputImportance {
            inputs: inputs.clone(),
            rise: rise.mean().unwrap_or(f64::NAN),
            interval: interval.unwrap_or((f64::NAN, f64::NAN)),
        }
    };
    groups.par_iter().map(group_importance).collect()
}

/// Groups of correlated inputs: columns are joined while the mean of the absolute rank correlations
/// between two groups is at least `correlation` (average linkage: R. R. Sokal, C. D. Michener,
/// 1958). Rows in which either input is missing do not count. Each column is in one group; groups
/// are in the order of their first columns.
///
/// ```
/// let x = ndarray::array![[1.0, 10.0, 3.0], [2.0, 20.0, 1.0], [3.0, 31.0, 4.0], [4.0, 39.0, 2.0]];
/// let groups = microclimate_models::stats::importance::correlated_groups(x.view(), 0.9);
/// assert_eq!(groups, [vec![0, 1], vec![2]]);
/// ```
#[must_use]
pub fn correlated_groups(x: ArrayView2<f64>, correlation: f64) -> Vec<Vec<usize>> {
    let width = x.ncols();
    let pairs: Vec<(usize, usize)> =
        (0..width).flat_map(|a| (a + 1..width).map(move |b| (a, b))).collect();
    let found: Vec<f64> =
        pairs.par_iter().map(|(a, b)| rank_correlation(x.column(*a), x.column(*b)).abs()).collect();
    let mut alike: Array2<f64> = Array2::zeros((width, width));
    for ((a, b), found) in pairs.into_iter().zip(found) {
        alike[(a, b)] = found;
        alike[(b, a)] = found;
    }
    let mut groups: Vec<Vec<usize>> = (0..width).map(|column| vec![column]).collect();
    loop {
        let mean = |a: &[usize], b: &[usize]| {
            let sum: f64 = a.iter().map(|a| b.iter().map(|b| alike[(*a, *b)]).sum::<f64>()).sum();
            sum / (a.len() * b.len()) as f64
        };
        let all = (0..groups.len()).flat_map(|a| (a + 1..groups.len()).map(move |b| (a, b)));
        let closest = all
            .map(|(a, b)| (mean(&groups[a], &groups[b]), a, b))
            .max_by(|x, y| x.0.total_cmp(&y.0).then((y.1, y.2).cmp(&(x.1, x.2))));
        match closest {
            Some((found, a, b)) if found >= correlation => {
                let joined = groups.remove(b);
                groups[a].extend(joined);
                groups[a].sort_unstable();
            }
            _ => return groups,
        }
    }
}

/// Spearman's rank correlation over the rows that have both; 0 where one does not vary.
fn rank_correlation(a: ArrayView1<f64>, b: ArrayView1<f64>) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| a.is_finite() && b.is_finite());
    let (a, b): (Vec<f64>, Vec<f64>) = both.map(|(a, b)| (*a, *b)).unzip();
    let (a, b) = (mean_ranks(&a), mean_ranks(&b));
    let middle = f64::midpoint(1.0, a.len() as f64);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(&b) {
        ab += (a - middle) * (b - middle);
        aa += (a - middle).powi(2);
        bb += (b - middle).powi(2);
    }
    if aa > 0.0 && bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array1;
    use rand::RngExt;

    #[test]
    fn what_counts_rises_and_what_does_not_stays() {
        let mut rng = Pcg64::seed_from_u64(4);
        let mut x = Array2::from_shape_simple_fn((400, 4), || rng.random_range(-1.0..1.0));
        let copy = x.column(0).to_owned();
        x.column_mut(3).assign(&copy);
        let predict = |x: ArrayView2<f64>| -> Array1<f64> {
            x.rows().into_iter().map(|row| row[0] + row[1] + row[3]).collect()
        };
        let actual = predict(x.view());
        let groups = correlated_groups(x.view(), 0.9);
        assert_eq!(groups, [vec![0, 3], vec![1], vec![2]]);
        let found = permutation_importance(
            predict,
            x.view(),
            actual.view(),
            &groups,
            PermutationSettings::default(),
        );
        // The error of a shuffled uniform input times w is 2·w²/3.
        let check = |group: usize, expect: f64| {
            let InputImportance { rise, interval: (low, high), .. } = found[group].clone();
            assert!((rise - expect).abs() <= 0.15 * expect, "{rise} is not {expect}");
            assert!(low <= rise && rise <= high && (high - low) <= 0.5 * expect);
        };
        check(0, 8.0 / 3.0);
        check(1, 2.0 / 3.0);
        check(2, 0.0);
    }

    #[test]
    fn rank_correlations() {
        const NAN: f64 = f64::NAN;
        let check = |a: &[f64], b: &[f64], expect: f64| {
            let got = rank_correlation(ndarray::aview1(a), ndarray::aview1(b));
            assert!((got - expect).abs() < 1e-12, "{a:?} {b:?}: {got}");
        };
        check(&[1.0, 2.0, 3.0], &[1.0, 4.0, 9.0], 1.0);
        check(&[1.0, 2.0, 3.0, NAN], &[3.0, 2.0, 1.0, 7.0], -1.0);
        check(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0], 0.0);
        // scipy 1.17.1: spearmanr([1, 2, 2, 4, 5], [5, 3, 4, 4, 1])
        check(&[1.0, 2.0, 2.0, 4.0, 5.0], &[5.0, 3.0, 4.0, 4.0, 1.0], -0.763_157_894_736_842);
    }
}
