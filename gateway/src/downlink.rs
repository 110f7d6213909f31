//! Messages to subscribers: what the process itself publishes (predictions),
//! what devices say to each other (status), retained last values.

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

/// Messages that wait for one subscriber; a slower one misses some.
const WAITING_MAX: usize = 1024;
/// Retained topics.
const RETAINED_MAX: usize = 10_000;
/// Filters of one subscriber.
const FILTERS_MAX: usize = 64;

/// A message to subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) topic: SmolStr,
    pub(crate) payload: Bytes,
    /// A stored last value, sent because of a new subscription; or, to a
    /// broker, one that it is to store.
    pub(crate) retain: bool,
    /// Asked for by the subscriber: at least once (QoS 1), else at most once.
    pub(crate) at_least_once: bool,
}

/// Publishes to MQTT subscribers. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Downlink(Arc<Hub>);

#[derive(Debug, Default)]
struct Hub {
    state: Mutex<State>,
    subscribers: AtomicUsize,
    missed: AtomicU64,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    subscribers: HashMap<u64, Subscriber>,
    retained: BTreeMap<SmolStr, Bytes>,
}

#[derive(Debug)]
struct Subscriber {
    filters: Vec<(SmolStr, bool)>,
    queue: mpsc::Sender<Outgoing>,
}

/// A connection's place among the subscribers; dropping it leaves.
#[derive(Debug)]
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    id: u64,
}

impl Downlink {
    /// Sends a message to those who subscribed to its topic. A retained one is
    /// kept for later subscribers in place of the one before; an empty one
    /// clears it. Never waits: a subscriber that reads too slowly misses it.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>, retain: bool) {
        if !retain && self.0.subscribers.load(Ordering::Relaxed) == 0 {
            return;
        }
        let (topic, payload) = (SmolStr::new(topic), payload.into());
        let mut state = self.0.state();
        if retain && payload.is_empty() {
            state.retained.remove(&topic);
        } else if retain
            && (state.retained.len() < RETAINED_MAX || state.retained.contains_key(&topic))
        {
            state.retained.insert(topic.clone(), payload.clone());
        }
        for Subscriber { filters, queue } in state.subscribers.values() {
            let matching = filters.iter().filter(|(filter, _)| is_match(filter, &topic));
            let Some(at_least_once) = matching.map(|(_, wanted)| *wanted).max() else { continue };
            // To a broker the flag says "store"; to a subscriber, MQTT 5
            // 3.3.1.3, "this was stored", which it was not.
            let retain = retain && filters.iter().any(|(filter, _)| filter == EVERYTHING);
            let (topic, payload) = (topic.clone(), payload.clone());
            self.0.send(queue, Outgoing { topic, payload, retain, at_least_once });
        }
    }

    /// Messages that slow subscribers missed.
    pub(crate) fn missed(&self) -> u64 {
        self.0.missed.load(Ordering::Relaxed)
    }

    /// Makes room for a connection.
    pub(crate) fn join(&self) -> (Subscription, mpsc::Receiver<Outgoing>) {
        let (queue, outgoing) = mpsc::channel(WAITING_MAX);
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        self.0.state().subscribers.insert(id, Subscriber { filters: Vec::new(), queue });
        (Subscription { hub: self.0.clone(), id }, outgoing)
    }

    /// Everything published, with its retain flag, for passing on to a broker.
    pub(crate) fn join_all(&self) -> (Subscription, mpsc::Receiver<Outgoing>) {
        let (subscription, outgoing) = self.join();
        subscription.subscribe(EVERYTHING, true);
        (subscription, outgoing)
    }
}

/// A filter that no client can ask for: it covers `$` topics too, and keeps
/// the retain flag.
const EVERYTHING: &str = "";

impl Subscription {
    /// Adds a filter, and sends the retained messages that match it. Returns
    /// whether there was room for it.
    pub(crate) fn subscribe(&self, filter: &str, at_least_once: bool) -> bool {
        let mut state = self.hub.state();
        let State { subscribers, retained } = &mut *state;
        let Some(Subscriber { filters, queue }) = subscribers.get_mut(&self.id) else {
            return false;
        };
        filters.retain(|(known, _)| known != filter);
        if filters.len() >= FILTERS_MAX {
            return false;
        }
        if filters.is_empty() {
            self.hub.subscribers.fetch_add(1, Ordering::Relaxed);
        }
        filters.push((filter.into(), at_least_once));
        for (topic, payload) in retained.iter().filter(|(topic, _)| is_match(filter, topic)) {
            let (topic, payload) = (topic.clone(), payload.clone());
            self.hub.send(queue, Outgoing { topic, payload, retain: true, at_least_once });
        }
        true
    }

    /// Removes a filter.
    pub(crate) fn unsubscribe(&self, filter: &str) {
        let mut state = self.hub.state();
        if let Some(Subscriber { filters, .. }) = state.subscribers.get_mut(&self.id) {
            let had_any = !filters.is_empty();
            filters.retain(|(known, _)| known != filter);
            if had_any && filters.is_empty() {
                self.hub.subscribers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let left = self.hub.state().subscribers.remove(&self.id);
        if left.is_some_and(|subscriber| !subscriber.filters.is_empty()) {
            self.hub.subscribers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, queue: &mpsc::Sender<Outgoing>, message: Outgoing) {
        if let Err(TrySendError::Full(_)) = queue.try_send(message) {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether an MQTT filter covers a topic (MQTT 5, 4.7).
pub(crate) fn is_match(filter: &str, topic: &str) -> bool {
    if filter == EVERYTHING {
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
    fn filters() {
        let check =
            |filter, topic, expect| assert_eq!(is_match(filter, topic), expect, "{filter} {topic}");
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

    fn topics(outgoing: &mut mpsc::Receiver<Outgoing>) -> Vec<(String, bool)> {
        std::iter::from_fn(|| outgoing.try_recv().ok())
            .map(|m| (m.topic.to_string(), m.retain))
            .collect()
    }

    #[test]
    fn subscribers_get_what_they_asked_for_and_the_retained() {
        let downlink = Downlink::default();
        downlink.publish("status/a", "on", true);
        downlink.publish("status/b", "on", true);
        downlink.publish("status/b", "", true);
        let (subscription, mut outgoing) = downlink.join();
        assert!(subscription.subscribe("status/#", true));
        assert_eq!(topics(&mut outgoing), [("status/a".to_owned(), true)]);
        downlink.publish("status/c", "on", true);
        downlink.publish("predictions/x", "1", false);
        assert_eq!(topics(&mut outgoing), [("status/c".to_owned(), false)]);
        subscription.unsubscribe("status/#");
        downlink.publish("status/c", "off", false);
        assert!(topics(&mut outgoing).is_empty());
    }

    #[test]
    fn a_slow_subscriber_misses_and_is_counted() {
        let downlink = Downlink::default();
        let (subscription, _outgoing) = downlink.join();
        subscription.subscribe("#", false);
        for _ in 0..=WAITING_MAX {
            downlink.publish("a", "x", false);
        }
        assert_eq!(downlink.missed(), 1);
    }
}
