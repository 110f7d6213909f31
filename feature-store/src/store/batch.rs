use std::sync::Arc;

use eventlog::Positions;
use telemetry::{Quality, SmolStr, ZoneId};

use super::{
    columns::{Readings, Records, micros},
    names::{Names, NewNames},
};
use crate::{
    engine::{Progress, Row, catalog::Schema},
    intake::Arrived,
    kpi, watch,
};

/// Everything that one transaction holds.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(super) records: Records,
    pub(super) readings: Readings,
    /// Rows that became final.
    pub(crate) rows: Vec<Row>,
    /// Where to read on in the partitions that records came from.
    pub(crate) positions: Positions,
    /// How far the zones have come that changed, and the partition of each.
    pub(crate) progress: Vec<(ZoneId, i32, Progress)>,
    /// Metrics in the order of their columns.
    pub(crate) metrics: Vec<SmolStr>,
    /// The columns of features after this batch.
    pub(crate) schema: Option<Arc<Schema>>,
    pub(super) names: NewNames,
    /// Hours whose KPIs do not know of its readings.
    pub(super) touched: kpi::Touched,
    /// The file of the watched folder that all of it came from.
    pub(crate) watched: Option<watch::File>,
    /// Zones that are set back after it, with the time from which on their readings are of the
    /// future.
    pub(crate) set_back: Vec<(ZoneId, i64)>,
    pub(crate) tally: Tally,
    payload_bytes: usize,
}

/// How many there are of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// In the order of [`Quality::ALL`].
    pub(crate) by_quality: [u64; Quality::ALL.len()],
    /// Records without readings.
    pub(crate) rejects: u64,
    /// Feature rows, each revision counted.
    pub(crate) rows: u64,
    /// Feature rows that were made anew.
    pub(crate) corrections: u64,
    /// Transactions.
    pub(crate) commits: u64,
}

impl Batch {
    /// Takes one record, with a quality for each of its readings.
    pub(crate) fn take(&mut self, arrived: &Arrived, qualities: &[Quality], names: &mut Names) {
        let Arrived { entry, report } = arrived;
        self.positions.insert(entry.partition, entry.offset + 1);
        self.payload_bytes += entry.record.payload.len();
        let arrival_ms =
            report.as_ref().map_or(entry.record.timestamp_ms, |report| report.arrival_ms);
        let records = &mut self.records;
        records.partition.push(entry.partition);
        records.offset.push(entry.offset);
        records.key.append_value(&entry.record.key);
        records.arrival.push(micros(arrival_ms));
        records.payload.append_value(&entry.record.payload);
        records.reject.append_option(report.as_ref().err());
        let Ok(report) = report else {
            self.tally.rejects += 1;
            return;
        };
        let mut numbers = names.of(entry.partition, &report.zone, &report.device);
        let boot = report.boot.as_ref().map(|boot| numbers.boot(boot));
        let readings = &mut self.readings;
        for (item, (reading, quality)) in (0..).zip(report.readings.iter().zip(qualities)) {
            readings.partition.push(entry.partition);
            readings.offset.push(entry.offset);
            readings.item.push(item);
            readings.series.push(numbers.series(&reading.metric));
            readings.boot.append_option(boot);
            readings.seq.append_option(report.seq);
            readings.source.push(report.source as u8);
            readings.event.push(micros(reading.event_ms));
            readings.arrival.push(micros(report.arrival_ms));
            readings.value.push(reading.value);
            readings.quality.push(*quality as u8);
            self.tally.by_quality[*quality as usize] += 1;
            self.touched.note(&report.zone, reading.event_ms);
        }
    }

    /// Whether there is nothing to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
            && self.rows.is_empty()
            && self.watched.is_none()
            && self.set_back.is_empty()
    }

    /// Log records, readings and bytes of payload.
    pub(crate) fn size(&self) -> (usize, usize, usize) {
        (self.records.offset.len(), self.readings.offset.len(), self.payload_bytes)
    }

    /// Completes the batch with the names that its readings brought, and
    /// counts its rows.
    pub(crate) fn seal(&mut self, names: &mut Names) {
        self.names = names.take_new();
        self.tally.rows = self.rows.len() as u64;
        self.tally.corrections = self.rows.iter().filter(|row| row.revision > 0).count() as u64;
        self.tally.commits = 1;
    }
}

impl Tally {
    /// Names and numbers, as `meta.counters` has them.
    pub(super) fn named(&self) -> impl Iterator<Item = (String, u64)> {
        let of_quality = Quality::ALL.iter().zip(self.by_quality);
        let others = [
            ("rejects", self.rejects),
            ("rows", self.rows),
            ("corrections", self.corrections),
            ("commits", self.commits),
        ];
        of_quality
            .map(|(quality, count)| (format!("readings_{}", quality.as_str()), count))
            .chain(others.map(|(name, count)| (name.to_owned(), count)))
    }

    /// The number of that name.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut u64> {
        if let Some(quality) = name.strip_prefix("readings_") {
            let at = Quality::ALL.iter().position(|known| known.as_str() == quality)?;
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
        let tally = Tally {
            by_quality: [1, 2, 3, 4, 5, 6, 7, 8],
            rejects: 9,
            rows: 10,
            corrections: 11,
            commits: 12,
        };
        let mut read = Tally::default();
        for (name, count) in tally.named() {
            *read.get_mut(&name).unwrap() = count;
        }
        assert_eq!(read, tally);
        assert_eq!(read.get_mut("readings_of_tea_leaves"), None);
    }
}
