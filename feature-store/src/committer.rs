//! Writes batches to DuckDB on a separate thread, one at a time, while the next ones are
//! computed.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use eventlog::{EventLog, PartitionOffsets};
use service::disk::DiskSpace;
use telemetry::topic::READINGS;
use tokio_util::sync::CancellationToken;

use crate::{
    StoreError,
    feature_store::FeatureStoreState,
    maintenance::Maintenance,
    store::{SetBackSummary, StoreWriter, WriteBatch, set_zone_back},
};

/// Name of this consumer in the log.
pub(crate) const LOG_CONSUMER: &str = "feature-store";
/// Interval at which offsets are committed to the log.
const OFFSET_COMMIT_INTERVAL: Duration = Duration::from_secs(10);
/// Free disk space that transactions leave, bytes; less on small disks. The log, which fills the
/// disk first, leaves more.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// Approximate size of a feature row in the file, bytes, and the number of simultaneous copies of
/// a batch on the disk: in the write-ahead log, in the tables, and while these are rewritten.
const ROW_BYTES: usize = 2_500;
const DISK_COPIES: u64 = 3;
/// Interval of maintenance checks while no batches arrive.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Largest number of batches in flight, including the one being written. With a second one, a
/// single slow transaction delays nobody.
const BATCHES_MAX: usize = 2;

/// Handle of the writing thread.
#[derive(Debug)]
pub(crate) struct Committer {
    batches: SyncSender<WriteBatch>,
    done: Receiver<Result<(), StoreError>>,
    /// Batches that are not known to be committed.
    pending: usize,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(
        shared: Arc<FeatureStoreState>,
        log: EventLog,
        mut writer: StoreWriter,
        shutdown: CancellationToken,
    ) -> Result<Self, StoreError> {
        let (batches, incoming) = sync_channel::<WriteBatch>(BATCHES_MAX);
        let (results, done) = channel();
        let mut maintenance = Maintenance::new(&shared.settings)?;
        let work = move || {
            let mut read_log = OffsetCommitter::new(log);
            loop {
                match incoming.recv_timeout(MAINTENANCE_INTERVAL) {
                    Ok(batch) => {
                        if batch.watched.is_some() {
                            maintenance.schedule_kpi_refresh();
                        }
                        let positions = batch.positions.clone();
                        let (_, _, payload_bytes) = batch.size();
                        let rows_bytes = batch.rows.len() * ROW_BYTES;
                        let batch_bytes = DISK_COPIES * (payload_bytes + rows_bytes) as u64;
                        let path = &shared.settings.store.path;
                        let result = wait_for_room(path, batch_bytes, &shutdown).and_then(|()| {
                            let _writing = shared.lock_file();
                            commit_batch(&shared, &mut writer, batch)
                        });
                        let failed = result.is_err();
                        if !failed {
                            read_log.record_positions(positions);
                        }
                        if results.send(result).is_err() || failed {
                            return Ok(());
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                let now_ms = shared.is_caught_up().then(now_ms);
                let _writing = shared.lock_file();
                if let Err(error) = maintenance.run_due_jobs(writer.connection(), now_ms) {
                    // Nothing is lost: unfinished jobs stay due.
                    tracing::error!(%error, "maintenance failed; will retry");
                }
            }
            let _writing = shared.lock_file();
            maintenance.refresh_all_kpis(writer.connection())?;
            writer.checkpoint()?;
            read_log.commit_positions();
            Ok(())
        };
        let spawned = thread::Builder::new().name("commit".to_owned()).spawn(work);
        let thread = spawned.map_err(|error| StoreError::Thread(error.to_string()))?;
        Ok(Self { batches, done, pending: 0, thread })
    }

    /// Returns whether all batches are committed.
    ///
    /// # Errors
    /// Returns why the last batch could not be committed.
    pub(crate) fn is_idle(&mut self) -> Result<bool, StoreError> {
        while self.pending > 0 {
            match self.done.try_recv() {
                Ok(result) => {
                    self.pending -= 1;
                    result?;
                }
                Err(TryRecvError::Empty) => return Ok(false),
                Err(TryRecvError::Disconnected) => return Err(thread_ended_error()),
            }
        }
        Ok(true)
    }

    /// Waits until all batches are committed.
    ///
    /// # Errors
    /// Fails as [`Committer::is_idle`] does.
    pub(crate) fn wait_until_idle(&mut self) -> Result<(), StoreError> {
        self.wait_for_pending(0)
    }

    fn wait_for_pending(&mut self, pending_max: usize) -> Result<(), StoreError> {
        while self.pending > pending_max {
            self.pending -= 1;
            self.done.recv().map_err(|_| thread_ended_error())??;
        }
        Ok(())
    }

    /// Enqueues a batch, to be written after the earlier ones. Waits while the queue is full.
    ///
    /// # Errors
    /// Fails as [`Committer::is_idle`] does.
    pub(crate) fn enqueue_batch(&mut self, batch: WriteBatch) -> Result<(), StoreError> {
        self.wait_for_pending(BATCHES_MAX - 1)?;
        self.batches.send(batch).map_err(|_| thread_ended_error())?;
        self.pending += 1;
        Ok(())
    }

    /// Waits for the last batch, and ends the thread.
    ///
    /// # Errors
    /// Fails as [`Committer::is_idle`] does.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.wait_until_idle()?;
        drop(self.batches);
        self.thread.join().map_err(|_| thread_ended_error())?
    }
}

/// Commits offsets to the log, which may then delete the records before them.
struct OffsetCommitter {
    log: EventLog,
    positions: PartitionOffsets,
    committed_at: Instant,
}

impl OffsetCommitter {
    fn new(log: EventLog) -> Self {
        Self { log, positions: PartitionOffsets::new(), committed_at: Instant::now() }
    }

    /// Records committed positions.
    fn record_positions(&mut self, positions: PartitionOffsets) {
        self.positions.extend(positions.into_iter().filter(|(partition, _)| *partition >= 0));
        if self.committed_at.elapsed() >= OFFSET_COMMIT_INTERVAL {
            self.commit_positions();
        }
    }

    fn commit_positions(&mut self) {
        self.committed_at = Instant::now();
        if self.positions.is_empty() {
            return;
        }
        if let Err(error) = self.log.commit_offsets(READINGS, LOG_CONSUMER, &self.positions) {
            // Until the next attempt, the log keeps more than it needs to.
            tracing::warn!(%error, "cannot commit offsets to the log; will retry");
        }
    }
}

/// Waits until the disk has room for a transaction, so that DuckDB never finds it full: after a
/// failed write, the database would have to be opened again. Reading goes on meanwhile.
///
/// # Errors
/// Fails with [`StoreError::DiskFull`] at shutdown; the log still has what was not written.
fn wait_for_room(
    path: &Path,
    batch_bytes: u64,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // If the free space is unknown, DuckDB reports the error.
    let is_full = || {
        DiskSpace::at_path(folder)
            .is_ok_and(|space| space.usable_bytes(FREE_BYTES_MIN) <= batch_bytes)
    };
    let mut is_reported = false;
    while is_full() {
        if !std::mem::replace(&mut is_reported, true) {
            tracing::error!(
                folder = %folder.display(),
                "the disk is full: nothing is ingested until there is room (`df -h`)"
            );
        }
        if shutdown.is_cancelled() {
            return Err(StoreError::DiskFull { folder: folder.to_owned() });
        }
        thread::sleep(Duration::from_millis(500));
    }
    if is_reported {
        tracing::info!("the disk has room again");
    }
    Ok(())
}

fn commit_batch(
    shared: &FeatureStoreState,
    writer: &mut StoreWriter,
    batch: WriteBatch,
) -> Result<(), StoreError> {
    let start = Instant::now();
    let (tally, schema) = (batch.tally.clone(), batch.schema.clone());
    let set_back = batch.set_back.clone();
    let (records, readings, _) = batch.size();
    tracing::debug!(records, readings, rows = tally.rows, "committing");
    writer.commit_batch(batch)?;
    let took = start.elapsed();
    schema.into_iter().for_each(|schema| shared.set_schema(schema));
    shared.counters.note_commit(&tally, took);
    tracing::debug!(records, readings, rows = tally.rows, ?took, "committed");
    for (zone, ahead_ms) in set_back {
        let (settings, metrics) = (&shared.settings, &shared.metrics);
        let result = set_zone_back(writer.connection(), settings, metrics, &zone, ahead_ms)?;
        shared.counters.note_set_back(&result);
        let SetBackSummary { future, admitted, rows: (deleted, written), .. } = result;
        tracing::warn!(
            %zone, future, admitted, deleted, written,
            "the gateway's clock was ahead and has been corrected; the zone was set back"
        );
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn thread_ended_error() -> StoreError {
    StoreError::Thread("it panicked; its message is above".to_owned())
}
