//! Listens between the gateway and its broker: which messages the broker delivered, and whether
//! the gateway acknowledges them in order, on the connection on which they arrived.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    fleet_traffic::{MessageKey, key_of},
    mqtt::{CONNACK, PUBACK, PUBLISH, PacketFramer, ProtocolLevel, SUBACK},
};

/// The side that sent the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionSide {
    Client,
    Server,
}

/// The record of all connections of a proxy.
#[derive(Debug, Default)]
pub(crate) struct PacketTap(Mutex<TapRecord>);

#[derive(Clone, Debug, Default)]
pub(crate) struct TapRecord {
    /// The QoS 1 messages that the client acknowledged.
    pub(crate) acknowledged: Vec<MessageKey>,
    /// Violations of the protocol's rules.
    pub(crate) violations: Vec<String>,
    /// Number of subscriptions that the broker granted.
    pub(crate) subscriptions: usize,
    /// Number of CONNACKs that reported a session.
    pub(crate) resumed: usize,
    pub(crate) connections: usize,
}

impl PacketTap {
    /// Listens to a further connection.
    pub(crate) fn tap_connection(self: &Arc<Self>) -> TappedConnection {
        TappedConnection(Arc::new((self.clone(), Mutex::default())))
    }

    pub(crate) fn snapshot(&self) -> TapRecord {
        self.lock_record().clone()
    }

    fn lock_record(&self) -> MutexGuard<'_, TapRecord> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct TappedConnection(Arc<(Arc<PacketTap>, Mutex<TapState>)>);

#[derive(Debug, Default)]
struct TapState {
    client: PacketFramer,
    server: PacketFramer,
    /// The broker's unacknowledged messages, in order.
    open: VecDeque<(u16, Option<MessageKey>)>,
}

impl TappedConnection {
    pub(crate) fn record_bytes(&self, side: ConnectionSide, bytes: &[u8]) {
        let (tap, talk) = &*self.0;
        let mut talk = talk.lock().unwrap_or_else(PoisonError::into_inner);
        match side {
            ConnectionSide::Server => talk.record_server_bytes(bytes, &mut tap.lock_record()),
            ConnectionSide::Client => talk.record_client_bytes(bytes, &mut tap.lock_record()),
        }
    }
}

impl TapState {
    fn record_server_bytes(&mut self, bytes: &[u8], heard: &mut TapRecord) {
        self.server.push(bytes);
        while let Some(packet) = self.server.next() {
            match packet.kind() {
                CONNACK => {
                    heard.connections += 1;
                    heard.resumed += usize::from(packet.body.first() == Some(&1));
                }
                SUBACK => heard.subscriptions += 1,
                PUBLISH => {
                    let publish = packet.parse_publish(ProtocolLevel::V5);
                    if let Some((publish, id)) = publish.and_then(|p| p.id.map(|id| (p, id))) {
                        self.open.push_back((id, key_of(&publish.topic, &publish.payload)));
                    }
                }
                _ => {}
            }
        }
    }

    fn record_client_bytes(&mut self, bytes: &[u8], heard: &mut TapRecord) {
        self.client.push(bytes);
        while let Some(packet) = self.client.next() {
            let Some(id) = (packet.kind() == PUBACK).then(|| packet.acknowledged_id()).flatten()
            else {
                continue;
            };
            match self.open.front() {
                Some((oldest, _)) if *oldest == id => {
                    heard.acknowledged.extend(self.open.pop_front().and_then(|(_, key)| key));
                }
                Some((oldest, _)) if self.open.iter().any(|(open, _)| *open == id) => {
                    heard.violations.push(format!("PUBACK {id} before that of {oldest}"));
                    self.open.retain(|(open, _)| *open != id);
                }
                _ => heard.violations.push(format!("PUBACK {id}, which is not open here")),
            }
        }
    }
}
