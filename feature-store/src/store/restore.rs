use crate::sql_expressions::open_engine;
use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use duckdb::{
    Connection,
    arrow::{
        array::{Array, AsArray, RecordBatch},
        datatypes::{Float64Type, Int64Type, UInt8Type, UInt32Type, UInt64Type},
    },
    params,
};
use eventlog::PartitionOffsets;
use telemetry::{MetricTable, QualityFlag, SensorReading, SmolStr, ZoneId};

use super::{
    name_dictionary::{NameDictionary, StoredSeries, read_series},
    write_batch::CommitTally,
};
use crate::{
    StoreError,
    engine::{FeatureEngine, ZoneProgress},
    settings, watch,
};

/// Zones whose newest readings are at most this far apart are read in one query, ms.
const SPAN_GAP_MAX_MS: i64 = 86_400_000;

/// Span of all possible event times, UTC ms.
const ANY_TIME: (i64, i64) = (-9_000_000_000_000_000, 9_000_000_000_000_000);

/// State that an existing file holds.
#[derive(Debug)]
pub(crate) struct RestoredState {
    /// The engine; still without readings if partitions are shared.
    pub(crate) engine: FeatureEngine,
    /// Ids for names.
    pub(crate) names: NameDictionary,
    /// Offsets to resume from.
    pub(crate) positions: PartitionOffsets,
    /// Totals of all commits.
    pub(crate) tally: CommitTally,
    /// Ingested files of the watched folder.
    pub(crate) watched: Vec<watch::FileVersion>,
}

/// Restores the engine to the state of the last commit. Restores no zones if they arrive with the
/// partitions of a consumer group.
pub(crate) fn restore_state(
    connection: &Connection,
    settings: &settings::EngineSettings,
    metrics_known: MetricTable,
    is_shared: bool,
) -> Result<RestoredState, StoreError> {
    let mut engine = open_engine(settings, metrics_known, &read_metrics(connection)?)?;
    let names = NameDictionary::read_names(connection)?;
    let positions = read_positions(connection)?;
    if !is_shared {
        restore_zones(connection, &mut engine, settings, None)?;
    }
    let watched = watch::read_ingested_files(connection)?;
    Ok(RestoredState { engine, names, positions, tally: read_tally(connection)?, watched })
}

/// Restores zones (all, or those of some partitions) to the state of the last commit, by
/// ingesting their readings again in the same order. The same code gives the same bits, and there
/// is no second representation of the state that could differ.
pub(crate) fn restore_zones(
    connection: &Connection,
    engine: &mut FeatureEngine,
    settings: &settings::EngineSettings,
    partitions: Option<&BTreeSet<i32>>,
) -> Result<(), StoreError> {
    let mut found = read_zones(connection)?;
    // A zone that only files have named (below 0) may appear in any partition.
    found.retain(|(_, partition, _)| {
        partitions.is_none_or(|wanted| *partition < 0 || wanted.contains(partition))
    });
    // If there are more zones than memory allows, those with the most recent readings.
    found.sort_by_key(|(.., progress)| std::cmp::Reverse(progress.newest_ms));
    found.truncate(settings.zones_max);
    // Oldest newest reading first, so that they are evicted in that order too.
    found.reverse();
    restore_found_zones(connection, engine, settings, found)
}

/// Restores some of the file's zones to the state of the last commit.
pub(crate) fn restore_some_zones(
    connection: &Connection,
    engine: &mut FeatureEngine,
    settings: &settings::EngineSettings,
    wanted: &BTreeSet<ZoneId>,
) -> Result<(), StoreError> {
    let mut statement = connection
        .prepare("SELECT partition, progress FROM meta.zones WHERE site = ? AND zone = ?")?;
    let mut found = Vec::with_capacity(wanted.len());
    for zone in wanted {
        let mut rows = statement.query(params![zone.site.as_str(), zone.zone.as_str()])?;
        if let Some(row) = rows.next()? {
            found.push((zone.clone(), row.get(0)?, read_progress(&row.get::<_, String>(1)?)?));
        }
    }
    restore_found_zones(connection, engine, settings, found)
}

fn restore_found_zones(
    connection: &Connection,
    engine: &mut FeatureEngine,
    settings: &settings::EngineSettings,
    found: Vec<(ZoneId, i32, ZoneProgress)>,
) -> Result<(), StoreError> {
    let start = Instant::now();
    let last_ms = found.iter().filter_map(|(_, _, progress)| progress.newest_ms).max();
    let mut newest: Vec<(i64, ZoneId)> = Vec::new();
    // Oldest row that a zone may still compute, if that is not its newest one.
    let mut oldest_ms: HashMap<ZoneId, i64> = HashMap::new();
    for (zone, _, progress) in found {
        // Copies are recognised even in a zone without valid readings.
        newest.push((progress.newest_ms.or(last_ms).unwrap_or(0), zone.clone()));
        oldest_ms.extend(progress.oldest_row_ms().map(|ms| (zone.clone(), ms)));
        engine.restore_zone(zone, progress);
    }
    let oldest_ms = |newest_ms: i64, zone: &ZoneId| {
        oldest_ms.get(zone).map_or(newest_ms, |ms| newest_ms.min(*ms))
    };
    newest.sort_unstable();
    let series = read_series(connection)?;
    let boots = read_boots(connection)?;
    let kept_ms = engine.retention_ms();
    let ahead_ms = i64::from(settings.future_max_s) * 1000;
    let mut readings = 0;
    for together in newest.chunk_by(|a, b| b.0.saturating_sub(a.0) <= SPAN_GAP_MAX_MS) {
        let after_ms: HashMap<&ZoneId, i64> = together
            .iter()
            .map(|(newest_ms, zone)| (zone, oldest_ms(*newest_ms, zone).saturating_sub(kept_ms)))
            .collect();
        let newest_ms = together[together.len() - 1].0;
        // The table is nearly in the order of time, so only the span is read. Nothing is newer
        // than the newest zone's end, except readings with wrong timestamps.
        let wanted = WantedSeries::new(&series, &boots, &after_ms);
        let span_start_ms = after_ms.values().copied().min().unwrap_or(ANY_TIME.0).max(ANY_TIME.0);
        let span = match last_ms {
            None => ANY_TIME,
            Some(last_ms) if newest_ms == last_ms => (span_start_ms, ANY_TIME.1),
            Some(_) => (span_start_ms, newest_ms.saturating_add(ahead_ms).min(ANY_TIME.1)),
        };
        readings += restore_readings(connection, engine, &wanted, span)?;
    }
    if !newest.is_empty() {
        tracing::info!(zones = newest.len(), readings, took = ?start.elapsed(), "restored");
    }
    Ok(())
}

/// Meaning of the ids of series and boots, and the time after which readings of a series are
/// wanted.
struct WantedSeries<'a> {
    /// Series by id, with that time, UTC ms.
    series: Vec<Option<(&'a StoredSeries, i64)>>,
    boots: &'a HashMap<u32, SmolStr>,
}

impl<'a> WantedSeries<'a> {
    fn new(
        series: &'a [StoredSeries],
        boots: &'a HashMap<u32, SmolStr>,
        after_ms: &HashMap<&ZoneId, i64>,
    ) -> Self {
        let end = series.iter().map(|one| one.id as usize + 1).max().unwrap_or_default();
        let mut wanted = vec![None; end];
        for one in series {
            wanted[one.id as usize] = after_ms.get(&one.zone).map(|after_ms| (one, *after_ms));
        }
        Self { series: wanted, boots }
    }
}

/// Restores readings in (`after_ms`, `until_ms`], in the order of the log. Returns their number.
fn restore_readings(
    connection: &Connection,
    engine: &mut FeatureEngine,
    wanted: &WantedSeries,
    (after_ms, until_ms): (i64, i64),
) -> Result<u64, StoreError> {
    // Without ORDER BY, as rows come in the order in which they were appended, which is that of
    // the log. DuckDB keeps it (`preserve_insertion_order`).
    let mut statement = connection.prepare(
        "SELECT series, boot, seq, epoch_ms(event) AS event, value, quality,
             epoch_ms(arrival) AS arrival FROM silver.data
         WHERE event > make_timestamp_ms(?) AND event <= make_timestamp_ms(?)",
    )?;
    let mut restored = 0;
    for batch in statement.stream_arrow(params![after_ms, until_ms])? {
        restored += restore_batch(&batch, engine, wanted)?;
    }
    Ok(restored)
}

fn restore_batch(
    batch: &RecordBatch,
    engine: &mut FeatureEngine,
    wanted: &WantedSeries,
) -> Result<u64, StoreError> {
    let series = batch.column(0).as_primitive::<UInt32Type>();
    let boot = batch.column(1).as_primitive::<UInt32Type>();
    let seq = batch.column(2).as_primitive::<UInt64Type>();
    let event_ms = batch.column(3).as_primitive::<Int64Type>();
    let value = batch.column(4).as_primitive::<Float64Type>();
    let qualities = batch.column(5).as_primitive::<UInt8Type>();
    let arrival_ms = batch.column(6).as_primitive::<Int64Type>();
    engine.prefetch_readings((0..batch.num_rows()).filter_map(|row| {
        let (one, after_ms) = wanted.series.get(series.value(row) as usize).copied().flatten()?;
        let (event_ms, value) = (event_ms.value(row), value.value(row));
        (event_ms > after_ms).then(|| one.sql_reading(event_ms, value))
    }));
    let mut restored = 0;
    for row in 0..batch.num_rows() {
        let one = wanted.series.get(series.value(row) as usize).copied().flatten();
        let reading_ms = event_ms.value(row);
        let Some((one, _)) = one.filter(|(_, after_ms)| reading_ms > *after_ms) else { continue };
        let boot_name = boot.is_valid(row).then(|| wanted.boots.get(&boot.value(row))).flatten();
        let run = boot_name.zip(seq.is_valid(row).then(|| seq.value(row)));
        let reading = SensorReading {
            metric: one.metric.clone(),
            event_ms: reading_ms,
            value: value.value(row),
        };
        let (arrival_ms, quality) = (arrival_ms.value(row), decode_quality(qualities.value(row))?);
        engine.restore_reading(&one.zone, &one.device, run, &reading, arrival_ms, quality);
        restored += 1;
    }
    Ok(restored)
}

/// Reads the next offset of each partition.
pub(crate) fn read_positions(connection: &Connection) -> Result<PartitionOffsets, StoreError> {
    let mut statement = connection.prepare("SELECT partition, next_offset FROM meta.positions")?;
    let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}

fn read_tally(connection: &Connection) -> Result<CommitTally, StoreError> {
    let mut tally = CommitTally::default();
    let mut statement = connection.prepare("SELECT name, count FROM meta.counters")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let name: String = row.get(0)?;
        let counter = tally.counter_mut(&name).ok_or_else(|| StoreError::CorruptTable {
            table: "meta.counters",
            found: name.clone(),
            expected: "the name of a counter",
        })?;
        *counter = row.get(1)?;
    }
    // Backfills run in parallel and do not write to a common counter.
    let mut statement =
        connection.prepare("SELECT qualities, rows FROM meta.backfills WHERE readings_kept")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let json: String = row.get(0)?;
        let counts: [u64; QualityFlag::ALL.len()] =
            serde_json::from_str(&json).map_err(|_| StoreError::CorruptTable {
                table: "meta.backfills",
                found: json.clone(),
                expected: "numbers of readings as JSON",
            })?;
        tally.by_quality.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        tally.rows += row.get::<_, u64>(1)?;
    }
    Ok(tally)
}

pub(super) fn read_zones(
    connection: &Connection,
) -> Result<Vec<(ZoneId, i32, ZoneProgress)>, StoreError> {
    let mut statement =
        connection.prepare("SELECT site, zone, partition, progress FROM meta.zones")?;
    let mut found = statement.query([])?;
    let mut zones = Vec::new();
    while let Some(row) = found.next()? {
        let zone = ZoneId::new(row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        zones.push((zone, row.get(2)?, read_progress(&row.get::<_, String>(3)?)?));
    }
    Ok(zones)
}

fn read_progress(json: &str) -> Result<ZoneProgress, StoreError> {
    serde_json::from_str(json).map_err(|_| StoreError::CorruptTable {
        table: "meta.zones",
        found: json.to_owned(),
        expected: "a zone's progress as JSON",
    })
}

pub(super) fn read_boots(connection: &Connection) -> Result<HashMap<u32, SmolStr>, StoreError> {
    let mut statement = connection.prepare("SELECT id, boot FROM silver.boots")?;
    let found =
        statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?.into())))?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}

/// Reads the metrics, in the order of their columns.
pub(crate) fn read_metrics(connection: &Connection) -> Result<Vec<SmolStr>, StoreError> {
    read_texts(connection, "SELECT metric FROM meta.metrics ORDER BY position")
}

/// Reads the feature columns of a table in the schema `features`, in their order.
pub(crate) fn read_feature_columns(
    connection: &Connection,
    table: &str,
) -> Result<Vec<SmolStr>, StoreError> {
    read_texts(
        connection,
        &format!(
            "SELECT column_name FROM duckdb_columns()
             WHERE schema_name = 'features' AND table_name = '{table}' AND data_type = 'DOUBLE'
             ORDER BY column_index"
        ),
    )
}

fn read_texts(connection: &Connection, sql: &str) -> Result<Vec<SmolStr>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let texts = statement.query_map([], |row| row.get::<_, String>(0).map(SmolStr::from))?;
    Ok(texts.collect::<duckdb::Result<_>>()?)
}

pub(super) fn decode_quality(number: u8) -> Result<QualityFlag, StoreError> {
    QualityFlag::ALL.get(usize::from(number)).copied().ok_or_else(|| StoreError::CorruptTable {
        table: "silver.data",
        found: number.to_string(),
        expected: "the number of a quality",
    })
}
