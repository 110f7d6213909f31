//! What can be configured; `default.toml` says what each key means.

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

/// Windows, grid, lateness.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// File of definitions; "" for the built-in ones.
    pub features: PathBuf,
    /// Distance of rows.
    pub grid_s: u32,
    /// Allowed lateness of final rows.
    pub lateness_s: u32,
    /// Allowed lateness of corrections.
    pub late_max_s: u32,
    /// Allowed lead of a stamp on its arrival.
    pub future_max_s: u32,
    /// Longest silence that still has rows.
    pub silence_max_s: u32,
    /// Zones in memory; of others the newest state is read from the DuckDB file when they are
    /// heard again.
    #[serde(default = "zones_max")]
    pub zones_max: usize,
    /// Expected distance of readings.
    pub interval_s: u32,
    /// Longest time that a value is taken to hold.
    pub hold_max_s: u32,
    /// What is added to the stamps of live devices, by `site/zone/device`, s.
    pub clock_offsets_s: BTreeMap<SmolStr, f64>,
    /// Name in the IANA database.
    pub time_zone: String,
    /// Degrees north and east; nothing where it is not known.
    pub place: Vec<f64>,
    /// How the drying of soil is judged.
    pub drying: drying::DryingSettings,
    /// In single zones.
    pub drying_in: BTreeMap<ZoneId, drying::DryingSettings>,
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
                let what = format!("`{device}` is no device, as in `farm/bay-1/probe`");
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

const fn zones_max() -> usize {
    1_000
}

impl EngineSettings {
    /// Event time behind a zone's newest reading of which rows may still be computed, ms: late
    /// readings, and rows that wait for their arrival times, which may be behind event times by
    /// as much as stamps may be ahead.
    pub(crate) fn correctable_ms(&self) -> i64 {
        let [late_ms, lateness_ms, future_ms] =
            [self.late_max_s, self.lateness_s, self.future_max_s].map(|s| i64::from(s) * 1000);
        late_ms + lateness_ms + 2 * future_ms + HOUR_MS
    }

    /// How far behind a zone's newest reading others are still needed, ms: a window of the
    /// widest feature, `widest_ms`, behind a correction, with room.
    pub(crate) fn retention_ms(&self, widest_ms: i64) -> i64 {
        let late_ms = i64::from(self.late_max_s) * 1000;
        widest_ms.max(SOIL_KEPT_MS) + (2 * late_ms).max(self.correctable_ms())
    }

    /// The site's time zone.
    ///
    /// # Errors
    /// A name that the IANA database does not have.
    pub fn time_zone(&self) -> Result<TimeZone, ConfigError> {
        TimeZone::get(&self.time_zone).map_err(|_| {
            let what = format!("`{}` is no time zone, as in `Europe/Berlin`", self.time_zone);
            ConfigError::invalid("engine.time_zone", what)
        })
    }

    /// Where the site is, if that is known.
    ///
    /// # Errors
    /// Anything but nothing, or a latitude and a longitude.
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

    /// What is computed, of a site with these metrics.
    ///
    /// # Errors
    /// Every mistake of the file, with its place.
    pub fn load_definitions(
        &self,
        metrics: &MetricTable,
    ) -> Result<Arc<FeatureDefinitions>, ConfigError> {
        FeatureDefinitions::load(&self.features, metrics)
            .map_err(|error| ConfigError::invalid("engine.features", format!("\n{error}")))
    }

    /// How a zone's soil is judged.
    #[must_use]
    pub fn drying_settings(&self, zone: &ZoneId) -> &drying::DryingSettings {
        self.drying_in.get(zone).unwrap_or(&self.drying)
    }

    fn all_drying_settings(&self) -> impl Iterator<Item = (String, &drying::DryingSettings)> {
        let own =
            self.drying_in.iter().map(|(zone, own)| (format!("engine.drying_in.{zone}"), own));
        std::iter::once(("engine.drying".to_owned(), &self.drying)).chain(own)
    }
}

/// The width of a window: whole minutes, at most 31 days; written `10m`, `24h`
/// or `7d`.
///
/// ```
/// let week: microclimate_feature_store::settings::Window = "7d".parse().unwrap();
/// assert_eq!((week.width_ms(), week.to_string()), (604_800_000, "7d".to_owned()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WindowDuration {
    minutes: u32,
    /// Minutes in the unit that it was written in.
    unit: u32,
}

impl WindowDuration {
    /// Milliseconds.
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
                    "`{text}` is no width of a window, as in `10m`, `24h` or `7d`, at most `31d`"
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
