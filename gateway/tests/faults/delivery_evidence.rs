//! Compares the acknowledged messages with the log.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Result, ensure};
use eventlog::{EventLog, EventLogConfig, PartitionOffsets, StoredRecord};
use telemetry::{SensorReport, topic};

use super::{
    TEST_TIMEOUT,
    fault_bench::run_blocking,
    fleet_traffic::{MessageKey, key_of, key_of_report},
    result_table::ResultRow,
};

/// The messages of one site in the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogContents {
    /// The logged numbers by device, in the order of the log.
    pub(crate) logged: BTreeMap<String, Vec<u64>>,
    pub(crate) reports: Vec<SensorReport>,
    /// Topic, payload and reason.
    pub(crate) letters: Vec<(String, Vec<u8>, String)>,
}

/// Reads everything of `site` in the log.
///
/// # Errors
/// Returns an error if the log cannot be read or has an invalid report.
pub(crate) async fn read_site(settings: &EventLogConfig, site: &str) -> Result<LogContents> {
    let (log, mut found) = (EventLog::open(settings)?, LogContents::default());
    for entry in read_topic(&log, topic::READINGS).await? {
        let zone = entry.record.key.split_once('/');
        if zone.is_none_or(|(zone_site, _)| zone_site != site) {
            continue;
        }
        let report = SensorReport::from_json(&entry.record.payload)?;
        if let Some(MessageKey { device, serial }) = key_of_report(&report) {
            found.logged.entry(device).or_default().push(serial);
        }
        found.reports.push(report);
    }
    for entry in read_topic(&log, topic::DEAD_LETTERS).await? {
        let header = |name| {
            String::from_utf8_lossy(entry.record.header_value(name).unwrap_or_default())
                .into_owned()
        };
        if header("topic").split('/').any(|level| level == site) {
            let payload = entry.record.payload.to_vec();
            found.letters.push((header("topic"), payload, header("reason")));
        }
    }
    Ok(found)
}

/// Reads all current records of a topic. Others may be writing to it, so each partition is read
/// to its present end.
async fn read_topic(log: &EventLog, topic: &'static str) -> Result<Vec<StoredRecord>> {
    let opened = run_blocking({
        let log = log.clone();
        move || {
            Ok::<_, anyhow::Error>((
                log.offset_bounds(topic)?,
                log.open_reader(topic, &PartitionOffsets::new())?,
            ))
        }
    });
    let (mut left, mut reader) = opened.await?;
    left.retain(|_, offsets| !offsets.is_empty());
    let mut entries = Vec::new();
    while !left.is_empty() {
        let batch = reader.next_batch(10_000, TEST_TIMEOUT).await?;
        ensure!(!batch.is_empty(), "{topic}: {} records, and not yet {left:?}", entries.len());
        for entry in &batch {
            if left.get(&entry.partition).is_some_and(|offsets| entry.offset + 1 >= offsets.end) {
                left.remove(&entry.partition);
            }
        }
        entries.extend(batch);
    }
    Ok(entries)
}

/// The acknowledged messages and the logged ones.
#[derive(Debug)]
pub(crate) struct DeliveryEvidence {
    /// The acknowledged messages.
    pub(crate) owed: Vec<MessageKey>,
    pub(crate) found: LogContents,
    pub(crate) is_ordered: bool,
}

impl DeliveryEvidence {
    /// Returns the counts. Violations are added to `problems`.
    pub(crate) fn result_row(&self, problems: &mut Vec<String>) -> ResultRow {
        let Self { owed, found, is_ordered } = self;
        let (mut distinct, mut duplicates) = (HashSet::new(), 0);
        for (device, serials) in &found.logged {
            let mut top = None;
            for &serial in serials {
                if !distinct.insert(MessageKey { device: device.clone(), serial }) {
                    duplicates += 1;
                } else if *is_ordered && top.is_some_and(|top| serial < top) {
                    problems.push(format!("{device}: {serial} is logged after {top:?}"));
                } else {
                    top = Some(serial);
                }
            }
        }
        let letters = found.letters.iter().filter_map(|(topic, payload, _)| key_of(topic, payload));
        let letters: HashSet<MessageKey> = letters.collect();
        let missing = owed.iter().filter(|key| !distinct.contains(key) && !letters.contains(key));
        let missing: HashSet<&MessageKey> = missing.collect();
        for MessageKey { device, serial } in missing.iter().take(5) {
            problems.push(format!("{device}: {serial} was acknowledged and is lost"));
        }
        ResultRow {
            logged: distinct.len() as u64,
            dead_lettered: found.letters.len() as u64,
            duplicates,
            lost: missing.len() as u64,
            ..ResultRow::default()
        }
    }
}
