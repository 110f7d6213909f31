//! Boosted trees for the time until an event, where some rows only show that the event had not
//! happened yet.

use hessboost::objective::{Aft, AftDistribution, Objective};
use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use super::booster::{TreeBooster, default_params, to_finite_f32};
use super::boosting::LEVELS;
use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy, scaling::finite_median};

/// Accelerated failure time boosting: log(t + ε) is normal around the output of the trees. A
/// censored row (see [`Dataset::censored`]) counts with the probability of lasting longer. A.
/// Barnwal, H. Cho, T. Hocking, "Survival regression with accelerated failure time model in
/// XGBoost", J. Comput. Graph. Stat. 31(4), 2022.
///
/// [`FittedRegressor::predict`] returns the median time, [`FittedRegressor::predict_quantiles`] the
/// times at 5, 25, 50, 75 and 95 %. Targets are times, never below 0; ε is a hundredth of their
/// median. The spread of log time is assumed to be half that of the targets, so calibrate intervals
/// with [`quantile_margin`](crate::stats::conformal::quantile_margin).
#[derive(Clone, Copy, Debug)]
pub struct SurvivalBoosting;

/// Quantiles of the normal distribution at [`LEVELS`].
const NORMAL: [f64; 5] = [-1.644_853_627, -0.674_489_750, 0.0, 0.674_489_750, 1.644_853_627];
/// Range of the spread of log time; a narrower one would fit single rows.
const SPREAD: (f64, f64) = (0.3, 2.0);

/// Boosted trees that predict the median time in units of `unit`.
#[derive(Debug, Serialize, Deserialize)]
pub struct FittedSurvival {
    booster: TreeBooster,
    unit: f64,
    shift: f64,
    /// Spread of log time around the output of the trees.
    spread: f64,
}

impl Estimator for SurvivalBoosting {
    fn name(&self) -> &'static str {
        "survival boosting"
    }

    fn missing_policy(&self) -> MissingPolicy {
        MissingPolicy::Branch
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        super::require_not_negative(self.name(), data)?;
        let unit = finite_median(data.y.iter().copied().filter(|time| *time > 0.0)).max(1e-9);
        let shift = unit / 100.0;
        let times = data.y.mapv(|time| (time + shift) / unit);
        // Inputs usually leave half of the whole spread unexplained.
        let spread = (times.mapv(f64::ln).std(0.0) / 2.0).clamp(SPREAD.0, SPREAD.1);
        let lower: Vec<f32> = times.iter().map(|time| to_finite_f32(*time)).collect();
        let censored = data.censored.as_deref();
        let until =
            |row: usize| if censored.is_some_and(|c| c[row]) { f32::INFINITY } else { lower[row] };
        let upper: Vec<f32> = (0..lower.len()).map(until).collect();
        let library = |error: hessboost::error::HessboostError| FitError::Library {
            model: "survival boosting",
            what: error.to_string(),
        };
        let noise = Aft::new(AftDistribution::Normal, spread).map_err(library)?;
        let params = default_params(Objective::Aft(noise), seed, data.row_count());
        let bounds = |matrix: hessboost::data::DMatrix| matrix.with_label_bounds(&lower, &upper);
        let booster = TreeBooster::fit(self.name(), data.x.view(), params, bounds)?;
        Ok(FittedRegressor::Survival(FittedSurvival { booster, unit, shift, spread }))
    }
}

impl FittedSurvival {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        self.booster.predict(x).column(0).mapv(|time| self.unscale_time(time))
    }

    /// Quantiles, rows × [`LEVELS`].
    pub(crate) fn predict_quantiles(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let medians = self.booster.predict(x);
        Array2::from_shape_fn((x.nrows(), LEVELS.len()), |(row, level)| {
            self.unscale_time(medians[(row, 0)] * (self.spread * NORMAL[level]).exp())
        })
    }

    fn unscale_time(&self, scaled: f64) -> f64 {
        (scaled * self.unit - self.shift).max(0.0)
    }
}
