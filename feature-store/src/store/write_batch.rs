use std::sync::Arc;

use eventlog::PartitionOffsets;
use telemetry::{QualityFlag, SmolStr, ZoneId};

use super::{
    columns::{ReadingColumns, RecordColumns, ms_to_micros},
    name_dictionary::{NameDictionary, NewNameEntries},
};
use crate::{
    engine::{FeatureRow, ZoneProgress, catalog::FeatureRowSchema},
    kpi,
    log_record::ParsedRecord,
    watch,
};

/// Contents of one transaction.
#[derive(Debug, Default)]
pub(crate) struct WriteBatch {
    pub(super) records: RecordColumns,
    pub(super) readings: ReadingColumns,
    /// Rows that became final or were recomputed.
    pub(crate) rows: Vec<FeatureRow>,
    /// Next offsets of the partitions that records came from.
    pub(crate) positions: PartitionOffsets,
    /// Progress and partition of the zones that changed.
    pub(crate) progress: Vec<(ZoneId, i32, ZoneProgress)>,
    /// Metrics in the order of their columns.
    pub(crate) metrics: Vec<SmolStr>,
    /// Feature columns after this batch.
    pub(crate) schema: Option<Arc<FeatureRowSchema>>,
    pub(super) names: NewNameEntries,
    /// Hours whose KPIs do not include its readings yet.
    pub(super) touched: kpi::DirtyHours,
    /// The file of the watched folder that all of it came from.
    pub(crate) watched: Option<watch::WatchedFile>,
    /// Zones to be set back after it, each with the time, UTC ms, after which its readings are in
    /// the future.
    pub(crate) set_back: Vec<(ZoneId, i64)>,
    pub(crate) tally: CommitTally,
    payload_bytes: usize,
}

/// Totals of commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommitTally {
    /// Readings by quality, in the order of [`QualityFlag::ALL`].
    pub(crate) by_quality: [u64; QualityFlag::ALL.len()],
    /// Records without readings.
    pub(crate) rejects: u64,
    /// Feature rows; each revision counts.
    pub(crate) rows: u64,
    /// Feature rows that were recomputed.
    pub(crate) corrections: u64,
    /// Number of transactions.
    pub(crate) commits: u64,
}

impl WriteBatch {
    /// Adds one record, with a quality flag for each of its readings.
    pub(crate) fn add_record(
        &mut self,
        arrived: &ParsedRecord,
        qualities: &[QualityFlag],
        names: &mut NameDictionary,
    ) {
        let ParsedRecord { entry, report } = arrived;
        self.positions.insert(entry.partition, entry.offset + 1);
        self.payload_bytes += entry.record.payload.len();
        let arrival_ms =
            report.as_ref().map_or(entry.record.timestamp_ms, |report| report.arrival_ms);
        let records = &mut self.records;
        records.partition.push(entry.partition);
        records.offset.push(entry.offset);
        records.key.append_value(&entry.record.key);
        records.arrival.push(ms_to_micros(arrival_ms));
        records.payload.append_value(&entry.record.payload);
        records.reject.append_option(report.as_ref().err());
        let Ok(report) = report else {
            self.tally.rejects += 1;
            return;
        };
        let mut numbers = names.device_interner(entry.partition, &report.zone, &report.device);
        let boot = report.boot.as_ref().map(|boot| numbers.intern_boot(boot));
        let readings = &mut self.readings;
        for (item, (reading, quality)) in (0..).zip(report.readings.iter().zip(qualities)) {
            readings.partition.push(entry.partition);
            readings.offset.push(entry.offset);
            readings.item.push(item);
            readings.series.push(numbers.intern_series(&reading.metric));
            readings.boot.append_option(boot);
            readings.seq.append_option(report.seq);
            readings.source.push(report.source as u8);
            readings.event.push(ms_to_micros(reading.event_ms));
            readings.arrival.push(ms_to_micros(report.arrival_ms));
            readings.value.push(reading.value);
            readings.quality.push(*quality as u8);
            self.tally.by_quality[*quality as usize] += 1;
            self.touched.note_reading(&report.zone, reading.event_ms);
        }
    }

    /// Returns whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
            && self.rows.is_empty()
            && self.watched.is_none()
            && self.set_back.is_empty()
    }

    /// Returns the numbers of log records, readings and payload bytes.
    pub(crate) fn size(&self) -> (usize, usize, usize) {
        (self.records.offset.len(), self.readings.offset.len(), self.payload_bytes)
    }

    /// Completes the batch with the new names of its readings, and counts its rows.
    pub(crate) fn complete_batch(&mut self, names: &mut NameDictionary) {
        self.names = names.take_new_names();
        self.tally.rows = self.rows.len() as u64;
        self.tally.corrections = self.rows.iter().filter(|row| row.revision > 0).count() as u64;
        self.tally.commits = 1;
    }
}

impl CommitTally {
    /// Iterates over names and counts, as in `meta.counters`.
    pub(super) fn iter_named(&self) -> impl Iterator<Item = (String, u64)> {
        let qualities = QualityFlag::ALL.iter().zip(self.by_quality);
        let others = [
            ("rejects", self.rejects),
            ("rows", self.rows),
            ("corrections", self.corrections),
            ("commits", self.commits),
        ];
        qualities
            .map(|(quality, count)| (format!("readings_{}", quality.as_str()), count))
            .chain(others.map(|(name, count)| (name.to_owned(), count)))
    }

    /// Returns the counter with this name.
    pub(super) fn counter_mut(&mut self, name: &str) -> Option<&mut u64> {
        if let Some(quality) = name.strip_prefix("readings_") {
            let at = QualityFlag::ALL.iter().position(|known| known.as_str() == quality)?;
            return Some(&mut self.by_quality[at]);
        }
        match name {
            "rejects" => Some(&mut self.rejects),
            "rows" => Some(&mut self.rows),
            "corrections" => Some(&mut self.corrections),
            "commits" => Some(&mut self.commits),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_found_by_its_name() {
        let tally = CommitTally {
            by_quality: [1, 2, 3, 4, 5, 6, 7, 8],
            rejects: 9,
            rows: 10,
            corrections: 11,
            commits: 12,
        };
        let mut read = CommitTally::default();
        for (name, count) in tally.iter_named() {
            *read.counter_mut(&name).unwrap() = count;
        }
        assert_eq!(read, tally);
        assert_eq!(read.counter_mut("readings_of_tea_leaves"), None);
    }
}
