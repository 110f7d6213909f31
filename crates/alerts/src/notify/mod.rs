//! Messages about alerts.
//!
//! # Layout
//! - `alert_view`: an alert as people and programs see it
//! - [`outbox`]: messages that wait for their receivers, grouped and bounded
//! - [`webhook`]: signed JSON by HTTP
//! - [`email`]: by SMTP
//! - [`alertmanager`]: Prometheus' Alertmanager, by its API v2
//! - [`mqtt`]: retained messages, with Home Assistant's discovery
//! - [`delivery`]: sends what waits, and tries again

mod alert_view;
pub mod alertmanager;
pub mod delivery;
pub mod email;
pub mod mqtt;
pub mod outbox;
pub mod webhook;

use std::time::Duration;

use reqwest::redirect::Policy;
use serde::Serialize;

pub use alert_view::AlertView;

use crate::book::AlertEvent;
use outbox::OutboxMessage;

/// A message about several alerts of one rule and site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlertNotification {
    /// Identifier, the same at each attempt.
    pub id: String,
    /// Time at which it was made, UTC ms.
    pub sent_ms: i64,
    /// In a sentence.
    pub title: String,
    /// Rule of all its alerts.
    pub rule: String,
    /// Site of all its alerts; `null` for the process itself.
    pub site: Option<String>,
    /// Events in their order.
    pub events: Vec<NotifiedEvent>,
}

/// An event in a message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotifiedEvent {
    /// Identifier, the same in every message that has it.
    pub id: String,
    /// The event.
    pub event: AlertEvent,
    /// The alert at the event.
    pub alert: AlertView,
}

impl AlertNotification {
    /// Makes one message of a group, which has at least one entry.
    #[must_use]
    pub fn from_group(group: &[OutboxMessage], sent_ms: i64) -> Self {
        let (first, last) = (&group[0], &group[group.len() - 1]);
        let own = &last.alert;
        let word = match last.event {
            AlertEvent::Fired => own.severity.as_str().to_uppercase(),
            event => event.as_str().to_uppercase(),
        };
        let more = match group.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        Self {
            id: format!("{}-{}", first.id, group.len()),
            sent_ms,
            title: format!("[{word}] {}: {}, {}{more}", own.place(), own.rule, own.message),
            rule: own.rule.to_string(),
            site: own.zone.as_ref().map(|zone| zone.site.to_string()),
            events: group
                .iter()
                .map(|own| NotifiedEvent {
                    id: own.id.clone(),
                    event: own.event,
                    alert: own.alert.clone(),
                })
                .collect(),
        }
    }
}

/// Reason why a message was not delivered. It contains neither URL nor password.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The receiver could not be reached, or did not answer in time.
    #[error("the receiver cannot be reached: {0}")]
    Unreachable(String),
    /// The receiver refused the message, and may accept it later.
    #[error("the receiver answered {0}")]
    Refused(String),
    /// The receiver will never accept the message.
    #[error("the receiver answered {0}; the message is given up")]
    Rejected(String),
    /// The settings do not make a client.
    #[error("no client can be made: {0}")]
    Client(String),
}

/// Makes a client that follows no redirects: a message goes where the settings say, or nowhere.
fn build_http_client(timeout_s: f64) -> Result<reqwest::Client, NotifyError> {
    reqwest::Client::builder()
        .timeout(Duration::from_secs_f64(timeout_s))
        .redirect(Policy::none())
        .user_agent(concat!("microclimate/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| NotifyError::Client(error.without_url().to_string()))
}

/// Sends a request and reads the status of its answer.
async fn send_request(request: reqwest::RequestBuilder) -> Result<(), NotifyError> {
    let answer = request.send().await.map_err(|error| {
        let cause = std::error::Error::source(&error)
            .map_or_else(String::new, |cause| format!(" ({cause})"));
        let what = if error.is_timeout() {
            "no answer in time".to_owned()
        } else {
            "no connection".to_owned()
        };
        NotifyError::Unreachable(
            what + &cause.chars().filter(|c| !c.is_control()).take(200).collect::<String>(),
        )
    })?;
    let status = answer.status();
    match status.as_u16() {
        200..=299 => Ok(()),
        // Too early, too many, or a timeout: worth another attempt, as are errors of the server.
        408 | 425 | 429 | 500..=599 => Err(NotifyError::Refused(status.to_string())),
        _ => Err(NotifyError::Rejected(status.to_string())),
    }
}
