use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

use super::{
    segment::FrameReader,
    topic::{DurablePosition, EmbeddedTopic},
};
use crate::{LogError, StoredRecord};

/// Payload size at which a batch ends, bytes.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Follows a topic as it grows.
#[derive(Debug)]
pub(crate) struct TailReader {
    topic: Arc<EmbeddedTopic>,
    id: u64,
    /// The next offset to return.
    next: i64,
    durable: watch::Receiver<DurablePosition>,
    state: TailState,
}

/// The cursor after a read, with the records.
type CursorRead = (Box<SegmentCursor>, Result<Vec<StoredRecord>, LogError>);

/// The state of a read. A dropped call is continued by the next one, so that no record is lost.
#[derive(Debug)]
enum TailState {
    Idle(Box<SegmentCursor>),
    Reading(JoinHandle<CursorRead>),
    /// The reading thread panicked, or the runtime shut down during the read.
    Failed,
}

impl TailReader {
    pub(crate) fn open(topic: Arc<EmbeddedTopic>, from: Option<i64>) -> Result<Self, LogError> {
        let shared = topic.shared.clone();
        let durable = shared.durable.subscribe();
        let id = shared.next_reader_id();
        let next = {
            // The reader is registered under the lock that trimming takes.
            let segments = shared.lock_segments();
            let available = segments[0]..durable.borrow().next;
            let next = from.unwrap_or(available.start);
            if next < available.start || next > available.end {
                let topic = shared.name.to_string();
                return Err(LogError::OutOfRange { topic, partition: 0, offset: next, available });
            }
            shared.lock_readers().insert(id, next);
            next
        };
        let until = *durable.borrow();
        let mut tail = Self { topic, id, next, durable, state: TailState::Failed };
        tail.state = TailState::Idle(Box::new(SegmentCursor::open(&tail.topic, next, until)?));
        Ok(tail)
    }

    pub(crate) async fn next_batch(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<Vec<StoredRecord>, LogError> {
        let deadline = Instant::now() + wait_max;
        let closed = || LogError::Closed { topic: self.topic.shared.name.to_string() };
        while matches!(self.state, TailState::Idle(_)) {
            let until = *self.durable.borrow_and_update();
            if self.next < until.next {
                if let TailState::Idle(mut cursor) =
                    std::mem::replace(&mut self.state, TailState::Failed)
                {
                    self.state = TailState::Reading(spawn_blocking(move || {
                        let batch = cursor.read_batch(until, records_max.max(1));
                        (cursor, batch)
                    }));
                }
                break;
            }
            match timeout_at(deadline, self.durable.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(closed()),
                Err(_) => return Ok(Vec::new()),
            }
        }
        let TailState::Reading(reading) = &mut self.state else { return Err(closed()) };
        let Ok((cursor, batch)) = reading.await else {
            self.state = TailState::Failed;
            return Err(closed());
        };
        self.next = cursor.next;
        self.state = TailState::Idle(cursor);
        self.topic.shared.lock_readers().insert(self.id, self.next);
        batch
    }

    /// Number of durable records that were not returned yet.
    pub(crate) fn lag_records(&self) -> u64 {
        u64::try_from(self.durable.borrow().next - self.next).unwrap_or_default()
    }
}

impl Drop for TailReader {
    fn drop(&mut self) {
        self.topic.shared.lock_readers().remove(&self.id);
    }
}

/// A position in the segments.
#[derive(Debug)]
struct SegmentCursor {
    dir: PathBuf,
    base: i64,
    next: i64,
    frames: FrameReader,
    /// The segment's final size in bytes, once others follow it and it no longer grows.
    full_bytes: Option<u64>,
}

impl SegmentCursor {
    fn open(topic: &EmbeddedTopic, next: i64, until: DurablePosition) -> Result<Self, LogError> {
        let shared = &topic.shared;
        let base = {
            let segments = shared.lock_segments();
            segments[segments.partition_point(|base| *base <= next) - 1]
        };
        let frames = FrameReader::open(&shared.dir, base)?;
        let dir = shared.dir.clone();
        let mut cursor = Self { dir, base, next: base, frames, full_bytes: None };
        while cursor.next < next && cursor.next_record(until)?.is_some() {}
        Ok(cursor)
    }

    fn read_batch(
        &mut self,
        until: DurablePosition,
        records_max: usize,
    ) -> Result<Vec<StoredRecord>, LogError> {
        let (mut entries, mut payload_bytes) = (Vec::new(), 0);
        while entries.len() < records_max && payload_bytes < BATCH_BYTES_MAX {
            match self.next_record(until) {
                Ok(Some(entry)) => {
                    payload_bytes += entry.record.payload.len();
                    entries.push(entry);
                }
                Ok(None) => break,
                // The records before the error are valid. The next call returns the error first.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    /// Returns the next durable record.
    fn next_record(&mut self, until: DurablePosition) -> Result<Option<StoredRecord>, LogError> {
        while self.next < until.next {
            let is_last = self.base == until.base;
            let end = if is_last { until.len_bytes } else { self.full_bytes()? };
            match self.frames.next_frame(end)? {
                Some(frame) if frame.offset == self.next => {
                    self.next += 1;
                    let offset = frame.offset;
                    return Ok(Some(StoredRecord { partition: 0, offset, record: frame.record }));
                }
                Some(frame) => {
                    let what = format!("offset {}, expected {}", frame.offset, self.next);
                    return Err(self.frames.corrupt_error(what));
                }
                None if is_last || self.next == self.base => {
                    let what = format!("the end of the segment, expected offset {}", self.next);
                    return Err(self.frames.corrupt_error(what));
                }
                None => {
                    self.frames = FrameReader::open(&self.dir, self.next)?;
                    self.base = self.next;
                    self.full_bytes = None;
                }
            }
        }
        Ok(None)
    }

    /// Queries the file system once for each segment, not for each record.
    fn full_bytes(&mut self) -> Result<u64, LogError> {
        if let Some(bytes) = self.full_bytes {
            return Ok(bytes);
        }
        let bytes = self.frames.file_bytes()?;
        self.full_bytes = Some(bytes);
        Ok(bytes)
    }
}
