//! Artifacts and their registry.

use models::{
    Artifact, Dataset, FitError, Predictor, Registry, RegistryError, artifact::Golden, fit, zoo,
};
use tempfile::TempDir;

use super::subject::Rows;

#[test]
fn what_does_not_fit_is_no_data_set() {
    let rows = Rows::of(50, 3);
    let mut y = rows.y.clone();
    y[3] = f64::NAN;
    let refused = Dataset::new(rows.schema(), rows.x.clone(), y.clone()).unwrap_err();
    assert!(refused.to_string().contains("row 3"), "{refused}");
    let few = y.iter().take(49).copied().collect();
    let refused = Dataset::new(rows.schema(), rows.x.clone(), few).unwrap_err();
    assert!(matches!(refused, FitError::Shape { .. }));
    let refused = rows.dataset(rows.y.clone()).with_censored(vec![true; 49]).unwrap_err();
    assert!(refused.to_string().contains("49 flags"), "{refused}");
}

fn artifact(name: &str) -> Artifact {
    let rows = Rows::of(400, 3);
    let train = rows.dataset(rows.y.clone());
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
