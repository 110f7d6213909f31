//! Predictions from tensors.

use std::collections::HashMap;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use ndarray::Array2;
use serde_json::{Value, json};

use super::{
    InferenceError, ready_champion,
    schema::{InferAnswer, InferError, InferRequest},
    tensor::{InferenceRequest, ROWS_MAX},
};
use crate::{
    backtest,
    serve::{Champion, Trainer},
    tasks::{self, PredictionTask},
};

/// Names of outputs.
pub(super) const PREDICTION: &str = "prediction";
pub(super) const PROBABILITIES: &str = "probabilities";
const LOW: &str = "low";
const HIGH: &str = "high";
/// Header with the length of the body's JSON, where binary data follow.
const JSON_BYTES: &str = "inference-header-content-length";

fn champion_task(champion: &Champion) -> Option<Box<dyn PredictionTask>> {
    tasks::all_tasks().into_iter().find(|task| task.spec().name == champion.artifact.card.task)
}

/// Names of a model's inputs: those of its schema, and the reference value to which a predicted
/// change is added.
pub(super) fn input_names(champion: &Champion) -> Vec<String> {
    let mut names = champion.artifact.card.schema.features.clone();
    let reference = champion_task(champion).and_then(|task| task.spec().reference);
    if let Some(reference) =
        reference.filter(|reference| !names.iter().any(|name| name == reference))
    {
        names.push(reference.to_owned());
    }
    names
}

pub(super) fn output_names(champion: &Champion) -> Vec<&'static str> {
    let mut names = vec![PREDICTION];
    if half_width(champion).is_some() {
        names.extend([LOW, HIGH]);
    }
    if champion.artifact.predictor.has_probabilities() {
        names.push(PROBABILITIES);
    }
    names
}

fn half_width(champion: &Champion) -> Option<f64> {
    champion_task(champion)?;
    champion.serving_facts::<backtest::RegressionServing>().ok()?.half_width
}

/// Predictions for rows of inputs.
#[utoipa::path(post, path = "/v2/models/{model}/infer", tag = "open inference protocol",
    params(("model" = String, Path, description = "A task", example = "temperature-10m")),
    request_body = InferRequest,
    responses((status = 200, body = InferAnswer), (status = 400, body = InferError), (status = 404, body = InferError), (status = 503, body = InferError)))]
pub(super) async fn infer(
    State(trainer): State<Trainer>,
    Path(model): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, InferenceError> {
    let champion = ready_champion(&trainer, &model, None)?;
    answer_request(&champion, &headers, &body)
}

/// Predictions of one version of a model for rows of inputs.
#[utoipa::path(post, path = "/v2/models/{model}/versions/{version}/infer",
    tag = "open inference protocol",
    params(("model" = String, Path, description = "A task"),
        ("version" = String, Path, description = "The champion's")),
    request_body = InferRequest,
    responses((status = 200, body = InferAnswer), (status = 400, body = InferError), (status = 404, body = InferError), (status = 503, body = InferError)))]
pub(super) async fn infer_version(
    State(trainer): State<Trainer>,
    Path((model, version)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, InferenceError> {
    let champion = ready_champion(&trainer, &model, Some(&version))?;
    answer_request(&champion, &headers, &body)
}

fn answer_request(
    champion: &Champion,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, InferenceError> {
    let json_bytes = headers.get(JSON_BYTES).map(|value| {
        let number = value.to_str().ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| {
            InferenceError::bad_request(format!("the header {JSON_BYTES} is not a number"))
        })
    });
    let (request, inputs) = InferenceRequest::parse_body(body, json_bytes.transpose()?)?;
    let rows = inputs.first().map_or(0, |(_, values)| values.len());
    let names = input_names(champion);
    let by_name: HashMap<&str, &[f64]> =
        inputs.iter().map(|(name, values)| (name.as_str(), values.as_slice())).collect();
    if let Some(name) = by_name.keys().find(|name| !names.iter().any(|known| known == *name)) {
        return Err(InferenceError::bad_request(format!("there is no input `{name}`")));
    }
    if let Some((name, values)) = inputs.iter().find(|(_, values)| values.len() != rows) {
        let found = values.len();
        return Err(InferenceError::bad_request(format!(
            "input `{name}` has {found} rows, others {rows}"
        )));
    }
    let column = |name: &String| {
        let missing = || InferenceError::bad_request(format!("input `{name}` is missing"));
        by_name.get(name.as_str()).copied().ok_or_else(missing)
    };
    let columns = names.iter().map(column).collect::<Result<Vec<&[f64]>, InferenceError>>()?;
    let width = champion.artifact.card.schema.features.len();
    debug_assert!(rows <= ROWS_MAX);
    let x = Array2::from_shape_fn((rows, width), |(row, column)| columns[column][row]);

    let task = champion_task(champion);
    let (low, high) = task.as_ref().map_or((0.0, f64::INFINITY), |task| task.spec().bounds);
    let spec = task.as_ref().map(|task| task.spec());
    let references =
        spec.and_then(|spec| spec.reference).and_then(|name| by_name.get(name).copied());
    let predictor = &champion.artifact.predictor;
    let level = |row: usize, output: f64| {
        let row_reference = references.map_or(0.0, |all| all[row]);
        spec.map_or(output.clamp(low, high), |spec| spec.to_level(output, row_reference))
    };
    let levels: Vec<f64> = predictor
        .predict(x.view())
        .iter()
        .enumerate()
        .map(|(row, output)| level(row, *output))
        .collect();
    let usual = half_width(champion).unwrap_or_default();
    let serving = champion.serving_facts::<backtest::RegressionServing>().ok();
    let widths = serving.and_then(|own| own.widths).zip(request.place_and_time());
    let half_at = |row: usize| match &widths {
        Some((widths, (zone, at_ms))) => {
            widths.half_width_at(zone, *at_ms, levels[row] - level(row, 0.0))
        }
        None => usual,
    };
    let shifted = |sign: f64| {
        let each = levels.iter().enumerate();
        each.map(|(row, level)| (level + sign * half_at(row)).clamp(low, high)).collect()
    };

    let is_wanted =
        |name: &str| request.wants_all() || request.wanted_outputs().any(|wanted| wanted == name);
    let available = output_names(champion);
    if let Some(unknown) = request.wanted_outputs().find(|wanted| !available.contains(wanted)) {
        return Err(InferenceError::bad_request(format!("there is no output `{unknown}`")));
    }
    let mut binary: Vec<u8> = Vec::new();
    let outputs: Vec<Value> = available
        .into_iter()
        .filter(|name| is_wanted(name))
        .map(|name| {
            let (shape, data): (Value, Vec<f64>) = match name {
                LOW => (json!([rows]), shifted(-1.0)),
                HIGH => (json!([rows]), shifted(1.0)),
                PROBABILITIES => {
                    let all = predictor.predict_probabilities(x.view()).unwrap_or_default();
                    (json!([rows, all.ncols()]), all.iter().copied().collect())
                }
                _ => (json!([rows]), levels.clone()),
            };
            let mut output = json!({ "name": name, "datatype": "FP64", "shape": shape });
            if request.wants_binary(name) {
                output["parameters"] = json!({ "binary_data_size": 8 * data.len() });
                binary.extend(data.iter().flat_map(|value| value.to_le_bytes()));
            } else {
                output["data"] = json!(data);
            }
            output
        })
        .collect();
    let mut answer = json!({
        "model_name": champion.artifact.card.task,
        "model_version": champion.version.to_string(),
        "outputs": outputs,
    });
    if let Some(id) = request.id {
        answer["id"] = id.into();
    }
    if binary.is_empty() {
        return Ok(Json(answer).into_response());
    }
    let json = answer.to_string();
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
        (JSON_BYTES, json.len().to_string()),
    ];
    Ok((headers, [json.as_bytes(), &binary].concat()).into_response())
}
