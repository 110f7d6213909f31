//! Settings: comfort bands, thresholds, splits, folders.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use feature_api::{FeatureReadError, FeatureStoreClient};
use models::registry::PromotionGate;
use serde::{Deserialize, Serialize};
use service::{Secret, config::ConfigError, rest::RestConfig};
use telemetry::ZoneId;

use crate::serve::settings::{ModelWatchSettings, PublisherSettings, ServingSettings, check_gate};

/// Commented defaults, which contain every key.
pub const DEFAULTS: &str = include_str!("default.toml");
/// Tables whose keys are chosen by the user.
pub const OPEN_TABLES: [&str; 1] = ["zones"];

/// Configuration of the trainer; `default.toml` explains each key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerSettings {
    /// Folder or bucket of the registry.
    pub registry_dir: PathBuf,
    /// Folder of the reports.
    pub reports_dir: PathBuf,
    /// Seed; the same seed gives the same models.
    pub seed: u64,
    /// Address of the feature store.
    pub source: FeatureSourceSettings,
    /// REST listener.
    pub rest: RestConfig,
    /// Split of rows in time.
    pub split: SplitSettings,
    /// Prediction intervals.
    pub interval: IntervalSettings,
    /// Comfort bands and needs of people and plants.
    pub comfort: ComfortSettings,
    /// Settings of zones that differ from `comfort`.
    pub zones: BTreeMap<ZoneId, ComfortOverride>,
    /// Conditions that a model must meet before it is served.
    pub gate: PromotionGate,
    /// Conditions under which the baseline answers.
    pub serving: ServingSettings,
    /// Scores of served predictions, and retraining.
    pub watch: ModelWatchSettings,
    /// Predictions by MQTT.
    pub mqtt: PublisherSettings,
    /// Access to a registry in a bucket.
    pub s3: object_store::Settings,
}

/// Address of the feature store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSourceSettings {
    /// URL, `http://host:port`.
    pub url: String,
    /// Token of the feature store.
    pub token: Secret,
    /// Longest time to wait for one answer, s.
    pub timeout_s: f64,
}

impl FeatureSourceSettings {
    /// A client of the feature store at `url`. Nothing is sent yet.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new_client(&self) -> Result<FeatureStoreClient, FeatureReadError> {
        let timeout = Duration::from_secs_f64(self.timeout_s);
        FeatureStoreClient::new(&self.url, self.token.clone(), timeout)
    }
}

/// How rows are divided, in the order of time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSettings {
    /// Share for fitting.
    pub train: f64,
    /// Share that models are selected and intervals calibrated on.
    pub calibration: f64,
    /// Largest number of rows for fitting.
    pub train_rows_max: usize,
    /// Largest number of rows for calibration, and for testing.
    pub test_rows_max: usize,
    /// Most rows to validate on at each origin of the selection.
    pub validation_rows_max: usize,
    /// Rows that a model may be fitted on at all origins of the selection together.
    pub selection_rows_max: usize,
    /// How much of a zone's beginning is left out.
    pub warm_up_s: i64,
}

/// Prediction intervals.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalSettings {
    /// Share of targets to cover, 0 to 1.
    pub level: f64,
}

/// Comfort band and needs of people or plants in a zone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComfortSettings {
    /// Temperature below which the zone is heated, °C.
    pub heat_below: f64,
    /// Temperature above which the zone is cooled, °C.
    pub cool_above: f64,
    /// Soil moisture at which plants must be watered, %.
    pub soil_moisture_critical: f64,
    /// Crop, which determines the light that is needed.
    pub crop: CropKind,
    /// Target of the daily light integral, mol/(m²·d); 0 takes the crop's target.
    pub dli_target: f64,
    /// Photon flux of one lux, µmol/(m²·s).
    pub ppfd_per_lux: f64,
    /// Photon flux of the lamps at the plants, µmol/(m²·s).
    pub lamp_ppfd: f64,
}

/// Crop of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropKind {
    /// Nothing in particular; treated as lettuce.
    Any,
    /// Leaf lettuce and other leafy greens.
    Lettuce,
    /// Basil and other herbs.
    Herbs,
    /// Strawberry.
    Strawberry,
    /// Cucumber.
    Cucumber,
    /// Sweet pepper.
    Pepper,
    /// Tomato.
    Tomato,
}

impl CropKind {
    /// Usual target for good growth, mol/(m²·d): lettuce 17 (L. D. Albright, A.-J. Both, A. J.
    /// Chiu, "Controlling greenhouse light to a consistent daily integral", Trans. ASAE 43(2),
    /// 2000), strawberry 20 to 25 and fruiting vegetables 20 to 30 (extension services). Set
    /// `dli_target` for another target.
    #[must_use]
    pub const fn dli_target(self) -> f64 {
        match self {
            Self::Any | Self::Lettuce => 17.0,
            Self::Herbs => 15.0,
            Self::Strawberry => 20.0,
            Self::Cucumber | Self::Pepper => 25.0,
            Self::Tomato => 30.0,
        }
    }
}

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;

impl ComfortSettings {
    /// Refuses values that have no meaning; `table` is their place in the configuration.
    fn check(&self, table: &str) -> Result<(), ConfigError> {
        let Self { heat_below, cool_above, .. } = *self;
        if heat_below.partial_cmp(&cool_above) != Some(std::cmp::Ordering::Less) {
            let what = format!("heat_below {heat_below} must be below cool_above {cool_above}");
            return Err(ConfigError::invalid(table, what));
        }
        let ranges = [
            ("heat_below", heat_below, -50.0, 60.0, "°C"),
            ("cool_above", cool_above, -50.0, 60.0, "°C"),
            ("soil_moisture_critical", self.soil_moisture_critical, -100.0, 100.0, "%"),
            ("dli_target", self.dli_target, 0.0, 100.0, "mol/(m²·d)"),
            ("ppfd_per_lux", self.ppfd_per_lux, 0.001, 0.1, "µmol/(m²·s)"),
            ("lamp_ppfd", self.lamp_ppfd, 1.0, 3000.0, "µmol/(m²·s)"),
        ];
        for (key, found, low, high, unit) in ranges {
            if !(low..=high).contains(&found) {
                let what = format!("{found} is not {low} to {high} {unit}");
                return Err(ConfigError::invalid(&format!("{table}.{key}"), what));
            }
        }
        Ok(())
    }

    /// Heating class at a temperature: 0 to heat, 2 to cool, else 1. `None` for NaN.
    #[must_use]
    pub fn heating_class(&self, temperature: f64) -> Option<usize> {
        let above = [self.heat_below <= temperature, self.cool_above < temperature];
        (!temperature.is_nan()).then(|| above.into_iter().filter(|above| *above).count())
    }

    /// Target of the daily light integral, mol/(m²·d).
    #[must_use]
    pub fn dli_wanted(&self) -> f64 {
        if self.dli_target > 0.0 { self.dli_target } else { self.crop.dli_target() }
    }

    /// Daily light integral of a day with this mean light, mol/(m²·d).
    #[must_use]
    pub fn dli_of_lux(&self, lux: f64) -> f64 {
        lux * self.ppfd_per_lux * DAY_S / 1e6
    }

    /// Hours, 0 to 24, for which the lamps must shine in a day with this mean light (lux) to reach
    /// the target of the daily light integral.
    #[must_use]
    pub fn supplement_hours(&self, lux: f64) -> f64 {
        let lamp_mol_h = self.lamp_ppfd * 3600.0 / 1e6;
        let hours = (self.dli_wanted() - self.dli_of_lux(lux)) / lamp_mol_h;
        if hours.is_nan() { f64::NAN } else { hours.clamp(0.0, 24.0) }
    }
}

/// Values of [`ComfortSettings`] that differ in one zone.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComfortOverride {
    heat_below: Option<f64>,
    cool_above: Option<f64>,
    soil_moisture_critical: Option<f64>,
    crop: Option<CropKind>,
    dli_target: Option<f64>,
    ppfd_per_lux: Option<f64>,
    lamp_ppfd: Option<f64>,
}

impl TrainerSettings {
    /// Settings that hold in `zone`.
    #[must_use]
    pub fn comfort_in(&self, zone: &ZoneId) -> ComfortSettings {
        let overrides = self.zones.get(zone).copied().unwrap_or_default();
        let all = self.comfort;
        ComfortSettings {
            heat_below: overrides.heat_below.unwrap_or(all.heat_below),
            cool_above: overrides.cool_above.unwrap_or(all.cool_above),
            soil_moisture_critical: overrides
                .soil_moisture_critical
                .unwrap_or(all.soil_moisture_critical),
            crop: overrides.crop.unwrap_or(all.crop),
            dli_target: overrides.dli_target.unwrap_or(all.dli_target),
            ppfd_per_lux: overrides.ppfd_per_lux.unwrap_or(all.ppfd_per_lux),
            lamp_ppfd: overrides.lamp_ppfd.unwrap_or(all.lamp_ppfd),
        }
    }

    /// Refuses values that have no meaning, before anything is opened.
    ///
    /// # Errors
    /// Names the key, the value found and the value expected.
    pub fn check(&self) -> Result<(), ConfigError> {
        let SplitSettings { train, calibration, train_rows_max, test_rows_max, .. } = self.split;
        let validation_rows_max = self.split.validation_rows_max;
        if !(train > 0.0 && calibration > 0.0 && train + calibration < 1.0) {
            let what = format!(
                "train {train} and calibration {calibration} must be above 0 and leave some of 1 for testing"
            );
            return Err(ConfigError::invalid("split", what));
        }
        if train_rows_max < 100 || test_rows_max < 100 || validation_rows_max < 100 {
            let what = "train_rows_max, test_rows_max and validation_rows_max must be at least 100";
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
        self.rest.check_values()?;
        check_gate(&self.gate)?;
        self.serving.check()?;
        self.watch.check()?;
        self.mqtt.check()?;
        self.comfort.check("comfort")?;
        self.zones
            .keys()
            .try_for_each(|zone| self.comfort_in(zone).check(&format!("zones.\"{zone}\"")))
    }
}

impl Default for TrainerSettings {
    fn default() -> Self {
        toml::from_str(DEFAULTS).expect("the compiled-in defaults are settings")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_settings_are_refused_with_their_place() {
        let check = |table: &str, expect: &str| {
            let mut settings = TrainerSettings::default();
            settings.zones.insert("farm/bay-1".parse().unwrap(), toml::from_str(table).unwrap());
            let message =
                settings.check().map_or_else(|error| error.to_string(), |()| "fine".into());
            assert!(message.contains(expect), "{table}: {message}");
        };
        check("heat_below = 16.0", "fine");
        check("heat_below = 26.0", "farm/bay-1\"");
        check("heat_below = nan", "farm/bay-1\"");
        check("lamp_ppfd = 0.0", "lamp_ppfd");
        check("dli_target = 200.0", "200 is not 0 to 100 mol/(m²·d)");
        check("soil_moisture_critical = 130.0", "soil_moisture_critical");
    }

    #[test]
    fn a_zone_has_the_light_that_its_crop_wants() {
        let wanted = |table: &str| {
            let mut settings = TrainerSettings::default();
            let zone: ZoneId = "farm/bay-1".parse().unwrap();
            settings.zones.insert(zone.clone(), toml::from_str(table).unwrap());
            settings.comfort_in(&zone).dli_wanted()
        };
        assert_eq!(wanted(""), 17.0);
        assert_eq!(wanted("crop = \"tomato\""), 30.0);
        assert_eq!(wanted("crop = \"tomato\"\ndli_target = 22.0"), 22.0);
    }
}
