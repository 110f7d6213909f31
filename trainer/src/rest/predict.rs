//! Predictions for one zone or many.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::{Deserialize, Serialize};
use service::rest::Problem;
use telemetry::ZoneId;

use super::problem;
use crate::serve::{Prediction, Trainer, ZONES_MAX};

/// A request: one `zone`, or many `zones`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    zone: Option<ZoneId>,
    /// In a query separated by commas.
    zones: Option<String>,
    explain: Option<usize>,
}

/// The same in a body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Posted {
    zone: Option<ZoneId>,
    zones: Option<Vec<ZoneId>>,
    explain: Option<usize>,
}

/// One prediction, or one for each zone that was asked for.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Answer {
    One(Box<Prediction>),
    Many { predictions: Vec<Prediction>, errors: Vec<Failure> },
}

/// A zone without a prediction.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    zone: ZoneId,
    message: String,
}

pub(super) async fn asked(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
    Query(Asked { zone, zones, explain }): Query<Asked>,
) -> Result<Json<Answer>, Problem> {
    let parsed = zones.map(|zones| zones.split(',').map(str::parse).collect());
    let zones: Option<Result<Vec<ZoneId>, _>> = parsed;
    let zones = zones.transpose().map_err(|error: telemetry::zone::ParseZoneError| {
        Problem::bad_request(format!("zones: {error}"))
    })?;
    answer(&trainer, &task, Posted { zone, zones, explain }).await
}

pub(super) async fn posted(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
    Json(posted): Json<Posted>,
) -> Result<Json<Answer>, Problem> {
    answer(&trainer, &task, posted).await
}

async fn answer(trainer: &Trainer, task: &str, posted: Posted) -> Result<Json<Answer>, Problem> {
    let Posted { zone, zones, explain } = posted;
    let explain = explain.unwrap_or(0);
    let zones = match (zone, zones) {
        (Some(zone), None) => {
            let said = trainer.explained(task, &zone, explain).await.map_err(problem)?;
            return Ok(Json(Answer::One(Box::new(said))));
        }
        (None, Some(zones)) => zones,
        _ => {
            return Err(Problem::bad_request("expected either `zone` or `zones`")
                .hint("as in ?zone=farm/bay-1 or ?zones=farm/bay-1,farm/bay-2"));
        }
    };
    if zones.len() > ZONES_MAX {
        let what = format!("{} zones in one request, expected at most {ZONES_MAX}", zones.len());
        return Err(Problem::bad_request(what));
    }
    let (mut predictions, mut errors) = (Vec::new(), Vec::new());
    for zone in zones {
        match trainer.explained(task, &zone, explain).await {
            Ok(said) => predictions.push(said),
            // What is wrong with the task is wrong with the request.
            Err(
                error @ (crate::PredictError::UnknownTask(_)
                | crate::PredictError::NoChampion(_)
                | crate::PredictError::Train(_)),
            ) => return Err(problem(error)),
            Err(error) => errors.push(Failure { zone, message: error.to_string() }),
        }
    }
    Ok(Json(Answer::Many { predictions, errors }))
}
