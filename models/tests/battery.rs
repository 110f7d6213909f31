//! Every regressor must pass all of this.

use std::sync::Arc;

use models::{
    Artifact, Dataset, FitError, Fitted, Predictor, Registry, RegistryError, Schema,
    artifact::Golden, fit, metrics, zoo,
};
use ndarray::{Array1, Array2, Axis};
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

/// y = 3a − 2b + noise; c says nothing.
fn data(rows: usize) -> Dataset {
    let mut rng = rand_pcg::Pcg64::seed_from_u64(3);
    let x = Array2::from_shape_fn((rows, 3), |_| rng.random_range(-1.0..1.0));
    let y = x.rows().into_iter().map(|r| 3.0 * r[0] - 2.0 * r[1] + rng.random_range(-0.05..0.05));
    let schema = Schema { features: ["a", "b", "c"].map(str::to_owned).to_vec() };
    let y = y.collect();
    Dataset::new(Arc::new(schema), x, y).unwrap()
}

fn each(check: impl Fn(&str, &dyn models::Estimator)) {
    let all = zoo::regressors();
    assert!(all.len() >= 8);
    all.iter().for_each(|estimator| check(estimator.name(), estimator.as_ref()));
}

#[test]
fn learns_more_than_the_mean_and_leaves_its_input_alone() {
    let (train, test) = (data(2000), data(2300).select(&(2000..2300).collect::<Vec<_>>()));
    let before = train.x.clone();
    let mean = Array1::from_elem(test.rows(), train.y.mean().unwrap());
    let worst = metrics::rmse(mean.view(), test.y.view());
    each(|name, estimator| {
        let (fitted, rows) = fit(estimator, &train, 1).unwrap();
        assert!(rows > 0 && rows <= train.rows());
        let rmse = metrics::rmse(fitted.predict(test.x.view()).view(), test.y.view());
        assert!(rmse < 0.5 * worst, "{name}: {rmse} against {worst} of the mean");
        assert_eq!(train.x, before, "{name}");
    });
}

#[test]
fn the_same_seed_gives_the_same_model_written_read_and_row_by_row() {
    let (train, test) = (data(600), data(40));
    each(|name, estimator| {
        let fitted = fit(estimator, &train, 5).unwrap().0;
        let said = fitted.predict(test.x.view());
        assert_eq!(fit(estimator, &train, 5).unwrap().0.predict(test.x.view()), said, "{name}");
        let json = serde_json::to_string(&fitted).unwrap();
        let read: Fitted = serde_json::from_str(&json).unwrap();
        assert_eq!(read.predict(test.x.view()), said, "{name}: written and read");
        for row in 0..test.rows() {
            let one = fitted.predict(test.x.select(Axis(0), &[row]).view())[0];
            assert!((one - said[row]).abs() < 1e-9, "{name}: row {row} alone");
        }
    });
}

#[test]
fn missing_values_and_constant_columns_are_no_obstacle() {
    let mut train = data(600);
    train.x.column_mut(2).fill(7.0);
    for row in (0..600).step_by(7) {
        train.x[(row, 1)] = f64::NAN;
    }
    let mut asked = train.x.clone();
    asked.row_mut(0).fill(f64::NAN);
    each(|name, estimator| {
        let said = fit(estimator, &train, 1).unwrap().0.predict(asked.view());
        assert!(said.iter().all(|value| value.is_finite()), "{name}");
    });
}

#[test]
fn a_constant_truth_is_learnt_exactly() {
    let mut train = data(300);
    train.y.fill(4.25);
    each(|name, estimator| {
        let said = fit(estimator, &train, 1).unwrap().0.predict(train.x.view());
        assert!(said.iter().all(|value| (value - 4.25).abs() < 1e-3), "{name}: {}", said[0]);
    });
}

#[test]
fn what_cannot_be_learnt_from_is_refused() {
    each(|name, estimator| {
        let few = fit(estimator, &data(10), 1);
        assert!(matches!(few, Err(FitError::FewRows { rows: 10 })), "{name}");
    });
    let Dataset { schema, x, mut y } = data(50);
    y[3] = f64::NAN;
    let refused = Dataset::new(schema.clone(), x.clone(), y.clone()).unwrap_err();
    assert!(refused.to_string().contains("row 3"), "{refused}");
    let refused = Dataset::new(schema, x, y.iter().take(49).copied().collect()).unwrap_err();
    assert!(matches!(refused, FitError::Shape { .. }));
}

#[test]
fn ridge_is_least_squares_where_there_is_much_to_learn_from() {
    let train = data(20_000);
    let fitted = fit(zoo::by_name("ridge").unwrap().as_ref(), &train, 1).unwrap().0;
    let asked = ndarray::array![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for (said, truth) in fitted.predict(asked.view()).iter().zip([3.0, -2.0, 0.0]) {
        assert!((said - truth).abs() < 5e-3, "{said} is not {truth}");
    }
}

fn artifact(name: &str) -> Artifact {
    let train = data(400);
    let (fitted, rows) = fit(zoo::by_name(name).unwrap().as_ref(), &train, 1).unwrap();
    let predictor = Predictor::Regressor(fitted);
    Artifact {
        task: "test".to_owned(),
        model: name.to_owned(),
        schema: train.schema.as_ref().clone(),
        unit: "°C".to_owned(),
        trained_ms: (0, 1),
        rows,
        seed: 1,
        metrics: [("rmse".to_owned(), 0.1)].into(),
        code_version: "0".to_owned(),
        serving: serde_json::Value::Null,
        golden: Golden::of(&predictor, train.x.view()),
        predictor,
    }
}

#[test]
fn the_registry_keeps_promotes_and_goes_back() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new(dir.path());
    assert_eq!(registry.champion("test").unwrap(), None);
    assert_eq!(registry.keep(&artifact("ridge")).unwrap(), 1);
    assert_eq!(registry.keep(&artifact("gradient boosting")).unwrap(), 2);
    registry.promote("test", 1).unwrap();
    registry.promote("test", 2).unwrap();
    assert_eq!(registry.champion("test").unwrap().unwrap().version, 2);
    assert_eq!(registry.load("test", 2).unwrap().model, "gradient boosting");
    assert_eq!(registry.rollback("test").unwrap(), 1);
    assert!(matches!(registry.rollback("test"), Err(RegistryError::NoHistory { .. })));
    assert!(registry.load("test", 9).unwrap_err().to_string().contains("only 1, 2"));
}

#[test]
fn a_damaged_artifact_is_refused_and_the_champion_stays() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new(dir.path());
    registry.keep(&artifact("ridge")).unwrap();
    registry.promote("test", 1).unwrap();
    registry.keep(&artifact("ridge")).unwrap();
    let path = dir.path().join("test/2/model");
    let whole = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8], expect: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = registry.promote("test", 2).unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains("the champion stays"), "{error}");
        assert_eq!(registry.champion("test").unwrap().unwrap().version, 1);
    };
    check(&whole[..whole.len() / 2], "checksum");
    check(b"", "does not begin");
    check(b"microclimate-model 9 abc\n{}", "format 9");
    let mut lies = artifact("ridge");
    lies.golden = artifact("decision tree").golden;
    check(&lies.to_bytes().unwrap(), "golden row");
}
