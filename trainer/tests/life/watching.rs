//! What follows: the gate, scores, and champions that other processes choose.

use models::{
    Registry,
    registry::{By, Trial, What},
};
use trainer::{Trainer, gate::Outcome};

use super::{
    Life, TASK, open,
    store::{ZONES, temperature},
};

const BY: By = By { who: "test", why: "a test" };

fn registry(life: &Life) -> Registry {
    Registry::new(&life.dir.path().join("models"))
}

fn version(trainer: &Trainer) -> Option<u64> {
    trainer.champion(TASK).map(|champion| champion.version)
}

#[tokio::test]
async fn only_a_significant_gain_passes_the_gate() {
    let life = Life::with("decision tree").await;
    let same = life.train("decision tree").await;
    assert!(!same.promoted && same.why.contains("not below"), "{same:?}");
    assert_eq!((version(&life.trainer), same.champion), (Some(1), Some(1)));
    let better = life.train("ridge").await;
    assert!(better.promoted, "{better:?}");
    assert!(better.evidence.p_value < Some(0.05) && better.evidence.gain() > Some(0.0));
    assert_eq!(version(&life.trainer), Some(3));
    let worse = life.train("decision tree").await;
    assert!(!worse.promoted, "{worse:?}");
    let what: Vec<What> =
        registry(&life).log(TASK, 3).unwrap().iter().map(|entry| entry.what).collect();
    assert_eq!(what, [What::Held, What::Kept, What::Promoted]);
}

#[tokio::test]
async fn predictions_are_scored_once_the_truth_has_come() {
    let life = Life::with("ridge").await;
    let mut expect = Vec::new();
    for _ in 0..5 {
        let known = life.store.state.lock().unwrap().known;
        life.trainer.round(None).await.unwrap();
        for (number, zone) in ZONES.iter().enumerate() {
            let said = life.trainer.predict(TASK, &zone.parse().unwrap()).await.unwrap();
            expect.push((said.value - temperature(number, known as i64 + 10)).abs());
        }
        life.store.set(|state| state.known += 1);
    }
    let score = life.trainer.scores().of(TASK).unwrap();
    assert_eq!((score.scored, score.waiting), (0, 10), "nothing is known yet");
    life.store.set(|state| state.known += 30);
    life.trainer.round(None).await.unwrap();
    let (_, scores) = life.get("/v1/scores").await;
    let score = &scores["scores"][0];
    assert_eq!(score["scored"], 10, "{scores}");
    let mae = expect.iter().sum::<f64>() / 10.0;
    assert!((score["mae"].as_f64().unwrap() - mae).abs() < 1e-9, "{scores}, expected {mae}");
    assert!(score["baseline_mae"].is_number() && score["coverage"].is_number());
    // Another process that opens the same journal knows it too.
    let again = open(life.dir.path(), &life.store);
    assert_eq!(again.scores().of(TASK).unwrap().scored, 10);
}

#[tokio::test]
async fn a_champion_that_another_process_chose_is_taken_into_service() {
    let life = Life::with("ridge").await;
    let held = life.train("ridge").await;
    assert_eq!((held.promoted, version(&life.trainer)), (false, Some(1)));
    registry(&life).promote(TASK, held.version, BY, true).unwrap();
    life.trainer.round(None).await.unwrap();
    assert_eq!(version(&life.trainer), Some(held.version));
}

#[tokio::test]
async fn a_damaged_champion_is_refused_and_the_one_before_is_served() {
    let life = Life::with("ridge").await;
    let held = life.train("ridge").await;
    let path = life.dir.path().join(format!("models/{TASK}/{}.model", held.version));
    registry(&life).promote(TASK, held.version, BY, true).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    // In service: the champion stays. After a start: the one before.
    life.trainer.round(None).await.unwrap();
    assert_eq!(version(&life.trainer), Some(1));
    let started = open(life.dir.path(), &life.store);
    assert_eq!(version(&started), Some(1));
    assert!(started.refusal(TASK).unwrap().contains("checksum"));
    // Mended, it is taken.
    std::fs::write(&path, &whole).unwrap();
    started.round(None).await.unwrap();
    assert_eq!((version(&started), started.refusal(TASK)), (Some(held.version), None));
}

#[tokio::test]
async fn training_again_has_a_reason() {
    let life = Life::start().await;
    let reason = |life: &Life| life.trainer.reason_to_train(TASK).unwrap();
    assert!(reason(&life).unwrap().contains("no version yet"));
    life.train("ridge").await;
    assert_eq!(reason(&life), None, "it is fresh");
}

/// An outcome in which the model loses twice what the baseline does.
fn worse(life: &Life, with_baseline: bool) -> Outcome {
    let artifact = || life.trainer.registry().load(TASK, 1).unwrap();
    let rival_losses: Vec<f64> = (0..100).map(|i| 1.0 + 0.1 * f64::from(i % 7)).collect();
    Outcome {
        trial: Trial {
            against: None,
            rival: "persistence".to_owned(),
            loss_name: "squared error".to_owned(),
            span_ms: (0, 1),
            rows: 100,
            losses: rival_losses.iter().map(|loss| 2.0 * loss).collect(),
            rival_losses,
            horizon: 1,
            latency_p99_us: 1.0,
            size_bytes: 1000,
        },
        baseline: with_baseline.then(artifact),
    }
}

#[tokio::test]
async fn where_the_first_is_worse_than_the_baseline_the_baseline_is_served() {
    let (life, empty) = (Life::with("ridge").await, Life::start().await);
    let artifact = life.trainer.registry().load(TASK, 1).unwrap();
    let decision = empty.trainer.settle(&artifact, worse(&life, true), BY).unwrap();
    assert!(!decision.promoted && decision.why.contains("worse than the baseline"), "{decision:?}");
    assert_eq!((decision.version, decision.champion), (2, Some(1)));
    assert_eq!(version(&empty.trainer), Some(1), "the baseline");
    // Without one there is no champion, and with a champion it is no matter.
    let other = Life::start().await;
    let decision = other.trainer.settle(&artifact, worse(&life, false), BY).unwrap();
    assert_eq!((decision.promoted, version(&other.trainer)), (false, None));
}

#[tokio::test]
async fn what_is_slow_or_big_waits() {
    let life = Life::with("ridge").await;
    let empty = Life::start().await;
    let artifact = life.trainer.registry().load(TASK, 1).unwrap();
    let check = |change: &dyn Fn(&mut Trial), part: &str| {
        let mut outcome = worse(&life, false);
        outcome.trial.losses = vec![0.5; 100];
        change(&mut outcome.trial);
        let decision = empty.trainer.settle(&artifact, outcome, BY).unwrap();
        assert!(!decision.promoted && decision.why.contains(part), "{decision:?}");
        assert_eq!(version(&empty.trainer), None);
    };
    check(&|trial| trial.latency_p99_us = 1500.0, "takes 1500 µs");
    check(&|trial| trial.size_bytes = 1 << 30, "1073741824 bytes");
}
