use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use telemetry::{DeviceAddress, SequenceCheck, SmolStr, ZoneId};

use super::{LedgerCounts, LedgerLine, ReadingTally};
use crate::{
    clock_offset::DeviceClockOffset, message::InboundMessage, message_decoder::DecodedMessage,
    sequence::DeviceSequence,
};

/// Limits of the ledger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountLimits {
    /// Largest number of devices with a line of their own.
    pub(crate) devices_max: usize,
    /// Largest number of messages of one device and topic that are remembered to find duplicates.
    pub(crate) window: usize,
    /// Approximate number of messages of all devices that are remembered.
    pub(crate) messages_max: usize,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self { devices_max: 10_000, window: 1024, messages_max: MESSAGES_MAX }
    }
}

/// Default number of remembered messages of all devices, about 50 bytes each.
pub(crate) const MESSAGES_MAX: usize = 200_000;
/// Smallest number of remembered messages per topic, however many devices there are.
const WINDOW_MIN: usize = 16;

/// Index of a device's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountId(usize);

/// Index of the account of messages that name no device, and of devices without an account.
const OTHERS_INDEX: usize = 0;

/// One account for each recently heard device, and one for all others.
#[derive(Debug)]
pub(super) struct DeviceAccounts {
    limits: AccountLimits,
    accounts: Vec<DeviceAccount>,
    by_device: HashMap<(ZoneId, SmolStr), usize>,
    /// Accounts of devices in the order in which they were heard, the least recent first.
    by_recency: BTreeMap<u64, usize>,
    /// The same order for accounts that remember messages.
    with_messages: BTreeMap<u64, usize>,
    heard: u64,
    remembered: usize,
    evicted: u64,
}

#[derive(Debug, Default)]
struct DeviceAccount {
    device: Option<(ZoneId, SmolStr)>,
    received: u64,
    in_flight: u64,
    dropped: u64,
    settled: ReadingTally,
    sequence: DeviceSequence,
    clock: DeviceClockOffset,
    /// Its position in `by_recency`.
    recency: u64,
    remembered: usize,
}

/// An account as it is stored on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AccountRecord {
    zone: Option<ZoneId>,
    device: Option<SmolStr>,
    logged: u64,
    dead_lettered: u64,
    duplicates: u64,
    #[serde(default)]
    dropped: u64,
    sequence_gaps: u64,
    resets: u64,
}

impl DeviceAccounts {
    pub(super) fn new(limits: AccountLimits) -> Self {
        Self {
            limits,
            accounts: vec![DeviceAccount::default()],
            by_device: HashMap::new(),
            by_recency: BTreeMap::new(),
            with_messages: BTreeMap::new(),
            heard: 0,
            remembered: 0,
            evicted: 0,
        }
    }

    /// Number of devices that lost their account to others.
    pub(super) fn evicted_count(&self) -> u64 {
        self.evicted
    }

    /// Counts a received message. Returns the result of checking its sequence number, if it has
    /// one.
    pub(super) fn count_received(
        &mut self,
        decoded: &DecodedMessage,
        message: &InboundMessage,
    ) -> (AccountId, Option<SequenceCheck>) {
        let InboundMessage { received_ms, is_redelivery, .. } = *message;
        let index = match &decoded.address {
            Some(DeviceAddress { zone, device, .. }) => self.index_of(zone, device),
            None => OTHERS_INDEX,
        };
        let window = self.history_window();
        let account = &mut self.accounts[index];
        account.received += decoded.reading_count();
        account.in_flight += decoded.reading_count();
        if let Some(stamped_ms) = decoded.device_time_ms(received_ms) {
            account.clock.add_sample(received_ms, stamped_ms);
        }
        let stamp = decoded.stamp.as_ref().filter(|_| index != OTHERS_INDEX);
        let check = stamp
            .map(|stamp| account.sequence.check_message(stamp, received_ms, is_redelivery, window));
        if check.is_some() {
            self.count_remembered(index);
            self.forget_messages();
        }
        (AccountId(index), check)
    }

    pub(super) fn settle_readings(&mut self, AccountId(index): AccountId, tally: ReadingTally) {
        let account = &mut self.accounts[index];
        account.in_flight -= tally.reading_count();
        account.settled = account.settled.combined_with(tally);
    }

    /// Counts a received reading that was dropped.
    pub(super) fn drop_reading(&mut self, address: Option<&DeviceAddress>) {
        let index = match address {
            Some(DeviceAddress { zone, device, .. }) => self.index_of(zone, device),
            None => OTHERS_INDEX,
        };
        let account = &mut self.accounts[index];
        account.received += 1;
        account.dropped += 1;
    }

    /// Moves readings from logged to dead-lettered.
    pub(super) fn move_to_dead_letters(&mut self, zone: &ZoneId, device: &SmolStr, readings: u64) {
        let index =
            self.by_device.get(&(zone.clone(), device.clone())).copied().unwrap_or(OTHERS_INDEX);
        let account = &mut self.accounts[index];
        let moved = readings.min(account.settled.logged);
        account.settled.logged -= moved;
        account.settled.dead_lettered += readings;
        // The rest was received before the account was opened.
        account.received += readings - moved;
    }

    /// Counts readings that are in the log but in no account.
    pub(super) fn add_settled(&mut self, device: Option<(&ZoneId, &SmolStr)>, tally: ReadingTally) {
        let index = device.map_or(OTHERS_INDEX, |(zone, device)| self.index_of(zone, device));
        let account = &mut self.accounts[index];
        account.received += tally.reading_count();
        account.settled = account.settled.combined_with(tally);
    }

    /// Returns the line of each device, in the order of zones and names.
    pub(super) fn ledger_lines(&self) -> Vec<LedgerLine> {
        let mut lines: Vec<LedgerLine> =
            self.accounts.iter().filter_map(DeviceAccount::ledger_line).collect();
        lines.sort_by(|a, b| (&a.zone, &a.device).cmp(&(&b.zone, &b.device)));
        lines
    }

    /// Returns all accounts without the readings in flight, the least recently heard first.
    pub(super) fn account_records(&self) -> Vec<AccountRecord> {
        let indices = [OTHERS_INDEX].into_iter().chain(self.by_recency.values().copied());
        indices.map(|index| self.accounts[index].to_record()).collect()
    }

    pub(super) fn restore_accounts(&mut self, records: Vec<AccountRecord>, evicted: u64) {
        for record in records {
            let AccountRecord { zone, device, logged, dead_lettered, duplicates, .. } = record;
            let tally = ReadingTally { logged, dead_lettered, duplicates };
            let index = match (&zone, &device) {
                (Some(zone), Some(device)) => self.index_of(zone, device),
                _ => OTHERS_INDEX,
            };
            let account = &mut self.accounts[index];
            account.received += tally.reading_count() + record.dropped;
            account.dropped += record.dropped;
            account.settled = account.settled.combined_with(tally);
            account.sequence.restore_counts(record.sequence_gaps, record.resets);
        }
        self.evicted = evicted;
    }

    /// Returns the account of a device that was heard just now.
    fn index_of(&mut self, zone: &ZoneId, device: &SmolStr) -> usize {
        let key = (zone.clone(), device.clone());
        self.heard += 1;
        if let Some(&index) = self.by_device.get(&key) {
            let account = &mut self.accounts[index];
            let before = std::mem::replace(&mut account.recency, self.heard);
            self.by_recency.remove(&before);
            self.by_recency.insert(self.heard, index);
            if self.with_messages.remove(&before).is_some() {
                self.with_messages.insert(self.heard, index);
            }
            return index;
        }
        let account = DeviceAccount {
            device: Some(key.clone()),
            recency: self.heard,
            ..DeviceAccount::default()
        };
        let index = if self.by_device.len() < self.limits.devices_max {
            self.accounts.push(account);
            self.accounts.len() - 1
        } else {
            let Some(index) = self.evict_oldest() else { return OTHERS_INDEX };
            self.accounts[index] = account;
            index
        };
        self.by_device.insert(key, index);
        self.by_recency.insert(self.heard, index);
        index
    }

    /// Removes the least recently heard account, unless messages of it are in flight. Its counts
    /// go to the common account.
    fn evict_oldest(&mut self) -> Option<usize> {
        /// Accounts with messages in flight are few and were heard just now.
        const TRIES: usize = 16;
        let oldest = self.by_recency.iter().take(TRIES).map(|(recency, index)| (*recency, *index));
        let found = oldest.into_iter().find(|(_, index)| self.accounts[*index].in_flight == 0);
        let (recency, index) = found?;
        self.by_recency.remove(&recency);
        self.with_messages.remove(&recency);
        let account = std::mem::take(&mut self.accounts[index]);
        self.remembered -= account.remembered;
        if let Some(device) = &account.device {
            self.by_device.remove(device);
        }
        let others = &mut self.accounts[OTHERS_INDEX];
        others.received += account.received;
        others.dropped += account.dropped;
        others.settled = others.settled.combined_with(account.settled);
        let (gaps, resets) = (account.sequence.gap_count(), account.sequence.resets);
        others.sequence.restore_counts(gaps, resets);
        self.evicted += 1;
        Some(index)
    }

    /// Number of messages of one topic that are remembered: fewer with more devices.
    fn history_window(&self) -> usize {
        let share = self.limits.messages_max / self.with_messages.len().max(1);
        share.max(WINDOW_MIN).min(self.limits.window)
    }

    fn count_remembered(&mut self, index: usize) {
        let account = &mut self.accounts[index];
        let remembered = account.sequence.remembered_count();
        self.remembered = self.remembered + remembered - account.remembered;
        account.remembered = remembered;
        self.with_messages.insert(account.recency, index);
    }

    /// Forgets the messages of the least recently heard devices, while there are too many.
    fn forget_messages(&mut self) {
        while self.remembered > 2 * self.limits.messages_max && self.with_messages.len() > 1 {
            let Some((_, index)) = self.with_messages.pop_first() else { return };
            let account = &mut self.accounts[index];
            account.sequence.forget_messages();
            self.remembered -= std::mem::take(&mut account.remembered);
        }
    }
}

impl DeviceAccount {
    fn ledger_line(&self) -> Option<LedgerLine> {
        if self.received == 0 {
            return None;
        }
        let ReadingTally { logged, dead_lettered, duplicates } = self.settled;
        let accounted = self.settled.reading_count() + self.dropped + self.in_flight;
        let counts = LedgerCounts {
            received: self.received,
            logged,
            dead_lettered,
            duplicates,
            dropped: self.dropped,
            in_flight: self.in_flight,
            unaccounted: self.received.wrapping_sub(accounted).cast_signed(),
            sequence_gaps: self.sequence.gap_count(),
            resets: self.sequence.resets,
        };
        let (zone, device) = self.device.clone().unzip();
        Some(LedgerLine { zone, device, counts, clock_offset_ms: self.clock.estimate_ms() })
    }

    fn to_record(&self) -> AccountRecord {
        let ReadingTally { logged, dead_lettered, duplicates } = self.settled;
        let (zone, device) = self.device.clone().unzip();
        AccountRecord {
            zone,
            device,
            logged,
            dead_lettered,
            duplicates,
            dropped: self.dropped,
            sequence_gaps: self.sequence.gap_count(),
            resets: self.sequence.resets,
        }
    }
}

impl ReadingTally {
    fn combined_with(self, other: Self) -> Self {
        Self {
            logged: self.logged + other.logged,
            dead_lettered: self.dead_lettered + other.dead_lettered,
            duplicates: self.duplicates + other.duplicates,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use telemetry::{MetricTable, payload};

    use super::*;
    use crate::message_decoder::MessageDecoder;

    /// Receives a numbered message of a device.
    fn receive_numbered(
        accounts: &mut DeviceAccounts,
        device: u64,
        number: u64,
    ) -> (AccountId, u64) {
        let decoder =
            MessageDecoder::new(MetricTable::default(), payload::PayloadLimits::default());
        let message = InboundMessage {
            topic: format!("sensors/farm/bay-1/probe-{device}").into(),
            payload: format!(r#"{{"temperature": 1, "boot": "a", "seq": {number}}}"#).into(),
            is_retained: false,
            is_redelivery: false,
            received_ms: 1_700_000_000_000 + number as i64,
        };
        let decoded = decoder.decode_message(&message);
        let (account, _) = accounts.count_received(&decoded, &message);
        (account, decoded.reading_count())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_kept_is_bounded_and_no_reading_is_lost_of(
            heard in proptest::collection::vec((0_u64..60, 0_usize..4), 1..400),
        ) {
            let limits = AccountLimits { devices_max: 8, window: 32, messages_max: 128 };
            let mut accounts = DeviceAccounts::new(limits);
            let mut open = std::collections::VecDeque::new();
            let mut received = 0;
            for (number, (device, open_max)) in (0_u64..).zip(heard) {
                let (account, readings) = receive_numbered(&mut accounts, device, number);
                received += readings;
                open.push_back(account);
                while open.len() > open_max {
                    let account = open.pop_front().unwrap();
                    accounts.settle_readings(account, ReadingTally { logged: 1, ..ReadingTally::default() });
                }
                prop_assert!(accounts.by_device.len() <= limits.devices_max);
                prop_assert!(accounts.accounts.len() <= limits.devices_max + 1);
                prop_assert!(accounts.remembered <= 2 * limits.messages_max + limits.window);
                let remembered = accounts.accounts.iter().map(|account| account.sequence.remembered_count());
                prop_assert_eq!(accounts.remembered, remembered.sum::<usize>());
                prop_assert_eq!(accounts.by_recency.len(), accounts.by_device.len());
            }
            let lines = accounts.ledger_lines();
            prop_assert_eq!(lines.iter().map(|line| line.counts.received).sum::<u64>(), received);
            prop_assert!(lines.iter().all(|line| line.counts.unaccounted == 0));
        }
    }

    #[test]
    fn accounts_are_restored_as_they_were() {
        let mut accounts =
            DeviceAccounts::new(AccountLimits { devices_max: 3, ..AccountLimits::default() });
        for (device, number) in [(1, 0), (2, 0), (3, 5), (4, 0), (1, 9), (4, 7)] {
            let (account, readings) = receive_numbered(&mut accounts, device, number);
            accounts.settle_readings(
                account,
                ReadingTally { logged: readings, ..ReadingTally::default() },
            );
        }
        let mut restored =
            DeviceAccounts::new(AccountLimits { devices_max: 3, ..AccountLimits::default() });
        restored.restore_accounts(accounts.account_records(), accounts.evicted_count());
        let known = |accounts: &DeviceAccounts| -> Vec<LedgerLine> {
            let lines = accounts.ledger_lines().into_iter();
            lines.map(|line| LedgerLine { clock_offset_ms: None, ..line }).collect()
        };
        assert_eq!(known(&restored), known(&accounts));
        // The least recently heard account is evicted first, as before.
        for accounts in [&mut accounts, &mut restored] {
            let (account, _) = receive_numbered(accounts, 9, 0);
            accounts
                .settle_readings(account, ReadingTally { logged: 1, ..ReadingTally::default() });
        }
        assert_eq!(known(&restored), known(&accounts));
    }
}
