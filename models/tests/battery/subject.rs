//! Subjects of the battery: all models behind one interface.

use std::{ops::Range, sync::Arc};

use microclimate_models::{
    Dataset, FeatureSchema, FitError, Predictor, classify, classify::LabelledDataset, detect,
    fit_regressor, regressors,
};
use ndarray::{Array1, Array2, Axis};
use rand::{RngExt, SeedableRng};

/// Inputs a, b, c, d … and targets 3a − 2b + noise; the other inputs have no effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    pub(crate) x: Array2<f64>,
    pub(crate) y: Array1<f64>,
}

impl Rows {
    pub(crate) fn of(rows: usize, seed: u64) -> Self {
        Self::wide(rows, 4, seed)
    }

    pub(crate) fn wide(rows: usize, inputs: usize, seed: u64) -> Self {
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let x = Array2::from_shape_simple_fn((rows, inputs), || rng.random_range(-1.0..1.0));
        let noise =
            |r: ndarray::ArrayView1<f64>| 3.0 * r[0] - 2.0 * r[1] + rng.random_range(-0.05..0.05);
        let y = x.rows().into_iter().map(noise).collect();
        Self { x, y }
    }

    pub(crate) fn select(&self, rows: Range<usize>) -> Self {
        let rows: Vec<usize> = rows.collect();
        Self { x: self.x.select(Axis(0), &rows), y: self.y.select(Axis(0), &rows) }
    }

    pub(crate) fn thinned(&self, rows_max: usize) -> Self {
        let thinned = self.dataset(self.y.clone()).subsample_rows(rows_max);
        Self { x: thinned.x, y: thinned.y }
    }

    pub(crate) fn schema(&self) -> Arc<FeatureSchema> {
        let features = (0..self.x.ncols()).map(|number| format!("x{number}")).collect();
        Arc::new(FeatureSchema { features })
    }

    pub(crate) fn dataset(&self, y: Array1<f64>) -> Dataset {
        Dataset::new(self.schema(), self.x.clone(), y).unwrap()
    }

    /// Amounts, which are never below 0.
    pub(crate) fn amounts(&self) -> Dataset {
        self.dataset(self.y.mapv(|y| (0.6 * y).exp()))
    }

    /// Three classes of y: below −1, up to 1, above.
    pub(crate) fn labelled(&self) -> LabelledDataset {
        let class = |y: &f64| usize::from(*y > -1.0) + usize::from(*y > 1.0);
        let names = ["cool", "hold", "heat"].map(str::to_owned).to_vec();
        let y = self.y.iter().map(class).collect();
        LabelledDataset::new(self.schema(), self.x.clone(), y, names).unwrap()
    }
}

/// Kind of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Regressor,
    OfAmounts,
    Classifier,
    Detector,
}

/// Fits rows with a seed and returns the number of rows that were used.
type Fit = Box<dyn Fn(&Rows, u64) -> Result<(Predictor, usize), FitError> + Send + Sync>;

/// Model under test.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) rows_max: usize,
    /// Whether the model is fitted with random numbers.
    pub(crate) draws: bool,
    fit: Fit,
}

impl Subject {
    pub(crate) fn fit(&self, rows: &Rows, seed: u64) -> Result<(Predictor, usize), FitError> {
        (self.fit)(rows, seed)
    }
}

/// Names of models that are fitted without random numbers.
const WITHOUT_CHANCE: [&str; 21] = [
    "ridge",
    "elastic net",
    "partial least squares",
    "recursive least squares",
    "nearest neighbours",
    "support vectors",
    "tweedie",
    "class shares",
    "logistic regression",
    "logistic regression, Platt",
    "robust z-score",
    "empirical tails",
    "conformal tails",
    "mahalanobis",
    "principal components",
    "gaussian mixture",
    "k-means",
    "local outlier factor",
    "one-class support vectors",
    "mean",
    "persistence",
];

fn subject(name: &str, kind: Kind, rows_max: usize, fit: Fit) -> Subject {
    let draws = !WITHOUT_CHANCE.contains(&name);
    Subject { name: format!("{kind:?} {name}"), kind, rows_max, draws, fit }
}

pub(crate) fn subjects() -> Vec<Subject> {
    let mut all = Vec::new();
    for estimator in regressors::all_regressors() {
        let (name, rows_max) = (estimator.name(), estimator.rows_max());
        all.push(subject(
            name,
            Kind::Regressor,
            rows_max,
            Box::new(move |rows, seed| {
                let (fitted, used) =
                    fit_regressor(estimator.as_ref(), &rows.dataset(rows.y.clone()), seed)?;
                Ok((Predictor::Regressor(fitted), used))
            }),
        ));
    }
    for estimator in regressors::amount_regressors() {
        let (name, rows_max) = (estimator.name(), estimator.rows_max());
        all.push(subject(
            name,
            Kind::OfAmounts,
            rows_max,
            Box::new(move |rows, seed| {
                let (fitted, used) = fit_regressor(estimator.as_ref(), &rows.amounts(), seed)?;
                Ok((Predictor::Regressor(fitted), used))
            }),
        ));
    }
    for classifier in classify::all_classifiers() {
        let (name, rows_max) = (classifier.name(), classifier.rows_max());
        all.push(subject(
            name,
            Kind::Classifier,
            rows_max,
            Box::new(move |rows, seed| {
                let (fitted, used) =
                    classify::fit_classifier(classifier.as_ref(), &rows.labelled(), seed)?;
                Ok((Predictor::Classifier(fitted), used))
            }),
        ));
    }
    for detector in detect::all_detectors() {
        let (name, rows_max) = (detector.name(), detector.rows_max());
        all.push(subject(
            name,
            Kind::Detector,
            rows_max,
            Box::new(move |rows, seed| {
                let fitted = detector.fit(rows.x.view(), seed)?;
                Ok((Predictor::Detector(fitted), rows.x.nrows().min(rows_max)))
            }),
        ));
    }
    all
}

pub(crate) fn each(check: impl Fn(&Subject)) {
    subjects().iter().for_each(check);
}
