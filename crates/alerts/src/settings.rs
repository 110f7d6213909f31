//! Settings, as they are written and as they are used.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use service::{Secret, config::ConfigError};
use toml::Value;

use crate::{
    alert::AlertSeverity,
    mute::{MuteSchedule, RawMuteSchedule},
    raw_rule::{RawAlertRule, check_rules},
    rule::AlertRule,
};

/// Commented defaults, which contain every key.
pub const DEFAULTS: &str = include_str!("default.toml");
/// Largest number of rules.
const RULES_MAX: usize = 500;

/// Configuration of alerts as it is written; `default.toml` explains each key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertSettings {
    /// Whether rules are evaluated.
    pub enabled: bool,
    /// Rules and changes of built-in ones, unchecked.
    pub rules: Vec<Value>,
    /// Schedules in which nobody is notified.
    pub mute: Vec<RawMuteSchedule>,
    /// Largest number of active alerts.
    pub active_max: usize,
    /// Age up to which a reading is of now, s.
    pub live_age_s: f64,
    /// How far the past is evaluated, days.
    pub look_back_days: f64,
    /// Hours without any observation after which an alert ends.
    pub expire_h: f64,
    /// Days for which past alerts are kept.
    pub history_days: u32,
    /// Largest number of past alerts.
    pub history_max: u64,
    /// Grouping and repetition.
    pub notify: NotifySettings,
    /// Messages by MQTT.
    pub mqtt: MqttAlertSettings,
    /// Messages by HTTP.
    pub webhook: WebhookSettings,
    /// Messages by e-mail.
    pub email: EmailSettings,
    /// Prometheus' Alertmanager.
    pub alertmanager: AlertmanagerSettings,
}

/// Grouping and repetition of messages.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifySettings {
    /// Time for which alerts of one rule and site are collected, s.
    pub group_wait_s: f64,
    /// How long an undelivered message is tried again, h.
    pub retry_h: f64,
    /// Largest number of messages that wait for each receiver.
    pub waiting_max: usize,
}

/// Messages by MQTT.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttAlertSettings {
    /// Whether alerts are published.
    pub enabled: bool,
    /// Beginning of the topics.
    pub topic: String,
    /// Beginning of Home Assistant's discovery topics; empty for none.
    pub discovery_prefix: String,
}

/// Messages by HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where messages go. It is never logged, because it may contain a key.
    pub url: Secret,
    /// Key of the signature.
    pub secret: Secret,
    /// Least urgent alerts that are sent.
    pub severity_min: AlertSeverity,
    /// Longest wait for an answer, s.
    pub timeout_s: f64,
}

/// Encryption of the connection to an SMTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpEncryption {
    /// The connection begins in plain text and must be upgraded.
    Starttls,
    /// The connection is encrypted from its beginning.
    Tls,
    /// None.
    None,
}

/// Messages by e-mail.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// SMTP server; empty for none.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// Encryption.
    pub encryption: SmtpEncryption,
    /// User; empty for none.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// Whether the password may cross the network without encryption.
    pub allow_plaintext_password: bool,
    /// Sender.
    pub from: String,
    /// Receivers.
    pub to: Vec<String>,
    /// Least urgent alerts that are sent.
    pub severity_min: AlertSeverity,
    /// Longest wait for the server, s.
    pub timeout_s: f64,
}

/// Prometheus' Alertmanager.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagerSettings {
    /// URL; empty for none.
    pub url: String,
    /// Bearer token.
    pub token: Secret,
    /// Least urgent alerts that are sent.
    pub severity_min: AlertSeverity,
    /// Interval at which firing alerts are sent again, s.
    pub resend_s: f64,
    /// Longest wait for an answer, s.
    pub timeout_s: f64,
}

/// Configuration of alerts as it is used.
#[derive(Clone, Debug)]
pub struct CheckedAlerts {
    /// The settings as they were written, for the parts that need no more.
    pub raw: AlertSettings,
    /// All rules, built-in ones first, with those that are turned off.
    pub rules: Vec<AlertRule>,
    /// Schedules in which nobody is notified, of any rule.
    pub mute: Vec<MuteSchedule>,
}

impl AlertSettings {
    /// Checks everything.
    ///
    /// # Errors
    /// Names every mistake with its place, and what was expected.
    pub fn check(&self) -> Result<CheckedAlerts, ConfigError> {
        let mut mistakes = Vec::new();
        let mut raw_rules = Vec::new();
        for (i, value) in self.rules.iter().take(RULES_MAX).enumerate() {
            let name = value.get("name").and_then(Value::as_str);
            let place = name.map_or_else(
                || format!("alerts.rules[{i}]"),
                |name| format!("alerts.rules.{name}"),
            );
            match serde_path_to_error::deserialize::<_, RawAlertRule>(value.clone()) {
                Ok(rule) => raw_rules.push(rule),
                Err(error) => {
                    let what = error.inner().to_string();
                    mistakes.push((place, what.lines().next().unwrap_or_default().to_owned()));
                }
            }
        }
        if self.rules.len() > RULES_MAX {
            let what = format!("{} rules, expected at most {RULES_MAX}", self.rules.len());
            mistakes.push(("alerts.rules".to_owned(), what));
        }
        let rules = check_rules(&raw_rules, &mut mistakes);
        let mut mute = Vec::new();
        for raw in &self.mute {
            match raw.check() {
                Ok(schedule) => mute.push(schedule),
                Err(what) => mistakes.push(("alerts.mute".to_owned(), what)),
            }
        }
        self.check_numbers(&mut mistakes);
        self.check_receivers(&mut mistakes);
        if mistakes.is_empty() {
            Ok(CheckedAlerts { raw: self.clone(), rules, mute })
        } else {
            Err(ConfigError::from_mistakes(mistakes))
        }
    }

    fn check_numbers(&self, mistakes: &mut Vec<(String, String)>) {
        let ranges = [
            ("active_max", self.active_max as f64, 1.0, 100_000.0),
            ("live_age_s", self.live_age_s, 60.0, 86_400.0),
            ("look_back_days", self.look_back_days, 0.0, 366.0),
            ("expire_h", self.expire_h, 1.0, 87_600.0),
            ("history_days", f64::from(self.history_days), 1.0, 36_500.0),
            ("history_max", self.history_max as f64, 1.0, 1e7),
            ("notify.group_wait_s", self.notify.group_wait_s, 0.0, 3600.0),
            ("notify.retry_h", self.notify.retry_h, 0.01, 720.0),
            ("notify.waiting_max", self.notify.waiting_max as f64, 1.0, 100_000.0),
            ("webhook.timeout_s", self.webhook.timeout_s, 0.1, 300.0),
            ("email.timeout_s", self.email.timeout_s, 0.1, 300.0),
            ("alertmanager.timeout_s", self.alertmanager.timeout_s, 0.1, 300.0),
            ("alertmanager.resend_s", self.alertmanager.resend_s, 1.0, 86_400.0),
        ];
        for (key, found, low, high) in ranges {
            if !(low..=high).contains(&found) {
                mistakes.push((format!("alerts.{key}"), format!("{found} is not {low} to {high}")));
            }
        }
    }

    fn check_receivers(&self, mistakes: &mut Vec<(String, String)>) {
        let mut refuse = |key: &str, what: String| mistakes.push((format!("alerts.{key}"), what));
        let MqttAlertSettings { topic, discovery_prefix, .. } = &self.mqtt;
        for (key, topic) in [("mqtt.topic", topic), ("mqtt.discovery_prefix", discovery_prefix)] {
            let is_filter = topic.contains(['+', '#']) || topic.starts_with('$');
            let is_empty = topic.is_empty() && key == "mqtt.topic";
            if is_filter || is_empty || topic.ends_with('/') {
                refuse(key, format!("`{topic}` is no topic to publish to, as in home/alerts"));
            }
        }
        let is_http = |url: &str| {
            reqwest::Url::parse(url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        if self.webhook.url.expose_secret().is_some_and(|url| !is_http(url)) {
            refuse("webhook.url", "is no http or https URL".to_owned());
        }
        if !self.alertmanager.url.is_empty() && !is_http(&self.alertmanager.url) {
            refuse("alertmanager.url", "is no http or https URL".to_owned());
        }
        let EmailSettings { host, from, to, password, encryption, .. } = &self.email;
        if host.is_empty() {
            return;
        }
        for (key, address) in
            std::iter::once(("email.from", from)).chain(to.iter().map(|to| ("email.to", to)))
        {
            if address.parse::<lettre::message::Mailbox>().is_err() {
                refuse(key, format!("`{address}` is no address, as in `Farm <farm@example.org>`"));
            }
        }
        if to.is_empty() {
            refuse("email.to", "is empty, expected at least one address".to_owned());
        }
        let is_local = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_hidden =
            password.expose_secret().is_none() || *encryption != SmtpEncryption::None || is_local;
        if !is_hidden && !self.email.allow_plaintext_password {
            let what = format!(
                "{host}: the password would cross the network without encryption\n  \
                 hint: set alerts.email.encryption = \"starttls\", or, where the network itself is \
                 trusted, alerts.email.allow_plaintext_password = true"
            );
            refuse("email.encryption", what);
        }
    }
}

impl CheckedAlerts {
    /// Finds a rule.
    #[must_use]
    pub fn find_rule(&self, name: &str) -> Option<&AlertRule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    /// Whether a schedule keeps the alerts of a rule from notifying anybody at a time, UTC ms.
    #[must_use]
    pub fn is_muted(&self, rule: &str, at_ms: i64) -> bool {
        let own = self.find_rule(rule).map_or(&[][..], |rule| &rule.mute);
        self.mute.iter().chain(own).any(|schedule| schedule.covers(at_ms))
    }
}

impl Default for AlertSettings {
    fn default() -> Self {
        toml::from_str(DEFAULTS).expect("the compiled-in defaults are settings")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_reported_together_and_secrets_are_not_shown() {
        let mut settings = AlertSettings::default();
        assert!(settings.check().is_ok());
        settings.active_max = 0;
        settings.webhook.url = "ftp://example.org/key-1234".into();
        settings.email.host = "mail.example.org".into();
        settings.email.from = "nobody".into();
        settings.email.password = "hunter2".into();
        settings.email.encryption = SmtpEncryption::None;
        settings.mqtt.topic = "a/#".into();
        settings.rules = vec![
            toml::from_str("name = \"a\"\nmetirc = \"co2\"").unwrap(),
            toml::from_str("kind = \"disk\"").unwrap(),
        ];
        let message = settings.check().unwrap_err().to_string();
        for part in [
            "alerts.active_max: 0 is not 1",
            "alerts.webhook.url: is no http",
            "`nobody` is no address",
            "alerts.email.to: is empty",
            "without encryption",
            "`a/#` is no topic",
            "alerts.rules.a: unknown field `metirc`",
            "alerts.rules[1]: missing field `name`",
        ] {
            assert!(message.contains(part), "{part:?} is not in: {message}");
        }
        let shown = format!("{message} {settings:?}");
        assert!(!shown.contains("key-1234") && !shown.contains("hunter2"), "{shown}");
    }
}
