//! Writes batches to DuckDB on a thread of its own, one at a time, while others
//! are made.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    StoreError,
    feature_store::Shared,
    store::{Batch, SetBack, Writer, set_zone_back},
    upkeep::Upkeep,
};

/// How often it is asked what is due while nothing comes.
const UPKEEP: Duration = Duration::from_secs(1);
/// Batches on their way at most, the one that is written among them: with one more, a
/// transaction that takes long for once holds nobody up.
const BATCHES_MAX: usize = 2;

/// The near end of the writing thread.
#[derive(Debug)]
pub(crate) struct Committer {
    batches: SyncSender<Batch>,
    done: Receiver<Result<(), StoreError>>,
    /// Batches that are not known to be committed.
    pending: usize,
    thread: JoinHandle<Result<(), StoreError>>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(shared: Arc<Shared>, writer: Writer) -> Result<Self, StoreError> {
        let (batches, incoming) = sync_channel::<Batch>(BATCHES_MAX);
        let (said, done) = channel();
        let mut upkeep = Upkeep::new(&shared.settings)?;
        let work = move || {
            let mut writer = writer;
            loop {
                match incoming.recv_timeout(UPKEEP) {
                    Ok(batch) => {
                        if batch.watched.is_some() {
                            upkeep.make_due();
                        }
                        let result = commit(&shared, &mut writer, batch);
                        let failed = result.is_err();
                        if said.send(result).is_err() || failed {
                            return Ok(());
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                let now_ms = shared.is_caught_up().then(now_ms);
                if let Err(error) = upkeep.if_due(writer.connection(), now_ms) {
                    // Nothing is lost: what was not done is due again.
                    tracing::error!(%error, "upkeep");
                }
            }
            upkeep.finish(writer.connection())?;
            writer.checkpoint()
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
                Err(TryRecvError::Disconnected) => return Err(ended()),
            }
        }
        Ok(true)
    }

    /// Waits until everything that was handed over is committed.
    ///
    /// # Errors
    /// As [`Committer::is_idle`].
    pub(crate) fn wait(&mut self) -> Result<(), StoreError> {
        self.wait_for(0)
    }

    fn wait_for(&mut self, pending_max: usize) -> Result<(), StoreError> {
        while self.pending > pending_max {
            self.pending -= 1;
            self.done.recv().map_err(|_| ended())??;
        }
        Ok(())
    }

    /// Hands a batch over, to be written after those before it; waits while there are too
    /// many.
    ///
    /// # Errors
    /// As [`Committer::is_idle`].
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.wait_for(BATCHES_MAX - 1)?;
        self.batches.send(batch).map_err(|_| ended())?;
        self.pending += 1;
        Ok(())
    }

    /// Waits for the last batch, and ends.
    ///
    /// # Errors
    /// As [`Committer::is_idle`].
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.wait()?;
        drop(self.batches);
        self.thread.join().map_err(|_| ended())?
    }
}

fn commit(shared: &Shared, writer: &mut Writer, batch: Batch) -> Result<(), StoreError> {
    let start = Instant::now();
    let (tally, schema) = (batch.tally.clone(), batch.schema.clone());
    let set_back = batch.set_back.clone();
    let (records, readings, _) = batch.size();
    tracing::debug!(records, readings, rows = tally.rows, "committing");
    writer.commit(batch)?;
    let took = start.elapsed();
    schema.into_iter().for_each(|schema| shared.set_schema(schema));
    shared.counters.note_commit(&tally, took);
    tracing::debug!(records, readings, rows = tally.rows, ?took, "committed");
    for (zone, ahead_ms) in set_back {
        let (settings, metrics) = (&shared.settings, &shared.metrics);
        let result = set_zone_back(writer.connection(), settings, metrics, &zone, ahead_ms)?;
        shared.counters.note_set_back(&result);
        let SetBack { future, admitted, rows: (deleted, written), .. } = result;
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

fn ended() -> StoreError {
    StoreError::Thread("it panicked; what it says is above".to_owned())
}
