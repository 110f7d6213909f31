use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use alerts::AlertState;
use serde_json::json;
use telemetry::ZoneId;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    ZoneStates,
    zone_state::StateLevel,
    zone_states::{LevelCounts, now_ms},
};

/// Changes are sent at most this often: those of a second are sent together.
const CHANGES_EVERY: Duration = Duration::from_secs(1);
/// Every zone is checked this often, because silence changes a state without a reading. A beat
/// after each check shows clients that the server is alive.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// Events that a slow client may be behind before it loses some.
const EVENTS_BEHIND_MAX: usize = 64;

/// An event of the stream, encoded once for all clients.
#[derive(Clone, Debug)]
pub(crate) enum StateEvent {
    /// Zones with their states as JSON.
    Zones(Arc<Vec<(ZoneId, String)>>),
    /// Zones by level, as JSON.
    Counts(Arc<str>),
    /// The server's clock and the newest reading, as JSON.
    Beat(Arc<str>),
    /// Active alerts by state, as JSON.
    Alerts(Arc<str>),
}

/// The states of all zones as they change. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StateEvents {
    states: ZoneStates,
    events: broadcast::Sender<StateEvent>,
    levels: Arc<Mutex<HashMap<ZoneId, StateLevel>>>,
}

impl StateEvents {
    pub(crate) fn new(states: ZoneStates) -> Self {
        let events = broadcast::channel(EVENTS_BEHIND_MAX).0;
        Self { states, events, levels: Arc::default() }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<StateEvent> {
        self.events.subscribe()
    }

    /// The server's clock, the newest event time of any zone, and from which age on it is old.
    pub(crate) fn beat_json(&self) -> Arc<str> {
        let summaries = self.states.store().zone_summaries();
        let newest_ms = summaries.iter().filter_map(|zone| zone.latest_ms).max();
        let stale_after_s = self.states.stale_after_s();
        json!({ "now_ms": now_ms(), "newest_ms": newest_ms, "stale_after_s": stale_after_s })
            .to_string()
            .into()
    }

    /// Active alerts by state.
    pub(crate) fn alerts_json(&self) -> Arc<str> {
        let active = self.states.alerts().active_alerts();
        let count = |state| active.iter().filter(|own| own.state == state).count();
        let [pending, firing, acknowledged] =
            [AlertState::Pending, AlertState::Firing, AlertState::Acknowledged].map(count);
        json!({ "pending": pending, "firing": firing, "acknowledged": acknowledged })
            .to_string()
            .into()
    }

    /// Sends changes to clients until `stop`. Without clients nothing is computed.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut rows = self.states.store().subscribe_rows();
        let mut changed: HashSet<ZoneId> = HashSet::new();
        let mut alert_changes = self.states.alerts().subscribe();
        let (mut changes, mut beats) = (interval(CHANGES_EVERY), interval(BEAT_EVERY));
        changes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                row = rows.recv() => match row {
                    Ok(row) => { changed.insert(row.zone.clone()); }
                    // The next check of every zone finds what was missed.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = changes.tick() => {
                    let zones = std::mem::take(&mut changed);
                    if self.has_clients() && !zones.is_empty() {
                        self.publish_changed(zones);
                    }
                }
                changed_alerts = alert_changes.changed() => {
                    if changed_alerts.is_err() {
                        return;
                    }
                    if self.has_clients() {
                        self.publish(StateEvent::Alerts(self.alerts_json()));
                        self.publish_levels();
                    }
                }
                _ = beats.tick() => if self.has_clients() {
                    self.publish_levels();
                    self.publish(StateEvent::Beat(self.beat_json()));
                },
            }
        }
    }

    fn has_clients(&self) -> bool {
        self.events.receiver_count() > 0
    }

    fn publish(&self, event: StateEvent) {
        // That the last client has just gone is fine.
        let _ = self.events.send(event);
    }

    /// Sends the states of zones with new rows.
    fn publish_changed(&self, zones: HashSet<ZoneId>) {
        let now_ms = now_ms();
        let found = zones.into_iter().filter_map(|zone| self.states.find_state(&zone, now_ms));
        let mut changes_json = Vec::new();
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let before = levels.len();
        let mut has_moved = false;
        for state in found {
            has_moved |= levels.insert(state.zone.clone(), state.state) != Some(state.state);
            changes_json.push((state.zone.clone(), to_json(&state)));
        }
        let counts =
            (has_moved && before > 0).then(|| LevelCounts::count(levels.values().copied()));
        drop(levels);
        self.publish(StateEvent::Zones(Arc::new(changes_json)));
        if let Some(counts) = counts {
            self.publish(StateEvent::Counts(to_json(&counts).into()));
        }
    }

    /// Sends zones whose level has changed without a reading, and the zones by level.
    fn publish_levels(&self) {
        let states = self.states.all_states(now_ms());
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *levels);
        let mut changes_json = Vec::new();
        for state in states {
            if before.get(&state.zone).is_some_and(|level| *level != state.state) {
                changes_json.push((state.zone.clone(), to_json(&state)));
            }
            levels.insert(state.zone, state.state);
        }
        let counts = LevelCounts::count(levels.values().copied());
        drop(levels);
        if !changes_json.is_empty() {
            self.publish(StateEvent::Zones(Arc::new(changes_json)));
        }
        self.publish(StateEvent::Counts(to_json(&counts).into()));
    }
}

fn to_json(what: &impl serde::Serialize) -> String {
    serde_json::to_string(what).expect("states have a JSON form")
}
