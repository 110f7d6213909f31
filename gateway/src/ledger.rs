//! The proof that nothing is lost: for each device, in readings,
//! received = logged + dead-lettered + duplicates + dropped + in flight.
//!
//! It counts since the start of the process. What was in flight when a process
//! ended was not acknowledged, so it comes again and is counted by the next.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use telemetry::{Address, SequenceCheck, SmolStr, ZoneId};
use tokio::sync::watch;

use crate::{
    clock::ClockOffset,
    intake::Intake,
    message::{Message, now_ms},
    sequence::DeviceSequence,
};

/// What became of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Readings that came.
    pub received: u64,
    /// Durable in the log.
    pub logged: u64,
    /// Durable among the dead letters.
    pub dead_lettered: u64,
    /// Sent again by the device, and durable already.
    pub duplicates: u64,
    /// Messages of QoS 0 that were read and could not be kept: nobody has them any more.
    #[serde(default)]
    pub dropped: u64,
    /// On the way to the log, not acknowledged yet.
    pub in_flight: u64,
    /// What is in none of these: 0, or readings were lost.
    pub unaccounted: i64,
    /// Numbers missing in the devices' own counting: lost before they came.
    pub sequence_gaps: u64,
    /// Times that devices began to count anew.
    pub resets: u64,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Site and zone; none for messages whose topic names no device.
    pub zone: Option<ZoneId>,
    /// The device.
    pub device: Option<SmolStr>,
    /// What became of its readings.
    #[serde(flatten)]
    pub counts: Counts,
    /// By how much its clock is behind, milliseconds, the shortest way of a
    /// message included; negative where it is ahead. None for a device that
    /// sends no times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
}

/// The whole ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Since when it counts, UTC milliseconds.
    pub since_ms: i64,
    /// Messages that came, by MQTT or HTTP.
    pub messages: u64,
    /// Times that a broker had lost this client's session, and with it perhaps
    /// messages.
    pub lost_sessions: u64,
    /// All devices together.
    pub totals: Counts,
    /// Each device, in the order of zones and names.
    pub devices: Vec<Line>,
}

/// What a message's readings become once it is settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) logged: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) duplicates: u64,
}

/// A device's place in the ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountId(usize);

#[derive(Debug)]
pub(crate) struct Ledger {
    state: Mutex<State>,
    /// Messages received and not settled.
    in_flight: watch::Sender<u64>,
    devices_max: usize,
    window: usize,
}

#[derive(Debug)]
struct State {
    since_ms: i64,
    messages: u64,
    lost_sessions: u64,
    accounts: Vec<Account>,
    by_device: HashMap<(ZoneId, SmolStr), usize>,
}

#[derive(Debug, Default)]
struct Account {
    device: Option<(ZoneId, SmolStr)>,
    received: u64,
    in_flight: u64,
    dropped: u64,
    settled: Tally,
    sequence: DeviceSequence,
    clock: ClockOffset,
}

/// The account of messages that name no device, or one over the limit.
const OTHERS: usize = 0;

impl Ledger {
    pub(crate) fn new(devices_max: usize, window: usize) -> Self {
        let state = State {
            since_ms: now_ms(),
            messages: 0,
            lost_sessions: 0,
            accounts: vec![Account::default()],
            by_device: HashMap::new(),
        };
        let (state, in_flight) = (Mutex::new(state), watch::Sender::new(0));
        Self { state, in_flight, devices_max, window }
    }

    /// A message was taken from the network. Every call is followed by one of
    /// [`Ledger::received`] and one of [`Ledger::settled`], or by
    /// [`Ledger::left`].
    pub(crate) fn arrived(&self) {
        self.in_flight.send_modify(|count| *count += 1);
    }

    /// A message was decoded. Says what its number tells, where it has one.
    pub(crate) fn received(
        &self,
        intake: &Intake,
        message: &Message,
    ) -> (AccountId, Option<SequenceCheck>) {
        let Message { received_ms, is_redelivery, .. } = *message;
        let mut state = self.state();
        state.messages += 1;
        let index = state.account_of(intake.address.as_ref(), self.devices_max);
        let account = &mut state.accounts[index];
        account.received += intake.readings();
        account.in_flight += intake.readings();
        if let Some(stamped_ms) = intake.stamped_ms(received_ms) {
            account.clock.note(received_ms, stamped_ms);
        }
        let stamp = intake.stamp.as_ref().filter(|_| index != OTHERS);
        let check = stamp
            .map(|stamp| account.sequence.check(stamp, received_ms, is_redelivery, self.window));
        (AccountId(index), check)
    }

    /// A message is durable, or a duplicate of one that is.
    pub(crate) fn settled(&self, AccountId(index): AccountId, tally: Tally) {
        let mut state = self.state();
        let account = &mut state.accounts[index];
        account.in_flight -= tally.logged + tally.dead_lettered + tally.duplicates;
        account.settled.logged += tally.logged;
        account.settled.dead_lettered += tally.dead_lettered;
        account.settled.duplicates += tally.duplicates;
        drop(state);
        self.left();
    }

    /// A message that was looked at and not taken.
    pub(crate) fn left(&self) {
        self.in_flight.send_modify(|count| *count -= 1);
    }

    /// A message of QoS 0 was read and could not be kept. It was not decoded, so it counts as one
    /// reading.
    pub(crate) fn count_dropped(&self, message: &Message) {
        let mut state = self.state();
        state.messages += 1;
        let address = Address::parse(&message.topic).ok();
        let index = state.account_of(address.as_ref(), self.devices_max);
        let account = &mut state.accounts[index];
        account.received += 1;
        account.dropped += 1;
    }

    /// A broker had lost this client's session.
    pub(crate) fn lost_session(&self) {
        self.state().lost_sessions += 1;
    }

    /// Waits until no message is in flight.
    pub(crate) async fn drained(&self) {
        // Fails only when the sender, which is in `self`, is gone.
        let _ = self.in_flight.subscribe().wait_for(|count| *count == 0).await;
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state();
        let mut devices: Vec<Line> = state.accounts.iter().filter_map(Account::line).collect();
        devices.sort_by(|a, b| (&a.zone, &a.device).cmp(&(&b.zone, &b.device)));
        let totals = devices.iter().fold(Counts::default(), |sum, line| sum.plus(&line.counts));
        let State { since_ms, messages, lost_sessions, .. } = *state;
        Snapshot { since_ms, messages, lost_sessions, totals, devices }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn account_of(&mut self, address: Option<&Address>, devices_max: usize) -> usize {
        let Some(Address { zone, device, .. }) = address else { return OTHERS };
        let key = (zone.clone(), device.clone());
        if let Some(index) = self.by_device.get(&key) {
            return *index;
        }
        if self.by_device.len() >= devices_max {
            return OTHERS;
        }
        let index = self.accounts.len();
        self.accounts.push(Account { device: Some(key.clone()), ..Account::default() });
        self.by_device.insert(key, index);
        index
    }
}

impl Account {
    fn line(&self) -> Option<Line> {
        if self.received == 0 {
            return None;
        }
        let Tally { logged, dead_lettered, duplicates } = self.settled;
        let accounted = logged + dead_lettered + duplicates + self.dropped + self.in_flight;
        let counts = Counts {
            received: self.received,
            logged,
            dead_lettered,
            duplicates,
            dropped: self.dropped,
            in_flight: self.in_flight,
            unaccounted: self.received.wrapping_sub(accounted).cast_signed(),
            sequence_gaps: self.sequence.gaps(),
            resets: self.sequence.resets,
        };
        let (zone, device) = self.device.clone().unzip();
        Some(Line { zone, device, counts, clock_offset_ms: self.clock.estimate_ms() })
    }
}

impl Counts {
    fn plus(&self, other: &Self) -> Self {
        Self {
            received: self.received.saturating_add(other.received),
            logged: self.logged.saturating_add(other.logged),
            dead_lettered: self.dead_lettered.saturating_add(other.dead_lettered),
            duplicates: self.duplicates.saturating_add(other.duplicates),
            dropped: self.dropped.saturating_add(other.dropped),
            in_flight: self.in_flight.saturating_add(other.in_flight),
            unaccounted: self.unaccounted.saturating_add(other.unaccounted),
            sequence_gaps: self.sequence_gaps.saturating_add(other.sequence_gaps),
            resets: self.resets.saturating_add(other.resets),
        }
    }
}

#[cfg(test)]
mod tests {
    use telemetry::{MetricTable, payload};

    use super::*;
    use crate::intake::Decoder;

    fn message(topic: &str, payload: &str) -> Message {
        let payload = payload.to_owned().into();
        let topic = topic.into();
        Message { topic, payload, is_retained: false, is_redelivery: false, received_ms: 1 }
    }

    /// Receives a message, and settles it if it `is_durable`.
    fn take(ledger: &Ledger, topic: &str, payload: &str, is_durable: bool) {
        let decoder = Decoder::new(MetricTable::default(), payload::Limits::default());
        let message = message(topic, payload);
        let intake = decoder.take(&message);
        ledger.arrived();
        let (account, check) = ledger.received(&intake, &message);
        let tally = if check.is_some_and(SequenceCheck::is_copy) {
            Tally { duplicates: intake.readings(), ..Tally::default() }
        } else {
            let (logged, dead_lettered) = (intake.logged(), intake.dead_lettered);
            Tally { logged, dead_lettered, duplicates: 0 }
        };
        if is_durable {
            ledger.settled(account, tally);
        }
    }

    /// Received, logged, dead-lettered, duplicates, in flight.
    fn check(counts: &Counts, expect: [u64; 5]) {
        let Counts { received, logged, dead_lettered, duplicates, in_flight, .. } = *counts;
        assert_eq!([received, logged, dead_lettered, duplicates, in_flight], expect);
        assert_eq!(counts.unaccounted, 0);
    }

    #[test]
    fn every_reading_is_in_one_place() {
        let ledger = Ledger::new(10, 8);
        let both = r#"{"temperature": 1, "humidity": 2, "warmth": 3, "boot": "a", "seq": 0}"#;
        take(&ledger, "sensors/farm/bay-1/probe", both, true);
        check(&ledger.snapshot().totals, [3, 2, 1, 0, 0]);
        take(&ledger, "sensors/farm/bay-1/probe", both, true);
        check(&ledger.snapshot().totals, [6, 2, 1, 3, 0]);
        take(&ledger, "sensors/farm/bay-1/probe", "{", true);
        take(&ledger, "tele/x/SENSOR", "1", true);
        take(&ledger, "sensors/farm/bay-2/probe", r#"{"temperature": 1}"#, false);
        let Snapshot { messages, totals, devices, .. } = ledger.snapshot();
        assert_eq!(messages, 5);
        check(&totals, [9, 2, 3, 3, 1]);
        let names: Vec<_> =
            devices.iter().map(|l| l.zone.as_ref().map(ToString::to_string)).collect();
        assert_eq!(names, [None, Some("farm/bay-1".to_owned()), Some("farm/bay-2".to_owned())]);
        check(&devices[0].counts, [1, 0, 1, 0, 0]);
        check(&devices[1].counts, [7, 2, 2, 3, 0]);
        check(&devices[2].counts, [1, 0, 0, 0, 1]);
    }

    #[test]
    fn what_was_dropped_is_in_the_equation() {
        let ledger = Ledger::new(10, 8);
        ledger.count_dropped(&message("sensors/farm/bay-1/probe", r#"{"temperature": 1}"#));
        ledger.count_dropped(&message("tele/x/SENSOR", "1"));
        let Snapshot { messages, totals, devices, .. } = ledger.snapshot();
        assert_eq!((messages, totals.dropped, devices.len()), (2, 2, 2));
        check(&totals, [2, 0, 0, 0, 0]);
    }

    #[test]
    fn devices_over_the_limit_share_a_line() {
        let ledger = Ledger::new(2, 8);
        for device in 0..5 {
            take(
                &ledger,
                &format!("sensors/farm/bay-1/probe-{device}"),
                r#"{"temperature": 1}"#,
                true,
            );
        }
        let lines = ledger.snapshot().devices;
        let counts: Vec<_> = lines.iter().map(|l| (l.device.is_some(), l.counts.logged)).collect();
        assert_eq!(counts, [(false, 3), (true, 1), (true, 1)]);
    }
}
