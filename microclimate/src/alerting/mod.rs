//! Alerts of this process: what the rules are checked against, and where changes go.
//!
//! Once a second a round is made on a thread for blocking work. It checks the zones with new rows,
//! and every ten seconds everything else: what is silent, what the past had, predictions, the
//! process itself. Then it stores the changes, and only after that tells people of them.
//!
//! # Layout
//! - `alert_service`: the rounds
//! - `alert_journal`: active alerts, how far each zone was evaluated, and what is not stored yet
//! - `past_scan`: rows and anomalies of the past, in the order of time
//! - `shown_alerts`: alerts as REST, MQTT and Alertmanager show them
//! - `rest`: the REST API

mod alert_journal;
mod alert_service;
mod past_scan;
mod rest;
mod shown_alerts;

pub(crate) use alert_service::{AlertService, AlertSources};
pub(crate) use rest::{alert_routes, openapi};
