use serde::{Deserialize, Serialize};

/// Settings for one soil-moisture sensor. Moisture is in the sensor's own unit, called percent;
/// scaling all settings scales the results with them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DryingSettings {
    /// Moisture at which the crop needs water, %.
    pub critical_pct: f64,
    /// Moisture to water up to, %, above `critical_pct`.
    pub target_pct: f64,
    /// Smallest rise that counts as a watering, %, > 0. Noise and the step of a coarse probe raise
    /// it automatically.
    pub rise_min_pct: f64,
    /// Slowest rise that is not drift, %/h, ≥ 0.
    pub drift_max_pct_h: f64,
    /// Longest time, s, in which the next reading must confirm a jump. A jump after a longer time
    /// counts at once.
    pub confirm_max_s: u32,
    /// Time, s, after its latest peak or the end of irrigation during which a watering can still
    /// rise.
    pub soak_s: u32,
    /// Longest silence, s, across which a drying rate is computed and after which a forecast is
    /// made.
    pub gap_max_s: u32,
    /// Days over which the mean drying rate is computed, 1–7.
    pub rate_days: u8,
    /// Hours beyond which the threshold counts as not reached, above 0, at most 8784 (a year).
    pub horizon_h: f64,
    /// Half width of the interval in standard deviations, > 0: 1.645 is meant to cover 90 %.
    pub interval_z: f64,
    /// Longest irrigation that is recommended, minutes, > 0.
    pub irrigation_max_min: f64,
    /// Time, s, for which an irrigation signal is trusted after it was sent.
    pub signal_hold_max_s: u32,
}

impl Default for DryingSettings {
    fn default() -> Self {
        Self {
            critical_pct: 25.0,
            target_pct: 40.0,
            rise_min_pct: 2.5,
            drift_max_pct_h: 0.1,
            confirm_max_s: 1_800,
            soak_s: 21_600,
            gap_max_s: 28_800,
            rate_days: 3,
            horizon_h: 48.0,
            interval_z: 1.645,
            irrigation_max_min: 120.0,
            signal_hold_max_s: 21_600,
        }
    }
}

/// Error: settings are out of range or contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("drying settings: {0}")]
pub struct DryingSettingsError(String);

impl DryingSettings {
    /// Returns the settings if every field is valid.
    ///
    /// # Errors
    /// Names every field that is out of its range, with the value found and the range expected.
    pub fn into_checked(self) -> Result<Self, DryingSettingsError> {
        let mut wrong = Vec::new();
        let above_zero = [
            ("rise_min_pct", self.rise_min_pct),
            ("horizon_h", self.horizon_h),
            ("interval_z", self.interval_z),
            ("irrigation_max_min", self.irrigation_max_min),
        ];
        for (name, value) in above_zero {
            if !(value > 0.0 && value.is_finite()) {
                wrong.push(format!("{name} is {value}, expected a number above 0"));
            }
        }
        if !(self.drift_max_pct_h >= 0.0 && self.drift_max_pct_h.is_finite()) {
            wrong.push(format!(
                "drift_max_pct_h is {}, expected 0 or a number above it",
                self.drift_max_pct_h
            ));
        }
        if !(self.critical_pct.is_finite() && self.target_pct.is_finite()) {
            wrong.push("critical_pct and target_pct must be finite".into());
        } else if self.critical_pct >= self.target_pct {
            wrong.push(format!(
                "target_pct is {}, expected more than critical_pct ({})",
                self.target_pct, self.critical_pct
            ));
        }
        if !(1..=7).contains(&self.rate_days) {
            wrong.push(format!("rate_days is {}, expected 1 to 7", self.rate_days));
        }
        if self.horizon_h > 8784.0 {
            wrong.push(format!("horizon_h is {}, expected at most 8784", self.horizon_h));
        }
        if self.gap_max_s == 0 {
            wrong.push("gap_max_s is 0, expected at least the sensor's interval".into());
        }
        if wrong.is_empty() { Ok(self) } else { Err(DryingSettingsError(wrong.join("; "))) }
    }
}

/// Converts the seconds of a setting to milliseconds of event time.
pub(super) const fn seconds_to_ms(seconds: u32) -> i64 {
    seconds as i64 * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut DryingSettings), names: &[&str]) {
        let mut settings = DryingSettings::default();
        change(&mut settings);
        let message = settings.into_checked().err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(message.is_empty(), names.is_empty(), "{message}");
        for name in names {
            assert!(message.contains(name), "{name} is not in: {message}");
        }
    }

    #[test]
    fn every_mistake_is_named() {
        check(|_| {}, &[]);
        check(|s| s.rise_min_pct = 0.0, &["rise_min_pct"]);
        check(|s| s.horizon_h = f64::NAN, &["horizon_h"]);
        check(|s| s.target_pct = s.critical_pct, &["target_pct"]);
        check(|s| s.critical_pct = f64::INFINITY, &["critical_pct"]);
        check(
            |s| (s.rate_days, s.gap_max_s, s.drift_max_pct_h) = (0, 0, -1.0),
            &["rate_days", "gap_max_s", "drift_max_pct_h"],
        );
    }
}
