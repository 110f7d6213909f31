use std::convert::Infallible;

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use service::rest::{Problem, ProblemDetails, QueryParams};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use utoipa::IntoParams;

use super::request_params;
use crate::{FeatureRow, FeatureStore, RowStatus};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventParams {
    /// Zones, separated by commas; default: all zones.
    zones: Option<String>,
    /// Features, separated by commas; default: the newest values (`…_last`).
    names: Option<String>,
    /// Bearer token, for browsers, whose `EventSource` cannot send headers.
    #[serde(rename = "token")]
    #[expect(dead_code, reason = "read by the frame")]
    token: Option<String>,
}

/// Server-sent events of rows as they change.
///
/// `row` carries a row of `/v1/features/latest`. `left_out` carries the number of rows that a
/// slow reader has missed.
#[utoipa::path(get, path = "/v1/events", tag = "online", params(EventParams),
    responses((status = 200, content_type = "text/event-stream"),
        (status = 400, body = ProblemDetails)))]
pub(super) async fn events(
    State(store): State<FeatureStore>,
    QueryParams(params): QueryParams<EventParams>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let zones = request_params::parse_zones(params.zones.as_deref())?;
    let names = request_params::parse_names(params.names.as_deref())?;
    let stream = BroadcastStream::new(store.subscribe_rows()).filter_map(move |row| {
        let event = match row {
            Ok(row) if zones.as_ref().is_none_or(|zones| zones.contains(&row.zone)) => {
                let wanted = |name: &str| match &names {
                    Some(names) => names.iter().any(|requested| requested == name),
                    None => name.ends_with("_last"),
                };
                Some(Event::default().event("row").data(row_as_json(&row, wanted).to_string()))
            }
            Ok(_) => None,
            Err(BroadcastStreamRecvError::Lagged(rows)) => {
                Some(Event::default().event("left_out").data(rows.to_string()))
            }
        };
        std::future::ready(event.map(Ok))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

/// Encodes a row with the features that `wanted` accepts.
fn row_as_json(row: &FeatureRow, wanted: impl Fn(&str) -> bool) -> Value {
    let named = row.schema.names.iter().zip(row.values.iter());
    let features: serde_json::Map<String, Value> = named
        .filter(|(name, _)| wanted(name))
        .map(|(name, value)| (name.to_string(), json!(Some(*value).filter(|v| v.is_finite()))))
        .collect();
    json!({
        "zone": row.zone,
        "at_ms": row.at_ms,
        "status": RowStatus::Provisional,
        "schema_hash": row.schema.hash,
        "features": features,
    })
}
