//! One connection after its CONNECT: who it is, its will, its subscriptions, its messages.

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
use ntex::{io::IoRef, time::sleep};
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

/// A client has this long to read why its connection is closed.
pub(super) const GOODBYE_TIME_MAX: Duration = Duration::from_millis(300);
/// A subscriber whose connection takes no more bytes is looked at again after this.
const WRITE_WAIT: Duration = Duration::from_millis(20);
/// Topic aliases of a connection (MQTT 5, 3.3.2.3.4) that this side remembers.
const ALIASES_MAX: usize = 32;

/// Why a connection is closed by this side.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionAborted;

impl From<()> for ConnectionAborted {
    fn from((): ()) -> Self {
        Self
    }
}

/// Why a CONNECT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectRefusal {
    BadCredentials,
    /// It may not publish its will.
    NotAuthorized,
    /// It has tried too often.
    TooManyAttempts,
    /// Too many are connected, or being let in.
    Busy,
}

/// What a CONNECT says.
#[derive(Debug)]
pub(super) struct ConnectRequest<'a> {
    pub(super) client: &'a str,
    pub(super) user: Option<&'a str>,
    pub(super) password: Option<&'a [u8]>,
    pub(super) will: Option<LastWill>,
    /// The session that it may have had is to end.
    pub(super) is_clean: bool,
    /// How long its session is to outlive its connection, seconds.
    pub(super) expiry_s: u32,
}

/// What a client wants to be said when it vanishes.
#[derive(Debug)]
pub(super) struct LastWill {
    pub(super) topic: SmolStr,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
}

/// What a PUBLISH says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PublishFlags {
    pub(super) retain: bool,
    /// MQTT's DUP.
    pub(super) is_redelivery: bool,
}

/// What became of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PublishOutcome {
    /// It may be acknowledged.
    Accepted,
    /// Its user may not publish it; nothing was taken.
    NotAuthorized,
    /// The gateway ends; nothing was taken, so nothing is answered and the client sends it again.
    ShuttingDown,
}

/// What became of a SUBSCRIBE's filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscribeOutcome {
    Accepted,
    /// The user may not read all that the filter covers.
    NotAuthorized,
    /// Too many filters, or one too long.
    TooMany,
    /// A shared subscription.
    NotSupported,
}

/// Why this side closes a connection that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The client is back on another connection, or this one has ended.
    TakenOver,
    /// The gateway ends.
    ShuttingDown,
    /// The user is another by now, or gone.
    RightsChanged,
}

/// A name for a client without one, no other client's.
pub(super) fn assign_client_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("microclimate-{:x}-{number}", now_ms())
}

/// The right to hand in the next message of a connection.
pub(super) type PublishOrderGuard<'a> = MutexGuard<'a, ()>;

/// Messages of a connection that are not answered yet.
#[derive(Debug)]
struct UnansweredMessages {
    count: Cell<usize>,
    bytes: Cell<usize>,
    count_max: usize,
    bytes_max: usize,
    one_less: Notify,
}

/// One connection.
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
    /// Taken by the task that sends.
    outgoing: RefCell<Option<mpsc::Receiver<OutgoingMessage>>>,
    /// Fair: messages keep the order in which they began to come.
    publish_order_lock: Mutex<()>,
    unanswered: UnansweredMessages,
    /// The session outlives the connection.
    is_stored: Cell<bool>,
    filter_bytes: Cell<usize>,
    /// Lengths of the topics that stand for aliases.
    aliases: RefCell<[usize; ALIASES_MAX]>,
}

impl ClientSession {
    /// A session for a client with the right credentials, and whether it had one before.
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
        // The connection before of this client is closed before the session is taken on.
        let guard = frontend.clients.take_slot(identity.name(), client);
        let is_stored = expiry_s > 0 && frontend.sessions.may_store(client);
        let expiry_s = if is_stored { expiry_s } else { 0 };
        let earlier = frontend.sessions.connect_client(identity.name(), client, is_clean, expiry_s);
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
            // The user's rights may be others by now.
            session.add_filter(&filter, at_least_once);
        }
        if is_present {
            session.update_subscriptions();
        }
        Ok((session, is_present))
    }

    /// Waits until the connection may read on: so many messages, and so many bytes of them, may
    /// be unanswered, and while the log is behind, one. (The limit that ntex-mqtt 8.2.1 has for
    /// that lets one PUBLISH after the other pass.)
    ///
    /// Does not wait once the client has gone: nothing more comes than what is read already (at
    /// most one read buffer), and ntex-mqtt would throw that away.
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

    /// Waits until the messages before have been handed in. A PUBLISH may come in
    /// parts, and meanwhile the ones after it, whole: they must not overtake.
    ///
    /// Refuses one whose topic is longer than the whole packet says: in
    /// ntex-mqtt 8.2.1 the payload's length then wraps, to 4 GB.
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

    /// A PUBLISH that has come whole; returns when it may be acknowledged, or that it may not be
    /// said.
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
        // Not while its payload came: for that, the connection must be read.
        let _unanswered = UnansweredGuard::new(self, topic.len() + payload.len());
        let is_sensor = is_filter_match(SENSOR_FILTER, &topic);
        // What nobody reads is not kept for it.
        let copy = (is_sensor && downlink.has_subscribers()).then(|| payload.clone());
        let message = InboundMessage {
            topic: topic.clone(),
            payload,
            // From its sender it is new, whatever a broker is to keep.
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

    /// A message stood for its topic by this alias; the topic is kept for the next ones.
    pub(super) fn count_alias(&self, alias: u16, topic_bytes: usize) {
        let mut aliases = self.aliases.borrow_mut();
        let Some(known) = aliases.get_mut(usize::from(alias).wrapping_sub(1)) else { return };
        if topic_bytes > *known {
            self.context.table.hold_bytes(&self.context.connection, topic_bytes - *known);
            *known = topic_bytes;
        }
    }

    /// Whether the client has closed the connection.
    pub(super) fn is_client_gone(&self) -> bool {
        self.context.connection.is_closed()
    }

    /// A packet other than a PUBLISH was complete.
    pub(super) fn count_packet(&self) {
        let ConnectionContext { table, connection, .. } = &self.context;
        table.count_packet(connection, connection.measure_unfinished());
    }

    /// Adds the filter that stands at `index` in its SUBSCRIBE. Those of one packet beyond what
    /// a subscriber may have are not looked at.
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

    /// Counts the bytes of the filters as they are now, and remembers them where the session
    /// outlives the connection.
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

    /// What is to be sent to the client; once, and only where it may be something.
    pub(super) fn take_outgoing(&self) -> Option<mpsc::Receiver<OutgoingMessage>> {
        if self.subscription.filters().is_empty() {
            None
        } else {
            self.outgoing.borrow_mut().take()
        }
    }

    /// Waits for a reason to close this connection; holds nothing of the session.
    pub(super) fn wait_for_close(&self) -> impl Future<Output = CloseReason> + 'static {
        let taken_over = self.guard.taken_over.clone();
        let frontend = self.frontend.clone();
        let rules = self.frontend.rules.clone();
        let identity = self.identity.clone();
        async move { wait_for_close_reason(&frontend, rules, &identity, taken_over).await }
    }

    /// The client said goodbye: its will is not wanted.
    pub(super) fn discard_will(&self) {
        self.will.take();
    }

    /// The session ends with this connection, or has another expiry than CONNECT said.
    pub(super) fn end_session(&self) {
        if self.is_stored.replace(false) && !self.is_taken_over() {
            self.frontend.sessions.end_session(self.identity.name(), &self.client);
        }
    }

    /// The client is back on another connection, whose session it is by now.
    fn is_taken_over(&self) -> bool {
        self.guard.taken_over.is_cancelled()
    }

    /// The connection's message is not this user's to say, and its client cannot be told.
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
                // The gateway is gone, and so is this connection.
                Err(_) => return CloseReason::ShuttingDown,
            },
        }
    }
}

/// Whether these rights cover a message. Keeping a message for later subscribers is a right of
/// its own, on topics that are passed on; on any other the flag means nothing.
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
/// ntex-mqtt drops a connection's handlers when the client says goodbye or is gone. What came at
/// QoS 0 before that would be lost, and counted nowhere.
pub(super) async fn outlive_connection<T: 'static>(
    handler: impl Future<Output = Result<T, ConnectionAborted>> + 'static,
) -> Result<T, ConnectionAborted> {
    ntex::rt::spawn(handler).await.map_err(|_| ConnectionAborted)?
}

/// Waits until a connection takes bytes again. Returns whether it still can.
pub(super) async fn wait_until_writable(io: &IoRef) -> bool {
    let mut waited = 0;
    while io.is_wr_backpressure() && !io.is_closed() {
        // A client that reads is soon there; one that does not is not asked all the time.
        if waited < 3 {
            tokio::task::yield_now().await;
        } else {
            sleep(WRITE_WAIT).await;
        }
        waited += 1;
    }
    !io.is_closed()
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

    /// Publishes a will as any other message: to subscribers where its topic is theirs, else it
    /// is decoded, counted and logged.
    fn publish_will(&self, client: &str, will: LastWill, may_retain: bool) {
        let LastWill { topic, payload, retain } = will;
        if self.is_forwarded(&topic) {
            self.downlink.publish(&topic, payload, retain);
            return;
        }
        if self.is_draining.load(Ordering::Acquire) {
            // A listener that ends has not seen its clients vanish.
            return;
        }
        let message = InboundMessage {
            topic: topic.clone(),
            payload: payload.clone(),
            is_retained: false,
            is_redelivery: false,
            received_ms: now_ms(),
        };
        // Nobody waits for an acknowledgement; the ledger counts it all the same.
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
        // One that is back on another connection has not vanished.
        let is_back = self.is_taken_over();
        self.frontend.clients.release_slot(&self.guard);
        if is_back {
            debug!(client = %self.client, "connected again; the connection before is closed");
            return;
        }
        if self.is_stored.get() {
            self.frontend.sessions.mark_disconnected(self.identity.name(), &self.client);
        }
        if let Some(will) = self.will.take() {
            if !self.frontend.rules.borrow().is_still_valid(&self.identity) {
                debug!(client = %self.client, "its user is another or gone; no will is published");
                self.frontend.counts.denied_publishes.fetch_add(1, Ordering::Relaxed);
                return;
            }
            debug!(client = %self.client, topic = %will.topic, "vanished; its will is published");
            let may_retain = self.rights.may_retain(&will.topic);
            self.frontend.publish_will(&self.client, will, may_retain);
        }
    }
}

/// A message that this side has yet to answer.
#[derive(Debug)]
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

/// Goes to the end of this thread's queue of tasks, once.
///
/// ntex polls a connection's oldest request in place and the later ones as
/// tasks. If it finished here at once, the connection could read the next
/// message and hand it in before those tasks ran for the first time: out of
/// order. Behind them in the queue, it cannot.
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
