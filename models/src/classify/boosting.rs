//! Gradient boosted trees for classification.

use hessboost::objective::{Multiclass, Objective, RegLoss};
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{Classifier, FittedClassifier, LabelledDataset};
use crate::{
    FitError, MissingPolicy,
    regressors::{TreeBooster, default_params},
};

/// Histogram gradient boosting of the multinomial likelihood (J. H. Friedman, "Greedy function
/// approximation", Ann. Statist. 29(5), 2001) by hessboost: 200 trees per class (200 in all for two
/// classes), as in the regressor. Missing inputs take a branch of their own. Fits at most 50,000
/// rows.
#[derive(Clone, Copy, Debug)]
pub struct GradientBoostingClassifier;

/// Boosted trees with one output per class; with two classes, only that of the second.
#[derive(Debug, Serialize, Deserialize)]
pub struct BoostedClasses {
    booster: TreeBooster,
    shares: Vec<f64>,
}

impl Classifier for GradientBoostingClassifier {
    fn name(&self) -> &'static str {
        "gradient boosting"
    }

    fn rows_max(&self) -> usize {
        50_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::Branch
    }

    fn fit(&self, data: &LabelledDataset, seed: u64) -> Result<FittedClassifier, FitError> {
        data.require_several_classes()?;
        let known_objective = match data.classes.len() {
            2 => Ok(Objective::BinaryLogistic(RegLoss::default())),
            many => Multiclass::new(many).map(Objective::Softprob),
        };
        let objective = known_objective
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        // The weight is the curvature of the likelihood, which is tiny for a confident row.
        let (params, rounds) = default_params(objective, seed, data.row_count());
        let params = (params.min_child_weight(1.0), rounds);
        let y: Vec<f32> = data.y.iter().map(|class| *class as f32).collect();
        let booster = TreeBooster::fit(self.name(), data.x.view(), params, |m| m.with_labels(&y))?;
        Ok(FittedClassifier::Boosting(BoostedClasses { booster, shares: data.class_shares() }))
    }
}

impl BoostedClasses {
    pub(super) fn predict_probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let outputs = self.booster.predict(x);
        let all = match self.shares.len() {
            2 => ndarray::concatenate![Axis(1), 1.0 - &outputs, outputs],
            _ => outputs,
        };
        super::normalise_rows(all, &self.shares)
    }
}
