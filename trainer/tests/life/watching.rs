//! The promotion gate, scores, and champions that other processes select.

use microclimate_trainer::{Trainer, gate::TrialOutcome};
use models::{
    ModelRegistry,
    registry::{ChampionTrial, DecisionAuthor, DecisionKind},
};

use super::{
    TASK, TestTrainer,
    fake_store::{ZONES, temperature_at},
    open_trainer,
};

const BY: DecisionAuthor = DecisionAuthor { who: "test", why: "a test" };

fn open_registry(life: &TestTrainer) -> ModelRegistry {
    ModelRegistry::new(&life.dir.path().join("models"))
}

fn champion_version(trainer: &Trainer) -> Option<u64> {
    trainer.champion(TASK).map(|champion| champion.version)
}

#[tokio::test]
async fn only_a_significant_gain_passes_the_gate() {
    let life = TestTrainer::with_champion("decision tree").await;
    let same = life.train_model("decision tree").await;
    assert!(!same.promoted && same.why.contains("not below"), "{same:?}");
    assert_eq!((champion_version(&life.trainer), same.champion), (Some(1), Some(1)));
    let better = life.train_model("ridge").await;
    assert!(better.promoted, "{better:?}");
    assert!(better.evidence.p_value < Some(0.05) && better.evidence.relative_gain() > Some(0.0));
    assert_eq!(champion_version(&life.trainer), Some(3));
    let worse = life.train_model("decision tree").await;
    assert!(!worse.promoted, "{worse:?}");
    let what: Vec<DecisionKind> = open_registry(&life)
        .recent_decisions(TASK, 3)
        .unwrap()
        .iter()
        .map(|entry| entry.what)
        .collect();
    assert_eq!(what, [DecisionKind::Held, DecisionKind::Kept, DecisionKind::Promoted]);
}

#[tokio::test]
async fn predictions_are_scored_once_the_actual_value_is_known() {
    let life = TestTrainer::with_champion("ridge").await;
    let mut expect = Vec::new();
    for _ in 0..5 {
        let known = life.store.state.lock().unwrap().known;
        life.trainer.predict_and_score(None).await.unwrap();
        for (number, zone) in ZONES.iter().enumerate() {
            let prediction = life.trainer.predict_zone(TASK, &zone.parse().unwrap()).await.unwrap();
            expect.push((prediction.value - temperature_at(number, known as i64 + 10)).abs());
        }
        life.store.change_knobs(|state| state.known += 1);
    }
    let score = life.trainer.scores().task_score(TASK).unwrap();
    assert_eq!((score.scored, score.waiting), (0, 10), "nothing is known yet");
    life.store.change_knobs(|state| state.known += 30);
    life.trainer.predict_and_score(None).await.unwrap();
    let (_, scores) = life.get_json("/v1/scores").await;
    let score = &scores["scores"][0];
    assert_eq!(score["scored"], 10, "{scores}");
    let mae = expect.iter().sum::<f64>() / 10.0;
    assert!((score["mae"].as_f64().unwrap() - mae).abs() < 1e-9, "{scores}, expected {mae}");
    assert!(score["baseline_mae"].is_number() && score["coverage"].is_number());
    // Another process that opens the same journal has the same score.
    let again = open_trainer(life.dir.path(), &life.store);
    assert_eq!(again.scores().task_score(TASK).unwrap().scored, 10);
}

#[tokio::test]
async fn a_champion_that_another_process_chose_is_taken_into_service() {
    let life = TestTrainer::with_champion("ridge").await;
    let held = life.train_model("ridge").await;
    assert_eq!((held.promoted, champion_version(&life.trainer)), (false, Some(1)));
    open_registry(&life).promote_version(TASK, held.version, BY, true).unwrap();
    life.trainer.predict_and_score(None).await.unwrap();
    assert_eq!(champion_version(&life.trainer), Some(held.version));
}

#[tokio::test]
async fn a_damaged_champion_is_refused_and_the_one_before_is_served() {
    let life = TestTrainer::with_champion("ridge").await;
    let held = life.train_model("ridge").await;
    let path = life.dir.path().join(format!("models/{TASK}/{}.model", held.version));
    open_registry(&life).promote_version(TASK, held.version, BY, true).unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    // In service, the champion stays. After a restart, the one before is served.
    life.trainer.predict_and_score(None).await.unwrap();
    assert_eq!(champion_version(&life.trainer), Some(1));
    let started = open_trainer(life.dir.path(), &life.store);
    assert_eq!(champion_version(&started), Some(1));
    assert!(started.refusal_reason(TASK).unwrap().contains("checksum"));
    // Once repaired, it is served.
    std::fs::write(&path, &whole).unwrap();
    started.predict_and_score(None).await.unwrap();
    assert_eq!(
        (champion_version(&started), started.refusal_reason(TASK)),
        (Some(held.version), None)
    );
}

#[tokio::test]
async fn retraining_has_a_reason() {
    let life = TestTrainer::start().await;
    let reason = |life: &TestTrainer| life.trainer.reason_to_train(TASK).unwrap();
    assert!(reason(&life).unwrap().contains("no version yet"));
    life.train_model("ridge").await;
    assert_eq!(reason(&life), None, "it is fresh");
}

/// Outcome in which the model's loss is twice that of the baseline.
fn losing_outcome(life: &TestTrainer, with_baseline: bool) -> TrialOutcome {
    let artifact = || life.trainer.registry().load_artifact(TASK, 1).unwrap();
    let rival_losses: Vec<f64> = (0..100).map(|i| 1.0 + 0.1 * f64::from(i % 7)).collect();
    TrialOutcome {
        trial: ChampionTrial {
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
    let (life, empty) = (TestTrainer::with_champion("ridge").await, TestTrainer::start().await);
    let artifact = life.trainer.registry().load_artifact(TASK, 1).unwrap();
    let decision =
        empty.trainer.submit_to_gate(&artifact, losing_outcome(&life, true), BY).unwrap();
    assert!(!decision.promoted && decision.why.contains("worse than the baseline"), "{decision:?}");
    assert_eq!((decision.version, decision.champion), (2, Some(1)));
    assert_eq!(champion_version(&empty.trainer), Some(1), "the baseline");
    // Without a baseline there is no champion; with a champion the baseline does not matter.
    let other = TestTrainer::start().await;
    let decision =
        other.trainer.submit_to_gate(&artifact, losing_outcome(&life, false), BY).unwrap();
    assert_eq!((decision.promoted, champion_version(&other.trainer)), (false, None));
}

#[tokio::test]
async fn slow_or_large_models_do_not_pass_the_gate() {
    let life = TestTrainer::with_champion("ridge").await;
    let empty = TestTrainer::start().await;
    let artifact = life.trainer.registry().load_artifact(TASK, 1).unwrap();
    let check = |change: &dyn Fn(&mut ChampionTrial), part: &str| {
        let mut outcome = losing_outcome(&life, false);
        outcome.trial.losses = vec![0.5; 100];
        change(&mut outcome.trial);
        let decision = empty.trainer.submit_to_gate(&artifact, outcome, BY).unwrap();
        assert!(!decision.promoted && decision.why.contains(part), "{decision:?}");
        assert_eq!(champion_version(&empty.trainer), None);
    };
    check(&|trial| trial.latency_p99_us = 1500.0, "takes 1500 µs");
    check(&|trial| trial.size_bytes = 1 << 30, "1073741824 bytes");
}
