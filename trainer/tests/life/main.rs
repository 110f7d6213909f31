//! A model's life: trained, judged, served, scored, followed by another. Real
//! files and sockets; the feature store is one of made-up rows. A real one stands beside
//! the trainer in `microclimate/tests/it`.

extern crate microclimate_trainer as trainer;

mod compare_command;
mod documented;
mod fake_store;
mod handmade_champion;
mod inference;
mod models_command;
mod remote_registry;
mod serving;
mod watching;

use std::{path::Path, sync::Arc};

use fake_store::FakeStore;
use microclimate_trainer::{
    CompareRequest, GateDecision, Trainer, TrainerSettings, backtest::ComparisonDepth,
};
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
