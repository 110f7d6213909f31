//! A model's life: trained, judged, served, scored, followed by another. Real
//! files and sockets; the feature store is one of made-up rows, but for `recorded`,
//! which has a real one.

mod command;
mod comparing;
mod documented;
mod elsewhere;
mod inference;
mod recorded;
mod serving;
mod store;
mod watching;

use std::path::Path;

use models::{Artifact, Card, Facts, Fitted, Predictor, Schema, artifact::Golden, registry::By};
use ndarray::array;
use serde_json::Value;
use service::Secret;
use store::Store;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use trainer::{
    Decision, Request, Settings, Source, TrainError, Trainer, backtest::Depth, link::Link,
};

const TASK: &str = "temperature-10m";

/// A trainer beside a store, and its REST API.
struct Life {
    dir: TempDir,
    store: Store,
    trainer: Trainer,
    url: String,
    stop: CancellationToken,
}

fn settings(dir: &Path, store: &Store) -> Settings {
    let mut settings = Settings {
        registry_dir: dir.join("models"),
        reports_dir: dir.join("reports"),
        ..Settings::default()
    };
    settings.watch.journal_dir = dir.join("predictions");
    settings.source.url = format!("http://{}", store.address);
    settings.split.train_rows_max = 1500;
    settings
}

fn open(dir: &Path, store: &Store) -> Trainer {
    let settings = settings(dir, store);
    let source = Source::remote(&settings.source).unwrap();
    Trainer::new(settings, source).unwrap()
}

/// Makes a model of one input champion of a task; `link` is what its sayings mean.
fn crown(
    trainer: &Trainer,
    task: &str,
    input: &str,
    fitted: Fitted,
    link: Link,
) -> Result<(), TrainError> {
    let predictor = Predictor::Regressor(fitted);
    let x = array![[30.0], [40.0]];
    let card = Card {
        task: task.to_owned(),
        model: "by hand".to_owned(),
        schema: Schema { features: vec![input.to_owned()] },
        unit: trainer::compare::facts(task).1.to_owned(),
        trained_ms: (0, 1),
        rows: 2,
        seed: 1,
        metrics: [].into(),
        code_version: "test".to_owned(),
        facts: Facts::of(x.view(), None),
        serving: serde_json::json!({
            "half_width": 2.0, "level": 0.9, "baseline": [null, 0.0], "link": link
        }),
    };
    let artifact = Artifact { golden: Golden::of(&predictor, x.view()), card, predictor };
    let by = By { who: "test", why: "a test" };
    trainer.registry().keep(&artifact, by).unwrap();
    trainer.registry().promote(task, 1, by, true).unwrap();
    trainer.load_champion(task)
}

impl Life {
    async fn start() -> Self {
        let (dir, store) = (TempDir::new().unwrap(), Store::start().await);
        let trainer = open(dir.path(), &store);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let routes = trainer::rest::service_routes(trainer.clone());
        tokio::spawn(service::rest::serve(listener, routes, Secret::default(), stop.clone()));
        Self { dir, store, trainer, url, stop }
    }

    /// The same with a champion.
    async fn with(model: &str) -> Self {
        let life = Self::start().await;
        let decision = life.train(model).await;
        assert!(decision.promoted, "{decision:?}");
        life
    }

    /// Trains one model beside the baselines.
    async fn train(&self, model: &str) -> Decision {
        let request = Request {
            tasks: vec![TASK.to_owned()],
            models: vec![model.to_owned()],
            depth: Depth::Quick,
            ..Request::default()
        };
        let compared = self.trainer.compare(&request, |_| {}).await.unwrap();
        let result = &compared.tasks[0];
        result.offered.clone().unwrap_or_else(|| panic!("{:?}", result.not_applicable))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let asked = reqwest::Client::new().post(format!("{}{path}", self.url)).json(body);
        let answer = asked.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
