//! Trees, fitted by smartcore.

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};
use smartcore::{
    ensemble::{
        extra_trees_regressor::{ExtraTreesRegressor, ExtraTreesRegressorParameters},
        random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters},
    },
    linalg::basic::matrix::DenseMatrix,
    tree::decision_tree_regressor::{DecisionTreeRegressor, DecisionTreeRegressorParameters},
};

use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy, scaling::FeatureScaler};

type TreeMatrix = DenseMatrix<f64>;
type TreeTargets = Vec<f64>;

/// One tree of at most depth 8, with at least 30 rows per leaf. Fits at most 20,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct DecisionTree;
/// Random forest: L. Breiman, "Random forests", Machine Learning 45(1), 2001. It has 30 trees with
/// a third of the inputs per split and at least 10 rows per leaf. Fits at most 10,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct RandomForest;
/// Extra trees: P. Geurts, D. Ernst, L. Wehenkel, "Extremely randomized trees", Machine Learning
/// 63(1), 2006. Like the forest, with random cuts. Fits at most 10,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct ExtraTrees;

/// Trees fitted by smartcore, with the scaler of their inputs.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedTrees {
    scaler: FeatureScaler,
    model: FittedTreeModel,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FittedTreeModel {
    Tree(DecisionTreeRegressor<f64, f64, TreeMatrix, TreeTargets>),
    Forest(RandomForestRegressor<f64, f64, TreeMatrix, TreeTargets>),
    ExtraTrees(ExtraTreesRegressor<f64, f64, TreeMatrix, TreeTargets>),
}

fn column_major_matrix(x: ArrayView2<f64>) -> Result<TreeMatrix, String> {
    // Column-major, as smartcore's trees read it.
    let values: Vec<f64> = x.columns().into_iter().flatten().copied().collect();
    DenseMatrix::new(x.nrows(), x.ncols(), values, true).map_err(|error| error.to_string())
}

fn fit_trees(
    name: &'static str,
    data: &Dataset,
    fit: impl FnOnce(&TreeMatrix, &TreeTargets) -> Result<FittedTreeModel, smartcore::error::Failed>,
) -> Result<FittedRegressor, FitError> {
    let library = |what: String| FitError::Library { model: name, what };
    let scaler = FeatureScaler::fit_with_flags(data.x.view());
    let x = column_major_matrix(scaler.scale_rows(data.x.view()).view()).map_err(library)?;
    let model = fit(&x, &data.y.to_vec()).map_err(|error| library(error.to_string()))?;
    Ok(FittedRegressor::Trees(FittedTrees { scaler, model }))
}

impl Estimator for DecisionTree {
    fn name(&self) -> &'static str {
        "decision tree"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let mut params =
            DecisionTreeRegressorParameters::default().with_max_depth(8).with_min_samples_leaf(30);
        params.seed = Some(seed);
        fit_trees(self.name(), data, |x, y| {
            DecisionTreeRegressor::fit(x, y, params).map(FittedTreeModel::Tree)
        })
    }
}

impl Estimator for RandomForest {
    fn name(&self) -> &'static str {
        "random forest"
    }

    fn rows_max(&self) -> usize {
        10_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let params = RandomForestRegressorParameters::default()
            .with_n_trees(30)
            .with_m((data.x.ncols() / 3).max(1))
            .with_max_depth(14)
            .with_min_samples_leaf(10)
            .with_seed(seed);
        fit_trees(self.name(), data, |x, y| {
            RandomForestRegressor::fit(x, y, params).map(FittedTreeModel::Forest)
        })
    }
}

impl Estimator for ExtraTrees {
    fn name(&self) -> &'static str {
        "extra trees"
    }

    fn rows_max(&self) -> usize {
        10_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let params = ExtraTreesRegressorParameters::default()
            .with_n_trees(30)
            .with_m((data.x.ncols() / 3).max(1))
            .with_max_depth(14)
            .with_min_samples_leaf(10)
            .with_seed(seed);
        fit_trees(self.name(), data, |x, y| {
            ExtraTreesRegressor::fit(x, y, params).map(FittedTreeModel::ExtraTrees)
        })
    }
}

impl FittedTrees {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let Ok(inputs) = column_major_matrix(self.scaler.scale_rows(x).view()) else {
            return Array1::from_elem(x.nrows(), f64::NAN);
        };
        let predicted = match &self.model {
            FittedTreeModel::Tree(model) => model.predict(&inputs),
            FittedTreeModel::Forest(model) => model.predict(&inputs),
            FittedTreeModel::ExtraTrees(model) => model.predict(&inputs),
        };
        predicted.map_or_else(|_| Array1::from_elem(x.nrows(), f64::NAN), Array1::from_vec)
    }
}
