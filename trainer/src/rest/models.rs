//! Tasks, their champions, versions and scores.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use serde_json::{Value, json};
use service::rest::Problem;

use crate::{compare::facts, error::TrainError, serve::Trainer, tasks::NAMES};

/// Entries of a log in one answer.
const ENTRIES_MAX: usize = 1000;

pub(super) async fn tasks(State(trainer): State<Trainer>) -> Json<Value> {
    let tasks = NAMES.map(|name| {
        let (title, unit) = facts(name);
        let champion = trainer.champion(name).map(|champion| {
            json!({
                "model": champion.artifact.card.model,
                "version": champion.version,
                "metrics": champion.artifact.card.metrics,
            })
        });
        json!({ "task": name, "title": title, "unit": unit, "champion": champion })
    });
    Json(json!({ "tasks": tasks }))
}

/// The champions in service.
pub(super) async fn models(State(trainer): State<Trainer>) -> Json<Value> {
    let mut models = Vec::new();
    for name in NAMES {
        let Some(champion) = trainer.champion(name) else { continue };
        let card = &champion.artifact.card;
        let inputs = card.schema.features.iter().enumerate();
        let inputs: Vec<Value> = inputs
            .map(|(number, name)| {
                json!({
                    "name": name,
                    "unit": card.facts.input_units.get(number),
                    "range": card.facts.profile.inputs.get(number),
                })
            })
            .collect();
        models.push(json!({
            "task": card.task,
            "model": card.model,
            "version": champion.version,
            "inputs": inputs,
            "schema_hash": card.schema.hash(),
            "unit": card.unit,
            "classes": card.facts.classes,
            "trained_ms": card.trained_ms,
            "data_hash": card.facts.data_hash,
            "rows": card.rows,
            "seed": card.seed,
            "metrics": card.metrics,
            "metric_intervals": card.facts.metric_intervals,
            "code_version": card.code_version,
            "crates": card.facts.crates,
            "settings": card.facts.settings,
            "refused": trainer.refusal(name),
        }));
    }
    Json(json!({ "models": models }))
}

/// All versions of a task.
pub(super) async fn versions(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
) -> Result<Json<Value>, Problem> {
    let known = known(&task)?;
    let listed = blocking(move || {
        let registry = trainer.registry();
        let aliases = registry.aliases(known)?;
        let mut versions = Vec::new();
        for version in registry.versions(known)? {
            // A version that is refused is listed as such.
            versions.push(match registry.card(known, version) {
                Ok((card, bytes)) => json!({
                    "version": version,
                    "model": card.model,
                    "trained_ms": card.trained_ms,
                    "metrics": card.metrics,
                    "size_bytes": bytes,
                    "verdict": registry.verdict(known, version)?,
                }),
                Err(error) => json!({ "version": version, "refused": error.to_string() }),
            });
        }
        Ok(json!({ "task": known, "aliases": aliases, "versions": versions }))
    });
    listed.await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    limit: Option<usize>,
}

/// The newest decisions about a task.
pub(super) async fn log(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
    Query(Last { limit }): Query<Last>,
) -> Result<Json<Value>, Problem> {
    let known = known(&task)?;
    let limit = limit.unwrap_or(50);
    if limit > ENTRIES_MAX {
        let what = format!("limit {limit}, expected at most {ENTRIES_MAX}");
        return Err(Problem::bad_request(what));
    }
    let read = blocking(move || Ok(json!({ "log": trainer.registry().log(known, limit)? })));
    read.await.map(Json)
}

/// How served predictions fared.
pub(super) async fn scores(State(trainer): State<Trainer>) -> Json<Value> {
    Json(json!({ "scores": trainer.scores().all() }))
}

fn known(task: &str) -> Result<&'static str, Problem> {
    NAMES.into_iter().find(|name| *name == task).ok_or_else(|| {
        Problem::not_found(format!("there is no task `{task}`"))
            .hint(format!("the tasks are {}", NAMES.join(", ")))
    })
}

async fn blocking(
    work: impl FnOnce() -> Result<Value, TrainError> + Send + 'static,
) -> Result<Value, Problem> {
    let done = tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?;
    done.map_err(Problem::internal)
}
