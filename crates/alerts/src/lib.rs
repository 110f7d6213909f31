//! Alerts: which conditions need a person, in which state each is, and who hears of it.
//!
//! A rule is checked against observations. An observation has an event time, and only event times
//! move an alert: a reading that is older than the newest one of an alert changes nothing, and
//! readings of the past never notify anybody. So neither a restart nor a backlog nor a replay
//! makes a false alert.
//!
//! **Invariant:** nothing here reads a clock except [`notify`]; callers pass the time.
//!
//! # Layout
//! In the order in which an observation meets them:
//! - [`settings`]: the configuration, raw and checked
//! - [`rule`]: checked rules; `raw_rule`: rules as they are written, with the built-in ones
//! - [`mute`]: schedules in which nobody is notified
//! - [`zone_checks`]: from a zone's features and predictions to observations
//! - [`system_checks`]: from lag, spool, disk and clocks to observations
//! - [`silence`]: how long the process has been listening, and how long a zone has been silent
//! - [`alert`]: alerts, active and past
//! - [`lifecycle`]: pending, firing, resolved: one step of one alert
//! - [`book`]: all alerts, bounded, with what each round changed
//! - [`store`]: the trait of the place where they are kept
//! - [`notify`]: messages by MQTT, webhook, e-mail and Alertmanager
//! - [`exposition`]: alerts as metrics for Prometheus

pub mod alert;
pub mod book;
pub mod exposition;
pub mod lifecycle;
pub mod mute;
pub mod notify;
mod raw_rule;
pub mod rule;
pub mod settings;
pub mod silence;
pub mod store;
pub mod system_checks;
pub mod zone_checks;

pub use alert::{
    AcknowledgedBy, ActiveAlert, AlertId, AlertKey, AlertOutcome, AlertSeverity, AlertState,
    PastAlert,
};
pub use book::{AlertBook, AlertChange, AlertEvent};
pub use lifecycle::{AlertObservation, ConditionLevel};
pub use rule::{AlertCondition, AlertRule, NamedLimit};
pub use settings::{AlertSettings, CheckedAlerts};
pub use store::{AlertBatch, AlertHistoryQuery, AlertStore, AlertStoreError, StoredAlerts};
