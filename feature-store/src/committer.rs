//! Writes batches to DuckDB on a thread of its own, one at a time, while others
//! are made.

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

/// The name under which the log knows this reader.
pub(crate) const LOG_CONSUMER: &str = "feature-store";
/// How often the log is told how far it was read.
const OFFSET_COMMIT_INTERVAL: Duration = Duration::from_secs(10);
/// Room on the disk that transactions leave, bytes; on small disks less. The log, which fills
/// first, leaves more.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// A feature row in the file, about, bytes; and how often a batch is on the disk at once: in the
/// log of transactions, in the tables, and while these are written anew.
const ROW_BYTES: usize = 2_500;
const DISK_COPIES: u64 = 3;
/// How often it is asked what is due while nothing comes.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// Batches on their way at most, the one that is written among them: with one more, a
/// transaction that takes long for once holds nobody up.
const BATCHES_MAX: usize = 2;

/// The near end of the writing thread.
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
        writer: StoreWriter,
        shutdown: CancellationToken,
    ) -> Result<Self, StoreError> {
        let (batches, incoming) = sync_channel::<WriteBatch>(BATCHES_MAX);
        let (said, done) = channel();
        let mut upkeep = Maintenance::new(&shared.settings)?;
        let work = move || {
            let mut writer = writer;
            let mut read_log = OffsetCommitter::new(log);
            loop {
                match incoming.recv_timeout(MAINTENANCE_INTERVAL) {
                    Ok(batch) => {
                        if batch.watched.is_some() {
                            upkeep.schedule_kpi_refresh();
                        }
                        let positions = batch.positions.clone();
                        let (_, _, payload_bytes) = batch.size();
                        let rows_bytes = batch.rows.len() * ROW_BYTES;
                        let batch_bytes = DISK_COPIES * (payload_bytes + rows_bytes) as u64;
                        let path = &shared.settings.store.path;
                        let result = wait_for_room(path, batch_bytes, &shutdown)
                            .and_then(|()| commit_batch(&shared, &mut writer, batch));
                        let failed = result.is_err();
                        if !failed {
                            read_log.record_positions(positions);
                        }
                        if said.send(result).is_err() || failed {
                            return Ok(());
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                let now_ms = shared.is_caught_up().then(now_ms);
                if let Err(error) = upkeep.run_due_jobs(writer.connection(), now_ms) {
                    // Nothing is lost: what was not done is due again.
                    tracing::error!(%error, "upkeep");
                }
            }
            upkeep.refresh_all_kpis(writer.connection())?;
            writer.checkpoint()?;
            read_log.commit_positions();
            Ok(())
        };
        let thread = thread::Builder::new().name("commit".to_owned()).spawn(work);
        let thread = thread.map_err(|error| StoreError::Thread(error.to_string()))?;
        Ok(Self { batches, done, pending: 0, thread })
    }

    /// Whether everything that was handed over is committed.
    ///
    /// # Errors
    /// Why the last batch could not be committed.
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

    /// Waits until everything that was handed over is committed.
    ///
    /// # Errors
    /// As [`Committer::is_idle`].
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

    /// Hands a batch over, to be written after those before it; waits while there are too
    /// many.
    ///
    /// # Errors
    /// As [`Committer::is_idle`].
    pub(crate) fn enqueue_batch(&mut self, batch: WriteBatch) -> Result<(), StoreError> {
        self.wait_for_pending(BATCHES_MAX - 1)?;
        self.batches.send(batch).map_err(|_| thread_ended_error())?;
        self.pending += 1;
        Ok(())
    }

    /// Waits for the last batch, and ends.
    ///
    /// # Errors
    /// As [`Committer::is_idle`].
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.wait_until_idle()?;
        drop(self.batches);
        self.thread.join().map_err(|_| thread_ended_error())?
    }
}

/// Tells the log how far everything in it is committed here, so that it may let that go.
struct OffsetCommitter {
    log: EventLog,
    positions: PartitionOffsets,
    committed_at: Instant,
}

impl OffsetCommitter {
    fn new(log: EventLog) -> Self {
        Self { log, positions: PartitionOffsets::new(), committed_at: Instant::now() }
    }

    /// These positions are committed.
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
            // The log keeps more than it needs to until the next time.
            tracing::warn!(%error, "the log does not know how far it was read");
        }
    }
}

/// Waits until the disk has room for a transaction, so that DuckDB never finds it full: after
/// a write that failed it would have to be opened again. What can be read is read meanwhile.
///
/// # Errors
/// [`StoreError::NoRoom`] at the end of the process: the log has what was not written.
fn wait_for_room(
    path: &Path,
    batch_bytes: u64,
    shutdown: &CancellationToken,
) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Where the room cannot be asked for, DuckDB says what is wrong.
    let is_full = || {
        DiskSpace::at_path(folder)
            .is_ok_and(|space| space.usable_bytes(FREE_BYTES_MIN) <= batch_bytes)
    };
    let mut is_said = false;
    while is_full() {
        if !std::mem::replace(&mut is_said, true) {
            tracing::error!(
                folder = %folder.display(),
                "the disk is full: nothing is taken in until there is room (`df -h`)"
            );
        }
        if shutdown.is_cancelled() {
            return Err(StoreError::DiskFull { folder: folder.to_owned() });
        }
        thread::sleep(Duration::from_millis(500));
    }
    if is_said {
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
            "the gateway's clock was ahead and no longer is: the zone was set back"
        );
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn thread_ended_error() -> StoreError {
    StoreError::Thread("it panicked; what it says is above".to_owned())
}
