//! One connection: its will, its subscriptions, its messages.

use std::{
    cell::RefCell,
    future::{pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use telemetry::{SmolStr, topic::SENSOR_FILTER};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{Frontend, clients::Place};
use crate::{
    downlink::{Outgoing, Subscription, is_match},
    message::{Message, now_ms},
};

/// Why a connection is closed by this side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;

impl From<()> for Refused {
    fn from((): ()) -> Self {
        Self
    }
}

/// What a client wants to be said when it vanishes.
#[derive(Debug)]
pub(super) struct Will {
    pub(super) topic: SmolStr,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
}

/// What a PUBLISH says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    pub(super) retain: bool,
    /// MQTT's DUP.
    pub(super) is_redelivery: bool,
}

/// A name for a client without one, no other client's.
pub(super) fn assign_client_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("microclimate-{:x}-{number}", now_ms())
}

/// The right to hand in the next message of a connection.
pub(super) type Turn<'a> = MutexGuard<'a, ()>;

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    client: SmolStr,
    place: Place,
    frontend: Arc<Frontend>,
    will: RefCell<Option<Will>>,
    subscription: Subscription,
    /// Taken by the task that sends.
    outgoing: RefCell<Option<mpsc::Receiver<Outgoing>>>,
    /// Fair: messages keep the order in which they began to come.
    turn: Mutex<()>,
}

impl Session {
    /// A session for a client with the right credentials.
    pub(super) fn open(
        frontend: &Arc<Frontend>,
        client: &str,
        user: Option<&str>,
        password: Option<&[u8]>,
        will: Option<Will>,
    ) -> Option<Self> {
        if !frontend.admits(user, password) {
            warn!(client, user, "refused: wrong user or password");
            return None;
        }
        let connections = frontend.connections.fetch_add(1, Ordering::Relaxed) + 1;
        debug!(client, connections, "connected");
        let (subscription, outgoing) = frontend.downlink.join();
        Some(Self {
            client: client.into(),
            place: frontend.clients.enter(client),
            frontend: frontend.clone(),
            will: RefCell::new(will),
            subscription,
            outgoing: RefCell::new(Some(outgoing)),
            turn: Mutex::new(()),
        })
    }

    /// Waits until the messages before have been handed in. A PUBLISH may come in
    /// parts, and meanwhile the ones after it, whole: they must not overtake.
    ///
    /// Refuses one whose topic is longer than the whole packet says: in
    /// ntex-mqtt 8.2.1 the payload's length then wraps, to 4 GB.
    pub(super) async fn turn(
        &self,
        payload_bytes: usize,
        packet_bytes: u32,
    ) -> Result<Turn<'_>, Refused> {
        if payload_bytes > packet_bytes as usize {
            warn!(client = %self.client, packet_bytes, "connection closed: a malformed PUBLISH");
            return Err(Refused);
        }
        Ok(self.turn.lock().await)
    }

    /// A PUBLISH; returns when it may be acknowledged.
    pub(super) async fn publish(
        &self,
        turn: Turn<'_>,
        topic: &str,
        payload: Bytes,
        flags: Flags,
    ) -> Result<(), Refused> {
        let Flags { retain, is_redelivery } = flags;
        let downlink = &self.frontend.downlink;
        if self.frontend.forwards(topic) {
            downlink.publish(topic, payload, retain);
            return Ok(());
        }
        if self.frontend.is_draining.load(Ordering::Acquire) {
            drop(turn);
            // Not taken: no acknowledgement, so the client sends it again.
            return pending().await;
        }
        let is_sensor = is_match(SENSOR_FILTER, topic);
        let message = Message {
            topic: topic.into(),
            payload: payload.clone(),
            // From its sender it is new, whatever a broker is to keep.
            is_retained: false,
            is_redelivery,
            received_ms: now_ms(),
        };
        let durable = self.frontend.inlet.submit(message).map_err(|error| {
            warn!(client = %self.client, topic, %error, "connection closed");
            Refused
        })?;
        drop(turn);
        durable.await.map_err(|_| Refused)?;
        requeue().await;
        if is_sensor {
            downlink.publish(topic, payload, false);
        }
        Ok(())
    }

    /// Adds a filter; returns whether it is accepted.
    pub(super) fn subscribe(&self, filter: &str, at_least_once: bool) -> bool {
        let accepted = self.subscription.subscribe(filter, at_least_once);
        debug!(client = %self.client, filter, accepted, "subscribe");
        accepted
    }

    pub(super) fn unsubscribe(&self, filter: &str) {
        self.subscription.unsubscribe(filter);
    }

    /// What is to be sent to the client; once.
    pub(super) fn outgoing(&self) -> Option<mpsc::Receiver<Outgoing>> {
        self.outgoing.borrow_mut().take()
    }

    /// Cancelled when the client is back on another connection, or this one has
    /// ended.
    pub(super) fn taken(&self) -> CancellationToken {
        self.place.taken.clone()
    }

    /// The client said goodbye: its will is not wanted.
    pub(super) fn goodbye(&self) {
        self.will.take();
    }
}

impl Frontend {
    /// Publishes a will as any other message: to subscribers where its topic is theirs, else it
    /// is decoded, counted and logged.
    fn publish_will(&self, client: &str, will: Will) {
        let Will { topic, payload, retain } = will;
        if self.forwards(&topic) {
            self.downlink.publish(&topic, payload, retain);
            return;
        }
        if self.is_draining.load(Ordering::Acquire) {
            // A listener that ends has not seen its clients vanish.
            return;
        }
        let message = Message {
            topic: topic.clone(),
            payload: payload.clone(),
            is_retained: false,
            is_redelivery: false,
            received_ms: now_ms(),
        };
        // Nobody waits for an acknowledgement; the ledger counts it all the same.
        if let Err(error) = self.inlet.submit(message) {
            warn!(client, %topic, %error, "a will is lost");
        }
        let is_sensor = is_match(SENSOR_FILTER, &topic);
        self.downlink.publish(&topic, payload, retain && !is_sensor);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.frontend.connections.fetch_sub(1, Ordering::Relaxed);
        // One that is back on another connection has not vanished.
        let is_back = self.place.taken.is_cancelled();
        self.frontend.clients.leave(&self.place);
        if is_back {
            debug!(client = %self.client, "connected again; the connection before is closed");
        } else if let Some(will) = self.will.take() {
            debug!(client = %self.client, topic = %will.topic, "vanished; its will is published");
            self.frontend.publish_will(&self.client, will);
        }
    }
}

/// Goes to the end of this thread's queue of tasks, once.
///
/// ntex polls a connection's oldest request in place and the later ones as
/// tasks. If it finished here at once, the connection could read the next
/// message and hand it in before those tasks ran for the first time: out of
/// order. Behind them in the queue, it cannot.
async fn requeue() {
    let mut is_first = true;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_first, false) {
            cx.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}
