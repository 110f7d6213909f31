//! The state of all zones at once: what the page's overview and its one event stream show.
//!
//! # Layout
//! - `zone_state`: from a zone's newest features and predictions to its state and the reasons
//! - `zone_states`: the states of all zones, counted, filtered, sorted and paged
//! - `events`: states as they change, as server-sent events
//! - `rest`: both over HTTP

mod events;
mod rest;
mod zone_state;
mod zone_states;

pub(crate) use events::StateEvents;
pub(crate) use rest::{openapi, overview_routes};
pub(crate) use zone_states::{ZoneStates, now_ms};
