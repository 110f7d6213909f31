//! Tasks, models and predictions over HTTP.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use service::rest::Problem;
use telemetry::ZoneId;

use crate::{
    compare::facts,
    serve::{PredictError, Prediction, Trainer},
    tasks::NAMES,
};

/// All paths of the trainer, to be merged with those of other services.
pub fn routes(trainer: Trainer) -> Router {
    Router::new()
        .route("/v1/tasks", get(tasks))
        .route("/v1/models", get(models))
        .route("/v1/predict/{task}", get(predict).post(predict_posted))
        .with_state(trainer)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    zone: ZoneId,
}

async fn tasks(State(trainer): State<Trainer>) -> Json<Value> {
    let tasks = NAMES.map(|name| {
        let (title, unit) = facts(name);
        let champion = trainer.champion(name).map(|champion| {
            json!({
                "model": champion.artifact.model,
                "version": champion.version,
                "metrics": champion.artifact.metrics,
            })
        });
        json!({ "task": name, "title": title, "unit": unit, "champion": champion })
    });
    Json(json!({ "tasks": tasks }))
}

async fn models(State(trainer): State<Trainer>) -> Json<Value> {
    let champions = NAMES.iter().filter_map(|name| trainer.champion(name));
    let models: Vec<Value> = champions
        .map(|champion| {
            let artifact = &champion.artifact;
            json!({
                "task": artifact.task,
                "model": artifact.model,
                "version": champion.version,
                "inputs": artifact.schema.features,
                "schema_hash": artifact.schema.hash(),
                "trained_ms": artifact.trained_ms,
                "rows": artifact.rows,
                "seed": artifact.seed,
                "metrics": artifact.metrics,
                "code_version": artifact.code_version,
            })
        })
        .collect();
    Json(json!({ "models": models }))
}

async fn predict(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
    Query(params): Query<Params>,
) -> Result<Json<Prediction>, Problem> {
    trainer.predict(&task, &params.zone).await.map(Json).map_err(problem)
}

async fn predict_posted(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
    Json(params): Json<Params>,
) -> Result<Json<Prediction>, Problem> {
    trainer.predict(&task, &params.zone).await.map(Json).map_err(problem)
}

fn problem(error: PredictError) -> Problem {
    let text = error.to_string();
    match error {
        PredictError::UnknownTask(_) => {
            Problem::not_found(text).hint(format!("the tasks are {}", NAMES.join(", ")))
        }
        PredictError::UnknownZone(_) => {
            Problem::not_found(text).hint("GET /v1/zones of the feature store lists them")
        }
        PredictError::NoChampion(_) => {
            Problem::unavailable(text).hint("`trainer compare` trains and chooses one")
        }
        PredictError::NotApplicable { .. } => Problem::conflict(text),
        PredictError::Train(error) => Problem::internal(error),
    }
}
