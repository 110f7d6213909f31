//! Messages that wait for their receivers.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::AlertView;
use crate::book::AlertEvent;

/// Largest number of alerts in one message.
const GROUP_ALERTS_MAX: usize = 100;

/// A receiver's message about one event of one alert. It is stored with the event, and removed once
/// it is delivered: so an event is told at least once, and always under the same id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxMessage {
    /// Identifier of the event: the alert's, the event and its time.
    pub id: String,
    /// Receiver: `webhook` or `email`.
    pub receiver: String,
    /// Processing time at which it was queued, UTC ms.
    pub queued_ms: i64,
    /// The event.
    pub event: AlertEvent,
    /// The alert at the event.
    pub alert: AlertView,
}

impl OutboxMessage {
    /// Messages of one rule and one site belong together.
    fn is_grouped_with(&self, other: &Self) -> bool {
        let site = |own: &Self| own.alert.zone.as_ref().map(|zone| zone.site.clone());
        self.alert.rule == other.alert.rule && site(self) == site(other)
    }
}

/// The waiting messages of one receiver, oldest first, bounded.
#[derive(Debug)]
pub struct ReceiverQueue {
    waiting: VecDeque<OutboxMessage>,
    waiting_max: usize,
}

impl ReceiverQueue {
    /// Creates a queue with the messages of an earlier run.
    #[must_use]
    pub fn new(waiting_max: usize, stored: impl IntoIterator<Item = OutboxMessage>) -> Self {
        Self { waiting: stored.into_iter().collect(), waiting_max }
    }

    /// Number of waiting messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Appends a message. Returns the oldest if there is no room for both.
    pub fn push(&mut self, message: OutboxMessage) -> Option<OutboxMessage> {
        self.waiting.push_back(message);
        (self.waiting.len() > self.waiting_max).then(|| self.waiting.pop_front()).flatten()
    }

    /// Returns the messages to send together at `now_ms`, which stay until they are removed: those
    /// of the oldest message's rule and site, once that has waited for `group_wait_ms`. Muted
    /// messages wait for the end of their schedule.
    pub fn next_group(
        &self,
        now_ms: i64,
        group_wait_ms: i64,
        is_muted: impl Fn(&OutboxMessage) -> bool,
    ) -> Vec<OutboxMessage> {
        let is_due =
            |own: &&OutboxMessage| now_ms - own.queued_ms >= group_wait_ms && !is_muted(own);
        let Some(first) = self.waiting.iter().find(is_due) else { return Vec::new() };
        let group = self.waiting.iter().filter(|own| own.is_grouped_with(first) && !is_muted(own));
        group.take(GROUP_ALERTS_MAX).cloned().collect()
    }

    /// Removes messages, and those of muted alerts that have ended unheard: nobody needs to be told
    /// of the end of what they never heard of. Returns the latter.
    pub fn remove_unheard(
        &mut self,
        is_muted: impl Fn(&OutboxMessage) -> bool,
    ) -> Vec<OutboxMessage> {
        let unheard: Vec<_> = self
            .waiting
            .iter()
            .filter(|own| own.event == AlertEvent::Resolved && is_muted(own))
            .filter(|end| {
                let begins = |own: &&OutboxMessage| {
                    own.event == AlertEvent::Fired && own.alert.id == end.alert.id
                };
                self.waiting.iter().any(|own| begins(&own))
            })
            .map(|end| end.alert.id.clone())
            .collect();
        let (removed, left) =
            self.waiting.drain(..).partition(|own| unheard.contains(&own.alert.id));
        self.waiting = left;
        let removed: VecDeque<OutboxMessage> = removed;
        removed.into()
    }

    /// Removes and returns the messages that were queued before `before_ms`, without muted ones.
    pub fn take_older(
        &mut self,
        before_ms: i64,
        is_muted: impl Fn(&OutboxMessage) -> bool,
    ) -> Vec<OutboxMessage> {
        let is_old = |own: &OutboxMessage| own.queued_ms < before_ms && !is_muted(own);
        let (old, left) = self.waiting.drain(..).partition(is_old);
        self.waiting = left;
        let old: VecDeque<OutboxMessage> = old;
        old.into()
    }

    /// Removes the messages with these ids.
    pub fn remove(&mut self, ids: &[String]) {
        self.waiting.retain(|own| !ids.contains(&own.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        alert::{ActiveAlert, AlertId, AlertKey, AlertSeverity},
        notify::AlertView,
    };

    fn message(
        id: &str,
        rule: &str,
        zone: &str,
        event: AlertEvent,
        queued_ms: i64,
    ) -> OutboxMessage {
        let key = AlertKey::for_zone(&rule.into(), &zone.parse().unwrap(), "");
        let alert = ActiveAlert {
            id: AlertId::from_start(&key, 0),
            key,
            severity: AlertSeverity::Warning,
            started_ms: 0,
            fired_ms: Some(0),
            observed_ms: 0,
            value: None,
            peak: None,
            limit: None,
            detail: "".into(),
            is_recorded: false,
            acknowledged: None,
        };
        let alert = AlertView::from_active(&alert, None, false, &|_| None);
        OutboxMessage { id: id.into(), receiver: "webhook".into(), queued_ms, event, alert }
    }

    fn ids(messages: &[OutboxMessage]) -> Vec<&str> {
        messages.iter().map(|own| own.id.as_str()).collect()
    }

    #[test]
    fn messages_of_one_rule_and_site_go_together() {
        let stored = [
            message("1", "frost", "farm/a", AlertEvent::Fired, 0),
            message("2", "heat", "farm/a", AlertEvent::Fired, 1),
            message("3", "frost", "farm/b", AlertEvent::Fired, 2),
            message("4", "frost", "home/a", AlertEvent::Fired, 3),
        ];
        let mut queue = ReceiverQueue::new(10, stored);
        assert_eq!(ids(&queue.next_group(9, 10, |_| false)), [""; 0], "others may come");
        assert_eq!(ids(&queue.next_group(10, 10, |_| false)), ["1", "3"]);
        queue.remove(&["1".into(), "3".into()]);
        assert_eq!(ids(&queue.next_group(20, 10, |_| false)), ["2"]);
    }

    #[test]
    fn a_muted_alert_is_told_later_or_never() {
        let is_frost = |own: &OutboxMessage| own.alert.rule == "frost";
        let stored = [
            message("1", "frost", "farm/a", AlertEvent::Fired, 0),
            message("2", "heat", "farm/a", AlertEvent::Fired, 1),
        ];
        let mut queue = ReceiverQueue::new(10, stored);
        assert_eq!(ids(&queue.next_group(50, 10, is_frost)), ["2"]);
        assert_eq!(ids(&queue.next_group(50, 10, |_| false)), ["1"], "the schedule has ended");
        queue.push(message("3", "frost", "farm/a", AlertEvent::Resolved, 60));
        assert_eq!(queue.remove_unheard(|_| false).len(), 0);
        assert_eq!(ids(&queue.remove_unheard(is_frost)), ["1", "3"]);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn the_oldest_gives_way() {
        let mut queue = ReceiverQueue::new(1, []);
        assert_eq!(queue.push(message("1", "frost", "farm/a", AlertEvent::Fired, 0)), None);
        let dropped = queue.push(message("2", "heat", "farm/a", AlertEvent::Fired, 0));
        assert_eq!(dropped.unwrap().id, "1");
    }
}
