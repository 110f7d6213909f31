//! Configuration of the feature store; `default.toml` documents each key.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, sync::Arc};

use agronomy::{drying, sun::GeoLocation};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use service::{config::ConfigError, rest::RestConfig};
use telemetry::{MetricSpec, MetricTable, SmolStr, TimeFormat, ZoneId, time::parse_time_zone};

use crate::{
    definitions::FeatureDefinitions,
    engine::{DAY_MS, HOUR_MS, SOIL_KEPT_MS},
};

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

/// Windows, grid and lateness.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// File of feature definitions; "" means the built-in ones.
    pub features: PathBuf,
    /// Distance between rows in event time, s.
    pub grid_s: u32,
    /// Allowed lateness of readings in final rows, s.
    pub lateness_s: u32,
    /// Allowed lateness of corrections, s.
    pub late_max_s: u32,
    /// How far a timestamp may be ahead of its arrival, s.
    pub future_max_s: u32,
    /// Longest silence during which a zone still has rows, s.
    pub silence_max_s: u32,
    /// Zones in memory. Other zones are restored from the DuckDB file when they have new
    /// readings.
    #[serde(default = "zones_max")]
    pub zones_max: usize,
    /// Expected distance between readings, s.
    pub interval_s: u32,
    /// Longest time for which a value is taken to hold, s.
    pub hold_max_s: u32,
    /// Corrections that are added to the timestamps of live devices, by `site/zone/device`, s.
    pub clock_offsets_s: BTreeMap<SmolStr, f64>,
    /// Time zone, a name in the IANA database.
    pub time_zone: String,
    /// Location: degrees north and east; empty if it is not known.
    pub place: Vec<f64>,
    /// Parameters of the drying trends.
    pub drying: drying::DryingSettings,
    /// Parameters of the drying trends in single zones.
    pub drying_in: BTreeMap<ZoneId, drying::DryingSettings>,
}

/// Conditions for a commit.
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
        // A restart needs the readings of all windows, also for the oldest correctable row.
        let definitions = self.engine.load_definitions(&self.metric_table()?)?;
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
        self.engine.site_place()?;
        self.watch.time_zone()?;
        self.engine.time_zone().map(|_| ())
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

const fn zones_max() -> usize {
    1_000
}

impl EngineSettings {
    /// Event time behind a zone's newest reading in which rows may still be computed, ms. It
    /// covers late readings, and rows that wait for arrival times. Those may be behind event
    /// times by as much as timestamps may be ahead.
    pub(crate) fn correctable_ms(&self) -> i64 {
        let [late_ms, lateness_ms, future_ms] =
            [self.late_max_s, self.lateness_s, self.future_max_s].map(|s| i64::from(s) * 1000);
        late_ms + lateness_ms + 2 * future_ms + HOUR_MS
    }

    /// How far behind a zone's newest reading others are still needed, ms: the widest window,
    /// `widest_ms`, before the oldest correctable row, with a margin.
    pub(crate) fn retention_ms(&self, widest_ms: i64) -> i64 {
        let late_ms = i64::from(self.late_max_s) * 1000;
        widest_ms.max(SOIL_KEPT_MS) + (2 * late_ms).max(self.correctable_ms())
    }

    /// Returns the site's time zone.
    ///
    /// # Errors
    /// Fails if the IANA database does not have the name.
    pub fn time_zone(&self) -> Result<TimeZone, ConfigError> {
        TimeZone::get(&self.time_zone).map_err(|_| {
            let what = format!(
                "`{}` is not a time zone, expected a name as in `Europe/Berlin`",
                self.time_zone
            );
            ConfigError::invalid("engine.time_zone", what)
        })
    }

    /// Returns the site's location, if it is configured.
    ///
    /// # Errors
    /// Fails unless the setting is empty or a valid latitude and longitude.
    pub fn site_place(&self) -> Result<Option<GeoLocation>, ConfigError> {
        match self.place[..] {
            [] => Ok(None),
            [latitude_deg, longitude_deg] => GeoLocation::new(latitude_deg, longitude_deg)
                .map(Some)
                .map_err(|error| ConfigError::invalid("engine.place", error.to_string())),
            _ => Err(ConfigError::invalid(
                "engine.place",
                "expected degrees north and east, as in [52.5, 13.4], or []",
            )),
        }
    }

    /// Loads the feature definitions, for a site with these metrics.
    ///
    /// # Errors
    /// Fails with every mistake of the file, each with its place.
    pub fn load_definitions(
        &self,
        metrics: &MetricTable,
    ) -> Result<Arc<FeatureDefinitions>, ConfigError> {
        FeatureDefinitions::load(&self.features, metrics)
            .map_err(|error| ConfigError::invalid("engine.features", format!("\n{error}")))
    }

    /// Returns the parameters of the drying trends in a zone.
    #[must_use]
    pub fn drying_settings(&self, zone: &ZoneId) -> &drying::DryingSettings {
        self.drying_in.get(zone).unwrap_or(&self.drying)
    }

    fn all_drying_settings(&self) -> impl Iterator<Item = (String, &drying::DryingSettings)> {
        let single_zones = self
            .drying_in
            .iter()
            .map(|(zone, drying)| (format!("engine.drying_in.{zone}"), drying));
        std::iter::once(("engine.drying".to_owned(), &self.drying)).chain(single_zones)
    }
}

/// Width of a window in whole minutes, at most 31 days; written `10m`, `24h` or `7d`.
///
/// ```
/// use microclimate_feature_store::settings::WindowDuration;
///
/// let week: WindowDuration = "7d".parse().unwrap();
/// assert_eq!((week.width_ms(), week.to_string()), (604_800_000, "7d".to_owned()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WindowDuration {
    minutes: u32,
    /// Minutes in the unit of the text form.
    unit: u32,
}

impl WindowDuration {
    /// Returns the width, ms.
    #[must_use]
    pub const fn width_ms(self) -> i64 {
        self.minutes as i64 * 60_000
    }
}

const WINDOW_UNITS: [(&str, u32); 3] = [("m", 1), ("h", 60), ("d", 1440)];
const WINDOW_MINUTES_MAX: u32 = 31 * 1440;

impl FromStr for WindowDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        WINDOW_UNITS
            .iter()
            .find_map(|(suffix, unit)| {
                let count: u32 = text.strip_suffix(suffix)?.parse().ok()?;
                let minutes = count.checked_mul(*unit)?;
                (1..=WINDOW_MINUTES_MAX).contains(&minutes).then_some(Self { minutes, unit: *unit })
            })
            .ok_or_else(|| {
                format!(
                    "`{text}` is not a window width, expected one as in `10m`, `24h` or `7d`, at most `31d`"
                )
            })
    }
}

impl fmt::Display for WindowDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = WINDOW_UNITS
            .iter()
            .find(|(_, unit)| *unit == self.unit)
            .map_or("m", |(suffix, _)| suffix);
        write!(f, "{}{suffix}", self.minutes / self.unit)
    }
}

impl TryFrom<String> for WindowDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<WindowDuration> for String {
    fn from(window: WindowDuration) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_widths_are_parsed() {
        let check = |text: &str, minutes: Option<u32>| {
            assert_eq!(text.parse::<WindowDuration>().ok().map(|w| w.minutes), minutes, "{text}");
        };
        check("10m", Some(10));
        check("24h", Some(1440));
        check("7d", Some(10_080));
        check("31d", Some(44_640));
        check("32d", None);
        check("0m", None);
        check("-1h", None);
        check("10", None);
        check("99999999999h", None);
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
