//! The feature store's REST API. Every list has a limit and, if it can be longer, pages. Unknown
//! keys of a query or body are refused. Errors have a code and a hint.
//!
//! # Layout
//! - `zones`: zones, metrics, features and counts; `definitions`: feature definitions
//! - `readings`, `kpis`: readings and their KPIs
//! - `latest`, `events`, `feast`: online, from memory
//! - `history`, `dataset`, `explain`, `sql`: offline, from the DuckDB file
//! - `statistics`: statistics of features over a span, and drift
//! - `health`: for supervisors and Prometheus
//! - `request_params`, `table_format`, `problem`: shared parts of requests, answers and errors;
//!   `answer_schemas`: schemas of answers that are encoded by hand

mod answer_schemas;
mod dataset;
mod definitions;
mod events;
mod explain;
mod feast;
mod health;
mod history;
mod kpis;
mod latest;
mod problem;
mod readings;
mod request_params;
mod sql;
mod statistics;
mod table_format;
mod zones;

use axum::Router;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::FeatureStore;

/// Builds all routes of the feature store, to be merged with those of other services.
pub fn routes(store: FeatureStore) -> Router {
    let sql = sql_paths().with_state(sql::SqlEndpointState::new(store.clone()));
    Router::from(feature_paths().with_state(store)).merge(Router::from(sql))
}

/// Builds the routes of a feature store that runs as a separate service.
pub fn service_routes(store: FeatureStore) -> Router {
    let operation = Router::from(operation_paths().with_state(store.clone()));
    routes(store).merge(operation).merge(service::openapi::openapi_routes(openapi()))
}

/// Builds the OpenAPI 3.1 document of all paths.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = feature_paths().into_openapi();
    document.merge(sql_paths().into_openapi());
    document.merge(operation_paths().into_openapi());
    "Microclimate feature store".clone_into(&mut document.info.title);
    document.info.description = Some(
        "Readings, windows over them, and the features of zones: online from memory, offline \
         from DuckDB. Times are UTC; where a service has a token, it is sent as \
         `Authorization: Bearer …`."
            .to_owned(),
    );
    service::openapi::complete_document(document)
}

fn feature_paths() -> OpenApiRouter<FeatureStore> {
    OpenApiRouter::new()
        .routes(routes!(zones::zones))
        .routes(routes!(zones::metrics))
        .routes(routes!(zones::features))
        .routes(routes!(zones::counts))
        .routes(routes!(definitions::definitions))
        .routes(routes!(readings::readings))
        .routes(routes!(readings::quality))
        .routes(routes!(kpis::kpis))
        .routes(routes!(latest::latest))
        .routes(routes!(events::events))
        .routes(routes!(feast::get_online_features))
        .routes(routes!(history::history))
        .routes(routes!(dataset::stored))
        .routes(routes!(dataset::at_points))
        .routes(routes!(explain::explain))
        .routes(routes!(statistics::statistics))
        .routes(routes!(statistics::histogram))
        .routes(routes!(statistics::drift))
}

fn sql_paths() -> OpenApiRouter<sql::SqlEndpointState> {
    OpenApiRouter::new().routes(routes!(sql::sql))
}

fn operation_paths() -> OpenApiRouter<FeatureStore> {
    OpenApiRouter::new()
        .routes(routes!(health::metrics))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}
