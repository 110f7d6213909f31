//! What an engine must know of a site: `[engine]` of the feature store's configuration.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use agronomy::{drying, sun::GeoLocation};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use telemetry::{SmolStr, ZoneId};

use crate::engine::{HOUR_MS, SOIL_RETENTION_MS};

/// A setting that has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct EngineSettingsError {
    /// The key, such as `engine.time_zone`.
    pub key: String,
    /// What was found and what was expected.
    pub problem: String,
}

impl EngineSettingsError {
    fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: problem.into() }
    }
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

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            features: PathBuf::new(),
            grid_s: 60,
            lateness_s: 120,
            late_max_s: 259_200,
            future_max_s: 300,
            silence_max_s: 3600,
            zones_max: zones_max(),
            interval_s: 60,
            hold_max_s: 600,
            clock_offsets_s: BTreeMap::new(),
            time_zone: "UTC".to_owned(),
            place: Vec::new(),
            drying: drying::DryingSettings::default(),
            drying_in: BTreeMap::new(),
        }
    }
}

/// Zones in memory where the configuration names no number.
fn zones_max() -> usize {
    1000
}

impl EngineSettings {
    /// Event time behind a zone's newest reading of which rows may still be computed, ms: late
    /// readings, and rows that wait for their arrival times, which may be behind event times by
    /// as much as stamps may be ahead.
    pub fn correctable_ms(&self) -> i64 {
        let [late_ms, lateness_ms, future_ms] =
            [self.late_max_s, self.lateness_s, self.future_max_s].map(|s| i64::from(s) * 1000);
        late_ms + lateness_ms + 2 * future_ms + HOUR_MS
    }

    /// How far behind a zone's newest reading others are still needed, ms: a window of the
    /// widest feature, `widest_ms`, behind a correction, with room.
    pub fn retention_ms(&self, widest_ms: i64) -> i64 {
        let late_ms = i64::from(self.late_max_s) * 1000;
        widest_ms.max(SOIL_RETENTION_MS) + (2 * late_ms).max(self.correctable_ms())
    }

    /// The site's time zone.
    ///
    /// # Errors
    /// A name that the IANA database does not have.
    pub fn time_zone(&self) -> Result<TimeZone, EngineSettingsError> {
        TimeZone::get(&self.time_zone).map_err(|_| {
            let what = format!("`{}` is no time zone, as in `Europe/Berlin`", self.time_zone);
            EngineSettingsError::new("engine.time_zone", what)
        })
    }

    /// Where the site is, if that is known.
    ///
    /// # Errors
    /// Anything but nothing, or a latitude and a longitude.
    pub fn site_place(&self) -> Result<Option<GeoLocation>, EngineSettingsError> {
        match self.place[..] {
            [] => Ok(None),
            [latitude_deg, longitude_deg] => GeoLocation::new(latitude_deg, longitude_deg)
                .map(Some)
                .map_err(|error| EngineSettingsError::new("engine.place", error.to_string())),
            _ => Err(EngineSettingsError::new(
                "engine.place",
                "expected degrees north and east, as in [52.5, 13.4], or []",
            )),
        }
    }

    /// How a zone's soil is judged.
    #[must_use]
    pub fn drying_settings(&self, zone: &ZoneId) -> &drying::DryingSettings {
        self.drying_in.get(zone).unwrap_or(&self.drying)
    }

    /// The settings of drying soil with their keys: those of every zone, then those of single zones.
    pub fn all_drying_settings(&self) -> impl Iterator<Item = (String, &drying::DryingSettings)> {
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
}
