//! The configuration. `default.toml` is its schema.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use service::{
    Secret,
    config::{self, ConfigError, ConfigSources},
    listen::{self, ListenError},
    rest::RestConfig,
};
use telemetry::{MetricSpec, MetricTable, SmolStr};

use crate::conventions::{self, Conventions, IgnoreList};

/// The commented `default.toml`.
pub const DEFAULTS: &str = include_str!("default.toml");

/// All settings of a gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewaySettings {
    /// The MQTT listener or bridge.
    pub mqtt: MqttSettings,
    /// The log.
    pub log: eventlog::EventLogConfig,
    /// The HTTP interface.
    pub rest: RestConfig,
    /// Limits for each message, for each device, and for shutdown.
    pub limits: GatewayLimits,
    /// Topics, and fields of the gateway's own payloads, that are ignored.
    pub ignore: Vec<String>,
    /// Mappings of other systems' topics and payloads.
    pub mappings: Vec<conventions::settings::MappingSettings>,
    /// Metrics in addition to the built-in ones.
    pub metrics: BTreeMap<SmolStr, MetricSpec>,
}

/// The side that opens the MQTT connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MqttMode {
    /// Devices connect to this program.
    Listener,
    /// This program connects to a broker.
    Bridge,
}

/// The table `[mqtt]`; see `default.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // each key is explained in default.toml
pub struct MqttSettings {
    pub mode: MqttMode,
    pub listen: SocketAddr,
    pub host: String,
    pub port: u16,
    pub client_id: String,
    pub filters: Vec<String>,
    pub session_expiry_s: u32,
    pub keep_alive_s: u16,
    pub user: String,
    pub password: Secret,
    pub users_file: PathBuf,
    pub allow_plaintext_password: bool,
    pub receive_maximum: u16,
    pub packet_bytes_max: u32,
    pub connections_max: usize,
    pub sessions_max: usize,
    pub forward: Vec<String>,
    pub tls: MqttTlsSettings,
}

/// The table `[mqtt.tls]`; files are PEM.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // each key is explained in default.toml
pub struct MqttTlsSettings {
    pub enabled: bool,
    pub ca_file: PathBuf,
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
    /// Hash of the contents of the files when the settings were loaded. New certificates under
    /// the same names are therefore different settings.
    #[serde(skip)]
    contents: u64,
}

/// The table `[limits]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // each key is explained in default.toml
pub struct GatewayLimits {
    pub payload_bytes_max: usize,
    pub readings_max: usize,
    pub devices_max: usize,
    pub duplicates_window: usize,
    pub duplicates_shown: usize,
    pub in_flight_bytes_max: u32,
    pub connections_bytes_max: usize,
    pub retained_bytes_max: usize,
    pub subscriber_bytes_max: usize,
    pub subscribers_bytes_max: usize,
    pub dead_letters_shown: usize,
    pub drain_s: u64,
}

impl GatewayLimits {
    /// Returns the time limit for draining.
    #[must_use]
    pub fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

impl MqttSettings {
    /// Returns the values that distinguish two connections, including the password.
    pub(crate) fn connection_fingerprint(&self) -> (String, Option<&str>) {
        (format!("{self:?}"), self.password.expose_secret())
    }

    /// Binds the listener's address. `prefix` is the table of these settings, such as `mqtt`. An
    /// address that other machines can reach needs users, a password or mutual TLS.
    ///
    /// # Errors
    /// See [`ListenError`]; each error states what to change.
    pub fn bind_listener(&self, prefix: &str) -> Result<TcpListener, ListenError> {
        let key = format!("{prefix}.listen");
        if self.is_guarded() {
            return listen::bind_unguarded(&key, self.listen);
        }
        listen::bind_guarded(&key, self.listen, &format!("{prefix}.password"), &self.password)
    }

    /// Whether clients must authenticate.
    fn is_guarded(&self) -> bool {
        self.has_users() || (self.tls.enabled && is_set(&self.tls.ca_file))
    }

    /// Refuses a listener that admits anybody from other machines. For a listener that is already
    /// bound; see [`Self::bind_listener`].
    pub(crate) fn check_is_guarded(&self) -> Result<(), ConfigError> {
        if self.mode != MqttMode::Listener || self.listen.ip().is_loopback() || self.is_guarded() {
            return Ok(());
        }
        let what = format!(
            "{} is reachable from other machines, and everybody would be let in\n  \
             hint: keep mqtt.password or mqtt.users_file, or, with mqtt.tls.enabled, \
             mqtt.tls.ca_file; or listen on 127.0.0.1",
            self.listen
        );
        Err(ConfigError::invalid("mqtt.listen", what))
    }

    /// Refuses a user with all rights and without a password.
    fn check_main_user(&self) -> Result<(), ConfigError> {
        let has_password = self.password.expose_secret().is_some();
        if has_password || self.user.is_empty() || !is_set(&self.users_file) {
            return Ok(());
        }
        let what = format!(
            "{:?}: without a password, everybody who knows the name could do everything\n  \
             hint: set mqtt.password, or mqtt.user = \"\" and the user in mqtt.users_file",
            self.user
        );
        Err(ConfigError::invalid("mqtt.user", what))
    }

    fn has_users(&self) -> bool {
        self.password.expose_secret().is_some() || is_set(&self.users_file)
    }

    /// Refuses a password that would cross the network in plain text, unless the configuration
    /// permits it by name.
    fn check_plaintext_password(&self) -> Result<(), ConfigError> {
        if self.tls.enabled || self.allow_plaintext_password {
            return Ok(());
        }
        let (key, what, is_local) = match self.mode {
            MqttMode::Listener if self.has_users() => {
                ("mqtt.listen", self.listen.to_string(), self.listen.ip().is_loopback())
            }
            MqttMode::Bridge if self.password.expose_secret().is_some() => {
                ("mqtt.host", self.host.clone(), is_loopback(&self.host))
            }
            _ => return Ok(()),
        };
        if is_local {
            return Ok(());
        }
        let what = format!(
            "{what}: passwords would cross the network without encryption\n  \
             hint: set mqtt.tls.enabled = true, or, where the network itself is trusted, \
             mqtt.allow_plaintext_password = true"
        );
        Err(ConfigError::invalid(key, what))
    }
}

/// Whether a host name or address is this machine.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_set(file: &std::path::Path) -> bool {
    !file.as_os_str().is_empty()
}

impl MqttTlsSettings {
    fn check_files(&self, mode: MqttMode) -> Result<(), ConfigError> {
        let Self { enabled, cert_file, key_file, .. } = self;
        if is_set(cert_file) != is_set(key_file) {
            let what = "cert_file and key_file belong together: expected both or none";
            return Err(ConfigError::invalid("mqtt.tls", what));
        }
        if *enabled && mode == MqttMode::Listener && !is_set(cert_file) {
            let what = "\"\": expected the PEM file of the certificate that devices are shown";
            return Err(ConfigError::invalid("mqtt.tls.cert_file", what));
        }
        Ok(())
    }

    /// Hashes the contents of the files. An unreadable file is reported when it is used.
    fn note_contents(&mut self) {
        let mut hasher = DefaultHasher::new();
        for file in [&self.ca_file, &self.cert_file, &self.key_file] {
            std::fs::read(file).unwrap_or_default().hash(&mut hasher);
        }
        self.contents = hasher.finish();
    }
}

impl GatewaySettings {
    /// Loads `default.toml`, overridden by a file, the environment and flags.
    ///
    /// # Errors
    /// Returns every mistake with its place and a hint.
    pub fn load(file: Option<&std::path::Path>, set: &[String]) -> Result<Self, ConfigError> {
        let sources = ConfigSources {
            defaults: DEFAULTS,
            open_tables: &["metrics"],
            file,
            env_prefix: "GATEWAY",
            set,
        };
        let mut settings: Self = config::load_config(&sources)?;
        settings.check_values()?;
        settings.mqtt.tls.note_contents();
        Ok(settings)
    }

    /// Returns the built-in metrics with the configured ones.
    ///
    /// # Errors
    /// Names every metric with an invalid range.
    pub fn metric_table(&self) -> Result<MetricTable, ConfigError> {
        MetricTable::with_site_metrics(self.metrics.clone())
            .map_err(|e| ConfigError::invalid("metrics", e))
    }

    /// Returns the keys whose values differ from those of `new` and that cannot be changed at run
    /// time.
    #[must_use]
    pub fn restart_keys(&self, new: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        let tables = [self, new].map(|settings| serde_json::to_value(settings).unwrap_or_default());
        collect_differences("", &tables[0], &tables[1], &mut changed);
        // Serialised secrets all look the same.
        let secrets = [
            ("rest.token", self.rest.token == new.rest.token),
            ("log.kafka.password", self.log.kafka.password == new.log.kafka.password),
        ];
        changed.extend(secrets.iter().filter(|(_, same)| !same).map(|(key, _)| (*key).to_owned()));
        changed.sort();
        changed.dedup();
        changed.retain(|key| {
            !RELOADABLE_KEYS.iter().any(|prefix| {
                key.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        });
        changed
    }

    /// Refuses invalid values before anything is opened.
    ///
    /// # Errors
    /// Names the key, what was found and what was expected.
    pub fn check_values(&self) -> Result<(), ConfigError> {
        /// MQTT 5, 3.1.2.11.3: Receive Maximum must not be 0.
        const POSITIVE: &str = "0: expected at least 1";
        /// Size of the JSON around one reading, with the longest names of a metric and a device,
        /// bytes.
        const READING_BYTES: usize = 256;
        /// Largest size of a topic in a dead letter, bytes, which has it as its key and in a
        /// header.
        const TOPIC_BYTES_MAX: usize = 2 * 65_535;
        let MqttSettings { receive_maximum, filters, mode, packet_bytes_max, .. } = &self.mqtt;
        if *receive_maximum == 0 {
            return Err(ConfigError::invalid("mqtt.receive_maximum", POSITIVE));
        }
        if *mode == MqttMode::Bridge && filters.is_empty() {
            return Err(ConfigError::invalid("mqtt.filters", "[]: expected at least one filter"));
        }
        self.mqtt.tls.check_files(*mode)?;
        self.mqtt.check_plaintext_password()?;
        self.mqtt.check_main_user()?;
        self.rest.check_values()?;
        if *mode == MqttMode::Bridge && is_set(&self.mqtt.users_file) {
            let what = "users connect to the listener, and mqtt.mode is \"bridge\": expected \"\"";
            return Err(ConfigError::invalid("mqtt.users_file", what));
        }
        let GatewayLimits {
            payload_bytes_max,
            readings_max,
            duplicates_window,
            in_flight_bytes_max,
            ..
        } = self.limits;
        if in_flight_bytes_max < packet_bytes_max.saturating_mul(2) {
            let what =
                format!("{in_flight_bytes_max}: expected at least two of mqtt.packet_bytes_max");
            return Err(ConfigError::invalid("limits.in_flight_bytes_max", what));
        }
        let held = self.limits.connections_bytes_max;
        if *mode == MqttMode::Listener && held < 2 * *packet_bytes_max as usize {
            let what = format!("{held}: expected at least two of mqtt.packet_bytes_max");
            return Err(ConfigError::invalid("limits.connections_bytes_max", what));
        }
        if readings_max == 0 || duplicates_window == 0 {
            return Err(ConfigError::invalid(
                "limits",
                "readings_max and duplicates_window must be at least 1",
            ));
        }
        // An accepted message must fit into the log, or it could never be acknowledged.
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

/// The keys that can be changed at run time.
const RELOADABLE_KEYS: [&str; 20] = [
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
    "mqtt.users_file",
    "mqtt.allow_plaintext_password",
    "mqtt.tls.ca_file",
    "mqtt.tls.cert_file",
    "mqtt.tls.key_file",
    "mqtt.forward",
    "limits.payload_bytes_max",
    "limits.readings_max",
    "limits.drain_s",
];

/// Collects the paths of the values that differ.
fn collect_differences(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let value = |table: &Map<String, Value>| table.get(key).cloned().unwrap_or_default();
            collect_differences(&path, &value(old), &value(new), found);
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
        let text = GatewaySettings::load(None, &set).unwrap_err().to_string();
        assert!(text.contains(expect), "{text}");
    }

    #[test]
    fn the_defaults_are_settings() {
        let settings = GatewaySettings::load(None, &[]).unwrap();
        assert_eq!(settings.mqtt.mode, MqttMode::Listener);
        assert!(settings.metric_table().unwrap().get("temperature").is_some());
    }

    #[test]
    fn what_a_running_gateway_cannot_change_is_named() {
        let check = |set: &[&str], expect: &[&str]| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            let (old, new) = (GatewaySettings::load(None, &[]), GatewaySettings::load(None, &set));
            assert_eq!(old.unwrap().restart_keys(&new.unwrap()), expect);
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
        refuse(&["mqtt.mode=bridge", "mqtt.users_file=u"], "mqtt.users_file");
        refuse(&["mqtt.user=admin", "mqtt.users_file=u"], "mqtt.user: \"admin\"");
        refuse(&["limits.connections_bytes_max=1"], "limits.connections_bytes_max");
        refuse(&["rest.tls.cert_file=c.pem"], "expected both or none");
        refuse(&["rest.connections_max=0"], "rest.connections_max");
        refuse(&["mqtt.packet_bytes_mx=1"], "did you mean `packet_bytes_max`?");
    }
    #[test]
    fn a_password_crosses_the_network_encrypted_or_by_permission() {
        let check = |set: &[&str], is_fine: bool| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            let found = GatewaySettings::load(None, &set).map(|_| ()).map_err(|e| e.to_string());
            assert_eq!(found.is_ok(), is_fine, "{set:?}: {found:?}");
            if let Err(text) = found {
                assert!(text.contains("mqtt.allow_plaintext_password = true"), "{text}");
            }
        };
        let (everywhere, tls) = ("mqtt.listen=0.0.0.0:0", "mqtt.tls.enabled=true");
        let (cert, key) = ("mqtt.tls.cert_file=c", "mqtt.tls.key_file=k");
        check(&["mqtt.password=x"], true);
        check(&[everywhere, "mqtt.password=x"], false);
        check(&[everywhere, "mqtt.users_file=u"], false);
        check(&[everywhere, "mqtt.password=x", tls, cert, key], true);
        check(&[everywhere, "mqtt.password=x", "mqtt.allow_plaintext_password=true"], true);
        let bridge = "mqtt.mode=bridge";
        check(&[bridge, "mqtt.host=broker", "mqtt.user=x"], true);
        check(&[bridge, "mqtt.host=broker", "mqtt.password=x"], false);
        check(&[bridge, "mqtt.host=localhost", "mqtt.password=x"], true);
        check(&[bridge, "mqtt.host=127.0.0.2", "mqtt.password=x"], true);
        check(&[bridge, "mqtt.host=broker", "mqtt.password=x", tls], true);
    }

    #[test]
    fn who_may_reach_the_listener_from_elsewhere_must_be_somebody() {
        let check = |set: &[&str], is_fine: bool| {
            let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
            let bound = GatewaySettings::load(None, &set).unwrap().mqtt.bind_listener("mqtt");
            assert_eq!(bound.is_ok(), is_fine, "{set:?}: {bound:?}");
        };
        let everywhere = "mqtt.listen=0.0.0.0:0";
        check(&["mqtt.listen=127.0.0.1:0"], true);
        check(&[everywhere], false);
        let allow = "mqtt.allow_plaintext_password=true";
        check(&[everywhere, allow], false);
        check(&[everywhere, allow, "mqtt.password=x"], true);
        check(&[everywhere, allow, "mqtt.users_file=u"], true);
        let (tls, cert, key) =
            ("mqtt.tls.enabled=true", "mqtt.tls.cert_file=c", "mqtt.tls.key_file=k");
        check(&[everywhere, tls, cert, key], false);
        check(&[everywhere, tls, cert, key, "mqtt.tls.ca_file=a"], true);
    }

    #[test]
    fn a_new_certificate_under_the_same_name_is_another_setting() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let load = |content: &str| {
            std::fs::write(&file, content).unwrap();
            let set = [format!("mqtt.tls.ca_file={}", file.display())];
            GatewaySettings::load(None, &set).unwrap()
        };
        let (old, same, new) = (load("one"), load("one"), load("two"));
        assert_eq!(old.mqtt.connection_fingerprint(), same.mqtt.connection_fingerprint());
        assert_ne!(old.mqtt.connection_fingerprint(), new.mqtt.connection_fingerprint());
        assert!(old.restart_keys(&new).is_empty());
    }
}
