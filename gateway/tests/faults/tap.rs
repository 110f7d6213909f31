//! Listens in between the gateway and its broker: which messages the broker
//! handed over, and whether the gateway acknowledges them in order, on the
//! connection that they came on.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    mqtt::{CONNACK, Framer, PUBACK, PUBLISH, SUBACK, Version},
    traffic::{Key, key_of},
};

/// Who sent the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What was heard on all connections of a proxy.
#[derive(Debug, Default)]
pub(crate) struct Tap(Mutex<Heard>);

#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Messages of QoS 1 that the client acknowledged.
    pub(crate) acknowledged: Vec<Key>,
    /// What must not be.
    pub(crate) violations: Vec<String>,
    /// Subscriptions that the broker granted.
    pub(crate) subscriptions: usize,
    /// CONNACKs that said there was a session.
    pub(crate) resumed: usize,
    pub(crate) connections: usize,
}

impl Tap {
    /// Listens to one more connection.
    pub(crate) fn wire(self: &Arc<Self>) -> Wire {
        Wire(Arc::new((self.clone(), Mutex::default())))
    }

    pub(crate) fn heard(&self) -> Heard {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<(Arc<Tap>, Mutex<Talk>)>);

#[derive(Debug, Default)]
struct Talk {
    client: Framer,
    server: Framer,
    /// Messages of the broker without acknowledgement, in order.
    open: VecDeque<(u16, Option<Key>)>,
}

impl Wire {
    pub(crate) fn passes(&self, side: Side, bytes: &[u8]) {
        let (tap, talk) = &*self.0;
        let mut talk = talk.lock().unwrap_or_else(PoisonError::into_inner);
        match side {
            Side::Server => talk.server_says(bytes, &mut tap.lock()),
            Side::Client => talk.client_says(bytes, &mut tap.lock()),
        }
    }
}

impl Talk {
    fn server_says(&mut self, bytes: &[u8], heard: &mut Heard) {
        self.server.push(bytes);
        while let Some(packet) = self.server.next() {
            match packet.kind() {
                CONNACK => {
                    heard.connections += 1;
                    heard.resumed += usize::from(packet.body.first() == Some(&1));
                }
                SUBACK => heard.subscriptions += 1,
                PUBLISH => {
                    let publish = packet.publish(Version::V5);
                    if let Some((publish, id)) = publish.and_then(|p| p.id.map(|id| (p, id))) {
                        self.open.push_back((id, key_of(&publish.topic, &publish.payload)));
                    }
                }
                _ => {}
            }
        }
    }

    fn client_says(&mut self, bytes: &[u8], heard: &mut Heard) {
        self.client.push(bytes);
        while let Some(packet) = self.client.next() {
            let Some(id) = (packet.kind() == PUBACK).then(|| packet.acknowledged()).flatten()
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
