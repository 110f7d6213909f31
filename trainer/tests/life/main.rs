//! A model's life: trained, judged, served, scored, followed by another. Real
//! files and sockets; the feature store is one of made-up rows. A real one stands beside
//! the trainer in `microclimate/tests/it`.

mod compare_command;
mod documented;
mod fake_store;
mod inference;
mod models_command;
mod remote_registry;
mod serving;
mod watching;

use std::{path::Path, sync::Arc};

use fake_store::FakeStore;
use microclimate_trainer::{
    CompareRequest, GateDecision, TrainError, Trainer, TrainerSettings, backtest::ComparisonDepth,
    target_transform::TargetTransform,
};
use models::{
    FeatureSchema, FittedRegressor, ModelArtifact, ModelCard, ModelProvenance, Predictor,
    artifact::GoldenRows, registry::DecisionAuthor,
};
use ndarray::array;
use serde_json::Value;
use service::Secret;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const TASK: &str = "temperature-10m";

/// Trainer with a store, and its REST API.
struct TestTrainer {
    dir: TempDir,
    store: FakeStore,
    trainer: Trainer,
    url: String,
    stop: CancellationToken,
}

fn test_settings(dir: &Path, store: &FakeStore) -> TrainerSettings {
    let mut settings = TrainerSettings {
        registry_dir: dir.join("models"),
        reports_dir: dir.join("reports"),
        ..TrainerSettings::default()
    };
    settings.watch.journal_dir = dir.join("predictions");
    settings.source.url = format!("http://{}", store.address);
    settings.split.train_rows_max = 1500;
    settings
}

fn open_trainer(dir: &Path, store: &FakeStore) -> Trainer {
    let settings = test_settings(dir, store);
    let source = settings.source.new_client().unwrap();
    Trainer::new(settings, Arc::new(source)).unwrap()
}

/// Makes a model of one input the champion of a task; `link` is the meaning of its outputs.
fn promote_model(
    trainer: &Trainer,
    task: &str,
    input: &str,
    fitted: FittedRegressor,
    link: TargetTransform,
) -> Result<(), TrainError> {
    let predictor = Predictor::Regressor(fitted);
    let x = array![[30.0], [40.0]];
    let card = ModelCard {
        task: task.to_owned(),
        model: "by hand".to_owned(),
        schema: FeatureSchema { features: vec![input.to_owned()] },
        unit: microclimate_trainer::compare::title_and_unit(task).1.to_owned(),
        trained_ms: (0, 1),
        rows: 2,
        seed: 1,
        metrics: [].into(),
        code_version: "test".to_owned(),
        facts: ModelProvenance::from_rows(x.view(), None),
        serving: serde_json::json!({
            "half_width": 2.0, "level": 0.9, "baseline": [null, 0.0], "link": link
        }),
    };
    let artifact =
        ModelArtifact { golden: GoldenRows::from_predictor(&predictor, x.view()), card, predictor };
    let by = DecisionAuthor { who: "test", why: "a test" };
    trainer.registry().add_version(&artifact, by).unwrap();
    trainer.registry().promote_version(task, 1, by, true).unwrap();
    trainer.load_champion(task)
}

impl TestTrainer {
    async fn start() -> Self {
        let (dir, store) = (TempDir::new().unwrap(), FakeStore::start().await);
        let trainer = open_trainer(dir.path(), &store);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let routes = microclimate_trainer::rest::service_routes(trainer.clone());
        tokio::spawn(service::rest::serve_routes(
            listener,
            routes,
            Secret::default(),
            stop.clone(),
        ));
        Self { dir, store, trainer, url, stop }
    }

    /// Trainer with a champion.
    async fn with_champion(model: &str) -> Self {
        let life = Self::start().await;
        let decision = life.train_model(model).await;
        assert!(decision.promoted, "{decision:?}");
        life
    }

    /// Trains one model besides the baselines.
    async fn train_model(&self, model: &str) -> GateDecision {
        let request = CompareRequest {
            tasks: vec![TASK.to_owned()],
            models: vec![model.to_owned()],
            depth: ComparisonDepth::Quick,
            ..CompareRequest::default()
        };
        let compared = self.trainer.compare_models(&request, |_| {}).await.unwrap();
        let result = &compared.tasks[0];
        result.offered.clone().unwrap_or_else(|| panic!("{:?}", result.not_applicable))
    }

    async fn get_json(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url)).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

impl Drop for TestTrainer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
