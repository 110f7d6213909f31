//! Settings of an engine for one site: `[engine]` of the feature store's configuration.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use agronomy::{drying, sun::GeoLocation};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use telemetry::{SmolStr, ZoneId};

use crate::engine::{HOUR_MS, SOIL_RETENTION_MS};

/// A setting with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct EngineSettingsError {
    /// Key of the setting, such as `engine.time_zone`.
    pub key: String,
    /// Found and expected value.
    pub problem: String,
}

impl EngineSettingsError {
    fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: problem.into() }
    }
}

/// Settings of windows, row grid and allowed lateness.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSettings {
    /// File of feature definitions; empty for the built-in ones.
    pub features: PathBuf,
    /// Distance between rows, s.
    pub grid_s: u32,
    /// Allowed lateness of final rows, s.
    pub lateness_s: u32,
    /// Allowed lateness of corrections, s.
    pub late_max_s: u32,
    /// Longest time by which an event time may be ahead of its arrival time, s.
    pub future_max_s: u32,
    /// Longest time without readings for which rows are still computed, s.
    pub silence_max_s: u32,
    /// Largest number of zones in memory. The state of any other zone is read from the DuckDB file
    /// when a reading of it arrives.
    #[serde(default = "zones_max")]
    pub zones_max: usize,
    /// Expected distance between readings, s.
    pub interval_s: u32,
    /// Longest time for which a value is assumed to hold, s.
    pub hold_max_s: u32,
    /// Offsets added to the event times of live devices, by `site/zone/device`, s.
    pub clock_offsets_s: BTreeMap<SmolStr, f64>,
    /// Name of the time zone in the IANA database.
    pub time_zone: String,
    /// Latitude and longitude, degrees north and east; empty if they are not known.
    pub place: Vec<f64>,
    /// Settings of the drying-soil features.
    pub drying: drying::DryingSettings,
    /// Settings of the drying-soil features in single zones.
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

/// Default of `engine.zones_max`.
fn zones_max() -> usize {
    1000
}

impl EngineSettings {
    /// Returns how far behind a zone's latest event time rows may still be computed, ms. Covers
    /// late readings, and rows that wait for their arrival times: those may be behind event times
    /// by as much as event times may be ahead.
    #[must_use]
    pub fn correctable_ms(&self) -> i64 {
        let [late_ms, lateness_ms, future_ms] =
            [self.late_max_s, self.lateness_s, self.future_max_s].map(|s| i64::from(s) * 1000);
        late_ms + lateness_ms + 2 * future_ms + HOUR_MS
    }

    /// Returns how far behind a zone's latest event time readings are still needed, ms: a window of
    /// the widest feature, `widest_ms`, behind a correction, with a margin.
    #[must_use]
    pub fn retention_ms(&self, widest_ms: i64) -> i64 {
        let late_ms = i64::from(self.late_max_s) * 1000;
        widest_ms.max(SOIL_RETENTION_MS) + (2 * late_ms).max(self.correctable_ms())
    }

    /// Returns the site's time zone.
    ///
    /// # Errors
    /// Fails for a name that the IANA database does not have.
    pub fn time_zone(&self) -> Result<TimeZone, EngineSettingsError> {
        TimeZone::get(&self.time_zone).map_err(|_| {
            let what = format!(
                "`{}` is not a time zone, expected a name as in `Europe/Berlin`",
                self.time_zone
            );
            EngineSettingsError::new("engine.time_zone", what)
        })
    }

    /// Returns the site's location, if it is known.
    ///
    /// # Errors
    /// Fails unless `place` is empty or holds a latitude and a longitude.
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

    /// Returns the drying-soil settings of a zone.
    #[must_use]
    pub fn drying_settings(&self, zone: &ZoneId) -> &drying::DryingSettings {
        self.drying_in.get(zone).unwrap_or(&self.drying)
    }

    /// Iterates over all drying-soil settings with their keys: first those of every zone, then
    /// those of single zones.
    pub fn all_drying_settings(&self) -> impl Iterator<Item = (String, &drying::DryingSettings)> {
        let own =
            self.drying_in.iter().map(|(zone, own)| (format!("engine.drying_in.{zone}"), own));
        std::iter::once(("engine.drying".to_owned(), &self.drying)).chain(own)
    }
}

/// Width of a window: whole minutes, at most 31 days; written `10m`, `24h` or `7d`.
///
/// ```
/// let week: microclimate_feature_engine::WindowDuration = "7d".parse().unwrap();
/// assert_eq!((week.width_ms(), week.to_string()), (604_800_000, "7d".to_owned()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WindowDuration {
    minutes: u32,
    /// Minutes in the unit in which the width was written.
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
}
