//! One step of one alert: from its state and an observation to its next state.

use telemetry::SmolStr;

use crate::{
    alert::{ActiveAlert, AlertId, AlertKey, AlertOutcome, PastAlert},
    book::AlertEvent,
    rule::{AlertRule, LimitSide},
};

/// Length of a gap, beyond the rule's duration, after which a pending alert begins again: what
/// happened in between is not known.
const PENDING_GAP_MS_MAX: i64 = 6 * 3_600_000;

/// Where a value lies between the limit and the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionLevel {
    /// Beyond the limit.
    Exceeded,
    /// Not beyond the limit, but not back by the hysteresis either.
    Between,
    /// Back.
    Clear,
}

/// A condition as it was found at an event time.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertObservation {
    /// Event time, UTC ms.
    pub event_ms: i64,
    /// Whether the observation is of now, and not of the past.
    pub is_live: bool,
    /// The finding.
    pub level: ConditionLevel,
    /// Value, if it is about one.
    pub value: Option<f64>,
    /// Limit of the value.
    pub limit: Option<f64>,
    /// Another word about it; may be empty.
    pub detail: SmolStr,
}

/// Result of a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LifecycleStep {
    /// The alert, as long as there is one.
    pub(crate) alert: Option<ActiveAlert>,
    /// The alert, if it fired and has ended.
    pub(crate) past: Option<PastAlert>,
    /// Event that people are told.
    pub(crate) event: Option<AlertEvent>,
    /// Whether more than the newest value has changed.
    pub(crate) has_moved: bool,
}

/// Applies an observation. The caller has checked that it is newer than the alert's last one.
pub(crate) fn advance_alert(
    current: Option<&ActiveAlert>,
    key: &AlertKey,
    rule: &AlertRule,
    observation: &AlertObservation,
) -> LifecycleStep {
    let AlertObservation { event_ms, is_live, level, .. } = *observation;
    let for_ms = rule.for_ms();
    let mut step = LifecycleStep { alert: None, past: None, event: None, has_moved: false };
    let is_fired = current.is_some_and(|alert| alert.fired_ms.is_some());
    let mut alert = match (current, level) {
        (None, ConditionLevel::Exceeded) => {
            step.has_moved = true;
            begin_alert(key, rule, observation)
        }
        (Some(pending), ConditionLevel::Exceeded) if !is_fired => {
            if event_ms - pending.observed_ms > for_ms + PENDING_GAP_MS_MAX {
                step.has_moved = true;
                begin_alert(key, rule, observation)
            } else {
                pending.clone()
            }
        }
        (Some(fired), ConditionLevel::Exceeded | ConditionLevel::Between) if is_fired => {
            fired.clone()
        }
        (Some(fired), ConditionLevel::Clear) if is_fired => {
            step.has_moved = true;
            let outcome =
                if fired.is_recorded { AlertOutcome::Recorded } else { AlertOutcome::Cleared };
            step.event = (!fired.is_recorded).then_some(AlertEvent::Resolved);
            let mut ended = fired.clone();
            update_value(&mut ended, rule, observation);
            step.past = Some(PastAlert { alert: ended, resolved_ms: event_ms, outcome });
            return step;
        }
        (pending, _) => {
            step.has_moved = pending.is_some();
            return step;
        }
    };
    update_value(&mut alert, rule, observation);
    if alert.fired_ms.is_none() {
        alert.is_recorded = !is_live;
        if event_ms - alert.started_ms >= for_ms {
            alert.fired_ms = Some(event_ms);
            step.has_moved = true;
            step.event = is_live.then_some(AlertEvent::Fired);
        }
    } else if alert.is_recorded && is_live {
        // It fired in the past and still holds now.
        alert.is_recorded = false;
        step.has_moved = true;
        step.event = Some(AlertEvent::Fired);
    }
    step.alert = Some(alert);
    step
}

fn begin_alert(key: &AlertKey, rule: &AlertRule, observation: &AlertObservation) -> ActiveAlert {
    let AlertObservation { event_ms, is_live, .. } = *observation;
    ActiveAlert {
        id: AlertId::from_start(key, event_ms),
        key: key.clone(),
        severity: rule.severity,
        started_ms: event_ms,
        fired_ms: None,
        observed_ms: event_ms,
        value: None,
        peak: None,
        limit: None,
        detail: SmolStr::default(),
        is_recorded: !is_live,
        acknowledged: None,
    }
}

fn update_value(alert: &mut ActiveAlert, rule: &AlertRule, observation: &AlertObservation) {
    alert.observed_ms = observation.event_ms;
    alert.limit = observation.limit.or(alert.limit);
    if observation.level == ConditionLevel::Exceeded && !observation.detail.is_empty() {
        alert.detail = observation.detail.clone();
    }
    let Some(value) = observation.value else { return };
    alert.value = Some(value);
    let furthest = match rule.condition.side() {
        LimitSide::Above => f64::max,
        LimitSide::Below => f64::min,
    };
    alert.peak = Some(alert.peak.map_or(value, |peak| furthest(peak, value)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::AlertSettings;

    fn step(
        current: Option<&ActiveAlert>,
        at_s: i64,
        is_live: bool,
        level: ConditionLevel,
    ) -> LifecycleStep {
        let rules = AlertSettings::default().check().unwrap().rules;
        let frost = rules.iter().find(|rule| rule.name == "frost").unwrap();
        let zone = "farm/bay-1".parse().unwrap();
        let key = AlertKey::for_zone(&frost.name, &zone, "temperature");
        let value = Some(if level == ConditionLevel::Exceeded { 0.0 } else { 2.5 });
        let observation = AlertObservation {
            event_ms: at_s * 1000,
            is_live,
            level,
            value,
            limit: Some(2.0),
            detail: SmolStr::default(),
        };
        advance_alert(current, &key, frost, &observation)
    }

    #[test]
    fn a_condition_fires_after_its_duration_and_ends_after_its_hysteresis() {
        use ConditionLevel::{Between, Clear, Exceeded};
        let pending = step(None, 1000, true, Exceeded).alert.unwrap();
        assert_eq!(pending.fired_ms, None);
        assert_eq!(step(Some(&pending), 1100, true, Between).alert, None, "it was interrupted");
        let early = step(Some(&pending), 1299, true, Exceeded);
        assert_eq!((early.event, early.has_moved), (None, false));
        let fired = step(early.alert.as_ref(), 1300, true, Exceeded);
        assert_eq!(fired.event, Some(AlertEvent::Fired));
        let firing = fired.alert.unwrap();
        assert_eq!((firing.started_ms, firing.fired_ms), (1_000_000, Some(1_300_000)));
        let between = step(Some(&firing), 1400, true, Between);
        assert_eq!((between.event, between.past), (None, None));
        let ended = step(between.alert.as_ref(), 1500, true, Clear);
        assert_eq!(ended.event, Some(AlertEvent::Resolved));
        let past = ended.past.unwrap();
        assert_eq!((past.outcome, past.alert.peak), (AlertOutcome::Cleared, Some(0.0)));
    }

    #[test]
    fn readings_of_the_past_notify_nobody_until_a_live_one_confirms_them() {
        use ConditionLevel::{Clear, Exceeded};
        let pending = step(None, 1000, false, Exceeded).alert.unwrap();
        let fired = step(Some(&pending), 1300, false, Exceeded);
        assert_eq!(fired.event, None);
        let recorded = fired.alert.unwrap();
        assert!(!recorded.is_firing_live());
        let ended = step(Some(&recorded), 1400, false, Clear);
        assert_eq!((ended.event, ended.past.unwrap().outcome), (None, AlertOutcome::Recorded));
        let confirmed = step(Some(&recorded), 1400, true, Exceeded);
        assert_eq!(confirmed.event, Some(AlertEvent::Fired));
        let firing = confirmed.alert.unwrap();
        assert_eq!(firing.fired_ms, Some(1_300_000));
        assert_eq!(step(Some(&firing), 1500, true, Exceeded).event, None);
        // The end of a live alert is told, wherever its reading comes from.
        assert_eq!(step(Some(&firing), 1500, false, Clear).event, Some(AlertEvent::Resolved));
    }

    #[test]
    fn a_long_gap_proves_no_duration() {
        let pending = step(None, 1000, true, ConditionLevel::Exceeded).alert.unwrap();
        let later = step(Some(&pending), 1000 + 7 * 3600, true, ConditionLevel::Exceeded);
        assert_eq!(later.event, None);
        assert_ne!(later.alert.unwrap().id, pending.id);
    }
}
