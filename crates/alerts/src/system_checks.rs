//! From lag, spool, disks and clocks to observations.

use telemetry::{SmolStr, ZoneId};

use crate::{
    alert::AlertKey,
    lifecycle::{AlertObservation, ConditionLevel},
    rule::{AlertCondition, AlertRule},
};

/// Share of a limit, of a lag, a spool or a clock's offset, below which the alert is over.
const CLEAR_SHARE: f64 = 0.8;
/// How long the process must have been listening until a device without a known offset counts as
/// one with a right clock, ms: offsets are known after ten minutes of messages.
const OFFSETS_KNOWN_MS: i64 = 20 * 60_000;

/// The process and its machine at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SystemSnapshot {
    /// Time, UTC ms.
    pub now_ms: i64,
    /// Whether records arrive and are stored as live ones; otherwise a lag is no fault, as while a
    /// replay is ingested.
    pub expects_readings: bool,
    /// Log records that the feature store has not read; `None` if it is not known.
    pub lag_records: Option<u64>,
    /// Topics with a spool, and the share of its limit that is used, %.
    pub spools_pct: Vec<(SmolStr, f64)>,
    /// Disks by what they hold, and their free space, MB.
    pub disks_free_mb: Vec<(SmolStr, f64)>,
    /// Devices whose clocks are off, by zone, s; negative if behind.
    pub clock_offsets_s: Vec<(ZoneId, SmolStr, f64)>,
    /// How long the process has been listening, ms.
    pub listening_ms: i64,
}

impl SystemSnapshot {
    /// Checks the rules about the process. `is_active` says whether there is an alert of a key, so
    /// that devices that are no longer listed are found.
    #[must_use]
    pub fn check_rules<'r>(
        &self,
        rules: &'r [AlertRule],
        active: &[AlertKey],
    ) -> Vec<(&'r AlertRule, AlertKey, AlertObservation)> {
        let mut found = Vec::new();
        for rule in rules.iter().filter(|rule| rule.is_enabled) {
            let key = |subject: &str| AlertKey::for_system(&rule.name, subject);
            match rule.condition {
                AlertCondition::PipelineLag { above_records } => {
                    let lag = self.lag_records.filter(|_| self.expects_readings);
                    found.extend(lag.map(|lag| {
                        let observed = self.compare_above(lag as f64, above_records);
                        (rule, key(""), observed)
                    }));
                }
                AlertCondition::Spool { above_pct } => {
                    found.extend(self.spools_pct.iter().map(|(topic, used_pct)| {
                        (rule, key(topic), self.compare_above(*used_pct, above_pct))
                    }));
                }
                AlertCondition::Disk { below_mb, hysteresis_mb } => {
                    found.extend(self.disks_free_mb.iter().map(|(name, free_mb)| {
                        let level = if *free_mb <= below_mb {
                            ConditionLevel::Exceeded
                        } else if *free_mb < below_mb + hysteresis_mb {
                            ConditionLevel::Between
                        } else {
                            ConditionLevel::Clear
                        };
                        (rule, key(name), self.observation(level, *free_mb, below_mb))
                    }));
                }
                AlertCondition::ClockOffset { above_s } => {
                    self.check_clocks(rule, above_s, active, &mut found);
                }
                _ => {}
            }
        }
        found
    }

    fn check_clocks<'r>(
        &self,
        rule: &'r AlertRule,
        above_s: f64,
        active: &[AlertKey],
        found: &mut Vec<(&'r AlertRule, AlertKey, AlertObservation)>,
    ) {
        let mut listed = Vec::new();
        for (zone, device, offset_s) in &self.clock_offsets_s {
            if rule.applies_to(zone) && self.expects_readings {
                let key = AlertKey::for_zone(&rule.name, zone, device.clone());
                let observed = self.compare_above(offset_s.abs(), above_s);
                listed.push(key.clone());
                found.push((rule, key, observed));
            }
        }
        let is_known = self.listening_ms >= OFFSETS_KNOWN_MS;
        let gone = active.iter().filter(|key| key.rule == rule.name && !listed.contains(key));
        found.extend(
            gone.filter(|_| is_known).map(|key| {
                (rule, key.clone(), self.observation(ConditionLevel::Clear, 0.0, above_s))
            }),
        );
    }

    fn compare_above(&self, value: f64, limit: f64) -> AlertObservation {
        let level = if value >= limit {
            ConditionLevel::Exceeded
        } else if value >= limit * CLEAR_SHARE {
            ConditionLevel::Between
        } else {
            ConditionLevel::Clear
        };
        self.observation(level, value, limit)
    }

    fn observation(&self, level: ConditionLevel, value: f64, limit: f64) -> AlertObservation {
        AlertObservation {
            event_ms: self.now_ms,
            is_live: true,
            level,
            value: Some(value),
            limit: Some(limit),
            detail: SmolStr::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::AlertSettings;

    fn level(snapshot: &SystemSnapshot, active: &[AlertKey], rule: &str) -> Option<ConditionLevel> {
        let rules = AlertSettings::default().check().unwrap().rules;
        let found = snapshot.check_rules(&rules, active);
        found.into_iter().find(|(own, ..)| own.name == rule).map(|(_, _, own)| own.level)
    }

    #[test]
    fn lag_spool_and_disk() {
        use ConditionLevel::{Between, Clear, Exceeded};
        let snapshot = |lag, spool, free| SystemSnapshot {
            expects_readings: true,
            lag_records: Some(lag),
            spools_pct: vec![("sensor.readings".into(), spool)],
            disks_free_mb: vec![("data".into(), free)],
            ..SystemSnapshot::default()
        };
        let levels = |own: &SystemSnapshot| {
            ["pipeline_behind", "spool_filling", "disk_filling"]
                .map(|rule| level(own, &[], rule).unwrap())
        };
        assert_eq!(levels(&snapshot(10_000, 60.0, 900.0)), [Exceeded; 3]);
        assert_eq!(levels(&snapshot(9_000, 45.0, 1200.0)), [Between; 3]);
        assert_eq!(levels(&snapshot(10, 0.0, 5000.0)), [Clear; 3]);
        let replayed = SystemSnapshot { expects_readings: false, ..snapshot(99_000, 0.0, 5000.0) };
        assert_eq!(level(&replayed, &[], "pipeline_behind"), None);
    }

    #[test]
    fn a_clock_is_right_again_only_once_that_is_known() {
        let zone: ZoneId = "farm/bay-1".parse().unwrap();
        let key = AlertKey::for_zone(&"clock_wrong".into(), &zone, "probe");
        let off = SystemSnapshot {
            expects_readings: true,
            clock_offsets_s: vec![(zone, "probe".into(), -28_800.0)],
            ..SystemSnapshot::default()
        };
        assert_eq!(level(&off, &[], "clock_wrong"), Some(ConditionLevel::Exceeded));
        let restarted = SystemSnapshot { listening_ms: 60_000, ..SystemSnapshot::default() };
        assert_eq!(level(&restarted, std::slice::from_ref(&key), "clock_wrong"), None);
        let later = SystemSnapshot { listening_ms: OFFSETS_KNOWN_MS, ..SystemSnapshot::default() };
        assert_eq!(level(&later, &[key], "clock_wrong"), Some(ConditionLevel::Clear));
    }
}
