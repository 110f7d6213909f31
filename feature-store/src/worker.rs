//! The way from the log through the engine to DuckDB. Reading, parsing, computing and writing
//! each have a thread, so that only the slowest one limits the throughput.

use feature_engine::sql::SqlReading;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use duckdb::Connection;
use eventlog::{EventLog, PartitionsAssigned, PartitionsRevoked, ReaderEvent, TopicReader};
use telemetry::{MetricTable, SensorReport, SmolStr, ZoneId, topic::READINGS};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    StoreError,
    committer::{Committer, LOG_CONSUMER},
    engine::{EngineOutput, FeatureEngine, ZoneProgress},
    feature_store::FeatureStoreState,
    log_record::{self, ParsedRecord},
    settings,
    store::{self, NameDictionary, RestoredState, StoreWriter, WriteBatch},
    watch,
};

/// Largest number of records to read from the log at once.
const RECORDS_MAX: usize = 4096;
/// Largest number of batches between two threads.
const QUEUE_MAX: usize = 4;
/// How long a reading may wait for others before it shows online.
const READ_WAIT_MAX: Duration = Duration::from_millis(20);
/// How long online rows may lag behind under full load. Each row costs as much as many readings.
const ONLINE_DELAY_MAX: Duration = Duration::from_millis(250);
/// Interval at which time advances for silent zones.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Lag above which time does not advance for any zone, records.
const LAG_MAX: u64 = 10_000;
/// Payload at which a transaction is written, bytes.
const PAYLOAD_BYTES_MAX: usize = 128 << 20;

/// Number of feature rows at which a transaction is written.
const ROWS_MAX: usize = 250_000;

/// Steps of the computing thread, in the order of the log.
enum WorkerStep {
    Records(Vec<ParsedRecord>),
    Assigned(PartitionsAssigned),
    Revoked(PartitionsRevoked),
    File(watch::WatchedFile),
}

/// Runs until `shutdown`, the log's end or a failure.
pub(crate) async fn run_worker(
    shared: Arc<FeatureStoreState>,
    log: &EventLog,
    writer: StoreWriter,
    restored: RestoredState,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let (log, mut positions, is_shared) = (log.clone(), restored.positions, log.is_shared());
    let watched_next = positions.get(&watch::WATCHED_PARTITION).copied().unwrap_or(0);
    // Numbers below 0 are not partitions of the log.
    positions.retain(|partition, _| *partition >= 0);
    let log_of_committer = log.clone();
    let opened = tokio::task::spawn_blocking(move || {
        // From now on, the log keeps what is not committed here.
        if let Err(error) = log.commit_offsets(READINGS, LOG_CONSUMER, &positions) {
            tracing::warn!(%error, "the log could not store the offsets; it keeps them in memory only");
        }
        if is_shared {
            log.open_group_reader(READINGS)
        } else {
            log.open_reader(READINGS, &positions)
        }
    });
    let mut reader = opened.await.map_err(|error| StoreError::Thread(error.to_string()))??;
    let watch = shared.settings.watch.clone();
    let worker_shared = shared.clone();
    let metrics = Arc::new(shared.metrics.clone());
    let worker = LogWorker {
        engine: restored.engine,
        names: restored.names,
        owned: is_shared.then(BTreeSet::new),
        connection: shared.new_connection()?,
        committer: Committer::start(shared.clone(), log_of_committer, writer, shutdown.clone())?,
        shared: worker_shared,
        watched_next,
        pending: WriteBatch::default(),
        pushed_ahead: BTreeMap::new(),
        committed: HashMap::new(),
        is_caught_up: false,
        is_published: false,
        submitted_at: Instant::now(),
        ticked_at: Instant::now(),
        published_at: Instant::now(),
    };
    let (raw, to_parse) = mpsc::channel(QUEUE_MAX);
    let (parsed, steps) = mpsc::channel(QUEUE_MAX);
    let folder_task =
        watch_folder(watch, metrics, restored.watched, parsed.clone(), shutdown.clone());
    let watching = tokio::spawn(folder_task);
    let offsets_s = shared.settings.engine.clock_offsets_s.clone();
    tokio::task::spawn_blocking(move || parse_events(to_parse, &parsed, &offsets_s));
    let worker = tokio::task::spawn_blocking(move || worker.run(steps));
    let result = tokio::select! {
        result = read_log(&mut reader, raw) => result,
        () = shutdown.cancelled() => Ok(()),
    };
    watching.abort();
    let worked = worker.await.map_err(|error| StoreError::Thread(error.to_string()));
    reader.close().await;
    worked??;
    result
}

/// Reads the log until it fails or the receiver is gone.
async fn read_log(
    reader: &mut TopicReader,
    raw: mpsc::Sender<(ReaderEvent, Option<u64>)>,
) -> Result<(), StoreError> {
    loop {
        // An empty batch also advances the worker's clock.
        let event = reader.next_event(RECORDS_MAX, READ_WAIT_MAX).await?;
        if raw.send((event, reader.lag_records())).await.is_err() {
            // The worker has ended and returns the reason.
            return Ok(());
        }
    }
}

fn parse_events(
    mut raw: mpsc::Receiver<(ReaderEvent, Option<u64>)>,
    parsed: &mpsc::Sender<(WorkerStep, Option<u64>)>,
    offsets_s: &BTreeMap<SmolStr, f64>,
) {
    let read = |entry| {
        let mut arrived = log_record::parse_record(entry);
        if let Ok(report) = &mut arrived.report {
            log_record::correct_device_clock(report, offsets_s);
        }
        arrived
    };
    while let Some((event, lag)) = raw.blocking_recv() {
        let step = match event {
            ReaderEvent::Records(entries) => {
                WorkerStep::Records(entries.into_iter().map(read).collect())
            }
            ReaderEvent::Assigned(assigned) => WorkerStep::Assigned(assigned),
            ReaderEvent::Revoked(revoked) => WorkerStep::Revoked(revoked),
        };
        if parsed.blocking_send((step, lag)).is_err() {
            break;
        }
    }
}

/// Passes files of the watched folder on, if one is configured.
async fn watch_folder(
    settings: settings::FolderWatchSettings,
    metrics: Arc<MetricTable>,
    taken: Vec<watch::FileVersion>,
    steps: mpsc::Sender<(WorkerStep, Option<u64>)>,
    shutdown: CancellationToken,
) {
    if settings.dir.as_os_str().is_empty() {
        return;
    }
    let (files, mut found) = mpsc::channel(1);
    let pass_on = async {
        while let Some(file) = found.recv().await {
            if steps.send((WorkerStep::File(file), None)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(watch::poll_watched_folder(settings, metrics, taken, files, shutdown), pass_on);
}

struct LogWorker {
    shared: Arc<FeatureStoreState>,
    engine: FeatureEngine,
    names: NameDictionary,
    /// Partitions assigned by the consumer group; without a group, all are read.
    owned: Option<BTreeSet<i32>>,
    /// Connection for reading committed data.
    connection: Connection,
    committer: Committer,
    /// Offset of the next record of the watched folder.
    watched_next: i64,
    /// Contents of the next transaction.
    pending: WriteBatch,
    /// Zones that a wrong gateway clock pushed ahead, each with the time, UTC ms, after which
    /// readings are in the future.
    pushed_ahead: BTreeMap<ZoneId, i64>,
    /// Progress of each zone as this process last committed it.
    committed: HashMap<ZoneId, ZoneProgress>,
    /// Whether the log was read to its end, and the lag has stayed small since.
    is_caught_up: bool,
    /// Whether the online rows include the newest readings.
    is_published: bool,
    submitted_at: Instant,
    ticked_at: Instant,
    published_at: Instant,
}

impl LogWorker {
    fn run(
        mut self,
        mut steps: mpsc::Receiver<(WorkerStep, Option<u64>)>,
    ) -> Result<(), StoreError> {
        self.publish_online();
        while let Some((step, lag)) = steps.blocking_recv() {
            match step {
                WorkerStep::File(file) => {
                    self.ingest_file(file)?;
                    continue;
                }
                WorkerStep::Records(mut arrived) => {
                    while !arrived.is_empty() {
                        let later = arrived.split_off(self.count_fitting(&arrived));
                        self.reload_evicted_zones(&arrived)?;
                        self.ingest_records(arrived, None);
                        self.evict_surplus_zones()?;
                        arrived = later;
                    }
                }
                WorkerStep::Assigned(assigned) => self.assign_partitions(assigned)?,
                WorkerStep::Revoked(revoked) => self.revoke_partitions(revoked)?,
            }
            self.set_zones_back()?;
            self.note_lag(lag);
            self.advance_clock();
            if !self.is_published
                && (steps.is_empty() || self.published_at.elapsed() >= ONLINE_DELAY_MAX)
            {
                self.publish_online();
            }
            self.commit_if_due()?;
        }
        self.flush()?;
        self.committer.finish()
    }

    /// Ingests records; `received_ms` overrides their receive time, UTC ms.
    fn ingest_records(&mut self, arrived: Vec<ParsedRecord>, received_ms: Option<i64>) {
        let rows = std::mem::take(&mut self.pending.rows);
        let mut output = EngineOutput { rows, ..EngineOutput::default() };
        let reports = arrived.iter().filter_map(|record| record.report.as_ref().ok());
        let readings = reports.flat_map(SqlReading::from_report);
        let Self { engine, pending, names, .. } = self;
        engine.ingest_batch(readings, &mut output, |batch| {
            for record in &arrived {
                let qualities = match &record.report {
                    Ok(report) => {
                        let received_ms = received_ms.unwrap_or_else(|| record.received_ms(now_ms));
                        batch.ingest_report(report, received_ms)
                    }
                    Err(reason) => {
                        let (partition, offset) = (record.entry.partition, record.entry.offset);
                        tracing::warn!(partition, offset, reason, "record without readings");
                        &[]
                    }
                };
                pending.add_record(record, qualities, names);
            }
        });
        self.pending.rows = output.rows;
        // The last value counts, as it includes later reports of the batch.
        self.pushed_ahead.extend(output.pushed_ahead);
        self.is_published &= arrived.is_empty();
    }

    /// Returns how many records can be ingested before zones must be evicted: those up to a
    /// limited number of zones that are not in memory.
    fn count_fitting(&self, arrived: &[ParsedRecord]) -> usize {
        let more_max = (self.shared.settings.engine.zones_max / 8).max(1);
        let mut more = BTreeSet::new();
        arrived
            .iter()
            .position(|record| {
                let Ok(SensorReport { zone, .. }) = &record.report else { return false };
                let is_new = !self.engine.has_zone(zone) && !more.contains(zone);
                if is_new && more.len() < more_max {
                    more.insert(zone.clone());
                    return false;
                }
                is_new
            })
            .unwrap_or(arrived.len())
    }

    /// Reloads evicted zones that have new reports.
    fn reload_evicted_zones(&mut self, arrived: &[ParsedRecord]) -> Result<(), StoreError> {
        let zones = arrived.iter().filter_map(|record| Some(&record.report.as_ref().ok()?.zone));
        // A new zone is not in the file.
        let is_evicted =
            |zone: &&ZoneId| !self.engine.has_zone(zone) && self.names.partition(zone).is_some();
        let evicted: BTreeSet<ZoneId> = zones.filter(is_evicted).cloned().collect();
        if evicted.is_empty() {
            return Ok(());
        }
        let settings = &self.shared.settings.engine;
        store::restore_some_zones(&self.connection, &mut self.engine, settings, &evicted)
    }

    /// Evicts zones if there are more than the limit. Commits everything first.
    fn evict_surplus_zones(&mut self) -> Result<(), StoreError> {
        let zones_max = self.shared.settings.engine.zones_max;
        if self.engine.zone_count() <= zones_max {
            return Ok(());
        }
        self.flush()?;
        // Evicts more than necessary, so that not every new name causes an eviction.
        let evicted = self.engine.evict_zones(zones_max - zones_max / 8);
        for zone in &evicted {
            self.committed.remove(zone);
            self.shared.online.remove_zone(zone);
        }
        self.shared.counters.note_evicted_zones(evicted.len());
        tracing::debug!(zones = evicted.len(), zones_max, "zones evicted");
        Ok(())
    }

    /// Sets back the zones that a wrong gateway clock had pushed ahead.
    fn set_zones_back(&mut self) -> Result<(), StoreError> {
        if self.pushed_ahead.is_empty() {
            return Ok(());
        }
        let pushed_ahead = std::mem::take(&mut self.pushed_ahead);
        self.pending.set_back = pushed_ahead.clone().into_iter().collect();
        self.flush()?;
        let zones: BTreeSet<ZoneId> = pushed_ahead.into_keys().collect();
        let settings = &self.shared.settings.engine;
        store::restore_some_zones(&self.connection, &mut self.engine, settings, &zones)?;
        for zone in &zones {
            self.committed.remove(zone);
            self.is_published = false;
        }
        Ok(())
    }

    /// Ingests a whole file in one transaction, with the record that it was ingested.
    fn ingest_file(&mut self, mut file: watch::WatchedFile) -> Result<(), StoreError> {
        self.flush()?;
        let mut arrived = Vec::with_capacity(file.entries.len());
        for mut entry in file.entries.drain(..) {
            entry.offset += self.watched_next;
            arrived.push(log_record::parse_record(entry));
        }
        self.reload_evicted_zones(&arrived)?;
        let first = self.watched_next;
        self.watched_next += arrived.len() as i64;
        file.offsets = first..self.watched_next;
        let zones: BTreeSet<ZoneId> = arrived
            .iter()
            .filter_map(|record| Some(record.report.as_ref().ok()?.zone.clone()))
            .collect();
        self.ingest_records(arrived, Some(now_ms()));
        // The end of the file is the end of its data.
        let mut output = EngineOutput::default();
        zones.iter().for_each(|zone| self.engine.finish_zone(zone, &mut output));
        self.pending.rows.extend(output.rows);
        let mark = file.mark.clone();
        self.pending.watched = Some(file);
        self.flush()?;
        self.evict_surplus_zones()?;
        let (readings, rejects) = watch::read_file_counts(&self.connection, &mark)?;
        tracing::info!(path = mark.path, readings, rejects, "file ingested");
        Ok(())
    }

    /// Takes over partitions, with their zones as this file has them.
    fn assign_partitions(&mut self, assigned: PartitionsAssigned) -> Result<(), StoreError> {
        self.flush()?;
        let partitions: BTreeSet<i32> = assigned.partitions.iter().copied().collect();
        let settings = &self.shared.settings.engine;
        store::restore_zones(&self.connection, &mut self.engine, settings, Some(&partitions))?;
        let mut positions = store::read_positions(&self.connection)?;
        positions.retain(|partition, _| partitions.contains(partition));
        self.owned.get_or_insert_default().extend(partitions);
        self.is_caught_up = false;
        self.publish_online();
        assigned.start_reading(positions);
        Ok(())
    }

    /// Releases partitions. Their data in this file stays; their new owner serves their zones.
    fn revoke_partitions(&mut self, revoked: PartitionsRevoked) -> Result<(), StoreError> {
        self.flush()?;
        let mut zones = BTreeSet::new();
        for partition in &revoked.partitions {
            self.owned.get_or_insert_default().remove(partition);
            zones.extend(self.names.zones_of_partition(*partition).cloned());
        }
        // Removes their readings, so that time no longer advances for them.
        self.engine.remove_zones(&zones);
        for zone in &zones {
            self.committed.remove(zone);
            self.shared.online.remove_zone(zone);
        }
        revoked.release_partitions();
        Ok(())
    }

    fn note_lag(&mut self, lag: Option<u64>) {
        match lag {
            Some(0) if !self.is_caught_up => {
                self.is_caught_up = true;
                tracing::info!("caught up with the log");
            }
            Some(..=LAG_MAX) => {}
            Some(_) | None => self.is_caught_up = false,
        }
        self.shared.counters.lag.store(lag.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Advances time for silent zones. Not while the lag is large: unread readings of these zones
    /// would then arrive too late.
    fn advance_clock(&mut self) {
        if self.is_caught_up && self.ticked_at.elapsed() >= TICK_INTERVAL {
            self.ticked_at = Instant::now();
            let mut output = EngineOutput::default();
            self.engine.advance_clock(now_ms(), &mut output);
            self.pending.rows.extend(output.rows);
        }
    }

    /// Publishes changed rows to the online store.
    fn publish_online(&mut self) {
        let rows = self.engine.take_changed_rows();
        for (zone, metrics, progress) in self.engine.zones() {
            if owns_zone(self.owned.as_ref(), &self.names, zone) {
                let clock_offsets = self.engine.clock_offsets(zone);
                self.shared.online.update_zone(zone, metrics, progress, clock_offsets);
            }
        }
        rows.into_iter().for_each(|row| self.shared.online.put_row(row));
        (self.is_published, self.published_at) = (true, Instant::now());
    }

    /// Submits a transaction when the interval has passed and the previous one is committed, or
    /// when it is full.
    fn commit_if_due(&mut self) -> Result<(), StoreError> {
        let commit = self.shared.settings.commit;
        let (_, readings, payload_bytes) = self.pending.size();
        let is_full = readings >= commit.readings_max
            || payload_bytes >= PAYLOAD_BYTES_MAX
            || self.pending.rows.len() >= ROWS_MAX;
        let is_time = self.submitted_at.elapsed() >= Duration::from_millis(commit.interval_ms);
        if is_full || (self.committer.is_idle()? && is_time) { self.submit_batch() } else { Ok(()) }
    }

    fn submit_batch(&mut self) -> Result<(), StoreError> {
        self.submitted_at = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.pending);
        for (zone, _, progress) in self.engine.zones() {
            let Some(partition) = self.names.partition(zone) else { continue };
            if self.committed.get(zone) == Some(progress)
                || !owns_zone(self.owned.as_ref(), &self.names, zone)
            {
                continue;
            }
            self.committed.insert(zone.clone(), progress.clone());
            batch.progress.push((zone.clone(), partition, progress.clone()));
        }
        batch.metrics = self.engine.metrics().to_vec();
        batch.schema = Some(self.engine.schema().clone());
        batch.complete_batch(&mut self.names);
        self.committer.enqueue_batch(batch)
    }

    /// Commits everything ingested so far.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.submit_batch()?;
        self.committer.wait_until_idle()
    }
}

/// Returns whether this process owns the zone: its partition is assigned to this process, or it
/// comes only from files, which have a negative partition and which no other process reads.
fn owns_zone(owned: Option<&BTreeSet<i32>>, names: &NameDictionary, zone: &ZoneId) -> bool {
    let Some(owned) = owned else { return true };
    names.partition(zone).is_some_and(|partition| partition < 0 || owned.contains(&partition))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
