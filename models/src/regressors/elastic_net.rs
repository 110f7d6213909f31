//! Least squares that omits inputs.

use linfa::{DatasetBase, traits::Fit};

use crate::{
    Dataset, Estimator, FitError, FittedRegressor, MissingPolicy,
    gram::LinearWeights,
    regressors::linear::LinearModel,
    scaling::{FeatureScaler, standardise_targets},
};

/// Least squares with a penalty on |w| and w²: H. Zou, T. Hastie, "Regularization and variable
/// selection via the elastic net", JRSS B 67(2), 2005. Fitted by linfa, with a penalty of 0.002 in
/// spreads of the target, half of it on |w|. Fits at most 20,000 rows.
#[derive(Clone, Copy, Debug)]
pub struct ElasticNet;

impl Estimator for ElasticNet {
    fn name(&self) -> &'static str {
        "elastic net"
    }

    fn rows_max(&self) -> usize {
        20_000
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::MedianAndFlag
    }

    fn fit(&self, data: &Dataset, _: u64) -> Result<FittedRegressor, FitError> {
        let scaler = FeatureScaler::fit_with_flags(data.x.view());
        // The penalty is relative to the targets, so they are standardised too.
        let (y, mean, spread) = standardise_targets(&data.y);
        let targets = DatasetBase::new(scaler.scale_rows(data.x.view()), y);
        let params = linfa_elasticnet::ElasticNet::params().penalty(0.002).l1_ratio(0.5);
        let model =
            params.max_iterations(300).tolerance(1e-3).fit(&targets).map_err(|error| {
                FitError::Library { model: "elastic net", what: error.to_string() }
            })?;
        let weights = model.hyperplane() * spread;
        let intercept = model.intercept() * spread + mean;
        Ok(LinearModel::from_weights(scaler, LinearWeights { weights, intercept }))
    }
}
