//! Gradient boosted trees for classes.

use hessboost::objective::{Multiclass, Objective, RegLoss};
use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{Classifier, FittedClassifier, LabelledDataset};
use crate::{
    FitError, MissingPolicy,
    regressors::{TreeBooster, default_params},
};

/// Histogram gradient boosting of the multinomial likelihood (J. H. Friedman,
/// "Greedy function approximation", Ann. Statist. 29(5), 2001) by hessboost:
/// 200 trees a class (200 in all for two classes), as in the regressor. Missing inputs take a branch of
/// their own. At most 50,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct GradientBoostingClassifier;

/// Boosted trees, one output a class; with two classes the second's alone.
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
        let objective = match data.classes.len() {
            2 => Ok(Objective::BinaryLogistic(RegLoss::default())),
            many => Multiclass::new(many).map(Objective::Softprob),
        };
        let objective = objective
            .map_err(|error| FitError::Library { model: self.name(), what: error.to_string() })?;
        // Of a likelihood's curvature, of which a sure row has hardly any.
        let (params, rounds) = default_params(objective, seed, data.row_count());
        let params = (params.min_child_weight(1.0), rounds);
        let y: Vec<f32> = data.y.iter().map(|class| *class as f32).collect();
        let booster = TreeBooster::fit(self.name(), data.x.view(), params, |m| m.with_labels(&y))?;
        Ok(FittedClassifier::Boosting(BoostedClasses { booster, shares: data.class_shares() }))
    }
}

impl BoostedClasses {
    pub(super) fn predict_probabilities(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let said = self.booster.predict(x);
        let all = match self.shares.len() {
            2 => ndarray::concatenate![Axis(1), 1.0 - &said, said],
            _ => said,
        };
        super::normalise_rows(all, &self.shares)
    }
}
