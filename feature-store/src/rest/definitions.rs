use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use service::rest::{Problem, ProblemDetails, QueryParams};
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
    /// Features whose lineage is wanted, separated by commas.
    #[param(example = "temperature_slope_1h,vpd_kpa")]
    names: Option<String>,
    /// Without `names`: only features after this one, which is the `next` of the previous answer.
    after: Option<String>,
    /// Without `names`: largest number of features; default: 1000.
    limit: Option<usize>,
}

/// Feature definitions, with their versions and lineage.
#[derive(Serialize, ToSchema)]
pub(super) struct Definitions {
    /// SHA-256 over the definitions and the version of the computation.
    #[schema(value_type = String)]
    hash: SmolStr,
    /// Hash of the present columns.
    #[schema(value_type = String)]
    schema_hash: SmolStr,
    /// `features.toml` as JSON.
    #[schema(value_type = Object)]
    definitions: crate::definitions::FeatureDefinitions,
    /// Versions that have rows, oldest first. Requests for rows take the number as `version`.
    versions: Vec<VersionLine>,
    /// Lineage of each feature, in the order of columns.
    lineage: Vec<FeatureLineage>,
    /// Name of the last of these features, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A version of the definitions that has rows.
#[derive(Serialize, ToSchema)]
struct VersionLine {
    /// Number of the version, from 1 on.
    version: i32,
    /// Hash of the definitions; empty if it is not known.
    hash: String,
    /// When the computation of its rows began, RFC 3339.
    #[schema(example = "2025-06-02T10:00:00.25Z")]
    created: String,
    /// Whether new rows are computed with it. The rows of other versions no longer change.
    is_active: bool,
}

impl From<FeatureVersion> for VersionLine {
    fn from(FeatureVersion { number, hash, created, is_active }: FeatureVersion) -> Self {
        Self { version: number, hash, created: created.replace(' ', "T") + "Z", is_active }
    }
}

/// Feature definitions with their hash, and the lineage of each feature.
#[utoipa::path(get, path = "/v1/definitions", tag = "what there is", params(DefinitionsParams),
    responses((status = 200, body = Definitions), (status = 400, body = ProblemDetails)))]
pub(super) async fn definitions(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<DefinitionsParams>,
) -> Result<Json<Definitions>, Problem> {
    let limit = request_params::resolve_limit(params.limit, 1000, store.rows_max())?;
    let schema = store.schema();
    let known = || schema.names.iter().map(SmolStr::as_str);
    let (names, next) = match request_params::split_list("names", params.names.as_deref())? {
        Some(names) => {
            if let Some(unknown) =
                names.iter().find(|name| !known().any(|known_name| known_name == **name))
            {
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
    // An empty list of names would mean all features.
    let lineage = match &names[..] {
        [] => Vec::new(),
        names => trace_lineage(&definitions, store.metrics(), names),
    };
    let versions_store = store.clone();
    let versions = run_blocking(move || versions_store.read_versions()).await?;
    Ok(Json(Definitions {
        versions: versions.into_iter().map(VersionLine::from).collect(),
        hash: definitions.compute_hash(),
        schema_hash: schema.hash.clone(),
        definitions: (*definitions).clone(),
        lineage,
        next,
    }))
}
