//! Tasks, their champions, versions and scores.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State},
};
use models::{
    artifact::input_profile::InputRange,
    registry::{DecisionRecord, GateVerdict, ModelAliases},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::rest::{Problem, ProblemDetails, QueryParams};
use utoipa::{IntoParams, ToSchema};

use crate::{
    compare::title_and_unit,
    error::TrainError,
    score::Score,
    serve::{Champion, Trainer},
    tasks::NAMES,
};

/// Largest number of log entries in one answer.
const ENTRIES_MAX: usize = 1000;

/// Tasks of the trainer.
#[derive(Serialize, ToSchema)]
pub(super) struct Tasks {
    tasks: Vec<TaskLine>,
}

#[derive(Serialize, ToSchema)]
struct TaskLine {
    #[schema(example = "temperature-10m")]
    task: &'static str,
    /// Title of the task, for people.
    #[schema(example = "temperature in 10 minutes")]
    title: &'static str,
    /// Unit of predictions.
    #[schema(example = "°C")]
    unit: &'static str,
    /// Model in service; null until one was trained.
    champion: Option<TaskChampion>,
    /// Reason why the last comparison in this process had no leaderboard, if it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "no zone was below 20 °C, so there is nothing to learn")]
    not_applicable: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct TaskChampion {
    /// Name of the model.
    #[schema(example = "quantile boosting")]
    model: String,
    version: u64,
    /// Errors and scores on the test set, by name.
    metrics: BTreeMap<String, f64>,
}

/// All tasks, with the champion of each.
#[utoipa::path(get, path = "/v1/tasks", tag = "models",
    responses((status = 200, body = Tasks)))]
pub(super) async fn tasks(State(trainer): State<Trainer>) -> Json<Tasks> {
    let line = |task| {
        let (title, unit) = title_and_unit(task);
        let champion = trainer.champion(task).map(|champion| {
            let card = &champion.artifact.card;
            TaskChampion {
                model: card.model.clone(),
                version: champion.version,
                metrics: card.metrics.clone(),
            }
        });
        let not_applicable = trainer.not_applicable_reason(task).map(|reason| reason.why);
        TaskLine { task, title, unit, champion, not_applicable }
    };
    Json(Tasks { tasks: NAMES.into_iter().map(line).collect() })
}

/// Models in service.
#[derive(Serialize, ToSchema)]
pub(super) struct Models {
    models: Vec<Model>,
}

/// Model in service with its inputs, origin and errors.
#[derive(Serialize, ToSchema)]
struct Model {
    task: String,
    /// Name of the model.
    model: String,
    version: u64,
    inputs: Vec<ModelInput>,
    /// Hash of the names and order of inputs.
    schema_hash: String,
    /// Unit of predictions.
    unit: String,
    /// Classes in the order of their indices, if it predicts classes.
    classes: Vec<String>,
    /// First and last event time of its training rows, UTC ms.
    #[schema(value_type = [i64; 2])]
    trained_ms: (i64, i64),
    /// SHA-256 over its training rows.
    data_hash: String,
    /// Number of training rows.
    rows: usize,
    seed: u64,
    /// Errors and scores on the test set, by name.
    metrics: BTreeMap<String, f64>,
    /// 95 % intervals of the metrics.
    metric_intervals: BTreeMap<String, [f64; 2]>,
    /// Version of the program that trained the model.
    code_version: String,
    /// Versions of the libraries that fit models.
    crates: BTreeMap<String, String>,
    /// Settings of the training.
    #[schema(value_type = Object)]
    settings: Value,
    /// Reason why the registry's champion is not served instead.
    refused: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct ModelInput {
    #[schema(example = "temperature_slope_10m")]
    name: String,
    #[schema(example = "°C/h")]
    unit: Option<String>,
    /// Values in training: `low`, `median`, `high`, and the share that was `missing`.
    #[schema(value_type = Option<BTreeMap<String, f64>>)]
    range: Option<InputRange>,
}

impl Model {
    fn from_champion(champion: &Champion, refused: Option<String>) -> Self {
        let card = &champion.artifact.card;
        let facts = &card.facts;
        let input = |(number, name): (usize, &String)| ModelInput {
            name: name.clone(),
            unit: facts.input_units.get(number).cloned(),
            range: facts.profile.inputs.get(number).copied(),
        };
        Self {
            task: card.task.clone(),
            model: card.model.clone(),
            version: champion.version,
            inputs: card.schema.features.iter().enumerate().map(input).collect(),
            schema_hash: card.schema.schema_hash(),
            unit: card.unit.clone(),
            classes: facts.classes.clone(),
            trained_ms: card.trained_ms,
            data_hash: facts.data_hash.clone(),
            rows: card.rows,
            seed: card.seed,
            metrics: card.metrics.clone(),
            metric_intervals: facts.metric_intervals.clone(),
            code_version: card.code_version.clone(),
            crates: facts.crates.clone(),
            settings: facts.settings.clone(),
            refused,
        }
    }
}

/// The champions in service, with the facts of their training.
#[utoipa::path(get, path = "/v1/models", tag = "models",
    responses((status = 200, body = Models)))]
pub(super) async fn models(State(trainer): State<Trainer>) -> Json<Models> {
    let model = |name| {
        let champion = trainer.champion(name)?;
        Some(Model::from_champion(&champion, trainer.refusal_reason(name)))
    };
    Json(Models { models: NAMES.into_iter().filter_map(model).collect() })
}

/// Versions of a task in the registry.
#[derive(Serialize, ToSchema)]
pub(super) struct Versions {
    task: &'static str,
    /// `champion` and `challenger`, the champions `before`, and the `newest` version.
    #[schema(value_type = Object)]
    aliases: ModelAliases,
    versions: Vec<Version>,
}

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Version {
    Kept(Box<KeptVersion>),
    /// Version whose file cannot be served.
    Refused {
        version: u64,
        /// Reason of the refusal.
        refused: String,
    },
}

#[derive(Serialize, ToSchema)]
struct KeptVersion {
    version: u64,
    /// Name of the model.
    model: String,
    /// First and last event time of its training rows, UTC ms.
    #[schema(value_type = [i64; 2])]
    trained_ms: (i64, i64),
    /// Errors and scores on the test set, by name.
    metrics: BTreeMap<String, f64>,
    size_bytes: usize,
    /// Evidence and decision of the gate.
    #[schema(value_type = Option<Object>)]
    verdict: Option<GateVerdict>,
}

/// All versions of a task.
#[utoipa::path(get, path = "/v1/models/{task}", tag = "models",
    params(("task" = String, Path, example = "temperature-10m")),
    responses((status = 200, body = Versions), (status = 404, body = ProblemDetails)))]
pub(super) async fn versions(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
) -> Result<Json<Versions>, Problem> {
    let task = find_task_name(&task)?;
    let listed = run_blocking(move || {
        let registry = trainer.registry();
        let aliases = registry.current_aliases(task)?;
        let mut versions = Vec::new();
        for version in registry.list_versions(task)? {
            // A version that is refused is listed as such.
            versions.push(match registry.load_card(task, version) {
                Ok((card, size_bytes)) => Version::Kept(Box::new(KeptVersion {
                    version,
                    model: card.model,
                    trained_ms: card.trained_ms,
                    metrics: card.metrics,
                    size_bytes,
                    verdict: registry.last_verdict(task, version)?,
                })),
                Err(error) => Version::Refused { version, refused: error.to_string() },
            });
        }
        Ok(Versions { task, aliases, versions })
    });
    listed.await.map(Json)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DecisionLogQuery {
    /// Largest number of decisions, at most 1000; 50 if omitted.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Decisions about a task, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Decisions {
    /// Decisions, each with `number`, `at_ms`, `who`, `what`, `version`, `why`, `evidence` if the
    /// gate was asked, and the `aliases` after it.
    #[schema(value_type = Vec<Object>)]
    log: Vec<DecisionRecord>,
}

/// The latest decisions about a task: when, who, what and why.
#[utoipa::path(get, path = "/v1/models/{task}/log", tag = "models",
    params(("task" = String, Path, example = "temperature-10m"), DecisionLogQuery),
    responses((status = 200, body = Decisions), (status = 400, body = ProblemDetails),
        (status = 404, body = ProblemDetails)))]
pub(super) async fn log(
    State(trainer): State<Trainer>,
    Path(task): Path<String>,
    QueryParams(DecisionLogQuery { limit }): QueryParams<DecisionLogQuery>,
) -> Result<Json<Decisions>, Problem> {
    let task = find_task_name(&task)?;
    let entries = limit.unwrap_or(50);
    if !(1..=ENTRIES_MAX).contains(&entries) {
        let what = format!("limit = {entries} is not 1 to {ENTRIES_MAX}");
        return Err(Problem::bad_request(what));
    }
    let read = run_blocking(move || {
        Ok(Decisions { log: trainer.registry().recent_decisions(task, entries)? })
    });
    read.await.map(Json)
}

/// Scores of served predictions.
#[derive(Serialize, ToSchema)]
pub(super) struct Scores {
    scores: Vec<Score>,
}

/// Scores of the champions' served predictions, once the actual values are known.
#[utoipa::path(get, path = "/v1/scores", tag = "models",
    responses((status = 200, body = Scores)))]
pub(super) async fn scores(State(trainer): State<Trainer>) -> Json<Scores> {
    Json(Scores { scores: trainer.scores().all_scores() })
}

fn find_task_name(task: &str) -> Result<&'static str, Problem> {
    NAMES.into_iter().find(|name| *name == task).ok_or_else(|| {
        Problem::not_found(format!("there is no task `{task}`"))
            .with_code("unknown_task")
            .with_hint(format!("the tasks are {}", NAMES.join(", ")))
    })
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TrainError> + Send + 'static,
) -> Result<T, Problem> {
    let result = tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?;
    result.map_err(Problem::internal)
}
