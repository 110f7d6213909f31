//! Gradient boosted trees.

use hessboost::{
    config::{TrainingParams, TreeMethod},
    data::DMatrix,
    model::{BoostedModel, Iterations, ModelFormat},
    objective::{Objective, RegLoss},
    training::train,
};
use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::{Dataset, Estimator, FitError, Fitted};

/// Histogram gradient boosting (T. Chen, C. Guestrin, "XGBoost", KDD 2016) by
/// hessboost: 200 trees of depth 6, learning rate 0.05, at least 20 rows a
/// leaf, 8 of 10 rows a tree. Missing inputs take a branch of their own.
#[derive(Clone, Copy, Debug)]
pub struct GradientBoosting;

const ROUNDS: usize = 200;

/// Boosted trees.
#[derive(Debug)]
pub struct Boosting(BoostedModel);

impl Estimator for GradientBoosting {
    fn name(&self) -> &'static str {
        "gradient boosting"
    }

    fn fit(&self, data: &Dataset, seed: u64) -> Result<Fitted, FitError> {
        let library = |error: hessboost::error::HessboostError| FitError::Library {
            model: "gradient boosting",
            what: error.to_string(),
        };
        let x: Vec<f32> = data.x.iter().map(|value| *value as f32).collect();
        let y: Vec<f32> = data.y.iter().map(|value| *value as f32).collect();
        let matrix = DMatrix::from_dense(&x, data.x.nrows(), data.x.ncols())
            .and_then(|matrix| matrix.with_labels(&y))
            .map_err(library)?;
        let params = TrainingParams::builder()
            .objective(Objective::SquaredError(RegLoss::default()))
            .tree_method(TreeMethod::Hist)
            .max_depth(6)
            .eta(0.05)
            .min_child_weight(20.0)
            .subsample(0.8)
            .seed(seed)
            .build()
            .map_err(library)?;
        Ok(Fitted::Boosting(Boosting(train(&params, &matrix, ROUNDS).map_err(library)?)))
    }
}

impl Boosting {
    pub(crate) fn predict(&self, x: ArrayView2<f64>) -> Array1<f64> {
        let mut row = vec![0.0; x.ncols()];
        let predict = |values: ndarray::ArrayView1<f64>| {
            row.iter_mut().zip(values).for_each(|(to, from)| *to = *from as f32);
            self.0.predict_row(&row, Iterations::Best).map_or(f64::NAN, f64::from)
        };
        x.rows().into_iter().map(predict).collect()
    }
}

impl Serialize for Boosting {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.encode(ModelFormat::Binary).map_err(S::Error::custom)?;
        to.serialize_str(&crate::dataset::hex(&bytes))
    }
}

impl<'de> Deserialize<'de> for Boosting {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.ok_or_else(|| D::Error::custom("boosted trees are not hexadecimal"))?;
        BoostedModel::decode(bytes, ModelFormat::Binary).map(Self).map_err(D::Error::custom)
    }
}
