//! Removal of old segments, and the offsets that consumers have committed.
//!
//! A consumer reports to the log how much of a topic it has stored. Each has one file,
//! `consumers/<name>` in the topic's folder, with the offset of the next record that it needs.
//! Retention never passes the smallest of them. A topic without consumers is kept as long as its
//! retention states, as in Kafka.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::{io_error, segment, topic::TopicState};
use tracing::warn;

use crate::{LogError, TopicRetention};

/// The folder of consumer offsets inside a topic's folder.
const CONSUMERS: &str = "consumers";

/// The disk usage of a topic of the embedded log.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TopicStorage {
    /// Size of all segments, bytes.
    pub bytes: u64,
    /// Offset of the oldest record.
    pub first_offset: i64,
    /// Offset of the next record to be appended.
    pub next_offset: i64,
    /// Offset of the next record that each consumer needs.
    pub committed: BTreeMap<String, i64>,
    /// Records that retention has removed since the start of the process.
    pub removed_records: u64,
    /// The retention in force.
    pub retention: TopicRetention,
    /// Whether the topic exceeds its retention because a consumer is behind.
    pub is_held_back: bool,
    /// Whether no records are accepted because the disk is full.
    pub is_full: bool,
}

/// Reads the offset of the next record that each consumer of a topic needs.
pub(super) fn read_committed(dir: &Path) -> Result<BTreeMap<String, i64>, LogError> {
    let folder = dir.join(CONSUMERS);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error(&folder, "list the folder", error)),
    };
    let mut committed = BTreeMap::new();
    for listed in entries {
        let entry = listed.map_err(|error| io_error(&folder, "list the folder", error))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.ends_with(NEW) {
            continue; // A crash came before the file was renamed.
        }
        let text = fs::read_to_string(&path).map_err(|error| io_error(&path, "read", error))?;
        // A file that a power cut left empty keeps everything until it is written again.
        let offset = text.trim().parse().unwrap_or_else(|_| {
            warn!(path = %path.display(), text = text.trim(), "expected an offset; all records are kept");
            0
        });
        committed.insert(name, offset);
    }
    Ok(committed)
}

const NEW: &str = ".new";

/// Stores the next record that a consumer needs. It need not be synced: an older offset only
/// keeps more records.
pub(super) fn write_committed(dir: &Path, consumer: &str, offset: i64) -> Result<(), LogError> {
    let path = dir.join(CONSUMERS).join(consumer);
    let new = path.with_file_name(format!("{consumer}{NEW}"));
    let written = fs::create_dir_all(dir.join(CONSUMERS))
        .and_then(|()| fs::write(&new, format!("{offset}\n")))
        .and_then(|()| fs::rename(&new, &path));
    written.map_err(|error| io_error(&path, "write", error))
}

/// A completed segment file.
struct ClosedSegment {
    path: PathBuf,
    first_offset: i64,
    /// The first offset of the next segment.
    end_offset: i64,
    bytes: u64,
    written_at: SystemTime,
}

/// Lists all segments except the one being written, oldest first, and returns the size of all of
/// them in bytes.
fn closed_segments(dir: &Path, bases: &[i64]) -> Result<(Vec<ClosedSegment>, u64), LogError> {
    let mut closed = Vec::with_capacity(bases.len());
    let mut all_bytes = 0;
    for (at, base) in bases.iter().enumerate() {
        let path = segment::segment_path(dir, *base);
        let failed = |error| io_error(&path, "read the size", error);
        let metadata = match fs::metadata(&path) {
            // Somebody removed the file. A reader of it reports that.
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
    /// Returns the offset that retention must not pass: the next one that the slowest reader or
    /// consumer needs.
    fn needed_offset(&self) -> i64 {
        let read = self.lock_readers().values().copied().min().unwrap_or(i64::MAX);
        let committed = self.lock_committed().values().copied().min().unwrap_or(i64::MAX);
        read.min(committed)
    }

    /// Removes segments that nobody needs and that exceed the age or the size limit. Returns
    /// whether some remain only because a reader or consumer is behind.
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

    /// Removes segments whose records are all below `below_offset` and were passed by every open
    /// reader. Returns the oldest remaining offset.
    pub(super) fn trim_below(&self, below_offset: i64) -> Result<i64, LogError> {
        self.remove_oldest(|segment, _, needed_offset| {
            let is_passed = segment.end_offset <= below_offset.min(needed_offset);
            if is_passed { RetentionVerdict::Remove } else { RetentionVerdict::Keep }
        })?;
        Ok(self.lock_segments()[0])
    }

    /// Removes the oldest segments while `judge` returns [`RetentionVerdict::Remove`]. Returns
    /// whether it stopped at a segment that is still needed.
    fn remove_oldest(
        &self,
        judge: impl Fn(&ClosedSegment, u64, i64) -> RetentionVerdict,
    ) -> Result<bool, LogError> {
        let mut bases = self.lock_segments();
        // Computed under the lock that an opening reader takes.
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

    /// Returns the disk usage of the topic.
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
    /// It would be removed if no reader or consumer needed it.
    HeldBack,
}
