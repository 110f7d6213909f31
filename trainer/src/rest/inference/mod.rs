//! The Open Inference Protocol, version 2, for clients that speak it:
//! <https://github.com/kserve/open-inference-protocol>. A task is a model, its
//! champion the only version that is ready.
//!
//! Every input of a model is a tensor of its name, of shape [rows] or
//! [rows, 1]; a `null` (in binary data NaN) is a missing value. A model that
//! predicts a change also takes the level that it is added to.
//!
//! # Layout
//! - this file: what there is, and whether it is ready
//! - `tensor`: tensors in JSON, and in Triton's binary extension
//! - `infer`: from tensors to predictions

mod infer;
mod tensor;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    serve::{Champion, Trainer},
    tasks,
};
use std::sync::Arc;

pub(super) fn routes() -> Router<Trainer> {
    Router::new()
        .route("/v2", get(server))
        .route("/v2/health/live", get(async || Json(json!({ "live": true }))))
        .route("/v2/health/ready", get(health))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}", get(version))
        .route("/v2/models/{model}/versions/{version}/ready", get(version_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer_version))
        .route("/v2/repository/index", get(index).post(index))
}

/// An error as the protocol has it.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl Refusal {
    fn bad(what: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, what.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

async fn server() -> Json<Value> {
    Json(json!({
        "name": "microclimate",
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["model_repository"],
    }))
}

async fn health(State(trainer): State<Trainer>) -> Response {
    let ready = tasks::NAMES.iter().any(|name| trainer.champion(name).is_some());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready }))).into_response()
}

/// The champion of a model, or of that version of it.
fn ready(trainer: &Trainer, model: &str, version: Option<&str>) -> Result<Arc<Champion>, Refusal> {
    if !tasks::NAMES.contains(&model) {
        let known = tasks::NAMES.join(", ");
        let what = format!("there is no model `{model}`: the models are {known}");
        return Err(Refusal(StatusCode::NOT_FOUND, what));
    }
    let champion = trainer.champion(model).ok_or_else(|| {
        let what = format!("model `{model}` is not ready: `trainer compare` trains one");
        Refusal(StatusCode::SERVICE_UNAVAILABLE, what)
    })?;
    match version.filter(|version| *version != champion.version.to_string()) {
        Some(other) => {
            let own = champion.version;
            let what = format!("version {other} of `{model}` is not ready: version {own} is");
            Err(Refusal(StatusCode::NOT_FOUND, what))
        }
        None => Ok(champion),
    }
}

async fn model(
    State(trainer): State<Trainer>,
    Path(model): Path<String>,
) -> Result<Json<Value>, Refusal> {
    ready(&trainer, &model, None).map(|champion| Json(metadata(&champion)))
}

async fn version(
    State(trainer): State<Trainer>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    ready(&trainer, &model, Some(&version)).map(|champion| Json(metadata(&champion)))
}

async fn model_ready(
    State(trainer): State<Trainer>,
    Path(model): Path<String>,
) -> Result<Json<Value>, Refusal> {
    ready(&trainer, &model, None).map(|_| Json(json!({ "name": model, "ready": true })))
}

async fn version_ready(
    State(trainer): State<Trainer>,
    Path((model, version)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let ready = ready(&trainer, &model, Some(&version));
    ready.map(|_| Json(json!({ "name": model, "ready": true })))
}

fn metadata(champion: &Champion) -> Value {
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

async fn index(State(trainer): State<Trainer>) -> Json<Value> {
    let models = tasks::NAMES.map(|name| match trainer.champion(name) {
        Some(champion) => {
            let version = champion.version.to_string();
            json!({ "name": name, "version": version, "state": "READY", "reason": "" })
        }
        None => json!({
            "name": name,
            "state": "UNAVAILABLE",
            "reason": trainer.refusal(name).unwrap_or_else(|| "no champion yet".to_owned()),
        }),
    });
    Json(json!(models))
}
