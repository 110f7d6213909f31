//! Artifacts and their registry.

use std::sync::LazyLock;

use models::{
    Artifact, Card, Dataset, Facts, FitError, Predictor, Registry, RegistryError,
    artifact::Golden,
    fit,
    registry::{By, Gate, Trial, Verdict, What},
    zoo,
};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::subject::Rows;

pub(super) const BY: By = By { who: "test", why: "a test" };

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

pub(super) fn artifact(name: &str) -> Artifact {
    let rows = Rows::of(400, 3);
    let train = rows.dataset(rows.y.clone());
    let (fitted, rows) = fit(zoo::by_name(name).unwrap().as_ref(), &train, 1).unwrap();
    let predictor = Predictor::Regressor(fitted);
    let card = Card {
        task: "test".to_owned(),
        model: name.to_owned(),
        schema: train.schema.as_ref().clone(),
        unit: "°C".to_owned(),
        trained_ms: (0, 1),
        rows,
        seed: 1,
        metrics: [("rmse".to_owned(), 0.1)].into(),
        code_version: "0".to_owned(),
        facts: Facts::of(train.x.view(), Some(train.y.view())),
        serving: serde_json::Value::Null,
    };
    Artifact { card, golden: Golden::of(&predictor, train.x.view()), predictor }
}

/// What the gate says of a version that loses `share` of what its rival does.
fn verdict(against: Option<u64>, share: f64) -> Verdict {
    let rival: Vec<f64> = (0..100).map(|i| 1.0 + 0.1 * f64::from(i % 7)).collect();
    let trial = Trial {
        against,
        rival: "ridge".to_owned(),
        loss_name: "squared error".to_owned(),
        span_ms: (0, 1),
        rows: 100,
        losses: rival
            .iter()
            .enumerate()
            .map(|(i, l)| l * share + 0.01 * ((i % 5) as f64 - 2.0))
            .collect(),
        rival_losses: rival,
        horizon: 1,
        latency_p99_us: 1.0,
        size_bytes: 1,
    };
    Gate { p_max: 0.05, latency_p99_us_max: 1000.0, size_bytes_max: 1000 }.judge(&trial)
}

#[test]
fn the_registry_keeps_promotes_and_goes_back() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new(dir.path());
    assert_eq!(registry.champion("test").unwrap(), None);
    assert_eq!(registry.keep(&artifact("ridge"), BY).unwrap(), 1);
    assert_eq!(registry.keep(&artifact("gradient boosting"), BY).unwrap(), 2);
    let first = registry.propose("test", 1, &verdict(None, 1.0), "test").unwrap();
    assert_eq!(first.what, What::Promoted, "{first:?}");
    let second = registry.propose("test", 2, &verdict(Some(1), 0.5), "test").unwrap();
    assert_eq!(second.what, What::Promoted, "{second:?}");
    assert_eq!(registry.champion("test").unwrap(), Some(2));
    assert_eq!(registry.load("test", 2).unwrap().card.model, "gradient boosting");
    assert_eq!(registry.card("test", 1).unwrap().0.model, "ridge");
    assert_eq!(registry.rollback("test", BY).unwrap(), 1);
    assert!(matches!(registry.rollback("test", BY), Err(RegistryError::NoHistory { .. })));
    assert!(registry.load("test", 9).unwrap_err().to_string().contains("only 1, 2"));
    assert_eq!(registry.tasks().unwrap(), ["test"]);
    let log = registry.log("test", 100).unwrap();
    let what: Vec<What> = log.iter().rev().map(|entry| entry.what).collect();
    let expect = [What::Kept, What::Kept, What::Promoted, What::Promoted, What::RolledBack];
    assert_eq!(what, expect);
    for bad in ["", "../up", "a/b", "A", "é"] {
        assert!(matches!(registry.champion(bad), Err(RegistryError::BadTask(_))), "{bad}");
    }
}

#[test]
fn the_gate_holds_what_is_not_better() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new(dir.path());
    for name in ["ridge", "ridge", "elastic net"] {
        registry.keep(&artifact(name), BY).unwrap();
    }
    registry.propose("test", 1, &verdict(None, 1.0), "test").unwrap();
    // A little worse, by more than rounding.
    let held = registry.propose("test", 2, &verdict(Some(1), 1.01), "test").unwrap();
    assert_eq!(held.what, What::Held);
    assert_eq!(held.aliases.challenger.unwrap().version, 2);
    assert_eq!(registry.champion("test").unwrap(), Some(1));
    // It would have passed against a champion that is none.
    let late = registry.propose("test", 3, &verdict(Some(7), 0.5), "test").unwrap();
    assert_eq!((late.what, registry.champion("test").unwrap()), (What::Held, Some(1)));
    assert!(late.why.contains("changed"), "{}", late.why);

    let refused = |version| registry.promote("test", version, BY, false).unwrap_err().to_string();
    assert!(refused(2).contains("not below") && refused(2).contains("--force"), "{}", refused(2));
    assert!(refused(3).contains("never compared with the present champion"), "{}", refused(3));
    let forced = registry.promote("test", 2, BY, true).unwrap();
    assert_eq!(forced.what, What::Forced);
    assert!(!forced.evidence.unwrap().passed, "the record says that the gate had refused");
    assert_eq!(registry.champion("test").unwrap(), Some(2));
}

#[test]
fn old_versions_go_and_their_numbers_do_not_come_back() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new(dir.path());
    for version in 1..=5 {
        assert_eq!(registry.keep(&artifact("ridge"), BY).unwrap(), version);
    }
    for version in 1..=3 {
        registry.promote("test", version, BY, true).unwrap();
    }
    assert_eq!(registry.surplus("test", 1).unwrap(), [1, 4]);
    assert_eq!(registry.surplus("test", 9).unwrap(), [0; 0]);
    registry.remove("test", &[1, 3, 4, 5], BY).unwrap();
    assert_eq!(registry.versions("test").unwrap(), [2, 3], "the champion stays");
    assert_eq!(registry.keep(&artifact("ridge"), BY).unwrap(), 6);
    assert_eq!(registry.rollback("test", BY).unwrap(), 2);
    assert!(matches!(registry.rollback("test", BY), Err(RegistryError::NoHistory { .. })));
}

#[test]
fn a_damaged_artifact_is_refused_and_the_champion_stays() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new(dir.path());
    registry.keep(&artifact("ridge"), BY).unwrap();
    registry.promote("test", 1, BY, true).unwrap();
    registry.keep(&artifact("ridge"), BY).unwrap();
    let path = dir.path().join("test/2.model");
    let whole = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8], expect: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = registry.promote("test", 2, BY, true).unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains("the champion stays"), "{error}");
        assert!(error.contains("2.model"), "{error}");
        assert_eq!(registry.champion("test").unwrap(), Some(1));
    };
    check(&whole[..whole.len() / 2], "checksum");
    check(b"", "does not begin");
    check(b"microclimate-model 9 abc\n{}", "format 9");
    let mut lies = artifact("ridge");
    lies.golden = artifact("decision tree").golden;
    check(&lies.to_bytes().unwrap(), "golden row");
    let mut elsewhere = artifact("ridge");
    elsewhere.card.task = "other".to_owned();
    check(&elsewhere.to_bytes().unwrap(), "of the task other");
}

#[test]
fn another_model_in_the_place_of_the_champion_is_refused() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new(dir.path());
    registry.keep(&artifact("ridge"), BY).unwrap();
    registry.promote("test", 1, BY, true).unwrap();
    std::fs::write(dir.path().join("test/1.model"), artifact("elastic net").to_bytes().unwrap())
        .unwrap();
    let refused = registry.load("test", 1).unwrap_err().to_string();
    assert!(refused.contains("another model than the one that was chosen"), "{refused}");
}

#[test]
fn a_damaged_champion_holds_nobody_back() {
    let dir = TempDir::new().unwrap();
    let registry = Registry::new(dir.path());
    for version in 1..=3 {
        registry.keep(&artifact("ridge"), BY).unwrap();
        registry.promote("test", version.min(2), BY, true).unwrap();
    }
    // It was compared with the one that is served meanwhile.
    let verdict = verdict(Some(1), 0.5);
    let held = registry.propose("test", 3, &verdict, "test").unwrap();
    assert_eq!(held.what, What::Held, "version 2 is whole");
    std::fs::write(dir.path().join("test/2.model"), b"").unwrap();
    let promoted = registry.propose("test", 3, &verdict, "test").unwrap();
    assert_eq!((promoted.what, registry.champion("test").unwrap()), (What::Promoted, Some(3)));
}

#[test]
fn inputs_that_are_not_those_of_the_hash_are_refused() {
    let mut json = serde_json::to_value(&artifact("ridge").card.schema).unwrap();
    json["features"][0] = json!("another");
    let refused = serde_json::from_value::<models::Schema>(json).unwrap_err().to_string();
    assert!(refused.contains("schema hash"), "{refused}");
}

/// Every single byte of a small artifact, changed in every one of its bits.
#[test]
fn no_damaged_byte_makes_another_model() {
    let bytes = artifact("ridge").to_bytes().unwrap();
    for offset in 0..bytes.len() {
        let mut damaged = bytes.clone();
        // One bit at each offset; all eight of them where the head is.
        for bit in if offset < 100 { 0..8 } else { offset % 8..offset % 8 + 1 } {
            damaged[offset] = bytes[offset] ^ (1 << bit);
            assert!(Artifact::from_bytes(&damaged).is_err(), "byte {offset}, bit {bit}");
            assert!(Card::from_bytes(&damaged).is_err(), "byte {offset}, bit {bit}");
        }
    }
    for end in 0..bytes.len() {
        assert!(Artifact::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Stretches overwritten, removed or doubled, as broken disks do.
    #[test]
    fn no_damaged_stretch_makes_another_model(
        start in any::<prop::sample::Index>(),
        filler in prop::collection::vec(any::<u8>(), 0..64),
        removed in 0..64_usize,
    ) {
        static BYTES: LazyLock<Vec<u8>> =
            LazyLock::new(|| artifact("ridge").to_bytes().unwrap());
        let bytes = &*BYTES;
        let start = start.index(bytes.len());
        let end = (start + removed).min(bytes.len());
        let damaged = [&bytes[..start], &filler, &bytes[end..]].concat();
        prop_assume!(damaged != *bytes);
        prop_assert!(Artifact::from_bytes(&damaged).is_err());
    }
}
