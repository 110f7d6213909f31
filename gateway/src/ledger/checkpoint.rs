use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use eventlog::{EventLog, LogError, PartitionOffsets};
use serde::{Deserialize, Serialize};
use telemetry::{SensorReport, topic};
use tracing::{info, warn};

use super::{Ledger, ReadingTally, accounts::AccountRecord, kafka_comparison::KafkaComparison};
use crate::{
    blocking::run_blocking,
    log_records::{self, DeadLetterRecord},
};

/// The file name, in the folder of the log or of the spool.
const FILE: &str = "ledger.json";
/// Largest number of records that are counted from the log after a crash: those of some seconds.
const RECOUNTED_MAX: usize = 1_000_000;

/// The counts on disk.
#[derive(Debug, Serialize, Deserialize)]
struct LedgerCheckpoint {
    version: u32,
    since_ms: i64,
    messages: u64,
    lost_sessions: u64,
    evicted_devices: u64,
    /// The next uncounted record of each topic of the embedded log.
    counted_offsets: Vec<(String, i64)>,
    kafka: KafkaComparison,
    accounts: Vec<AccountRecord>,
}

const VERSION: u32 = 1;

/// Stores a ledger beside the log.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    path: Option<PathBuf>,
    /// The text that was written last.
    written: String,
    is_failing: bool,
}

impl LedgerFile {
    /// Restores the counts of an earlier process, if there are any. Without a folder the counts
    /// are those of this process alone.
    pub(crate) fn open(dir: Option<&Path>, ledger: &Ledger) -> Self {
        let path = dir.map(|dir| dir.join(FILE));
        let mut written = String::new();
        match path.as_ref().map(fs::read_to_string) {
            Some(Ok(text)) => match serde_json::from_str::<LedgerCheckpoint>(&text) {
                Ok(checkpoint) if checkpoint.version == VERSION => {
                    ledger.restore_checkpoint(checkpoint);
                    written = text;
                }
                found => {
                    let cause = match found {
                        Ok(checkpoint) => format!("version {}", checkpoint.version),
                        Err(error) => error.to_string(),
                    };
                    warn!(
                        path = path.as_ref().map(|path| path.display().to_string()),
                        cause, "the ledger counts from 0: its file is not one of this version"
                    );
                }
            },
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                warn!(%error, "the ledger counts from 0: its file cannot be read");
            }
            _ => {}
        }
        Self { path, written, is_failing: false }
    }

    /// Writes the counts if they have changed. Blocks for a moment.
    pub(crate) fn write_if_changed(&mut self, ledger: &Ledger) {
        let Some(path) = &self.path else { return };
        let text = serde_json::to_string(&ledger.to_checkpoint()).expect("counts are JSON");
        if text == self.written {
            return;
        }
        let new = path.with_extension("new");
        let write = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&new, &text)?;
            fs::rename(&new, path)
        };
        match write() {
            Ok(()) => (self.written, self.is_failing) = (text, false),
            Err(error) if !std::mem::replace(&mut self.is_failing, true) => {
                warn!(path = %path.display(), %error, "cannot store the ledger for now");
            }
            Err(_) => {}
        }
    }
}

impl Ledger {
    fn to_checkpoint(&self) -> LedgerCheckpoint {
        let state = self.lock_state();
        let offsets = state.counted_offsets.iter();
        LedgerCheckpoint {
            version: VERSION,
            since_ms: state.since_ms,
            messages: state.messages,
            lost_sessions: state.lost_sessions,
            evicted_devices: state.accounts.evicted_count(),
            counted_offsets: offsets.map(|(topic, at)| ((*topic).to_owned(), *at)).collect(),
            kafka: state.kafka.clone(),
            accounts: state.accounts.account_records(),
        }
    }

    fn restore_checkpoint(&self, checkpoint: LedgerCheckpoint) {
        let mut state = self.lock_state();
        state.since_ms = checkpoint.since_ms;
        state.messages = checkpoint.messages;
        state.lost_sessions = checkpoint.lost_sessions;
        state.kafka = checkpoint.kafka;
        state.accounts.restore_accounts(checkpoint.accounts, checkpoint.evicted_devices);
        for topic in [topic::READINGS, topic::DEAD_LETTERS] {
            let known = checkpoint.counted_offsets.iter().find(|(known, _)| known == topic);
            state.counted_offsets.extend(known.map(|(_, offset)| (topic, *offset)));
        }
    }

    /// Counts the records of the embedded log that this ledger does not contain. They were
    /// written before a crash and after the counts were last stored. A log that is older than
    /// this ledger is not counted.
    ///
    /// # Errors
    /// Returns an error if the log cannot be read.
    pub(crate) async fn recount_from_log(&self, log: &EventLog) -> Result<(), LogError> {
        for topic in [topic::READINGS, topic::DEAD_LETTERS] {
            let end = log.offset_bounds(topic)?.get(&0).map_or(0, |available| available.end);
            let known = self
                .lock_state()
                .counted_offsets
                .iter()
                .find(|(known, _)| *known == topic)
                .copied();
            let Some((_, from)) = known.filter(|(_, from)| *from < end) else {
                self.lock_state().set_counted(topic, end);
                continue;
            };
            let mut reader = {
                let log = log.clone();
                let from = PartitionOffsets::from([(0, from)]);
                match run_blocking(move || log.open_reader(topic, &from)).await {
                    // Retention has removed these records.
                    Err(LogError::OutOfRange { .. }) => {
                        self.lock_state().set_counted(topic, end);
                        continue;
                    }
                    opened => opened?,
                }
            };
            let mut next = from;
            while next < end && next - from < RECOUNTED_MAX as i64 {
                let batch = reader.next_batch(10_000, Duration::from_secs(1)).await?;
                let Some(last) = batch.last() else { break };
                next = last.offset + 1;
                for entry in batch.iter().filter(|entry| entry.offset < end) {
                    self.count_record(topic, &entry.record);
                }
            }
            info!(
                topic,
                records = next - from,
                "counted records from the log, because the last process was killed"
            );
            self.lock_state().set_counted(topic, end);
        }
        Ok(())
    }

    fn count_record(&self, topic: &str, record: &eventlog::Record) {
        let mut state = self.lock_state();
        if topic == topic::READINGS {
            let Ok(report) = SensorReport::from_json(&record.payload) else { return };
            let tally =
                ReadingTally { logged: report.readings.len() as u64, ..ReadingTally::default() };
            state.accounts.add_settled(Some((&report.zone, &report.device)), tally);
        } else if let Some(DeadLetterRecord::Dead(letter)) = DeadLetterRecord::from_record(record) {
            let address = telemetry::DeviceAddress::parse(&letter.topic).ok();
            let device = address.as_ref().map(|address| (&address.zone, &address.device));
            let tally = ReadingTally {
                dead_lettered: log_records::dead_letter_readings(record),
                ..ReadingTally::default()
            };
            state.accounts.add_settled(device, tally);
        }
        state.messages += 1;
    }
}
