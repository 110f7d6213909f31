use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use telemetry::SmolStr;
use tokio_util::sync::CancellationToken;

/// Who is connected: a client that comes back takes its own place, and the
/// connection that it had before is closed (MQTT 5, 3.1.4-3; 3.1.1, 3.1.4-2).
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<HashMap<SmolStr, Seat>>);

#[derive(Clone, Debug, Default)]
struct Seat {
    number: u64,
    taken: CancellationToken,
}

/// A client's place; cancelled when another connection takes it.
#[derive(Debug)]
pub(super) struct Place {
    client: SmolStr,
    number: u64,
    pub(super) taken: CancellationToken,
}

impl Clients {
    /// Takes the client's place. One without a name has a place of its own.
    pub(super) fn enter(&self, client: &str) -> Place {
        let (client, taken) = (SmolStr::from(client), CancellationToken::new());
        if client.is_empty() {
            return Place { client, number: 0, taken };
        }
        let mut seats = self.seats();
        let before = seats.get(&client).cloned().unwrap_or_default();
        before.taken.cancel();
        let number = before.number + 1;
        seats.insert(client.clone(), Seat { number, taken: taken.clone() });
        Place { client, number, taken }
    }

    /// Gives a place back, unless another connection has it by now.
    pub(super) fn leave(&self, place: &Place) {
        let mut seats = self.seats();
        if seats.get(&place.client).is_some_and(|seat| seat.number == place.number) {
            seats.remove(&place.client);
        }
        // Who waits for a taker need not any more.
        place.taken.cancel();
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<SmolStr, Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_connection_has_the_place() {
        let clients = Clients::default();
        let first = clients.enter("probe");
        let (second, other) = (clients.enter("probe"), clients.enter("other"));
        assert!(first.taken.is_cancelled() && !second.taken.is_cancelled());
        // The first one's late goodbye does not free the second one's place.
        clients.leave(&first);
        let third = clients.enter("probe");
        assert!(second.taken.is_cancelled() && !third.taken.is_cancelled());
        assert!(!other.taken.is_cancelled());
        clients.leave(&third);
        clients.leave(&other);
        assert!(clients.seats().is_empty());
    }

    #[test]
    fn clients_without_a_name_do_not_displace_each_other() {
        let clients = Clients::default();
        let (first, second) = (clients.enter(""), clients.enter(""));
        assert!(!first.taken.is_cancelled() && !second.taken.is_cancelled());
    }
}
