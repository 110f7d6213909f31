//! A device on a plain socket: MQTT packets byte by byte, so that a test sees exactly which
//! acknowledgement arrives when.

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
pub(crate) enum ProtocolVersion {
    V3 = 4,
    V5 = 5,
}

/// The content of CONNECT.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectPacket<'a> {
    /// The client identifier; `None` for a unique one.
    pub(crate) client: Option<&'a str>,
    pub(crate) credentials: Option<(&'a str, &'a str)>,
    pub(crate) will: Option<(&'a str, &'a str)>,
    /// Whether its will is to be retained.
    pub(crate) retains_will: bool,
    /// Whether it wants to keep its session: 3.1.1 for ever, MQTT 5 for an hour.
    pub(crate) keeps_session: bool,
}

/// A packet of the server that a test expects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerPacket {
    /// CONNACK with its code.
    Connected(u8),
    /// CONNACK which states that the session is still there.
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

pub(crate) struct WireDevice {
    stream: TcpStream,
    version: ProtocolVersion,
}

impl WireDevice {
    /// Connects. Returns the server's answer too.
    pub(crate) async fn open_connection(
        address: SocketAddr,
        version: ProtocolVersion,
        hello: ConnectPacket<'_>,
    ) -> (Self, ServerPacket) {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut device = Self { stream, version };
        let unique = || format!("device-{}", CLIENTS.fetch_add(1, Ordering::Relaxed));
        let client = hello.client.map_or_else(unique, str::to_owned);
        let (mut flags, mut fields) =
            (if hello.keeps_session { 0 } else { 0b10 }, encode_text(&client));
        if let Some((topic, payload)) = hello.will {
            flags |= if hello.retains_will { 0b10_0100 } else { 0b100 };
            fields.extend(device.empty_properties());
            fields.extend([encode_text(topic), encode_text(payload)].concat());
        }
        if let Some((user, password)) = hello.credentials {
            flags |= 0b1100_0000;
            fields.extend([encode_text(user), encode_text(password)].concat());
        }
        let mut body = [encode_text("MQTT"), vec![version as u8, flags, 0, 60]].concat();
        if hello.keeps_session && version == ProtocolVersion::V5 {
            // Session Expiry Interval, 3.1.2.11.2.
            body.extend([5, 0x11, 0, 0, 0x0E, 0x10]);
        } else {
            body.extend(device.empty_properties());
        }
        body.extend(fields);
        // The server may have closed the connection already.
        let _ = device.send_packet(0x10, &body).await;
        let answer = device.next_packet().await;
        (device, answer)
    }

    /// Subscribes to a filter with QoS 0. Returns SUBACK's code.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> u8 {
        let mut body = vec![0, 9];
        body.extend(self.empty_properties());
        body.extend(encode_text(filter));
        body.push(0);
        self.send_packet(0x82, &body).await.unwrap();
        loop {
            match self.next_packet().await {
                ServerPacket::Subscribed(code) => return code,
                ServerPacket::Message(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Subscribes to many filters at once. Returns SUBACK's codes.
    pub(crate) async fn subscribe_all(&mut self, filters: &[&str]) -> Vec<u8> {
        let mut body = [&[0, 9], self.empty_properties()].concat();
        for filter in filters {
            body.extend(encode_text(filter));
            body.push(0);
        }
        self.send_packet(0x82, &body).await.unwrap();
        assert_eq!(self.stream.read_u8().await.unwrap(), 0x90, "SUBACK");
        let mut answer = vec![0; self.read_length().await.unwrap()];
        self.stream.read_exact(&mut answer).await.unwrap();
        answer.split_off(2 + self.empty_properties().len())
    }

    /// Sends QoS 0 messages and a DISCONNECT in one write, and closes.
    pub(crate) async fn send_all_and_leave(mut self, topic: &str, payloads: &[String]) {
        let message = |payload: &String| {
            encode_packet(
                0x30,
                &[&encode_text(topic), self.empty_properties(), payload.as_bytes()].concat(),
            )
        };
        let mut bytes = payloads.iter().flat_map(message).collect::<Vec<u8>>();
        bytes.extend([0xE0, 0]);
        self.stream.write_all(&bytes).await.unwrap();
        self.stream.shutdown().await.unwrap();
    }

    /// Sends a QoS 0 message.
    pub(crate) async fn send_qos0(
        &mut self,
        topic: &str,
        payload: &str,
        retain: bool,
    ) -> io::Result<()> {
        let mut body = encode_text(topic);
        body.extend(self.empty_properties());
        body.extend(payload.as_bytes());
        self.send_packet(0x30 | u8::from(retain), &body).await
    }

    /// Disconnects in order; the session stays as CONNECT stated.
    pub(crate) async fn disconnect(mut self) {
        self.send_packet(0xE0, &[]).await.unwrap();
        assert_eq!(self.next_packet().await, ServerPacket::End);
    }

    /// Returns the bytes of a QoS 1 message.
    pub(crate) fn packet_of(&self, id: u16, topic: &str, payload: &str) -> Vec<u8> {
        encode_packet(0x32, &self.publish_packet(id, topic, payload))
    }

    /// Sends bytes unchanged.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Connects as a device that must be accepted.
    pub(crate) async fn connect(address: SocketAddr, version: ProtocolVersion) -> Self {
        let (device, answer) =
            Self::open_connection(address, version, ConnectPacket::default()).await;
        assert_eq!(answer, ServerPacket::Connected(0));
        device
    }

    /// Sends a QoS 1 message.
    pub(crate) async fn publish(&mut self, id: u16, topic: &str, payload: &str) -> io::Result<()> {
        self.publish_as(0x32, id, topic, payload).await
    }

    /// Sends a QoS 0 message, which is not answered.
    pub(crate) async fn send_unacknowledged(&mut self, topic: &str, payload: &str) {
        let body = [&encode_text(topic), self.empty_properties(), payload.as_bytes()].concat();
        self.send_packet(0x30, &body).await.unwrap();
    }

    /// Sends a QoS 1 message that a broker is to retain.
    pub(crate) async fn retain(&mut self, id: u16, topic: &str, payload: &str) {
        self.publish_as(0x33, id, topic, payload).await.unwrap();
    }

    /// Sends a QoS 1 message again, flagged as such.
    pub(crate) async fn publish_again(&mut self, id: u16, topic: &str, payload: &str) {
        self.publish_as(0x3A, id, topic, payload).await.unwrap();
        assert_eq!(self.next_packet().await, ServerPacket::Acknowledged(id, 0));
    }

    /// Sends a QoS 2 message and completes its exchange.
    pub(crate) async fn deliver_exactly_once(&mut self, id: u16, topic: &str, payload: &str) {
        self.publish_as(0x34, id, topic, payload).await.unwrap();
        assert_eq!(self.next_packet().await, ServerPacket::Other(5), "PUBREC");
        self.send_packet(0x62, &id.to_be_bytes()).await.unwrap();
        assert_eq!(self.next_packet().await, ServerPacket::Other(7), "PUBCOMP");
    }

    async fn publish_as(
        &mut self,
        first: u8,
        id: u16,
        topic: &str,
        payload: &str,
    ) -> io::Result<()> {
        let body = self.publish_packet(id, topic, payload);
        self.send_packet(first, &body).await
    }

    fn publish_packet(&self, id: u16, topic: &str, payload: &str) -> Vec<u8> {
        let mut body = encode_text(topic);
        body.extend(id.to_be_bytes());
        body.extend(self.empty_properties());
        body.extend(payload.as_bytes());
        body
    }

    /// Sends QoS 1 messages, with identifiers from 1. All but their first bytes are sent only
    /// after `pause`.
    pub(crate) async fn publish_in_parts(
        &mut self,
        topic: &str,
        payloads: &[String],
        first_bytes: usize,
        pause: impl Future,
    ) {
        let messages = (1..).zip(payloads);
        let packets = messages
            .map(|(id, payload)| encode_packet(0x32, &self.publish_packet(id, topic, payload)));
        let bytes = packets.collect::<Vec<_>>().concat();
        self.stream.write_all(&bytes[..first_bytes]).await.unwrap();
        pause.await;
        self.stream.write_all(&bytes[first_bytes..]).await.unwrap();
    }

    /// Sends a message and waits for its acknowledgement.
    pub(crate) async fn deliver_message(&mut self, id: u16, topic: &str, payload: &str) {
        self.publish(id, topic, payload).await.unwrap();
        // Code 16: accepted, though there are no subscribers (MQTT 5, 3.4.2.1).
        let answer = self.next_packet().await;
        let expect = [0, 16].map(|code| ServerPacket::Acknowledged(id, code));
        assert!(expect.contains(&answer), "{topic} {payload}: {answer:?}");
    }

    /// Sends a ping, and waits for the answer.
    pub(crate) async fn ping(&mut self) {
        self.send_packet(0xC0, &[]).await.unwrap();
        assert_eq!(self.next_packet().await, ServerPacket::Other(13));
    }

    /// Returns the next packet, whenever it arrives.
    pub(crate) async fn next_packet(&mut self) -> ServerPacket {
        let Ok(first) = self.stream.read_u8().await else { return ServerPacket::End };
        let Ok(len) = self.read_length().await else { return ServerPacket::End };
        let mut body = vec![0; len];
        if self.stream.read_exact(&mut body).await.is_err() {
            return ServerPacket::End;
        }
        match first >> 4 {
            2 if body[0] == 1 => ServerPacket::Resumed,
            2 => ServerPacket::Connected(body[1]),
            3 => {
                let len = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let (topic, rest) = body[2..].split_at(len);
                // QoS 0 only; MQTT 5 has properties here, which the server does not use.
                let payload = if self.version == ProtocolVersion::V5 { &rest[1..] } else { rest };
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                ServerPacket::Message(text(topic), text(payload))
            }
            9 => ServerPacket::Subscribed(*body.last().unwrap()),
            4 => {
                let id = u16::from_be_bytes([body[0], body[1]]);
                ServerPacket::Acknowledged(id, body.get(2).copied().unwrap_or(0))
            }
            other => ServerPacket::Other(other),
        }
    }

    /// Reads the remaining length of a packet whose first byte was read.
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

    /// Whether nothing has arrived.
    pub(crate) fn is_silent(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// MQTT 5 has properties, which are empty here.
    fn empty_properties(&self) -> &'static [u8] {
        if self.version == ProtocolVersion::V5 { &[0] } else { &[] }
    }

    async fn send_packet(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        self.stream.write_all(&encode_packet(first, body)).await
    }
}

fn encode_packet(first: u8, body: &[u8]) -> Vec<u8> {
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

fn encode_text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap();
    [&len.to_be_bytes()[..], text.as_bytes()].concat()
}
