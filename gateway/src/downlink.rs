//! Messages to MQTT subscribers: what the process itself publishes (predictions), what devices
//! publish to each other (status), and retained messages.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use telemetry::SmolStr;
use tokio::sync::mpsc::{self, error::TrySendError};

/// Largest number of messages that wait for one subscriber. A slower one misses some.
const WAITING_MAX: usize = 1024;
/// Largest number of retained topics.
const RETAINED_MAX: usize = 10_000;
/// Largest number of filters of one subscriber.
pub(crate) const FILTERS_MAX: usize = 64;
/// Longest filter, bytes.
const FILTER_BYTES_MAX: usize = 1024;
/// Overhead of a waiting or retained message beside its topic and payload, bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// A message to subscribers.
#[derive(Debug)]
pub(crate) struct OutgoingMessage {
    pub(crate) topic: SmolStr,
    pub(crate) payload: Bytes,
    /// Whether it is a retained message, sent because of a new subscription; or, to a broker, one
    /// that the broker should retain.
    pub(crate) retain: bool,
    /// Whether the subscriber requested at least once (QoS 1), and not at most once.
    pub(crate) at_least_once: bool,
    /// Its share of the waiting bytes, held until it is sent.
    _share: WaitingShare,
}

/// Limits of waiting and retained bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DownlinkLimits {
    pub(crate) retained_bytes_max: usize,
    pub(crate) subscriber_bytes_max: usize,
    pub(crate) subscribers_bytes_max: usize,
}

/// Publishes to MQTT subscribers. Clones share them.
#[derive(Clone, Debug)]
pub struct Downlink(Arc<DownlinkHub>);

#[cfg(any(test, fuzzing))]
impl Default for Downlink {
    fn default() -> Self {
        Self::new(DownlinkLimits {
            retained_bytes_max: 1 << 20,
            subscriber_bytes_max: 1 << 20,
            subscribers_bytes_max: 1 << 20,
        })
    }
}

#[derive(Debug)]
struct DownlinkHub {
    limits: DownlinkLimits,
    state: Mutex<DownlinkState>,
    subscribers: AtomicUsize,
    /// Bytes that wait for all subscribers.
    waiting_bytes: Arc<AtomicUsize>,
    missed: AtomicU64,
    retained_refused: AtomicU64,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct DownlinkState {
    subscribers: HashMap<u64, DownlinkSubscriber>,
    retained: BTreeMap<SmolStr, Bytes>,
    retained_bytes: usize,
}

#[derive(Debug)]
struct DownlinkSubscriber {
    filters: Vec<(SmolStr, bool)>,
    queue: mpsc::Sender<OutgoingMessage>,
    /// Bytes that wait for this subscriber.
    waiting_bytes: Arc<AtomicUsize>,
}

/// The bytes of a waiting message. Dropping it releases them.
#[derive(Debug)]
struct WaitingShare {
    bytes: usize,
    of_subscriber: Arc<AtomicUsize>,
    of_all: Arc<AtomicUsize>,
}

impl Drop for WaitingShare {
    fn drop(&mut self) {
        self.of_subscriber.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A connection's subscription. Dropping it unsubscribes.
#[derive(Debug)]
pub(crate) struct DownlinkSubscription {
    hub: Arc<DownlinkHub>,
    id: u64,
}

impl Downlink {
    /// Creates a downlink without subscribers.
    pub(crate) fn new(limits: DownlinkLimits) -> Self {
        Self(Arc::new(DownlinkHub {
            limits,
            state: Mutex::default(),
            subscribers: AtomicUsize::new(0),
            waiting_bytes: Arc::default(),
            missed: AtomicU64::new(0),
            retained_refused: AtomicU64::new(0),
            ids: AtomicU64::new(0),
        }))
    }

    /// Sends a message to the subscribers of its topic. A retained message replaces the previous
    /// one for later subscribers, and an empty one clears it. Never waits: a subscriber that
    /// reads too slowly misses the message.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>, retain: bool) {
        if !retain && !self.has_subscribers() {
            return;
        }
        let (topic, payload) = (SmolStr::new(topic), payload.into());
        let mut state = self.0.lock_state();
        if retain {
            self.0.retain_message(&mut state, &topic, &payload);
        }
        for subscriber in state.subscribers.values() {
            let filters = &subscriber.filters;
            let matching = filters.iter().filter(|(filter, _)| is_filter_match(filter, &topic));
            let Some(at_least_once) = matching.map(|(_, wanted)| *wanted).max() else { continue };
            // To a broker the flag means "store"; to a subscriber it means "this was stored"
            // (MQTT 5, 3.3.1.3), which it was not.
            let retain = retain && filters.iter().any(|(filter, _)| filter == ALL_TOPICS_FILTER);
            self.0.send_to_subscriber(subscriber, &topic, &payload, retain, at_least_once);
        }
    }

    /// Whether anybody has a subscription.
    pub(crate) fn has_subscribers(&self) -> bool {
        self.0.subscribers.load(Ordering::Relaxed) > 0
    }

    /// Number of messages that slow subscribers missed.
    pub(crate) fn missed_count(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// Number of messages that were not retained because there was no room.
    pub(crate) fn retained_refused(&self) -> u64 {
        self.0.retained_refused.load(Ordering::Relaxed)
    }

    /// Number of retained bytes.
    pub(crate) fn retained_bytes(&self) -> usize {
        self.0.lock_state().retained_bytes
    }

    /// Number of bytes that wait for subscribers.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.0.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Adds a connection without filters.
    pub(crate) fn add_subscriber(&self) -> (DownlinkSubscription, mpsc::Receiver<OutgoingMessage>) {
        let (queue, outgoing) = mpsc::channel(WAITING_MAX);
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let subscriber =
            DownlinkSubscriber { filters: Vec::new(), queue, waiting_bytes: Arc::default() };
        self.0.lock_state().subscribers.insert(id, subscriber);
        (DownlinkSubscription { hub: self.0.clone(), id }, outgoing)
    }

    /// Adds a subscriber to everything that is published, with its retain flag, to forward it to
    /// a broker.
    pub(crate) fn add_full_subscriber(
        &self,
    ) -> (DownlinkSubscription, mpsc::Receiver<OutgoingMessage>) {
        let (subscription, outgoing) = self.add_subscriber();
        subscription.subscribe(ALL_TOPICS_FILTER, true);
        (subscription, outgoing)
    }
}

/// A filter that no client can request. It covers `$` topics too, and keeps the retain flag.
const ALL_TOPICS_FILTER: &str = "";

impl DownlinkSubscription {
    /// Adds a filter, and sends the retained messages that match it. Returns whether there was
    /// room for the filter.
    pub(crate) fn subscribe(&self, filter: &str, at_least_once: bool) -> bool {
        let mut state = self.hub.lock_state();
        let DownlinkState { subscribers, retained, .. } = &mut *state;
        let Some(subscriber) = subscribers.get_mut(&self.id) else { return false };
        let filters = &mut subscriber.filters;
        filters.retain(|(known, _)| known != filter);
        if filters.len() >= FILTERS_MAX || filter.len() > FILTER_BYTES_MAX {
            return false;
        }
        if filters.is_empty() {
            self.hub.subscribers.fetch_add(1, Ordering::Relaxed);
        }
        filters.push((filter.into(), at_least_once));
        let subscriber = &*subscriber;
        for (topic, payload) in retained.iter().filter(|(topic, _)| is_filter_match(filter, topic))
        {
            self.hub.send_to_subscriber(subscriber, topic, payload, true, at_least_once);
        }
        true
    }

    /// Returns the filters, and whether each is at least once.
    pub(crate) fn filters(&self) -> Vec<(SmolStr, bool)> {
        let state = self.hub.lock_state();
        state.subscribers.get(&self.id).map(|one| one.filters.clone()).unwrap_or_default()
    }

    /// Removes a filter.
    pub(crate) fn unsubscribe(&self, filter: &str) {
        let mut state = self.hub.lock_state();
        if let Some(DownlinkSubscriber { filters, .. }) = state.subscribers.get_mut(&self.id) {
            let had_any = !filters.is_empty();
            filters.retain(|(known, _)| known != filter);
            if had_any && filters.is_empty() {
                self.hub.subscribers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for DownlinkSubscription {
    fn drop(&mut self) {
        let left = self.hub.lock_state().subscribers.remove(&self.id);
        if left.is_some_and(|subscriber| !subscriber.filters.is_empty()) {
            self.hub.subscribers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl DownlinkHub {
    fn lock_state(&self) -> MutexGuard<'_, DownlinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Retains a message for later subscribers, or clears the previous one. If there is no room
    /// the message is not stored, and the previous one is removed too, because it is outdated.
    fn retain_message(&self, state: &mut DownlinkState, topic: &SmolStr, payload: &Bytes) {
        let cost = |payload: &Bytes| topic.len() + payload.len() + MESSAGE_OVERHEAD_BYTES;
        if let Some(before) = state.retained.remove(topic) {
            state.retained_bytes -= cost(&before);
        }
        if payload.is_empty() {
            return;
        }
        let bytes = state.retained_bytes + cost(payload);
        if state.retained.len() >= RETAINED_MAX || bytes > self.limits.retained_bytes_max {
            self.retained_refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.retained.insert(topic.clone(), payload.clone());
        state.retained_bytes = bytes;
    }

    fn send_to_subscriber(
        &self,
        subscriber: &DownlinkSubscriber,
        topic: &SmolStr,
        payload: &Bytes,
        retain: bool,
        at_least_once: bool,
    ) {
        let bytes = topic.len() + payload.len() + MESSAGE_OVERHEAD_BYTES;
        let DownlinkSubscriber { queue, waiting_bytes, .. } = subscriber;
        let of_subscriber = waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let of_all = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Dropping it releases the bytes if the message is not sent.
        let share = WaitingShare {
            bytes,
            of_subscriber: waiting_bytes.clone(),
            of_all: self.waiting_bytes.clone(),
        };
        let (topic, payload) = (topic.clone(), payload.clone());
        let message = OutgoingMessage { topic, payload, retain, at_least_once, _share: share };
        // Subscribers that do not read must not take the equal share of those that do.
        let DownlinkLimits { subscriber_bytes_max, subscribers_bytes_max, .. } = self.limits;
        let equal_share = subscribers_bytes_max / self.subscribers.load(Ordering::Relaxed).max(1);
        let has_room = of_subscriber <= subscriber_bytes_max
            && (of_all <= subscribers_bytes_max || of_subscriber <= equal_share);
        if !has_room || matches!(queue.try_send(message), Err(TrySendError::Full(_))) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether an MQTT filter matches a topic (MQTT 5, 4.7).
pub(crate) fn is_filter_match(filter: &str, topic: &str) -> bool {
    if filter == ALL_TOPICS_FILTER {
        return true;
    }
    if topic.starts_with('$') && filter.starts_with(['#', '+']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_topics() {
        let check = |filter, topic, expect| {
            assert_eq!(is_filter_match(filter, topic), expect, "{filter} {topic}");
        };
        check("a/b", "a/b", true);
        check("a/b", "a/c", false);
        check("a/+", "a/b", true);
        check("a/+", "a/b/c", false);
        check("a/+/c", "a/b/c", true);
        check("a/#", "a/b/c", true);
        check("a/#", "a", true);
        check("#", "a/b", true);
        check("+/b", "/b", true);
        check("#", "$SYS/x", false);
        check("a", "a/b", false);
        check("a/b", "a", false);
    }

    fn small_downlink() -> Downlink {
        Downlink::new(DownlinkLimits {
            retained_bytes_max: 10_000,
            subscriber_bytes_max: 1 << 20,
            subscribers_bytes_max: 2 << 20,
        })
    }

    fn received_topics(outgoing: &mut mpsc::Receiver<OutgoingMessage>) -> Vec<(String, bool)> {
        std::iter::from_fn(|| outgoing.try_recv().ok())
            .map(|m| (m.topic.to_string(), m.retain))
            .collect()
    }

    #[test]
    fn subscribers_get_what_they_asked_for_and_the_retained() {
        let downlink = small_downlink();
        downlink.publish("status/a", "on", true);
        downlink.publish("status/b", "on", true);
        downlink.publish("status/b", "", true);
        let (subscription, mut outgoing) = downlink.add_subscriber();
        assert!(subscription.subscribe("status/#", true));
        assert_eq!(received_topics(&mut outgoing), [("status/a".to_owned(), true)]);
        downlink.publish("status/c", "on", true);
        downlink.publish("predictions/x", "1", false);
        assert_eq!(received_topics(&mut outgoing), [("status/c".to_owned(), false)]);
        subscription.unsubscribe("status/#");
        downlink.publish("status/c", "off", false);
        assert!(received_topics(&mut outgoing).is_empty());
    }

    #[test]
    fn a_slow_subscriber_misses_and_is_counted() {
        let downlink = small_downlink();
        let (subscription, _outgoing) = downlink.add_subscriber();
        subscription.subscribe("#", false);
        for _ in 0..=WAITING_MAX {
            downlink.publish("a", "x", false);
        }
        assert_eq!(downlink.missed_count(), 1);
    }
    #[test]
    fn what_waits_is_bounded_for_each_and_for_all() {
        let downlink = small_downlink();
        let payload = vec![0; 100_000];
        let join = || {
            let (subscription, outgoing) = downlink.add_subscriber();
            subscription.subscribe("#", false);
            (subscription, outgoing)
        };
        let mut one = join();
        for _ in 0..100 {
            downlink.publish("a", payload.clone(), false);
        }
        assert_eq!((one.1.len(), downlink.missed_count()), (10, 90));
        let two = (join(), join());
        for _ in 0..100 {
            downlink.publish("a", payload.clone(), false);
        }
        // The limit, and an equal share for a subscriber that comes after it is reached.
        let bytes_max = (2 << 20) + (2 << 20) / 3;
        assert!(downlink.waiting_bytes() <= bytes_max, "{}", downlink.waiting_bytes());
        drop(two);
        // A subscriber that reads has room again.
        while one.1.try_recv().is_ok() {}
        assert_eq!(downlink.waiting_bytes(), 0);
        downlink.publish("a", payload, false);
        assert_eq!(one.1.len(), 1);
    }

    #[test]
    fn subscribers_that_do_not_read_take_nothing_from_one_that_does() {
        let downlink = small_downlink();
        let join = |filter| {
            let (subscription, outgoing) = downlink.add_subscriber();
            subscription.subscribe(filter, false);
            (subscription, outgoing)
        };
        let _slow: Vec<_> = (0..20).map(|_| join("#")).collect();
        let mut reading = join("predictions/#");
        for _ in 0..100 {
            downlink.publish("status", vec![0; 10_000], false);
        }
        for turn in 0..100 {
            downlink.publish("predictions/x", vec![0; 10_000], false);
            assert!(reading.1.try_recv().is_ok(), "{turn}");
        }
    }

    #[test]
    fn what_is_retained_is_bounded_and_never_outdated() {
        let downlink = small_downlink();
        for topic in 0..20 {
            downlink.publish(&format!("status/{topic}"), vec![0; 1000], true);
        }
        assert_eq!(downlink.retained_refused(), 12);
        assert!(downlink.retained_bytes() <= 10_000);
        // The new value does not fit, and the old one is outdated.
        downlink.publish("status/0", vec![0; 9000], true);
        let (subscription, mut outgoing) = downlink.add_subscriber();
        subscription.subscribe("status/#", false);
        assert!(received_topics(&mut outgoing).iter().all(|(topic, _)| topic != "status/0"));
        for topic in 0..20 {
            downlink.publish(&format!("status/{topic}"), "", true);
        }
        assert_eq!(downlink.retained_bytes(), 0);
    }
}
