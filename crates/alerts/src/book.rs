//! All active alerts, bounded, and what changes them.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    alert::{AcknowledgedBy, ActiveAlert, AlertId, AlertKey, AlertOutcome, AlertState, PastAlert},
    lifecycle::{AlertObservation, LifecycleStep, advance_alert},
    rule::AlertRule,
};

/// Number of keys whose newest observation is remembered while they have no alert. Beyond it all
/// are forgotten, which is safe: callers pass the rows of a zone in the order of time.
const QUIET_KEYS_MAX: usize = 200_000;

/// Event of an alert, as people and programs are told of it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AlertEvent {
    /// It began to fire.
    Fired,
    /// A person acknowledged it.
    Acknowledged,
    /// A person took the acknowledgement back.
    Unacknowledged,
    /// It ended.
    Resolved,
}

impl AlertEvent {
    /// All events.
    pub const ALL: [Self; 4] =
        [Self::Fired, Self::Acknowledged, Self::Unacknowledged, Self::Resolved];

    /// The name in JSON and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Acknowledged => "acknowledged",
            Self::Unacknowledged => "unacknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// A change that must be stored, and perhaps told.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertChange {
    /// The alert after the change, or as it was when it ended.
    pub alert: ActiveAlert,
    /// Whether it is still active.
    pub is_active: bool,
    /// The alert for the history, if it fired and has ended.
    pub past: Option<PastAlert>,
    /// Event that people are told; `None` if it concerns nobody.
    pub event: Option<AlertEvent>,
}

/// Reason why an alert cannot be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcknowledgeError {
    /// No such alert is active.
    #[error("there is no active alert with this id")]
    NotActive,
    /// The alert does not fire yet.
    #[error("the alert is pending: its condition has not held for long enough yet")]
    Pending,
    /// It is not acknowledged, so there is nothing to take back.
    #[error("the alert is not acknowledged")]
    NotAcknowledged,
}

/// All active alerts.
#[derive(Debug)]
pub struct AlertBook {
    active: BTreeMap<AlertKey, ActiveAlert>,
    /// Event time of the newest observation by key, UTC ms.
    newest_ms: HashMap<AlertKey, i64>,
    active_max: usize,
    /// Keys whose condition holds and for which there is no room.
    refused: HashSet<AlertKey>,
}

impl AlertBook {
    /// Creates a book with the alerts of an earlier run, for at most `active_max` alerts.
    #[must_use]
    pub fn new(active_max: usize, stored: impl IntoIterator<Item = ActiveAlert>) -> Self {
        let active: BTreeMap<AlertKey, ActiveAlert> =
            stored.into_iter().map(|alert| (alert.key.clone(), alert)).collect();
        let newest_ms =
            active.iter().map(|(key, alert)| (key.clone(), alert.observed_ms)).collect();
        Self { active, newest_ms, active_max, refused: HashSet::new() }
    }

    /// Active alerts by key, with pending ones and those that only the past has shown.
    pub fn active_alerts(&self) -> impl Iterator<Item = &ActiveAlert> {
        self.active.values()
    }

    /// Number of alerts for which there was no room and whose condition still holds.
    #[must_use]
    pub fn refused_count(&self) -> usize {
        self.refused.len()
    }

    /// Applies an observation. One that is not newer than the last of its key changes nothing.
    pub fn observe(
        &mut self,
        rule: &AlertRule,
        key: &AlertKey,
        observation: &AlertObservation,
    ) -> Option<AlertChange> {
        if self.newest_ms.get(key).is_some_and(|newest_ms| *newest_ms >= observation.event_ms) {
            return None;
        }
        if self.newest_ms.len() >= QUIET_KEYS_MAX {
            let active = &self.active;
            self.newest_ms.retain(|key, _| active.contains_key(key));
        }
        self.newest_ms.insert(key.clone(), observation.event_ms);
        let current = self.active.get(key);
        let step = advance_alert(current, key, rule, observation);
        if current.is_none() && step.alert.is_some() && self.active.len() >= self.active_max {
            if self.refused.len() < QUIET_KEYS_MAX {
                self.refused.insert(key.clone());
            }
            return None;
        }
        if step.alert.is_none() {
            self.refused.remove(key);
        }
        let LifecycleStep { alert, past, event, has_moved } = step;
        match alert {
            Some(alert) => {
                self.refused.remove(key);
                let change = has_moved.then(|| AlertChange {
                    alert: alert.clone(),
                    is_active: true,
                    past: None,
                    event,
                });
                self.active.insert(key.clone(), alert);
                change
            }
            None => {
                let ended = self.active.remove(key)?;
                let alert = past.as_ref().map_or(ended, |past| past.alert.clone());
                Some(AlertChange { alert, is_active: false, past, event })
            }
        }
    }

    /// Acknowledges a firing alert. Acknowledging it again replaces name and note, and tells nobody.
    ///
    /// # Errors
    /// Where the alert is not active, or pending.
    pub fn acknowledge(
        &mut self,
        id: &AlertId,
        by: AcknowledgedBy,
    ) -> Result<AlertChange, AcknowledgeError> {
        let alert = self.find_mut(id)?;
        if alert.state() == AlertState::Pending {
            return Err(AcknowledgeError::Pending);
        }
        let is_first = alert.acknowledged.replace(by).is_none();
        let event = is_first.then_some(AlertEvent::Acknowledged);
        Ok(AlertChange { alert: alert.clone(), is_active: true, past: None, event })
    }

    /// Takes an acknowledgement back.
    ///
    /// # Errors
    /// Where the alert is not active, or not acknowledged.
    pub fn unacknowledge(&mut self, id: &AlertId) -> Result<AlertChange, AcknowledgeError> {
        let alert = self.find_mut(id)?;
        alert.acknowledged.take().ok_or(AcknowledgeError::NotAcknowledged)?;
        let event = Some(AlertEvent::Unacknowledged);
        Ok(AlertChange { alert: alert.clone(), is_active: true, past: None, event })
    }

    /// Ends the alerts for which `outcome` gives one, at `at_ms`, UTC ms. Of those that fired live,
    /// people are told.
    pub fn end_where(
        &mut self,
        at_ms: i64,
        outcome: impl Fn(&ActiveAlert) -> Option<AlertOutcome>,
    ) -> Vec<AlertChange> {
        let ending =
            self.active.values().filter_map(|alert| Some((alert.key.clone(), outcome(alert)?)));
        let ending: Vec<(AlertKey, AlertOutcome)> = ending.collect();
        let mut changes = Vec::new();
        for (key, outcome) in ending {
            let Some(alert) = self.active.remove(&key) else { continue };
            let resolved_ms = at_ms.max(alert.observed_ms);
            let past = alert.fired_ms.is_some().then(|| PastAlert {
                alert: alert.clone(),
                resolved_ms,
                outcome,
            });
            let event = alert.is_firing_live().then_some(AlertEvent::Resolved);
            changes.push(AlertChange { alert, is_active: false, past, event });
        }
        changes
    }

    fn find_mut(&mut self, id: &AlertId) -> Result<&mut ActiveAlert, AcknowledgeError> {
        let found = self.active.values_mut().find(|alert| alert.id == *id);
        found.ok_or(AcknowledgeError::NotActive)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use telemetry::SmolStr;

    use super::*;
    use crate::{ConditionLevel, settings::AlertSettings};

    const LEVELS: [ConditionLevel; 3] =
        [ConditionLevel::Exceeded, ConditionLevel::Between, ConditionLevel::Clear];

    fn rule(for_s: f64) -> AlertRule {
        let rules = AlertSettings::default().check().unwrap().rules;
        let frost = rules.into_iter().find(|rule| rule.name == "frost").unwrap();
        AlertRule { for_s, ..frost }
    }

    fn key(zone: &str) -> AlertKey {
        AlertKey::for_zone(&"frost".into(), &zone.parse().unwrap(), "temperature")
    }

    fn observation(event_ms: i64, level: ConditionLevel) -> AlertObservation {
        AlertObservation {
            event_ms,
            is_live: true,
            level,
            value: None,
            limit: None,
            detail: SmolStr::default(),
        }
    }

    #[test]
    fn there_is_room_for_a_limited_number_and_the_others_are_counted() {
        let (rule, mut book) = (rule(0.0), AlertBook::new(2, []));
        for zone in ["farm/a", "farm/b", "farm/c", "farm/c"] {
            book.observe(&rule, &key(zone), &observation(1000, ConditionLevel::Exceeded));
        }
        assert_eq!((book.active_alerts().count(), book.refused_count()), (2, 1));
        book.observe(&rule, &key("farm/a"), &observation(2000, ConditionLevel::Clear));
        // The next observation finds the room.
        let change =
            book.observe(&rule, &key("farm/c"), &observation(2000, ConditionLevel::Exceeded));
        assert_eq!(change.unwrap().event, Some(AlertEvent::Fired));
        assert_eq!(book.refused_count(), 0);
    }

    #[test]
    fn acknowledgement() {
        let (rule, mut book) = (rule(60.0), AlertBook::new(10, []));
        let by = || AcknowledgedBy { at_ms: 5, by: "Ada".into(), note: String::new() };
        let pending =
            book.observe(&rule, &key("farm/a"), &observation(1000, ConditionLevel::Exceeded));
        let id = pending.unwrap().alert.id;
        assert_eq!(book.acknowledge(&id, by()), Err(AcknowledgeError::Pending));
        book.observe(&rule, &key("farm/a"), &observation(61_000, ConditionLevel::Exceeded));
        assert_eq!(book.unacknowledge(&id), Err(AcknowledgeError::NotAcknowledged));
        let change = book.acknowledge(&id, by()).unwrap();
        assert_eq!(
            (change.alert.state(), change.event),
            (AlertState::Acknowledged, Some(AlertEvent::Acknowledged))
        );
        assert_eq!(book.acknowledge(&id, by()).unwrap().event, None, "told once");
        assert_eq!(book.unacknowledge(&id).unwrap().alert.state(), AlertState::Firing);
        assert_eq!(book.acknowledge(&"0".into(), by()), Err(AcknowledgeError::NotActive));
    }

    #[test]
    fn what_a_removed_rule_had_fired_ends() {
        let (rule, mut book) = (rule(0.0), AlertBook::new(10, []));
        book.observe(&rule, &key("farm/a"), &observation(1000, ConditionLevel::Exceeded));
        let changes = book.end_where(500, |_| Some(AlertOutcome::RuleRemoved));
        assert_eq!(changes[0].event, Some(AlertEvent::Resolved));
        assert_eq!(changes[0].past.as_ref().unwrap().resolved_ms, 1000);
        assert_eq!(book.active_alerts().count(), 0);
    }

    /// States by definition: looks at the whole course at once.
    fn oracle_state(course: &[(i64, ConditionLevel)], for_ms: i64) -> Option<AlertState> {
        let n = course.len();
        let is_exceeded = |i: usize| course[i].1 == ConditionLevel::Exceeded;
        let has_run =
            |i: usize, j: usize| (i..=j).all(is_exceeded) && course[j].0 - course[i].0 >= for_ms;
        let stays = |j: usize| (j + 1..n).all(|k| course[k].1 != ConditionLevel::Clear);
        let fires = (0..n).any(|j| stays(j) && (0..=j).any(|i| has_run(i, j)));
        if fires {
            Some(AlertState::Firing)
        } else {
            (n > 0 && is_exceeded(n - 1)).then_some(AlertState::Pending)
        }
    }

    /// How often an alert fires in a course, by definition: the number of prefixes at which it
    /// begins to.
    fn oracle_firings(course: &[(i64, ConditionLevel)], for_ms: i64) -> usize {
        let fires = |n: usize| oracle_state(&course[..n], for_ms) == Some(AlertState::Firing);
        (1..=course.len()).filter(|n| fires(*n) && !fires(n - 1)).count()
    }

    proptest! {
        /// Observations come late, twice and out of order, and the process is killed between any
        /// two of them; what it had stored is all that it knows then, and it reads on from there.
        #[test]
        fn states_are_those_of_the_course_and_nothing_is_told_twice(
            steps in prop::collection::vec((1_i64..400, 0_usize..3, 0_i64..900, 0_u8..4), 1..60),
            for_s in prop::sample::select(vec![0.0, 60.0, 300.0]),
            saves in prop::collection::vec(any::<bool>(), 120),
            crashes in prop::collection::vec(0_u8..8, 120),
        ) {
            let rule = rule(for_s);
            let key = key("farm/a");
            // The order of arrival, with copies.
            let mut event_s = 0;
            let mut arrivals = Vec::new();
            for (i, (gap_s, level, delay_s, copies)) in steps.iter().enumerate() {
                event_s += gap_s;
                let delayed = if i % 3 == 0 { *delay_s } else { 0 };
                for copy in 0..=i64::from(*copies / 3) {
                    arrivals.push((event_s + delayed + copy * 50, event_s * 1000, LEVELS[*level]));
                }
            }
            arrivals.sort_by_key(|(arrival_s, ..)| *arrival_s);
            let mut course: Vec<(i64, ConditionLevel)> = Vec::new();
            for (_, event_ms, level) in &arrivals {
                if course.last().is_none_or(|(newest_ms, _)| newest_ms < event_ms) {
                    course.push((*event_ms, *level));
                }
            }

            let mut book = AlertBook::new(10, []);
            let mut stored: Option<ActiveAlert> = None;
            let (mut next, mut stored_next, mut turns) = (0, 0, 0);
            let mut told: Vec<(AlertId, AlertEvent)> = Vec::new();
            let mut untold: Vec<(AlertId, AlertEvent)> = Vec::new();
            while next < arrivals.len() {
                let (_, event_ms, level) = arrivals[next];
                next += 1;
                if let Some(change) = book.observe(&rule, &key, &observation(event_ms, level)) {
                    untold.extend(change.event.map(|event| (change.alert.id, event)));
                }
                let turn = turns % 120;
                turns += 1;
                if saves[turn] {
                    stored = book.active_alerts().next().cloned();
                    stored_next = next;
                    told.append(&mut untold);
                }
                if crashes[turn] == 0 && turns < 400 {
                    book = AlertBook::new(10, stored.clone());
                    // The key's newest observation is that of the store's position.
                    let newest_ms = arrivals[..stored_next].iter().map(|(_, event_ms, _)| *event_ms).max();
                    book.newest_ms.extend(newest_ms.map(|newest_ms| (key.clone(), newest_ms)));
                    next = stored_next;
                    untold.clear();
                }
            }
            told.append(&mut untold);
            let for_ms = rule.for_ms();
            let state = book.active_alerts().next().map(ActiveAlert::state);
            prop_assert_eq!(state, oracle_state(&course, for_ms));
            let distinct: BTreeSet<&(AlertId, AlertEvent)> = told.iter().collect();
            prop_assert_eq!(distinct.len(), told.len(), "told twice: {:?}", told);
            let fired = told.iter().filter(|(_, event)| *event == AlertEvent::Fired).count();
            prop_assert_eq!(fired, oracle_firings(&course, for_ms));
        }
    }
}
