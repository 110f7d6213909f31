use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use telemetry::SmolStr;
use tokio_util::sync::CancellationToken;

/// A user's name, and the client identifier of one of its connections. Two users may use the same
/// identifier: neither can disconnect the other or take its session.
pub(super) type ClientKey = (SmolStr, SmolStr);

/// The connected clients. A client that comes back takes over its slot, and its previous
/// connection is closed (MQTT 5, 3.1.4-3; 3.1.1, 3.1.4-2).
#[derive(Debug, Default)]
pub(super) struct ConnectedClients(Mutex<HashMap<ClientKey, ClientSlot>>);

#[derive(Clone, Debug, Default)]
struct ClientSlot {
    number: u64,
    taken_over: CancellationToken,
}

/// A client's hold on its slot. It is cancelled when another connection takes the slot.
#[derive(Debug)]
pub(super) struct ClientGuard {
    key: ClientKey,
    number: u64,
    pub(super) taken_over: CancellationToken,
}

impl ConnectedClients {
    /// Takes the client's slot. A client without a name gets a slot of its own.
    pub(super) fn take_slot(&self, user: &str, client: &str) -> ClientGuard {
        let (key, taken_over) = ((user.into(), client.into()), CancellationToken::new());
        if client.is_empty() {
            return ClientGuard { key, number: 0, taken_over };
        }
        let mut slots = self.lock_slots();
        let before = slots.get(&key).cloned().unwrap_or_default();
        before.taken_over.cancel();
        let number = before.number + 1;
        slots.insert(key.clone(), ClientSlot { number, taken_over: taken_over.clone() });
        ClientGuard { key, number, taken_over }
    }

    /// Releases a slot, unless another connection has it by now.
    pub(super) fn release_slot(&self, guard: &ClientGuard) {
        let mut slots = self.lock_slots();
        if slots.get(&guard.key).is_some_and(|slot| slot.number == guard.number) {
            slots.remove(&guard.key);
        }
        // Nobody needs to wait for a takeover any more.
        guard.taken_over.cancel();
    }

    fn lock_slots(&self) -> MutexGuard<'_, HashMap<ClientKey, ClientSlot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_connection_has_the_slot() {
        let clients = ConnectedClients::default();
        let first = clients.take_slot("", "probe");
        let (second, other) = (clients.take_slot("", "probe"), clients.take_slot("", "other"));
        assert!(first.taken_over.is_cancelled() && !second.taken_over.is_cancelled());
        // The late end of the first connection does not free the second one's slot.
        clients.release_slot(&first);
        let third = clients.take_slot("", "probe");
        assert!(second.taken_over.is_cancelled() && !third.taken_over.is_cancelled());
        assert!(!other.taken_over.is_cancelled());
        clients.release_slot(&third);
        clients.release_slot(&other);
        assert!(clients.lock_slots().is_empty());
    }

    #[test]
    fn clients_without_a_name_and_of_other_users_do_not_displace_each_other() {
        let clients = ConnectedClients::default();
        for (one, other) in [(("", ""), ("", "")), (("bay-1", "probe"), ("bay-2", "probe"))] {
            let first = clients.take_slot(one.0, one.1);
            let second = clients.take_slot(other.0, other.1);
            assert!(!first.taken_over.is_cancelled() && !second.taken_over.is_cancelled());
        }
    }
}
