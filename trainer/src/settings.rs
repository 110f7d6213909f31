//! Comfort bands, thresholds, splits, and where things are kept.

use std::{collections::BTreeMap, path::PathBuf};

use models::registry::PromotionGate;
use serde::{Deserialize, Serialize};
use service::{Secret, config::ConfigError, rest::RestConfig};
use telemetry::ZoneId;

use crate::serve::settings::{ModelWatchSettings, PublisherSettings, ServingSettings, check_gate};

/// The commented defaults, which name every key.
pub const DEFAULTS: &str = include_str!("default.toml");
/// Tables of it whose keys are the user's own.
pub const OPEN_TABLES: [&str; 1] = ["zones"];

/// The trainer's configuration; `default.toml` says what each key means.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerSettings {
    /// Where models are kept.
    pub registry_dir: PathBuf,
    /// Where reports are written.
    pub reports_dir: PathBuf,
    /// The same seed gives the same models.
    pub seed: u64,
    /// The feature store.
    pub source: FeatureSourceSettings,
    /// The REST listener.
    pub rest: RestConfig,
    /// How rows are divided in time.
    pub split: SplitSettings,
    /// Prediction intervals.
    pub interval: IntervalSettings,
    /// What is good for people or plants.
    pub comfort: ComfortSettings,
    /// What differs from `comfort` in a zone.
    pub zones: BTreeMap<ZoneId, ComfortOverride>,
    /// What a model must show before it is served.
    pub gate: PromotionGate,
    /// When a prediction is the baseline's.
    pub serving: ServingSettings,
    /// Scores of what was served, and training again.
    pub watch: ModelWatchSettings,
    /// Predictions by MQTT.
    pub mqtt: PublisherSettings,
    /// A registry elsewhere.
    pub s3: object_store::Settings,
}

/// Where the feature store is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSourceSettings {
    /// `http://host:port`.
    pub url: String,
    /// Its token.
    pub token: Secret,
    /// Longest wait for one answer.
    pub timeout_s: f64,
}

/// How rows are divided, in the order of time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSettings {
    /// Share that models are fitted on.
    pub train: f64,
    /// Share that models are selected and intervals calibrated on.
    pub calibration: f64,
    /// Most rows to fit on.
    pub train_rows_max: usize,
    /// Most rows to calibrate on, and to test on.
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
    /// Share of truths to cover, 0 to 1.
    pub level: f64,
}

/// What is good for people or plants in a zone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComfortSettings {
    /// Below this it is heated, °C.
    pub heat_below: f64,
    /// Above this it is cooled, °C.
    pub cool_above: f64,
    /// Soil moisture at which plants must be watered, %.
    pub soil_moisture_critical: f64,
    /// What grows here, which says how much light it wants.
    pub crop: CropKind,
    /// Daily light integral that it wants, mol/(m²·d); 0: as the crop does.
    pub dli_target: f64,
    /// Photon flux of one lux, µmol/(m²·s).
    pub ppfd_per_lux: f64,
    /// Photon flux of the lamps where they shine, µmol/(m²·s).
    pub lamp_ppfd: f64,
}

/// What grows in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CropKind {
    /// Nothing in particular: as lettuce.
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
    /// A usual target for good growth, mol/(m²·d): lettuce 17 (L. D. Albright,
    /// A.-J. Both, A. J. Chiu, "Controlling greenhouse light to a consistent
    /// daily integral", Trans. ASAE 43(2), 2000), strawberry 20 to 25 and
    /// fruiting vegetables 20 to 30 (extension services). Who knows better
    /// sets `dli_target`.
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
    /// Refuses values that have no meaning; `table` is where they stand.
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

    /// 0 where it is to be heated at a temperature, 2 where it is to be cooled,
    /// else 1; none of no temperature.
    #[must_use]
    pub fn heating_class(&self, temperature: f64) -> Option<usize> {
        let above = [self.heat_below <= temperature, self.cool_above < temperature];
        (!temperature.is_nan()).then(|| above.into_iter().filter(|above| *above).count())
    }

    /// The daily light integral that is wanted, mol/(m²·d).
    #[must_use]
    pub fn dli_wanted(&self) -> f64 {
        if self.dli_target > 0.0 { self.dli_target } else { self.crop.dli_target() }
    }

    /// The daily light integral of a day with this mean light, mol/(m²·d).
    #[must_use]
    pub fn dli_of_lux(&self, lux: f64) -> f64 {
        lux * self.ppfd_per_lux * DAY_S / 1e6
    }

    /// Hours, 0 to 24, for which the lamps must shine in a day with this mean
    /// light (lux) so that plants get what they want.
    #[must_use]
    pub fn supplement_hours(&self, lux: f64) -> f64 {
        let lamp_mol_h = self.lamp_ppfd * 3600.0 / 1e6;
        let hours = (self.dli_wanted() - self.dli_of_lux(lux)) / lamp_mol_h;
        if hours.is_nan() { f64::NAN } else { hours.clamp(0.0, 24.0) }
    }
}

/// What differs from [`ComfortSettings`] in one zone.
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
    /// What holds in `zone`.
    #[must_use]
    pub fn comfort_in(&self, zone: &ZoneId) -> ComfortSettings {
        let own = self.zones.get(zone).copied().unwrap_or_default();
        let all = self.comfort;
        ComfortSettings {
            heat_below: own.heat_below.unwrap_or(all.heat_below),
            cool_above: own.cool_above.unwrap_or(all.cool_above),
            soil_moisture_critical: own
                .soil_moisture_critical
                .unwrap_or(all.soil_moisture_critical),
            crop: own.crop.unwrap_or(all.crop),
            dli_target: own.dli_target.unwrap_or(all.dli_target),
            ppfd_per_lux: own.ppfd_per_lux.unwrap_or(all.ppfd_per_lux),
            lamp_ppfd: own.lamp_ppfd.unwrap_or(all.lamp_ppfd),
        }
    }

    /// Refuses values that have no meaning, before anything is opened.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
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
        let check = |own: &str, expect: &str| {
            let mut settings = TrainerSettings::default();
            settings.zones.insert("farm/bay-1".parse().unwrap(), toml::from_str(own).unwrap());
            let message =
                settings.check().map_or_else(|error| error.to_string(), |()| "fine".into());
            assert!(message.contains(expect), "{own}: {message}");
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
        let wanted = |own: &str| {
            let mut settings = TrainerSettings::default();
            let zone: ZoneId = "farm/bay-1".parse().unwrap();
            settings.zones.insert(zone.clone(), toml::from_str(own).unwrap());
            settings.comfort_in(&zone).dli_wanted()
        };
        assert_eq!(wanted(""), 17.0);
        assert_eq!(wanted("crop = \"tomato\""), 30.0);
        assert_eq!(wanted("crop = \"tomato\"\ndli_target = 22.0"), 22.0);
    }
}
