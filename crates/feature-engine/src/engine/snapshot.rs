use std::collections::{BTreeMap, BTreeSet, HashSet};

use agronomy::drying::DryingSettings;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use telemetry::{MetricSpec, SmolStr, ZoneId};

use super::{
    HOUR_MS,
    device_clock::DeviceClock,
    engine::FeatureEngine,
    metric_state::{MetricSlot, MetricState},
    pending_readings::PendingReading,
    progress::ZoneProgress,
    sequence::SequenceFilter,
    series::MetricSeries,
    snapshot_format::{
        SnapshotError, SnapshotPart, frame_part, pack_readings, read_checksum, unframe_part,
        unpack_readings,
    },
    sorted_readings::{EVENT_MS_MAX, PackedReading},
    zone::{EngineRules, ZoneActivity, ZoneState},
};
use crate::settings::EngineSettings;

/// Changes of a zone since its last incremental snapshot: see
/// [`FeatureEngine::snapshot_changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChanges {
    /// Everything but the readings of hours, and the list of the hours. Replaces the head before.
    pub head: Vec<u8>,
    /// Hours of readings to write, by the number of the hour.
    pub written_hours: BTreeMap<i64, Vec<u8>>,
    /// Hours to delete.
    pub removed_hours: BTreeSet<i64>,
}

/// State of a zone without the readings of its hours.
#[derive(Debug, Serialize, Deserialize)]
struct SnapshotHead {
    definitions: SmolStr,
    settings: SmolStr,
    metrics: SmolStr,
    zone: ZoneId,
    /// Metrics of the engine in the order of their columns.
    columns: Vec<SmolStr>,
    devices: Vec<SmolStr>,
    slots: Vec<SlotHead>,
    pending: Vec<PendingReading>,
    /// As JSON, the form in which the feature store keeps it.
    progress: String,
    activity: ZoneActivity,
    clocks: Vec<DeviceClock>,
    forgotten_ms: i64,
    reading_count: u64,
    /// The hours that have readings, each with the checksum of its part.
    hours: Vec<(i64, u32)>,
}

/// One metric of a zone, without its readings.
#[derive(Debug, Serialize, Deserialize)]
struct SlotHead {
    metric: SmolStr,
    sequences: Vec<SequenceFilter>,
    /// Whether the metric has had a valid reading.
    has_state: bool,
}

/// Readings of one hour.
#[derive(Debug, Serialize, Deserialize)]
struct HourReadings<'a> {
    hour: i64,
    #[serde(borrow)]
    series: Vec<SeriesReadings<'a>>,
}

/// Readings of one hour of one metric, or of a metric derived from it.
#[derive(Debug, Serialize, Deserialize)]
struct SeriesReadings<'a> {
    slot: u32,
    /// 0 for the metric itself, n for its nth derived metric.
    number: u32,
    packed: &'a [u8],
}

/// The settings by which rows are computed. Those of files, memory and single devices' clocks are
/// not among them: they have done their part before a reading reaches the engine.
#[derive(Serialize)]
struct RowSettings<'a> {
    grid_s: u32,
    lateness_s: u32,
    late_max_s: u32,
    future_max_s: u32,
    silence_max_s: u32,
    interval_s: u32,
    hold_max_s: u32,
    time_zone: &'a str,
    place: &'a [f64],
    drying: &'a DryingSettings,
}

impl FeatureEngine {
    /// Takes a snapshot of a zone: all of its state, so that an engine that restores it emits the
    /// same rows, bit for bit, as this one. Returns `None` for a zone that is not in memory.
    ///
    /// The snapshot has its format version, the hash of the definitions, that of the settings by
    /// which rows are computed, that of the zone's metrics, and checksums. It holds for the
    /// position in the log at which it was taken. **The caller persists with it, in one
    /// transaction or by one atomic rename:**
    /// - the position in the log (partition and offset) of the next report of the zone, which is
    ///   the first one to ingest after the restoration;
    /// - the rows that were emitted up to there, or a note that they were handed on. A snapshot
    ///   has no rows, and rows of before are not emitted again. Take it after
    ///   [`EngineOutput::rows`](super::EngineOutput::rows) were written, and not within an
    ///   [`IngestBatch`](super::IngestBatch);
    /// - the definitions and settings themselves, as the snapshot has only their hashes.
    ///
    /// Not in it are results of SQL that were prefetched but not used, and which zone was used
    /// last ([`FeatureEngine::evict_zones`]). A recorded room with five sensors, a reading
    /// every five seconds, has 6.3 bytes a reading. The time is linear in the readings.
    ///
    /// ```
    /// use microclimate_feature_engine::{EngineSettings, FeatureDefinitions, FeatureEngine, SqlExpressions};
    /// use telemetry::MetricTable;
    ///
    /// let new_engine = || {
    ///     let (settings, sql) = (EngineSettings::default(), SqlExpressions::default());
    ///     let definitions = FeatureDefinitions::built_in();
    ///     FeatureEngine::new(&settings, definitions, MetricTable::default(), &[], sql).unwrap()
    /// };
    /// let zone = "farm/bay-1".parse().unwrap();
    /// let ingest = |engine: &mut FeatureEngine, minutes: std::ops::Range<i64>| {
    ///     let mut feed = engine.open_feed(&zone, 1_764_500_000_000);
    ///     let (device, metric) =
    ///         (feed.device_number(&"probe".into()), feed.metric_number(&"temperature".into()));
    ///     for minute in minutes {
    ///         feed.ingest_reading(device, metric, minute * 60_000, 20.0 + 0.1 * minute as f64);
    ///     }
    ///     feed.take_rows().len()
    /// };
    /// let mut before = new_engine();
    /// ingest(&mut before, 0..90);
    /// let bytes = before.snapshot(&zone).unwrap();
    ///
    /// let mut after = new_engine();
    /// assert_eq!(after.restore(&bytes).unwrap(), zone);
    /// assert_eq!(ingest(&mut after, 90..100), ingest(&mut before, 90..100));
    /// assert!(new_engine().restore(&bytes[..100]).is_err());
    /// ```
    #[must_use]
    pub fn snapshot(&self, zone: &ZoneId) -> Option<Vec<u8>> {
        let state = self.zone_state(zone)?;
        let hours: BTreeMap<i64, Vec<u8>> =
            state.hours().into_iter().map(|hour| (hour, state.pack_hour(hour))).collect();
        let checksums = hours.iter().map(|(hour, part)| (*hour, read_checksum(part))).collect();
        let head = self.write_head(state, checksums);
        let parts: Vec<&[u8]> =
            std::iter::once(&head).chain(hours.values()).map(Vec::as_slice).collect();
        Some(frame_part(SnapshotPart::Whole, &encode(&parts)))
    }

    /// Restores a zone from [`FeatureEngine::snapshot`], replaces the zone if it is in memory, and
    /// returns its name. The metrics that the snapshot's engine had columns for get columns here
    /// too, in the same order after those that this engine has: with equal columns at the start,
    /// rows have equal columns. The zone's newest row counts as changed
    /// ([`FeatureEngine::take_changed_rows`]), so that it is published again.
    ///
    /// What a length in the bytes claims is never allocated before the bytes are there.
    ///
    /// # Errors
    /// The snapshot is of another version, of other definitions, settings or metrics, cut off, or
    /// damaged. The engine is then as before, and the zone must be replayed.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<ZoneId, SnapshotError> {
        let parts: Vec<&[u8]> = decode(unframe_part(SnapshotPart::Whole, bytes)?)?;
        let (head, hours) = parts.split_first().ok_or(SnapshotError::Invalid("no head"))?;
        let head = self.read_head(head)?;
        if head.hours.len() != hours.len() {
            return Err(SnapshotError::Invalid("another number of hours than its head has"));
        }
        let listed = head.hours.iter().map(|(hour, _)| *hour);
        let hours = listed.zip(hours.iter().copied()).collect();
        self.restore_state(head, &hours, false)
    }

    /// Takes an incremental snapshot: the head, and the hours whose readings have changed since
    /// the call before. The first call of a zone, or after [`FeatureEngine::restore`], returns all
    /// hours; after [`FeatureEngine::restore_parts`] those that have changed. For hosts that keep
    /// state in a store of keys and values and commit often: a late reading rewrites its hour, a
    /// punctual one the newest. Returns `None` for a zone that is not in memory.
    ///
    /// The caller persists what [`FeatureEngine::snapshot`] says, and either all of these changes
    /// or none: if they could not be written, the zone must be restored from what was.
    pub fn snapshot_changes(&mut self, zone: &ZoneId) -> Option<SnapshotChanges> {
        let state = self.zone_state(zone)?;
        let mut checksums = BTreeMap::new();
        let mut written_hours = BTreeMap::new();
        for hour in state.hours() {
            if let Some(checksum) = state.stored_hours.get(&hour) {
                checksums.insert(hour, *checksum);
            } else {
                let part = state.pack_hour(hour);
                checksums.insert(hour, read_checksum(&part));
                written_hours.insert(hour, part);
            }
        }
        let head = self.write_head(state, checksums.iter().map(|(h, c)| (*h, *c)).collect());
        let state = self.zone_state_mut(zone)?;
        let hours = checksums.keys().copied().collect();
        let listed: BTreeSet<i64> = std::mem::replace(&mut state.listed_hours, hours);
        let removed_hours = listed.difference(&state.listed_hours).copied().collect();
        state.stored_hours = checksums;
        Some(SnapshotChanges { head, written_hours, removed_hours })
    }

    /// Restores a zone from the newest head of [`FeatureEngine::snapshot_changes`] and the hours
    /// as they were last written, and returns its name. Hours that the head does not list are
    /// ignored. Otherwise like [`FeatureEngine::restore`].
    ///
    /// # Errors
    /// As of [`FeatureEngine::restore`], and if an hour of the head is missing or is not the one
    /// that was written with it.
    pub fn restore_parts(
        &mut self,
        head: &[u8],
        hours: &BTreeMap<i64, &[u8]>,
    ) -> Result<ZoneId, SnapshotError> {
        let head = self.read_head(head)?;
        self.restore_state(head, hours, true)
    }

    fn write_head(&self, state: &ZoneState, hours: Vec<(i64, u32)>) -> Vec<u8> {
        let slots = state.slots.iter().map(|slot| SlotHead {
            metric: slot.metric.clone(),
            sequences: slot.sequences.clone(),
            has_state: slot.state.is_some(),
        });
        let head = SnapshotHead {
            definitions: self.definitions().compute_hash(),
            settings: self.rules().hash_row_settings(&state.id),
            metrics: self.hash_metric_specs(state.slots.iter().map(|slot| &slot.metric)),
            zone: state.id.clone(),
            columns: self.metrics().to_vec(),
            devices: state.devices.clone(),
            slots: slots.collect(),
            pending: state.pending.iter().cloned().collect(),
            progress: serde_json::to_string(&state.progress).expect("progress has a JSON form"),
            activity: state.activity,
            clocks: state.clocks.clone(),
            forgotten_ms: state.forgotten_ms,
            reading_count: state.reading_count,
            hours,
        };
        frame_part(SnapshotPart::Head, &encode(&head))
    }

    /// Reads a head and checks that it fits this engine.
    fn read_head(&self, bytes: &[u8]) -> Result<SnapshotHead, SnapshotError> {
        let head: SnapshotHead = decode(unframe_part(SnapshotPart::Head, bytes)?)?;
        let expected = self.definitions().compute_hash();
        if head.definitions != expected {
            return Err(SnapshotError::OtherDefinitions { found: head.definitions, expected });
        }
        let expected = self.rules().hash_row_settings(&head.zone);
        if head.settings != expected {
            return Err(SnapshotError::OtherSettings { found: head.settings, expected });
        }
        let expected = self.hash_metric_specs(head.slots.iter().map(|slot| &slot.metric));
        if head.metrics != expected {
            return Err(SnapshotError::OtherMetrics { found: head.metrics, expected });
        }
        Ok(head)
    }

    /// SHA-256 over what the metric table has of some metrics and of those derived from them.
    fn hash_metric_specs<'a>(&'a self, metrics: impl Iterator<Item = &'a SmolStr>) -> SmolStr {
        let definitions = self.definitions();
        let with_derived = metrics.flat_map(|metric| {
            let derived = definitions.derived_from(metric).map(|(name, _)| name);
            std::iter::once(metric).chain(derived)
        });
        let table = &self.rules().metrics;
        let specs: Vec<(&SmolStr, Option<[Option<f64>; 3]>)> = with_derived
            .map(|name| {
                let of = |spec: &MetricSpec| [Some(spec.min), Some(spec.max), spec.resolution];
                (name, table.get(name).map(of))
            })
            .collect();
        hash_json(&specs)
    }

    /// Builds a zone from a head that fits and its hours, and only then changes the engine.
    fn restore_state(
        &mut self,
        head: SnapshotHead,
        hours: &BTreeMap<i64, &[u8]>,
        is_incremental: bool,
    ) -> Result<ZoneId, SnapshotError> {
        let mut unpacked = Vec::new();
        for (hour, checksum) in &head.hours {
            let wrong = |problem| SnapshotError::WrongHour {
                zone: head.zone.clone(),
                hour: *hour,
                problem,
            };
            let part =
                hours.get(hour).ok_or_else(|| wrong("missing, expected as its head lists"))?;
            let content = unframe_part(SnapshotPart::Hour, part)?;
            if read_checksum(part) != *checksum {
                return Err(wrong("of another snapshot, expected that of its head"));
            }
            unpacked.push(unpack_hour(*hour, content, &head.slots)?);
        }
        if !unpacked.is_sorted_by(|before, after| before.0 < after.0) {
            return Err(SnapshotError::Invalid("hours out of order"));
        }
        let mut metrics = HashSet::new();
        if !head.slots.iter().all(|slot| metrics.insert(&slot.metric)) {
            return Err(SnapshotError::Invalid("a metric twice"));
        }
        let progress: ZoneProgress = serde_json::from_str(&head.progress)
            .map_err(|_| SnapshotError::Invalid("progress that cannot be read"))?;
        check_pending(&head, self)?;
        let derived = |slot: &SlotHead| self.definitions().derived_from(&slot.metric).count();
        let derived: Vec<usize> = head.slots.iter().map(derived).collect();
        let series = unpacked.iter().flat_map(|(_, series)| series);
        if series.into_iter().any(|(slot, number, _)| *number > derived[*slot]) {
            return Err(SnapshotError::Invalid("readings of a derived metric that does not exist"));
        }

        let mut state = ZoneState::new(head.zone.clone(), progress);
        for device in &head.devices {
            state.device_number(device);
        }
        let (rules, catalog) = self.rules_and_catalog();
        head.columns.iter().for_each(|metric| {
            catalog.add_metric(metric);
        });
        for SlotHead { metric, sequences, has_state } in head.slots {
            let number = state.find_or_add_slot(&metric, rules);
            let slot = &mut state.slots[number];
            slot.sequences = sequences;
            slot.state = has_state.then(|| {
                let block = catalog.add_metric(&metric);
                MetricState::new(block, catalog, rules.hold)
            });
        }
        for (_, series) in &unpacked {
            for (slot, number, readings) in series {
                let series = state.slots[*slot].series_mut(*number);
                series.expect("checked above").insert_sorted(readings);
            }
        }
        head.pending.into_iter().for_each(|reading| state.pending.push(reading));
        state.activity = head.activity;
        state.clocks = head.clocks;
        state.forgotten_ms = head.forgotten_ms;
        state.reading_count = head.reading_count;
        if is_incremental {
            state.listed_hours = head.hours.iter().map(|(hour, _)| *hour).collect();
            state.stored_hours = head.hours.into_iter().collect();
        }
        self.replace_zone(state);
        Ok(head.zone)
    }
}

impl EngineRules {
    /// SHA-256 over the settings by which the rows of a zone are computed.
    fn hash_row_settings(&self, zone: &ZoneId) -> SmolStr {
        // Destructured, so that a new setting must be thought about here too.
        let EngineSettings {
            features: _,
            grid_s,
            lateness_s,
            late_max_s,
            future_max_s,
            silence_max_s,
            zones_max: _,
            interval_s,
            hold_max_s,
            clock_offsets_s: _,
            time_zone,
            place,
            drying: _,
            drying_in: _,
        } = &self.engine;
        hash_json(&RowSettings {
            grid_s: *grid_s,
            lateness_s: *lateness_s,
            late_max_s: *late_max_s,
            future_max_s: *future_max_s,
            silence_max_s: *silence_max_s,
            interval_s: *interval_s,
            hold_max_s: *hold_max_s,
            time_zone,
            place,
            drying: self.engine.drying_settings(zone),
        })
    }
}

impl ZoneState {
    /// Returns the hours that have readings which are not pending.
    fn hours(&self) -> BTreeSet<i64> {
        let states = self.slots.iter().filter_map(|slot| slot.state.as_ref());
        let series = states.flat_map(|state| {
            std::iter::once(&state.series).chain(state.derived.iter().map(|(.., series)| series))
        });
        series.flat_map(|series| series.readings().hours()).collect()
    }

    /// Writes the readings of an hour.
    fn pack_hour(&self, hour: i64) -> Vec<u8> {
        let mut packed: Vec<(usize, usize, Vec<u8>)> = Vec::new();
        for (slot, metric) in self.slots.iter().enumerate() {
            let Some(state) = &metric.state else { continue };
            let derived = state.derived.iter().map(|(.., series)| series);
            for (number, series) in std::iter::once(&state.series).chain(derived).enumerate() {
                let (after_ms, until_ms) = (hour * HOUR_MS, (hour + 1) * HOUR_MS);
                let bytes = pack_readings(hour, series.readings().iter_between(after_ms, until_ms));
                if !bytes.is_empty() {
                    packed.push((slot, number, bytes));
                }
            }
        }
        let series = packed.iter().map(|(slot, number, packed)| SeriesReadings {
            slot: *slot as u32,
            number: *number as u32,
            packed,
        });
        frame_part(SnapshotPart::Hour, &encode(&HourReadings { hour, series: series.collect() }))
    }
}

impl MetricSlot {
    /// Returns the series of the metric (0) or of its nth derived metric.
    fn series_mut(&mut self, number: usize) -> Option<&mut MetricSeries> {
        let state = self.state.as_mut()?;
        match number.checked_sub(1) {
            None => Some(&mut state.series),
            Some(derived) => state.derived.get_mut(derived).map(|(.., series)| series),
        }
    }
}

/// Hour with its series: slot, number within the slot, and readings.
type UnpackedHour = (i64, Vec<(usize, usize, Vec<PackedReading>)>);

fn unpack_hour(
    hour: i64,
    content: &[u8],
    slots: &[SlotHead],
) -> Result<UnpackedHour, SnapshotError> {
    let of_hour: HourReadings<'_> = decode(content)?;
    if of_hour.hour != hour || hour.unsigned_abs() >= EVENT_MS_MAX as u64 / HOUR_MS as u64 {
        return Err(SnapshotError::Invalid("an hour under another's name"));
    }
    let mut series = Vec::new();
    for SeriesReadings { slot, number, packed } in of_hour.series {
        let (slot, number) = (slot as usize, number as usize);
        if !slots.get(slot).is_some_and(|slot| slot.has_state)
            || series.last().is_some_and(|(s, n, _)| (*s, *n) >= (slot, number))
        {
            return Err(SnapshotError::Invalid("readings of a metric that does not exist"));
        }
        series.push((slot, number, unpack_readings(hour, packed)?));
    }
    Ok((hour, series))
}

/// Checks that pending readings name metrics that have state, and have what SQL gave of them.
fn check_pending(head: &SnapshotHead, engine: &FeatureEngine) -> Result<(), SnapshotError> {
    for PendingReading { slot, derived, .. } in &head.pending {
        let slot = head.slots.get(*slot).filter(|slot| slot.has_state);
        let metric = &slot.ok_or(SnapshotError::Invalid("a pending reading of no metric"))?.metric;
        let count = engine.definitions().derived_from(metric).count();
        if derived.as_ref().is_some_and(|derived| derived.len() != count) {
            return Err(SnapshotError::Invalid("a pending reading of other derived metrics"));
        }
    }
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("memory is all that it needs")
}

/// Reads a value and refuses bytes after it. Lengths are bounded by the bytes that are there.
fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, SnapshotError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(SnapshotError::Invalid("content that cannot be read")),
    }
}

fn hash_json(value: &impl Serialize) -> SmolStr {
    let json = serde_json::to_vec(value).expect("settings have a JSON form");
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
