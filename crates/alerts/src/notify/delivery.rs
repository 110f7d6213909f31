//! Sends what waits, and tries again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    AlertNotification, AlertView, NotifyError,
    alertmanager::AlertmanagerSender,
    email::EmailSender,
    outbox::{OutboxMessage, ReceiverQueue},
    webhook::WebhookSender,
};
use crate::{
    alert::{AlertSeverity, AlertState},
    book::AlertChange,
    settings::CheckedAlerts,
    store::{AlertBatch, AlertStore},
};

/// Shortest and longest pause between two attempts; each pause is twice the one before.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// How often a queue is looked at without a new message: schedules end, groups become due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Largest number of resolved alerts that wait to be sent to Alertmanager.
const RESOLVED_MAX: usize = 1000;

/// Sender of one receiver.
#[derive(Debug)]
enum MessageSender {
    Webhook(WebhookSender),
    Email(EmailSender),
}

impl MessageSender {
    async fn send(&self, message: &AlertNotification, now_ms: i64) -> Result<(), NotifyError> {
        match self {
            Self::Webhook(sender) => sender.send(message, now_ms).await,
            Self::Email(sender) => sender.send(message).await,
        }
    }
}

/// A receiver of messages.
#[derive(Debug)]
struct AlertReceiver {
    name: &'static str,
    severity_min: AlertSeverity,
    sender: MessageSender,
    queue: Mutex<ReceiverQueue>,
    wake: Notify,
    counts: DeliveryCounts,
}

/// Numbers of messages since the start of the process.
#[derive(Debug, Default)]
pub struct DeliveryCounts {
    delivered: AtomicU64,
    failed_attempts: AtomicU64,
    given_up: AtomicU64,
    unheard: AtomicU64,
}

impl DeliveryCounts {
    /// The numbers by outcome.
    #[must_use]
    pub fn by_outcome(&self) -> [(&'static str, u64); 4] {
        [
            ("delivered", &self.delivered),
            ("failed_attempt", &self.failed_attempts),
            ("given_up", &self.given_up),
            ("muted", &self.unheard),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// Alerts as Alertmanager is to have them.
#[derive(Debug, Default)]
struct AlertmanagerState {
    firing: Vec<AlertView>,
    /// Ended alerts that it has not heard of.
    resolved: BTreeMap<String, AlertView>,
}

/// Delivers messages about alerts.
#[derive(Debug)]
pub struct AlertDelivery {
    checked: Arc<CheckedAlerts>,
    store: Arc<dyn AlertStore>,
    receivers: Vec<AlertReceiver>,
    alertmanager: Option<AlertmanagerSender>,
    alertmanager_state: Mutex<AlertmanagerState>,
    alertmanager_wake: Notify,
    alertmanager_counts: DeliveryCounts,
}

impl AlertDelivery {
    /// Makes the receivers of the settings, with the messages of an earlier run.
    ///
    /// # Errors
    /// Where a receiver's settings do not make a client.
    pub fn new(
        checked: Arc<CheckedAlerts>,
        store: Arc<dyn AlertStore>,
        stored: &[OutboxMessage],
    ) -> Result<Self, NotifyError> {
        let mut receivers = Vec::new();
        let raw = &checked.raw;
        let mut add = |name: &'static str, severity_min, sender| {
            let own = stored.iter().filter(|message| message.receiver == name).cloned();
            receivers.push(AlertReceiver {
                name,
                severity_min,
                sender,
                queue: Mutex::new(ReceiverQueue::new(raw.notify.waiting_max, own)),
                wake: Notify::new(),
                counts: DeliveryCounts::default(),
            });
        };
        if let Some(sender) = WebhookSender::new(&raw.webhook)? {
            add("webhook", raw.webhook.severity_min, MessageSender::Webhook(sender));
        }
        if let Some(sender) = EmailSender::new(&raw.email)? {
            add("email", raw.email.severity_min, MessageSender::Email(sender));
        }
        let alertmanager = AlertmanagerSender::new(&raw.alertmanager)?;
        Ok(Self {
            checked,
            store,
            receivers,
            alertmanager,
            alertmanager_state: Mutex::default(),
            alertmanager_wake: Notify::new(),
            alertmanager_counts: DeliveryCounts::default(),
        })
    }

    /// Makes the messages about a change, to be stored with it and then given to
    /// [`AlertDelivery::enqueue`].
    #[must_use]
    pub fn messages_about(
        &self,
        change: &AlertChange,
        alert: &AlertView,
        now_ms: i64,
    ) -> Vec<OutboxMessage> {
        let Some(event) = change.event else { return Vec::new() };
        let wanted = self.receivers.iter().filter(|own| alert.severity >= own.severity_min);
        let message = |receiver: &AlertReceiver| {
            // An alert fires and ends once; it may be acknowledged several times.
            let time =
                change.alert.acknowledged.as_ref().map_or(change.alert.observed_ms, |by| by.at_ms);
            let is_once = matches!(event, crate::AlertEvent::Fired | crate::AlertEvent::Resolved);
            let id = if is_once {
                format!("{}-{}", alert.id, event.as_str())
            } else {
                format!("{}-{}-{time}", alert.id, event.as_str())
            };
            OutboxMessage {
                id,
                receiver: receiver.name.to_owned(),
                queued_ms: now_ms,
                event,
                alert: alert.clone(),
            }
        };
        wanted.map(message).collect()
    }

    /// Queues stored messages. Returns what found no room, by id and receiver.
    pub fn enqueue(&self, messages: &[OutboxMessage]) -> Vec<(String, String)> {
        let mut dropped = Vec::new();
        for receiver in &self.receivers {
            let own = messages.iter().filter(|message| message.receiver == receiver.name);
            for message in own {
                if let Some(oldest) = receiver.lock_queue().push(message.clone()) {
                    receiver.counts.given_up.fetch_add(1, Ordering::Relaxed);
                    dropped.push((oldest.id, oldest.receiver));
                }
                receiver.wake.notify_one();
            }
        }
        dropped
    }

    /// Sets what Alertmanager is to have: firing alerts, and those that have just ended.
    pub fn set_alerts(&self, firing: Vec<AlertView>, ended: Vec<AlertView>) {
        if self.alertmanager.is_none() {
            return;
        }
        let mut state = self.lock_alertmanager();
        let ids =
            |alerts: &[AlertView]| alerts.iter().map(|own| own.id.clone()).collect::<Vec<_>>();
        let has_changed = ids(&state.firing) != ids(&firing) || !ended.is_empty();
        state.firing = firing;
        for alert in ended {
            if state.resolved.len() < RESOLVED_MAX {
                state.resolved.insert(alert.id.to_string(), alert);
            }
        }
        drop(state);
        if has_changed {
            self.alertmanager_wake.notify_one();
        }
    }

    /// Numbers of messages by receiver.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, &DeliveryCounts)> {
        let own = self.receivers.iter().map(|receiver| (receiver.name, &receiver.counts));
        let alertmanager =
            self.alertmanager.iter().map(|_| ("alertmanager", &self.alertmanager_counts));
        own.chain(alertmanager).collect()
    }

    /// Number of messages that wait, by receiver.
    #[must_use]
    pub fn waiting(&self) -> Vec<(&'static str, usize)> {
        self.receivers.iter().map(|receiver| (receiver.name, receiver.lock_queue().len())).collect()
    }

    /// Sends until `stop`. What waits then is stored, and is sent after the next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..self.receivers.len() {
            let own = self.clone();
            tasks.spawn(async move { own.send_messages(number).await });
        }
        if self.alertmanager.is_some() {
            let own = self.clone();
            tasks.spawn(async move { own.send_to_alertmanager().await });
        }
        stop.cancelled().await;
        tasks.shutdown().await;
    }

    async fn send_messages(&self, number: usize) {
        let receiver = &self.receivers[number];
        let group_wait_ms = (self.checked.raw.notify.group_wait_s * 1000.0) as i64;
        let mut backoff = BACKOFF_MIN;
        loop {
            let now_ms = now_ms();
            self.settle_hopeless(receiver, now_ms).await;
            let is_muted = |own: &OutboxMessage| self.checked.is_muted(&own.alert.rule, now_ms);
            let group = receiver.lock_queue().next_group(now_ms, group_wait_ms, is_muted);
            if group.is_empty() {
                let _ = tokio::time::timeout(LOOK_EVERY, receiver.wake.notified()).await;
                continue;
            }
            let message = AlertNotification::from_group(&group, now_ms);
            let ids: Vec<String> = group.iter().map(|own| own.id.clone()).collect();
            let counts = &receiver.counts;
            match receiver.sender.send(&message, now_ms).await {
                Ok(()) => {
                    counts.delivered.fetch_add(ids.len() as u64, Ordering::Relaxed);
                    backoff = BACKOFF_MIN;
                    self.settle(receiver, ids).await;
                }
                Err(error @ NotifyError::Rejected(_)) => {
                    counts.given_up.fetch_add(ids.len() as u64, Ordering::Relaxed);
                    tracing::error!(receiver = receiver.name, %error, "a message about alerts was refused");
                    self.settle(receiver, ids).await;
                }
                Err(error) => {
                    counts.failed_attempts.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(receiver = receiver.name, %error, retry_s = backoff.as_secs(), "a message about alerts was not delivered; will retry");
                    tokio::time::sleep(backoff).await;
                    backoff = (2 * backoff).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Removes messages that are too old, and those of muted alerts that have ended.
    async fn settle_hopeless(&self, receiver: &AlertReceiver, now_ms: i64) {
        let is_muted = |own: &OutboxMessage| self.checked.is_muted(&own.alert.rule, now_ms);
        let retry_ms = (self.checked.raw.notify.retry_h * 3_600_000.0) as i64;
        let (unheard, old) = {
            let mut queue = receiver.lock_queue();
            let unheard = queue.remove_unheard(is_muted);
            let old = queue.take_older(now_ms - retry_ms, is_muted);
            (unheard, old)
        };
        receiver.counts.unheard.fetch_add(unheard.len() as u64, Ordering::Relaxed);
        if !old.is_empty() {
            receiver.counts.given_up.fetch_add(old.len() as u64, Ordering::Relaxed);
            tracing::error!(
                receiver = receiver.name,
                messages = old.len(),
                "messages about alerts are given up: they could not be delivered in time"
            );
        }
        let ids: Vec<String> = unheard.into_iter().chain(old).map(|own| own.id).collect();
        if !ids.is_empty() {
            self.settle(receiver, ids).await;
        }
    }

    async fn settle(&self, receiver: &AlertReceiver, ids: Vec<String>) {
        receiver.lock_queue().remove(&ids);
        let settled = ids.into_iter().map(|id| (id, receiver.name.to_owned())).collect();
        let batch = AlertBatch { settled, ..AlertBatch::default() };
        let store = self.store.clone();
        let saved = tokio::task::spawn_blocking(move || store.save_batch(&batch)).await;
        if let Ok(Err(error)) = saved {
            // After a restart they are sent once more, under the same ids.
            tracing::warn!(%error, "cannot note that messages about alerts were delivered");
        }
    }

    async fn send_to_alertmanager(&self) {
        let Some(sender) = &self.alertmanager else { return };
        let resend = Duration::from_secs_f64(sender.resend_s());
        let mut backoff = BACKOFF_MIN;
        loop {
            let now_ms = now_ms();
            let (alerts, resolved) = {
                let state = self.lock_alertmanager();
                let firing =
                    state.firing.iter().filter(|own| !self.checked.is_muted(&own.rule, now_ms));
                let alerts: Vec<AlertView> =
                    firing.chain(state.resolved.values()).cloned().collect();
                (alerts, state.resolved.keys().cloned().collect::<Vec<_>>())
            };
            let is_firing = alerts.iter().any(|own| own.state != AlertState::Resolved);
            match sender.send(&alerts, now_ms).await {
                Ok(()) => {
                    backoff = BACKOFF_MIN;
                    self.alertmanager_counts
                        .delivered
                        .fetch_add(alerts.len() as u64, Ordering::Relaxed);
                    self.lock_alertmanager().resolved.retain(|id, _| !resolved.contains(id));
                    let next = if is_firing { resend } else { resend * 10 };
                    let _ = tokio::time::timeout(next, self.alertmanager_wake.notified()).await;
                }
                Err(error) => {
                    self.alertmanager_counts.failed_attempts.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(receiver = "alertmanager", %error, retry_s = backoff.as_secs(), "alerts were not delivered; will retry");
                    tokio::time::sleep(backoff).await;
                    backoff = (2 * backoff).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn lock_alertmanager(&self) -> MutexGuard<'_, AlertmanagerState> {
        self.alertmanager_state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AlertReceiver {
    fn lock_queue(&self) -> MutexGuard<'_, ReceiverQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
