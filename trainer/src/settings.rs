//! Comfort bands, thresholds, splits, and where things are kept.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use models::registry::Gate;
use serde::{Deserialize, Serialize};
use service::{Secret, config::ConfigError};
use telemetry::ZoneId;

use crate::serve::settings::{Mqtt, S3, Serving, Watch, check_gate};

/// The commented defaults, which name every key.
pub const DEFAULTS: &str = include_str!("default.toml");
/// Tables of it whose keys are the user's own.
pub const OPEN_TABLES: [&str; 1] = ["zones"];

/// The trainer's configuration; `default.toml` says what each key means.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where models are kept.
    pub registry_dir: PathBuf,
    /// Where reports are written.
    pub reports_dir: PathBuf,
    /// The same seed gives the same models.
    pub seed: u64,
    /// The feature store.
    pub source: Source,
    /// The REST listener.
    pub rest: Rest,
    /// How rows are divided in time.
    pub split: Split,
    /// Prediction intervals.
    pub interval: Interval,
    /// What is good for people or plants.
    pub comfort: Comfort,
    /// What differs from `comfort` in a zone.
    pub zones: BTreeMap<ZoneId, ComfortOverride>,
    /// What a model must show before it is served.
    pub gate: Gate,
    /// When a prediction is the baseline's.
    pub serving: Serving,
    /// Scores of what was served, and training again.
    pub watch: Watch,
    /// Predictions by MQTT.
    pub mqtt: Mqtt,
    /// A registry elsewhere.
    pub s3: S3,
}

/// Where the feature store is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `http://host:port`.
    pub url: String,
    /// Its token.
    pub token: Secret,
    /// Longest wait for one answer.
    pub timeout_s: f64,
}

/// The REST listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rest {
    /// Address and port.
    pub listen: SocketAddr,
    /// Bearer token.
    pub token: Secret,
}

/// How rows are divided, in the order of time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Share that models are fitted on.
    pub train: f64,
    /// Share that intervals are calibrated on.
    pub calibration: f64,
    /// Most rows to fit on.
    pub train_rows_max: usize,
    /// Most rows to calibrate on, and to test on.
    pub test_rows_max: usize,
    /// How much of a zone's beginning is left out.
    pub warm_up_s: i64,
}

/// Prediction intervals.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Share of truths to cover, 0 to 1.
    pub level: f64,
}

/// What is good for people or plants in a zone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comfort {
    /// Below this it is heated, °C.
    pub heat_below: f64,
    /// Above this it is cooled, °C.
    pub cool_above: f64,
    /// Soil moisture at which plants must be watered, %.
    pub soil_moisture_critical: f64,
    /// Photon flux of one lux, µmol/(m²·s).
    pub ppfd_per_lux: f64,
}

/// What differs from [`Comfort`] in one zone.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComfortOverride {
    heat_below: Option<f64>,
    cool_above: Option<f64>,
    soil_moisture_critical: Option<f64>,
    ppfd_per_lux: Option<f64>,
}

impl Settings {
    /// What holds in `zone`.
    #[must_use]
    pub fn comfort_in(&self, zone: &ZoneId) -> Comfort {
        let own = self.zones.get(zone).copied().unwrap_or_default();
        let all = self.comfort;
        Comfort {
            heat_below: own.heat_below.unwrap_or(all.heat_below),
            cool_above: own.cool_above.unwrap_or(all.cool_above),
            soil_moisture_critical: own
                .soil_moisture_critical
                .unwrap_or(all.soil_moisture_critical),
            ppfd_per_lux: own.ppfd_per_lux.unwrap_or(all.ppfd_per_lux),
        }
    }

    /// Refuses values that have no meaning, before anything is opened.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Split { train, calibration, train_rows_max, test_rows_max, .. } = self.split;
        if !(train > 0.0 && calibration > 0.0 && train + calibration < 1.0) {
            let what = format!(
                "train {train} and calibration {calibration} must be above 0 and leave some of 1 for testing"
            );
            return Err(ConfigError::invalid("split", what));
        }
        if train_rows_max < 100 || test_rows_max < 100 {
            let what = "train_rows_max and test_rows_max must be at least 100";
            return Err(ConfigError::invalid("split", what));
        }
        if !(0.5..1.0).contains(&self.interval.level) {
            let what = format!("{} is not a share from 0.5 to below 1", self.interval.level);
            return Err(ConfigError::invalid("interval.level", what));
        }
        if !(0.01..=3600.0).contains(&self.source.timeout_s) {
            let what = format!("{} is not 0.01 to 3600", self.source.timeout_s);
            return Err(ConfigError::invalid("source.timeout_s", what));
        }
        check_gate(&self.gate)?;
        self.serving.check()?;
        self.watch.check()?;
        self.mqtt.check()?;
        for zone in self.zones.keys() {
            let Comfort { heat_below, cool_above, .. } = self.comfort_in(zone);
            if heat_below >= cool_above {
                let what = format!("heat_below {heat_below} must be below cool_above {cool_above}");
                return Err(ConfigError::invalid(&format!("zones.\"{zone}\""), what));
            }
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        toml::from_str(DEFAULTS).expect("the compiled-in defaults are settings")
    }
}
