use std::{collections::HashSet, convert::Infallible};

use axum::{
    Router,
    extract::State,
    http::HeaderMap,
    response::{
        Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use service::rest::{Problem, ProblemDetails, QueryParams};
use telemetry::ZoneId;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};
use utoipa::{IntoParams, openapi::OpenApi};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    StateEvents, ZoneStates,
    events::StateEvent,
    zone_state::StateLevel,
    zone_states::{Overview, StateOrder, StateSelection},
};
use crate::compression::json_response;

/// Largest number of zones in one answer, and the number without `limit`.
const ZONES_MAX: usize = 1000;
const ZONES_DEFAULT: usize = 500;

/// State shared by the handlers.
#[derive(Clone)]
struct OverviewHandles {
    states: ZoneStates,
    events: StateEvents,
}

/// Routes `/v1/overview` and its events.
pub(crate) fn overview_routes(states: ZoneStates, events: StateEvents) -> Router {
    Router::from(paths().with_state(OverviewHandles { states, events }))
}

/// Returns the OpenAPI description of both paths.
pub(crate) fn openapi() -> OpenApi {
    paths().into_openapi()
}

fn paths() -> OpenApiRouter<OverviewHandles> {
    OpenApiRouter::new().routes(routes!(overview)).routes(routes!(overview_events))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OverviewParams {
    /// Only these zones, separated by commas.
    #[param(example = "farm/bay-1,farm/bay-2")]
    zones: Option<String>,
    /// A part of the zone's name.
    search: Option<String>,
    /// Only zones of this site.
    site: Option<String>,
    /// Only zones at these levels, separated by commas: `alarm`, `stale`, `warning`, `notice`, `ok`.
    #[param(example = "alarm,warning")]
    states: Option<String>,
    /// The most urgent first, or by name.
    #[serde(default)]
    #[param(value_type = Option<StateOrder>)]
    sort: StateOrder,
    /// From 0.
    #[serde(default)]
    page: usize,
    /// Zones of a page, 500 without it, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// The state of every zone: how urgent it is and why, its newest values, what comes next.
#[utoipa::path(get, path = "/v1/overview", tag = "overview", params(OverviewParams),
    responses((status = 200, body = Overview), (status = 400, body = ProblemDetails)))]
async fn overview(
    State(handles): State<OverviewHandles>,
    headers: HeaderMap,
    QueryParams(params): QueryParams<OverviewParams>,
) -> Result<Response, Problem> {
    let selection = params.into_selection()?;
    let overview = handles.states.overview(&selection).await;
    json_response(&headers, &overview).map_err(Problem::internal)
}

impl OverviewParams {
    fn into_selection(self) -> Result<StateSelection, Problem> {
        let limit = self.limit.unwrap_or(ZONES_DEFAULT);
        if !(1..=ZONES_MAX).contains(&limit) {
            let what = format!("limit = {limit} is not 1 to {ZONES_MAX}");
            return Err(Problem::bad_request(what));
        }
        Ok(StateSelection {
            zones: parse_zones(self.zones.as_deref())?,
            search: self.search.unwrap_or_default().trim().to_lowercase(),
            site: self.site.filter(|site| !site.is_empty()),
            levels: parse_levels(self.states.as_deref())?,
            order: self.sort,
            page: self.page,
            limit,
        })
    }
}

fn parse_zones(text: Option<&str>) -> Result<Option<Vec<ZoneId>>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let zones: Vec<&str> = text.split(',').collect();
    if zones.len() > ZONES_MAX {
        return Err(Problem::too_large(format!("zones: more than {ZONES_MAX}")));
    }
    let zones: Result<Vec<ZoneId>, _> = zones.into_iter().map(str::parse).collect();
    zones.map(Some).map_err(|error| {
        Problem::bad_request(format!("zones: {error}"))
            .with_hint("as in zones=farm/bay-1,farm/bay-2")
    })
}

fn parse_levels(text: Option<&str>) -> Result<Option<Vec<StateLevel>>, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let level = |name: &str| {
        StateLevel::ALL.into_iter().find(|level| level.as_str() == name).ok_or_else(|| {
            let names: Vec<&str> = StateLevel::ALL.iter().map(|level| level.as_str()).collect();
            let name: String = name.chars().take(60).collect();
            Problem::bad_request(format!("states: there is no `{name}`"))
                .with_hint(format!("there are {}", names.join(", ")))
        })
    };
    text.split(',').map(level).collect::<Result<Vec<_>, _>>().map(Some)
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OverviewEventParams {
    /// Only these zones, separated by commas; every zone without it.
    zones: Option<String>,
    /// The bearer token, for programs that can send no header.
    #[serde(rename = "token")]
    #[expect(dead_code, reason = "read by the frame")]
    token: Option<String>,
}

/// States as they change, as server-sent events: `zones` with states as in `/v1/overview`, at
/// most once a second; `counts` with zones by level; `alerts` with active alerts by state; every 10 s a `beat` with the server's clock
/// and the newest reading of any zone.
#[utoipa::path(get, path = "/v1/overview/events", tag = "overview", params(OverviewEventParams),
    responses((status = 200, content_type = "text/event-stream"),
        (status = 400, body = ProblemDetails)))]
async fn overview_events(
    State(handles): State<OverviewHandles>,
    QueryParams(params): QueryParams<OverviewEventParams>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let zones: Option<HashSet<ZoneId>> =
        parse_zones(params.zones.as_deref())?.map(|zones| zones.into_iter().collect());
    let beat = StateEvent::Beat(handles.events.beat_json());
    let alerts = StateEvent::Alerts(handles.events.alerts_json());
    let changes = BroadcastStream::new(handles.events.subscribe());
    let events = stream::iter([Ok(beat), Ok(alerts)]).chain(changes).filter_map(move |event| {
        let event = match event {
            Ok(StateEvent::Zones(states)) => zones_event(&states, zones.as_ref()),
            Ok(StateEvent::Counts(counts)) => Some(Event::default().event("counts").data(&*counts)),
            Ok(StateEvent::Alerts(counts)) => Some(Event::default().event("alerts").data(&*counts)),
            Ok(StateEvent::Beat(beat)) => Some(Event::default().event("beat").data(&*beat)),
            // A slow client asks for the overview again.
            Err(BroadcastStreamRecvError::Lagged(events)) => {
                Some(Event::default().event("left_out").data(events.to_string()))
            }
        };
        std::future::ready(event.map(Ok))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

/// Returns the states of the wanted zones as an event with a JSON list; `None` if no state is
/// wanted.
fn zones_event(states: &[(ZoneId, String)], wanted: Option<&HashSet<ZoneId>>) -> Option<Event> {
    let own = states.iter().filter(|(zone, _)| wanted.is_none_or(|wanted| wanted.contains(zone)));
    let own: Vec<&str> = own.map(|(_, json)| json.as_str()).collect();
    (!own.is_empty()).then(|| Event::default().event("zones").data(format!("[{}]", own.join(","))))
}
