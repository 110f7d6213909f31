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
    /// Its share of the queue, released when the record is durable.
    _room: OwnedSemaphorePermit,
}

/// The durable end of the log. Readers do not pass it.
#[derive(Clone, Copy, Debug)]
pub(super) struct DurablePosition {
    /// The offset after the last durable record.
    pub(super) next: i64,
    /// First offset of the segment with the durable end.
    pub(super) base: i64,
    /// Durable size of that segment, bytes.
    pub(super) len_bytes: u64,
}

/// The state that the appender and the readers share.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) name: Arc<str>,
    pub(super) dir: PathBuf,
    pub(super) durable: watch::Sender<DurablePosition>,
    /// The failure after which no more records are accepted.
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
    /// Whether the disk has no room, so that no records are accepted for now.
    is_full: AtomicBool,
    /// Whether the topic is being closed and records that wait for room are given up.
    is_closing: AtomicBool,
}

impl TopicState {
    /// Locks the first offsets of the segments, in order; never empty.
    pub(super) fn lock_segments(&self) -> MutexGuard<'_, Vec<i64>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the next offsets of all open readers.
    pub(super) fn lock_readers(&self) -> MutexGuard<'_, BTreeMap<u64, i64>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the offsets of the next record that each consumer needs.
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

    /// Records whether a consumer keeps the topic above its retention, and warns once when it
    /// begins.
    pub(super) fn set_held_back(&self, is_held_back: bool) {
        if !self.is_held_back.swap(is_held_back, Ordering::Relaxed) && is_held_back {
            let committed = self.lock_committed().clone();
            warn!(
                topic = %self.name, ?committed,
                "the topic exceeds its retention: a consumer has not committed its oldest records"
            );
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Records whether the disk is full, and logs each change once.
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

    /// Returns a number that no other reader has.
    pub(super) fn next_reader_id(&self) -> u64 {
        self.reader_ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn poison_error(&self) -> Option<LogError> {
        let cause = self.poison.get()?.clone();
        Some(LogError::Poisoned { topic: self.name.to_string(), cause: Box::new(cause) })
    }
}

/// One topic: a bounded queue, the thread that drains it, and the segments.
#[derive(Debug)]
pub(crate) struct EmbeddedTopic {
    pub(super) shared: Arc<TopicState>,
    queue: Option<UnboundedSender<PendingAppend>>,
    /// Bounds the queue by bytes, because records differ a hundredfold in size.
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
        let builder = thread::Builder::new().name(format!("append {name}"));
        let appender = builder
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

    /// Queues a record that is within the size limit, and waits while the queue is full. `answer`
    /// gets any other result.
    pub(crate) async fn append_with_answer(
        &self,
        record: Record,
        answer: oneshot::Sender<AppendResult>,
    ) {
        // A record of the largest size must fit into an empty queue, so the frame's overhead is
        // not counted.
        let share = record.content_bytes().max(frame::OVERHEAD_BYTES).min(self.record_bytes_max);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        // A closed queue drops `answer`, which reports that the topic is closed.
        let Ok(room) = self.room.clone().acquire_many_owned(share).await else { return };
        if let Some(queue) = &self.queue {
            let _ = queue.send(PendingAppend { record, answer, _room: room });
        }
    }

    /// Returns the size of all segments, bytes.
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

    /// Removes segments whose records are all below `below_offset` and were passed by every open
    /// reader. Returns the oldest remaining offset.
    pub(crate) fn trim_below(&self, below_offset: i64) -> Result<i64, LogError> {
        self.shared.trim_below(below_offset)
    }

    /// Removes segments that nobody needs and that exceed the age or the size limit.
    pub(crate) fn apply_retention(&self) -> Result<(), LogError> {
        self.shared.apply_retention(SystemTime::now()).map(|_| ())
    }

    /// Notes that a consumer has stored everything below `offset`.
    pub(crate) fn commit_offset(&self, consumer: &str, offset: i64) -> Result<(), LogError> {
        // The offset is known before it is written, because a full disk must not let retention
        // pass it.
        self.shared.lock_committed().insert(consumer.to_owned(), offset);
        retention::write_committed(&self.shared.dir, consumer, offset)
    }

    pub(crate) fn name(&self) -> String {
        self.shared.name.to_string()
    }

    /// Returns the disk usage of the topic.
    pub(crate) fn storage_stats(&self) -> Result<TopicStorage, LogError> {
        self.shared.storage_stats()
    }

    /// Whether no records are accepted because the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.shared.is_full()
    }
}

impl Drop for EmbeddedTopic {
    /// Writes the queued records, then releases the folder.
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
