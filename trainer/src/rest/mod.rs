//! Tasks, models and predictions over HTTP.
//!
//! # Layout
//! - this file: all paths
//! - `predict`: `/v1/predict/{task}` for one zone or many
//! - `models`: `/v1/tasks`, `/v1/models`, `/v1/scores`
//! - [`inference`]: `/v2`, the Open Inference Protocol

pub mod inference;
mod models;
mod predict;

use axum::{Router, extract::State, routing::get};
use service::rest::Problem;

use crate::{
    serve::{PredictError, Trainer},
    tasks::NAMES,
};

/// All paths of the trainer, to be merged with those of other services.
pub fn routes(trainer: Trainer) -> Router {
    Router::new()
        .route("/v1/tasks", get(models::tasks))
        .route("/v1/models", get(models::models))
        .route("/v1/models/{task}", get(models::versions))
        .route("/v1/models/{task}/log", get(models::log))
        .route("/v1/scores", get(models::scores))
        .route("/v1/predict/{task}", get(predict::asked).post(predict::posted))
        .merge(inference::routes())
        .with_state(trainer)
}

/// The same with what a service by itself has: metrics, and whether it lives
/// and can predict.
pub fn service_routes(trainer: Trainer) -> Router {
    let own = Router::new()
        .route("/metrics", get(async |State(trainer): State<Trainer>| trainer.metrics()))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .with_state(trainer.clone());
    own.merge(routes(trainer))
}

/// Ready is who has a champion and can reach the feature store.
async fn ready(State(trainer): State<Trainer>) -> Result<&'static str, Problem> {
    if !NAMES.iter().any(|name| trainer.champion(name).is_some()) {
        let hint = "`trainer compare` trains and chooses one";
        return Err(Problem::unavailable("no task has a champion yet").hint(hint));
    }
    match trainer.zones().await {
        Ok(_) => Ok("ok"),
        Err(error) => Err(Problem::unavailable(error.to_string())),
    }
}

/// An error of a prediction as clients see it.
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
