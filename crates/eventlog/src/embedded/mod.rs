//! The embedded log: one folder for each topic with segment files, used by one process.
//!
//! **Invariant:** no receipt resolves before `fdatasync` of its record has returned. None
//! resolves successfully after a sync has failed.
//!
//! # Layout
//! - [`topic`]: the queue of a topic, its state and its segments
//! - [`appender`]: the thread that writes and syncs whole groups
//! - [`frame`]: the byte layout of a record
//! - [`disk`]: reservation of disk space
//! - [`segment`]: a file of frames, and its recovery after a crash
//! - [`retention`]: removal of segments, and the offsets that consumers have committed
//! - [`tail`]: reads segments up to the durable end

mod appender;
mod disk;
mod frame;
mod retention;
mod segment;
mod tail;
mod topic;

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

#[cfg(fuzzing)]
pub(crate) use frame::fuzz as fuzz_frame;
pub use retention::TopicStorage;
pub(crate) use tail::TailReader;
pub(crate) use topic::EmbeddedTopic;

use crate::{EventLogConfig, FaultInjector, LogError};

/// How long the folder's lock is waited for. An earlier user that is just ending, such as the
/// process that a supervisor replaces, still holds it until its last thread has ended.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(3);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// The locked folder, and the topics opened in it.
#[derive(Debug)]
pub(crate) struct EmbeddedLog {
    settings: EventLogConfig,
    lock: Arc<File>,
    faults: FaultInjector,
    topics: Mutex<HashMap<String, Arc<EmbeddedTopic>>>,
}

impl EmbeddedLog {
    pub(crate) fn open(settings: &EventLogConfig, faults: FaultInjector) -> Result<Self, LogError> {
        let dir = &settings.dir;
        fs::create_dir_all(dir).map_err(|e| io_error(dir, "create the folder", e))?;
        let path = dir.join("lock");
        let file = File::create(&path).map_err(|e| io_error(&path, "create", e))?;
        match lock_within(&file, LOCK_WAIT_MAX) {
            Ok(()) => Ok(Self {
                settings: settings.clone(),
                lock: Arc::new(file),
                faults,
                topics: Mutex::default(),
            }),
            Err(TryLockError::WouldBlock) => Err(LogError::Locked { dir: dir.clone() }),
            Err(TryLockError::Error(e)) => Err(io_error(&path, "lock", e)),
        }
    }

    pub(crate) fn open_topic(&self, name: &str) -> Result<Arc<EmbeddedTopic>, LogError> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return Ok(topic.clone());
        }
        let topic =
            EmbeddedTopic::open(name, &self.settings, self.lock.clone(), self.faults.clone())?;
        let topic = Arc::new(topic);
        topics.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }
}

impl EmbeddedLog {
    /// Returns the topics that have been opened.
    pub(crate) fn opened_topics(&self) -> Vec<Arc<EmbeddedTopic>> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.values().cloned().collect()
    }
}

/// Locks `file`. While another user has it locked, tries again for up to `wait_max`.
fn lock_within(file: &File, wait_max: Duration) -> Result<(), TryLockError> {
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if began.elapsed() < wait_max => {
                thread::sleep(LOCK_RETRY);
            }
            result => return result,
        }
    }
}

pub(crate) fn io_error(path: &Path, doing: &'static str, source: io::Error) -> LogError {
    LogError::Io { path: PathBuf::from(path), doing, source: Arc::new(source) }
}

/// Makes new names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io_error(dir, "sync the folder", e))
}
