//! The Open Inference Protocol, version 2: <https://github.com/kserve/open-inference-protocol>. A
//! task is a model, and its champion is the only version that is ready.
//!
//! Every input of a model is a tensor of its name, with shape [rows] or [rows, 1]; a `null` (NaN in
//! binary data) is a missing value. A model that predicts a change also takes the reference value
//! to which the change is added.
//!
//! # Layout
//! - this file: the models, and whether they are ready
//! - `tensor`: tensors in JSON, and in Triton's binary extension
//! - `infer`: predictions from tensors
//! - `schema`: the protocol's JSON, for the description of the interface

mod infer;
mod schema;
mod tensor;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use schema::{InferError, InferListed, InferMetadata, InferModelReady};
use serde_json::{Value, json};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    serve::{Champion, Trainer},
    tasks,
};

pub(super) fn inference_routes() -> OpenApiRouter<Trainer> {
    OpenApiRouter::new()
        .routes(routes!(server))
        .routes(routes!(live))
        .routes(routes!(health))
        .routes(routes!(model))
        .routes(routes!(model_ready))
        .routes(routes!(infer::infer))
        .routes(routes!(version))
        .routes(routes!(version_ready))
        .routes(routes!(infer::infer_version))
        .routes(routes!(index, index_posted))
}

/// Error in the protocol's form.
#[derive(Debug)]
struct InferenceError(StatusCode, String);

impl InferenceError {
    fn bad_request(what: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, what.into())
    }
}

impl IntoResponse for InferenceError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

/// Name, version and extensions of the server.
#[utoipa::path(get, path = "/v2", tag = "open inference protocol",
    responses((status = 200, body = Object)))]
async fn server() -> Json<Value> {
    Json(json!({
        "name": "microclimate",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["model_repository", "binary_tensor_data"],
    }))
}

/// The process runs.
#[utoipa::path(get, path = "/v2/health/live", tag = "open inference protocol",
    responses((status = 200, body = Object)))]
async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// Some model is ready.
#[utoipa::path(get, path = "/v2/health/ready", tag = "open inference protocol",
    responses((status = 200, body = Object), (status = 503, body = Object)))]
async fn health(State(trainer): State<Trainer>) -> Response {
    let ready = tasks::NAMES.iter().any(|name| trainer.champion(name).is_some());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready }))).into_response()
}

/// Champion of a model, if it is that version or no version is given.
fn ready_champion(
    trainer: &Trainer,
    model: &str,
    version: Option<&str>,
) -> Result<Arc<Champion>, InferenceError> {
    if !tasks::NAMES.contains(&model) {
        let known = tasks::NAMES.join(", ");
        let what = format!("there is no model `{model}`: the models are {known}");
        return Err(InferenceError(StatusCode::NOT_FOUND, what));
    }
    let champion = trainer.champion(model).ok_or_else(|| {
        let why = trainer
            .not_applicable_reason(model)
            .map_or_else(|| "`trainer compare` trains one".to_owned(), |reason| reason.why);
        let what = format!("model `{model}` is not ready: {why}");
        InferenceError(StatusCode::SERVICE_UNAVAILABLE, what)
    })?;
    match version.filter(|version| *version != champion.version.to_string()) {
        Some(other) => {
            let served = champion.version;
            let what = format!("version {other} of `{model}` is not ready: version {served} is");
            Err(InferenceError(StatusCode::NOT_FOUND, what))
        }
        None => Ok(champion),
    }
}

/// Inputs and outputs of a model.
#[utoipa::path(get, path = "/v2/models/{model}", tag = "open inference protocol",
    params(("model" = String, Path, description = "A task", example = "temperature-10m")),
    responses((status = 200, body = InferMetadata), (status = 404, body = InferError), (status = 503, body = InferError)))]
async fn model(
    State(trainer): State<Trainer>,
    Path(model): Path<String>,
) -> Result<Json<Value>, InferenceError> {
    ready_champion(&trainer, &model, None).map(|champion| Json(model_metadata(&champion)))
}

/// Inputs and outputs of one version of a model.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}", tag = "open inference protocol",
    params(("model" = String, Path, description = "A task"),
        ("version" = String, Path, description = "The champion's")),
    responses((status = 200, body = InferMetadata), (status = 404, body = InferError), (status = 503, body = InferError)))]
async fn version(
    State(trainer): State<Trainer>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, InferenceError> {
    ready_champion(&trainer, &model, Some(&version)).map(|champion| Json(model_metadata(&champion)))
}

/// Whether a model is ready.
#[utoipa::path(get, path = "/v2/models/{model}/ready", tag = "open inference protocol",
    params(("model" = String, Path, description = "A task")),
    responses((status = 200, body = InferModelReady), (status = 404, body = InferError), (status = 503, body = InferError)))]
async fn model_ready(
    State(trainer): State<Trainer>,
    Path(model): Path<String>,
) -> Result<Json<Value>, InferenceError> {
    ready_champion(&trainer, &model, None).map(|_| Json(json!({ "name": model, "ready": true })))
}

/// Whether one version of a model is ready.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}/ready", tag = "open inference protocol",
    params(("model" = String, Path, description = "A task"),
        ("version" = String, Path, description = "The champion's")),
    responses((status = 200, body = InferModelReady), (status = 404, body = InferError), (status = 503, body = InferError)))]
async fn version_ready(
    State(trainer): State<Trainer>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, InferenceError> {
    let ready = ready_champion(&trainer, &model, Some(&version));
    ready.map(|_| Json(json!({ "name": model, "ready": true })))
}

fn model_metadata(champion: &Champion) -> Value {
    let card = &champion.artifact.card;
    let tensor =
        |name: &str, shape: Value| json!({ "name": name, "datatype": "FP64", "shape": shape });
    let inputs: Vec<Value> =
        infer::input_names(champion).iter().map(|name| tensor(name, json!([-1]))).collect();
    let outputs: Vec<Value> = infer::output_names(champion)
        .iter()
        .map(|name| match *name {
            infer::PROBABILITIES => tensor(name, json!([-1, card.facts.classes.len()])),
            _ => tensor(name, json!([-1])),
        })
        .collect();
    json!({
        "name": card.task,
        "versions": [champion.version.to_string()],
        "platform": "microclimate",
        "inputs": inputs,
        "outputs": outputs,
    })
}

/// All models, and whether they are ready.
#[utoipa::path(post, path = "/v2/repository/index", tag = "open inference protocol",
    responses((status = 200, body = [InferListed])))]
async fn index_posted(trainer: State<Trainer>) -> Json<Value> {
    index(trainer).await
}

/// All models, and whether they are ready.
#[utoipa::path(get, path = "/v2/repository/index", tag = "open inference protocol",
    responses((status = 200, body = [InferListed])))]
async fn index(State(trainer): State<Trainer>) -> Json<Value> {
    let models = tasks::NAMES.map(|name| match trainer.champion(name) {
        Some(champion) => {
            let version = champion.version.to_string();
            json!({ "name": name, "version": version, "state": "READY", "reason": "" })
        }
        None => json!({
            "name": name,
            "state": "UNAVAILABLE",
            "reason": trainer
                .refusal_reason(name)
                .or_else(|| Some(trainer.not_applicable_reason(name)?.why))
                .unwrap_or_else(|| "no champion yet".to_owned()),
        }),
    });
    Json(json!(models))
}
