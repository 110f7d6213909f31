use ndarray::{Array1, ArrayView1, ArrayView2, Axis};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows};
use crate::{FitError, dataset::evenly_spaced_rows, scaling::FeatureScaler};

/// Half-space trees, a streaming detector that measures how few of the last rows share a row's
/// half-spaces, in 25 trees of random cuts of depth 8. [`FittedDetector::learn_row`] adds one row
/// at a time while it is served. S. C. Tan, K. M. Ting, F. T. Liu, "Fast anomaly detection for
/// streaming data", IJCAI 2011. Masses are those of the last whole window of 1,000 rows (a quarter
/// of the rows where there are fewer than 4,000). Fits at most 20,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct HalfSpaceTrees;

const TREES: usize = 25;
const DEPTH: usize = 8;
const WINDOW: usize = 1000;
const ROWS_MAX: usize = 20_000;
/// Range of an input, in spreads. Values outside are clamped to it.
const RANGE: f64 = 5.0;
/// Share of the window below which the children of a node are not considered.
const SHARE_MIN: f64 = 0.1;

/// Trees of cuts, with the number of rows that passed each node.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedHalfSpaceTrees {
    scaler: FeatureScaler,
    trees: Vec<HalfSpaceTree>,
    window: usize,
    /// Number of rows in the window that is being filled.
    seen: usize,
}

/// Tree in which node n has the children 2n + 1 and 2n + 2.
#[derive(Debug, Serialize, Deserialize)]
struct HalfSpaceTree {
    /// Input and position of each inner node's cut.
    cuts: Vec<(usize, f64)>,
    /// Number of rows of the last window that passed each node.
    reference: Vec<u32>,
    /// Number of rows of the current window that passed each node.
    latest: Vec<u32>,
}

impl AnomalyDetector for HalfSpaceTrees {
    fn name(&self) -> &'static str {
        "half-space trees"
    }

    fn rows_max(&self) -> usize {
        ROWS_MAX
    }

    fn fit(&self, x: ArrayView2<f64>, seed: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let mut rng = Pcg64::seed_from_u64(seed);
        let trees = (0..TREES).map(|_| HalfSpaceTree::at_random(x.ncols(), &mut rng)).collect();
        let kept = x.select(Axis(0), &evenly_spaced_rows(x.nrows(), ROWS_MAX));
        let window = WINDOW.min(kept.nrows() / 4);
        let mut model = FittedHalfSpaceTrees {
            scaler: FeatureScaler::keep_constant_columns(x),
            trees,
            window,
            seen: 0,
        };
        kept.rows().into_iter().for_each(|row| model.learn_row(row));
        Ok(FittedDetector::HalfSpaces(model))
    }
}

impl HalfSpaceTree {
    fn at_random(inputs: usize, rng: &mut Pcg64) -> Self {
        // The work range is centred on a random position and reaches twice as far as the further
        // end.
        let work: Vec<(f64, f64)> = (0..inputs)
            .map(|_| {
                let place = rng.random_range(-RANGE..RANGE);
                let reach = 2.0 * (place + RANGE).max(RANGE - place);
                (place - reach, place + reach)
            })
            .collect();
        let (inner, all) = ((1 << DEPTH) - 1, (1 << (DEPTH + 1)) - 1);
        let mut tree =
            Self { cuts: vec![(0, 0.0); inner], reference: vec![0; all], latest: vec![0; all] };
        tree.cut_node(0, work, rng);
        tree
    }

    fn cut_node(&mut self, node: usize, mut work: Vec<(f64, f64)>, rng: &mut Pcg64) {
        if node >= self.cuts.len() {
            return;
        }
        let input = rng.random_range(0..work.len());
        let (low, high) = work[input];
        let middle = f64::midpoint(low, high);
        self.cuts[node] = (input, middle);
        let mut below = work.clone();
        below[input] = (low, middle);
        work[input] = (middle, high);
        self.cut_node(2 * node + 1, below, rng);
        self.cut_node(2 * node + 2, work, rng);
    }

    /// Child that holds a row. `None` at a leaf.
    fn child_holding(&self, node: usize, row: ArrayView1<f64>) -> Option<usize> {
        let (input, at) = self.cuts.get(node)?;
        Some(if row[*input] < *at { 2 * node + 1 } else { 2 * node + 2 })
    }

    /// Number of rows that the whole range would hold if all of it were as dense.
    fn relative_mass(&self, row: ArrayView1<f64>, least: f64) -> f64 {
        let (mut node, mut depth) = (0, 0);
        while let Some(child) = self.child_holding(node, row) {
            if f64::from(self.reference[node]) <= least {
                break;
            }
            (node, depth) = (child, depth + 1);
        }
        f64::from(self.reference[node]) * 2_f64.powi(depth)
    }
}

impl FittedHalfSpaceTrees {
    fn scale_and_clamp(&self, x: ArrayView2<f64>) -> ndarray::Array2<f64> {
        self.scaler.scale_rows(x).mapv_into(|value| value.clamp(-RANGE, RANGE))
    }

    pub(super) fn learn_row(&mut self, row: ArrayView1<f64>) {
        let scaled = self.scale_and_clamp(row.insert_axis(Axis(0)));
        for tree in &mut self.trees {
            let mut node = Some(0);
            while let Some(passed) = node {
                tree.latest[passed] += 1;
                node = tree.child_holding(passed, scaled.row(0));
            }
        }
        self.seen += 1;
        if self.seen == self.window {
            for tree in &mut self.trees {
                std::mem::swap(&mut tree.reference, &mut tree.latest);
                tree.latest.fill(0);
            }
            self.seen = 0;
        }
    }

    /// log₂ of the largest possible mass over the mean mass of the trees.
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let least = SHARE_MIN * self.window as f64;
        let most = self.window as f64 * 2_f64.powi(DEPTH as i32);
        let score = |row: ArrayView1<f64>| {
            let sum: f64 = self.trees.iter().map(|tree| tree.relative_mass(row, least)).sum();
            ((1.0 + most) / (1.0 + sum / TREES as f64)).log2()
        };
        self.scale_and_clamp(x).rows().into_iter().map(score).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn follows_what_has_become_usual() {
        let mut rng = Pcg64::seed_from_u64(3);
        let usual = Array2::from_shape_simple_fn((2000, 2), || rng.random_range(-1.0..1.0));
        let mut fitted = HalfSpaceTrees.fit(usual.view(), 1).unwrap();
        let test_rows = ndarray::array![[0.0, 0.0], [2.2, 2.2]];
        let before = fitted.score_rows(test_rows.view());
        assert!(before[1] > before[0], "{before}");
        for _ in 0..1000 {
            let row = Array1::from_shape_simple_fn(2, || 2.2 + rng.random_range(-0.2..0.2));
            assert!(fitted.learn_row(row.view()));
        }
        let after = fitted.score_rows(test_rows.view());
        assert!(after[1] < after[0], "{after}");
    }
}
