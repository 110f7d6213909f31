//! Settings of serving, of the gate and of the model watch.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use service::{Secret, config::ConfigError, tls::TlsClientFiles};

use crate::tasks;

/// Limits beyond which the baseline replaces the prediction, or a warning is added.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingSettings {
    /// Age of features beyond which the baseline is served, seconds; 0 means never.
    pub stale_s: f64,
    /// Share of missing inputs beyond which the baseline is served, 0 to 1. Counts the inputs that
    /// always had a value in training.
    pub missing_max: f64,
    /// Share of inputs outside the training range beyond which the drift flag is set, 0 to 1.
    pub outside_max: f64,
}

impl ServingSettings {
    /// Returns the age from which features are stale, seconds; infinite for never.
    #[must_use]
    pub fn stale_after_s(&self) -> f64 {
        if self.stale_s > 0.0 { self.stale_s } else { f64::INFINITY }
    }
}

/// Settings of the model watch: how models are monitored, and when they are trained again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelWatchSettings {
    /// Whether the model watch runs.
    pub enabled: bool,
    /// Interval between predictions of every zone, seconds.
    pub every_s: u64,
    /// Time after a start during which nothing is trained, seconds.
    pub settle_s: f64,
    /// Interval between trainings, hours; 0 means never.
    pub retrain_every_h: f64,
    /// Whether a task is trained earlier if its inputs drift, or if its champion has become worse
    /// than its baseline.
    pub retrain_on_drift: bool,
    /// Shortest time between two trainings, hours.
    pub retrain_pause_h: f64,
    /// Tasks that are trained again, by their own or their group's names; empty for all.
    pub retrain_tasks: Vec<String>,
    /// Models that are fitted when training again; empty for all.
    pub retrain_models: Vec<String>,
    /// Folder of the journal of predictions, from which they are scored.
    pub journal_dir: PathBuf,
    /// Retention of the journal, days.
    pub journal_days: u32,
    /// Number of versions of a task that are kept beside champion and challenger.
    pub versions_kept: usize,
}

/// Settings of predictions published by MQTT.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherSettings {
    /// Whether predictions are published.
    pub enabled: bool,
    /// Host of the broker.
    pub host: String,
    /// Port of the broker.
    pub port: u16,
    /// Name of the user; empty for none.
    pub user: String,
    /// Password of the user.
    pub password: Secret,
    /// Whether the password may cross the network without TLS.
    pub allow_plaintext_password: bool,
    /// MQTT client id.
    pub client_id: String,
    /// Predictions go to `<topic>/<site>/<zone>/<task>`.
    pub topic: String,
    /// Topic prefix of Home Assistant's discovery; empty to announce no devices.
    pub discovery_prefix: String,
    /// TLS to the broker.
    pub tls: PublisherTls,
}

/// Settings of TLS to the broker. Files are PEM; an empty path means no file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherTls {
    /// Whether TLS is used.
    pub enabled: bool,
    /// Certificate authority of the broker; empty for those of the system.
    pub ca_file: PathBuf,
    /// Client certificate, for a broker that requests one.
    pub cert_file: PathBuf,
    /// Private key of the client certificate.
    pub key_file: PathBuf,
}

impl PublisherTls {
    /// Returns the files in the form that the TLS client takes.
    #[must_use]
    pub fn client_files(&self) -> TlsClientFiles {
        let Self { ca_file, cert_file, key_file, .. } = self.clone();
        TlsClientFiles { ca_file, cert_file, key_file }
    }
}

impl ServingSettings {
    /// Refuses invalid values.
    ///
    /// # Errors
    /// Fails with the key, and the found and expected value.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { stale_s, missing_max, outside_max } = *self;
        check_at_least("serving.stale_s", stale_s, 0.0)?;
        check_share("serving.missing_max", missing_max)?;
        check_share("serving.outside_max", outside_max)
    }
}

impl ModelWatchSettings {
    /// Refuses invalid values.
    ///
    /// # Errors
    /// Fails with the key, and the found and expected value.
    pub fn check(&self) -> Result<(), ConfigError> {
        let whole = |key: &str, value: u64, range: std::ops::RangeInclusive<u64>| {
            let what = format!("{value} is not {} to {}", range.start(), range.end());
            if range.contains(&value) { Ok(()) } else { Err(ConfigError::invalid(key, what)) }
        };
        whole("watch.every_s", self.every_s, 1..=86_400)?;
        whole("watch.journal_days", u64::from(self.journal_days), 3..=3650)?;
        whole("watch.versions_kept", self.versions_kept as u64, 1..=1000)?;
        check_at_least("watch.settle_s", self.settle_s, 0.0)?;
        check_at_least("watch.retrain_every_h", self.retrain_every_h, 0.0)?;
        check_at_least("watch.retrain_pause_h", self.retrain_pause_h, 0.01)?;
        check_known("watch.retrain_tasks", &self.retrain_tasks, &tasks::NAMES)?;
        check_known("watch.retrain_models", &self.retrain_models, &tasks::model_names())
    }
}

impl PublisherSettings {
    /// Refuses invalid values.
    ///
    /// # Errors
    /// Fails with the key, and the found and expected value.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (key, topic) in
            [("mqtt.topic", &self.topic), ("mqtt.discovery_prefix", &self.discovery_prefix)]
        {
            let is_filter = topic.contains(['+', '#']) || topic.starts_with('$');
            let is_empty = topic.is_empty() && key == "mqtt.topic";
            if is_filter || is_empty || topic.ends_with('/') {
                let what = format!("`{topic}` is no topic to publish to, as in home/predictions");
                return Err(ConfigError::invalid(key, what));
            }
        }
        let Self { enabled, host, password, allow_plaintext_password, tls, .. } = self;
        if tls.cert_file.as_os_str().is_empty() != tls.key_file.as_os_str().is_empty() {
            let what = "cert_file and key_file belong together: expected both or none";
            return Err(ConfigError::invalid("mqtt.tls", what));
        }
        let is_local = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_hidden = password.expose_secret().is_none() || tls.enabled || is_local;
        if *enabled && !is_hidden && !allow_plaintext_password {
            let what = format!(
                "{host}: the password would cross the network without encryption\n  \
                 hint: set mqtt.tls.enabled = true, or, where the network itself is trusted, \
                 mqtt.allow_plaintext_password = true"
            );
            return Err(ConfigError::invalid("mqtt.host", what));
        }
        Ok(())
    }
}

/// Refuses a gate that accepts nothing, or everything.
///
/// # Errors
/// Fails with the key, and the found and expected value.
pub fn check_gate(gate: &models::registry::PromotionGate) -> Result<(), ConfigError> {
    let p_max = gate.p_max;
    if !(p_max > 0.0 && p_max <= 0.5) {
        let what = format!("{p_max} is not above 0 and at most 0.5");
        return Err(ConfigError::invalid("gate.p_max", what));
    }
    check_at_least("gate.latency_p99_us_max", gate.latency_p99_us_max, 1.0)
}

fn check_known(key: &str, names: &[String], known: &[&str]) -> Result<(), ConfigError> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let what = format!("there is no `{name}`, expected some of {}", known.join(", "));
            Err(ConfigError::invalid(key, what))
        }
        None => Ok(()),
    }
}

fn check_at_least(key: &str, value: f64, least: f64) -> Result<(), ConfigError> {
    if value.is_finite() && value >= least {
        return Ok(());
    }
    Err(ConfigError::invalid(key, format!("{value} is not {least} or more")))
}

fn check_share(key: &str, value: f64) -> Result<(), ConfigError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::invalid(key, format!("{value} is not a share from 0 to 1")))
}
