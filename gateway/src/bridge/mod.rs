//! The client of an external broker: MQTT 5, a session that outlives the
//! connection, acknowledgements by hand.
//!
//! **Invariant:** a message is acknowledged in the order of arrival, and only
//! on the connection that it came on. One task polls and acknowledges, so the
//! connection cannot change between the check and the acknowledgement; what
//! was queued when a connection ends is dropped by the client library.

mod gate;
mod session;

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
    AckMode, AsyncClient, ConnectionError, Event, EventLoop, Incoming, ManualAck, MqttOptions,
    Outgoing, Publish, PublishOptions, QoS, RetainForwardRule, SubscribeFilter, TlsConfiguration,
    Transport, mqttbytes::v5::SubscribeReasonCode,
};
use telemetry::SmolStr;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use gate::Gate;
use session::NothingUnderWay;

use crate::{
    GatewayError,
    downlink::Downlink,
    inlet::{Done, Full, Inlet},
    ledger::Ledger,
    message::{Message, now_ms},
    settings::Mqtt,
    tls,
};

/// Waits between attempts to connect, each twice the one before.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Own messages that the broker has not acknowledged.
const OUTGOING_MAX: u16 = 64;
/// Beside acknowledgements, the client queues a few requests of its own.
pub(crate) const REQUESTS_SPARE: usize = 16;
/// Messages that wait for the log, as a multiple of Receive Maximum. Over it the
/// broker is held back; and what needs no acknowledgement (QoS 0) is lost, as it
/// may be.
const WAITING_RATIO: usize = 4;

/// A message on its way to the log; without `ack` it is QoS 0.
struct Slot {
    ack: Option<ManualAck>,
    /// None once it is durable.
    durable: Option<oneshot::Receiver<Done>>,
}

pub(crate) struct Bridge<'a> {
    mqtt: &'a Mqtt,
    inlet: Inlet,
    ledger: Arc<Ledger>,
    is_connected: Arc<AtomicBool>,
    client: AsyncClient,
    /// Messages of this connection in the order of arrival. Receive Maximum
    /// bounds it where the broker keeps to it; where not, `gate` does, and at
    /// last `limits.in_flight_bytes_max`.
    ring: VecDeque<Slot>,
    gate: Gate,
    /// Filters of settings before, which the session still has.
    dropped_filters: Vec<String>,
    /// Whether this process had a session before.
    had_session: bool,
    backoff: Duration,
}

impl<'a> Bridge<'a> {
    pub(crate) fn new(
        mqtt: &'a Mqtt,
        inlet: Inlet,
        ledger: Arc<Ledger>,
        is_connected: Arc<AtomicBool>,
        dropped_filters: Vec<String>,
    ) -> Result<(Self, EventLoop), GatewayError> {
        let mut options = options(mqtt, &mqtt.client_id)?;
        options
            .set_ack_mode(AckMode::Manual)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(mqtt.session_expiry_s.max(1)))
            .set_receive_maximum(Some(mqtt.receive_maximum));
        let session = NothingUnderWay {
            session_expiry_s: mqtt.session_expiry_s.max(1),
            outgoing_inflight_max: options.get_outgoing_inflight_upper_limit(),
        };
        options.set_session_store(session);
        let gate = Gate::default();
        let guard = gate.clone();
        options.set_socket_connector(move |host, network| {
            let guard = guard.clone();
            async move { Ok(guard.guard(rumqttc::default_socket_connect(host, network).await?)) }
        });
        let capacity = usize::from(mqtt.receive_maximum) + REQUESTS_SPARE;
        let (client, events) = AsyncClient::builder(options)
            .capacity(capacity)
            .try_build()
            .map_err(|e| ended(e.to_string()))?;
        let (ring, had_session, backoff) = (VecDeque::new(), false, BACKOFF_MIN);
        let bridge = Self {
            mqtt,
            inlet,
            ledger,
            is_connected,
            client,
            ring,
            gate,
            dropped_filters,
            had_session,
            backoff,
        };
        Ok((bridge, events))
    }

    /// Runs until `shutdown`, then acknowledges what is in the log and leaves,
    /// keeping the session.
    pub(crate) async fn run(
        mut self,
        mut events: EventLoop,
        shutdown: CancellationToken,
    ) -> Result<(), GatewayError> {
        loop {
            let event = {
                // One poll at a time, never dropped half-way.
                let mut poll = pin!(events.poll());
                let mut has_room = true;
                loop {
                    if shutdown.is_cancelled() && self.ring.is_empty() {
                        if !self.is_connected.load(Ordering::Relaxed) {
                            return Ok(());
                        }
                        // Refused only when a connection's queue is full, and
                        // then the session ends by silence.
                        let _ = self.client.try_disconnect();
                    }
                    tokio::select! {
                        biased;
                        durable = head(&mut self.ring), if has_room => {
                            durable.map_err(|_| ended("the log failed"))?;
                            has_room = self.acknowledge();
                        }
                        event = &mut poll => break event,
                        () = shutdown.cancelled(), if !shutdown.is_cancelled() => {}
                    }
                }
            };
            match event {
                Ok(Event::Incoming(Incoming::ConnAck(ack))) => self.connected(ack.session_present),
                Ok(Event::Incoming(Incoming::Publish(publish))) if !shutdown.is_cancelled() => {
                    if let Err(error) = self.take(&publish) {
                        // Unacknowledged, so the broker keeps it and sends it
                        // again on the next connection.
                        error!(%error, "not taking messages; leaving the broker for a while");
                        events.clean();
                        self.disconnected();
                        self.back_off(&shutdown).await;
                    }
                }
                Ok(Event::Incoming(Incoming::SubAck(ack))) => self.subscribed(&ack.return_codes),
                Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(ConnectionError::RequestsDone) => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => {
                    let Mqtt { host, port, .. } = self.mqtt;
                    warn!(host, port, %error, "no connection to the broker; trying again");
                    self.disconnected();
                    self.back_off(&shutdown).await;
                }
            }
        }
    }

    fn connected(&mut self, session_present: bool) {
        let Mqtt { host, port, client_id, filters, .. } = self.mqtt;
        info!(host, port, client_id, session_present, "connected to the broker");
        if self.had_session && !session_present {
            self.ledger.lost_session();
            warn!(
                host,
                port, client_id, "the broker lost the session, and with it perhaps messages"
            );
        }
        (self.had_session, self.backoff) = (true, BACKOFF_MIN);
        for filter in self.dropped_filters.drain(..) {
            if let Err(error) = self.client.try_unsubscribe(&filter) {
                error!(filter, %error, "cannot unsubscribe");
            }
        }
        let filters = filters.iter().map(|filter| SubscribeFilter {
            // A stored last value is worth having once, not at each connection.
            retain_forward_rule: RetainForwardRule::OnNewSubscribe,
            ..SubscribeFilter::new(filter, QoS::AtLeastOnce)
        });
        if let Err(error) = self.client.try_subscribe_many(filters) {
            error!(%error, "cannot subscribe; check mqtt.filters");
        }
        self.is_connected.store(true, Ordering::Relaxed);
    }

    /// Says which filters the broker refused.
    fn subscribed(&self, codes: &[SubscribeReasonCode]) {
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

    fn disconnected(&mut self) {
        // What is in the ring goes on to the log, but its acknowledgements
        // belong to a connection that is gone. The broker sends it again.
        self.ring.clear();
        self.gate.open();
        self.is_connected.store(false, Ordering::Relaxed);
    }

    /// Waits before the next attempt, longer each time, or until `shutdown`.
    async fn back_off(&mut self, shutdown: &CancellationToken) {
        // Either way the caller goes on.
        let _ = tokio::time::timeout(self.backoff, shutdown.cancelled()).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    fn take(&mut self, publish: &Publish) -> Result<(), Full> {
        let ack = self.client.prepare_ack(publish);
        if ack.is_none() && self.ring.len() >= self.waiting_max() {
            warn!(topic = %String::from_utf8_lossy(&publish.topic), "log too slow: QoS 0 message lost");
            return Ok(());
        }
        let is_held = ack.is_some() && self.ring.len() >= self.waiting_max();
        self.ring.push_back(Slot { ack, durable: Some(self.inlet.submit(message(publish))?) });
        if is_held {
            self.gate.shut();
        }
        Ok(())
    }

    fn waiting_max(&self) -> usize {
        WAITING_RATIO * usize::from(self.mqtt.receive_maximum)
    }

    /// Acknowledges the oldest message, which is durable. Returns whether the
    /// client's queue had room; if not, it has once the connection was polled.
    fn acknowledge(&mut self) -> bool {
        let Some(slot) = self.ring.front_mut() else { return true };
        slot.durable = None;
        if let Some(ack) = &slot.ack
            && self.client.try_manual_ack(ack.clone()).is_err()
        {
            return false;
        }
        self.ring.pop_front();
        if self.ring.len() <= self.waiting_max() / 2 {
            self.gate.open();
        }
        true
    }
}

/// When the oldest message is durable; never, if there is none.
async fn head(ring: &mut VecDeque<Slot>) -> Result<(), oneshot::error::RecvError> {
    match ring.front_mut() {
        Some(Slot { durable: Some(durable), .. }) => durable.await.map(|_| ()),
        Some(Slot { durable: None, .. }) => Ok(()),
        None => std::future::pending().await,
    }
}

/// A PUBLISH that has just come.
pub(crate) fn message(publish: &Publish) -> Message {
    Message {
        topic: SmolStr::from(String::from_utf8_lossy(&publish.topic)),
        payload: publish.payload.clone(),
        is_retained: publish.retain,
        is_redelivery: publish.dup,
        received_ms: now_ms(),
    }
}

pub(crate) fn ended(what: impl Into<String>) -> GatewayError {
    GatewayError::Bridge { what: what.into() }
}

/// Passes on what the process publishes, by a client of its own: the queue of
/// acknowledgements must not wait behind messages that a broker is slow to
/// take.
pub(crate) async fn publish(
    mqtt: &Mqtt,
    downlink: &Downlink,
    shutdown: CancellationToken,
) -> Result<(), GatewayError> {
    let options = options(mqtt, &format!("{}-downlink", mqtt.client_id))?;
    let (client, mut events) = AsyncClient::builder(options)
        .capacity(REQUESTS_SPARE)
        .try_build()
        .map_err(|e| ended(e.to_string()))?;
    let (_subscription, mut outgoing) = downlink.join_all();
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
            // The other client says what is wrong with the connection.
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

pub(crate) fn options(mqtt: &Mqtt, client_id: &str) -> Result<MqttOptions, GatewayError> {
    let mut options = MqttOptions::new(client_id, (mqtt.host.as_str(), mqtt.port));
    options
        .set_keep_alive(mqtt.keep_alive_s)
        .set_max_packet_size(Some(mqtt.packet_bytes_max))
        // The client keeps tables of this size; for the 65,535 that brokers
        // allow they take 20 MB a client.
        .set_outgoing_inflight_upper_limit(OUTGOING_MAX);
    if mqtt.tls.enabled {
        let config = TlsConfiguration::Rustls(tls::client(&mqtt.tls)?);
        options.set_transport(Transport::tls_with_config(config));
    }
    if !mqtt.user.is_empty() {
        let password = mqtt.password.reveal().unwrap_or_default().to_owned();
        options.set_credentials(mqtt.user.clone(), password);
    }
    Ok(options)
}
