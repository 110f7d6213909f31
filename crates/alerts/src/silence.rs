//! How long the process has been listening, and how long a zone has been silent.
//!
//! Silence is the only condition that is judged by the clock of the machine. What the process
//! could not hear is no silence: after a start, a pause of the machine, or a time in which messages
//! were not accepted, the full time must pass again.

use telemetry::{SmolStr, ZoneId};

use crate::{
    alert::AlertKey,
    lifecycle::{AlertObservation, ConditionLevel},
    rule::{AlertCondition, AlertRule},
};

/// Distance of two ticks beyond which the process was paused, ms.
const PAUSE_MS_MAX: i64 = 60_000;
/// Longest silence that a slow reporting interval explains, s.
pub const SILENCE_S_MAX: f64 = 6.0 * 3600.0;
/// Number of missed readings in a row that make a silence.
pub const MISSED_READINGS: f64 = 3.0;

/// Since when the process has been listening without a break.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListeningClock {
    since_ms: Option<i64>,
    ticked_ms: Option<i64>,
}

impl ListeningClock {
    /// Notes the time, UTC ms, and whether readings are expected, accepted and stored now. Must be
    /// called at least every half minute.
    pub fn tick(&mut self, now_ms: i64, is_listening: bool) {
        let is_steady = self
            .ticked_ms
            .is_none_or(|ticked_ms| (0..=PAUSE_MS_MAX).contains(&(now_ms - ticked_ms)));
        if !is_listening || !is_steady {
            self.since_ms = None;
        }
        if is_listening {
            self.since_ms.get_or_insert(now_ms);
        }
        self.ticked_ms = Some(now_ms);
    }

    /// How long it has been listening, ms; 0 while it is not.
    #[must_use]
    pub fn listening_ms(&self, now_ms: i64) -> i64 {
        self.since_ms.map_or(0, |since_ms| (now_ms - since_ms).max(0))
    }
}

/// Facts about a zone's silence.
#[derive(Clone, Copy, Debug)]
pub struct ZoneSilence<'a> {
    /// The zone.
    pub zone: &'a ZoneId,
    /// Event time of the newest reading, UTC ms.
    pub newest_ms: i64,
    /// Whether it has ever sent readings of the present.
    pub was_live: bool,
    /// Usual distance of its readings, s; `None` while too few are known to judge a silence.
    pub interval_s: Option<f64>,
}

/// Judges the silence of a zone at `now_ms`, UTC ms.
#[must_use]
pub fn check_silent_zone<'r>(
    rules: &'r [AlertRule],
    silence: &ZoneSilence<'_>,
    listening: &ListeningClock,
    now_ms: i64,
) -> Vec<(&'r AlertRule, AlertKey, AlertObservation)> {
    let mut found = Vec::new();
    for rule in rules.iter().filter(|rule| rule.is_enabled && rule.applies_to(silence.zone)) {
        let AlertCondition::SilentZone { after_s } = rule.condition else { continue };
        let silent_s = (now_ms - silence.newest_ms) as f64 / 1000.0;
        let rhythm_s = silence.interval_s.map(|interval_s| MISSED_READINGS * interval_s);
        let limit_s = after_s.max(rhythm_s.unwrap_or_default().min(SILENCE_S_MAX));
        let heard_s = listening.listening_ms(now_ms) as f64 / 1000.0;
        let level = if silent_s < limit_s {
            ConditionLevel::Clear
        } else if silence.was_live && rhythm_s.is_some() && heard_s >= limit_s {
            ConditionLevel::Exceeded
        } else {
            continue;
        };
        let observation = AlertObservation {
            event_ms: now_ms,
            is_live: true,
            level,
            value: Some(silent_s),
            limit: Some(limit_s),
            detail: SmolStr::default(),
        };
        found.push((rule, AlertKey::for_zone(&rule.name, silence.zone, ""), observation));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::AlertSettings;

    const MINUTE_MS: i64 = 60_000;

    fn level(
        silence_min: i64,
        listening_min: i64,
        was_live: bool,
        interval_s: Option<f64>,
    ) -> Option<ConditionLevel> {
        let rules = AlertSettings::default().check().unwrap().rules;
        let now_ms = 1_764_504_000_000;
        let mut listening = ListeningClock::default();
        for minute in (0..=listening_min).rev() {
            listening.tick(now_ms - minute * MINUTE_MS, true);
        }
        let zone = "farm/bay-1".parse().unwrap();
        let newest_ms = now_ms - silence_min * MINUTE_MS;
        let silence = ZoneSilence { zone: &zone, newest_ms, was_live, interval_s };
        let found = check_silent_zone(&rules, &silence, &listening, now_ms);
        found.first().map(|(_, _, observation)| observation.level)
    }

    #[test]
    fn silence_needs_a_live_zone_a_rhythm_and_somebody_who_listened() {
        use ConditionLevel::{Clear, Exceeded};
        let minute = Some(60.0);
        assert_eq!(level(29, 100, true, minute), Some(Clear));
        assert_eq!(level(31, 100, true, minute), Some(Exceeded));
        assert_eq!(level(31, 29, true, minute), None, "the process has just begun");
        assert_eq!(level(31, 100, false, minute), None, "a recording is silent by nature");
        assert_eq!(level(31, 100, true, None), None, "its rhythm is not known");
        assert_eq!(level(61, 100, true, Some(1800.0)), Some(Clear), "it reports every half hour");
        assert_eq!(level(91, 100, true, Some(1800.0)), Some(Exceeded));
        assert_eq!(level(361, 400, true, Some(86_400.0)), Some(Exceeded));
    }

    #[test]
    fn a_pause_of_the_process_begins_the_time_again() {
        let mut listening = ListeningClock::default();
        listening.tick(0, true);
        listening.tick(MINUTE_MS, true);
        assert_eq!(listening.listening_ms(MINUTE_MS), MINUTE_MS);
        listening.tick(10 * MINUTE_MS, true);
        assert_eq!(listening.listening_ms(10 * MINUTE_MS), 0, "it was asleep");
        listening.tick(11 * MINUTE_MS, false);
        assert_eq!(listening.listening_ms(11 * MINUTE_MS), 0, "nothing was accepted");
        listening.tick(12 * MINUTE_MS, true);
        listening.tick(11 * MINUTE_MS, true);
        assert_eq!(listening.listening_ms(11 * MINUTE_MS), 0, "the clock was set back");
    }
}
