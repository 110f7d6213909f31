//! Alerts as they are shown: to REST, to MQTT, to Alertmanager.

use std::sync::{Arc, PoisonError};

use alerts::{ActiveAlert, AlertState, PastAlert, notify::AlertView};
use telemetry::{SmolStr, ZoneId};

use super::alert_service::AlertServiceState;
use crate::overview::now_ms;

impl AlertServiceState {
    /// The last run may have published its alerts.
    pub(super) fn assume_published_topics(&self) {
        let journal = self.lock_journal();
        let alerts = journal.book.active_alerts().filter(|alert| alert.is_firing_live());
        let views: Vec<AlertView> = alerts.map(|alert| self.view_active(alert, now_ms())).collect();
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).assume_published(&views);
    }

    /// Shows the alerts as they are now: to REST, to MQTT, to Alertmanager. MQTT is told of new zones
    /// where `is_full`.
    pub(super) fn publish_views(&self, now_ms: i64, is_full: bool) {
        let (mut shown, refused, ended) = {
            let mut journal = self.lock_journal();
            let shown: Vec<AlertView> = journal
                .book
                .active_alerts()
                .filter(|alert| !alert.is_recorded)
                .map(|alert| self.view_active(alert, now_ms))
                .collect();
            let ended = std::mem::take(&mut journal.just_ended);
            (shown, journal.book.refused_count(), ended)
        };
        shown.sort_by_key(|own| {
            (own.state == AlertState::Pending, std::cmp::Reverse((own.severity, own.started_ms)))
        });
        let ended = ended.iter().map(|past| self.view_past(past)).collect();
        let firing = shown.iter().filter(|own| own.state != AlertState::Pending).cloned();
        self.delivery.set_alerts(firing.collect(), ended);
        let before = self.active_views();
        let state = |own: &AlertView| (own.id.clone(), own.state, own.is_muted);
        let has_changed = !before.iter().map(state).eq(shown.iter().map(state));
        if has_changed || is_full {
            let summaries = self.sources.store.zone_summaries();
            let zones: Vec<ZoneId> = summaries.into_iter().map(|own| own.zone).collect();
            let downlink = self.sources.gateway.downlink();
            let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
            for message in topics.update(&zones, &shown) {
                downlink.publish(&message.topic, message.payload, true);
            }
        }
        *self.views.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = refused;
        if has_changed {
            self.changes.send_modify(|number| *number += 1);
        }
    }

    pub(super) fn active_views(&self) -> Arc<Vec<AlertView>> {
        self.views.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn view_active(&self, alert: &ActiveAlert, now_ms: i64) -> AlertView {
        let rule = self.checked.find_rule(&alert.key.rule);
        let is_muted = self.checked.is_muted(&alert.key.rule, now_ms);
        AlertView::from_active(alert, rule, is_muted, &|metric| self.unit_of(metric))
    }

    pub(super) fn view_past(&self, past: &PastAlert) -> AlertView {
        let rule = self.checked.find_rule(&past.alert.key.rule);
        AlertView::from_past(past, rule, &|metric| self.unit_of(metric))
    }

    fn unit_of(&self, metric: &str) -> Option<SmolStr> {
        self.sources.store.metrics().get(metric).map(|spec| spec.unit.clone())
    }
}
