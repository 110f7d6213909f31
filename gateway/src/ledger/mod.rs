//! The proof that nothing is lost: for each device, in readings,
//! received = logged + dead-lettered + duplicates + dropped + in flight.
//!
//! It counts since the folder of the log was first used. [`checkpoint`] stores the counts beside
//! the log, and after a crash the remaining records are counted from the log itself. Readings
//! that were in flight when a process ended were not acknowledged, so they are delivered again.
//!
//! # Layout
//! - `accounts`: one line for each recently heard device
//! - `checkpoint`: the counts on disk
//! - `kafka_comparison`: whether Kafka still has what it acknowledged

mod accounts;
mod checkpoint;
mod kafka_comparison;

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use telemetry::{DeviceAddress, SequenceCheck, SmolStr, ZoneId};
use tokio::sync::watch;

use crate::{
    conventions::EntityCounts,
    message::{InboundMessage, now_ms},
    message_decoder::DecodedMessage,
};
use accounts::DeviceAccounts;
pub(crate) use accounts::{AccountId, AccountLimits};
pub(crate) use checkpoint::LedgerFile;
pub use kafka_comparison::KafkaComparison;

/// The account of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCounts {
    /// Readings received.
    pub received: u64,
    /// Readings that are durable in the log.
    pub logged: u64,
    /// Readings that are durable among the dead letters.
    pub dead_lettered: u64,
    /// Readings that the device sent again and that were already durable.
    pub duplicates: u64,
    /// Messages of QoS 0 that were read and could not be stored. They are lost.
    #[serde(default)]
    pub dropped: u64,
    /// Readings on the way to the log that are not acknowledged yet.
    pub in_flight: u64,
    /// Readings in none of these states: 0, or readings were lost.
    pub unaccounted: i64,
    /// Missing sequence numbers of the devices: readings that were lost before they arrived.
    pub sequence_gaps: u64,
    /// Number of times that devices began a new run.
    pub resets: u64,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerLine {
    /// Site and zone; `None` for messages whose topic names no device.
    pub zone: Option<ZoneId>,
    /// The device.
    pub device: Option<SmolStr>,
    /// The account of its readings.
    #[serde(flatten)]
    pub counts: LedgerCounts,
    /// By how much the device's clock is behind, milliseconds, including the shortest delay of a
    /// message; negative if it is ahead. `None` for a device that sends no times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
}

/// The whole ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerSnapshot {
    /// Start of the counts, UTC milliseconds.
    pub since_ms: i64,
    /// Messages received, by MQTT or HTTP.
    pub messages: u64,
    /// Number of times that a broker had lost this client's session, and perhaps messages with
    /// it.
    pub lost_sessions: u64,
    /// The state that conventions remember between messages.
    #[serde(default)]
    pub entities: EntityCounts,
    /// The sums over all devices.
    pub totals: LedgerCounts,
    /// Number of devices without a line, because others were heard more recently. Their counts
    /// are in the line without a name.
    #[serde(default)]
    pub evicted_devices: u64,
    /// The offsets that Kafka has acknowledged and has.
    #[serde(default, skip_serializing_if = "KafkaComparison::is_empty")]
    pub kafka: KafkaComparison,
    /// The line of each device, in the order of zones and names.
    pub devices: Vec<LedgerLine>,
}

/// The final states of a message's readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadingTally {
    pub(crate) logged: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) duplicates: u64,
}

impl ReadingTally {
    fn reading_count(self) -> u64 {
        self.logged + self.dead_lettered + self.duplicates
    }
}

#[derive(Debug)]
pub(crate) struct Ledger {
    state: Mutex<LedgerState>,
    /// Number of received messages that are not settled.
    in_flight: watch::Sender<u64>,
}

#[derive(Debug)]
struct LedgerState {
    since_ms: i64,
    messages: u64,
    lost_sessions: u64,
    accounts: DeviceAccounts,
    /// The next uncounted record of each topic of the embedded log.
    counted_offsets: Vec<(&'static str, i64)>,
    kafka: KafkaComparison,
}

impl LedgerState {
    /// Notes that all of a topic of the embedded log below `offset` is counted.
    fn set_counted(&mut self, topic: &'static str, offset: i64) {
        match self.counted_offsets.iter_mut().find(|(known, _)| *known == topic) {
            Some((_, counted)) => *counted = offset,
            None => self.counted_offsets.push((topic, offset)),
        }
    }
}

impl Ledger {
    pub(crate) fn new(limits: AccountLimits) -> Self {
        let state = LedgerState {
            since_ms: now_ms(),
            messages: 0,
            lost_sessions: 0,
            accounts: DeviceAccounts::new(limits),
            counted_offsets: Vec::new(),
            kafka: KafkaComparison::default(),
        };
        Self { state: Mutex::new(state), in_flight: watch::Sender::new(0) }
    }

    /// Counts a message from the network. Every call is followed by one of
    /// [`Ledger::count_received`] and one of [`Ledger::settle_message`], or by
    /// [`Ledger::end_message`].
    pub(crate) fn begin_message(&self) {
        self.in_flight.send_modify(|count| *count += 1);
    }

    /// Counts a decoded message. Returns the result of checking its sequence number, if it has
    /// one.
    pub(crate) fn count_received(
        &self,
        decoded: &DecodedMessage,
        message: &InboundMessage,
    ) -> (AccountId, Option<SequenceCheck>) {
        let mut state = self.lock_state();
        state.messages += 1;
        state.accounts.count_received(decoded, message)
    }

    /// Settles a message that is durable, or a duplicate of one that is. `written` are the topics
    /// and offsets of its records in the embedded log, which are counted with it.
    pub(crate) fn settle_message(
        &self,
        account: AccountId,
        tally: ReadingTally,
        written: &[(&'static str, i64)],
    ) {
        let mut state = self.lock_state();
        state.accounts.settle_readings(account, tally);
        for (topic, offset) in written {
            state.set_counted(topic, offset + 1);
        }
        drop(state);
        self.end_message();
    }

    /// Moves readings from logged to dead-lettered, because Kafka refuses them.
    pub(crate) fn move_refused_readings(&self, zone: &ZoneId, device: &SmolStr, readings: u64) {
        self.lock_state().accounts.move_to_dead_letters(zone, device, readings);
    }

    /// Ends a message that was not accepted.
    pub(crate) fn end_message(&self) {
        self.in_flight.send_modify(|count| *count -= 1);
    }

    /// Counts a message of QoS 0 that was read and could not be stored. It was not decoded, so it
    /// counts as one reading.
    pub(crate) fn count_dropped(&self, message: &InboundMessage) {
        let mut state = self.lock_state();
        state.messages += 1;
        state.accounts.drop_reading(DeviceAddress::parse(&message.topic).ok().as_ref());
    }

    /// Counts a session that the broker had lost.
    pub(crate) fn count_lost_session(&self) {
        self.lock_state().lost_sessions += 1;
    }

    /// Waits until no message is in flight.
    pub(crate) async fn wait_until_drained(&self) {
        // This fails only if the sender, which is in `self`, is gone.
        let _ = self.in_flight.subscribe().wait_for(|count| *count == 0).await;
    }

    pub(crate) fn snapshot(&self) -> LedgerSnapshot {
        let state = self.lock_state();
        let devices = state.accounts.ledger_lines();
        let totals = devices
            .iter()
            .fold(LedgerCounts::default(), |sum, line| sum.saturating_add(&line.counts));
        LedgerSnapshot {
            since_ms: state.since_ms,
            messages: state.messages,
            lost_sessions: state.lost_sessions,
            // The owner of the decoder fills it in.
            entities: EntityCounts::default(),
            totals,
            evicted_devices: state.accounts.evicted_count(),
            kafka: state.kafka.clone(),
            devices,
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, LedgerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedgerCounts {
    fn saturating_add(&self, other: &Self) -> Self {
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
    use crate::message_decoder::MessageDecoder;

    fn test_message(topic: &str, payload: &str) -> InboundMessage {
        let payload = payload.to_owned().into();
        let topic = topic.into();
        InboundMessage { topic, payload, is_retained: false, is_redelivery: false, received_ms: 1 }
    }

    /// Receives a message, and settles it if it `is_durable`.
    fn receive_message(ledger: &Ledger, topic: &str, payload: &str, is_durable: bool) {
        let decoder =
            MessageDecoder::new(MetricTable::default(), payload::PayloadLimits::default());
        let message = test_message(topic, payload);
        let decoded = decoder.decode_message(&message);
        ledger.begin_message();
        let (account, check) = ledger.count_received(&decoded, &message);
        let tally = if check.is_some_and(SequenceCheck::is_copy) {
            ReadingTally { duplicates: decoded.reading_count(), ..ReadingTally::default() }
        } else {
            let (logged, dead_lettered) = (decoded.logged_count(), decoded.dead_lettered);
            ReadingTally { logged, dead_lettered, duplicates: 0 }
        };
        if is_durable {
            ledger.settle_message(account, tally, &[]);
        }
    }

    /// Checks received, logged, dead-lettered, duplicates and in flight.
    fn check_counts(counts: &LedgerCounts, expect: [u64; 5]) {
        let LedgerCounts { received, logged, dead_lettered, duplicates, in_flight, .. } = *counts;
        assert_eq!([received, logged, dead_lettered, duplicates, in_flight], expect);
        assert_eq!(counts.unaccounted, 0);
    }

    #[test]
    fn every_reading_is_in_one_place() {
        let ledger = Ledger::new(AccountLimits { devices_max: 10, ..AccountLimits::default() });
        let both = r#"{"temperature": 1, "humidity": 2, "warmth": 3, "boot": "a", "seq": 0}"#;
        receive_message(&ledger, "sensors/farm/bay-1/probe", both, true);
        check_counts(&ledger.snapshot().totals, [3, 2, 1, 0, 0]);
        receive_message(&ledger, "sensors/farm/bay-1/probe", both, true);
        check_counts(&ledger.snapshot().totals, [6, 2, 1, 3, 0]);
        receive_message(&ledger, "sensors/farm/bay-1/probe", "{", true);
        receive_message(&ledger, "tele/x/SENSOR", "1", true);
        receive_message(&ledger, "sensors/farm/bay-2/probe", r#"{"temperature": 1}"#, false);
        let LedgerSnapshot { messages, totals, devices, .. } = ledger.snapshot();
        assert_eq!(messages, 5);
        check_counts(&totals, [9, 2, 3, 3, 1]);
        let names: Vec<_> =
            devices.iter().map(|l| l.zone.as_ref().map(ToString::to_string)).collect();
        assert_eq!(names, [None, Some("farm/bay-1".to_owned()), Some("farm/bay-2".to_owned())]);
        check_counts(&devices[0].counts, [1, 0, 1, 0, 0]);
        check_counts(&devices[1].counts, [7, 2, 2, 3, 0]);
        check_counts(&devices[2].counts, [1, 0, 0, 0, 1]);
    }

    #[test]
    fn devices_heard_last_have_lines_and_the_others_share_one() {
        let ledger = Ledger::new(AccountLimits { devices_max: 2, ..AccountLimits::default() });
        let hear = |device: usize, is_durable| {
            let topic = format!("sensors/farm/bay-1/probe-{device}");
            receive_message(&ledger, &topic, r#"{"temperature": 1}"#, is_durable);
        };
        let lines = || -> Vec<(Option<String>, u64)> {
            let devices = ledger.snapshot().devices;
            devices
                .iter()
                .map(|l| (l.device.as_ref().map(ToString::to_string), l.counts.logged))
                .collect()
        };
        let line = |name: &str, logged| ((!name.is_empty()).then(|| name.to_owned()), logged);
        for device in [0, 1, 0, 2] {
            hear(device, true);
        }
        assert_eq!(lines(), [line("", 1), line("probe-0", 2), line("probe-2", 1)]);
        assert_eq!(ledger.snapshot().evicted_devices, 1);
        // A device that still sends has a line again when the others are gone.
        (100..200).for_each(|device| hear(device, true));
        hear(0, true);
        assert_eq!(lines(), [line("", 103), line("probe-0", 1), line("probe-199", 1)]);
        check_counts(&ledger.snapshot().totals, [105, 105, 0, 0, 0]);
        // A device with messages in flight keeps its line, and a further one has none.
        let ledger = Ledger::new(AccountLimits { devices_max: 2, ..AccountLimits::default() });
        for device in 0..3 {
            let topic = format!("sensors/farm/bay-1/probe-{device}");
            receive_message(&ledger, &topic, r#"{"temperature": 1}"#, false);
        }
        let devices = ledger.snapshot().devices;
        assert_eq!(devices.len(), 3);
        check_counts(&devices[0].counts, [1, 0, 0, 0, 1]);
    }

    #[test]
    fn readings_that_kafka_refuses_later_are_dead_letters() {
        let ledger = Ledger::new(AccountLimits::default());
        receive_message(
            &ledger,
            "sensors/farm/bay-1/probe",
            r#"{"temperature": 1, "co2": 2}"#,
            true,
        );
        ledger.move_refused_readings(&"farm/bay-1".parse().unwrap(), &"probe".into(), 2);
        check_counts(&ledger.snapshot().totals, [2, 0, 2, 0, 0]);
        // A device that this ledger does not know counts as a whole.
        ledger.move_refused_readings(&"farm/bay-1".parse().unwrap(), &"other".into(), 1);
        check_counts(&ledger.snapshot().totals, [3, 0, 3, 0, 0]);
    }

    #[test]
    fn what_was_dropped_is_in_the_equation() {
        let ledger = Ledger::new(AccountLimits::default());
        ledger.count_dropped(&test_message("sensors/farm/bay-1/probe", r#"{"temperature": 1}"#));
        ledger.count_dropped(&test_message("tele/x/SENSOR", "1"));
        let LedgerSnapshot { messages, totals, devices, .. } = ledger.snapshot();
        assert_eq!((messages, totals.dropped, devices.len()), (2, 2, 2));
        check_counts(&totals, [2, 0, 0, 0, 0]);
    }
}
