//! MQTT packets byte by byte, as the sender writes and the tap reads them. OASIS MQTT 3.1.1 and
//! 5.0, with section numbers of both.

use bytes::{Buf, Bytes, BytesMut};

/// MQTT 3.1.1 or 5, by its protocol level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolLevel {
    V3 = 4,
    V5 = 5,
}

/// Packet types, 2.1.2 (2.2.1 in 3.1.1).
pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const SUBACK: u8 = 9;

/// A packet: type and flags, then the bytes after the length.
#[derive(Clone, Debug)]
pub(crate) struct RawPacket {
    pub(crate) first: u8,
    pub(crate) body: Bytes,
}

impl RawPacket {
    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// Returns the packet identifier of a PUBACK; `None` if it is incomplete.
    pub(crate) fn acknowledged_id(&self) -> Option<u16> {
        self.body.clone().try_get_u16().ok()
    }

    /// Parses a PUBLISH; `None` if it is incomplete.
    pub(crate) fn parse_publish(&self, version: ProtocolLevel) -> Option<PublishPacket> {
        let mut body = self.body.clone();
        let len = usize::from(body.try_get_u16().ok()?);
        let topic = (len <= body.len()).then(|| body.split_to(len))?;
        let id = if self.first & 0b110 == 0 { None } else { Some(body.try_get_u16().ok()?) };
        if version == ProtocolLevel::V5 {
            let len = read_length(&mut body)?;
            (len <= body.len()).then(|| body.advance(len))?;
        }
        let topic = String::from_utf8(topic.to_vec()).ok()?;
        Some(PublishPacket { topic, id, payload: body })
    }
}

/// The content of a PUBLISH. Without an identifier it is QoS 0.
#[derive(Clone, Debug)]
pub(crate) struct PublishPacket {
    pub(crate) topic: String,
    pub(crate) id: Option<u16>,
    pub(crate) payload: Bytes,
}

/// Splits a stream of bytes into packets.
#[derive(Debug, Default)]
pub(crate) struct PacketFramer(BytesMut);

impl PacketFramer {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Returns the next complete packet.
    pub(crate) fn next(&mut self) -> Option<RawPacket> {
        let mut rest = &self.0[..];
        let first = rest.try_get_u8().ok()?;
        let len = read_length(&mut rest)?;
        let header = self.0.len() - rest.len();
        if rest.len() < len {
            return None;
        }
        self.0.advance(header);
        Some(RawPacket { first, body: self.0.split_to(len).freeze() })
    }
}

/// Reads a variable byte integer, 1.5.5; `None` if it is incomplete.
fn read_length(from: &mut impl Buf) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = from.try_get_u8().ok()?;
        value |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Encodes CONNECT of a device that keeps no session.
pub(crate) fn encode_connect(version: ProtocolLevel, client_id: &str, keep_alive_s: u8) -> Vec<u8> {
    let clean = 0b10;
    let mut body = [encode_text(b"MQTT"), vec![version as u8, clean, 0, keep_alive_s]].concat();
    body.extend(no_properties(version));
    body.extend(encode_text(client_id.as_bytes()));
    encode_packet(0x10, &body)
}

/// Encodes PUBLISH with QoS 1.
pub(crate) fn encode_publish(
    version: ProtocolLevel,
    flags: u8,
    topic: &[u8],
    id: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut body = encode_text(topic);
    body.extend(id.to_be_bytes());
    body.extend(no_properties(version));
    body.extend(payload);
    encode_packet(0x32 | flags, &body)
}

/// Flags of a PUBLISH, 3.3.1.
pub(crate) const DUP: u8 = 0b1000;
pub(crate) const RETAIN: u8 = 0b0001;

/// Encodes PUBACK, for a subscriber that acknowledges at once.
#[allow(dead_code)] // the throughput example is one
pub(crate) fn encode_puback(id: u16) -> Vec<u8> {
    encode_packet(0x40, &id.to_be_bytes())
}

/// Encodes SUBSCRIBE to one filter with QoS 1.
#[allow(dead_code)] // the throughput example does
pub(crate) fn encode_subscribe(version: ProtocolLevel, filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(no_properties(version));
    body.extend(encode_text(filter.as_bytes()));
    body.push(1);
    encode_packet(0x82, &body)
}

fn no_properties(version: ProtocolLevel) -> &'static [u8] {
    if version == ProtocolLevel::V5 { &[0] } else { &[] }
}

fn encode_text(text: &[u8]) -> Vec<u8> {
    let len = u16::try_from(text.len()).expect("topics of tests are short");
    [&len.to_be_bytes()[..], text].concat()
}

fn encode_packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut len = body.len();
    loop {
        let (low, rest) = ((len & 0x7F) as u8, len >> 7);
        packet.push(if rest > 0 { low | 0x80 } else { low });
        len = rest;
        if len == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}
