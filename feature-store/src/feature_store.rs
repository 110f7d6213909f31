use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use duckdb::Connection;
use eventlog::EventLog;
use feature_api::RowStatus;
use serde::Serialize;
use telemetry::{MetricTable, QualityFlag, ZoneId};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    FeatureStoreSettings, StoreError,
    definitions::FeatureDefinitions,
    engine::{FeatureRow, catalog::FeatureRowSchema},
    lake::LakeReader,
    online::{OnlineRow, OnlineStore, ZoneSummary},
    sql_query::QueryOutcomeCounters,
    store::{
        self, CommitTally, FeatureVersion, ReadConnections, RestoredState, SetBackSummary,
        StoreWriter,
    },
    worker,
};

/// The feature store: windows over everything in the log, in one DuckDB file, served from memory.
/// Clones share the same store.
#[derive(Clone, Debug)]
pub struct FeatureStore(pub(crate) Arc<FeatureStoreState>);

#[derive(Debug)]
pub(crate) struct FeatureStoreState {
    pub(crate) settings: FeatureStoreSettings,
    pub(crate) metrics: MetricTable,
    /// Definitions as they were when the store was opened, whatever the file contains since.
    pub(crate) definitions: Arc<FeatureDefinitions>,
    pub(crate) online: OnlineStore,
    pub(crate) counters: StoreCounters,
    pub(crate) readers: ReadConnections,
    /// Held while the DuckDB file is written.
    file_lock: Mutex<()>,
    /// Rows that have moved from the DuckDB file.
    pub(crate) lake: LakeReader,
    schema: Mutex<Arc<FeatureRowSchema>>,
    /// The file's writer and the restored state, until `run` takes them.
    writer_and_restored: Mutex<Option<(StoreWriter, RestoredState)>>,
    /// Whether readings are ingested now.
    is_running: AtomicBool,
}

/// Counters of commits and of the lag.
#[derive(Debug, Default)]
pub(crate) struct StoreCounters {
    pub(crate) by_quality: [AtomicU64; QualityFlag::ALL.len()],
    pub(crate) rejects: AtomicU64,
    pub(crate) rows: AtomicU64,
    /// Rows that were recomputed.
    pub(crate) corrections: AtomicU64,
    pub(crate) commits: AtomicU64,
    /// Zones evicted from memory since the start of this process.
    pub(crate) evicted_zones: AtomicU64,
    /// Duration of all commits since the start of this process, µs.
    pub(crate) commit_us: AtomicU64,
    /// Log records not ingested yet; `u64::MAX` if that is not known.
    pub(crate) lag: AtomicU64,
    /// Outcomes of SQL over HTTP since the start of this process.
    pub(crate) sql: QueryOutcomeCounters,
}

impl StoreCounters {
    pub(crate) fn note_commit(&self, tally: &CommitTally, took: Duration) {
        self.add_tally(tally);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_us.fetch_add(took_us, Ordering::Relaxed);
    }

    pub(crate) fn note_evicted_zones(&self, zones: usize) {
        self.evicted_zones.fetch_add(zones as u64, Ordering::Relaxed);
    }

    /// Counts readings under their new quality flags, and the change in the number of rows.
    pub(crate) fn note_set_back(&self, set_back: &SetBackSummary) {
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

    fn add_tally(&self, tally: &CommitTally) {
        let CommitTally { by_quality, rejects, rows, corrections, commits } = tally;
        for (counter, count) in self.by_quality.iter().zip(by_quality) {
            counter.fetch_add(*count, Ordering::Relaxed);
        }
        self.rejects.fetch_add(*rejects, Ordering::Relaxed);
        self.rows.fetch_add(*rows, Ordering::Relaxed);
        self.corrections.fetch_add(*corrections, Ordering::Relaxed);
        self.commits.fetch_add(*commits, Ordering::Relaxed);
    }
}

/// Totals of all commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct CommittedCounts {
    /// All readings, of any quality.
    pub readings: u64,
    /// Readings by quality flag; flags without readings are left out.
    pub by_quality: std::collections::BTreeMap<&'static str, u64>,
    /// Log records without readings.
    pub rejects: u64,
    /// Feature rows; each revision counts.
    pub rows: u64,
    /// Feature rows that late readings caused to be recomputed.
    pub corrections: u64,
    /// Feature columns.
    pub columns: usize,
}

/// Number and duration of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitTotals {
    /// Number of all transactions on the file.
    pub count: u64,
    /// Total duration of the transactions of this process.
    pub took: Duration,
}

impl FeatureStore {
    /// Opens the DuckDB file and restores the state of the last commit.
    ///
    /// # Errors
    /// Fails with [`StoreError::Locked`] if another process has the file open, and if the file
    /// cannot be opened or read.
    pub fn open(settings: &FeatureStoreSettings, metrics: MetricTable) -> Result<Self, StoreError> {
        settings.check()?;
        let mut connection = store::open_database(&settings.store, &settings.lake)?;
        store::migrate_feature_versions(&mut connection, settings, &metrics)?;
        let is_shared = settings.log.is_shared();
        let restored =
            store::restore_state(&connection, &settings.engine, metrics.clone(), is_shared)?;
        let readers = ReadConnections::new(&connection)?;
        let online = OnlineStore::default();
        for (zone, metrics, progress) in restored.engine.zones() {
            online.update_zone(zone, metrics, progress, Vec::new());
        }
        let counters = StoreCounters { lag: AtomicU64::new(u64::MAX), ..StoreCounters::default() };
        counters.add_tally(&restored.tally);
        let schema = Mutex::new(restored.engine.schema().clone());
        let definitions = restored.engine.definitions().clone();
        let parts = Mutex::new(Some((StoreWriter::new(connection)?, restored)));
        Ok(Self(Arc::new(FeatureStoreState {
            settings: settings.clone(),
            metrics,
            definitions,
            online,
            counters,
            readers,
            file_lock: Mutex::new(()),
            lake: LakeReader::new(settings)?,
            schema,
            writer_and_restored: parts,
            is_running: AtomicBool::new(false),
        })))
    }

    /// Ingests the log from the committed offsets on until `shutdown`, then commits and closes.
    ///
    /// # Errors
    /// Fails if the log or DuckDB fails. Committed data stays; the rest is still in the log.
    ///
    /// # Panics
    /// Panics if it is called a second time.
    pub async fn run(&self, log: &EventLog, shutdown: CancellationToken) -> Result<(), StoreError> {
        let parts =
            self.0.writer_and_restored.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (writer, restored) = parts.expect("a feature store runs once");
        self.0.is_running.store(true, Ordering::Relaxed);
        let ended = worker::run_worker(self.0.clone(), log, writer, restored, shutdown).await;
        self.0.is_running.store(false, Ordering::Relaxed);
        ended
    }

    /// Returns whether readings are ingested now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.is_running.load(Ordering::Relaxed)
    }

    /// Runs `copy` while nothing is written: meanwhile the DuckDB file with its write-ahead log, and
    /// a local lake, are what the last transaction left. Waits for the transaction that runs now;
    /// the next one waits for `copy`, while readings are still logged.
    pub fn with_files_at_rest<T>(&self, copy: impl FnOnce() -> T) -> T {
        let _at_rest = self.0.lock_file();
        copy()
    }

    /// Returns the summaries of all zones.
    #[must_use]
    pub fn zone_summaries(&self) -> Vec<ZoneSummary> {
        self.0.online.zone_summaries()
    }

    /// Returns the summary of one zone, or `None` if the zone is not known.
    #[must_use]
    pub fn zone_summary(&self, zone: &ZoneId) -> Option<ZoneSummary> {
        self.0.online.zone_summary(zone)
    }

    /// Returns the row of a zone at its latest event time, from memory.
    #[must_use]
    pub fn latest_row(&self, zone: &ZoneId) -> Option<Arc<FeatureRow>> {
        self.0.online.latest_row(zone).map(|(latest, _)| latest.row().clone())
    }

    /// Returns the same row with its JSON and its status.
    #[must_use]
    pub fn online_row(&self, zone: &ZoneId) -> Option<(Arc<OnlineRow>, RowStatus)> {
        self.0.online.latest_row(zone)
    }

    /// Subscribes to rows as they change; a slow reader misses some and is notified.
    #[must_use]
    pub fn subscribe_rows(&self) -> broadcast::Receiver<Arc<FeatureRow>> {
        self.0.online.subscribe_rows()
    }

    /// Returns the versions of the definitions that have rows, oldest first.
    ///
    /// # Errors
    /// Fails if DuckDB fails.
    pub fn read_versions(&self) -> Result<Vec<FeatureVersion>, StoreError> {
        store::read_versions(&self.0.readers.new_connection()?)
    }

    /// Returns the names of all features, in the order of their columns.
    #[must_use]
    pub fn feature_names(&self) -> Vec<String> {
        self.0.schema().names.iter().map(ToString::to_string).collect()
    }

    /// Returns the names of all features, and their hash.
    #[must_use]
    pub fn schema(&self) -> Arc<FeatureRowSchema> {
        self.0.schema()
    }

    /// Returns the totals of all commits.
    #[must_use]
    pub fn committed_counts(&self) -> CommittedCounts {
        let StoreCounters { by_quality, rejects, rows, corrections, .. } = &self.0.counters;
        let loaded = by_quality.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        CommittedCounts {
            readings: loaded.iter().sum(),
            by_quality: QualityFlag::ALL
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

    /// Returns the number of transactions, and how long those of this process took.
    #[must_use]
    pub fn commit_totals(&self) -> CommitTotals {
        let StoreCounters { commits, commit_us, .. } = &self.0.counters;
        CommitTotals {
            count: commits.load(Ordering::Relaxed),
            took: Duration::from_micros(commit_us.load(Ordering::Relaxed)),
        }
    }

    /// Returns the number of log records not ingested yet, if it is known.
    #[must_use]
    pub fn log_lag(&self) -> Option<u64> {
        Some(self.0.counters.lag.load(Ordering::Relaxed)).filter(|records| *records != u64::MAX)
    }

    /// Returns the metrics of the site.
    #[must_use]
    pub fn metrics(&self) -> &MetricTable {
        &self.0.metrics
    }

    /// Returns the ages up to which values are served as current.
    pub(crate) fn online_age_limits(&self) -> &crate::settings::OnlineAgeLimits {
        &self.0.settings.online
    }

    /// Returns the largest number of rows in one answer.
    #[must_use]
    pub fn rows_max(&self) -> usize {
        self.0.settings.rest.rows_max
    }
}

impl FeatureStoreState {
    /// Opens another connection to the file, for reading.
    pub(crate) fn new_connection(&self) -> Result<Connection, StoreError> {
        self.readers.new_connection()
    }

    /// Returns whether the log had been read to its end at the last check.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.counters.lag.load(Ordering::Relaxed) == 0
    }

    /// Waits until nobody copies the DuckDB file; nobody does until the guard is dropped.
    pub(crate) fn lock_file(&self) -> MutexGuard<'_, ()> {
        self.file_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn schema(&self) -> Arc<FeatureRowSchema> {
        self.schema.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_schema(&self, schema: Arc<FeatureRowSchema>) {
        *self.schema.lock().unwrap_or_else(PoisonError::into_inner) = schema;
    }
}
