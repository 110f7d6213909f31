use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::sync::{Notify, oneshot};
use tracing::{error, info, warn};

use super::SpoolStatus;
use crate::{
    EventLogConfig, FaultInjector, LogError, Record, TopicRetention,
    config::{EventLogKind, RetentionConfig},
    embedded::{EmbeddedLog, EmbeddedTopic, TailReader, io_error, sync_dir},
    writer::AppendResult,
};

/// Longest cause that is stored beside a record, bytes.
const CAUSE_BYTES_MAX: usize = 512;
/// Topic of the records that Kafka refuses and that have no other keeper.
const REFUSED: &str = "refused";
const REFUSED_RETENTION: TopicRetention = TopicRetention { age_days: 30.0, bytes_max: 256 << 20 };

/// The spool on disk: a topic of the embedded log that is trimmed as Kafka accepts its records.
#[derive(Debug)]
pub(super) struct SpoolStore {
    name: Arc<str>,
    log: EmbeddedLog,
    topic: Arc<EmbeddedTopic>,
    /// The file with the drained offset.
    path: PathBuf,
    bytes_max: u64,
    state: Mutex<SpoolState>,
    /// Notified when records were drained.
    room: Notify,
    is_direct: AtomicBool,
}

#[derive(Debug)]
struct SpoolState {
    /// The offset after the last appended record, synced or not.
    end: i64,
    /// Kafka has all records below this offset.
    drained: i64,
    held_bytes: u64,
    /// The time since which it holds records.
    since: Option<Instant>,
    is_full: bool,
    counts: (u64, u64),
    /// The time when a record last reached Kafka, or when the first one was stored.
    moved_at: Instant,
    restarts: u64,
    refused: u64,
    last_error: Option<String>,
}

impl SpoolStore {
    pub(super) fn open(
        settings: &EventLogConfig,
        topic: &str,
        faults: FaultInjector,
    ) -> Result<Self, LogError> {
        let spool = &settings.spool;
        let spool_settings = EventLogConfig {
            kind: EventLogKind::Embedded,
            dir: spool.dir.join(topic),
            // Files are removed one by one as they are drained.
            segment_bytes_max: (spool.bytes_max / 16).clamp(1 << 20, 16 << 20),
            // Leaves room for the cause that is stored beside a record.
            record_bytes_max: settings.record_bytes_max + 2 * CAUSE_BYTES_MAX,
            queue_bytes_max: settings.queue_bytes_max + 2 * CAUSE_BYTES_MAX,
            retention: RetentionConfig::unlimited_except([(REFUSED, REFUSED_RETENTION)]),
            ..settings.clone()
        };
        let log = EmbeddedLog::open(&spool_settings, faults)?;
        let path = spool_settings.dir.join("drained");
        let files = log.open_topic("records")?;
        let available = files.offset_bounds();
        let drained = match fs::read_to_string(&path) {
            Ok(text) => {
                let what = || format!("`{}`, expected the offset that Kafka has", text.trim());
                let found = text.trim().parse::<i64>();
                found.map_err(|_| LogError::Corrupt {
                    path: path.clone(),
                    position: 0,
                    what: what(),
                })?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => available.start,
            Err(error) => return Err(io_error(&path, "read", error)),
        };
        if drained > available.end {
            // The records were removed. The old offset must not count for new ones.
            write_drained(&path, available.end)?;
        }
        let drained = drained.clamp(available.start, available.end);
        let held = available.end - drained;
        if held > 0 {
            info!(
                topic,
                records = held,
                "the spool holds records of an earlier run; they are sent first"
            );
        }
        let state = SpoolState {
            end: available.end,
            drained,
            held_bytes: if held > 0 { files.file_bytes()? } else { 0 },
            since: (held > 0).then(Instant::now),
            is_full: false,
            counts: (0, 0),
            moved_at: Instant::now(),
            restarts: 0,
            refused: 0,
            last_error: None,
        };
        Ok(Self {
            name: topic.into(),
            log,
            topic: files,
            path,
            bytes_max: spool.bytes_max,
            state: Mutex::new(state),
            room: Notify::new(),
            is_direct: AtomicBool::new(false),
        })
    }

    /// Whether Kafka has all records that were ever appended.
    pub(super) fn is_drained(&self) -> bool {
        let state = self.lock_state();
        state.drained == state.end
    }

    /// Appends a record. `answer` is sent when it is synced. Waits while the spool is full.
    pub(super) async fn append(&self, record: Record, answer: oneshot::Sender<AppendResult>) {
        let bytes = cost_bytes(&record);
        loop {
            let drained = self.room.notified();
            if self.reserve_room(bytes) {
                break;
            }
            drained.await;
        }
        // The answer reports errors.
        self.topic.append_with_answer(record, answer).await;
    }

    /// Reserves room for a record, or logs an error if there is none.
    fn reserve_room(&self, bytes: u64) -> bool {
        let mut state = self.lock_state();
        let fits = state.held_bytes + bytes <= self.bytes_max || state.end == state.drained;
        if fits {
            state.end += 1;
            state.held_bytes += bytes;
            if state.since.is_none() {
                let now = Instant::now();
                (state.since, state.moved_at) = (Some(now), now);
            }
            state.counts.0 += 1;
        } else if !state.is_full {
            error!(
                topic = %self.name, bytes_max = self.bytes_max,
                "the spool is full: nothing is acknowledged until Kafka is back"
            );
        }
        state.is_full = !fits;
        fits
    }

    /// Notes that Kafka has the record at `offset` and everything before it.
    pub(super) fn advance_drained(&self, offset: i64, record: &Record) {
        let mut state = self.lock_state();
        state.drained = offset + 1;
        state.held_bytes = state.held_bytes.saturating_sub(cost_bytes(record));
        state.counts.1 += 1;
        state.moved_at = Instant::now();
        if state.drained == state.end {
            (state.held_bytes, state.since, state.last_error) = (0, None, None);
        }
        drop(state);
        self.room.notify_one();
    }

    /// Opens a reader of the records that Kafka does not have, including future ones.
    pub(super) fn open_tail(&self) -> Result<TailReader, LogError> {
        TailReader::open(self.topic.clone(), Some(self.lock_state().drained))
    }

    /// Stores the drained offset and removes drained files. Progress that a crash loses is sent
    /// to Kafka once more.
    pub(super) fn persist_drained(&self) -> Result<(), LogError> {
        let drained = self.lock_state().drained;
        if let Err(error) = write_drained(&self.path, drained) {
            // On a full disk, removing the files makes room.
            warn!(topic = %self.name, %error, "cannot store the drained offset");
        }
        self.topic.trim_below(drained).map(|_| ())
    }

    /// Returns since when it has held records without sending any to Kafka; `None` while it is
    /// empty.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        let state = self.lock_state();
        // Records that wait for the disk are not stored yet.
        (state.drained < self.topic.offset_bounds().end).then_some(state.moved_at)
    }

    /// Notes that Kafka failed, or could not be reached.
    pub(super) fn note_failure(&self, error: &LogError) {
        let mut state = self.lock_state();
        state.last_error = (state.drained < state.end).then(|| error.to_string());
    }

    /// Counts a restart of a stalled drain.
    pub(super) fn note_restart(&self) {
        self.lock_state().restarts += 1;
    }

    /// Counts a record that Kafka refuses and that is stored elsewhere.
    pub(super) fn note_refused(&self) {
        self.lock_state().refused += 1;
    }

    /// Stores a record that Kafka refuses and that has no other keeper, in the topic `refused`
    /// beside the spool.
    pub(super) async fn keep_refused(
        &self,
        mut record: Record,
        cause: &LogError,
    ) -> Result<(), LogError> {
        let mut cause = cause.to_string().into_bytes();
        cause.truncate(CAUSE_BYTES_MAX);
        record.headers.push(("refused".to_owned(), cause));
        self.log.open_topic(REFUSED)?.append(record).await?.await.map(|_| ())
    }

    /// Notes where new records go, and logs each change once.
    pub(super) fn set_direct(&self, is_direct: bool) {
        if self.is_direct.swap(is_direct, Ordering::Relaxed) != is_direct {
            if is_direct {
                info!(topic = %self.name, "Kafka takes records directly");
            } else {
                warn!(topic = %self.name, "Kafka is away: records go through the spool");
            }
        }
    }

    pub(super) fn status(&self) -> SpoolStatus {
        let state = self.lock_state();
        SpoolStatus {
            is_direct: self.is_direct.load(Ordering::Relaxed),
            records: (state.end - state.drained).unsigned_abs(),
            bytes: state.held_bytes,
            bytes_max: self.bytes_max,
            is_full: state.is_full,
            is_disk_full: self.topic.is_full(),
            age_ms: state.since.map_or(0, |since| since.elapsed().as_millis() as u64),
            spooled: state.counts.0,
            drained: state.counts.1,
            stalled_ms: if state.drained < state.end {
                state.moved_at.elapsed().as_millis() as u64
            } else {
                0
            },
            restarts: state.restarts,
            refused: state.refused,
            last_error: state.last_error.clone(),
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, SpoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the drained offset durable.
fn write_drained(path: &Path, drained: i64) -> Result<(), LogError> {
    let new = path.with_extension("new");
    let failed = |e| io_error(&new, "write", e);
    let mut file = File::create(&new).map_err(failed)?;
    writeln!(file, "{drained}").and_then(|()| file.sync_data()).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)?;
    sync_dir(path.parent().unwrap_or(path))
}

/// Approximate size of a record on disk, bytes.
fn cost_bytes(record: &Record) -> u64 {
    const FRAME_BYTES: u64 = 48;
    record.content_bytes() as u64 + FRAME_BYTES
}
