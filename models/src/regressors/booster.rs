//! Boosted trees, fitted and encoded by hessboost.

use hessboost::{
    config::{TrainingParams, TrainingParamsBuilder, TreeMethod},
    data::DMatrix,
    error::HessboostError,
    model::{BoostedModel, Iterations, ModelFormat},
    objective::Objective,
    training::train,
};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::FitError;

/// Default number of trees in an ensemble.
const ROUNDS: usize = 200;
/// Smallest average number of rows per bin. With fewer, more bins cost time without better cuts.
const ROWS_A_BIN: usize = 128;

/// Boosted trees with one or more outputs.
#[derive(Debug)]
pub(crate) struct TreeBooster(BoostedModel);

/// Default parameters: 200 histogram trees of depth 6, learning rate 0.05, 8 of 10 rows per tree,
/// 64 to 256 bins per input.
pub(crate) fn default_params(
    objective: Objective,
    seed: u64,
    rows: usize,
) -> (TrainingParamsBuilder, usize) {
    let params = TrainingParams::builder()
        .objective(objective)
        .tree_method(TreeMethod::Hist)
        .max_depth(6)
        .eta(0.05)
        .min_child_weight(20.0)
        .subsample(0.8)
        .max_bin((rows / ROWS_A_BIN).clamp(64, 256))
        .seed(seed);
    (params, ROUNDS)
}

impl TreeBooster {
    /// Fits to `x` (rows × inputs, NaN where missing); `label` adds the targets.
    pub(crate) fn fit(
        model: &'static str,
        x: ArrayView2<f64>,
        (params, rounds): (TrainingParamsBuilder, usize),
        label: impl FnOnce(DMatrix) -> Result<DMatrix, HessboostError>,
    ) -> Result<Self, FitError> {
        let values: Vec<f32> = x.iter().map(|value| to_finite_f32(*value)).collect();
        let fitted = DMatrix::from_dense_vec(values, x.nrows(), x.ncols())
            .and_then(label)
            .and_then(|matrix| train(&params.build()?, &matrix, rounds));
        fitted.map(Self).map_err(|error| FitError::Library { model, what: error.to_string() })
    }

    /// Predictions, rows × outputs.
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let width = self.0.prediction_width();
        let (mut row, mut outputs) = (vec![0.0_f32; x.ncols()], vec![0.0_f32; width]);
        let mut all = Array2::from_elem((x.nrows(), width), f64::NAN);
        for (values, mut to) in x.rows().into_iter().zip(all.rows_mut()) {
            row.iter_mut().zip(values).for_each(|(to, from)| *to = to_finite_f32(*from));
            if self.0.predict_row_into(&row, Iterations::Best, &mut outputs).is_ok() {
                to.iter_mut().zip(&outputs).for_each(|(to, from)| *to = f64::from(*from));
            }
        }
        all
    }
}

/// Converts to 32 bits; values out of range become missing (NaN).
pub(crate) fn to_finite_f32(value: f64) -> f32 {
    let narrow = value as f32;
    if narrow.is_finite() { narrow } else { f32::NAN }
}

impl Serialize for TreeBooster {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.encode(ModelFormat::Binary).map_err(S::Error::custom)?;
        to.serialize_str(&crate::dataset::encode_hex(&bytes))
    }
}

impl<'de> Deserialize<'de> for TreeBooster {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        };
        let decoded: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let bytes = decoded.ok_or_else(|| D::Error::custom("boosted trees are not hexadecimal"))?;
        BoostedModel::decode(bytes, ModelFormat::Binary).map(Self).map_err(D::Error::custom)
    }
}
