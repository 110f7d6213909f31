use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

use super::{
    segment::Frames,
    topic::{Durable, Topic},
};
use crate::{Entry, LogError};

/// A batch ends at this many bytes of payload.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Follows a topic as it grows.
#[derive(Debug)]
pub(crate) struct Tail {
    topic: Arc<Topic>,
    id: u64,
    /// The next offset to hand out.
    next: i64,
    durable: watch::Receiver<Durable>,
    state: State,
}

/// The cursor back, with what it read.
type Read = (Box<Cursor>, Result<Vec<Entry>, LogError>);

/// Reading goes on where a dropped call left it, so that none is lost.
#[derive(Debug)]
enum State {
    Idle(Box<Cursor>),
    Reading(JoinHandle<Read>),
    /// The reading thread panicked, or the runtime shut down under it.
    Gone,
}

impl Tail {
    pub(crate) fn open(topic: Arc<Topic>, from: Option<i64>) -> Result<Self, LogError> {
        let shared = topic.shared.clone();
        let durable = shared.durable.subscribe();
        let id = shared.reader_id();
        let next = {
            // Registered under the lock that trimming takes.
            let segments = shared.segments();
            let available = segments[0]..durable.borrow().next;
            let next = from.unwrap_or(available.start);
            if next < available.start || next > available.end {
                let topic = shared.name.to_string();
                return Err(LogError::OutOfRange { topic, partition: 0, offset: next, available });
            }
            shared.readers().insert(id, next);
            next
        };
        let until = *durable.borrow();
        let mut tail = Self { topic, id, next, durable, state: State::Gone };
        tail.state = State::Idle(Box::new(Cursor::open(&tail.topic, next, until)?));
        Ok(tail)
    }

    pub(crate) async fn next_batch(
        &mut self,
        records_max: usize,
        wait_max: Duration,
    ) -> Result<Vec<Entry>, LogError> {
        let deadline = Instant::now() + wait_max;
        let closed = || LogError::Closed { topic: self.topic.shared.name.to_string() };
        while matches!(self.state, State::Idle(_)) {
            let until = *self.durable.borrow_and_update();
            if self.next < until.next {
                if let State::Idle(mut cursor) = std::mem::replace(&mut self.state, State::Gone) {
                    self.state = State::Reading(spawn_blocking(move || {
                        let batch = cursor.read(until, records_max.max(1));
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
        let State::Reading(reading) = &mut self.state else { return Err(closed()) };
        let Ok((cursor, batch)) = reading.await else {
            self.state = State::Gone;
            return Err(closed());
        };
        self.next = cursor.next;
        self.state = State::Idle(cursor);
        self.topic.shared.readers().insert(self.id, self.next);
        batch
    }

    /// Durable records that were not handed out.
    pub(crate) fn lag(&self) -> u64 {
        u64::try_from(self.durable.borrow().next - self.next).unwrap_or_default()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.topic.shared.readers().remove(&self.id);
    }
}

/// A place in the segments.
#[derive(Debug)]
struct Cursor {
    dir: PathBuf,
    base: i64,
    next: i64,
    frames: Frames,
    /// Bytes of the segment, once others follow it and it no longer grows.
    full_bytes: Option<u64>,
}

impl Cursor {
    fn open(topic: &Topic, next: i64, until: Durable) -> Result<Self, LogError> {
        let shared = &topic.shared;
        let base = {
            let segments = shared.segments();
            segments[segments.partition_point(|base| *base <= next) - 1]
        };
        let frames = Frames::open(&shared.dir, base)?;
        let dir = shared.dir.clone();
        let mut cursor = Self { dir, base, next: base, frames, full_bytes: None };
        while cursor.next < next && cursor.step(until)?.is_some() {}
        Ok(cursor)
    }

    fn read(&mut self, until: Durable, records_max: usize) -> Result<Vec<Entry>, LogError> {
        let (mut entries, mut payload_bytes) = (Vec::new(), 0);
        while entries.len() < records_max && payload_bytes < BATCH_BYTES_MAX {
            match self.step(until) {
                Ok(Some(entry)) => {
                    payload_bytes += entry.record.payload.len();
                    entries.push(entry);
                }
                Ok(None) => break,
                // What was read is good; the next call meets the error first.
                Err(_) if !entries.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    /// The next durable record.
    fn step(&mut self, until: Durable) -> Result<Option<Entry>, LogError> {
        while self.next < until.next {
            let is_last = self.base == until.base;
            let end = if is_last { until.len_bytes } else { self.full_bytes()? };
            match self.frames.next(end)? {
                Some(frame) if frame.offset == self.next => {
                    self.next += 1;
                    let offset = frame.offset;
                    return Ok(Some(Entry { partition: 0, offset, record: frame.record }));
                }
                Some(frame) => {
                    let what = format!("offset {}, expected {}", frame.offset, self.next);
                    return Err(self.frames.corrupt(what));
                }
                None if is_last || self.next == self.base => {
                    let what = format!("the end of the segment, expected offset {}", self.next);
                    return Err(self.frames.corrupt(what));
                }
                None => {
                    self.frames = Frames::open(&self.dir, self.next)?;
                    self.base = self.next;
                    self.full_bytes = None;
                }
            }
        }
        Ok(None)
    }

    /// Asked of the system once a segment, not once a record.
    fn full_bytes(&mut self) -> Result<u64, LogError> {
        if let Some(bytes) = self.full_bytes {
            return Ok(bytes);
        }
        let bytes = self.frames.file_bytes()?;
        self.full_bytes = Some(bytes);
        Ok(bytes)
    }
}
