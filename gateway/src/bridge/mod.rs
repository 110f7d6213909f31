//! The client of an external broker: MQTT 5, a session that outlives the connection, manual
//! acknowledgements.
//!
//! **Invariant:** messages are acknowledged in the order of arrival, and only on the connection
//! on which they arrived. One task polls and acknowledges, so the connection cannot change
//! between the check and the acknowledgement. The client library drops queued acknowledgements
//! when a connection ends.
//!
//! **Invariant:** every message that was read from the broker goes to the log or, if the process
//! ends first, is counted, because a message of QoS 0 exists nowhere else. When the log is
//! behind, the connection is not read, and TCP holds the broker back.

mod read_gate;
mod session_store;

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, Incoming, ManualAck, MqttOptions, Outgoing, Publish,
    PublishOptions, QoS, RetainForwardRule, SubscribeFilter, TlsConfiguration, Transport,
    mqttbytes::v5::SubscribeReasonCode,
};
use telemetry::SmolStr;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use read_gate::ReadGate;
use session_store::EmptySessionStore;

use crate::{
    GatewayError,
    downlink::Downlink,
    ingest_queue::{IngestOutcome, IngestQueue},
    ledger::Ledger,
    message::{InboundMessage, now_ms},
    settings::MqttSettings,
    tls,
};

/// First wait between attempts to connect. Each further one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Largest number of published messages that the broker has not acknowledged.
const OUTGOING_MAX: u16 = 64;
/// Number of requests that the client queues in addition to acknowledgements.
pub(crate) const REQUESTS_SPARE: usize = 16;
/// Number of messages that may wait for the log, as a multiple of Receive Maximum. Above it the
/// broker is held back.
const WAITING_RATIO: usize = 4;
/// Largest number of acknowledgements that are written together.
const ACKS_AT_ONCE: usize = 64;
/// Longest wait for the broker to close the connection after a DISCONNECT.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);

/// A message on its way to the log. Without `ack` it is of QoS 0.
struct InFlightMessage {
    ack: Option<ManualAck>,
    /// `None` once it is durable.
    durable: Option<oneshot::Receiver<IngestOutcome>>,
}

/// A message that waits for room. Without `ack` it is of QoS 0.
struct HeldMessage {
    ack: Option<ManualAck>,
    message: InboundMessage,
}

pub(crate) struct MqttBridge<'a> {
    mqtt: &'a MqttSettings,
    ingest_queue: IngestQueue,
    ledger: Arc<Ledger>,
    is_connected: Arc<AtomicBool>,
    client: AsyncClient,
    /// Messages on their way to the log, in the order of arrival. Receive Maximum bounds their
    /// number if the broker obeys it. Otherwise, and at QoS 0, `gate` does.
    ring: VecDeque<InFlightMessage>,
    /// Messages for which `limits.in_flight_bytes_max` leaves no room yet: at most those that the
    /// client library had read when the gate was closed.
    held: VecDeque<HeldMessage>,
    /// Number of acknowledgements that the client library has not written yet.
    unwritten_acks: usize,
    gate: ReadGate,
    /// Filters of earlier settings, which the session still has.
    dropped_filters: Vec<String>,
    /// Whether this process had a session before.
    had_session: bool,
    backoff: Duration,
}

impl<'a> MqttBridge<'a> {
    pub(crate) fn new(
        mqtt: &'a MqttSettings,
        ingest_queue: IngestQueue,
        ledger: Arc<Ledger>,
        is_connected: Arc<AtomicBool>,
        dropped_filters: Vec<String>,
    ) -> Result<(Self, EventLoop), GatewayError> {
        let mut options = mqtt_options(mqtt, &mqtt.client_id)?;
        options
            .set_ack_mode(AckMode::Manual)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(mqtt.session_expiry_s.max(1)))
            .set_receive_maximum(Some(mqtt.receive_maximum))
            // Acknowledgements are sent together, not each in a packet of its own.
            .set_max_request_batch(ACKS_AT_ONCE);
        if mqtt.tls.enabled {
            // Below TLS, `GatedStream` cannot separate the end of a connection from a batch.
            options.set_read_batch_size(1);
        }
        let session = EmptySessionStore {
            session_expiry_s: mqtt.session_expiry_s.max(1),
            outgoing_inflight_max: options.get_outgoing_inflight_upper_limit(),
        };
        options.set_session_store(session);
        let gate = ReadGate::default();
        let (guard, speaks_mqtt) = (gate.clone(), !mqtt.tls.enabled);
        options.set_socket_connector(move |host, network| {
            let guard = guard.clone();
            async move {
                let stream = rumqttc::default_socket_connect(host, network).await?;
                Ok(guard.wrap_stream(stream, speaks_mqtt))
            }
        });
        let capacity = usize::from(mqtt.receive_maximum) + REQUESTS_SPARE;
        let (client, events) = AsyncClient::builder(options)
            .capacity(capacity)
            .try_build()
            .map_err(|e| bridge_error(e.to_string()))?;
        let bridge = Self {
            mqtt,
            ingest_queue,
            ledger,
            is_connected,
            client,
            ring: VecDeque::new(),
            held: VecDeque::new(),
            unwritten_acks: 0,
            gate,
            dropped_filters,
            had_session: false,
            backoff: BACKOFF_MIN,
        };
        Ok((bridge, events))
    }

    /// Runs until `shutdown`. Then it acknowledges the messages in the log and disconnects,
    /// keeping the session.
    pub(crate) async fn run(
        mut self,
        mut events: EventLoop,
        shutdown: CancellationToken,
    ) -> Result<(), GatewayError> {
        let mut leave_by = None;
        loop {
            let event = {
                // Only one poll runs at a time, and it is never dropped halfway.
                let mut poll = pin!(events.poll());
                let mut has_room = true;
                loop {
                    if shutdown.is_cancelled() {
                        if !self.is_connected.load(Ordering::Relaxed) {
                            return self.wait_until_all_durable().await;
                        }
                        if leave_by.is_none() && self.is_all_acknowledged() {
                            // The broker answers this after all messages that it has queued for
                            // this connection, which it would drop at the connection's end.
                            self.subscribe_filters();
                            leave_by = Some(Instant::now() + LEAVE_TIME_MAX);
                        }
                    }
                    tokio::select! {
                        biased;
                        durable = wait_for_oldest_durable(&mut self.ring), if has_room => {
                            durable.map_err(|_| bridge_error("the log failed"))?;
                            has_room = self.acknowledge_oldest();
                        }
                        () = wait_for_held_room(&self.ingest_queue, &self.held) => self.submit_held(),
                        event = &mut poll => break event,
                        () = shutdown.cancelled(), if !shutdown.is_cancelled() => {}
                        () = wait_until(leave_by), if !self.gate.is_leaving() => {
                            self.gate.leave_broker();
                            leave_by = Some(Instant::now() + LEAVE_TIME_MAX);
                        }
                        () = wait_until(leave_by), if self.gate.is_leaving() => {
                            warn!("the broker does not close the connection: closing it");
                            self.on_disconnected();
                            return self.wait_until_all_durable().await;
                        }
                    }
                }
            };
            match event {
                Ok(Event::Incoming(Incoming::ConnAck(ack))) => {
                    self.on_connected(ack.session_present);
                }
                Ok(Event::Incoming(Incoming::Publish(publish))) => {
                    let ack = self.client.prepare_ack(&publish);
                    // At shutdown no new messages are acknowledged: the broker keeps them for the
                    // next start. It does not keep those of QoS 0.
                    if ack.is_none() || !shutdown.is_cancelled() {
                        self.accept_message(ack, message_from_publish(&publish));
                    }
                }
                Ok(Event::Incoming(Incoming::SubAck(_))) if leave_by.is_some() => {
                    self.gate.leave_broker();
                    leave_by = Some(Instant::now() + LEAVE_TIME_MAX);
                }
                Ok(Event::Incoming(Incoming::SubAck(ack))) => self.on_subscribed(&ack.return_codes),
                Ok(Event::Outgoing(Outgoing::PubAck(_) | Outgoing::PubRec(_))) => {
                    self.unwritten_acks = self.unwritten_acks.saturating_sub(1);
                }
                Ok(_) => {}
                Err(_) if self.gate.is_leaving() => {
                    self.on_disconnected();
                    return self.wait_until_all_durable().await;
                }
                Err(error) => {
                    let MqttSettings { host, port, .. } = self.mqtt;
                    warn!(host, port, %error, "no connection to the broker; will retry");
                    self.on_disconnected();
                    self.back_off(&shutdown).await;
                }
            }
            if self.gate.is_paused() && events.state.await_pingresp() {
                // The broker's answer may be among the unread bytes. Without it the library would
                // close a connection with QoS 0 messages in flight.
                let answer = events.state.handle_incoming_packet(Incoming::PingResp);
                answer.map_err(|error| bridge_error(error.to_string()))?;
            }
        }
    }

    /// Waits until all messages that were read are durable, whether or not they can still be
    /// acknowledged.
    async fn wait_until_all_durable(mut self) -> Result<(), GatewayError> {
        while !self.ring.is_empty() || !self.held.is_empty() {
            tokio::select! {
                biased;
                durable = wait_for_oldest_durable(&mut self.ring) => {
                    durable.map_err(|_| bridge_error("the log failed"))?;
                    self.ring.pop_front();
                }
                () = wait_for_held_room(&self.ingest_queue, &self.held) => self.submit_held(),
            }
        }
        Ok(())
    }

    /// Whether the broker has all acknowledgements that it can get.
    fn is_all_acknowledged(&self) -> bool {
        let is_open = |ack: &Option<ManualAck>| ack.is_some();
        self.unwritten_acks == 0
            && !self.ring.iter().any(|slot| is_open(&slot.ack))
            && !self.held.iter().any(|held| is_open(&held.ack))
    }

    fn on_connected(&mut self, session_present: bool) {
        let MqttSettings { host, port, client_id, .. } = self.mqtt;
        info!(host, port, client_id, session_present, "connected to the broker");
        if self.had_session && !session_present {
            self.ledger.count_lost_session();
            warn!(
                host,
                port, client_id, "the broker lost the session, and perhaps messages with it"
            );
        }
        (self.had_session, self.backoff) = (true, BACKOFF_MIN);
        for filter in self.dropped_filters.drain(..) {
            if let Err(error) = self.client.try_unsubscribe(&filter) {
                error!(filter, %error, "cannot unsubscribe");
            }
        }
        self.subscribe_filters();
        self.is_connected.store(true, Ordering::Relaxed);
        self.pause_reads_if_behind();
    }

    fn subscribe_filters(&self) {
        let filters = self.mqtt.filters.iter().map(|filter| SubscribeFilter {
            // A retained message is useful once, not at each connection.
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..SubscribeFilter::new(filter, QoS::AtLeastOnce)
        });
        if let Err(error) = self.client.try_subscribe_many(filters) {
            error!(%error, "cannot subscribe; check mqtt.filters");
        }
    }

    /// Logs which filters the broker refused.
    fn on_subscribed(&self, codes: &[SubscribeReasonCode]) {
        for (filter, code) in self.mqtt.filters.iter().zip(codes) {
            if !matches!(code, SubscribeReasonCode::Success(_)) {
                error!(
                    filter,
                    ?code,
                    "the broker refused a subscription; check its access rules and mqtt.filters"
                );
            }
        }
    }

    fn on_disconnected(&mut self) {
        // The messages in the ring still go to the log, but their acknowledgements belong to a
        // closed connection. The broker sends them again, except those of QoS 0, which therefore
        // stay in the ring.
        self.ring.retain(|slot| slot.ack.is_none());
        self.held.retain(|held| held.ack.is_none());
        self.unwritten_acks = 0;
        // The next connection's handshake must be read.
        self.gate.resume_reads();
        self.is_connected.store(false, Ordering::Relaxed);
    }

    /// Waits before the next attempt, longer each time, or until `shutdown`.
    async fn back_off(&mut self, shutdown: &CancellationToken) {
        // The caller continues in either case.
        let _ = tokio::time::timeout(self.backoff, shutdown.cancelled()).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn accept_message(&mut self, ack: Option<ManualAck>, message: InboundMessage) {
        self.held.push_back(HeldMessage { ack, message });
        self.submit_held();
        self.pause_reads_if_behind();
    }

    /// Submits the held messages for which there is room, in the order of arrival.
    fn submit_held(&mut self) {
        while let Some(HeldMessage { ack, message }) = self.held.front() {
            let Ok(durable) = self.ingest_queue.submit_message(message.clone()) else { break };
            self.ring.push_back(InFlightMessage { ack: ack.clone(), durable: Some(durable) });
            self.held.pop_front();
        }
    }

    fn pause_reads_if_behind(&self) {
        if !self.held.is_empty() || self.ring.len() >= self.waiting_max() {
            self.gate.pause_reads();
        }
    }

    fn resume_reads_if_caught_up(&self) {
        if self.held.is_empty() && self.ring.len() <= self.waiting_max() / 2 {
            self.gate.resume_reads();
        }
    }

    fn waiting_max(&self) -> usize {
        WAITING_RATIO * usize::from(self.mqtt.receive_maximum)
    }

    /// Acknowledges the oldest message, which is durable. Returns whether the client's queue had
    /// room; if not, it has room after the connection was polled.
    fn acknowledge_oldest(&mut self) -> bool {
        let Some(slot) = self.ring.front_mut() else { return true };
        slot.durable = None;
        if let Some(ack) = &slot.ack {
            if self.client.try_manual_ack(ack.clone()).is_err() {
                return false;
            }
            self.unwritten_acks += 1;
        }
        self.ring.pop_front();
        self.resume_reads_if_caught_up();
        true
    }
}

impl Drop for MqttBridge<'_> {
    /// Counts the messages of QoS 0 that are lost at the end of `limits.drain_s`.
    fn drop(&mut self) {
        let dropped: Vec<_> = self.held.iter().filter(|held| held.ack.is_none()).collect();
        if !dropped.is_empty() {
            warn!(
                messages = dropped.len(),
                "the log accepted no more messages: messages of QoS 0 are lost"
            );
        }
        for HeldMessage { message, .. } in dropped {
            self.ledger.count_dropped(message);
        }
    }
}

/// Waits until there is room for the oldest held message; for ever if there is none.
async fn wait_for_held_room(ingest_queue: &IngestQueue, held: &VecDeque<HeldMessage>) {
    match held.front() {
        Some(HeldMessage { message, .. }) => ingest_queue.wait_for_room(message).await,
        None => std::future::pending().await,
    }
}

/// Waits until a time; for ever if there is none.
async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits until the oldest message is durable; for ever if there is none.
async fn wait_for_oldest_durable(
    ring: &mut VecDeque<InFlightMessage>,
) -> Result<(), oneshot::error::RecvError> {
    match ring.front_mut() {
        Some(InFlightMessage { durable: Some(durable), .. }) => durable.await.map(|_| ()),
        Some(InFlightMessage { durable: None, .. }) => Ok(()),
        None => std::future::pending().await,
    }
}

/// Converts a PUBLISH that has just arrived.
pub(crate) fn message_from_publish(publish: &Publish) -> InboundMessage {
    InboundMessage {
        topic: SmolStr::from(String::from_utf8_lossy(&publish.topic)),
        payload: publish.payload.clone(),
        is_retained: publish.retain,
        is_redelivery: publish.dup,
        received_ms: now_ms(),
    }
}

pub(crate) fn bridge_error(what: impl Into<String>) -> GatewayError {
    GatewayError::Bridge { what: what.into() }
}

/// Forwards the downlink to the broker by a client of its own, because the queue of
/// acknowledgements must not wait behind messages that a broker accepts slowly.
pub(crate) async fn forward_downlink(
    mqtt: &MqttSettings,
    downlink: &Downlink,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let options = mqtt_options(mqtt, &format!("{}-downlink", mqtt.client_id))?;
    let (client, mut events) = AsyncClient::builder(options)
        .capacity(REQUESTS_SPARE)
        .try_build()
        .map_err(|e| bridge_error(e.to_string()))?;
    let (_subscription, mut outgoing) = downlink.add_full_subscriber();
    let send = async {
        while let Some(message) = outgoing.recv().await {
            let topic = message.topic.to_string();
            let options = PublishOptions::at_least_once().retain(message.retain);
            let sent = client.publish(topic, message.payload, options);
            if let Err(error) = sent.await {
                warn!(topic = %message.topic, %error, "cannot publish");
            }
        }
    };
    let poll = async {
        loop {
            // The other client logs problems with the connection.
            if events.poll().await.is_err() {
                tokio::time::sleep(BACKOFF_MAX).await;
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = poll => {}
        () = shutdown.cancelled() => {}
    }
    Ok(())
}

pub(crate) fn mqtt_options(
    mqtt: &MqttSettings,
    client_id: &str,
) -> Result<MqttOptions, GatewayError> {
    let mut options = MqttOptions::new(client_id, (mqtt.host.as_str(), mqtt.port));
    options
        .set_keep_alive(mqtt.keep_alive_s)
        .set_max_packet_size(Some(mqtt.packet_bytes_max))
        // The client allocates tables of this size. For the 65,535 that brokers allow they take
        // 20 MB per client.
        .set_outgoing_inflight_upper_limit(OUTGOING_MAX);
    if mqtt.tls.enabled {
        let config = TlsConfiguration::Rustls(tls::load_client_tls(&mqtt.tls)?);
        options.set_transport(Transport::tls_with_config(config));
    }
    if !mqtt.user.is_empty() {
        let password = mqtt.password.expose_secret().unwrap_or_default().to_owned();
        options.set_credentials(mqtt.user.clone(), password);
    }
    Ok(options)
}
