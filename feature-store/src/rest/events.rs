use std::convert::Infallible;

use axum::{
    extract::{Query, State},
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt};
use service::rest::Problem;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use super::{
    as_json,
    query::{self, EventParams},
};
use crate::FeatureStore;

/// Rows as they change: only newest values, unless names are given. Whoever
/// falls behind is told how many rows were left out.
pub(super) async fn events(
    State(store): State<FeatureStore>,
    Query(params): Query<EventParams>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let zones = query::zones(params.zones.as_deref())?;
    let names = query::list(params.names.as_deref());
    let stream = BroadcastStream::new(store.subscribe()).filter_map(move |row| {
        let event = match row {
            Ok(row) if zones.as_ref().is_none_or(|zones| zones.contains(&row.zone)) => {
                let wanted = |name: &str| match &names {
                    Some(names) => names.iter().any(|own| own == name),
                    None => name.ends_with("_last"),
                };
                Some(Event::default().event("row").data(as_json(&row, wanted).to_string()))
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
