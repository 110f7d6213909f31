use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Problem, ProblemAnswer, QueryParams};
use telemetry::SmolStr;
use utoipa::{IntoParams, ToSchema};

use super::{
    problem::{problem_of_error, run_blocking},
    request_params,
};
use crate::{
    FeatureStore, FeatureVersion,
    definitions::{FeatureLineage, trace_lineage},
    store,
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DefinitionsParams {
    /// Only the lineage of these features, separated by commas.
    #[param(example = "temperature_slope_1h,vpd_kpa")]
    names: Option<String>,
    /// Without `names`: only the lineage of what follows this feature, the `next` of the
    /// answer before.
    after: Option<String>,
    /// Without `names`: the lineage of at most this many features, 1000 without it.
    limit: Option<usize>,
}

/// What is computed of every zone's readings.
#[derive(Serialize, ToSchema)]
pub(super) struct Definitions {
    /// SHA-256 over what is defined and how this program computes it.
    #[schema(value_type = String)]
    hash: SmolStr,
    /// Of the columns that there are so far.
    #[schema(value_type = String)]
    schema_hash: SmolStr,
    /// `features.toml` as JSON.
    #[schema(value_type = Object)]
    definitions: crate::definitions::FeatureDefinitions,
    /// Those that there are rows of, oldest first: give the number as `version` where rows
    /// are read.
    versions: Vec<VersionLine>,
    /// What each feature is made of, in the order of columns.
    lineage: Vec<FeatureLineage>,
    /// The last of these features, where there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Definitions that there are rows of.
#[derive(Serialize, ToSchema)]
struct VersionLine {
    /// From 1 on.
    version: i32,
    /// Of the definitions; empty where they are not known.
    hash: String,
    /// When its rows began to be made, RFC 3339.
    #[schema(example = "2025-06-02T10:00:00.25Z")]
    created: String,
    /// Whether new rows are of it. Others are as they were when it was left.
    is_active: bool,
}

impl From<FeatureVersion> for VersionLine {
    fn from(FeatureVersion { number, hash, created, is_active }: FeatureVersion) -> Self {
        Self { version: number, hash, created: created.replace(' ', "T") + "Z", is_active }
    }
}

/// The definitions of features with their hash, and the lineage of each feature.
#[utoipa::path(get, path = "/v1/definitions", tag = "what there is", params(DefinitionsParams),
    responses((status = 200, body = Definitions), (status = 400, body = ProblemAnswer)))]
pub(super) async fn definitions(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<DefinitionsParams>,
) -> Result<Json<Definitions>, Problem> {
    let limit = request_params::resolve_limit(params.limit, 1000, store.rows_max())?;
    let schema = store.schema();
    let known = || schema.names.iter().map(SmolStr::as_str);
    let (names, next) = match request_params::split_list("names", params.names.as_deref())? {
        Some(names) => {
            if let Some(unknown) = names.iter().find(|name| !known().any(|own| own == **name)) {
                return Err(problem_of_error(store::unknown_feature_error(unknown, known())));
            }
            (names, None)
        }
        None => {
            let (page, next) =
                request_params::page_of_names(&schema.names, params.after.as_deref(), limit)?;
            (page.iter().map(SmolStr::as_str).collect(), next)
        }
    };
    let definitions = store.definitions();
    // Of no names it would be that of all.
    let lineage = match &names[..] {
        [] => Vec::new(),
        names => trace_lineage(&definitions, store.metrics(), names),
    };
    let own = store.clone();
    let versions = run_blocking(move || own.read_versions()).await?;
    Ok(Json(Definitions {
        versions: versions.into_iter().map(VersionLine::from).collect(),
        hash: definitions.compute_hash(),
        schema_hash: schema.hash.clone(),
        definitions: (*definitions).clone(),
        lineage,
        next,
    }))
}
