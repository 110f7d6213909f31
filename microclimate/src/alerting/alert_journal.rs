use std::collections::{BTreeMap, HashMap, HashSet};

use alerts::{
    ActiveAlert, AlertBatch, AlertBook, AlertChange, AlertId, PastAlert, StoredAlerts,
    notify::outbox::OutboxMessage, silence::ListeningClock, store::ZoneCursor,
};
use telemetry::ZoneId;

/// Following of one zone.
#[derive(Debug)]
pub(super) struct ZoneTrack {
    /// How far the zone has been evaluated.
    pub(super) cursor: ZoneCursor,
    /// Whether the cursor has moved since it was stored.
    pub(super) has_moved: bool,
    /// Event time since which rows have followed each other without a long gap, UTC ms.
    pub(super) continuous_since_ms: Option<i64>,
    /// Processing time since which rows of the past have been missing, UTC ms.
    pub(super) behind_since_ms: Option<i64>,
}

impl ZoneTrack {
    pub(super) const fn new(cursor: ZoneCursor) -> Self {
        Self { cursor, has_moved: false, continuous_since_ms: None, behind_since_ms: None }
    }

    /// Moves on to a row, and returns since when rows have followed each other. A gap above
    /// `gap_ms_max` begins again, and so does the first row that this process sees.
    pub(super) fn follow_row(&mut self, at_ms: i64, gap_ms_max: i64) -> i64 {
        let is_gap =
            self.cursor.evaluated_ms.is_none_or(|before_ms| at_ms - before_ms > gap_ms_max);
        if is_gap {
            self.continuous_since_ms = None;
        }
        self.cursor.evaluated_ms = Some(at_ms);
        self.has_moved = true;
        *self.continuous_since_ms.get_or_insert(at_ms)
    }
}

/// Active alerts, how far each zone was evaluated, and what is not stored yet.
#[derive(Debug)]
pub(super) struct AlertJournal {
    pub(super) book: AlertBook,
    pub(super) zones: HashMap<ZoneId, ZoneTrack>,
    pub(super) listening: ListeningClock,
    unsaved_active: BTreeMap<AlertId, ActiveAlert>,
    unsaved_ended: Vec<AlertId>,
    unsaved_past: Vec<PastAlert>,
    unsaved_messages: Vec<OutboxMessage>,
    /// Zones of these changes: their cursors are stored with them.
    unsaved_zones: HashSet<ZoneId>,
    /// Alerts that ended live since the last round, for Alertmanager.
    pub(super) just_ended: Vec<PastAlert>,
}

impl AlertJournal {
    pub(super) fn new(active_max: usize, stored: StoredAlerts) -> Self {
        let tracks = stored.cursors.into_iter();
        Self {
            book: AlertBook::new(active_max, stored.active),
            zones: tracks.map(|own| (own.zone.clone(), ZoneTrack::new(own))).collect(),
            listening: ListeningClock::default(),
            unsaved_active: BTreeMap::new(),
            unsaved_ended: Vec::new(),
            unsaved_past: Vec::new(),
            unsaved_messages: Vec::new(),
            unsaved_zones: HashSet::new(),
            just_ended: Vec::new(),
        }
    }

    pub(super) fn track(&mut self, zone: &ZoneId) -> &mut ZoneTrack {
        let new = || ZoneTrack::new(ZoneCursor::new(zone.clone()));
        self.zones.entry(zone.clone()).or_insert_with(new)
    }

    /// Notes a change and the messages about it, to be stored.
    pub(super) fn note_change(&mut self, change: AlertChange, messages: Vec<OutboxMessage>) {
        let AlertChange { alert, is_active, past, event } = change;
        self.unsaved_zones.extend(alert.key.zone.clone());
        if is_active {
            self.unsaved_active.insert(alert.id.clone(), alert);
        } else {
            self.unsaved_active.remove(&alert.id);
            self.unsaved_ended.push(alert.id);
        }
        if event.is_some() {
            self.just_ended.extend(past.clone());
        }
        self.unsaved_past.extend(past);
        self.unsaved_messages.extend(messages);
    }

    /// Whether something waits that must be stored before people hear of it.
    pub(super) fn has_urgent_changes(&self) -> bool {
        !(self.unsaved_active.is_empty()
            && self.unsaved_ended.is_empty()
            && self.unsaved_past.is_empty()
            && self.unsaved_messages.is_empty())
    }

    /// Changes that are to be stored, together with the cursors of their zones, so that no
    /// observation is made a second time. Other cursors may be stored later: what lies behind them
    /// changed nothing.
    pub(super) fn unsaved_batch(&self, with_all_cursors: bool) -> AlertBatch {
        let is_due = |own: &&ZoneTrack| {
            own.has_moved && (with_all_cursors || self.unsaved_zones.contains(&own.cursor.zone))
        };
        let moved = self.zones.values().filter(is_due);
        AlertBatch {
            active: self.unsaved_active.values().cloned().collect(),
            ended: self.unsaved_ended.clone(),
            past: self.unsaved_past.clone(),
            cursors: moved.map(|own| own.cursor.clone()).collect(),
            queued: self.unsaved_messages.clone(),
            settled: Vec::new(),
        }
    }

    /// Forgets the changes of a batch, because they are stored. Returns the messages.
    pub(super) fn mark_saved(&mut self, batch: &AlertBatch) -> Vec<OutboxMessage> {
        self.unsaved_active.clear();
        self.unsaved_ended.clear();
        self.unsaved_past.clear();
        self.unsaved_zones.clear();
        for cursor in &batch.cursors {
            self.track(&cursor.zone).has_moved = false;
        }
        std::mem::take(&mut self.unsaved_messages)
    }
}
