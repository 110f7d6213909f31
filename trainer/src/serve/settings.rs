//! What serving, the gate and the watch are set to.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};
use service::{Secret, config::ConfigError, tls::TlsClientFiles};

use crate::tasks;

/// When a prediction is the baseline's, or a warning stands beside it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingSettings {
    /// Features older than this are answered by the baseline, seconds; 0 means
    /// never.
    pub stale_s: f64,
    /// So is a row that lacks more than this share of the inputs that always
    /// were there in training, 0 to 1.
    pub missing_max: f64,
    /// A larger share of inputs outside what training saw raises the drift
    /// flag, 0 to 1.
    pub outside_max: f64,
}

impl ServingSettings {
    /// The age of features from which on they are stale, seconds; infinite for never.
    #[must_use]
    pub fn stale_after_s(&self) -> f64 {
        if self.stale_s > 0.0 { self.stale_s } else { f64::INFINITY }
    }
}

/// How models are watched, and when they are trained again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelWatchSettings {
    /// Whether at all.
    pub enabled: bool,
    /// Every zone is predicted this often, seconds.
    pub every_s: u64,
    /// After a start nothing is trained for so long, seconds.
    pub settle_s: f64,
    /// Models are trained again this often, hours; 0 means never.
    pub retrain_every_h: f64,
    /// Whether a task whose inputs drift, or whose champion has become worse
    /// than its baseline, is trained again before.
    pub retrain_on_drift: bool,
    /// But not more often than this, hours.
    pub retrain_pause_h: f64,
    /// Only these tasks are trained again, by their own or their group's names; all
    /// where there are none.
    pub retrain_tasks: Vec<String>,
    /// Only these models are fitted then; all where there are none.
    pub retrain_models: Vec<String>,
    /// Predictions are written there, so that they can be scored.
    pub journal_dir: PathBuf,
    /// For so many days.
    pub journal_days: u32,
    /// Versions of a task that stay beside champion and challenger.
    pub versions_kept: usize,
}

/// Predictions by MQTT.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherSettings {
    /// Whether at all.
    pub enabled: bool,
    /// The broker's host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Empty for none.
    pub user: String,
    /// Of the user.
    pub password: Secret,
    /// Whether the password may cross the network without TLS.
    pub allow_plaintext_password: bool,
    /// Of this client.
    pub client_id: String,
    /// Predictions go to `<topic>/<site>/<zone>/<task>`.
    pub topic: String,
    /// Where Home Assistant looks for devices; empty to tell it nothing.
    pub discovery_prefix: String,
    /// TLS to the broker.
    pub tls: PublisherTls,
}

/// TLS to the broker; files are PEM, empty ones are not given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherTls {
    /// Whether at all.
    pub enabled: bool,
    /// The authority of the broker's certificate; empty for those of the system.
    pub ca_file: PathBuf,
    /// What the broker is shown, where it asks for a certificate.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

impl PublisherTls {
    /// The files as TLS wants them.
    #[must_use]
    pub fn client_files(&self) -> TlsClientFiles {
        let Self { ca_file, cert_file, key_file, .. } = self.clone();
        TlsClientFiles { ca_file, cert_file, key_file }
    }
}

impl ServingSettings {
    /// Refuses values that have no meaning.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self { stale_s, missing_max, outside_max } = *self;
        check_at_least("serving.stale_s", stale_s, 0.0)?;
        check_share("serving.missing_max", missing_max)?;
        check_share("serving.outside_max", outside_max)
    }
}

impl ModelWatchSettings {
    /// Refuses values that have no meaning.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
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
    /// Refuses values that have no meaning.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
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

/// Refuses a gate that lets nothing through, or all.
///
/// # Errors
/// The key, what was found and what was expected.
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
