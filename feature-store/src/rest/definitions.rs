use axum::{Json, extract::State};
use serde::Serialize;
use telemetry::SmolStr;
use utoipa::ToSchema;

use crate::FeatureStore;

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
    definitions: crate::definitions::Definitions,
}

/// The definitions of features, and their hash.
#[utoipa::path(get, path = "/v1/definitions", tag = "what there is",
    responses((status = 200, body = Definitions)))]
pub(super) async fn definitions(State(store): State<FeatureStore>) -> Json<Definitions> {
    let definitions = store.definitions();
    Json(Definitions {
        hash: definitions.hash(),
        schema_hash: store.schema().hash.clone(),
        definitions: (*definitions).clone(),
    })
}
