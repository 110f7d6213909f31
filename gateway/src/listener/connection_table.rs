//! Connections from `accept` to their end: their number, addresses, progress, and the bytes that
//! each holds.
//!
//! A connection is *half-open* until its CONNECT has arrived. Half-open connections are cut after
//! some seconds. If there are too many, in all or from one address, the oldest make room: an
//! honest client is half-open for only one round trip.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::pending,
    net::IpAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use ntex::{io::IoRef, util::BytesMut};
use service::attempts::address_block;
use tokio_util::sync::CancellationToken;

use super::listener_counts::{CutReason, ListenerCounts};

/// Largest number of half-open connections of one address. Beyond it the oldest is cut.
const HALF_OPEN_OF_ONE_MAX: usize = 128;
/// Smallest age at which a half-open connection makes room for another.
const HALF_OPEN_TIME_MIN: Duration = Duration::from_secs(1);
/// Number of connections beyond the limit that get a refusal.
const REFUSALS_MAX: usize = 32;
/// Interval at which connections with incomplete packets are checked.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Number of bytes that an incomplete packet must gain in that interval.
const SWEEP_BYTES_MIN: u64 = 512;

/// All connections of one listener, on its only thread.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    /// Largest number of simultaneous connections.
    all_max: usize,
    /// Number of bytes that all connections together may hold.
    held_bytes_max: usize,
    counts: Arc<ListenerCounts>,
    state: RefCell<ConnectionTableState>,
}

#[derive(Debug, Default)]
struct ConnectionTableState {
    /// The connections by number, so the oldest first.
    connections: BTreeMap<u64, Rc<ListenerConnection>>,
    next: u64,
    refusals: usize,
    held_bytes: usize,
}

/// One connection.
#[derive(Debug)]
pub(super) struct ListenerConnection {
    number: u64,
    pub(super) address: IpAddr,
    /// Whether there is no slot for it, so that it only gets a refusal.
    pub(super) is_refused: bool,
    since: Instant,
    is_half_open: Cell<bool>,
    /// Cancelled when this side has decided to close it.
    pub(super) cut: CancellationToken,
    cut_reason: Cell<Option<CutReason>>,
    /// Received bytes that are not part of a complete packet.
    unfinished_bytes: Cell<usize>,
    /// Bytes of names, wills and the like, which last as long as the connection.
    lasting_bytes: Cell<usize>,
    /// Number of received bytes and packets.
    received: Cell<(u64, u64)>,
    /// The same numbers at the previous sweep, if a packet was incomplete then.
    stalling_since: Cell<Option<(u64, u64)>>,
    /// The connection's buffers, once bytes have arrived. Removed at the end, because it refers
    /// back to this value.
    io: RefCell<Option<IoRef>>,
    /// Number of unanswered messages. Meanwhile the connection may not be read.
    pub(super) unanswered: Cell<usize>,
}

/// A connection in the table. Dropping it removes the connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard {
    table: Rc<ConnectionTable>,
    pub(super) connection: Rc<ListenerConnection>,
}

impl ConnectionTable {
    pub(super) fn new(
        all_max: usize,
        held_bytes_max: usize,
        counts: Arc<ListenerCounts>,
    ) -> Rc<Self> {
        Rc::new(Self { all_max, held_bytes_max, counts, state: RefCell::default() })
    }

    /// Admits a new connection, perhaps in place of a half-open one; `None` if it is to be closed
    /// at once.
    pub(super) fn admit_connection(
        self: &Rc<Self>,
        address: IpAddr,
        now: Instant,
    ) -> Option<ConnectionGuard> {
        let address = address_block(address);
        let mut state = self.state.borrow_mut();
        // A burst of honest clients is half-open too, but not for long.
        let gives_way = |connection: &&Rc<ListenerConnection>| {
            connection.is_half_open.get()
                && !connection.cut.is_cancelled()
                && now.saturating_duration_since(connection.since) >= HALF_OPEN_TIME_MIN
        };
        let is_of_address = |connection: &&Rc<ListenerConnection>| {
            connection.is_half_open.get() && connection.address == address
        };
        let half_open = || state.connections.values().filter(is_of_address);
        if half_open().count() >= HALF_OPEN_OF_ONE_MAX
            && let Some(oldest) = half_open().find(gives_way)
        {
            self.cut_connection(oldest, CutReason::HalfOpen);
        }
        // Connections that are already cut no longer count.
        let is_there = |connection: &&Rc<ListenerConnection>| {
            !connection.is_refused && !connection.cut.is_cancelled()
        };
        let mut is_refused = state.connections.values().filter(is_there).count() >= self.all_max;
        if is_refused {
            let oldest = state.connections.values().filter(is_there).find(gives_way);
            if let Some(oldest) = oldest {
                self.cut_connection(oldest, CutReason::HalfOpen);
                is_refused = false;
            }
        }
        if is_refused {
            if state.refusals >= REFUSALS_MAX {
                self.counts.count_cut(CutReason::TooManyToTell);
                return None;
            }
            state.refusals += 1;
        }
        let number = state.next;
        state.next += 1;
        let connection = Rc::new(ListenerConnection {
            number,
            address,
            is_refused,
            since: now,
            is_half_open: Cell::new(true),
            cut: CancellationToken::new(),
            cut_reason: Cell::new(None),
            unfinished_bytes: Cell::new(0),
            lasting_bytes: Cell::new(0),
            received: Cell::new((0, 0)),
            stalling_since: Cell::new(None),
            io: RefCell::default(),
            unanswered: Cell::new(0),
        });
        state.connections.insert(number, connection.clone());
        Some(ConnectionGuard { table: self.clone(), connection })
    }

    /// Whether there are no connections.
    pub(super) fn is_empty(&self) -> bool {
        self.state.borrow().connections.is_empty()
    }

    /// Whether any connection has an unanswered message.
    pub(super) fn has_unanswered(&self) -> bool {
        let state = self.state.borrow();
        state.connections.values().any(|connection| connection.unanswered.get() > 0)
    }

    /// Cuts connections that began a packet and do not continue it. A connection with unanswered
    /// messages may be waiting for the answers and is not cut.
    pub(super) fn cut_stalled(&self) {
        let all: Vec<_> = self.state.borrow().connections.values().cloned().collect();
        for connection in &all {
            self.set_held_bytes(
                connection,
                &connection.unfinished_bytes,
                connection.measure_unfinished(),
            );
            let is_waiting = connection.unfinished_bytes.get() > 0
                && connection.unanswered.get() == 0
                && !connection.is_half_open.get();
            let (bytes, packets) = connection.received.get();
            let before = connection.stalling_since.replace(is_waiting.then_some((bytes, packets)));
            let is_stalled = before.is_some_and(|(bytes_before, packets_before)| {
                packets == packets_before && bytes - bytes_before < SWEEP_BYTES_MIN
            });
            if is_waiting && is_stalled {
                self.cut_connection(connection, CutReason::Stalled);
            }
        }
    }

    /// Counts received bytes of a connection. `unfinished` of all its bytes are not part of a
    /// complete packet.
    pub(super) fn count_received(
        &self,
        connection: &Rc<ListenerConnection>,
        new: usize,
        unfinished: usize,
    ) {
        let (bytes, packets) = connection.received.get();
        connection.received.set((bytes + new as u64, packets));
        self.set_held_bytes(connection, &connection.unfinished_bytes, unfinished);
    }

    /// Counts a complete packet, after which `left` bytes have arrived.
    pub(super) fn count_packet(&self, connection: &Rc<ListenerConnection>, left: usize) {
        let (bytes, packets) = connection.received.get();
        connection.received.set((bytes, packets + 1));
        self.set_held_bytes(connection, &connection.unfinished_bytes, left);
    }

    /// Adds bytes that a connection holds as long as it lasts.
    pub(super) fn hold_bytes(&self, connection: &Rc<ListenerConnection>, bytes: usize) {
        let bytes = connection.lasting_bytes.get() + bytes;
        self.set_held_bytes(connection, &connection.lasting_bytes, bytes);
    }

    /// Replaces some of the bytes that a connection holds.
    pub(super) fn replace_held_bytes(
        &self,
        connection: &Rc<ListenerConnection>,
        before: usize,
        now: usize,
    ) {
        let bytes = connection.lasting_bytes.get() - before + now;
        self.set_held_bytes(connection, &connection.lasting_bytes, bytes);
    }

    /// Decides to close a connection.
    pub(super) fn cut_connection(&self, connection: &Rc<ListenerConnection>, reason: CutReason) {
        if connection.cut_reason.replace(Some(reason)).is_none() {
            self.counts.count_cut(reason);
        }
        connection.cut.cancel();
    }

    fn set_held_bytes(&self, connection: &Rc<ListenerConnection>, bytes: &Cell<usize>, new: usize) {
        let old = bytes.replace(new);
        let mut state = self.state.borrow_mut();
        if !state.connections.contains_key(&connection.number) {
            return;
        }
        state.held_bytes = state.held_bytes + new - old;
        self.counts.held_bytes.store(state.held_bytes as u64, Ordering::Relaxed);
        if new <= old || state.held_bytes <= self.held_bytes_max {
            return;
        }
        // The bytes of connections that are already cut will be released, and packets may be
        // complete by now.
        let mut remaining: usize = 0;
        let mut largest: Option<&Rc<ListenerConnection>> = None;
        for other in state.connections.values().filter(|other| !other.cut.is_cancelled()) {
            remaining += other.held_bytes();
            if largest.is_none_or(|largest| largest.held_bytes() < other.held_bytes()) {
                largest = Some(other);
            }
        }
        if remaining > self.held_bytes_max
            && let Some(largest) = largest
        {
            self.cut_connection(largest, CutReason::HeldTooMuch);
            largest.discard_unfinished();
        }
    }
}

impl ListenerConnection {
    /// Stores the connection's buffers.
    pub(super) fn note_io(&self, io: &IoRef) {
        self.io.borrow_mut().get_or_insert_with(|| io.clone());
    }

    /// Returns the number of received bytes that are not part of a complete packet.
    pub(super) fn measure_unfinished(&self) -> usize {
        let io = self.io.borrow();
        let measured = io.as_ref().and_then(|io| {
            io.with_buf(|buffers| buffers.with_read_buffers(|_, packets| packets.len())).ok()
        });
        measured.unwrap_or_else(|| self.unfinished_bytes.get())
    }

    /// Whether its client has disconnected.
    pub(super) fn is_closed(&self) -> bool {
        self.io.borrow().as_ref().is_some_and(IoRef::is_closed)
    }

    /// Waits until its client has disconnected.
    pub(super) async fn closed(&self) {
        let closed = self.io.borrow().as_ref().map(IoRef::on_disconnect);
        match closed {
            Some(closed) => closed.await,
            // No bytes have arrived, so the end cannot be awaited.
            None => pending().await,
        }
    }

    /// Releases the received bytes of an incomplete packet at once, because the connection itself
    /// may end only after thousands of reads of others.
    fn discard_unfinished(&self) {
        if let Some(io) = &*self.io.borrow() {
            let _ = io.with_buf(|buffers| {
                buffers.with_read_buffers(|received, packets| {
                    *received = None;
                    *packets = BytesMut::new();
                });
            });
        }
    }

    fn held_bytes(&self) -> usize {
        self.unfinished_bytes.get() + self.lasting_bytes.get()
    }

    /// Notes that its CONNECT has arrived.
    pub(super) fn mark_connected(&self) {
        self.is_half_open.set(false);
    }

    /// Whether its CONNECT has not arrived yet.
    pub(super) fn is_half_open(&self) -> bool {
        self.is_half_open.get()
    }

    /// Returns why this side closes it, if it does.
    pub(super) fn cut_reason(&self) -> Option<CutReason> {
        self.cut_reason.get()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut state = self.table.state.borrow_mut();
        state.connections.remove(&self.connection.number);
        self.connection.io.take();
        state.held_bytes -= self.connection.held_bytes();
        self.table.counts.held_bytes.store(state.held_bytes as u64, Ordering::Relaxed);
        if self.connection.is_refused {
            state.refusals -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn small_table(all_max: usize, held_bytes_max: usize) -> Rc<ConnectionTable> {
        ConnectionTable::new(all_max, held_bytes_max, Arc::default())
    }

    fn test_address(number: u8) -> IpAddr {
        [10, 0, 0, number].into()
    }

    #[test]
    fn beyond_the_limit_clients_are_told_and_then_not_even_that() {
        let (table, now) = (small_table(2, 1000), Instant::now());
        let enter = || {
            let guard = table.admit_connection(test_address(1), now);
            if let Some(guard) = &guard {
                guard.connection.mark_connected();
            }
            guard
        };
        let admitted: Vec<_> = (0..2).map(|_| enter().unwrap()).collect();
        assert!(admitted.iter().all(|guard| !guard.connection.is_refused));
        let refused: Vec<_> = (0..REFUSALS_MAX).map(|_| enter().unwrap()).collect();
        assert!(refused.iter().all(|guard| guard.connection.is_refused));
        assert!(enter().is_none());
        drop((admitted, refused));
        assert!(!enter().unwrap().connection.is_refused);
        assert!(table.is_empty());
    }

    #[test]
    fn old_half_open_connections_make_room() {
        let (table, now) = (small_table(2, 1000), Instant::now());
        let first = table.admit_connection(test_address(1), now).unwrap();
        let second = table.admit_connection(test_address(2), now).unwrap();
        assert!(table.admit_connection(test_address(3), now).unwrap().connection.is_refused);
        first.connection.mark_connected();
        let later = now + HALF_OPEN_TIME_MIN;
        assert!(!table.admit_connection(test_address(3), later).unwrap().connection.is_refused);
        assert_eq!(second.connection.cut_reason(), Some(CutReason::HalfOpen));
        assert_eq!(first.connection.cut_reason(), None);
    }

    #[test]
    fn one_address_has_so_many_half_open_connections() {
        let (table, now) = (small_table(10_000, 1000), Instant::now());
        let enter = |number, at| table.admit_connection(test_address(number), at).unwrap();
        let other = enter(2, now);
        let mut guards: Vec<_> = (0..=HALF_OPEN_OF_ONE_MAX).map(|_| enter(1, now)).collect();
        // They are young, and may well be honest.
        assert!(guards.iter().all(|guard| !guard.connection.cut.is_cancelled()));
        guards.push(enter(1, now + HALF_OPEN_TIME_MIN));
        let cut = guards.iter().filter(|guard| guard.connection.cut.is_cancelled()).count();
        assert_eq!((cut, guards[0].connection.cut.is_cancelled()), (1, true));
        assert!(!other.connection.cut.is_cancelled());
    }

    #[test]
    fn who_holds_most_goes() {
        let table = small_table(10, 1000);
        let enter = || table.admit_connection(test_address(1), Instant::now()).unwrap();
        let (small, large, new) = (enter(), enter(), enter());
        table.count_received(&small.connection, 100, 100);
        table.hold_bytes(&large.connection, 300);
        table.count_received(&large.connection, 400, 400);
        table.count_received(&new.connection, 200, 200);
        assert!(!large.connection.cut.is_cancelled());
        table.count_received(&new.connection, 1, 201);
        assert_eq!(large.connection.cut_reason(), Some(CutReason::HeldTooMuch));
        // Its connection is about to end, so no other must be cut.
        table.count_received(&new.connection, 99, 300);
        assert!(!small.connection.cut.is_cancelled() && !new.connection.cut.is_cancelled());
        drop(large);
        assert_eq!(table.state.borrow().held_bytes, 400);
    }

    #[test]
    fn a_packet_that_does_not_go_on_is_cut() {
        let check = |work: &dyn Fn(&ConnectionTable, &Rc<ListenerConnection>), expect: bool| {
            let table = small_table(10, 100_000);
            let guard = table.admit_connection(test_address(1), Instant::now()).unwrap();
            let connection = &guard.connection;
            connection.mark_connected();
            table.count_received(connection, 100, 100);
            table.cut_stalled();
            assert!(!connection.cut.is_cancelled());
            work(&table, connection);
            table.cut_stalled();
            assert_eq!(connection.cut.is_cancelled(), expect);
        };
        check(&|_, _| {}, true);
        check(&|table, connection| table.count_received(connection, 1, 101), true);
        check(&|table, connection| table.count_received(connection, 600, 700), false);
        check(&|table, connection| table.count_packet(connection, 0), false);
        // One packet follows the other, always with a part of the next: it makes progress.
        check(
            &|table, connection| {
                table.count_packet(connection, 0);
                table.count_received(connection, 10, 10);
            },
            false,
        );
        check(&|_, connection| connection.unanswered.set(1), false);
    }

    proptest! {
        #[test]
        fn what_is_held_is_the_sum_and_never_stays_above_the_limit(
            steps in prop::collection::vec((0..6_usize, 0..4_u8, 0..500_usize), 1..200),
        ) {
            let table = small_table(100, 1000);
            let mut guards: Vec<ConnectionGuard> = Vec::new();
            for (which, what, bytes) in steps {
                match (what, guards.len()) {
                    (0, _) | (_, 0) => {
                        guards.push(table.admit_connection(test_address(1), Instant::now()).unwrap());
                    }
                    (1, all) => {
                        let connection = &guards[which % all].connection;
                        let unfinished = connection.unfinished_bytes.get() + bytes;
                        table.count_received(connection, bytes, unfinished);
                    }
                    (2, all) => {
                        let connection = &guards[which % all].connection;
                        let left = connection.unfinished_bytes.get().min(bytes);
                        table.count_packet(connection, left);
                    }
                    (_, all) => table.hold_bytes(&guards[which % all].connection, bytes / 10),
                }
                let all: usize = guards.iter().map(|guard| guard.connection.held_bytes()).sum();
                prop_assert_eq!(all, table.state.borrow().held_bytes);
                guards.retain(|guard| !guard.connection.cut.is_cancelled());
                prop_assert!(table.state.borrow().held_bytes <= 1000);
            }
        }
    }
}
