//! The registry in an S3-compatible store, where `MICROCLIMATE_S3` names one:
//! `http://127.0.0.1:5000/bucket`, with any keys.

use std::sync::{Arc, Barrier};

use microclimate_trainer::{TrainerSettings, registry_store};
use models::registry::{DecisionAuthor, DecisionKind};

use super::{TASK, TestTrainer};

const BY: DecisionAuthor = DecisionAuthor { who: "test", why: "a test" };

#[tokio::test]
async fn a_registry_in_a_bucket_does_what_one_in_a_folder_does() {
    let Ok(address) = std::env::var("MICROCLIMATE_S3") else {
        println!("skipped: MICROCLIMATE_S3 names no S3-compatible store");
        return;
    };
    let (endpoint, bucket) = address.rsplit_once('/').unwrap();
    // Each run has a folder of its own.
    let mut settings = TrainerSettings {
        registry_dir: format!("s3://{bucket}/test-{}", std::process::id()).into(),
        ..TrainerSettings::default()
    };
    settings.s3.endpoint = endpoint.to_owned();
    settings.s3.access_key = "key".to_owned();
    settings.s3.secret_key = serde_json::from_str("\"secret\"").unwrap();
    let registry = registry_store::open_registry(&settings).unwrap();
    assert_eq!(registry.champion_version(TASK).unwrap(), None);

    let life = TestTrainer::with_champion("ridge").await;
    let artifact = life.trainer.registry().load_artifact(TASK, 1).unwrap();
    for version in 1..=3 {
        assert_eq!(registry.add_version(&artifact, BY).unwrap(), version);
    }
    registry.promote_version(TASK, 1, BY, true).unwrap();
    registry.promote_version(TASK, 2, BY, true).unwrap();
    assert_eq!(registry.rollback_champion(TASK, BY).unwrap(), 1);
    registry.remove_versions(TASK, &[1, 3], BY).unwrap();
    assert_eq!(registry.list_versions(TASK).unwrap(), [1, 2], "the champion stays");
    assert_eq!(registry.list_tasks().unwrap(), [TASK]);
    assert_eq!(registry.load_artifact(TASK, 1).unwrap().card, artifact.card);

    // Several processes at once: every decision is kept, and all are in sequence.
    let before = registry.recent_decisions(TASK, 1).unwrap()[0].number;
    let start = Arc::new(Barrier::new(4));
    let deciding: Vec<_> = (0..4)
        .map(|number| {
            let (registry, start) = (registry.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                for _ in 0..3 {
                    registry.promote_version(TASK, 1 + number % 2, BY, true).unwrap();
                }
            })
        })
        .collect();
    deciding.into_iter().for_each(|one| one.join().unwrap());
    let log = registry.recent_decisions(TASK, 100).unwrap();
    assert_eq!(log[0].number, before + 12);
    assert_eq!(log.iter().filter(|entry| entry.what == DecisionKind::Forced).count(), 14);
}
