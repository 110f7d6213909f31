use std::{
    collections::BTreeMap,
    fs::{self, File},
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::SystemTime,
};

use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{UnboundedSender, unbounded_channel},
    oneshot, watch,
};
use tracing::{error, info, warn};

use super::{
    appender::SegmentAppender,
    frame, io_error,
    retention::{self, TopicStorage},
    segment::{self, HEADER_BYTES},
    sync_dir,
};
use crate::{
    EventLogConfig, FaultInjector, LogError, Record, TopicRetention,
    writer::{AppendReceipt, AppendResult},
};

/// A record on its way to the appender.
pub(super) struct PendingAppend {
    pub(super) record: Record,
    pub(super) answer: oneshot::Sender<AppendResult>,
    /// Its share of the queue, given back when it is durable.
    _room: OwnedSemaphorePermit,
}

/// How far the log is synced. Readers go no further.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurablePosition {
    /// The offset after the last durable record.
    pub(super) next: i64,
    /// First offset of the segment it is in.
    pub(super) base: i64,
    /// Durable length of that segment, bytes.
    pub(super) len_bytes: u64,
}

/// What the appender and the readers share.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) name: Arc<str>,
    pub(super) dir: PathBuf,
    pub(super) durable: watch::Sender<DurablePosition>,
    /// The failure after which nothing is taken any more.
    pub(super) poison: OnceLock<LogError>,
    pub(super) retention: TopicRetention,
    segments: Mutex<Vec<i64>>,
    /// The next offset of every open reader.
    readers: Mutex<BTreeMap<u64, i64>>,
    reader_ids: AtomicU64,
    /// The next record that each consumer needs.
    committed: Mutex<BTreeMap<String, i64>>,
    removed_records: AtomicU64,
    is_held_back: AtomicBool,
    /// The disk has no room: nothing is taken for now.
    is_full: AtomicBool,
    /// The topic is being closed: what waits for room is given up.
    is_closing: AtomicBool,
}

impl TopicState {
    /// First offsets of the segments, in order; never empty.
    pub(super) fn lock_segments(&self) -> MutexGuard<'_, Vec<i64>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next offset of every open reader.
    pub(super) fn lock_readers(&self) -> MutexGuard<'_, BTreeMap<u64, i64>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next record that each consumer needs.
    pub(super) fn lock_committed(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn removed_records(&self) -> u64 {
        self.removed_records.load(Ordering::Relaxed)
    }

    pub(super) fn count_removed(&self, records: u64) {
        self.removed_records.fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn is_held_back(&self) -> bool {
        self.is_held_back.load(Ordering::Relaxed)
    }

    /// Says once that a consumer is behind what retention would keep.
    pub(super) fn set_held_back(&self, is_held_back: bool) {
        if !self.is_held_back.swap(is_held_back, Ordering::Relaxed) && is_held_back {
            let committed = self.lock_committed().clone();
            warn!(
                topic = %self.name, ?committed,
                "the topic is over its retention, and kept: a consumer has not committed it"
            );
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Says once that the disk is full, and once that it no longer is.
    pub(super) fn set_full(&self, cause: Option<&LogError>) {
        let was_full = self.is_full.swap(cause.is_some(), Ordering::Relaxed);
        match cause {
            Some(cause) if !was_full => error!(
                topic = %self.name, %cause,
                "the disk is full: nothing is acknowledged until there is room"
            ),
            None if was_full => info!(topic = %self.name, "the disk has room again"),
            _ => {}
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// A number that no other reader has.
    pub(super) fn next_reader_id(&self) -> u64 {
        self.reader_ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn poison_error(&self) -> Option<LogError> {
        let cause = self.poison.get()?.clone();
        Some(LogError::Poisoned { topic: self.name.to_string(), cause: Box::new(cause) })
    }
}

/// One topic: a bounded queue, the thread behind it, and the segments.
#[derive(Debug)]
pub(crate) struct EmbeddedTopic {
    pub(super) shared: Arc<TopicState>,
    queue: Option<UnboundedSender<PendingAppend>>,
    /// Bounds the queue by bytes: records differ a hundredfold in size.
    room: Arc<Semaphore>,
    record_bytes_max: usize,
    appender: Option<JoinHandle<()>>,
    /// Held until the appender has ended.
    _lock: Arc<File>,
}

impl EmbeddedTopic {
    pub(super) fn open(
        name: &str,
        settings: &EventLogConfig,
        lock: Arc<File>,
        faults: FaultInjector,
    ) -> Result<Self, LogError> {
        let dir = settings.dir.join(name);
        fs::create_dir_all(&dir).map_err(|e| io_error(&dir, "create the folder", e))?;
        sync_dir(&settings.dir)?;
        let mut segments = segment::list_segments(&dir)?;
        let (file, durable) = if let Some(&base) = segments.last() {
            let found = segment::recover_segment(&dir, base)?;
            (found.file, DurablePosition { next: found.next, base, len_bytes: found.len_bytes })
        } else {
            segments.push(0);
            let durable = DurablePosition { next: 0, base: 0, len_bytes: HEADER_BYTES };
            (segment::create_segment(&dir, 0)?, durable)
        };
        let retention = settings.retention.for_topic(name);
        let shared = Arc::new(TopicState {
            name: name.into(),
            durable: watch::Sender::new(durable),
            poison: OnceLock::new(),
            retention,
            segments: Mutex::new(segments),
            readers: Mutex::default(),
            reader_ids: AtomicU64::new(0),
            committed: Mutex::new(retention::read_committed(&dir)?),
            removed_records: AtomicU64::new(0),
            is_held_back: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            dir,
        });
        let (queue, pending) = unbounded_channel();
        let appender = SegmentAppender::new(shared.clone(), file, pending, settings, faults);
        let thread = thread::Builder::new().name(format!("append {name}"));
        let appender = thread
            .spawn(move || appender.run())
            .map_err(|e| io_error(&shared.dir, "start the appender thread", e))?;
        Ok(Self {
            shared,
            queue: Some(queue),
            room: Arc::new(Semaphore::new(settings.queue_bytes_max)),
            record_bytes_max: settings.record_bytes_max,
            appender: Some(appender),
            _lock: lock,
        })
    }

    pub(crate) async fn append(&self, record: Record) -> Result<AppendReceipt, LogError> {
        let found_bytes = record.content_bytes();
        if found_bytes > self.record_bytes_max {
            let (topic, max_bytes) = (self.shared.name.to_string(), self.record_bytes_max);
            return Err(LogError::TooLarge { topic, found_bytes, max_bytes });
        }
        if let Some(poisoned) = self.shared.poison_error() {
            return Err(poisoned);
        }
        let (answer, receipt) = AppendReceipt::new(self.shared.name.clone());
        self.append_with_answer(record, answer).await;
        Ok(receipt)
    }

    /// Queues a record that is not over the limit; waits while the queue is
    /// full. Everything else is said by the `answer`.
    pub(crate) async fn append_with_answer(
        &self,
        record: Record,
        answer: oneshot::Sender<AppendResult>,
    ) {
        // A record of the largest size fits an empty queue, with its frame's
        // overhead left out so that it always does.
        let share = record.content_bytes().max(frame::OVERHEAD_BYTES).min(self.record_bytes_max);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        // A closed queue drops the answer, which says that the topic is closed.
        let Ok(room) = self.room.clone().acquire_many_owned(share).await else { return };
        if let Some(queue) = &self.queue {
            let _ = queue.send(PendingAppend { record, answer, _room: room });
        }
    }

    /// The size of all its segments, bytes.
    pub(crate) fn file_bytes(&self) -> Result<u64, LogError> {
        let segments = self.shared.lock_segments();
        let sizes = segments.iter().map(|base| {
            let path = segment::segment_path(&self.shared.dir, *base);
            let found = fs::metadata(&path).map(|metadata| metadata.len());
            found.map_err(|e| io_error(&path, "read the size", e))
        });
        sizes.sum()
    }

    pub(crate) fn offset_bounds(&self) -> Range<i64> {
        let first = self.shared.lock_segments()[0];
        first..self.shared.durable.borrow().next
    }

    /// Removes segments whose every record is below `below_offset` and was passed by every open
    /// reader. Returns the oldest offset left.
    pub(crate) fn trim_below(&self, below_offset: i64) -> Result<i64, LogError> {
        self.shared.trim_below(below_offset)
    }

    /// Removes segments that nobody needs and that are too old or too many.
    pub(crate) fn apply_retention(&self) -> Result<(), LogError> {
        self.shared.apply_retention(SystemTime::now()).map(|_| ())
    }

    /// A consumer has everything below `offset`.
    pub(crate) fn commit_offset(&self, consumer: &str, offset: i64) -> Result<(), LogError> {
        // Known before it is written: a full disk must not let retention pass it.
        self.shared.lock_committed().insert(consumer.to_owned(), offset);
        retention::write_committed(&self.shared.dir, consumer, offset)
    }

    pub(crate) fn name(&self) -> String {
        self.shared.name.to_string()
    }

    /// What the topic has on disk.
    pub(crate) fn storage_stats(&self) -> Result<TopicStorage, LogError> {
        self.shared.storage_stats()
    }

    /// Whether nothing is taken, because the disk has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.is_full()
    }
}

impl Drop for EmbeddedTopic {
    /// Writes what is queued, then lets go of the folder.
    fn drop(&mut self) {
        self.queue = None;
        self.shared.is_closing.store(true, Ordering::Relaxed);
        if let Some(appender) = self.appender.take()
            && appender.join().is_err()
        {
            tracing::error!(topic = %self.shared.name, "the appender thread panicked");
        }
    }
}
