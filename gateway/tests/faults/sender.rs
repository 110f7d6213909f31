//! Devices as firmware makes them. They number their messages and keep each until it is
//! acknowledged. They reconnect when the connection is lost or silent, and then send the
//! unacknowledged messages again, in order.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    TEST_TIMEOUT,
    fleet_traffic::{FleetTraffic, SERIAL},
    mqtt::{self, CONNACK, DUP, PUBACK, PacketFramer, ProtocolLevel, RawPacket},
};

/// Wait between attempts to connect.
const BACKOFF: Duration = Duration::from_millis(100);

/// The behaviour of the devices of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct FleetPlan {
    /// Number of devices, each with its own connection; half of them use MQTT 3.1.1.
    pub(crate) devices: u64,
    pub(crate) zones: u64,
    /// Largest number of unacknowledged messages of a device.
    pub(crate) window: usize,
    /// Time between two messages of a device.
    pub(crate) every: Duration,
    /// A device reconnects when its oldest message has waited for this long.
    pub(crate) patience: Duration,
    /// Number of messages of a device; without it, until the fleet ends.
    pub(crate) messages: Option<u64>,
    /// The payload of a device's n-th message.
    pub(crate) payload: fn(u64) -> String,
    /// Flags of each PUBLISH.
    pub(crate) flags: u8,
}

impl Default for FleetPlan {
    fn default() -> Self {
        Self {
            devices: 6,
            zones: 3,
            window: 16,
            every: Duration::from_millis(2),
            patience: Duration::from_secs(3),
            messages: None,
            payload: default_payload,
            flags: 0,
        }
    }
}

/// Returns the default payload of a device.
pub(crate) fn default_payload(serial: u64) -> String {
    format!(r#"{{"seq": {serial}, "boot": "b1", "temperature": 21.5, "{SERIAL}": {serial}}}"#)
}

#[derive(Debug)]
struct FleetState {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    is_over: watch::Sender<bool>,
}

/// Running devices.
#[derive(Debug)]
pub(crate) struct DeviceFleet {
    shared: Arc<FleetState>,
    devices: JoinSet<FleetTraffic>,
}

impl DeviceFleet {
    /// Starts devices of `site` that connect to `port`.
    pub(crate) fn start_fleet(port: u16, site: &str, plan: &FleetPlan) -> Self {
        let is_over = watch::Sender::new(false);
        let (sent, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(FleetState { sent, acknowledged, is_over });
        let mut devices = JoinSet::new();
        for n in 0..plan.devices {
            let name = format!("bay-{}/probe-{n}", n % plan.zones);
            let device = FleetDevice {
                port,
                version: if n % 2 == 0 { ProtocolLevel::V3 } else { ProtocolLevel::V5 },
                client_id: format!("{site}-probe-{n}"),
                topic: format!("sensors/{site}/{name}"),
                name,
                plan: plan.clone(),
                shared: shared.clone(),
                traffic: FleetTraffic::default(),
                open: VecDeque::new(),
                serial: 0,
                id: 0,
                due: Instant::now(),
            };
            devices.spawn(device.run_device());
        }
        Self { shared, devices }
    }

    pub(crate) fn acknowledged_count(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until this many more messages are acknowledged.
    pub(crate) async fn wait_for_more(&self, messages: u64) {
        let (wanted, began) = (self.acknowledged_count() + messages, Instant::now());
        while self.acknowledged_count() < wanted {
            let (have, sent) =
                (self.acknowledged_count(), self.shared.sent.load(Ordering::Relaxed));
            assert!(
                began.elapsed() < TEST_TIMEOUT,
                "{have} of {sent} acknowledged, waited for {wanted}"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends no new messages except those of a limited plan. Waits until all are acknowledged.
    pub(crate) async fn finish_fleet(mut self) -> FleetTraffic {
        self.shared.is_over.send_replace(true);
        let mut traffic = FleetTraffic::default();
        let all = async {
            while let Some(device) = self.devices.join_next().await {
                traffic.merge(device.expect("a device does not panic"));
            }
        };
        if timeout(TEST_TIMEOUT, all).await.is_err() {
            let sent = self.shared.sent.load(Ordering::Relaxed);
            panic!("{} of {sent} messages acknowledged, and then none", self.acknowledged_count());
        }
        traffic
    }
}

/// An unacknowledged message.
struct UnacknowledgedMessage {
    id: u16,
    serial: u64,
    payload: String,
    since: Instant,
}

struct FleetDevice {
    port: u16,
    version: ProtocolLevel,
    client_id: String,
    name: String,
    topic: String,
    plan: FleetPlan,
    shared: Arc<FleetState>,
    traffic: FleetTraffic,
    open: VecDeque<UnacknowledgedMessage>,
    /// The number of the next message.
    serial: u64,
    /// The identifier of the last packet. It continues across connections, so that a late
    /// acknowledgement for an earlier connection is recognised.
    id: u16,
    due: Instant,
}

impl FleetDevice {
    async fn run_device(mut self) -> FleetTraffic {
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await {
                // Whatever ended the connection, the next one makes up for it.
                let _ = stream.set_nodelay(true).and(self.run_connection(&mut stream).await);
            }
            if self.is_done() {
                return self.traffic;
            }
            self.traffic.reconnections += 1;
            sleep(BACKOFF).await;
        }
    }

    fn is_done(&self) -> bool {
        !self.has_more() && self.open.is_empty()
    }

    fn has_more(&self) -> bool {
        match self.plan.messages {
            Some(messages) => self.serial < messages,
            None => !*self.shared.is_over.borrow(),
        }
    }

    /// Runs one connection.
    async fn run_connection(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        let Self { version, client_id, .. } = self;
        stream.write_all(&mqtt::encode_connect(*version, client_id, 0)).await?;
        let mut framer = PacketFramer::default();
        let welcome = timeout(self.plan.patience, next_packet(stream, &mut framer)).await??;
        if welcome.kind() != CONNACK || welcome.body.get(1) != Some(&0) {
            return Err(std::io::Error::other("not welcome"));
        }
        self.resend_open(stream).await?;
        let mut is_over = self.shared.is_over.subscribe();
        loop {
            self.send_due(stream).await?;
            if self.is_done() {
                return stream.write_all(&[0xE0, 0]).await; // DISCONNECT
            }
            while let Some(packet) = framer.next() {
                self.receive_packet(&packet);
            }
            let silent_at = self.open.front().map(|open| open.since + self.plan.patience);
            if silent_at.is_some_and(|at| at < Instant::now()) {
                return Ok(());
            }
            let sends = self.open.len() < self.plan.window && self.has_more();
            let wake = silent_at.into_iter().chain(sends.then_some(self.due)).min();
            let wake = wake.unwrap_or_else(|| Instant::now() + self.plan.patience);
            let mut chunk = [0; 4096];
            tokio::select! {
                len = stream.read(&mut chunk) => match len? {
                    0 => return Ok(()),
                    len => framer.push(&chunk[..len]),
                },
                () = sleep_until(wake) => {}
                // The sender is in `self`.
                _ = is_over.changed() => {}
            }
            while let Some(packet) = framer.next() {
                self.receive_packet(&packet);
            }
        }
    }

    /// Sends the unacknowledged messages again, with new identifiers.
    async fn resend_open(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        for at in 0..self.open.len() {
            let id = self.next_id();
            let open = &mut self.open[at];
            (open.id, open.since) = (id, Instant::now());
            let (topic, payload) = (self.topic.as_bytes(), open.payload.as_bytes());
            let flags = self.plan.flags | DUP;
            stream
                .write_all(&mqtt::encode_publish(self.version, flags, topic, id, payload))
                .await?;
            self.traffic.repeats += 1;
        }
        Ok(())
    }

    async fn send_due(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        while self.open.len() < self.plan.window && self.due <= Instant::now() && self.has_more() {
            let (id, serial, since) = (self.next_id(), self.serial, Instant::now());
            let payload = (self.plan.payload)(serial);
            let (topic, bytes) = (self.topic.as_bytes(), payload.as_bytes());
            let packet = mqtt::encode_publish(self.version, self.plan.flags, topic, id, bytes);
            self.open.push_back(UnacknowledgedMessage { id, serial, payload, since });
            (self.serial, self.due) = (serial + 1, self.due.max(since) + self.plan.every);
            self.traffic.sent += 1;
            self.shared.sent.fetch_add(1, Ordering::Relaxed);
            stream.write_all(&packet).await?;
        }
        Ok(())
    }

    fn receive_packet(&mut self, packet: &RawPacket) {
        if packet.kind() != PUBACK {
            return;
        }
        let id = packet.acknowledged_id().unwrap_or_default();
        let code = packet.body.get(2).copied().unwrap_or_default();
        let at = self.open.iter().position(|open| open.id == id);
        let (name, oldest) = (&self.name, self.open.front().map(|open| open.id));
        match at {
            Some(_) if code >= 0x80 => {
                self.traffic.violations.push(format!("{name}: PUBACK {id} refuses, code {code}"));
            }
            Some(0) => {}
            Some(_) => {
                let what = format!("{name}: PUBACK {id} before that of {oldest:?}");
                self.traffic.violations.push(what);
            }
            None => {
                let what = format!("{name}: PUBACK {id}, which is not open on this connection");
                self.traffic.violations.push(what);
            }
        }
        if let Some(open) = at.and_then(|at| self.open.remove(at)) {
            self.traffic.acknowledged.entry(name.clone()).or_default().push(open.serial);
            self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn next_id(&mut self) -> u16 {
        self.id = self.id.checked_add(1).unwrap_or(1);
        self.id
    }
}

/// Returns the next packet of a connection.
pub(crate) async fn next_packet(
    stream: &mut TcpStream,
    framer: &mut PacketFramer,
) -> std::io::Result<RawPacket> {
    loop {
        if let Some(packet) = framer.next() {
            return Ok(packet);
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            len => framer.push(&chunk[..len]),
        }
    }
}

/// The answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeliveryAnswer {
    Acknowledged,
    Closed,
    /// No answer for some seconds.
    Nothing,
}

/// Sends one message over a connection of its own.
pub(crate) async fn deliver_message(
    port: u16,
    topic: &str,
    payload: &[u8],
) -> std::io::Result<DeliveryAnswer> {
    deliver_bytes(port, &mqtt::encode_publish(ProtocolLevel::V3, 0, topic.as_bytes(), 1, payload))
        .await
}

/// Sends any bytes over a connection of its own.
pub(crate) async fn deliver_bytes(port: u16, bytes: &[u8]) -> std::io::Result<DeliveryAnswer> {
    /// Longest wait for an answer that may never arrive.
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&mqtt::encode_connect(ProtocolLevel::V3, "single", 0)).await?;
    let mut framer = PacketFramer::default();
    next_packet(&mut stream, &mut framer).await?;
    // The connection may be closed before all is written.
    let _ = stream.write_all(bytes).await;
    match timeout(PATIENCE, next_packet(&mut stream, &mut framer)).await {
        Ok(Ok(packet)) if packet.kind() == PUBACK => Ok(DeliveryAnswer::Acknowledged),
        Ok(_) => Ok(DeliveryAnswer::Closed),
        Err(_) => Ok(DeliveryAnswer::Nothing),
    }
}
