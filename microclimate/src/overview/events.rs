use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

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

/// Changed zones are told this often at most: readings of a second are told together.
const CHANGES_EVERY: Duration = Duration::from_secs(1);
/// Every zone is looked at this often, since silence changes a state without a reading; each time
/// a beat tells that the server lives.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// Events that a slow client may be behind before it loses some.
const EVENTS_BEHIND_MAX: usize = 64;

/// What a client is told: states as they change, made once for all clients.
#[derive(Clone, Debug)]
pub(crate) enum StateEvent {
    /// Zones with their states as JSON.
    Zones(Arc<Vec<(ZoneId, String)>>),
    /// Zones by level, as JSON.
    Counts(Arc<str>),
    /// The server's clock and the newest reading, as JSON.
    Beat(Arc<str>),
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
    pub(crate) fn beat(&self) -> Arc<str> {
        let summaries = self.states.store().zone_summaries();
        let newest_ms = summaries.iter().filter_map(|zone| zone.latest_ms).max();
        let stale_after_s = self.states.stale_after_s();
        json!({ "now_ms": now_ms(), "newest_ms": newest_ms, "stale_after_s": stale_after_s })
            .to_string()
            .into()
    }

    /// Tells clients of changes until `stop`; without clients it only takes notice.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut rows = self.states.store().subscribe_rows();
        let mut changed: HashSet<ZoneId> = HashSet::new();
        let (mut changes, mut beats) = (interval(CHANGES_EVERY), interval(BEAT_EVERY));
        changes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                row = rows.recv() => match row {
                    Ok(row) => { changed.insert(row.zone.clone()); }
                    // The next look at every zone finds what was missed.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = changes.tick() => {
                    let zones = std::mem::take(&mut changed);
                    if self.has_clients() && !zones.is_empty() {
                        self.tell_changed(zones);
                    }
                }
                _ = beats.tick() => if self.has_clients() {
                    self.tell_levels();
                    self.tell(StateEvent::Beat(self.beat()));
                },
            }
        }
    }

    fn has_clients(&self) -> bool {
        self.events.receiver_count() > 0
    }

    fn tell(&self, event: StateEvent) {
        // That the last client has just gone is fine.
        let _ = self.events.send(event);
    }

    /// Tells the states of zones with new rows.
    fn tell_changed(&self, zones: HashSet<ZoneId>) {
        let now_ms = now_ms();
        let found = zones.into_iter().filter_map(|zone| self.states.find(&zone, now_ms));
        let mut told = Vec::new();
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let before = levels.len();
        let mut has_moved = false;
        for state in found {
            has_moved |= levels.insert(state.zone.clone(), state.state) != Some(state.state);
            told.push((state.zone.clone(), as_json(&state)));
        }
        let counts =
            (has_moved && before > 0).then(|| LevelCounts::count(levels.values().copied()));
        drop(levels);
        self.tell(StateEvent::Zones(Arc::new(told)));
        if let Some(counts) = counts {
            self.tell(StateEvent::Counts(as_json(&counts).into()));
        }
    }

    /// Tells of zones whose level has changed without a reading.
    fn tell_levels(&self) {
        let states = self.states.all(now_ms());
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *levels);
        let mut told = Vec::new();
        for state in states {
            if before.get(&state.zone).is_some_and(|level| *level != state.state) {
                told.push((state.zone.clone(), as_json(&state)));
            }
            levels.insert(state.zone, state.state);
        }
        let counts = LevelCounts::count(levels.values().copied());
        drop(levels);
        if !told.is_empty() {
            self.tell(StateEvent::Zones(Arc::new(told)));
        }
        self.tell(StateEvent::Counts(as_json(&counts).into()));
    }
}

fn as_json(what: &impl serde::Serialize) -> String {
    serde_json::to_string(what).expect("states have a JSON form")
}
