use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use duckdb::Connection;
use eventlog::EventLog;
use serde::Serialize;
use telemetry::{MetricTable, Quality, ZoneId};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    Settings, StoreError,
    definitions::Definitions,
    engine::{Row, catalog::Schema},
    lake::LakeReader,
    online::{Latest, Online, Status, ZoneSummary},
    query::Outcomes,
    store::{self, Readers, Restored, SetBack, Tally, Version, Writer},
    worker,
};

/// Windows over everything in the log, kept in one DuckDB file, served from
/// memory. Clones share it.
#[derive(Clone, Debug)]
pub struct FeatureStore(pub(crate) Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) metrics: MetricTable,
    /// As they were when the store was opened, whatever the file says since.
    pub(crate) definitions: Arc<Definitions>,
    pub(crate) online: Online,
    pub(crate) counters: Counters,
    pub(crate) readers: Readers,
    /// What has moved from the DuckDB file.
    pub(crate) lake: LakeReader,
    schema: Mutex<Arc<Schema>>,
    /// The file's writer, until `run` takes it.
    parts: Mutex<Option<(Writer, Restored)>>,
    /// Whether readings are taken in now.
    is_running: AtomicBool,
}

/// What has been committed, and how far that is behind.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) by_quality: [AtomicU64; Quality::ALL.len()],
    pub(crate) rejects: AtomicU64,
    pub(crate) rows: AtomicU64,
    /// Rows that were made anew.
    pub(crate) corrections: AtomicU64,
    pub(crate) commits: AtomicU64,
    /// Zones that were put away since the start of this process, because there were too many.
    pub(crate) evicted_zones: AtomicU64,
    /// The time that commits took since the start of this process, µs.
    pub(crate) commit_us: AtomicU64,
    /// Log records still to be taken in; `u64::MAX` where that is not known.
    pub(crate) lag: AtomicU64,
    /// What came of SQL over HTTP since the start of this process.
    pub(crate) sql: Outcomes,
}

impl Counters {
    pub(crate) fn note_commit(&self, tally: &Tally, took: Duration) {
        self.add(tally);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_us.fetch_add(took_us, Ordering::Relaxed);
    }

    pub(crate) fn note_evicted_zones(&self, zones: usize) {
        self.evicted_zones.fetch_add(zones as u64, Ordering::Relaxed);
    }

    /// Counts readings under their new qualities, and the rows that are there now.
    pub(crate) fn note_set_back(&self, set_back: &SetBack) {
        let add = |counter: &AtomicU64, more: i64| {
            let changed = |count: u64| Some(count.saturating_add_signed(more));
            let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
        };
        for (counter, more) in self.by_quality.iter().zip(set_back.by_quality) {
            add(counter, more);
        }
        let (deleted, written) = set_back.rows;
        add(&self.rows, written as i64 - deleted as i64);
    }

    fn add(&self, tally: &Tally) {
        let Tally { by_quality, rejects, rows, corrections, commits } = tally;
        for (counter, count) in self.by_quality.iter().zip(by_quality) {
            counter.fetch_add(*count, Ordering::Relaxed);
        }
        self.rejects.fetch_add(*rejects, Ordering::Relaxed);
        self.rows.fetch_add(*rows, Ordering::Relaxed);
        self.corrections.fetch_add(*corrections, Ordering::Relaxed);
        self.commits.fetch_add(*commits, Ordering::Relaxed);
    }
}

/// How much has been committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counts {
    /// All readings, whatever their quality.
    pub readings: u64,
    /// Readings by quality, those that there are.
    pub by_quality: std::collections::BTreeMap<&'static str, u64>,
    /// Log records that held no readings.
    pub rejects: u64,
    /// Feature rows, each revision counted.
    pub rows: u64,
    /// Those of them that were made anew by a late reading.
    pub corrections: u64,
    /// Feature columns.
    pub columns: usize,
}

/// Transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commits {
    /// All that the file has seen.
    pub count: u64,
    /// The time that those of this process took.
    pub took: Duration,
}

impl FeatureStore {
    /// Opens the DuckDB file and brings everything to where it was.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process has the file, and whatever
    /// else keeps it from being opened or read.
    pub fn open(settings: &Settings, metrics: MetricTable) -> Result<Self, StoreError> {
        settings.check()?;
        let mut connection = store::open(&settings.store, &settings.lake)?;
        store::bring_up_to_date(&mut connection, settings, &metrics)?;
        let is_shared = settings.log.is_shared();
        let restored = store::restore(&connection, &settings.engine, metrics.clone(), is_shared)?;
        let readers = Readers::new(&connection)?;
        let online = Online::default();
        for (zone, metrics, progress) in restored.engine.zones() {
            online.note(zone, metrics, progress, Vec::new());
        }
        let counters = Counters { lag: AtomicU64::new(u64::MAX), ..Counters::default() };
        counters.add(&restored.tally);
        let schema = Mutex::new(restored.engine.schema().clone());
        let definitions = restored.engine.definitions().clone();
        let parts = Mutex::new(Some((Writer::new(connection)?, restored)));
        Ok(Self(Arc::new(Shared {
            settings: settings.clone(),
            metrics,
            definitions,
            online,
            counters,
            readers,
            lake: LakeReader::new(settings)?,
            schema,
            parts,
            is_running: AtomicBool::new(false),
        })))
    }

    /// Takes in the log from where it was left until `shutdown`, then commits
    /// what was taken and closes.
    ///
    /// # Errors
    /// Where the log or DuckDB fails. What was committed stays; the rest is in
    /// the log still.
    ///
    /// # Panics
    /// Where it is run a second time.
    pub async fn run(&self, log: &EventLog, shutdown: CancellationToken) -> Result<(), StoreError> {
        let parts = self.0.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (writer, restored) = parts.expect("a feature store runs once");
        self.0.is_running.store(true, Ordering::Relaxed);
        let ended = worker::run(self.0.clone(), log, writer, restored, shutdown).await;
        self.0.is_running.store(false, Ordering::Relaxed);
        ended
    }

    /// Whether readings are taken in now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.is_running.load(Ordering::Relaxed)
    }

    /// The zones that there are.
    #[must_use]
    pub fn zones(&self) -> Vec<ZoneSummary> {
        self.0.online.zones()
    }

    /// The row of a zone at its newest event time, from memory.
    #[must_use]
    pub fn latest(&self, zone: &ZoneId) -> Option<Arc<Row>> {
        self.0.online.latest(zone).map(|(latest, _)| latest.row().clone())
    }

    /// The same with its JSON, and how sure it is.
    #[must_use]
    pub fn online(&self, zone: &ZoneId) -> Option<(Arc<Latest>, Status)> {
        self.0.online.latest(zone)
    }

    /// Rows as they change; a slow reader loses some and is told.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Row>> {
        self.0.online.subscribe()
    }

    /// The definitions that there are rows of, oldest first.
    ///
    /// # Errors
    /// What DuckDB says.
    pub fn versions(&self) -> Result<Vec<Version>, StoreError> {
        store::versions(&self.0.readers.connection()?)
    }

    /// The names of all features, in the order of their columns.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        self.0.schema().names.iter().map(ToString::to_string).collect()
    }

    /// The names of all features, and their hash.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        self.0.schema()
    }

    /// What has been committed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Counters { by_quality, rejects, rows, corrections, .. } = &self.0.counters;
        let loaded = by_quality.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Counts {
            readings: loaded.iter().sum(),
            by_quality: Quality::ALL
                .iter()
                .zip(loaded)
                .filter(|(_, count)| *count > 0)
                .map(|(quality, count)| (quality.as_str(), count))
                .collect(),
            rejects: rejects.load(Ordering::Relaxed),
            rows: rows.load(Ordering::Relaxed),
            corrections: corrections.load(Ordering::Relaxed),
            columns: self.0.schema().names.len(),
        }
    }

    /// How many transactions there were, and how long those of this process took.
    #[must_use]
    pub fn commits(&self) -> Commits {
        let Counters { commits, commit_us, .. } = &self.0.counters;
        Commits {
            count: commits.load(Ordering::Relaxed),
            took: Duration::from_micros(commit_us.load(Ordering::Relaxed)),
        }
    }

    /// Log records that are still to be taken in, where that is known.
    #[must_use]
    pub fn log_lag(&self) -> Option<u64> {
        Some(self.0.counters.lag.load(Ordering::Relaxed)).filter(|records| *records != u64::MAX)
    }

    /// The metrics of the site.
    #[must_use]
    pub fn metrics(&self) -> &MetricTable {
        &self.0.metrics
    }

    /// How old values may be that are served as present.
    pub(crate) fn online_ages(&self) -> &crate::settings::OnlineAges {
        &self.0.settings.online
    }

    /// Most rows in one answer.
    #[must_use]
    pub fn rows_max(&self) -> usize {
        self.0.settings.rest.rows_max
    }
}

impl Shared {
    /// One more connection to the file, for reading.
    pub(crate) fn connection(&self) -> Result<Connection, StoreError> {
        self.readers.connection()
    }

    /// Whether the log was read to its end when it was last looked at.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.counters.lag.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn schema(&self) -> Arc<Schema> {
        self.schema.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_schema(&self, schema: Arc<Schema>) {
        *self.schema.lock().unwrap_or_else(PoisonError::into_inner) = schema;
    }
}
