//! The settings. `default.toml` names and explains every key.

use std::{collections::BTreeMap, path::PathBuf};

use serde::Deserialize;
use service::config::ConfigError;
use telemetry::DeviceAddress;

/// The compiled-in `default.toml`: every key with its default and its meaning.
pub const DEFAULTS: &str = include_str!("default.toml");

/// Tables of [`DEFAULTS`] whose keys the user chooses.
pub const OPEN_TABLES: &[&str] = &["replay.columns"];

/// All settings of the simulator and the replay.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatorConfig {
    /// The MQTT broker.
    pub broker: SimulatorBroker,
    /// The simulated site.
    pub simulate: SimulationConfig,
    /// How often each fault occurs.
    pub faults: FaultRates,
    /// The replay of recorded data.
    pub replay: ReplayConfig,
}

/// The MQTT broker that messages are sent to, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatorBroker {
    /// Name or address of the MQTT broker, without TLS.
    pub host: String,
    /// Port of the broker, without TLS.
    pub port: u16,
    /// Prefix of client ids.
    pub client_prefix: String,
    /// Largest number of unacknowledged messages of one connection, 1 to 65535.
    pub inflight_max: u16,
    /// First wait before connecting again, in seconds.
    pub reconnect_s_min: f64,
    /// Longest wait before connecting again, in seconds.
    pub reconnect_s_max: f64,
    /// Longest wait for acknowledgements after a stop was requested, in seconds.
    pub drain_s: f64,
}

/// The simulated site.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulationConfig {
    /// Seed of all random numbers.
    pub seed: u64,
    /// Sampling interval of every device, 1 to 3600 s.
    pub interval_s: u32,
    /// Sampling interval during the live phase, 1 to 3600 s.
    pub live_interval_s: u32,
    /// Days of history, 0 to 3660.
    pub days: f64,
    /// Whether the live phase follows the history.
    pub live: bool,
    /// Largest number of messages per second during history; 0 for no limit.
    pub rate_max: f64,
    /// Largest number of recorded seconds per second during history; 0 for no limit.
    pub speed_max: f64,
    /// Largest lead of a device over the slowest one during history, simulated seconds.
    pub skew_s_max: u32,
    /// Largest number of messages that a device stores while it is offline.
    pub offline_messages_max: u32,
    /// Path of the CSV of injected faults; empty for none.
    pub labels: PathBuf,
    /// Latitude of the site, -66 to 66 degrees.
    pub latitude_deg: f64,
}

/// The mean number of each fault per device and day.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRates {
    /// A single value far off.
    pub spike: f64,
    /// The same value for a while.
    pub stuck: f64,
    /// A slowly growing offset.
    pub drift: f64,
    /// No messages for a while.
    pub dropout: f64,
    /// Strong noise for a while.
    pub noise: f64,
    /// A device clock that is off for a while.
    pub clock_skew: f64,
    /// A message that is sent twice.
    pub duplicate: f64,
    /// Two messages in the wrong order.
    pub reorder: f64,
    /// A message that is sent minutes later.
    pub late: f64,
    /// A further message that cannot be decoded.
    pub malformed: f64,
}

/// The replay of recorded data.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayConfig {
    /// Site for layouts that do not name one.
    pub site: String,
    /// Largest number of messages per second; 0 for no limit.
    pub rate_max: f64,
    /// Largest number of recorded seconds per second; 0 for no limit.
    pub speed_max: f64,
    /// Number of rejected rows that are logged.
    pub rejects_shown: usize,
    /// How wide CSV files are read.
    pub wide_csv: WideCsvConfig,
    /// MQTT topic that names a metric, by column name.
    pub columns: BTreeMap<String, String>,
}

/// How wide CSV files are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WideCsvConfig {
    /// Name of the column that holds the time.
    pub time_column: String,
    /// The field separator, one ASCII character.
    pub delimiter: String,
}

impl SimulatorConfig {
    /// Checks the values that types alone cannot check. [`crate::Simulation::start`] and
    /// [`crate::replay_recording`] call it before any I/O.
    ///
    /// # Errors
    /// Names the first key with a value out of its range.
    pub fn check_values(&self) -> Result<(), ConfigError> {
        let Self { broker, simulate, faults, replay } = self;
        let waits = [
            ("broker.reconnect_s_min", broker.reconnect_s_min, 0.01, 3600.0),
            ("broker.reconnect_s_max", broker.reconnect_s_max, broker.reconnect_s_min, 3600.0),
            ("broker.drain_s", broker.drain_s, 0.0, 3600.0),
            ("broker.inflight_max", f64::from(broker.inflight_max), 1.0, 65535.0),
            ("simulate.interval_s", f64::from(simulate.interval_s), 1.0, 3600.0),
            ("simulate.live_interval_s", f64::from(simulate.live_interval_s), 1.0, 3600.0),
            ("simulate.days", simulate.days, 0.0, 3660.0),
            ("simulate.rate_max", simulate.rate_max, 0.0, 1e9),
            ("simulate.speed_max", simulate.speed_max, 0.0, 1e9),
            ("simulate.latitude_deg", simulate.latitude_deg, -66.0, 66.0),
            ("replay.rate_max", replay.rate_max, 0.0, 1e9),
            ("replay.speed_max", replay.speed_max, 0.0, 1e9),
        ];
        // At more than one fault a minute there would be nothing to hide them in.
        let rates = faults.rates_per_day().map(|(name, rate)| (name, rate, 0.0, 1440.0));
        for (key, value, min, max) in waits.into_iter().chain(rates) {
            if !(min..=max).contains(&value) {
                let what = format!("{value} is out of range, expected {min} to {max}");
                return Err(ConfigError::invalid(key, what));
            }
        }
        if simulate.skew_s_max < simulate.interval_s {
            return Err(ConfigError::invalid(
                "simulate.skew_s_max",
                format!("is below simulate.interval_s ({})", simulate.interval_s),
            ));
        }
        replay.check_values()
    }
}

impl ReplayConfig {
    fn check_values(&self) -> Result<(), ConfigError> {
        let parsed = DeviceAddress::parse(&format!("sensors/{}/zone/device", self.site));
        if !parsed.is_ok_and(|address| address.zone.site == self.site) {
            let what = format!("`{}` is not a topic level", self.site);
            return Err(ConfigError::invalid("replay.site", what));
        }
        if !matches!(self.wide_csv.delimiter.as_bytes(), [byte] if byte.is_ascii()) {
            let what = format!("`{}` is not one ASCII character", self.wide_csv.delimiter);
            return Err(ConfigError::invalid("replay.wide_csv.delimiter", what));
        }
        for (column, topic) in &self.columns {
            let key = || format!("replay.columns.{column}");
            let address = DeviceAddress::parse(topic)
                .map_err(|(_, detail)| ConfigError::invalid(&key(), detail))?;
            if address.metric.is_none() {
                let what = format!("topic `{topic}` ends without a metric");
                return Err(ConfigError::invalid(&key(), what));
            }
        }
        Ok(())
    }
}

impl FaultRates {
    /// Returns each key with its rate.
    fn rates_per_day(&self) -> [(&'static str, f64); 10] {
        [
            ("faults.spike", self.spike),
            ("faults.stuck", self.stuck),
            ("faults.drift", self.drift),
            ("faults.dropout", self.dropout),
            ("faults.noise", self.noise),
            ("faults.clock_skew", self.clock_skew),
            ("faults.duplicate", self.duplicate),
            ("faults.reorder", self.reorder),
            ("faults.late", self.late),
            ("faults.malformed", self.malformed),
        ]
    }
}

impl Default for SimulatorConfig {
    /// Returns the compiled-in defaults.
    ///
    /// # Panics
    /// Never: a test reads `default.toml` into this type.
    fn default() -> Self {
        toml::from_str(DEFAULTS).expect("default.toml fits Settings")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(set: &str, expect: &str) {
        let set = [set.to_owned()];
        let sources = service::config::ConfigSources {
            defaults: DEFAULTS,
            open_tables: OPEN_TABLES,
            file: None,
            env_prefix: "FIRMWARE_SIM_TEST",
            set: &set,
        };
        let settings: SimulatorConfig = service::config::load_config(&sources).unwrap();
        let got = settings.check_values().unwrap_err().to_string();
        assert!(got.contains(expect), "{got}");
    }

    #[test]
    fn defaults_are_valid() {
        SimulatorConfig::default().check_values().unwrap();
    }

    #[test]
    fn values_out_of_range_are_refused() {
        refuse("broker.inflight_max=0", "broker.inflight_max: 0 is out of range");
        refuse("simulate.interval_s=0", "simulate.interval_s");
        refuse("simulate.skew_s_max=10", "simulate.skew_s_max");
        refuse("faults.late=-1", "faults.late");
        refuse("replay.site=a/b", "replay.site");
        refuse("replay.wide_csv.delimiter=;;", "replay.wide_csv.delimiter");
        refuse("replay.columns.a=sensors/s/z/d", "ends without a metric");
        refuse("replay.columns.a=b", "replay.columns.a");
    }
}
