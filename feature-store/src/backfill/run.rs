use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use duckdb::{Connection, params};
use telemetry::{MetricTable, Quality, SmolStr};

use super::{
    Progress, Request, Summary,
    course::{self, Outcome},
    done::{self, Done},
    history::History,
    plan::{Plan, Zone},
    rejects,
    request::Stages,
    write::{self, Numbers, Rows},
};
use crate::{
    Settings, StoreError,
    engine::{Engine, catalog::Schema},
    kpi,
    store::{self, micros},
};

/// A transaction ends after the zone that brings it to so many feature rows: a row
/// group of DuckDB. With fewer, rows go through its write-ahead log and are written,
/// and compressed, again when that is copied into the file …
const ROWS_MIN: u64 = 122_880;
/// … or to so many readings, where few rows are made of many.
const READINGS_MIN: u64 = 16_000_000;

/// Takes a recording into the store.
///
/// # Errors
/// A file that is not of the layout, with its place; a zone that has other
/// readings already; whatever DuckDB says. What was committed stays, and is
/// passed over when the backfill is run again.
pub fn run(
    settings: &Settings,
    metrics: &MetricTable,
    request: &Request,
    observe: &(dyn Fn(Progress) + Sync),
) -> Result<Summary, StoreError> {
    let started = Instant::now();
    settings.check()?;
    let mut connection = store::open_for_backfill(&settings.store, &settings.lake)?;
    store::bring_up_to_date(&mut connection, settings, metrics)?;
    let plan = Plan::of(request, metrics)?;
    let done = Done::read(&connection)?;
    let columns = columns(&connection, &plan.metrics)?;
    let schema = Engine::new(&settings.engine, metrics.clone(), &columns)?.schema().clone();
    prepare(&connection, &schema, &columns)?;

    let jobs = match request.jobs {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        jobs => jobs,
    };
    let jobs = jobs.min(plan.zones.len()).max(1);
    let refresh = kpi::Refresh::new(settings)?;
    let shared = Shared {
        settings,
        metrics,
        request,
        refresh: &refresh,
        columns: &columns,
        schema: &schema,
        observe,
        all: Progress {
            zones_all: plan.zones.len() as u64,
            bytes_all: plan.bytes,
            ..Progress::default()
        },
        jobs,
        waiting: Mutex::new(numbered(plan.zones, &done)),
        done,
        came: Came::default(),
        failed: AtomicBool::new(false),
    };
    let mut results = Vec::new();
    std::thread::scope(|scope| -> Result<(), StoreError> {
        let mut threads = Vec::new();
        for _ in 0..jobs {
            let connection = connection.try_clone()?;
            let shared = &shared;
            threads.push(scope.spawn(move || Worker::new(shared, connection).run()));
        }
        for thread in threads {
            let ended = thread.join();
            results.push(ended.unwrap_or_else(|_| Err(StoreError::Thread("it panicked".into()))));
        }
        Ok(())
    })?;
    let mut summary = Summary { columns: schema.names.len(), ..Summary::default() };
    let mut ids = Vec::new();
    for result in results {
        let own = result?;
        summary.zones += own.zones;
        summary.zones_before += own.zones_before;
        summary.rows += own.rows;
        summary.rejects += own.rejects;
        summary.stages_s.add(own.stages);
        for (quality, count) in Quality::ALL.iter().zip(own.by_quality) {
            summary.readings += count;
            if count > 0 {
                *summary.by_quality.entry(quality.as_str()).or_default() += count;
            }
        }
        ids.extend(own.ids);
    }
    let writing = Instant::now();
    connection.execute_batch("CHECKPOINT")?;
    summary.stages_s.write += writing.elapsed().as_secs_f64();
    if rejects::list(&connection, &ids, &request.rejects)? > 0 {
        summary.rejects_file = Some(request.rejects.clone());
    }
    summary.took_s = started.elapsed().as_secs_f64();
    Ok(summary)
}

/// What all threads share.
struct Shared<'a> {
    settings: &'a Settings,
    metrics: &'a MetricTable,
    request: &'a Request,
    refresh: &'a kpi::Refresh,
    columns: &'a [SmolStr],
    schema: &'a Arc<Schema>,
    observe: &'a (dyn Fn(Progress) + Sync),
    all: Progress,
    jobs: usize,
    waiting: Mutex<VecDeque<Numbered>>,
    done: Done,
    came: Came,
    failed: AtomicBool,
}

impl Shared<'_> {
    fn next(&self) -> Option<Numbered> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// How many zones are to come for each thread.
    fn to_come(&self) -> u64 {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
        (waiting / self.jobs) as u64
    }
}

/// How far all threads have come.
#[derive(Default)]
struct Came {
    zones: AtomicU64,
    readings: AtomicU64,
    bytes: AtomicU64,
}

/// A zone with the numbers that it and its parts will have, whoever takes it.
struct Numbered {
    zone: Zone,
    id: u32,
    first_file: u32,
    first_series: u32,
}

fn numbered(zones: Vec<Zone>, done: &Done) -> VecDeque<Numbered> {
    let (mut file, mut series) = (done.next_file, done.next_series);
    (done.next_id..)
        .zip(zones)
        .map(|(id, zone)| {
            let (files, all) = zone.counts();
            let numbered = Numbered { zone, id, first_file: file, first_series: series };
            (file, series) = (file + files, series + all);
            numbered
        })
        .collect()
}

/// What one thread did.
#[derive(Default)]
struct Share {
    ids: Vec<u32>,
    zones: u64,
    zones_before: u64,
    rows: u64,
    rejects: u64,
    by_quality: [u64; Quality::ALL.len()],
    stages: Stages,
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    connection: Connection,
    share: Share,
    open: Option<Open>,
}

/// What the open transaction has.
#[derive(Default)]
struct Open {
    zones: u64,
    rows: u64,
    readings: u64,
}

impl Open {
    /// Whether to end it, with so many zones to come on this thread: not where the rows
    /// of those would be too few for a transaction of their own.
    fn is_full(&self, zones_to_come: u64) -> bool {
        let rows_to_come = zones_to_come * (self.rows / self.zones.max(1));
        let stands_alone = zones_to_come == 0 || rows_to_come >= ROWS_MIN;
        self.readings >= READINGS_MIN || (self.rows >= ROWS_MIN && stands_alone)
    }
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared<'a>, connection: Connection) -> Self {
        Self { shared, connection, share: Share::default(), open: None }
    }

    fn run(mut self) -> Result<Share, StoreError> {
        while !self.shared.failed.load(Ordering::Relaxed) {
            let Some(next) = self.shared.next() else { break };
            if let Err(error) = self.take(next) {
                self.shared.failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        self.commit()?;
        Ok(self.share)
    }

    fn take(&mut self, numbered: Numbered) -> Result<(), StoreError> {
        let Numbered { zone, id, first_file, first_series } = numbered;
        let bytes = zone.bytes();
        let began = Instant::now();
        let history = zone.read(self.shared.request)?;
        self.share.stages.read += began.elapsed().as_secs_f64();
        let content = done::content(&history, self.shared.request);
        if let Some(before) = self.shared.done.same(&history, &content)? {
            self.share.zones_before += 1;
            self.share.ids.push(before);
            self.came(1, 0, bytes);
            return Ok(());
        }
        if self.open.is_none() {
            self.connection.execute_batch("BEGIN TRANSACTION")?;
        }
        let numbers = Numbers::of(&history, first_file, first_series);
        let rows = self.write(&history, &numbers, id, &content)?;
        let readings = history.readings() as u64;
        let open = self.open.get_or_insert_default();
        open.zones += 1;
        open.rows += rows;
        open.readings += readings;
        let is_full = open.is_full(self.shared.to_come());
        self.share.ids.push(id);
        self.came(0, readings, bytes);
        if is_full { self.commit() } else { Ok(()) }
    }

    /// One zone, into the open transaction; how many feature rows it has.
    fn write(
        &mut self,
        history: &History,
        numbers: &Numbers,
        id: u32,
        content: &str,
    ) -> Result<u64, StoreError> {
        let Shared { settings, metrics, request, columns, schema, .. } = self.shared;
        let connection = &self.connection;
        let began = Instant::now();
        let mut rows = Rows::new(connection, &history.zone, schema)?;
        let engine = &settings.engine;
        let outcome = course::run(history, engine, metrics, columns, |row| rows.push(row))?;
        let written_s = rows.took_s;
        self.share.stages.engine += began.elapsed().as_secs_f64() - written_s;
        let began = Instant::now();
        let count = rows.finish()?;
        if !request.features_only {
            write::names(connection, history, numbers)?;
            write::readings(connection, history, &outcome, id, numbers)?;
            write::progress(connection, &history.zone, &outcome.progress)?;
        }
        self.write_kpis(history, &outcome)?;
        rejects::keep(connection, id, &history.rejects)?;
        let rejected = history.rejects.len() as u64;
        let mut by_quality = [0_u64; Quality::ALL.len()];
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
                history.readings() as u64,
                counts,
                rejected,
                count,
                !request.features_only,
                first.map(|ms| micros(*ms)),
                last.map(|ms| micros(*ms))
            ],
        )?;
        self.share.stages.write += began.elapsed().as_secs_f64() + written_s;
        for (all, own) in self.share.by_quality.iter_mut().zip(by_quality) {
            *all += own;
        }
        self.share.rows += count;
        self.share.rejects += rejected;
        Ok(count)
    }

    fn write_kpis(&self, history: &History, outcome: &Outcome) -> Result<(), StoreError> {
        let Shared { settings, request, refresh, .. } = self.shared;
        let mut metrics: BTreeMap<SmolStr, Vec<kpi::Readings<'_>>> = BTreeMap::new();
        for (series, qualities) in history.series.iter().zip(&outcome.qualities) {
            let of_metric = metrics.entry(series.sensor.metric.clone()).or_default();
            of_metric.push((&series.event_ms, &series.value, qualities));
        }
        let (rules, time_zone) = (&settings.kpi.rules, &refresh.time_zone);
        let hours = kpi::of_history(&metrics, rules, time_zone);
        let open_ms = refresh.open_ms(outcome.progress.newest_ms);
        let is_final = request.features_only;
        let zone = &history.zone;
        kpi::write_zone(&self.connection, zone, &hours, rules, time_zone, open_ms, is_final)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let Some(Open { zones, .. }) = self.open.take() else { return Ok(()) };
        let began = Instant::now();
        self.connection.execute_batch("COMMIT")?;
        self.share.stages.write += began.elapsed().as_secs_f64();
        self.share.zones += zones;
        self.came(zones, 0, 0);
        Ok(())
    }

    fn came(&self, zones: u64, readings: u64, bytes: u64) {
        let add = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed) + more;
        let Came { zones: all_zones, readings: all_readings, bytes: all_bytes } = &self.shared.came;
        (self.shared.observe)(Progress {
            zones: add(all_zones, zones),
            readings: add(all_readings, readings),
            bytes: add(all_bytes, bytes),
            ..self.shared.all
        });
    }
}

/// The metrics that have columns, and behind them those that are new.
fn columns(connection: &Connection, new: &[SmolStr]) -> Result<Vec<SmolStr>, StoreError> {
    let mut columns = store::metrics(connection)?;
    for metric in new {
        if !columns.contains(metric) {
            columns.push(metric.clone());
        }
    }
    Ok(columns)
}

/// Makes the columns that rows will have. By itself before any transaction: a
/// column too many is harmless, and DuckDB does not append to a table that the
/// same transaction alters.
fn prepare(
    connection: &Connection,
    schema: &Schema,
    metrics: &[SmolStr],
) -> Result<(), StoreError> {
    let there: std::collections::HashSet<SmolStr> =
        store::feature_columns(connection, "rows")?.into_iter().collect();
    for name in schema.names.iter().filter(|name| !there.contains(*name)) {
        connection.execute_batch(&format!(
            "ALTER TABLE features.rows ADD COLUMN IF NOT EXISTS {} DOUBLE",
            store::quoted(name)
        ))?;
    }
    let names: Vec<String> =
        schema.names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    connection.execute_batch(&format!(
        "INSERT OR IGNORE INTO meta.schemas VALUES ('{}', [{}])",
        schema.hash,
        names.join(", ")
    ))?;
    let known = store::metrics(connection)?.len();
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
        let open = |zones, rows, readings| Open { zones, rows, readings };
        assert!(!open(10, ROWS_MIN - 1, 0).is_full(100));
        assert!(open(10, ROWS_MIN, 0).is_full(100), "ten more zones make another");
        assert!(!open(10, ROWS_MIN, 0).is_full(9), "nine would be a rest");
        assert!(open(10, ROWS_MIN, 0).is_full(0), "none are to come");
        assert!(open(1, 10, READINGS_MIN).is_full(1), "readings are bounded, whatever comes");
    }
}
