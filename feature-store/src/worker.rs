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
    definitions::SqlReading,
    engine::{Engine, Output},
    feature_store::Shared,
    intake,
    settings::Commit,
    store::{Batch, Restored, Writer},
};

/// Records asked of the log at once.
const RECORDS_MAX: usize = 4096;
/// Batches between the reader and the worker.
const QUEUE_MAX: usize = 4;
/// How long a reading may wait for others before it shows online.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// How often time passes for silent zones.
const TICK: Duration = Duration::from_secs(1);

/// Runs until `shutdown`, the log's end or a failure.
pub(crate) async fn run(
    shared: Arc<Shared>,
    log: &EventLog,
    writer: Writer,
    restored: Restored,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let (log, positions) = (log.clone(), restored.positions.clone());
    let opened = tokio::task::spawn_blocking(move || log.reader(READINGS, &positions)).await;
    let mut reader = opened.map_err(|error| StoreError::Thread(error.to_string()))??;
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    let worker = Worker {
        pending: Batch { positions: restored.positions, ..Batch::default() },
        commit: shared.settings.commit,
        shared,
        engine: restored.engine,
        writer,
        committed_at: Instant::now(),
        ticked_at: Instant::now(),
    };
    let worker = tokio::task::spawn_blocking(move || worker.run(receiver));
    let read = async {
        loop {
            // An empty batch tells the worker the time.
            let batch = reader.next_batch(RECORDS_MAX, WAIT_MAX).await?;
            if sender.send(batch).await.is_err() {
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
    worker.await.map_err(|error| StoreError::Thread(error.to_string()))??;
    result
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
}

impl Worker {
    fn run(mut self, mut batches: mpsc::Receiver<Vec<Entry>>) -> Result<(), StoreError> {
        self.show();
        while let Some(entries) = batches.blocking_recv() {
            self.take(entries);
            let interval = Duration::from_millis(self.commit.interval_ms);
            if self.pending.qualities.len() >= self.commit.readings_max
                || self.committed_at.elapsed() >= interval
            {
                self.commit()?;
            }
        }
        self.commit()?;
        self.writer.checkpoint()
    }

    fn take(&mut self, entries: Vec<Entry>) {
        let Batch { arrived, qualities, rows, positions, .. } = &mut self.pending;
        let mut output =
            Output { qualities: std::mem::take(qualities), rows: std::mem::take(rows) };
        let is_empty = entries.is_empty();
        let records: Vec<_> = entries.into_iter().map(intake::read).collect();
        let reports = records.iter().filter_map(|record| record.report.as_ref().ok());
        self.engine.run_ahead(reports.flat_map(SqlReading::of_report));
        let before = output.rows.len();
        for record in records {
            positions.insert(record.entry.partition, record.entry.offset + 1);
            match &record.report {
                Ok(report) => self.engine.take(report, &mut output),
                Err(reason) => {
                    let (partition, offset) = (record.entry.partition, record.entry.offset);
                    tracing::warn!(partition, offset, reason, "record without readings");
                }
            }
            arrived.push(record);
        }
        self.engine.join(&mut output.rows[before..]);
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
        if self.pending.arrived.is_empty() && self.pending.rows.is_empty() {
            return Ok(());
        }
        let progress =
            self.engine.zones().map(|(zone, _, progress)| (zone.clone(), progress.clone()));
        self.pending.progress = progress.collect();
        self.pending.metrics = self.engine.metrics().to_vec();
        self.writer.commit(&self.pending)?;
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
        Ok(())
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
