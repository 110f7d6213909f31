use ndarray::{Array1, ArrayView1, ArrayView2};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::{AnomalyDetector, FittedDetector, require_rows};
use crate::{FitError, scaling::FeatureScaler};

/// Isolation forest, which measures how few random cuts separate a row from the others: F. T. Liu,
/// K. M. Ting, Z.-H. Zhou, "Isolation forest", ICDM 2008. It has 100 trees of 256 rows each, as in
/// the paper. (The crate `extended-isolation-forest` cannot be seeded.)
#[derive(Clone, Copy, Debug)]
pub struct IsolationForest;

const TREES: usize = 100;
const ROWS: usize = 256;

/// Fitted trees.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedIsolationForest {
    scaler: FeatureScaler,
    trees: Vec<Vec<IsolationNode>>,
    /// Average depth of a tree with this number of rows.
    usual_depth: f64,
}

/// Node of a tree. The child below the cut is the next node; `above` is the index of the other
/// child.
#[derive(Debug, Serialize, Deserialize)]
enum IsolationNode {
    Cut {
        feature: usize,
        at: f64,
        above: usize,
    },
    /// Depth of the leaf, plus the depth that its remaining rows would add.
    Leaf {
        depth: f64,
    },
}

impl AnomalyDetector for IsolationForest {
    fn name(&self) -> &'static str {
        "isolation forest"
    }

    fn fit(&self, x: ArrayView2<f64>, seed: u64) -> Result<FittedDetector, FitError> {
        require_rows(x)?;
        let scaler = FeatureScaler::keep_constant_columns(x);
        let filled = scaler.fill_missing(x);
        let rows = ROWS.min(x.nrows());
        let depth_max = (rows as f64).log2().ceil();
        let mut all: Vec<usize> = (0..x.nrows()).collect();
        let mut rng = Pcg64::seed_from_u64(seed);
        let grow = |_| {
            let (some, _) = all.partial_shuffle(&mut rng, rows);
            let mut nodes = Vec::new();
            grow_tree(filled.view(), some, 0.0, depth_max, &mut rng, &mut nodes);
            nodes
        };
        let trees = (0..TREES).map(grow).collect();
        let usual_depth = average_depth(rows);
        Ok(FittedDetector::Forest(FittedIsolationForest { scaler, trees, usual_depth }))
    }
}

fn grow_tree(
    x: ArrayView2<f64>,
    rows: &mut [usize],
    depth: f64,
    depth_max: f64,
    rng: &mut Pcg64,
    nodes: &mut Vec<IsolationNode>,
) {
    let feature = rng.random_range(0..x.ncols());
    let values = rows.iter().map(|row| x[(*row, feature)]);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if rows.len() <= 1 || depth >= depth_max || low >= high {
        nodes.push(IsolationNode::Leaf { depth: depth + average_depth(rows.len()) });
        return;
    }
    let at = rng.random_range(low..high);
    rows.sort_unstable_by_key(|row| x[(*row, feature)] > at);
    let below = rows.partition_point(|row| x[(*row, feature)] <= at);
    let (below, above) = rows.split_at_mut(below);
    let cut_node = nodes.len();
    nodes.push(IsolationNode::Leaf { depth });
    grow_tree(x, below, depth + 1.0, depth_max, rng, nodes);
    nodes[cut_node] = IsolationNode::Cut { feature, at, above: nodes.len() };
    grow_tree(x, above, depth + 1.0, depth_max, rng, nodes);
}

/// c(n), equation 1 of the paper: the mean depth of an unsuccessful search in a binary search tree
/// of n rows.
fn average_depth(rows: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    let n = rows as f64;
    match rows {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => 2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n,
    }
}

impl FittedIsolationForest {
    /// Anomaly score 2^(−E(h)/c): 1 for a row that is separated at once, 0.5 and below for a usual
    /// one.
    pub(super) fn score_rows(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let score = |row: ArrayView1<f64>| {
            let total: f64 = self.trees.iter().map(|tree| isolation_depth(tree, row)).sum();
            2_f64.powf(-total / self.trees.len() as f64 / self.usual_depth)
        };
        self.scaler.fill_missing(x).rows().into_iter().map(score).collect()
    }
}

fn isolation_depth(tree: &[IsolationNode], row: ArrayView1<f64>) -> f64 {
    let mut at_node = 0;
    loop {
        match &tree[at_node] {
            IsolationNode::Leaf { depth } => return *depth,
            IsolationNode::Cut { feature, at, above } => {
                at_node = if row[*feature] <= *at { at_node + 1 } else { *above };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_depth_is_that_of_the_paper() {
        // c(256) ≈ 10.24
        assert!((average_depth(256) - 10.244_770_920).abs() < 1e-6, "{}", average_depth(256));
    }
}
