//! A device on a plain socket: MQTT packets byte by byte, so that a test sees
//! exactly which acknowledgement comes when.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// MQTT 3.1.1 or 5, by its protocol level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V3 = 4,
    V5 = 5,
}

/// What CONNECT says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hello<'a> {
    /// The client identifier; none for one that no other connection has.
    pub(crate) client: Option<&'a str>,
    pub(crate) credentials: Option<(&'a str, &'a str)>,
    pub(crate) will: Option<(&'a str, &'a str)>,
    /// Its will is to be kept.
    pub(crate) retains_will: bool,
    /// It wants its session: 3.1.1 for ever, MQTT 5 for an hour.
    pub(crate) keeps_session: bool,
}

/// A packet of the server that a test waits for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// CONNACK with its code.
    Connected(u8),
    /// CONNACK that says that the session is still there.
    Resumed,
    /// SUBACK with its code.
    Subscribed(u8),
    /// PUBLISH with topic and payload.
    Message(String, String),
    /// PUBACK with its packet identifier and, in MQTT 5, its code.
    Acknowledged(u16, u8),
    /// Any other, by its type.
    Other(u8),
    /// The connection has ended.
    End,
}

static CLIENTS: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Device {
    stream: TcpStream,
    version: Version,
}

impl Device {
    /// Connects; returns what CONNACK says too.
    pub(crate) async fn open(
        address: SocketAddr,
        version: Version,
        hello: Hello<'_>,
    ) -> (Self, Packet) {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut device = Self { stream, version };
        let unique = || format!("device-{}", CLIENTS.fetch_add(1, Ordering::Relaxed));
        let client = hello.client.map_or_else(unique, str::to_owned);
        let (mut flags, mut fields) = (if hello.keeps_session { 0 } else { 0b10 }, text(&client));
        if let Some((topic, payload)) = hello.will {
            flags |= if hello.retains_will { 0b10_0100 } else { 0b100 };
            fields.extend(device.properties());
            fields.extend([text(topic), text(payload)].concat());
        }
        if let Some((user, password)) = hello.credentials {
            flags |= 0b1100_0000;
            fields.extend([text(user), text(password)].concat());
        }
        let mut body = [text("MQTT"), vec![version as u8, flags, 0, 60]].concat();
        if hello.keeps_session && version == Version::V5 {
            // Session Expiry Interval, 3.1.2.11.2.
            body.extend([5, 0x11, 0, 0, 0x0E, 0x10]);
        } else {
            body.extend(device.properties());
        }
        body.extend(fields);
        // The server may have closed the connection already.
        let _ = device.send(0x10, &body).await;
        let answer = device.next().await;
        (device, answer)
    }

    /// Subscribes to a filter with QoS 0; returns SUBACK's code.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = vec![0, 9];
        body.extend(self.properties());
        body.extend(text(filter));
        body.push(0);
        self.send(0x82, &body).await.unwrap();
        loop {
            match self.next().await {
                Packet::Subscribed(code) => return code,
                Packet::Message(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Subscribes to many filters at once; returns SUBACK's codes.
    pub(crate) async fn subscribe_all(&mut self, filters: &[&str]) -> Vec<u8> {
        let mut body = [&[0, 9], self.properties()].concat();
        for filter in filters {
            body.extend(text(filter));
            body.push(0);
        }
        self.send(0x82, &body).await.unwrap();
        assert_eq!(self.stream.read_u8().await.unwrap(), 0x90, "SUBACK");
        let mut answer = vec![0; self.read_length().await.unwrap()];
        self.stream.read_exact(&mut answer).await.unwrap();
        answer.split_off(2 + self.properties().len())
    }

    /// Sends QoS 0 messages and a goodbye in one go, and closes.
    pub(crate) async fn say_and_leave(mut self, topic: &str, payloads: &[String]) {
        let message = |payload: &String| {
            packet(0x30, &[&text(topic), self.properties(), payload.as_bytes()].concat())
        };
        let mut bytes = payloads.iter().flat_map(message).collect::<Vec<u8>>();
        bytes.extend([0xE0, 0]);
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.shutdown().await.unwrap();
    }

    /// Sends a QoS 0 message.
    pub(crate) async fn say(&mut self, topic: &str, payload: &str, retain: bool) -> io::Result<()> {
        let mut body = text(topic);
        body.extend(self.properties());
        body.extend(payload.as_bytes());
        self.send(0x30 | u8::from(retain), &body).await
    }

    /// Says goodbye; the session stays as CONNECT said.
    pub(crate) async fn goodbye(mut self) {
        self.send(0xE0, &[]).await.unwrap();
        assert_eq!(self.next().await, Packet::End);
    }

    /// A QoS 1 message as it would be sent.
    pub(crate) fn packet_of(&self, id: u16, topic: &str, payload: &str) -> Vec<u8> {
        packet(0x32, &self.publication(id, topic, payload))
    }

    /// Sends bytes as they are.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Connects as a device that is welcome.
    pub(crate) async fn connect(address: SocketAddr, version: Version) -> Self {
        let (device, answer) = Self::open(address, version, Hello::default()).await;
        assert_eq!(answer, Packet::Connected(0));
        device
    }

    /// Sends a QoS 1 message.
    pub(crate) async fn publish(&mut self, id: u16, topic: &str, payload: &str) -> io::Result<()> {
        self.publish_as(0x32, id, topic, payload).await
    }

    /// Sends a QoS 0 message: nobody answers.
    pub(crate) async fn send_unacknowledged(&mut self, topic: &str, payload: &str) {
        let body = [&text(topic), self.properties(), payload.as_bytes()].concat();
        self.send(0x30, &body).await.unwrap();
    }

    /// Sends a QoS 1 message that a broker is to keep.
    pub(crate) async fn retain(&mut self, id: u16, topic: &str, payload: &str) {
        self.publish_as(0x33, id, topic, payload).await.unwrap();
    }

    /// Sends a QoS 1 message once more, flagged as such.
    pub(crate) async fn publish_again(&mut self, id: u16, topic: &str, payload: &str) {
        self.publish_as(0x3A, id, topic, payload).await.unwrap();
        assert_eq!(self.next().await, Packet::Acknowledged(id, 0));
    }

    /// Sends a QoS 2 message and goes through its whole exchange.
    pub(crate) async fn deliver_exactly_once(&mut self, id: u16, topic: &str, payload: &str) {
        self.publish_as(0x34, id, topic, payload).await.unwrap();
        assert_eq!(self.next().await, Packet::Other(5), "PUBREC");
        self.send(0x62, &id.to_be_bytes()).await.unwrap();
        assert_eq!(self.next().await, Packet::Other(7), "PUBCOMP");
    }

    async fn publish_as(
        &mut self,
        first: u8,
        id: u16,
        topic: &str,
        payload: &str,
    ) -> io::Result<()> {
        let body = self.publication(id, topic, payload);
        self.send(first, &body).await
    }

    fn publication(&self, id: u16, topic: &str, payload: &str) -> Vec<u8> {
        let mut body = text(topic);
        body.extend(id.to_be_bytes());
        body.extend(self.properties());
        body.extend(payload.as_bytes());
        body
    }

    /// Sends QoS 1 messages, identifiers from 1, all but the first bytes of them
    /// only after `pause`.
    pub(crate) async fn publish_in_parts(
        &mut self,
        topic: &str,
        payloads: &[String],
        first_bytes: usize,
        pause: impl Future,
    ) {
        let messages = (1..).zip(payloads);
        let packets =
            messages.map(|(id, payload)| packet(0x32, &self.publication(id, topic, payload)));
        let bytes = packets.collect::<Vec<_>>().concat();
        self.stream.write_all(&bytes[..first_bytes]).await.unwrap();
        pause.await;
        self.stream.write_all(&bytes[first_bytes..]).await.unwrap();
    }

    /// Sends a message and waits for its acknowledgement.
    pub(crate) async fn deliver(&mut self, id: u16, topic: &str, payload: &str) {
        self.publish(id, topic, payload).await.unwrap();
        // 16: taken, though nobody has subscribed (MQTT 5, 3.4.2.1).
        let answer = self.next().await;
        let expect = [0, 16].map(|code| Packet::Acknowledged(id, code));
        assert!(expect.contains(&answer), "{topic} {payload}: {answer:?}");
    }

    /// Asks whether the server is there, and waits for the answer.
    pub(crate) async fn ping(&mut self) {
        self.send(0xC0, &[]).await.unwrap();
        assert_eq!(self.next().await, Packet::Other(13));
    }

    /// The next packet, whenever it comes.
    pub(crate) async fn next(&mut self) -> Packet {
        let Ok(first) = self.stream.read_u8().await else { return Packet::End };
        let Ok(len) = self.read_length().await else { return Packet::End };
        let mut body = vec![0; len];
        if self.stream.read_exact(&mut body).await.is_err() {
            return Packet::End;
        }
        match first >> 4 {
            2 if body[0] == 1 => Packet::Resumed,
            2 => Packet::Connected(body[1]),
            3 => {
                let len = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let (topic, rest) = body[2..].split_at(len);
                // QoS 0 only; MQTT 5 has properties here, of which the server sends none.
                let payload = if self.version == Version::V5 { &rest[1..] } else { rest };
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                Packet::Message(text(topic), text(payload))
            }
            9 => Packet::Subscribed(*body.last().unwrap()),
            4 => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                Packet::Acknowledged(id, body.get(2).copied().unwrap_or(0))
            }
            other => Packet::Other(other),
        }
    }

    /// The remaining length of a packet whose first byte was read.
    async fn read_length(&mut self) -> io::Result<usize> {
        let (mut len, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await?;
            len |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(len);
            }
        }
    }

    /// Whether nothing has come.
    pub(crate) fn is_silent(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// MQTT 5 has properties; here there are none.
    fn properties(&self) -> &'static [u8] {
        if self.version == Version::V5 { &[0] } else { &[] }
    }

    async fn send(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        self.stream.write_all(&packet(first, body)).await
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut len = body.len();
    loop {
        let (low, rest) = (u8::try_from(len & 0x7F).unwrap(), len >> 7);
        packet.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
        len = rest;
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap();
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}
