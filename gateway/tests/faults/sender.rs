//! Devices as firmware makes them: they number their messages, keep each until
//! it is acknowledged, connect again when the line is gone or silent, and then
//! send again what was not acknowledged, in order.

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
    AGES,
    mqtt::{self, CONNACK, DUP, Framer, PUBACK, Packet, Version},
    traffic::{SERIAL, Traffic},
};

/// Between attempts to connect.
const BACKOFF: Duration = Duration::from_millis(100);

/// What the devices of a fleet do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Each with a connection of its own; half of them speak MQTT 3.1.1.
    pub(crate) devices: u64,
    pub(crate) zones: u64,
    /// Unacknowledged messages of a device.
    pub(crate) window: usize,
    /// Between two messages of a device.
    pub(crate) every: Duration,
    /// A device connects anew when its oldest message waits so long.
    pub(crate) patience: Duration,
    /// Messages of a device; without, until it is told to end.
    pub(crate) messages: Option<u64>,
    /// The payload of a device's n-th message.
    pub(crate) payload: fn(u64) -> String,
    /// Of each PUBLISH.
    pub(crate) flags: u8,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            devices: 6,
            zones: 3,
            window: 16,
            every: Duration::from_millis(2),
            patience: Duration::from_secs(3),
            messages: None,
            payload,
            flags: 0,
        }
    }
}

/// What a device says by default.
pub(crate) fn payload(serial: u64) -> String {
    format!(r#"{{"seq": {serial}, "boot": "b1", "temperature": 21.5, "{SERIAL}": {serial}}}"#)
}

#[derive(Debug)]
struct Shared {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    is_over: watch::Sender<bool>,
}

/// Devices at work.
#[derive(Debug)]
pub(crate) struct Fleet {
    shared: Arc<Shared>,
    devices: JoinSet<Traffic>,
}

impl Fleet {
    /// Devices of `site` that connect to `port`.
    pub(crate) fn start(port: u16, site: &str, plan: &Plan) -> Self {
        let is_over = watch::Sender::new(false);
        let (sent, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { sent, acknowledged, is_over });
        let mut devices = JoinSet::new();
        for n in 0..plan.devices {
            let name = format!("bay-{}/probe-{n}", n % plan.zones);
            let device = Device {
                port,
                version: if n % 2 == 0 { Version::V3 } else { Version::V5 },
                client_id: format!("{site}-probe-{n}"),
                topic: format!("sensors/{site}/{name}"),
                name,
                plan: plan.clone(),
                shared: shared.clone(),
                traffic: Traffic::default(),
                open: VecDeque::new(),
                serial: 0,
                id: 0,
                due: Instant::now(),
            };
            devices.spawn(device.run());
        }
        Self { shared, devices }
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more messages are acknowledged.
    pub(crate) async fn more(&self, messages: u64) {
        let (wanted, began) = (self.acknowledged() + messages, Instant::now());
        while self.acknowledged() < wanted {
            let (have, sent) = (self.acknowledged(), self.shared.sent.load(Ordering::Relaxed));
            assert!(began.elapsed() < AGES, "{have} of {sent} acknowledged, waited for {wanted}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// No new messages but those of a limited plan; waits until all are
    /// acknowledged.
    pub(crate) async fn finish(mut self) -> Traffic {
        self.shared.is_over.send_replace(true);
        let mut traffic = Traffic::default();
        let all = async {
            while let Some(device) = self.devices.join_next().await {
                traffic.absorb(device.expect("a device does not panic"));
            }
        };
        if timeout(AGES, all).await.is_err() {
            let sent = self.shared.sent.load(Ordering::Relaxed);
            panic!("{} of {sent} messages acknowledged, and then none", self.acknowledged());
        }
        traffic
    }
}

/// A message without acknowledgement.
struct Open {
    id: u16,
    serial: u64,
    payload: String,
    since: Instant,
}

struct Device {
    port: u16,
    version: Version,
    client_id: String,
    name: String,
    topic: String,
    plan: Plan,
    shared: Arc<Shared>,
    traffic: Traffic,
    open: VecDeque<Open>,
    /// Of the next message.
    serial: u64,
    /// Of the last packet. It goes on over connections, so that an
    /// acknowledgement of an earlier one is seen for what it is.
    id: u16,
    due: Instant,
}

impl Device {
    async fn run(mut self) -> Traffic {
        loop {
            if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await {
                // Whatever ended the connection, the next one makes up for it.
                let _ = stream.set_nodelay(true).and(self.talk(&mut stream).await);
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

    /// One connection.
    async fn talk(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        let Self { version, client_id, .. } = self;
        stream.write_all(&mqtt::connect(*version, client_id, 0)).await?;
        let mut framer = Framer::default();
        let welcome = timeout(self.plan.patience, next(stream, &mut framer)).await??;
        if welcome.kind() != CONNACK || welcome.body.get(1) != Some(&0) {
            return Err(std::io::Error::other("not welcome"));
        }
        self.repeat(stream).await?;
        let mut is_over = self.shared.is_over.subscribe();
        loop {
            self.send_due(stream).await?;
            if self.is_done() {
                return stream.write_all(&[0xE0, 0]).await; // DISCONNECT
            }
            while let Some(packet) = framer.next() {
                self.receive(&packet);
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
                // Its sender is in `self`.
                _ = is_over.changed() => {}
            }
            while let Some(packet) = framer.next() {
                self.receive(&packet);
            }
        }
    }

    /// Sends again what was not acknowledged, with new identifiers.
    async fn repeat(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        for at in 0..self.open.len() {
            let id = self.next_id();
            let open = &mut self.open[at];
            (open.id, open.since) = (id, Instant::now());
            let (topic, payload) = (self.topic.as_bytes(), open.payload.as_bytes());
            let flags = self.plan.flags | DUP;
            stream.write_all(&mqtt::publish(self.version, flags, topic, id, payload)).await?;
            self.traffic.repeats += 1;
        }
        Ok(())
    }

    async fn send_due(&mut self, stream: &mut TcpStream) -> std::io::Result<()> {
        while self.open.len() < self.plan.window && self.due <= Instant::now() && self.has_more() {
            let (id, serial, since) = (self.next_id(), self.serial, Instant::now());
            let payload = (self.plan.payload)(serial);
            let (topic, bytes) = (self.topic.as_bytes(), payload.as_bytes());
            let packet = mqtt::publish(self.version, self.plan.flags, topic, id, bytes);
            self.open.push_back(Open { id, serial, payload, since });
            (self.serial, self.due) = (serial + 1, self.due.max(since) + self.plan.every);
            self.traffic.sent += 1;
            self.shared.sent.fetch_add(1, Ordering::Relaxed);
            stream.write_all(&packet).await?;
        }
        Ok(())
    }

    fn receive(&mut self, packet: &Packet) {
        if packet.kind() != PUBACK {
            return;
        }
        let id = packet.acknowledged().unwrap_or_default();
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

/// The next packet of a connection.
pub(crate) async fn next(stream: &mut TcpStream, framer: &mut Framer) -> std::io::Result<Packet> {
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

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Acknowledged,
    Closed,
    /// Nothing for some seconds.
    Nothing,
}

/// Sends one message over a connection of its own.
pub(crate) async fn deliver(port: u16, topic: &str, payload: &[u8]) -> std::io::Result<Answer> {
    deliver_bytes(port, &mqtt::publish(Version::V3, 0, topic.as_bytes(), 1, payload)).await
}

/// Sends bytes, whatever they are, over a connection of its own.
pub(crate) async fn deliver_bytes(port: u16, bytes: &[u8]) -> std::io::Result<Answer> {
    /// For an answer that may never come.
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&mqtt::connect(Version::V3, "single", 0)).await?;
    let mut framer = Framer::default();
    next(&mut stream, &mut framer).await?;
    // It may be closed before all is written.
    let _ = stream.write_all(bytes).await;
    match timeout(PATIENCE, next(&mut stream, &mut framer)).await {
        Ok(Ok(packet)) if packet.kind() == PUBACK => Ok(Answer::Acknowledged),
        Ok(_) => Ok(Answer::Closed),
        Err(_) => Ok(Answer::Nothing),
    }
}
