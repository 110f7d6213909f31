//! A classifier used as a regressor.

use std::sync::Arc;

use super::{Classifier, LabelledDataset};
use crate::{Dataset, Estimator, FitError, FittedRegressor, MissingPolicy};

/// Learns targets that are class indices as classes, and predicts the mean class index. With two
/// classes this is the probability of the second. With more classes, ordered by their indices, the
/// nearest whole number is the median class wherever two neighbours share the probability.
pub struct OrdinalRegressor {
    /// Classifier that is used.
    pub classifier: Box<dyn Classifier>,
    /// Names of the classes, from index 0 on.
    pub classes: Arc<[String]>,
}

impl Estimator for OrdinalRegressor {
    fn name(&self) -> &'static str {
        self.classifier.name()
    }

    fn rows_max(&self) -> usize {
        self.classifier.rows_max()
    }

    fn missing_policy(&self) -> MissingPolicy {
        self.classifier.missing_policy()
    }

    /// # Errors
    /// [`FitError::ShapeMismatch`] where a target is not a class index, and the errors of the
    /// classifier.
    fn fit(&self, data: &Dataset, seed: u64) -> Result<FittedRegressor, FitError> {
        let number = |(row, target): (usize, &f64)| {
            let class = target.round();
            if class == *target && (0.0..self.classes.len() as f64).contains(&class) {
                return Ok(class as usize);
            }
            Err(FitError::ShapeMismatch {
                found: format!("{target} in row {row}"),
                expected: format!("a class number below {}", self.classes.len()),
            })
        };
        let y = data.y.iter().enumerate().map(number).collect::<Result<Vec<usize>, _>>()?;
        let (schema, x) = (Arc::clone(&data.schema), data.x.clone());
        let labelled = LabelledDataset::new(schema, x, y, self.classes.to_vec())?;
        Ok(FittedRegressor::Classes(Box::new(self.classifier.fit(&labelled, seed)?)))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2};

    use super::*;
    use crate::{FeatureSchema, classify};

    fn data(target: impl Fn(f64) -> f64) -> Dataset {
        let x = Array2::from_shape_fn((300, 1), |(row, _)| (row % 30) as f64);
        let y: Array1<f64> = x.column(0).mapv(target);
        let schema = FeatureSchema { features: vec!["a".to_owned()] };
        Dataset::new(Arc::new(schema), x, y).unwrap()
    }

    fn numbered(classes: &[&str]) -> OrdinalRegressor {
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        OrdinalRegressor { classifier: classify::by_name("gradient boosting").unwrap(), classes }
    }

    #[test]
    fn two_classes_are_a_probability_and_three_a_mean_number() {
        let test_rows = ndarray::array![[2.0], [15.0], [27.0]];
        let two = data(|a| f64::from(u8::from(a >= 15.0)));
        let probabilities =
            numbered(&["no", "yes"]).fit(&two, 1).unwrap().predict(test_rows.view());
        assert!(probabilities[0] < 0.1 && probabilities[2] > 0.9, "{probabilities}");
        let three = data(|a| (a / 10.0).floor());
        let fitted = numbered(&["heat", "hold", "cool"]).fit(&three, 1).unwrap();
        let predicted = fitted.predict(test_rows.view()).mapv(f64::round);
        assert_eq!(predicted, ndarray::array![0.0, 1.0, 2.0]);
    }

    #[test]
    fn what_is_no_class_number_is_refused() {
        let error = numbered(&["no", "yes"]).fit(&data(|a| a / 10.0), 1).unwrap_err();
        assert_eq!(error.to_string(), "found 0.1 in row 1, expected a class number below 2");
    }
}
