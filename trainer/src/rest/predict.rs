//! Predictions for one zone or many.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use service::rest::{JsonBody, Problem, ProblemDetails, QueryParams};
use telemetry::ZoneId;
use utoipa::{IntoParams, ToSchema};

use super::prediction_problem;
use crate::serve::{Prediction, Trainer, ZONES_MAX};

/// Request for one `zone` or many `zones`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PredictQuery {
    /// Zone; the answer is its prediction.
    #[param(value_type = Option<String>, example = "farm/bay-1")]
    zone: Option<ZoneId>,
    /// Zones instead of `zone`, separated by commas, at most 1000; the answer is a list.
    zones: Option<String>,
    /// Number of most important inputs to add to the answer, at most 50.
    explain: Option<usize>,
}

/// Request for one `zone` or many `zones`, in a body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PredictRequest)]
pub(super) struct PredictRequest {
    /// Zone; the answer is its prediction.
    #[schema(value_type = Option<String>, example = "farm/bay-1")]
    zone: Option<ZoneId>,
    /// Zones instead of `zone`, at most 1000; the answer is a list.
    #[schema(value_type = Option<Vec<String>>)]
    zones: Option<Vec<ZoneId>>,
    /// Number of most important inputs to add to the answer, at most 50.
    #[schema(minimum = 0, maximum = 50)]
    explain: Option<usize>,
    /// Conditions to assume instead of the present ones, for one `zone`: metrics or features with
    /// their values, or `irrigation_min`.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, f64>>, example = json!({"heater": 0}))]
    overrides: Option<BTreeMap<String, f64>>,
}

/// One prediction, or one for each requested zone.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = PredictAnswer)]
pub(super) enum PredictAnswer {
    One(Box<Prediction>),
    Many { predictions: Vec<Prediction>, errors: Vec<PredictFailure> },
}

/// Zone without a prediction.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PredictFailure)]
pub(super) struct PredictFailure {
    #[schema(value_type = String, example = "farm/bay-9")]
    zone: ZoneId,
    /// Reason of the failure.
    message: String,
}

/// Predictions of a task from the latest features of a zone or of several zones: the champion's, or
/// the baseline's if the champion's inputs cannot be trusted.
#[utoipa::path(get, path = "/v1/predict/{task}", tag = "predictions",
    params(("task" = String, Path, description = "As `/v1/tasks` lists them", example = "temperature-10m"), PredictQuery),
    responses((status = 200, body = PredictAnswer), (status = 400, body = ProblemDetails),
        (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails),
        (status = 503, body = ProblemDetails)))]
pub(super) async fn asked(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
    QueryParams(PredictQuery { zone, zones, explain }): QueryParams<PredictQuery>,
) -> Result<Json<PredictAnswer>, Problem> {
    let split_zones = zones.map(|zones| zones.split(',').map(str::parse).collect());
    let parsed: Option<Result<Vec<ZoneId>, _>> = split_zones;
    let zones = parsed.transpose().map_err(|error: telemetry::zone::ParseZoneError| {
        Problem::bad_request(format!("zones: {error}"))
    })?;
    let request = PredictRequest { zone, zones, explain, overrides: None };
    predict_zones(&trainer, &task, request).await
}

/// Predictions of a task for zones in a body.
#[utoipa::path(post, path = "/v1/predict/{task}", tag = "predictions",
    params(("task" = String, Path, example = "temperature-10m")), request_body = PredictRequest,
    responses((status = 200, body = PredictAnswer), (status = 400, body = ProblemDetails),
        (status = 404, body = ProblemDetails), (status = 409, body = ProblemDetails),
        (status = 503, body = ProblemDetails)))]
pub(super) async fn posted(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
    JsonBody(posted): JsonBody<PredictRequest>,
) -> Result<Json<PredictAnswer>, Problem> {
    predict_zones(&trainer, &task, posted).await
}

async fn predict_zones(
    trainer: &Trainer,
    task: &str,
    posted: PredictRequest,
) -> Result<Json<PredictAnswer>, Problem> {
    let PredictRequest { zone, zones, explain, overrides } = posted;
    let overrides = overrides.unwrap_or_default();
    let explained_inputs = explain.unwrap_or(0);
    let zones = match (zone, zones) {
        (Some(zone), None) => {
            let prediction = if overrides.is_empty() {
                trainer.predict_with_explanation(task, &zone, explained_inputs).await
            } else {
                trainer.predict_what_if(task, &zone, &overrides, explained_inputs).await
            };
            let prediction = prediction.map_err(prediction_problem)?;
            return Ok(Json(PredictAnswer::One(Box::new(prediction))));
        }
        (None, Some(zones)) => zones,
        _ => {
            return Err(Problem::bad_request("expected either `zone` or `zones`")
                .with_hint("as in ?zone=farm/bay-1 or ?zones=farm/bay-1,farm/bay-2"));
        }
    };
    if !overrides.is_empty() {
        return Err(Problem::bad_request("overrides are for one `zone`, not for `zones`"));
    }
    if zones.len() > ZONES_MAX {
        let what = format!("{} zones in one request, expected at most {ZONES_MAX}", zones.len());
        return Err(Problem::bad_request(what));
    }
    let (mut predictions, mut errors) = (Vec::new(), Vec::new());
    for zone in zones {
        match trainer.predict_with_explanation(task, &zone, explained_inputs).await {
            Ok(prediction) => predictions.push(prediction),
            // An error of the task concerns the whole request.
            Err(
                error @ (crate::PredictError::UnknownTask(_)
                | crate::PredictError::NoChampion { .. }
                | crate::PredictError::Train(_)),
            ) => return Err(prediction_problem(error)),
            Err(error) => errors.push(PredictFailure { zone, message: error.to_string() }),
        }
    }
    Ok(Json(PredictAnswer::Many { predictions, errors }))
}
