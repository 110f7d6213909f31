//! Which segments go, and what the consumers have committed.
//!
//! A consumer that reads a topic tells the log how far it has everything: one file for each,
//! `consumers/<name>` in the topic's folder, which says the offset of the next record that it
//! needs. Retention never passes the least of them. A topic without any consumer is kept as
//! long as its retention says, as Kafka does it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{io_error, segment, topic::TopicState};
use tracing::warn;

use crate::{LogError, TopicRetention};

/// The folder of consumers' offsets in that of a topic.
const CONSUMERS: &str = "consumers";

/// A topic of the embedded log on disk.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TopicStorage {
    /// The size of all segments.
    pub bytes: u64,
    /// The oldest record.
    pub first_offset: i64,
    /// The next record to be appended.
    pub next_offset: i64,
    /// The next record that each consumer needs.
    pub committed: BTreeMap<String, i64>,
    /// Records that retention has removed since the start of the process.
    pub removed_records: u64,
    /// The retention in force.
    pub retention: TopicRetention,
    /// Whether the topic is over its retention because a consumer is behind.
    pub is_held_back: bool,
    /// Whether nothing is taken, because the disk has no room.
    pub is_full: bool,
}

/// The next record that each consumer of a topic needs.
pub(super) fn read_committed(dir: &Path) -> Result<BTreeMap<String, i64>, LogError> {
    let folder = dir.join(CONSUMERS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error(&folder, "list the folder", error)),
    };
    let mut committed = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| io_error(&folder, "list the folder", error))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.ends_with(NEW) {
            continue; // A crash came before it was renamed.
        }
        let text = fs::read_to_string(&path).map_err(|error| io_error(&path, "read", error))?;
        // One that a power cut left empty keeps everything, until it is written again.
        let offset = text.trim().parse().unwrap_or_else(|_| {
            warn!(path = %path.display(), text = text.trim(), "expected an offset; all is kept");
            0
        });
        committed.insert(name, offset);
    }
    Ok(committed)
}

const NEW: &str = ".new";

/// Keeps the next record that a consumer needs. It need not be synced: an older one only keeps
/// more.
pub(super) fn write_committed(dir: &Path, consumer: &str, offset: i64) -> Result<(), LogError> {
    let path = dir.join(CONSUMERS).join(consumer);
    let new = path.with_file_name(format!("{consumer}{NEW}"));
    let written = fs::create_dir_all(dir.join(CONSUMERS))
        .and_then(|()| fs::write(&new, format!("{offset}\n")))
        .and_then(|()| fs::rename(&new, &path));
    written.map_err(|error| io_error(&path, "write", error))
}

/// A segment file that is complete.
struct ClosedSegment {
    path: PathBuf,
    first_offset: i64,
    /// The first offset of the next one.
    end_offset: i64,
    bytes: u64,
    written_at: SystemTime,
}

/// All segments but the one that is being written, the oldest first; and the size of all.
fn closed_segments(dir: &Path, bases: &[i64]) -> Result<(Vec<ClosedSegment>, u64), LogError> {
    let mut closed = Vec::with_capacity(bases.len());
    let mut all_bytes = 0;
    for (at, base) in bases.iter().enumerate() {
        let path = segment::segment_path(dir, *base);
        let failed = |error| io_error(&path, "read the size", error);
        let metadata = match fs::metadata(&path) {
            // Somebody removed it; a reader of it says so.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            found => found.map_err(failed)?,
        };
        all_bytes += metadata.len();
        if let Some(end_offset) = bases.get(at + 1) {
            closed.push(ClosedSegment {
                bytes: metadata.len(),
                written_at: metadata.modified().map_err(failed)?,
                first_offset: *base,
                end_offset: *end_offset,
                path,
            });
        }
    }
    Ok((closed, all_bytes))
}

impl TopicState {
    /// The offset that retention must not pass: what the slowest reader or consumer needs next.
    fn needed_offset(&self) -> i64 {
        let read = self.lock_readers().values().copied().min().unwrap_or(i64::MAX);
        let committed = self.lock_committed().values().copied().min().unwrap_or(i64::MAX);
        read.min(committed)
    }

    /// Removes segments that nobody needs and that are too old or too many. Returns whether
    /// some stay only because a reader or consumer is behind.
    pub(super) fn apply_retention(&self, now: SystemTime) -> Result<bool, LogError> {
        let TopicRetention { age_days, bytes_max } = self.retention;
        let oldest = Duration::try_from_secs_f64(age_days * 86_400.0)
            .ok()
            .and_then(|age| now.checked_sub(age))
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let is_held_back = self.remove_oldest(|segment, all_bytes, needed_offset| {
            if segment.written_at >= oldest && all_bytes <= bytes_max {
                RetentionVerdict::Keep
            } else if segment.end_offset > needed_offset {
                RetentionVerdict::HeldBack
            } else {
                RetentionVerdict::Remove
            }
        })?;
        self.set_held_back(is_held_back);
        Ok(is_held_back)
    }

    /// Removes segments whose every record is below `below_offset` and was passed by every open
    /// reader. Returns the oldest offset left.
    pub(super) fn trim_below(&self, below_offset: i64) -> Result<i64, LogError> {
        self.remove_oldest(|segment, _, needed_offset| {
            let is_passed = segment.end_offset <= below_offset.min(needed_offset);
            if is_passed { RetentionVerdict::Remove } else { RetentionVerdict::Keep }
        })?;
        Ok(self.lock_segments()[0])
    }

    /// Removes the oldest segments while `judge` says so; whether one of them stopped it that
    /// is needed.
    fn remove_oldest(
        &self,
        judge: impl Fn(&ClosedSegment, u64, i64) -> RetentionVerdict,
    ) -> Result<bool, LogError> {
        let mut bases = self.lock_segments();
        // Under the lock that an opening reader takes.
        let needed_offset = self.needed_offset();
        let (closed, mut all_bytes) = closed_segments(&self.dir, &bases)?;
        for segment in closed {
            match judge(&segment, all_bytes, needed_offset) {
                RetentionVerdict::Remove => {}
                RetentionVerdict::Keep => return Ok(false),
                RetentionVerdict::HeldBack => return Ok(true),
            }
            fs::remove_file(&segment.path)
                .map_err(|error| io_error(&segment.path, "remove", error))?;
            bases.retain(|base| *base >= segment.end_offset);
            all_bytes -= segment.bytes;
            self.count_removed((segment.end_offset - segment.first_offset).unsigned_abs());
        }
        Ok(false)
    }

    /// What the topic has on disk.
    pub(super) fn storage_stats(&self) -> Result<TopicStorage, LogError> {
        let bases = self.lock_segments();
        let (_, bytes) = closed_segments(&self.dir, &bases)?;
        Ok(TopicStorage {
            bytes,
            first_offset: bases[0],
            next_offset: self.durable.borrow().next,
            committed: self.lock_committed().clone(),
            removed_records: self.removed_records(),
            retention: self.retention,
            is_held_back: self.is_held_back(),
            is_full: self.is_full(),
        })
    }
}

enum RetentionVerdict {
    Remove,
    Keep,
    /// It would go, if a reader or consumer did not need it.
    HeldBack,
}
