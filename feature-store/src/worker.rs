//! Log → engine → DuckDB, on one thread that may block.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use eventlog::{Entry, EventLog};
use telemetry::topic::READINGS;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    StoreError,
    engine::{Engine, Output},
    feature_store::Shared,
    intake,
    kpi::Refresh,
    lake,
    settings::Commit,
    store::{Batch, Restored, Writer},
    watch,
};

/// Records asked of the log at once.
const RECORDS_MAX: usize = 4096;
/// Batches between the reader and the worker.
const QUEUE_MAX: usize = 4;
/// How long a reading may wait for others before it shows online.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// How often time passes for silent zones.
const TICK: Duration = Duration::from_secs(1);
/// Between two counts of KPIs at least so long for each millisecond that the last one took.
const KPI_REST: Duration = Duration::from_millis(20);

/// Runs until `shutdown`, the log's end or a failure.
pub(crate) async fn run(
    shared: Arc<Shared>,
    log: &EventLog,
    writer: Writer,
    restored: Restored,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let (log, mut positions) = (log.clone(), restored.positions.clone());
    // Those below 0 are no partitions of the log.
    positions.retain(|partition, _| *partition >= 0);
    let opened = tokio::task::spawn_blocking(move || log.reader(READINGS, &positions)).await;
    let mut reader = opened.map_err(|error| StoreError::Thread(error.to_string()))??;
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let watching = watch_folder(shared.clone(), restored.watched, sender.clone(), shutdown.clone());
    let watching = tokio::spawn(watching);
    let worker = Worker {
        pending: Batch { positions: restored.positions, ..Batch::default() },
        commit: shared.settings.commit,
        refresh: Refresh::new(&shared.settings)?,
        shared,
        engine: restored.engine,
        writer,
        committed_at: Instant::now(),
        ticked_at: Instant::now(),
        kpis_at: None,
        move_at: Instant::now(),
    };
    let worker = tokio::task::spawn_blocking(move || worker.run(receiver));
    let read = async {
        loop {
            // An empty batch tells the worker the time.
            let batch = reader.next_batch(RECORDS_MAX, WAIT_MAX).await?;
            if sender.send(Input::Log(batch)).await.is_err() {
                // The worker has ended, and will say why.
                return Ok(());
            }
        }
    };
    let result: Result<(), StoreError> = tokio::select! {
        result = read => result,
        () = shutdown.cancelled() => Ok(()),
    };
    drop(sender);
    watching.abort();
    worker.await.map_err(|error| StoreError::Thread(error.to_string()))??;
    result
}

/// What the worker takes in.
enum Input {
    Log(Vec<Entry>),
    File(watch::File),
}

/// Passes files of the watched folder on, where there is one.
async fn watch_folder(
    shared: Arc<Shared>,
    taken: Vec<watch::Mark>,
    inputs: mpsc::Sender<Input>,
    shutdown: CancellationToken,
) {
    let settings = shared.settings.watch.clone();
    if settings.dir.as_os_str().is_empty() {
        return;
    }
    let (files, mut found) = mpsc::channel(1);
    let pass_on = async {
        while let Some(file) = found.recv().await {
            if inputs.send(Input::File(file)).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(watch::run(settings, taken, files, shutdown), pass_on);
}

struct Worker {
    shared: Arc<Shared>,
    commit: Commit,
    engine: Engine,
    writer: Writer,
    /// What the next transaction will hold.
    pending: Batch,
    committed_at: Instant,
    ticked_at: Instant,
    refresh: Refresh,
    /// When KPIs are next counted.
    kpis_at: Option<Instant>,
    /// When what is old next moves.
    move_at: Instant,
}

impl Worker {
    fn run(mut self, mut inputs: mpsc::Receiver<Input>) -> Result<(), StoreError> {
        self.show();
        while let Some(input) = inputs.blocking_recv() {
            match input {
                Input::Log(entries) => self.take(entries),
                Input::File(file) => self.take_file(file)?,
            }
            let interval = Duration::from_millis(self.commit.interval_ms);
            if self.pending.qualities.len() >= self.commit.readings_max
                || self.committed_at.elapsed() >= interval
            {
                self.commit()?;
            }
        }
        self.commit()?;
        self.count_kpis()?;
        self.writer.checkpoint()
    }

    /// A whole file is one transaction, with the note that it was taken.
    fn take_file(&mut self, mut file: watch::File) -> Result<(), StoreError> {
        self.commit()?;
        let first = self.pending.positions.get(&watch::WATCHED).copied().unwrap_or(0);
        let mut entries = std::mem::take(&mut file.entries);
        entries.iter_mut().for_each(|entry| entry.offset += first);
        self.take(entries);
        let (path, readings, rejects) = (&file.mark.path, file.readings, file.rejects);
        tracing::info!(path, readings, rejects, "file taken in");
        self.pending.watched = Some(file);
        self.commit()
    }

    fn take(&mut self, entries: Vec<Entry>) {
        let Batch { arrived, qualities, rows, positions, .. } = &mut self.pending;
        let mut output =
            Output { qualities: std::mem::take(qualities), rows: std::mem::take(rows) };
        let is_empty = entries.is_empty();
        for entry in entries {
            positions.insert(entry.partition, entry.offset + 1);
            let record = intake::read(entry);
            match &record.report {
                Ok(report) => self.engine.take(report, &mut output),
                Err(reason) => {
                    let (partition, offset) = (record.entry.partition, record.entry.offset);
                    tracing::warn!(partition, offset, reason, "record without readings");
                }
            }
            arrived.push(record);
        }
        if self.ticked_at.elapsed() >= TICK {
            self.ticked_at = Instant::now();
            self.engine.tick(now_ms(), &mut output);
        }
        (*qualities, *rows) = (output.qualities, output.rows);
        if !is_empty {
            self.show();
        }
    }

    /// Puts what has changed where it is served from.
    fn show(&mut self) {
        let rows = self.engine.latest();
        for (zone, metrics, progress) in self.engine.zones() {
            self.shared.online.note(zone, metrics, progress);
        }
        rows.into_iter().for_each(|row| self.shared.online.put(row));
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.committed_at = Instant::now();
        let nothing = self.pending.arrived.is_empty() && self.pending.rows.is_empty();
        if nothing && self.pending.watched.is_none() {
            return self.refresh_kpis();
        }
        let progress =
            self.engine.zones().map(|(zone, _, progress)| (zone.clone(), progress.clone()));
        self.pending.progress = progress.collect();
        self.pending.metrics = self.engine.metrics().to_vec();
        self.note_touched();
        self.writer.commit(&self.pending)?;
        self.pending.touched.committed();
        self.pending.watched = None;
        self.shared.set_schema(self.engine.schema().clone());
        let counters = &self.shared.counters;
        for quality in &self.pending.qualities {
            counters.by_quality[*quality as usize].fetch_add(1, Ordering::Relaxed);
        }
        let rejects = self.pending.arrived.iter().filter(|record| record.report.is_err()).count();
        counters.rejects.fetch_add(rejects as u64, Ordering::Relaxed);
        counters.rows.fetch_add(self.pending.rows.len() as u64, Ordering::Relaxed);
        let records = self.pending.arrived.len();
        tracing::debug!(records, rows = self.pending.rows.len(), took = ?self.committed_at.elapsed(), "committed");
        self.pending.arrived.clear();
        self.pending.qualities.clear();
        self.pending.rows.clear();
        self.refresh_kpis()?;
        self.move_old()
    }

    /// Notes the hours whose KPIs do not know of the pending readings.
    fn note_touched(&mut self) {
        let Batch { arrived, touched, .. } = &mut self.pending;
        for report in arrived.iter().filter_map(|record| record.report.as_ref().ok()) {
            for reading in &report.readings {
                touched.note(&report.zone, reading.event_ms);
            }
        }
    }

    /// Counts KPIs anew where it is time, so rarely that it costs little.
    fn refresh_kpis(&mut self) -> Result<(), StoreError> {
        if self.kpis_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        self.count_kpis()
    }

    /// Moves what is old to the lake where it is time.
    fn move_old(&mut self) -> Result<(), StoreError> {
        let settings = &self.shared.settings.lake;
        if settings.folder().is_none() || Instant::now() < self.move_at {
            return Ok(());
        }
        let moved = lake::run(self.writer.connection(), settings)?;
        let compacted = lake::compact(self.writer.connection(), settings)?;
        self.move_at = Instant::now() + Duration::from_secs(u64::from(settings.move_h) * 3600);
        tracing::info!(?moved, compacted, "old readings moved to the lake");
        Ok(())
    }

    fn count_kpis(&mut self) -> Result<(), StoreError> {
        let began = Instant::now();
        while !self.refresh.run(self.writer.connection())? {}
        self.pending.touched.refreshed();
        let rest = Duration::from_secs(u64::from(self.shared.settings.kpi.refresh_s));
        self.kpis_at =
            Some(Instant::now() + rest.max(KPI_REST * began.elapsed().as_millis() as u32));
        Ok(())
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
