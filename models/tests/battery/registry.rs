//! Artifacts and their registry.

use std::sync::LazyLock;

use microclimate_models::{
    Dataset, FitError, ModelArtifact, ModelCard, ModelProvenance, ModelRegistry, Predictor,
    RegistryError,
    artifact::GoldenRows,
    fit_regressor,
    registry::{ChampionTrial, DecisionAuthor, DecisionKind, GateVerdict, PromotionGate},
    regressors,
};
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::subject::Rows;

pub(super) const BY: DecisionAuthor = DecisionAuthor { who: "test", why: "a test" };

#[test]
fn what_does_not_fit_is_no_data_set() {
    let rows = Rows::of(50, 3);
    let mut y = rows.y.clone();
    y[3] = f64::NAN;
    let refused = Dataset::new(rows.schema(), rows.x.clone(), y.clone()).unwrap_err();
    assert!(refused.to_string().contains("row 3"), "{refused}");
    let few = y.iter().take(49).copied().collect();
    let refused = Dataset::new(rows.schema(), rows.x.clone(), few).unwrap_err();
    assert!(matches!(refused, FitError::ShapeMismatch { .. }));
    let refused = rows.dataset(rows.y.clone()).with_censored(vec![true; 49]).unwrap_err();
    assert!(refused.to_string().contains("49 flags"), "{refused}");
}

pub(super) fn artifact(name: &str) -> ModelArtifact {
    let rows = Rows::of(400, 3);
    let train = rows.dataset(rows.y.clone());
    let (fitted, rows) =
        fit_regressor(regressors::by_name(name).unwrap().as_ref(), &train, 1).unwrap();
    let predictor = Predictor::Regressor(fitted);
    let card = ModelCard {
        task: "test".to_owned(),
        model: name.to_owned(),
        schema: train.schema.as_ref().clone(),
        unit: "°C".to_owned(),
        trained_ms: (0, 1),
        rows,
        seed: 1,
        metrics: [("rmse".to_owned(), 0.1)].into(),
        code_version: "0".to_owned(),
        facts: ModelProvenance::from_rows(train.x.view(), Some(train.y.view())),
        serving: serde_json::Value::Null,
    };
    ModelArtifact {
        card,
        golden: GoldenRows::from_predictor(&predictor, train.x.view()),
        predictor,
    }
}

/// Verdict of the gate on a version that loses `share` of what its rival does.
fn verdict(against: Option<u64>, share: f64) -> GateVerdict {
    let rival: Vec<f64> = (0..100).map(|i| 1.0 + 0.1 * f64::from(i % 7)).collect();
    let trial = ChampionTrial {
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
    PromotionGate { p_max: 0.05, latency_p99_us_max: 1000.0, size_bytes_max: 1000 }
        .judge_trial(&trial)
}

#[test]
fn the_registry_keeps_promotes_and_goes_back() {
    let dir = TempDir::new().unwrap();
    let registry = ModelRegistry::new(dir.path());
    assert_eq!(registry.champion_version("test").unwrap(), None);
    assert_eq!(registry.add_version(&artifact("ridge"), BY).unwrap(), 1);
    assert_eq!(registry.add_version(&artifact("gradient boosting"), BY).unwrap(), 2);
    let first = registry.propose_version("test", 1, &verdict(None, 1.0), "test").unwrap();
    assert_eq!(first.what, DecisionKind::Promoted, "{first:?}");
    let second = registry.propose_version("test", 2, &verdict(Some(1), 0.5), "test").unwrap();
    assert_eq!(second.what, DecisionKind::Promoted, "{second:?}");
    assert_eq!(registry.champion_version("test").unwrap(), Some(2));
    assert_eq!(registry.load_artifact("test", 2).unwrap().card.model, "gradient boosting");
    assert_eq!(registry.load_card("test", 1).unwrap().0.model, "ridge");
    assert_eq!(registry.rollback_champion("test", BY).unwrap(), 1);
    assert!(matches!(registry.rollback_champion("test", BY), Err(RegistryError::NoHistory { .. })));
    assert!(registry.load_artifact("test", 9).unwrap_err().to_string().contains("only 1, 2"));
    assert_eq!(registry.list_tasks().unwrap(), ["test"]);
    let log = registry.recent_decisions("test", 100).unwrap();
    let what: Vec<DecisionKind> = log.iter().rev().map(|entry| entry.what).collect();
    let expect = [
        DecisionKind::Kept,
        DecisionKind::Kept,
        DecisionKind::Promoted,
        DecisionKind::Promoted,
        DecisionKind::RolledBack,
    ];
    assert_eq!(what, expect);
    for bad in ["", "../up", "a/b", "A", "é"] {
        assert!(matches!(registry.champion_version(bad), Err(RegistryError::BadTask(_))), "{bad}");
    }
}

#[test]
fn the_gate_holds_what_is_not_better() {
    let dir = TempDir::new().unwrap();
    let registry = ModelRegistry::new(dir.path());
    for name in ["ridge", "ridge", "elastic net"] {
        registry.add_version(&artifact(name), BY).unwrap();
    }
    registry.propose_version("test", 1, &verdict(None, 1.0), "test").unwrap();
    // A little worse, by more than rounding.
    let held = registry.propose_version("test", 2, &verdict(Some(1), 1.01), "test").unwrap();
    assert_eq!(held.what, DecisionKind::Held);
    assert_eq!(held.aliases.challenger.unwrap().version, 2);
    assert_eq!(registry.champion_version("test").unwrap(), Some(1));
    // It would have passed against a champion that is none.
    let late = registry.propose_version("test", 3, &verdict(Some(7), 0.5), "test").unwrap();
    assert_eq!(
        (late.what, registry.champion_version("test").unwrap()),
        (DecisionKind::Held, Some(1))
    );
    assert!(late.why.contains("changed"), "{}", late.why);

    let refused =
        |version| registry.promote_version("test", version, BY, false).unwrap_err().to_string();
    assert!(refused(2).contains("not below") && refused(2).contains("--force"), "{}", refused(2));
    assert!(refused(3).contains("never compared with the present champion"), "{}", refused(3));
    let forced = registry.promote_version("test", 2, BY, true).unwrap();
    assert_eq!(forced.what, DecisionKind::Forced);
    assert!(!forced.evidence.unwrap().passed, "the record says that the gate had refused");
    assert_eq!(registry.champion_version("test").unwrap(), Some(2));
}

#[test]
fn old_versions_go_and_their_numbers_do_not_come_back() {
    let dir = TempDir::new().unwrap();
    let registry = ModelRegistry::new(dir.path());
    for version in 1..=5 {
        assert_eq!(registry.add_version(&artifact("ridge"), BY).unwrap(), version);
    }
    for version in 1..=3 {
        registry.promote_version("test", version, BY, true).unwrap();
    }
    assert_eq!(registry.surplus_versions("test", 1).unwrap(), [1, 4]);
    assert_eq!(registry.surplus_versions("test", 9).unwrap(), [0; 0]);
    registry.remove_versions("test", &[1, 3, 4, 5], BY).unwrap();
    assert_eq!(registry.list_versions("test").unwrap(), [2, 3], "the champion stays");
    assert_eq!(registry.add_version(&artifact("ridge"), BY).unwrap(), 6);
    assert_eq!(registry.rollback_champion("test", BY).unwrap(), 2);
    assert!(matches!(registry.rollback_champion("test", BY), Err(RegistryError::NoHistory { .. })));
}

#[test]
fn a_damaged_artifact_is_refused_and_the_champion_stays() {
    let dir = TempDir::new().unwrap();
    let registry = ModelRegistry::new(dir.path());
    registry.add_version(&artifact("ridge"), BY).unwrap();
    registry.promote_version("test", 1, BY, true).unwrap();
    registry.add_version(&artifact("ridge"), BY).unwrap();
    let path = dir.path().join("test/2.model");
    let whole = std::fs::read(&path).unwrap();
    let check = |bytes: &[u8], expect: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = registry.promote_version("test", 2, BY, true).unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains("the champion stays"), "{error}");
        assert!(error.contains("2.model"), "{error}");
        assert_eq!(registry.champion_version("test").unwrap(), Some(1));
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
    let registry = ModelRegistry::new(dir.path());
    registry.add_version(&artifact("ridge"), BY).unwrap();
    registry.promote_version("test", 1, BY, true).unwrap();
    std::fs::write(dir.path().join("test/1.model"), artifact("elastic net").to_bytes().unwrap())
        .unwrap();
    let refused = registry.load_artifact("test", 1).unwrap_err().to_string();
    assert!(refused.contains("another model than the one that was chosen"), "{refused}");
}

#[test]
fn a_damaged_champion_holds_nobody_back() {
    let dir = TempDir::new().unwrap();
    let registry = ModelRegistry::new(dir.path());
    for version in 1..=3 {
        registry.add_version(&artifact("ridge"), BY).unwrap();
        registry.promote_version("test", version.min(2), BY, true).unwrap();
    }
    // It was compared with the one that is served meanwhile.
    let verdict = verdict(Some(1), 0.5);
    let held = registry.propose_version("test", 3, &verdict, "test").unwrap();
    assert_eq!(held.what, DecisionKind::Held, "version 2 is whole");
    std::fs::write(dir.path().join("test/2.model"), b"").unwrap();
    let promoted = registry.propose_version("test", 3, &verdict, "test").unwrap();
    assert_eq!(
        (promoted.what, registry.champion_version("test").unwrap()),
        (DecisionKind::Promoted, Some(3))
    );
}

#[test]
fn inputs_that_are_not_those_of_the_hash_are_refused() {
    let mut json = serde_json::to_value(&artifact("ridge").card.schema).unwrap();
    json["features"][0] = json!("another");
    let refused =
        serde_json::from_value::<microclimate_models::FeatureSchema>(json).unwrap_err().to_string();
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
            assert!(ModelArtifact::from_bytes(&damaged).is_err(), "byte {offset}, bit {bit}");
            assert!(ModelCard::from_bytes(&damaged).is_err(), "byte {offset}, bit {bit}");
        }
    }
    for end in 0..bytes.len() {
        assert!(ModelArtifact::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
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
        prop_assert!(ModelArtifact::from_bytes(&damaged).is_err());
    }
}
