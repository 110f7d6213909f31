//! Tasks, models and predictions over HTTP.
//!
//! # Layout
//! - this file: all paths, and their description
//! - `predict`: `/v1/predict/{task}` for one zone or many
//! - `forecast`: `/v1/forecast/{metric}`, the course of a metric
//! - `models`: `/v1/tasks`, `/v1/models`, `/v1/scores`
//! - [`inference`]: `/v2`, the Open Inference Protocol
//! - `health`: for supervisors and Prometheus

mod forecast;
mod health;
pub mod inference;
mod models;
mod predict;

use axum::Router;
use service::rest::Problem;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    serve::{PredictError, Trainer},
    tasks::NAMES,
};

/// All paths of the trainer except health and metrics, to be merged with those of other services.
pub fn routes(trainer: Trainer) -> Router {
    Router::from(api_routes().with_state(trainer))
}

/// All paths of a trainer that runs as a service of its own.
pub fn service_routes(trainer: Trainer) -> Router {
    let operation = Router::from(operation_routes().with_state(trainer.clone()));
    routes(trainer).merge(operation).merge(service::openapi::openapi_routes(openapi()))
}

/// Description of all paths as OpenAPI 3.1.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = api_routes().into_openapi();
    document.merge(operation_routes().into_openapi());
    "Microclimate trainer".clone_into(&mut document.info.title);
    document.info.description = Some(
        "Predictions of the champions, their models, versions and scores; predictions also by the \
         Open Inference Protocol. Times are UTC. If a service has a token, send it as \
         `Authorization: Bearer …`."
            .to_owned(),
    );
    service::openapi::complete_document(document)
}

fn api_routes() -> OpenApiRouter<Trainer> {
    OpenApiRouter::new()
        .routes(routes!(predict::asked, predict::posted))
        .routes(routes!(forecast::forecast))
        .routes(routes!(models::tasks))
        .routes(routes!(models::models))
        .routes(routes!(models::versions))
        .routes(routes!(models::log))
        .routes(routes!(models::scores))
        .merge(inference::inference_routes())
}

fn operation_routes() -> OpenApiRouter<Trainer> {
    OpenApiRouter::new()
        .routes(routes!(health::metrics))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}

/// Error of a prediction as clients see it.
fn prediction_problem(error: PredictError) -> Problem {
    let text = error.to_string();
    match error {
        PredictError::UnknownTask(_) => Problem::not_found(text)
            .with_code("unknown_task")
            .with_hint(format!("the tasks are {}", NAMES.join(", "))),
        PredictError::UnknownZone(_) => Problem::not_found(text)
            .with_code("unknown_zone")
            .with_hint("GET /v1/zones of the feature store lists them"),
        PredictError::NoChampion { not_applicable, .. } => {
            let trains = || "`trainer compare` trains and selects one".to_owned();
            let hint = not_applicable.and_then(|reason| reason.hint).unwrap_or_else(trains);
            Problem::unavailable(text).with_code("no_champion").with_hint(hint)
        }
        PredictError::Override { .. } => {
            Problem::bad_request(text).with_code("bad_override").with_hint(
                r#"as in {"heater": 0}, {"temperature_mean_1h": 18} or {"irrigation_min": 20}"#,
            )
        }
        PredictError::NotApplicable { .. } => Problem::conflict(text).with_code("not_applicable"),
        PredictError::Train(error) => Problem::internal(error),
    }
}
