//! One connection after its CONNECT: its identity, will, subscriptions and messages.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use telemetry::{SmolStr, topic::SENSOR_FILTER};
use tokio::sync::{Mutex, MutexGuard, Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    ListenerContext, connected_clients::ClientGuard, listener_counts::CutReason,
    unfinished_packets::ConnectionContext,
};
use crate::{
    access::{
        AccessRefusal, AccessRules, ClientCredentials, ClientIdentity, topic_rights::TopicRights,
    },
    downlink::{DownlinkSubscription, FILTERS_MAX, OutgoingMessage, is_filter_match},
    message::{InboundMessage, now_ms},
};

/// Time for a client to read why its connection is closed.
pub(super) const GOODBYE_TIME_MAX: Duration = Duration::from_millis(300);
/// Number of topic aliases per connection (MQTT 5, 3.3.2.3.4).
const ALIASES_MAX: usize = 32;

/// The error when this side closes a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionAborted;

impl From<()> for ConnectionAborted {
    fn from((): ()) -> Self {
        Self
    }
}

/// The reasons to refuse a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectRefusal {
    BadCredentials,
    /// The client may not publish its will.
    NotAuthorized,
    /// The client has tried too often.
    TooManyAttempts,
    /// Too many clients are connected, or being authenticated.
    Busy,
}

/// The content of a CONNECT.
#[derive(Debug)]
pub(super) struct ConnectRequest<'a> {
    pub(super) client: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a [u8]>,
    pub(super) will: Option<LastWill>,
    /// Whether an existing session is to end.
    pub(super) is_clean: bool,
    /// How long the session is to outlive its connection, seconds.
    pub(super) expiry_s: u32,
}

/// The message that is published when the client disappears.
#[derive(Debug)]
pub(super) struct LastWill {
    pub(super) topic: SmolStr,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
}

/// The flags of a PUBLISH.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PublishFlags {
    pub(super) retain: bool,
    /// MQTT's DUP flag.
    pub(super) is_redelivery: bool,
}

/// The outcome of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishOutcome {
    /// It may be acknowledged.
    Accepted,
    /// The user may not publish to the topic; nothing was accepted.
    NotAuthorized,
    /// The gateway shuts down. The message is neither accepted nor answered, so the client sends
    /// it again.
    ShuttingDown,
}

/// The outcome of a filter in a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscribeOutcome {
    Accepted,
    /// The user may not subscribe to all that the filter covers.
    NotAuthorized,
    /// Too many filters, or a filter that is too long.
    TooMany,
    /// A shared subscription.
    NotSupported,
}

/// The reasons to close an admitted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The client is back on another connection, or this one has ended.
    TakenOver,
    /// The gateway shuts down.
    ShuttingDown,
    /// The user was changed or removed.
    RightsChanged,
}

/// Returns a unique client identifier for a client without one.
pub(super) fn assign_client_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("microclimate-{:x}-{number}", now_ms())
}

/// The right to submit the next message of a connection.
pub(super) type PublishOrderGuard<'a> = MutexGuard<'a, ()>;

/// The unanswered messages of a connection.
#[derive(Debug)]
struct UnansweredMessages {
    count: Cell<usize>,
    bytes: Cell<usize>,
    count_max: usize,
    bytes_max: usize,
    one_less: Notify,
}

/// One connection of a client.
#[derive(Debug)]
pub(super) struct ClientSession {
    client: SmolStr,
    guard: ClientGuard,
    context: ConnectionContext,
    identity: ClientIdentity,
    rights: TopicRights,
    frontend: Arc<ListenerContext>,
    will: RefCell<Option<LastWill>>,
    subscription: DownlinkSubscription,
    /// The queue of outgoing messages, until the sending task takes it.
    outgoing: RefCell<Option<mpsc::Receiver<OutgoingMessage>>>,
    /// Keeps messages in the order in which they began to arrive; the lock is fair.
    publish_order_lock: Mutex<()>,
    unanswered: UnansweredMessages,
    /// Whether the session outlives the connection.
    is_stored: Cell<bool>,
    filter_bytes: Cell<usize>,
    /// Lengths of the topics of the aliases.
    aliases: RefCell<[usize; ALIASES_MAX]>,
}

impl ClientSession {
    /// Opens a session for a client with valid credentials. Returns whether it had one before.
    pub(super) async fn open_session(
        frontend: &Arc<ListenerContext>,
        context: ConnectionContext,
        request: ConnectRequest<'_>,
    ) -> Result<(Self, bool), ConnectRefusal> {
        let ConnectRequest { client, user, password, will, is_clean, expiry_s } = request;
        let ConnectionContext { table, connection, certificate_names } = &context;
        connection.mark_connected();
        table.count_packet(connection, connection.measure_unfinished());
        if connection.is_refused {
            frontend.counts.count_cut(CutReason::TooMany);
            frontend.warn_of_limit(client);
            return Err(ConnectRefusal::Busy);
        }
        let rules = frontend.rules.borrow().clone();
        let shown =
            ClientCredentials { address: connection.address, user, password, certificate_names };
        let identity = frontend.access.authenticate(&rules, shown).await.map_err(|refusal| {
            let (reason, answer) = match refusal {
                AccessRefusal::BadCredentials => {
                    (CutReason::BadCredentials, ConnectRefusal::BadCredentials)
                }
                AccessRefusal::TooManyAttempts => {
                    (CutReason::TooManyAttempts, ConnectRefusal::TooManyAttempts)
                }
                AccessRefusal::Busy => (CutReason::Busy, ConnectRefusal::Busy),
            };
            frontend.warn_of_refusal(client, user, connection.address, refusal);
            frontend.counts.count_cut(reason);
            answer
        })?;
        let rights = identity.topic_rights(client);
        if let Some(LastWill { topic, retain, .. }) = &will
            && !may_publish_message(frontend, &rights, topic, *retain)
        {
            frontend.warn_of_will(client, user, topic);
            frontend.counts.count_cut(CutReason::NotAuthorized);
            return Err(ConnectRefusal::NotAuthorized);
        }
        let will_bytes = will.as_ref().map_or(0, |will| will.topic.len() + will.payload.len());
        table.hold_bytes(connection, 2 * client.len() + will_bytes);
        let connections = frontend.connections.fetch_add(1, Ordering::Relaxed) + 1;
        debug!(client, connections, "connected");
        let (subscription, outgoing) = frontend.downlink.add_subscriber();
        // The client's previous connection is closed before the session is taken over.
        let guard = frontend.clients.take_slot(identity.name(), client);
        let is_stored = expiry_s > 0 && frontend.sessions.may_store(client);
        let stored_expiry_s = if is_stored { expiry_s } else { 0 };
        let earlier =
            frontend.sessions.connect_client(identity.name(), client, is_clean, stored_expiry_s);
        let session = Self {
            client: client.into(),
            guard,
            identity,
            rights,
            frontend: frontend.clone(),
            will: RefCell::new(will),
            subscription,
            outgoing: RefCell::new(Some(outgoing)),
            publish_order_lock: Mutex::new(()),
            unanswered: frontend.new_unanswered_messages(),
            is_stored: Cell::new(is_stored),
            filter_bytes: Cell::new(0),
            aliases: RefCell::new([0; ALIASES_MAX]),
            context,
        };
        let is_present = earlier.is_some();
        for (filter, at_least_once) in earlier.into_iter().flat_map(|one| one.filters) {
            // The user's rights may have changed.
            session.add_filter(&filter, at_least_once);
        }
        if is_present {
            session.update_subscriptions();
        }
        Ok((session, is_present))
    }

    /// Waits until the connection may read further. A limited number of messages and bytes may be
    /// unanswered, and only one message while the log is behind. (The limit of ntex-mqtt 8.2.1
    /// lets one PUBLISH after the other pass.)
    ///
    /// Does not wait once the client has disconnected: at most one read buffer remains, and
    /// ntex-mqtt would discard it.
    pub(super) async fn wait_until_may_read(&self) {
        let UnansweredMessages { count, bytes, count_max, bytes_max, one_less } = &self.unanswered;
        let has_enough = || {
            let is_behind = count.get() > 0 && self.frontend.ingest_queue.is_crowded();
            count.get() >= *count_max || bytes.get() > *bytes_max || is_behind
        };
        while has_enough() {
            tokio::select! {
                () = one_less.notified() => {}
                () = self.context.connection.closed() => return,
            }
        }
    }

    /// Waits until the earlier messages have been submitted. A PUBLISH may arrive in parts, while
    /// later ones arrive whole: they must not overtake it.
    ///
    /// Refuses a PUBLISH whose topic is longer than its packet: in ntex-mqtt 8.2.1 the payload's
    /// length then wraps, to 4 GB.
    pub(super) async fn acquire_publish_order(
        &self,
        payload_bytes: usize,
        packet_bytes: u32,
    ) -> Result<PublishOrderGuard<'_>, ConnectionAborted> {
        if payload_bytes > packet_bytes as usize {
            self.frontend.warn_of_malformed(&self.client, packet_bytes);
            return Err(ConnectionAborted);
        }
        self.count_packet();
        Ok(self.publish_order_lock.lock().await)
    }

    /// Handles a complete PUBLISH. Returns when it may be acknowledged, or that the user may not
    /// publish it.
    pub(super) async fn handle_publish(
        &self,
        order: PublishOrderGuard<'_>,
        topic: SmolStr,
        payload: Bytes,
        flags: PublishFlags,
    ) -> Result<PublishOutcome, ConnectionAborted> {
        let PublishFlags { retain, is_redelivery } = flags;
        let downlink = &self.frontend.downlink;
        self.count_packet();
        if !may_publish_message(&self.frontend, &self.rights, &topic, retain) {
            let user = self.identity.name();
            self.frontend.counts.denied_publishes.fetch_add(1, Ordering::Relaxed);
            self.frontend.warn_of_denied(&self.client, user, &topic, retain);
            return Ok(PublishOutcome::NotAuthorized);
        }
        if self.frontend.is_forwarded(&topic) {
            downlink.publish(&topic, payload, retain);
            return Ok(PublishOutcome::Accepted);
        }
        if self.frontend.is_draining.load(Ordering::Acquire) {
            return Ok(PublishOutcome::ShuttingDown);
        }
        // The message counts only from here on: while its payload arrives, the connection must be
        // read.
        let _unanswered = UnansweredGuard::new(self, topic.len() + payload.len());
        let is_sensor = is_filter_match(SENSOR_FILTER, &topic);
        // The payload is copied only if there are subscribers.
        let copy = (is_sensor && downlink.has_subscribers()).then(|| payload.clone());
        let message = InboundMessage {
            topic: topic.clone(),
            payload,
            // From its sender it is new, even if a broker is to retain it.
            is_retained: false,
            is_redelivery,
            received_ms: now_ms(),
        };
        let durable = self.frontend.ingest_queue.submit_message(message).map_err(|error| {
            self.frontend.warn_of_closed(&self.client, &topic, error);
            ConnectionAborted
        })?;
        drop(order);
        durable.await.map_err(|_| ConnectionAborted)?;
        yield_to_queue().await;
        if let Some(payload) = copy {
            downlink.publish(&topic, payload, false);
        }
        Ok(PublishOutcome::Accepted)
    }

    /// Counts a message whose topic is given by this alias; the topic is stored for the next
    /// ones.
    pub(super) fn count_alias(&self, alias: u16, topic_bytes: usize) {
        let mut aliases = self.aliases.borrow_mut();
        let Some(known) = aliases.get_mut(usize::from(alias).wrapping_sub(1)) else { return };
        if topic_bytes > *known {
            self.context.table.hold_bytes(&self.context.connection, topic_bytes - *known);
            *known = topic_bytes;
        }
    }

    /// Counts a complete packet that is not a PUBLISH.
    pub(super) fn count_packet(&self) {
        let ConnectionContext { table, connection, .. } = &self.context;
        table.count_packet(connection, connection.measure_unfinished());
    }

    /// Adds the filter at position `index` of its SUBSCRIBE. Filters of one packet beyond a
    /// subscriber's limit are not checked.
    pub(super) fn subscribe_filter(
        &self,
        index: usize,
        filter: &str,
        at_least_once: bool,
    ) -> SubscribeOutcome {
        if index >= FILTERS_MAX {
            return SubscribeOutcome::TooMany;
        }
        let outcome = self.add_filter(filter, at_least_once);
        debug!(client = %self.client, filter, ?outcome, "subscribe");
        outcome
    }

    pub(super) fn unsubscribe_filter(&self, filter: &str) {
        self.subscription.unsubscribe(filter);
    }

    /// Counts the bytes of the current filters, and stores the filters if the session outlives
    /// the connection.
    pub(super) fn update_subscriptions(&self) {
        let filters = self.subscription.filters();
        let bytes = filters.iter().map(|(filter, _)| filter.len()).sum();
        let ConnectionContext { table, connection, .. } = &self.context;
        table.replace_held_bytes(connection, self.filter_bytes.replace(bytes), bytes);
        if self.is_stored.get() && !self.is_taken_over() {
            self.frontend.sessions.store_filters(self.identity.name(), &self.client, filters);
        }
    }

    fn add_filter(&self, filter: &str, at_least_once: bool) -> SubscribeOutcome {
        if filter.starts_with("$share/") {
            return SubscribeOutcome::NotSupported;
        }
        if !self.rights.may_subscribe(filter) {
            let user = self.identity.name();
            self.frontend.warn_of_denied_filter(&self.client, user, filter);
            self.frontend.counts.denied_subscriptions.fetch_add(1, Ordering::Relaxed);
            return SubscribeOutcome::NotAuthorized;
        }
        if self.subscription.subscribe(filter, at_least_once) {
            SubscribeOutcome::Accepted
        } else {
            SubscribeOutcome::TooMany
        }
    }

    /// Takes the queue of outgoing messages, once there may be any. Returns it only once.
    pub(super) fn take_outgoing(&self) -> Option<mpsc::Receiver<OutgoingMessage>> {
        if self.subscription.filters().is_empty() {
            None
        } else {
            self.outgoing.borrow_mut().take()
        }
    }

    /// Waits for a reason to close this connection. The future holds nothing of the session.
    pub(super) fn wait_for_close(&self) -> impl Future<Output = CloseReason> + 'static {
        let taken_over = self.guard.taken_over.clone();
        let frontend = self.frontend.clone();
        let rules = self.frontend.rules.clone();
        let identity = self.identity.clone();
        async move { wait_for_close_reason(&frontend, rules, &identity, taken_over).await }
    }

    /// Discards the will, because the client has disconnected in order.
    pub(super) fn discard_will(&self) {
        self.will.take();
    }

    /// Ends the session with this connection, or after another expiry than CONNECT stated.
    pub(super) fn end_session(&self) {
        if self.is_stored.replace(false) && !self.is_taken_over() {
            self.frontend.sessions.end_session(self.identity.name(), &self.client);
        }
    }

    /// Whether the client is back on another connection, which has taken over the session.
    fn is_taken_over(&self) -> bool {
        self.guard.taken_over.is_cancelled()
    }

    /// Closes the connection because the user may not publish a message and the protocol has no
    /// way to report it.
    pub(super) fn cut_for_rights(&self) {
        let ConnectionContext { table, connection, .. } = &self.context;
        table.cut_connection(connection, CutReason::NotAuthorized);
    }
}

async fn wait_for_close_reason(
    frontend: &ListenerContext,
    mut rules: watch::Receiver<Arc<AccessRules>>,
    identity: &ClientIdentity,
    taken_over: CancellationToken,
) -> CloseReason {
    loop {
        tokio::select! {
            () = taken_over.cancelled() => return CloseReason::TakenOver,
            () = frontend.closing.cancelled() => return CloseReason::ShuttingDown,
            changed = rules.changed() => match changed {
                Ok(()) if rules.borrow_and_update().is_still_valid(identity) => {}
                Ok(()) => {
                    frontend.counts.count_cut(CutReason::RightsChanged);
                    return CloseReason::RightsChanged;
                }
                // The gateway has ended, and with it this connection.
                Err(_) => return CloseReason::ShuttingDown,
            },
        }
    }
}

/// Whether these rights cover a message. Retaining a message for later subscribers is a separate
/// right, on topics that are forwarded. On other topics the flag has no effect.
fn may_publish_message(
    frontend: &ListenerContext,
    rights: &TopicRights,
    topic: &str,
    retain: bool,
) -> bool {
    rights.may_publish(topic)
        && (!retain || !frontend.is_forwarded(topic) || rights.may_retain(topic))
}

/// Runs a PUBLISH's handler in a task of its own, and waits for it.
///
/// ntex-mqtt drops a connection's handlers when the client disconnects. Messages of QoS 0 that
/// arrived before would be lost and not counted.
pub(super) async fn outlive_connection<T: 'static>(
    handler: impl Future<Output = Result<T, ConnectionAborted>> + 'static,
) -> Result<T, ConnectionAborted> {
    ntex::rt::spawn(handler).await.map_err(|_| ConnectionAborted)?
}

impl ListenerContext {
    fn new_unanswered_messages(&self) -> UnansweredMessages {
        let settings = self.settings.borrow();
        UnansweredMessages {
            count: Cell::new(0),
            bytes: Cell::new(0),
            count_max: settings.mqtt.receive_maximum.into(),
            bytes_max: settings.mqtt.packet_bytes_max as usize,
            one_less: Notify::new(),
        }
    }

    /// Publishes a will like any other message: to subscribers if its topic is forwarded, and
    /// otherwise it is decoded, counted and logged.
    fn publish_will(&self, client: &str, will: LastWill, may_retain: bool) {
        let LastWill { topic, payload, retain } = will;
        if self.is_forwarded(&topic) {
            self.downlink.publish(&topic, payload, retain);
            return;
        }
        if self.is_draining.load(Ordering::Acquire) {
            // The listener shuts down. Its clients have not disappeared.
            return;
        }
        let message = InboundMessage {
            topic: topic.clone(),
            payload: payload.clone(),
            is_retained: false,
            is_redelivery: false,
            received_ms: now_ms(),
        };
        // Nobody waits for an acknowledgement, but the ledger counts the message.
        if let Err(error) = self.ingest_queue.submit_message(message) {
            self.warn_of_lost_will(client, &topic, error);
        }
        let is_sensor = is_filter_match(SENSOR_FILTER, &topic);
        self.downlink.publish(&topic, payload, retain && may_retain && !is_sensor);
    }
}

impl Drop for ClientSession {
    fn drop(&mut self) {
        self.frontend.connections.fetch_sub(1, Ordering::Relaxed);
        // A client that is back on another connection has not disappeared.
        let is_back = self.is_taken_over();
        self.frontend.clients.release_slot(&self.guard);
        if is_back {
            debug!(client = %self.client, "connected again; the previous connection is closed");
            return;
        }
        if self.is_stored.get() {
            self.frontend.sessions.mark_disconnected(self.identity.name(), &self.client);
        }
        if let Some(will) = self.will.take() {
            if !self.frontend.rules.borrow().is_still_valid(&self.identity) {
                debug!(client = %self.client, "its user was changed or removed; no will is published");
                self.frontend.counts.denied_publishes.fetch_add(1, Ordering::Relaxed);
                return;
            }
            debug!(client = %self.client, topic = %will.topic, "disappeared; its will is published");
            let may_retain = self.rights.may_retain(&will.topic);
            self.frontend.publish_will(&self.client, will, may_retain);
        }
    }
}

/// A message that is not answered yet.
struct UnansweredGuard<'a> {
    session: &'a ClientSession,
    bytes: usize,
}

impl<'a> UnansweredGuard<'a> {
    fn new(session: &'a ClientSession, bytes: usize) -> Self {
        let one = Self { session, bytes };
        let UnansweredMessages { count, bytes: all, .. } = &session.unanswered;
        one.set_unanswered(count.get() + 1, all.get() + bytes);
        one
    }

    fn set_unanswered(&self, count: usize, bytes: usize) {
        self.session.unanswered.count.set(count);
        self.session.unanswered.bytes.set(bytes);
        self.session.context.connection.unanswered.set(count);
    }
}

impl Drop for UnansweredGuard<'_> {
    fn drop(&mut self) {
        let UnansweredMessages { count, bytes, one_less, .. } = &self.session.unanswered;
        self.set_unanswered(count.get() - 1, bytes.get() - self.bytes);
        one_less.notify_one();
    }
}

/// Moves to the end of this thread's task queue, once.
///
/// ntex polls a connection's oldest request in place and the later ones as tasks. If it finished
/// here at once, the connection could read and submit the next message before those tasks ran for
/// the first time: out of order. Behind them in the queue, it cannot.
pub(super) async fn yield_to_queue() {
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
