//! Configuration of the feature store; `default.toml` documents each key.

use std::{collections::BTreeMap, path::PathBuf};

use feature_engine::settings::EngineSettingsError;
pub use feature_engine::settings::{EngineSettings, WindowDuration};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use service::{config::ConfigError, rest::RestConfig};
use telemetry::{MetricSpec, MetricTable, SmolStr, TimeFormat, time::parse_time_zone};

use crate::{engine::DAY_MS, sql_expressions::configured_definitions};

/// Commented defaults, with every key.
pub const DEFAULTS: &str = include_str!("default.toml");
/// Tables whose keys the user chooses.
pub const OPEN_TABLES: [&str; 6] = [
    "metrics",
    "engine.clock_offsets_s",
    "engine.drying_in",
    "kpi.rules.intervals_s",
    "kpi.rules.comfort",
    "online.max_ages_s",
];

/// Largest correction of a clock, s. With more, the clock is not set rather than offset.
const CLOCK_OFFSET_S_MAX: f64 = 31_622_400.0;

/// Configuration of the feature store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureStoreSettings {
    /// The DuckDB file.
    pub store: StoreSettings,
    /// Log that readings come from.
    pub log: eventlog::EventLogConfig,
    /// Windows, grid and lateness.
    pub engine: EngineSettings,
    /// Conditions for a commit.
    pub commit: CommitSettings,
    /// Watched folder.
    pub watch: FolderWatchSettings,
    /// Hourly and daily KPIs.
    pub kpi: KpiSettings,
    /// Lake for old rows.
    pub lake: LakeSettings,
    /// Object store of a lake in a bucket.
    pub s3: object_store::Settings,
    /// Ages up to which values are served as current.
    pub online: OnlineAgeLimits,
    /// The REST listener.
    pub rest: StoreRestSettings,
    /// Metrics of the site.
    pub metrics: BTreeMap<SmolStr, MetricSpec>,
}

/// Ages up to which values are served as current.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineAgeLimits {
    /// Limit for metrics that are not named, seconds; 0 means any age.
    pub max_age_s: f64,
    /// Limits for single metrics, seconds; 0 means any age.
    pub max_ages_s: BTreeMap<SmolStr, f64>,
}

impl OnlineAgeLimits {
    /// Returns the largest age up to which a metric's values are current, seconds.
    #[must_use]
    pub fn metric_max_age_s(&self, metric: &str) -> f64 {
        let age_s = self.max_ages_s.get(metric).copied().unwrap_or(self.max_age_s);
        if age_s > 0.0 { age_s } else { f64::INFINITY }
    }

    /// Returns the largest age up to which a row is current, seconds.
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

/// Settings of the DuckDB file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// The file.
    pub path: PathBuf,
    /// Memory limit of DuckDB, MB.
    pub memory_mb_max: u32,
    /// Threads of DuckDB; 0 means half of the processors.
    pub threads: u32,
}

/// When a transaction is written.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitSettings {
    /// Longest time between two commits, ms.
    pub interval_ms: u64,
    /// Number of readings at which a commit is due earlier.
    pub readings_max: usize,
}

/// Watched folder, whose files are ingested.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderWatchSettings {
    /// The folder; "" means none.
    pub dir: PathBuf,
    /// Site for files that do not name one.
    pub site: String,
    /// Time zone of times that have neither offset nor zone.
    pub time_zone: String,
    /// Format of times.
    pub time_format: TimeFormat,
    /// How long a file must not change before it is read, s.
    pub settle_s: u32,
    /// Size of the largest file, bytes.
    pub file_bytes_max: u64,
}

/// Lake for old rows, and when they move.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeSettings {
    /// The folder, or `s3://bucket/prefix`; "" means no lake.
    pub path: PathBuf,
    /// Folder for copies of a bucket's files while they are read and written.
    pub cache_dir: PathBuf,
    /// Largest size of these copies, bytes.
    pub cache_bytes_max: u64,
    /// Days that bronze stays in the DuckDB file; 0 means for ever.
    pub bronze_days: u32,
    /// Days that silver stays in the DuckDB file; 0 means for ever.
    pub silver_days: u32,
    /// Days that feature rows stay in the DuckDB file; 0 means for ever.
    pub features_days: u32,
    /// Days that superseded corrections of feature rows stay; 0 means for ever.
    pub revisions_days: u32,
    /// Days after which KPIs are deleted; 0 means never.
    pub kpi_days: u32,
    /// Number of files above which a partition is compacted.
    pub files_max: usize,
    /// Hours between two moves of old rows.
    pub move_h: u32,
}

impl Default for LakeSettings {
    fn default() -> Self {
        FeatureStoreSettings::default().lake
    }
}

impl LakeSettings {
    /// Returns whether a lake is configured.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.path.as_os_str().is_empty()
    }

    /// Returns the bucket's address, if the lake is in a bucket.
    #[must_use]
    pub fn bucket_address(&self) -> Option<&str> {
        self.path.to_str().filter(|path| path.starts_with(object_store::SCHEME))
    }

    /// Returns the local folder of its files, or of their copies.
    #[must_use]
    pub fn local_folder(&self) -> Option<&std::path::Path> {
        let folder = if self.bucket_address().is_some() { &self.cache_dir } else { &self.path };
        self.is_enabled().then_some(folder.as_path())
    }
}

/// Settings of hourly and daily KPIs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KpiSettings {
    /// Seconds between two counts of hours with new readings.
    pub refresh_s: u32,
    /// Rules of the KPIs.
    pub rules: agronomy::kpi::KpiRules,
}

/// Settings of the REST listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreRestSettings {
    /// Settings that all services share.
    #[serde(flatten)]
    pub server: RestConfig,
    /// Largest number of rows in one answer.
    pub rows_max: usize,
}

impl Default for FeatureStoreSettings {
    fn default() -> Self {
        toml::from_str(DEFAULTS).expect("the compiled-in defaults are settings")
    }
}

impl FeatureStoreSettings {
    /// Checks the values before anything is opened.
    ///
    /// # Errors
    /// Fails with the key, the found value and the expected one.
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
        // DuckDB names an open file by its stem, and would confuse it with a schema.
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
                let what =
                    format!("`{device}` is not a device, expected a name as in `farm/bay-1/probe`");
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

    /// Returns the metrics of the site.
    ///
    /// # Errors
    /// Fails if the range of a metric is empty.
    pub fn metric_table(&self) -> Result<MetricTable, ConfigError> {
        MetricTable::with_site_metrics(self.metrics.clone())
            .map_err(|what| ConfigError::invalid("metrics", what))
    }
}

impl FolderWatchSettings {
    /// Returns the time zone of times that have none.
    ///
    /// # Errors
    /// Fails if the IANA database does not have the name.
    pub fn time_zone(&self) -> Result<TimeZone, ConfigError> {
        parse_time_zone(&self.time_zone)
            .map_err(|what| ConfigError::invalid("watch.time_zone", what))
    }
}

/// Smallest `zones_max`; with fewer, zones would be restored again and again.
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
