//! The feature store over HTTP.

mod events;
mod problem;
mod query;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::header,
    response::IntoResponse,
    routing::get,
};
use polars::prelude::ParquetWriter;
use serde_json::{Value, json};
use service::rest::Problem;

use crate::{
    FeatureStore, Row,
    kpi::KpiQuery,
    online::Status,
    store::{FrameQuery, HistoryQuery, ReadingQuery},
};
use problem::blocking;
use query::{DatasetParams, HistoryParams, KpiParams, LatestParams, ReadingParams};

/// All paths of the feature store, to be merged with those of other services.
pub fn routes(store: FeatureStore) -> Router {
    Router::new()
        .route("/v1/zones", get(zones))
        .route("/v1/metrics", get(metrics))
        .route("/v1/features", get(features))
        .route("/v1/features/latest", get(latest))
        .route("/v1/features/history", get(history))
        .route("/v1/readings", get(readings))
        .route("/v1/quality", get(quality))
        .route("/v1/kpis", get(kpis))
        .route("/v1/counts", get(counts))
        .route("/v1/dataset.parquet", get(dataset))
        .route("/v1/events", get(events::events))
        .with_state(store)
}

async fn zones(State(store): State<FeatureStore>) -> Json<Value> {
    let table = store.metrics();
    let unit = |metric: &str| table.get(metric).map(|known| known.unit.as_str());
    let zones: Vec<Value> = store
        .zones()
        .iter()
        .map(|zone| {
            let metrics: Vec<Value> =
                zone.metrics.iter().map(|m| json!({ "metric": m, "unit": unit(m) })).collect();
            json!({
                "zone": zone.zone,
                "metrics": metrics,
                "latest_ms": zone.latest_ms,
                "final_ms": zone.final_ms,
            })
        })
        .collect();
    Json(json!({ "zones": zones }))
}

async fn metrics(State(store): State<FeatureStore>) -> Json<Value> {
    Json(json!({ "metrics": store.metrics() }))
}

async fn features(State(store): State<FeatureStore>) -> Json<Value> {
    let schema = store.schema();
    Json(json!({ "schema_hash": schema.hash, "features": schema.names }))
}

async fn counts(State(store): State<FeatureStore>) -> Json<Value> {
    Json(json!(store.counts()))
}

async fn latest(
    State(store): State<FeatureStore>,
    Query(params): Query<LatestParams>,
) -> Result<Json<Value>, Problem> {
    let names = params.names();
    let shown =
        |row: &Row| as_json(row, |name| names.as_ref().is_none_or(|names| names.contains(&name)));
    let mut rows = Vec::new();
    match params.zones()? {
        Some(zones) => {
            for zone in zones {
                let Some(row) = store.latest(&zone) else {
                    let what = format!("there are no features of zone `{zone}`");
                    return Err(Problem::not_found(what)
                        .hint("GET /v1/zones lists the zones that there are"));
                };
                rows.push(shown(&row));
            }
        }
        // A zone whose every reading was flagged has no row.
        None => rows.extend(
            store.zones().iter().filter_map(|zone| store.latest(&zone.zone)).map(|row| shown(&row)),
        ),
    }
    Ok(Json(json!({ "rows": rows })))
}

/// A row with the features that `wanted` wants.
fn as_json(row: &Row, wanted: impl Fn(&str) -> bool) -> Value {
    let named = row.schema.names.iter().zip(row.values.iter());
    let features: serde_json::Map<String, Value> = named
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.to_string(), json!(Some(*value).filter(|v| v.is_finite()))))
        .collect();
    json!({
        "zone": row.zone,
        "at_ms": row.at_ms,
        "status": Status::Provisional,
        "schema_hash": row.schema.hash,
        "features": features,
    })
}

async fn history(
    State(store): State<FeatureStore>,
    Query(params): Query<HistoryParams>,
) -> Result<Json<Value>, Problem> {
    let zone = params.zone.clone();
    let query = HistoryQuery {
        zone: zone.clone(),
        frame: FrameQuery {
            zones: None,
            from_ms: query::time(params.from.as_deref())?,
            to_ms: query::time(params.to.as_deref())?,
            columns: query::list(params.names.as_deref()),
            step_s: query::step(params.step_s)?,
        },
        limit: query::limit(params.limit, 1000, store.rows_max())?,
    };
    let rows = blocking(move || store.history(&query)).await?;
    Ok(Json(json!({ "zone": zone, "rows": rows })))
}

async fn readings(
    State(store): State<FeatureStore>,
    Query(params): Query<ReadingParams>,
) -> Result<Json<Value>, Problem> {
    let query = ReadingQuery {
        zone: params.zone.clone(),
        metric: params.metric.clone(),
        quality: params.quality.clone(),
        from_ms: query::time(params.from.as_deref())?,
        to_ms: query::time(params.to.as_deref())?,
        limit: query::limit(params.limit, 100, store.rows_max())?,
    };
    let readings = blocking(move || store.readings(&query)).await?;
    Ok(Json(json!({ "readings": readings })))
}

async fn quality(State(store): State<FeatureStore>) -> Result<Json<Value>, Problem> {
    let counts = blocking(move || store.quality()).await?;
    Ok(Json(json!({ "quality": counts })))
}

async fn kpis(
    State(store): State<FeatureStore>,
    Query(params): Query<KpiParams>,
) -> Result<Json<Value>, Problem> {
    let limit = query::limit(params.limit, 200, store.rows_max())?;
    let query = KpiQuery {
        zone: params.zone.clone(),
        length: params.period,
        from_ms: query::time(params.from.as_deref())?,
        to_ms: query::time(params.to.as_deref())?,
        limit,
    };
    let kpis = blocking(move || store.kpis(&query)).await?;
    Ok(Json(json!({ "zone": params.zone, "kpis": kpis })))
}

async fn dataset(
    State(store): State<FeatureStore>,
    Query(params): Query<DatasetParams>,
) -> Result<impl IntoResponse, Problem> {
    let query = FrameQuery {
        zones: query::zones(params.zones.as_deref())?,
        from_ms: query::time(params.from.as_deref())?,
        to_ms: query::time(params.to.as_deref())?,
        columns: query::list(params.columns.as_deref()),
        step_s: query::step(params.step_s)?,
    };
    let bytes = blocking(move || {
        let mut frame = store.frame(&query)?;
        let mut bytes = Vec::new();
        ParquetWriter::new(&mut bytes).finish(&mut frame)?;
        Ok(bytes)
    })
    .await?;
    Ok(([(header::CONTENT_TYPE, "application/vnd.apache.parquet")], bytes))
}
