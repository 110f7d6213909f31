//! What can be configured; `default.toml` says what each key means.

use std::{collections::BTreeMap, path::PathBuf};

use feature_engine::settings::EngineSettingsError;
pub use feature_engine::settings::{EngineSettings, WindowDuration};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use service::{config::ConfigError, rest::RestConfig};
use telemetry::{MetricSpec, MetricTable, SmolStr, TimeFormat, time::parse_time_zone};

use crate::{engine::DAY_MS, sql_expressions::configured_definitions};

/// The commented defaults, which name every key.
pub const DEFAULTS: &str = include_str!("default.toml");
/// Tables of it whose keys are the user's own.
pub const OPEN_TABLES: [&str; 6] = [
    "metrics",
    "engine.clock_offsets_s",
    "engine.drying_in",
    "kpi.rules.intervals_s",
    "kpi.rules.comfort",
    "online.max_ages_s",
];

/// The largest correction of a clock: more is no offset, but a clock that is not set.
const CLOCK_OFFSET_S_MAX: f64 = 31_622_400.0;

/// The feature store's configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureStoreSettings {
    /// The DuckDB file.
    pub store: StoreSettings,
    /// Where readings come from.
    pub log: eventlog::EventLogConfig,
    /// Windows, grid, lateness.
    pub engine: EngineSettings,
    /// When a transaction is written.
    pub commit: CommitSettings,
    /// A folder whose files are taken in.
    pub watch: FolderWatchSettings,
    /// Hourly and daily KPIs.
    pub kpi: KpiSettings,
    /// Where old readings go.
    pub lake: LakeSettings,
    /// The store of a lake that is in a bucket.
    pub s3: object_store::Settings,
    /// How old values may be that are served as present.
    pub online: OnlineAgeLimits,
    /// The REST listener.
    pub rest: StoreRestSettings,
    /// The site's own metrics.
    pub metrics: BTreeMap<SmolStr, MetricSpec>,
}

/// How old values may be that are served as present.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineAgeLimits {
    /// Of every metric that is not named, seconds; 0: of any age.
    pub max_age_s: f64,
    /// Of single metrics, seconds; 0: of any age.
    pub max_ages_s: BTreeMap<SmolStr, f64>,
}

impl OnlineAgeLimits {
    /// The largest age of a metric's values that counts as present, seconds.
    #[must_use]
    pub fn metric_max_age_s(&self, metric: &str) -> f64 {
        let age_s = self.max_ages_s.get(metric).copied().unwrap_or(self.max_age_s);
        if age_s > 0.0 { age_s } else { f64::INFINITY }
    }

    /// The same of a row, seconds.
    #[must_use]
    pub fn row_max_age_s(&self) -> f64 {
        if self.max_age_s > 0.0 { self.max_age_s } else { f64::INFINITY }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let named =
            self.max_ages_s.iter().map(|(metric, age_s)| (format!("max_ages_s.{metric}"), *age_s));
        let mut all = named.chain([("max_age_s".to_owned(), self.max_age_s)]);
        match all.find(|(_, age_s)| !(age_s.is_finite() && *age_s >= 0.0)) {
            Some((key, age_s)) => {
                let what = format!("{age_s}: expected seconds, or 0 for any age");
                Err(ConfigError::invalid(&format!("online.{key}"), what))
            }
            None => Ok(()),
        }
    }
}

/// The DuckDB file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// The file.
    pub path: PathBuf,
    /// DuckDB's limit, MB.
    pub memory_mb_max: u32,
    /// DuckDB's threads; 0: half of the processors.
    pub threads: u32,
}

/// When a transaction is written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitSettings {
    /// At latest after this time.
    pub interval_ms: u64,
    /// Or with this many readings.
    pub readings_max: usize,
}

/// A folder whose files are taken in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderWatchSettings {
    /// The folder; "" for none.
    pub dir: PathBuf,
    /// Site of files that name none.
    pub site: String,
    /// Time zone of times that say neither offset nor zone.
    pub time_zone: String,
    /// How times are written.
    pub time_format: TimeFormat,
    /// How long a file must not change before it is read.
    pub settle_s: u32,
    /// Largest file.
    pub file_bytes_max: u64,
}

/// Where old readings go, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeSettings {
    /// The folder, or `s3://bucket/prefix`; "" for no lake.
    pub path: PathBuf,
    /// Where files of a bucket are while they are read and written.
    pub cache_dir: PathBuf,
    /// What they may take there, bytes.
    pub cache_bytes_max: u64,
    /// Days that bronze stays in the DuckDB file; 0: for ever. So are all of these.
    pub bronze_days: u32,
    /// The same for silver.
    pub silver_days: u32,
    /// The same for feature rows.
    pub features_days: u32,
    /// Days that superseded corrections of feature rows stay; 0: for ever.
    pub revisions_days: u32,
    /// Days after which KPIs are deleted.
    pub kpi_days: u32,
    /// Files of a partition before they are put together.
    pub files_max: usize,
    /// How often what is old moves.
    pub move_h: u32,
}

impl Default for LakeSettings {
    fn default() -> Self {
        FeatureStoreSettings::default().lake
    }
}

impl LakeSettings {
    /// Whether there is one.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }

    /// The bucket's address, where it is in one.
    #[must_use]
    pub fn bucket_address(&self) -> Option<&str> {
        self.path.to_str().filter(|path| path.starts_with(object_store::SCHEME))
    }

    /// The local folder of its files, or of their copies.
    #[must_use]
    pub fn local_folder(&self) -> Option<&std::path::Path> {
        let own = if self.bucket_address().is_some() { &self.cache_dir } else { &self.path };
        self.is_enabled().then_some(own.as_path())
    }
}

/// Hourly and daily KPIs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KpiSettings {
    /// How often hours with new readings are counted anew.
    pub refresh_s: u32,
    /// How they are counted.
    pub rules: agronomy::kpi::KpiRules,
}

/// The REST listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreRestSettings {
    /// What every service has.
    #[serde(flatten)]
    pub server: RestConfig,
    /// Most rows in one answer.
    pub rows_max: usize,
}

impl Default for FeatureStoreSettings {
    fn default() -> Self {
        toml::from_str(DEFAULTS).expect("the compiled-in defaults are settings")
    }
}

impl FeatureStoreSettings {
    /// Refuses values that have no meaning, before anything is opened.
    ///
    /// # Errors
    /// The key, what was found and what was expected.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.online.check()?;
        self.rest.server.check_values()?;
        let EngineSettings { grid_s, interval_s, .. } = &self.engine;
        if *grid_s == 0 || !grid_s.is_multiple_of(60) {
            let what = format!("{grid_s} is not a multiple of 60");
            return Err(ConfigError::invalid("engine.grid_s", what));
        }
        if self.engine.zones_max < ZONES_MAX_MIN {
            let what = format!("{} is not at least {ZONES_MAX_MIN}", self.engine.zones_max);
            return Err(ConfigError::invalid("engine.zones_max", what));
        }
        if *interval_s == 0 {
            return Err(ConfigError::invalid("engine.interval_s", "0 is not at least 1"));
        }
        if self.commit.readings_max == 0 {
            return Err(ConfigError::invalid("commit.readings_max", "0 is not at least 1"));
        }
        // DuckDB calls an open file by its name, and would take it for a schema.
        let name = self.store.path.file_stem().unwrap_or_default().to_string_lossy();
        if ["bronze", "silver", "gold", "features", "meta", "lake"].contains(&name.as_ref()) {
            let what = format!("a file cannot be named `{name}`, like one of its schemas");
            return Err(ConfigError::invalid("store.path", what));
        }
        // A restart takes in the readings of all windows, and of corrections behind them.
        let definitions = configured_definitions(&self.engine, &self.metric_table()?)?;
        let needed_days = self.engine.retention_ms(definitions.widest_ms()) / DAY_MS + 1;
        let silver_days = i64::from(self.lake.silver_days);
        if silver_days > 0 && silver_days < needed_days {
            let what = format!("{silver_days} is less than {needed_days}, which windows need");
            return Err(ConfigError::invalid("lake.silver_days", what));
        }
        if let Some(address) = self.lake.bucket_address() {
            let opened = object_store::Bucket::open(address, &self.s3);
            opened.map_err(|error| ConfigError::invalid("lake.path", error.to_string()))?;
        }
        if let Err(error) = self.kpi.rules.clone().into_checked() {
            return Err(ConfigError::invalid("kpi.rules", error.to_string()));
        }
        for (key, drying) in self.engine.all_drying_settings() {
            let checked = drying.clone().into_checked();
            checked.map_err(|error| ConfigError::invalid(&key, error.to_string()))?;
        }
        for (device, offset_s) in &self.engine.clock_offsets_s {
            if device.split('/').filter(|level| !level.is_empty()).count() != 3 {
                let what = format!("`{device}` is no device, as in `farm/bay-1/probe`");
                return Err(ConfigError::invalid("engine.clock_offsets_s", what));
            }
            if !offset_s.is_finite() || offset_s.abs() > CLOCK_OFFSET_S_MAX {
                let what = format!("{offset_s} s of `{device}` is more than a year");
                return Err(ConfigError::invalid("engine.clock_offsets_s", what));
            }
        }
        self.engine.site_place().map_err(engine_error)?;
        self.watch.time_zone()?;
        self.engine.time_zone().map(|_| ()).map_err(engine_error)
    }

    /// The metrics of the site.
    ///
    /// # Errors
    /// A metric whose range is empty.
    pub fn metric_table(&self) -> Result<MetricTable, ConfigError> {
        MetricTable::with_site_metrics(self.metrics.clone())
            .map_err(|what| ConfigError::invalid("metrics", what))
    }
}

impl FolderWatchSettings {
    /// The time zone of times that say none.
    ///
    /// # Errors
    /// A name that the IANA database does not have.
    pub fn time_zone(&self) -> Result<TimeZone, ConfigError> {
        parse_time_zone(&self.time_zone)
            .map_err(|what| ConfigError::invalid("watch.time_zone", what))
    }
}

/// Below this, zones would be read again and again.
const ZONES_MAX_MIN: usize = 10;

/// The error of the engine's settings, as one of the whole configuration.
pub(crate) fn engine_error(error: EngineSettingsError) -> ConfigError {
    ConfigError::invalid(&error.key, error.problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_has_the_same_defaults() {
        let json = |settings: &EngineSettings| serde_json::to_value(settings).unwrap();
        let engine = FeatureStoreSettings::default().engine;
        assert_eq!(json(&engine), json(&EngineSettings::default()));
    }

    #[test]
    fn the_defaults_are_settings_and_wrong_ones_are_named() {
        FeatureStoreSettings::default().check().unwrap();
        let mut wrong = FeatureStoreSettings::default();
        wrong.engine.time_zone = "Mars/Olympus".to_owned();
        assert!(wrong.check().unwrap_err().to_string().contains("engine.time_zone"));
        wrong.store.path = "var/features.duckdb".into();
        assert!(wrong.check().unwrap_err().to_string().contains("store.path"));
        wrong.store.path = "var/x.duckdb".into();
        wrong.lake.path = "s3://farm-lake/store-1".into();
        assert!(wrong.check().unwrap_err().to_string().contains("s3.secret_key"));
        wrong.lake = LakeSettings::default();
        wrong.engine.grid_s = 90;
        assert!(wrong.check().unwrap_err().to_string().contains("engine.grid_s"));
    }
}
