use crate::sql_expressions::open_engine;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use duckdb::{Connection, params};
use telemetry::{MetricTable, QualityFlag, SmolStr};

use super::{
    BackfillProgress, BackfillRequest, BackfillSummary,
    checkpoint::{self, BackfillCheckpoint},
    history::ZoneHistory,
    pipeline::{self, PipelineOutcome},
    plan::{BackfillPlan, PlannedZone},
    rejects,
    request::StageSeconds,
    zone_writer::{self, AssignedIds, FeatureRowAppender},
};
use crate::{
    FeatureStoreSettings, StoreError,
    engine::catalog::FeatureRowSchema,
    kpi,
    store::{self, ms_to_micros},
};

/// A transaction ends after the zone that brings it to this many feature rows, which is a row
/// group of DuckDB. Fewer rows would go through the write-ahead log, and would be compressed and
/// written again at the checkpoint.
const ROWS_MIN: u64 = 122_880;
/// A transaction also ends at this many readings, if they give few rows.
const READINGS_MIN: u64 = 16_000_000;

/// Loads a recording into the store.
///
/// # Errors
/// Fails if a file does not have the layout (the error names the place), if a zone already has
/// other readings, or if DuckDB fails. Committed zones stay, and are skipped when the backfill is
/// run again.
pub fn run_backfill(
    settings: &FeatureStoreSettings,
    metrics: &MetricTable,
    request: &BackfillRequest,
    observe: &(dyn Fn(BackfillProgress) + Sync),
) -> Result<BackfillSummary, StoreError> {
    let started = Instant::now();
    settings.check()?;
    let mut connection = store::open_for_backfill(&settings.store, &settings.lake)?;
    store::migrate_feature_versions(&mut connection, settings, metrics)?;
    let plan = BackfillPlan::from_request(request, metrics)?;
    let done = BackfillCheckpoint::read_from_store(&connection)?;
    let columns = metrics_with_columns(&connection, &plan.metrics)?;
    let schema = open_engine(&settings.engine, metrics.clone(), &columns)?.schema().clone();
    prepare_columns(&connection, &schema, &columns)?;

    let jobs_wanted = match request.jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let jobs = jobs_wanted.min(plan.zones.len()).max(1);
    let refresh = kpi::KpiRefresher::new(settings)?;
    let shared = BackfillContext {
        settings,
        metrics,
        request,
        refresh: &refresh,
        columns: &columns,
        schema: &schema,
        observe,
        all: BackfillProgress {
            zones_all: plan.zones.len() as u64,
            bytes_all: plan.bytes,
            ..BackfillProgress::default()
        },
        jobs,
        waiting: Mutex::new(number_zones(plan.zones, &done)),
        done,
        counters: BackfillCounters::default(),
        failed: AtomicBool::new(false),
    };
    let mut results = Vec::new();
    std::thread::scope(|scope| -> Result<(), StoreError> {
        let mut threads = Vec::new();
        for _ in 0..jobs {
            let worker_connection = connection.try_clone()?;
            let shared = &shared;
            threads.push(scope.spawn(move || BackfillWorker::new(shared, worker_connection).run()));
        }
        for thread in threads {
            let ended = thread.join();
            results.push(ended.unwrap_or_else(|_| Err(StoreError::Thread("it panicked".into()))));
        }
        Ok(())
    })?;
    let mut summary = BackfillSummary { columns: schema.names.len(), ..BackfillSummary::default() };
    let mut ids = Vec::new();
    for result in results {
        let worker = result?;
        summary.zones += worker.zones;
        summary.zones_before += worker.zones_before;
        summary.rows += worker.rows;
        summary.rejects += worker.rejects;
        summary.stages_s.add_seconds(worker.stages);
        for (quality, count) in QualityFlag::ALL.iter().zip(worker.by_quality) {
            summary.readings += count;
            if count > 0 {
                *summary.by_quality.entry(quality.as_str()).or_default() += count;
            }
        }
        ids.extend(worker.ids);
    }
    let writing = Instant::now();
    connection.execute_batch("CHECKPOINT")?;
    summary.stages_s.write += writing.elapsed().as_secs_f64();
    if rejects::export_rejects_csv(&connection, &ids, &request.rejects)? > 0 {
        summary.rejects_file = Some(request.rejects.clone());
    }
    summary.took_s = started.elapsed().as_secs_f64();
    Ok(summary)
}

/// State that all threads share.
struct BackfillContext<'a> {
    settings: &'a FeatureStoreSettings,
    metrics: &'a MetricTable,
    request: &'a BackfillRequest,
    refresh: &'a kpi::KpiRefresher,
    columns: &'a [SmolStr],
    schema: &'a Arc<FeatureRowSchema>,
    observe: &'a (dyn Fn(BackfillProgress) + Sync),
    all: BackfillProgress,
    jobs: usize,
    waiting: Mutex<VecDeque<NumberedZone>>,
    done: BackfillCheckpoint,
    counters: BackfillCounters,
    failed: AtomicBool,
}

impl BackfillContext<'_> {
    fn take_next_zone(&self) -> Option<NumberedZone> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// Returns how many zones are still waiting for each thread.
    fn remaining_zones_per_worker(&self) -> u64 {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
        (waiting / self.jobs) as u64
    }
}

/// Progress of all threads.
#[derive(Default)]
struct BackfillCounters {
    zones: AtomicU64,
    readings: AtomicU64,
    bytes: AtomicU64,
}

/// A zone with its assigned ids, whichever thread takes it.
struct NumberedZone {
    zone: PlannedZone,
    id: u32,
    first_file: u32,
    first_series: u32,
}

fn number_zones(zones: Vec<PlannedZone>, done: &BackfillCheckpoint) -> VecDeque<NumberedZone> {
    let (mut file, mut series) = (done.next_file, done.next_series);
    (done.next_id..)
        .zip(zones)
        .map(|(id, zone)| {
            let (files, all) = zone.count_files_and_series();
            let numbered = NumberedZone { zone, id, first_file: file, first_series: series };
            (file, series) = (file + files, series + all);
            numbered
        })
        .collect()
}

/// Result of one thread.
#[derive(Default)]
struct WorkerSummary {
    ids: Vec<u32>,
    zones: u64,
    zones_before: u64,
    rows: u64,
    rejects: u64,
    by_quality: [u64; QualityFlag::ALL.len()],
    stages: StageSeconds,
}

struct BackfillWorker<'a> {
    shared: &'a BackfillContext<'a>,
    connection: Connection,
    share: WorkerSummary,
    open: Option<OpenTransaction>,
}

/// Contents of the open transaction.
#[derive(Default)]
struct OpenTransaction {
    zones: u64,
    rows: u64,
    readings: u64,
}

impl OpenTransaction {
    /// Returns whether to commit, when this thread still expects `zones_to_come` zones. Does not
    /// commit if their rows would be too few for another transaction.
    fn is_full(&self, zones_to_come: u64) -> bool {
        let rows_to_come = zones_to_come * (self.rows / self.zones.max(1));
        let stands_alone = zones_to_come == 0 || rows_to_come >= ROWS_MIN;
        self.readings >= READINGS_MIN || (self.rows >= ROWS_MIN && stands_alone)
    }
}

impl<'a> BackfillWorker<'a> {
    fn new(shared: &'a BackfillContext<'a>, connection: Connection) -> Self {
        Self { shared, connection, share: WorkerSummary::default(), open: None }
    }

    fn run(mut self) -> Result<WorkerSummary, StoreError> {
        while !self.shared.failed.load(Ordering::Relaxed) {
            let Some(next) = self.shared.take_next_zone() else { break };
            if let Err(error) = self.import_zone(next) {
                self.shared.failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        self.commit_transaction()?;
        Ok(self.share)
    }

    fn import_zone(&mut self, numbered: NumberedZone) -> Result<(), StoreError> {
        let NumberedZone { zone, id, first_file, first_series } = numbered;
        let bytes = zone.bytes();
        let began = Instant::now();
        let history = zone.read_history(self.shared.request)?;
        self.share.stages.read += began.elapsed().as_secs_f64();
        let content = checkpoint::hash_content(&history, self.shared.request);
        if let Some(before) = self.shared.done.find_completed(&history, &content)? {
            self.share.zones_before += 1;
            self.share.ids.push(before);
            self.report_progress(1, 0, bytes);
            return Ok(());
        }
        if self.open.is_none() {
            self.connection.execute_batch("BEGIN TRANSACTION")?;
        }
        let numbers = AssignedIds::assign_from(&history, first_file, first_series);
        let rows = self.write_zone(&history, &numbers, id, &content)?;
        let readings = history.reading_count() as u64;
        let open = self.open.get_or_insert_default();
        open.zones += 1;
        open.rows += rows;
        open.readings += readings;
        let is_full = open.is_full(self.shared.remaining_zones_per_worker());
        self.share.ids.push(id);
        self.report_progress(0, readings, bytes);
        if is_full { self.commit_transaction() } else { Ok(()) }
    }

    /// Writes one zone into the open transaction; returns the number of its feature rows.
    fn write_zone(
        &mut self,
        history: &ZoneHistory,
        numbers: &AssignedIds,
        id: u32,
        content: &str,
    ) -> Result<u64, StoreError> {
        let BackfillContext { settings, metrics, request, columns, schema, .. } = self.shared;
        let connection = &self.connection;
        let began = Instant::now();
        let mut rows = FeatureRowAppender::new(connection, &history.zone, schema)?;
        let engine = &settings.engine;
        let outcome =
            pipeline::process_history(history, engine, metrics, columns, |row| rows.push(row))?;
        let written_s = rows.took_s;
        self.share.stages.engine += began.elapsed().as_secs_f64() - written_s;
        let began = Instant::now();
        let count = rows.finish()?;
        if !request.features_only {
            zone_writer::write_files_and_series(connection, history, numbers)?;
            zone_writer::write_readings(connection, history, &outcome, id, numbers)?;
            zone_writer::write_progress(connection, &history.zone, &outcome.progress)?;
        }
        self.write_kpis(history, &outcome)?;
        rejects::store_rejects(connection, id, &history.rejects)?;
        let rejected = history.rejects.len() as u64;
        let mut by_quality = [0_u64; QualityFlag::ALL.len()];
        for quality in outcome.qualities.iter().flatten() {
            by_quality[*quality as usize] += 1;
        }
        let counts = serde_json::to_string(&by_quality).expect("numbers");
        let times = history.series.iter().flat_map(|series| &series.event_ms);
        let (first, last) = (times.clone().min(), times.max());
        connection.execute(
            "INSERT INTO meta.backfills
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, make_timestamp(?), make_timestamp(?))",
            params![
                id,
                history.zone.site.as_str(),
                history.zone.zone.as_str(),
                content,
                history.reading_count() as u64,
                counts,
                rejected,
                count,
                !request.features_only,
                first.map(|ms| ms_to_micros(*ms)),
                last.map(|ms| ms_to_micros(*ms))
            ],
        )?;
        self.share.stages.write += began.elapsed().as_secs_f64() + written_s;
        for (total, count_of_zone) in self.share.by_quality.iter_mut().zip(by_quality) {
            *total += count_of_zone;
        }
        self.share.rows += count;
        self.share.rejects += rejected;
        Ok(count)
    }

    fn write_kpis(
        &self,
        history: &ZoneHistory,
        outcome: &PipelineOutcome,
    ) -> Result<(), StoreError> {
        let BackfillContext { settings, request, refresh, .. } = self.shared;
        let mut metrics: BTreeMap<SmolStr, Vec<kpi::ReadingSlices<'_>>> = BTreeMap::new();
        for (series, qualities) in history.series.iter().zip(&outcome.qualities) {
            let of_metric = metrics.entry(series.sensor.metric.clone()).or_default();
            of_metric.push((&series.event_ms, &series.value, qualities));
        }
        let (rules, time_zone) = (&settings.kpi.rules, &refresh.time_zone);
        let hours = kpi::tally_history(&metrics, rules, time_zone);
        let open_ms = refresh.tallies_kept_from_ms(outcome.progress.newest_ms);
        let is_final = request.features_only;
        let zone = &history.zone;
        kpi::write_zone_kpis(&self.connection, zone, &hours, rules, time_zone, open_ms, is_final)
    }

    fn commit_transaction(&mut self) -> Result<(), StoreError> {
        let Some(OpenTransaction { zones, .. }) = self.open.take() else { return Ok(()) };
        let began = Instant::now();
        self.connection.execute_batch("COMMIT")?;
        self.share.stages.write += began.elapsed().as_secs_f64();
        self.share.zones += zones;
        self.report_progress(zones, 0, 0);
        Ok(())
    }

    fn report_progress(&self, zones: u64, readings: u64, bytes: u64) {
        let add = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed) + more;
        let BackfillCounters { zones: all_zones, readings: all_readings, bytes: all_bytes } =
            &self.shared.counters;
        (self.shared.observe)(BackfillProgress {
            zones: add(all_zones, zones),
            readings: add(all_readings, readings),
            bytes: add(all_bytes, bytes),
            ..self.shared.all
        });
    }
}

/// Returns the metrics that have columns, followed by new ones.
fn metrics_with_columns(
    connection: &Connection,
    new: &[SmolStr],
) -> Result<Vec<SmolStr>, StoreError> {
    let mut columns = store::read_metrics(connection)?;
    for metric in new {
        if !columns.contains(metric) {
            columns.push(metric.clone());
        }
    }
    Ok(columns)
}

/// Adds the columns that rows will have, before any transaction. An extra column is harmless, and
/// DuckDB cannot append to a table that the same transaction has altered.
fn prepare_columns(
    connection: &Connection,
    schema: &FeatureRowSchema,
    metrics: &[SmolStr],
) -> Result<(), StoreError> {
    let there: std::collections::HashSet<SmolStr> =
        store::read_feature_columns(connection, "rows")?.into_iter().collect();
    for name in schema.names.iter().filter(|name| !there.contains(*name)) {
        connection.execute_batch(&format!(
            "ALTER TABLE features.rows ADD COLUMN IF NOT EXISTS {} DOUBLE",
            store::quote_identifier(name)
        ))?;
    }
    let names: Vec<String> =
        schema.names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    connection.execute_batch(&format!(
        "INSERT OR IGNORE INTO meta.schemas VALUES ('{}', [{}])",
        schema.hash,
        names.join(", ")
    ))?;
    let known = store::read_metrics(connection)?.len();
    for (position, metric) in metrics.iter().enumerate().skip(known) {
        connection.execute(
            "INSERT INTO meta.metrics VALUES (?, ?)",
            params![position as i64, metric.as_str()],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_has_whole_row_groups_and_leaves_no_small_rest() {
        let open = |zones, rows, readings| OpenTransaction { zones, rows, readings };
        assert!(!open(10, ROWS_MIN - 1, 0).is_full(100));
        assert!(open(10, ROWS_MIN, 0).is_full(100), "ten more zones make another");
        assert!(!open(10, ROWS_MIN, 0).is_full(9), "nine would be a rest");
        assert!(open(10, ROWS_MIN, 0).is_full(0), "none are to come");
        assert!(open(1, 10, READINGS_MIN).is_full(1), "readings are bounded, whatever comes");
    }
}
