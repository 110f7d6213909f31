//! Log → engine → DuckDB: reading, parsing, computing and writing each on a
//! thread of its own, so that the slowest alone sets the pace.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use duckdb::Connection;
use eventlog::{Assigned, Event, EventLog, Reader, Revoked};
use telemetry::{MetricTable, Report, SmolStr, ZoneId, topic::READINGS};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    StoreError,
    committer::{Committer, LOG_CONSUMER},
    definitions::SqlReading,
    engine::{Engine, Output, Progress},
    feature_store::Shared,
    intake::{self, Arrived},
    settings,
    store::{self, Batch, Names, Restored, Writer},
    watch,
};

/// Records asked of the log at once.
const RECORDS_MAX: usize = 4096;
/// Batches between two threads.
const QUEUE_MAX: usize = 4;
/// How long a reading may wait for others before it shows online.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// How long online rows may be behind while there is more to read than can be
/// read: each of them costs as much as many readings.
const BEHIND_MAX: Duration = Duration::from_millis(250);
/// How often time passes for silent zones.
const TICK: Duration = Duration::from_secs(1);
/// With more records than this still to be read, time passes for nobody.
const LAG_MAX: u64 = 10_000;
/// A transaction is written when it holds this much payload, bytes.
const PAYLOAD_BYTES_MAX: usize = 128 << 20;

/// … or so many feature rows.
const ROWS_MAX: usize = 250_000;

/// What the computing thread is told, in the order of the log.
enum Step {
    Arrived(Vec<Arrived>),
    Assigned(Assigned),
    Revoked(Revoked),
    File(watch::File),
}

/// Runs until `shutdown`, the log's end or a failure.
pub(crate) async fn run(
    shared: Arc<Shared>,
    log: &EventLog,
    writer: Writer,
    restored: Restored,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let (log, mut positions, is_shared) = (log.clone(), restored.positions, log.is_shared());
    let watched_next = positions.get(&watch::WATCHED).copied().unwrap_or(0);
    // What is below 0 is no partition of the log.
    positions.retain(|partition, _| *partition >= 0);
    let log_of_committer = log.clone();
    let opened = tokio::task::spawn_blocking(move || {
        // From here on the log keeps what is not committed here.
        if let Err(error) = log.commit(READINGS, LOG_CONSUMER, &positions) {
            tracing::warn!(%error, "the log knows only in memory how far it was read");
        }
        if is_shared { log.member(READINGS) } else { log.reader(READINGS, &positions) }
    });
    let mut reader = opened.await.map_err(|error| StoreError::Thread(error.to_string()))??;
    let watch = shared.settings.watch.clone();
    let shared_of_worker = shared.clone();
    let metrics = Arc::new(shared.metrics.clone());
    let worker = Worker {
        engine: restored.engine,
        names: restored.names,
        owned: is_shared.then(BTreeSet::new),
        connection: shared.connection()?,
        committer: Committer::start(shared.clone(), log_of_committer, writer, shutdown.clone())?,
        shared: shared_of_worker,
        watched_next,
        pending: Batch::default(),
        pushed_ahead: BTreeMap::new(),
        committed: HashMap::new(),
        is_caught_up: false,
        is_shown: false,
        handed_at: Instant::now(),
        ticked_at: Instant::now(),
        shown_at: Instant::now(),
    };
    let (raw, to_parse) = mpsc::channel(QUEUE_MAX);
    let (parsed, steps) = mpsc::channel(QUEUE_MAX);
    let watching = watch_folder(watch, metrics, restored.watched, parsed.clone(), shutdown.clone());
    let watching = tokio::spawn(watching);
    let offsets_s = shared.settings.engine.clock_offsets_s.clone();
    tokio::task::spawn_blocking(move || parse(to_parse, &parsed, &offsets_s));
    let worker = tokio::task::spawn_blocking(move || worker.run(steps));
    let result = tokio::select! {
        result = read(&mut reader, raw) => result,
        () = shutdown.cancelled() => Ok(()),
    };
    watching.abort();
    let worked = worker.await.map_err(|error| StoreError::Thread(error.to_string()));
    reader.close().await;
    worked??;
    result
}

/// Until the log fails, or nobody is there to take what is read.
async fn read(
    reader: &mut Reader,
    raw: mpsc::Sender<(Event, Option<u64>)>,
) -> Result<(), StoreError> {
    loop {
        // No entries tell the worker the time.
        let event = reader.next(RECORDS_MAX, WAIT_MAX).await?;
        if raw.send((event, reader.lag())).await.is_err() {
            // The worker has ended, and will say why.
            return Ok(());
        }
    }
}

fn parse(
    mut raw: mpsc::Receiver<(Event, Option<u64>)>,
    parsed: &mpsc::Sender<(Step, Option<u64>)>,
    offsets_s: &BTreeMap<SmolStr, f64>,
) {
    let read = |entry| {
        let mut arrived = intake::read(entry);
        if let Ok(report) = &mut arrived.report {
            intake::correct_clock(report, offsets_s);
        }
        arrived
    };
    while let Some((event, lag)) = raw.blocking_recv() {
        let step = match event {
            Event::Entries(entries) => Step::Arrived(entries.into_iter().map(read).collect()),
            Event::Assigned(assigned) => Step::Assigned(assigned),
            Event::Revoked(revoked) => Step::Revoked(revoked),
        };
        if parsed.blocking_send((step, lag)).is_err() {
            break;
        }
    }
}

/// Passes files of the watched folder on, where there is one.
async fn watch_folder(
    settings: settings::Watch,
    metrics: Arc<MetricTable>,
    taken: Vec<watch::Mark>,
    steps: mpsc::Sender<(Step, Option<u64>)>,
    shutdown: CancellationToken,
) {
    if settings.dir.as_os_str().is_empty() {
        return;
    }
    let (files, mut found) = mpsc::channel(1);
    let pass_on = async {
        while let Some(file) = found.recv().await {
            if steps.send((Step::File(file), None)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(watch::run(settings, metrics, taken, files, shutdown), pass_on);
}

struct Worker {
    shared: Arc<Shared>,
    engine: Engine,
    names: Names,
    /// Partitions that the consumer group gave; without a group, all are read.
    owned: Option<BTreeSet<i32>>,
    /// For reading what was committed.
    connection: Connection,
    committer: Committer,
    /// The offset of the next record of the watched folder.
    watched_next: i64,
    /// What the next transaction will hold.
    pending: Batch,
    /// Zones that a clock of the gateway pushed ahead, with the time from which on readings are
    /// of the future.
    pushed_ahead: BTreeMap<ZoneId, i64>,
    /// What the file says of each zone's progress, as far as it was written here.
    committed: HashMap<ZoneId, Progress>,
    /// Whether the log was read to its end, and not left far behind since.
    is_caught_up: bool,
    /// Whether the online rows are those of the newest readings.
    is_shown: bool,
    handed_at: Instant,
    ticked_at: Instant,
    shown_at: Instant,
}

impl Worker {
    fn run(mut self, mut steps: mpsc::Receiver<(Step, Option<u64>)>) -> Result<(), StoreError> {
        self.show();
        while let Some((step, lag)) = steps.blocking_recv() {
            match step {
                Step::File(file) => {
                    self.take_file(file)?;
                    continue;
                }
                Step::Arrived(mut arrived) => {
                    while !arrived.is_empty() {
                        let later = arrived.split_off(self.count_fitting(&arrived));
                        self.bring_zones_back(&arrived)?;
                        self.take(arrived, None);
                        self.put_zones_away()?;
                        arrived = later;
                    }
                }
                Step::Assigned(assigned) => self.assign(assigned)?,
                Step::Revoked(revoked) => self.revoke(revoked)?,
            }
            self.set_back()?;
            self.note_lag(lag);
            self.tick();
            if !self.is_shown && (steps.is_empty() || self.shown_at.elapsed() >= BEHIND_MAX) {
                self.show();
            }
            self.commit_if_due()?;
        }
        self.flush()?;
        self.committer.finish()
    }

    /// Takes records in; `received_ms` is when, where it is not what the records say.
    fn take(&mut self, arrived: Vec<Arrived>, received_ms: Option<i64>) {
        let rows = std::mem::take(&mut self.pending.rows);
        let mut output = Output { rows, ..Output::default() };
        let before = output.rows.len();
        let reports = arrived.iter().filter_map(|record| record.report.as_ref().ok());
        self.engine.run_ahead(reports.flat_map(SqlReading::of_report));
        for record in &arrived {
            output.qualities.clear();
            match &record.report {
                Ok(report) => {
                    let received_ms = received_ms.unwrap_or_else(|| record.received_ms(now_ms));
                    self.engine.ingest_report(report, received_ms, &mut output);
                }
                Err(reason) => {
                    let (partition, offset) = (record.entry.partition, record.entry.offset);
                    tracing::warn!(partition, offset, reason, "record without readings");
                }
            }
            self.pending.take(record, &output.qualities, &mut self.names);
        }
        self.engine.join(&mut output.rows[before..]);
        self.pending.rows = output.rows;
        // The last word counts: later reports of the batch are in it.
        self.pushed_ahead.extend(output.pushed_ahead);
        self.is_shown &= arrived.is_empty();
    }

    /// How many of the records can be taken in before zones are put away: the first ones whose
    /// zones are in memory, and some more.
    fn count_fitting(&self, arrived: &[Arrived]) -> usize {
        let more_max = (self.shared.settings.engine.zones_max / 8).max(1);
        let mut more = BTreeSet::new();
        arrived
            .iter()
            .position(|record| {
                let Ok(Report { zone, .. }) = &record.report else { return false };
                let is_new = !self.engine.has_zone(zone) && !more.contains(zone);
                if is_new && more.len() < more_max {
                    more.insert(zone.clone());
                    return false;
                }
                is_new
            })
            .unwrap_or(arrived.len())
    }

    /// Reads zones from the file that were put away and are heard again.
    fn bring_zones_back(&mut self, arrived: &[Arrived]) -> Result<(), StoreError> {
        let zones = arrived.iter().filter_map(|record| Some(&record.report.as_ref().ok()?.zone));
        // One that nobody has ever heard of is not in the file.
        let is_away =
            |zone: &&ZoneId| !self.engine.has_zone(zone) && self.names.partition(zone).is_some();
        let away: BTreeSet<ZoneId> = zones.filter(is_away).cloned().collect();
        if away.is_empty() {
            return Ok(());
        }
        let settings = &self.shared.settings.engine;
        store::restore_some_zones(&self.connection, &mut self.engine, settings, &away)
    }

    /// Puts zones away while there are more than are to be in memory: all that they have is
    /// committed first.
    fn put_zones_away(&mut self) -> Result<(), StoreError> {
        let zones_max = self.shared.settings.engine.zones_max;
        if self.engine.zone_count() <= zones_max {
            return Ok(());
        }
        self.flush()?;
        // Some more than must be, so that it is not done for every new name.
        let evicted = self.engine.evict_zones(zones_max - zones_max / 8);
        for zone in &evicted {
            self.committed.remove(zone);
            self.shared.online.forget(zone);
        }
        self.shared.counters.note_evicted_zones(evicted.len());
        tracing::debug!(zones = evicted.len(), zones_max, "zones are put away");
        Ok(())
    }

    /// Sets zones back that a clock of the gateway had pushed ahead.
    fn set_back(&mut self) -> Result<(), StoreError> {
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
            self.is_shown = false;
        }
        Ok(())
    }

    /// A whole file is one transaction, with the note that it was taken.
    fn take_file(&mut self, mut file: watch::File) -> Result<(), StoreError> {
        self.flush()?;
        let mut arrived = Vec::with_capacity(file.entries.len());
        for mut entry in file.entries.drain(..) {
            entry.offset += self.watched_next;
            arrived.push(intake::read(entry));
        }
        self.bring_zones_back(&arrived)?;
        let first = self.watched_next;
        self.watched_next += arrived.len() as i64;
        file.offsets = first..self.watched_next;
        let zones: BTreeSet<ZoneId> = arrived
            .iter()
            .filter_map(|record| Some(record.report.as_ref().ok()?.zone.clone()))
            .collect();
        self.take(arrived, Some(now_ms()));
        // The end of the file is the end of its data.
        let mut output = Output::default();
        zones.iter().for_each(|zone| self.engine.finish_zone(zone, &mut output));
        self.engine.join(&mut output.rows);
        self.pending.rows.extend(output.rows);
        let mark = file.mark.clone();
        self.pending.watched = Some(file);
        self.flush()?;
        self.put_zones_away()?;
        let (readings, rejects) = watch::counts(&self.connection, &mark)?;
        tracing::info!(path = mark.path, readings, rejects, "file taken in");
        Ok(())
    }

    /// Takes partitions over: their zones as this file has them, or none.
    fn assign(&mut self, assigned: Assigned) -> Result<(), StoreError> {
        self.flush()?;
        let partitions: BTreeSet<i32> = assigned.partitions.iter().copied().collect();
        let settings = &self.shared.settings.engine;
        store::restore_zones(&self.connection, &mut self.engine, settings, Some(&partitions))?;
        let mut positions = store::positions(&self.connection)?;
        positions.retain(|partition, _| partitions.contains(partition));
        self.owned.get_or_insert_default().extend(partitions);
        self.is_caught_up = false;
        self.show();
        assigned.start(positions);
        Ok(())
    }

    /// Lets partitions go. What this file has of them stays; their zones are
    /// served by their new owner.
    fn revoke(&mut self, revoked: Revoked) -> Result<(), StoreError> {
        self.flush()?;
        let mut zones = BTreeSet::new();
        for partition in &revoked.partitions {
            self.owned.get_or_insert_default().remove(partition);
            zones.extend(self.names.zones_of(*partition).cloned());
        }
        // Their readings go, and time no longer passes for them.
        self.engine.remove_zones(&zones);
        for zone in &zones {
            self.committed.remove(zone);
            self.shared.online.forget(zone);
        }
        revoked.release();
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

    /// Lets time pass for zones that are silent; not while their readings may
    /// be among those still to be read, which would come too late then.
    fn tick(&mut self) {
        if self.is_caught_up && self.ticked_at.elapsed() >= TICK {
            self.ticked_at = Instant::now();
            let mut output = Output::default();
            self.engine.tick(now_ms(), &mut output);
            self.pending.rows.extend(output.rows);
        }
    }

    /// Puts what has changed where it is served from.
    fn show(&mut self) {
        let rows = self.engine.latest();
        for (zone, metrics, progress) in self.engine.zones() {
            if owns(self.owned.as_ref(), &self.names, zone) {
                let clock_offsets = self.engine.clock_offsets(zone);
                self.shared.online.note(zone, metrics, progress, clock_offsets);
            }
        }
        rows.into_iter().for_each(|row| self.shared.online.put(row));
        (self.is_shown, self.shown_at) = (true, Instant::now());
    }

    /// A transaction is written when its time has come and the one before it
    /// is done, or when it is full.
    fn commit_if_due(&mut self) -> Result<(), StoreError> {
        let commit = self.shared.settings.commit;
        let (_, readings, payload_bytes) = self.pending.size();
        let is_full = readings >= commit.readings_max
            || payload_bytes >= PAYLOAD_BYTES_MAX
            || self.pending.rows.len() >= ROWS_MAX;
        let is_time = self.handed_at.elapsed() >= Duration::from_millis(commit.interval_ms);
        if is_full || (self.committer.is_idle()? && is_time) { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), StoreError> {
        self.handed_at = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.pending);
        for (zone, _, progress) in self.engine.zones() {
            let Some(partition) = self.names.partition(zone) else { continue };
            if self.committed.get(zone) == Some(progress)
                || !owns(self.owned.as_ref(), &self.names, zone)
            {
                continue;
            }
            self.committed.insert(zone.clone(), progress.clone());
            batch.progress.push((zone.clone(), partition, progress.clone()));
        }
        batch.metrics = self.engine.metrics().to_vec();
        batch.schema = Some(self.engine.schema().clone());
        batch.seal(&mut self.names);
        self.committer.commit(batch)
    }

    /// Commits everything that was taken.
    fn flush(&mut self) -> Result<(), StoreError> {
        self.hand_over()?;
        self.committer.wait()
    }
}

/// Whether this process keeps the zone: its partition of the log is assigned to it, or it comes
/// from files alone, which no partition has (a negative number) and no other process reads.
fn owns(owned: Option<&BTreeSet<i32>>, names: &Names, zone: &ZoneId) -> bool {
    let Some(owned) = owned else { return true };
    names.partition(zone).is_some_and(|partition| partition < 0 || owned.contains(&partition))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
