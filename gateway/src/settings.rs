//! The configuration: `default.toml` is its schema.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service::{
    Secret,
    config::{self, ConfigError, Sources},
};
use telemetry::{Metric, MetricTable, SmolStr};

use crate::conventions::{self, Conventions, IgnoreList};

/// The commented defaults.
pub const DEFAULTS: &str = include_str!("default.toml");

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Where messages come from.
    pub mqtt: Mqtt,
    /// Where records go.
    pub log: eventlog::Settings,
    /// The HTTP interface.
    pub rest: Rest,
    /// What one message, device and end may cost at most.
    pub limits: Limits,
    /// Topics, and fields of the gateway's own payloads, that are not for us.
    pub ignore: Vec<String>,
    /// Topics and payloads of other systems.
    pub mappings: Vec<conventions::settings::Mapping>,
    /// Metrics beside the built-in ones.
    pub metrics: BTreeMap<SmolStr, Metric>,
}

/// Which side opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Devices connect to this program.
    Listener,
    /// This program connects to a broker.
    Bridge,
}

/// The table `[mqtt]`; see `default.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // each key is explained in default.toml
pub struct Mqtt {
    pub mode: Mode,
    pub listen: SocketAddr,
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub filters: Vec<String>,
    pub session_expiry_s: u32,
    pub keep_alive_s: u16,
    pub user: String,
    pub password: Secret,
    pub receive_maximum: u16,
    pub packet_bytes_max: u32,
    pub connections_max: usize,
    pub forward: Vec<String>,
    pub tls: Tls,
}

/// The table `[mqtt.tls]`; files are PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // each key is explained in default.toml
pub struct Tls {
    pub enabled: bool,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// The table `[rest]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // each key is explained in default.toml
pub struct Rest {
    pub listen: SocketAddr,
    pub token: Secret,
}

/// The table `[limits]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // each key is explained in default.toml
pub struct Limits {
    pub payload_bytes_max: usize,
    pub readings_max: usize,
    pub devices_max: usize,
    pub duplicates_window: usize,
    pub duplicates_shown: usize,
    pub in_flight_bytes_max: u32,
    pub dead_letters_shown: usize,
    pub drain_s: u64,
}

impl Limits {
    /// How long draining may take.
    #[must_use]
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

impl Mqtt {
    /// What tells two of them apart, the password included.
    pub(crate) fn fingerprint(&self) -> (String, Option<&str>) {
        (format!("{self:?}"), self.password.reveal())
    }
}

impl Tls {
    fn check(&self, mode: Mode) -> Result<(), ConfigError> {
        let Self { enabled, cert_file, key_file, .. } = self;
        let has = |file: &PathBuf| !file.as_os_str().is_empty();
        if has(cert_file) != has(key_file) {
            let what = "cert_file and key_file belong together: expected both or none";
            return Err(ConfigError::invalid("mqtt.tls", what));
        }
        if *enabled && mode == Mode::Listener && !has(cert_file) {
            let what = "\"\": expected the PEM file of the certificate that devices are shown";
            return Err(ConfigError::invalid("mqtt.tls.cert_file", what));
        }
        Ok(())
    }
}

impl Settings {
    /// Loads `default.toml`, overlaid by a file, the environment and flags.
    ///
    /// # Errors
    /// Every mistake with its place and a hint.
    pub fn load(file: Option<&std::path::Path>, set: &[String]) -> Result<Self, ConfigError> {
        let sources = Sources {
            defaults: DEFAULTS,
            open_tables: &["metrics"],
            file,
            env_prefix: "GATEWAY",
            set,
        };
        let settings: Self = config::load(&sources)?;
        settings.check()?;
        Ok(settings)
    }

    /// The built-in metrics with the configured ones.
    ///
    /// # Errors
    /// Names every metric whose range cannot be.
    pub fn metric_table(&self) -> Result<MetricTable, ConfigError> {
        MetricTable::extended(self.metrics.clone()).map_err(|e| ConfigError::invalid("metrics", e))
    }

    /// The keys whose values differ from `new`'s and that a running gateway
    /// cannot change.
    #[must_use]
    pub fn fixed_changes(&self, new: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        let tables = [self, new].map(|settings| serde_json::to_value(settings).unwrap_or_default());
        differences("", &tables[0], &tables[1], &mut changed);
        // Two secrets look alike.
        let secrets = [
            ("rest.token", self.rest.token == new.rest.token),
            ("log.kafka.password", self.log.kafka.password == new.log.kafka.password),
        ];
        changed.extend(secrets.iter().filter(|(_, same)| !same).map(|(key, _)| (*key).to_owned()));
        changed.sort();
        changed.dedup();
        changed.retain(|key| {
            !RELOADED.iter().any(|prefix| {
                key.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        });
        changed
    }

    /// Refuses values that have no meaning, before anything is opened.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
    pub fn check(&self) -> Result<(), ConfigError> {
        /// MQTT 5, 3.1.2.11.3: Receive Maximum is not 0.
        const POSITIVE: &str = "0: expected at least 1";
        /// JSON around one reading, with a metric's and a device's longest name.
        const READING_BYTES: usize = 256;
        /// A dead letter carries its topic as its key and as a header.
        const TOPIC_BYTES_MAX: usize = 2 * 65_535;
        let Mqtt { receive_maximum, filters, mode, packet_bytes_max, .. } = &self.mqtt;
        if *receive_maximum == 0 {
            return Err(ConfigError::invalid("mqtt.receive_maximum", POSITIVE));
        }
        if *mode == Mode::Bridge && filters.is_empty() {
            return Err(ConfigError::invalid("mqtt.filters", "[]: expected at least one filter"));
        }
        self.mqtt.tls.check(*mode)?;
        let Limits {
            payload_bytes_max, readings_max, duplicates_window, in_flight_bytes_max, ..
        } = self.limits;
        if in_flight_bytes_max < packet_bytes_max.saturating_mul(2) {
            let what =
                format!("{in_flight_bytes_max}: expected at least two of mqtt.packet_bytes_max");
            return Err(ConfigError::invalid("limits.in_flight_bytes_max", what));
        }
        if readings_max == 0 || duplicates_window == 0 {
            return Err(ConfigError::invalid(
                "limits",
                "readings_max and duplicates_window must be at least 1",
            ));
        }
        // What was taken in must fit the log, or it could never be acknowledged.
        let longest = (payload_bytes_max + READING_BYTES * (readings_max + 1))
            .max(*packet_bytes_max as usize + TOPIC_BYTES_MAX + READING_BYTES * readings_max);
        if longest > self.log.record_bytes_max {
            let what = format!(
                "{}: expected at least {longest}, for what mqtt.packet_bytes_max, \
                 limits.payload_bytes_max and limits.readings_max let in",
                self.log.record_bytes_max
            );
            return Err(ConfigError::invalid("log.record_bytes_max", what));
        }
        if let Err(what) = IgnoreList::new(&self.ignore) {
            return Err(ConfigError::invalid("ignore", what));
        }
        Conventions::new(&self.mappings, &self.metric_table()?).map(|_| ())
    }
}

/// What a running gateway takes over.
const RELOADED: [&str; 15] = [
    "ignore",
    "mappings",
    "metrics",
    "mqtt.host",
    "mqtt.port",
    "mqtt.client_id",
    "mqtt.filters",
    "mqtt.session_expiry_s",
    "mqtt.keep_alive_s",
    "mqtt.user",
    "mqtt.password",
    "mqtt.forward",
    "limits.payload_bytes_max",
    "limits.readings_max",
    "limits.drain_s",
];

/// The paths of the values that differ.
fn differences(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let value = |table: &Map<String, Value>| table.get(key).cloned().unwrap_or_default();
            differences(&path, &value(old), &value(new), found);
        }
    } else if old != new {
        found.push(path.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(set: &[&str], expect: &str) {
        let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
        let text = Settings::load(None, &set).unwrap_err().to_string();
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn the_defaults_are_settings() {
        let settings = Settings::load(None, &[]).unwrap();
        assert_eq!(settings.mqtt.mode, Mode::Listener);
        assert!(settings.metric_table().unwrap().get("temperature").is_some());
    }

    #[test]
    fn what_a_running_gateway_cannot_change_is_named() {
        let check = |set: &[&str], expect: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            let (old, new) = (Settings::load(None, &[]), Settings::load(None, &set));
            assert_eq!(old.unwrap().fixed_changes(&new.unwrap()), expect);
        };
        check(&[], &[]);
        check(&["mqtt.filters=['a']", "mqtt.password='x'", "limits.readings_max=9"], &[]);
        check(&["rest.token='x'"], &["rest.token"]);
        check(&["mqtt.port=1", "log.dir='x'", "mqtt.mode=bridge"], &["log.dir", "mqtt.mode"]);
    }

    #[test]
    fn refusals() {
        refuse(&["mqtt.receive_maximum=0"], "mqtt.receive_maximum");
        refuse(&["mqtt.mode=broker"], "mqtt.mode");
        refuse(&["mqtt.mode=bridge", "mqtt.filters=[]"], "mqtt.filters");
        refuse(&["limits.payload_bytes_max=2000000"], "log.record_bytes_max");
        refuse(&["limits.in_flight_bytes_max=1000"], "limits.in_flight_bytes_max");
        refuse(&["ignore=['a/#/b']"], "`#` must be the last level");
        refuse(&["mqtt.tls.enabled=true"], "mqtt.tls.cert_file");
        refuse(&["mqtt.tls.key_file='k.pem'"], "expected both or none");
        refuse(&["mqtt.packet_bytes_mx=1"], "did you mean `packet_bytes_max`?");
    }
}
