//! Users' SQL: its answers, and that its limits hold whatever it does.

mod support;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use duckdb::arrow::{array::AsArray, datatypes::Int64Type, util::display::array_value_to_string};
use microclimate_feature_store::{
    FeatureStore, FeatureStoreSettings, QueryStopReason, SqlQuery, StoreError,
    kpi::{KpiQuery, PeriodLength},
    sql_sandbox::SqlLimits,
    store::ArrowTable,
};
use support::live;
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const MEMORY_BYTES_MAX: u64 = 200_000_000;
const LIMITS: SqlLimits = SqlLimits {
    rows_max: 1000,
    bytes_max: 8_000_000,
    time_max: Duration::from_secs(3),
    memory_bytes_max: MEMORY_BYTES_MAX,
};
/// 2025-06-02T00:00:00Z.
const START_MS: i64 = 1_748_822_400_000;

fn two_zone_reports() -> Vec<SensorReport> {
    (0..2000_i64)
        .map(|i| SensorReport {
            zone: ZoneId::new("farm", if i % 2 == 0 { "bay-1" } else { "it's 2" }),
            device: "probe".into(),
            boot: None,
            seq: None,
            arrival_ms: START_MS + i * 30_000,
            source: ReportSource::Replay,
            readings: vec![
                SensorReading {
                    metric: "temperature".into(),
                    event_ms: START_MS + i * 30_000,
                    value: 20.0 + (i % 50) as f64 / 8.0,
                },
                SensorReading {
                    metric: "humidity".into(),
                    event_ms: START_MS + i * 30_000,
                    value: 50.0,
                },
            ],
        })
        .collect()
}

/// Returns a store that has ingested some readings.
fn filled_store() -> (TempDir, FeatureStoreSettings, FeatureStore) {
    let dir = TempDir::new().unwrap();
    let settings = support::settings(dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(live(&settings, &two_zone_reports()));
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    (dir, settings, store)
}

fn run_query(store: &FeatureStore, text: &str) -> Result<(ArrowTable, bool), StoreError> {
    store.run_sql(&SqlQuery::checked(text).expect(text), LIMITS, &CancellationToken::new())
}

/// Formats the rows of an answer as text.
fn table_as_text(table: &ArrowTable) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in &table.batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch
                .columns()
                .iter()
                .map(|column| array_value_to_string(column, row).unwrap())
                .collect();
            rows.push(cells.join("|"));
        }
    }
    rows
}

/// Returns the memory of all child processes of this process, bytes.
fn memory_of_children() -> u64 {
    let this_process = std::process::id().to_string();
    let mut sum = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // pid (name) state parent …
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(2));
        if parent == Some(&this_process) {
            sum += resident_bytes(&entry.path());
        }
    }
    sum
}

fn resident_bytes(process: &std::path::Path) -> u64 {
    let statm = fs::read_to_string(process.join("statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Compares answers with DuckDB's own answers to the same text over the same file.
#[test]
fn answers_are_those_of_the_file() {
    let (_dir, settings, store) = filled_store();
    let texts = [
        "SELECT 1 AS one, 'it''s' AS text, NULL AS nothing",
        "SELECT count(*) FROM silver.readings",
        "SELECT count(*) AS n, zone FROM silver.readings GROUP BY zone ORDER BY zone",
        "SELECT * FROM silver.readings WHERE zone = 'it''s 2' AND event >= '2025-06-02 03:00' AND event < TIMESTAMP '2025-06-02 03:10' ORDER BY event, metric",
        "SELECT zone, value FROM silver.readings WHERE zone IN ('bay-1', 'x') AND metric = 'temperature' AND value > 25.9 ORDER BY event",
        "SELECT zone, value FROM silver.readings WHERE (zone = 'bay-1' OR value > 26) AND metric <> 'humidity' ORDER BY event, value LIMIT 20",
        "SELECT a.zone, count(*) FROM silver.readings a JOIN silver.readings b ON a.event = b.event AND a.metric < b.metric WHERE b.zone = 'bay-1' GROUP BY a.zone",
        "SELECT (SELECT max(value) FROM silver.readings WHERE zone = 'bay-1') AS m, count(*) FROM silver.readings WHERE event > '2025-06-02 10:00'",
        "SELECT site, zone, time, revision, schema_hash, temperature_mean_1h FROM features.rows WHERE temperature_mean_1h IS NOT NULL ORDER BY time, zone LIMIT 50",
        "SELECT * EXCLUDE (payload) FROM bronze.records ORDER BY \"offset\" DESC LIMIT 3",
        "SELECT payload FROM bronze.records ORDER BY \"offset\" LIMIT 3",
        "SELECT hash, len(names) > 3 AS many, names[1] FROM meta.schemas ORDER BY hash",
        "SELECT metric, hour, readings, valid_share, mean, quality FROM gold.hourly ORDER BY ALL LIMIT 30",
        "SELECT version, hash, active FROM meta.definitions",
        "WITH t AS (SELECT zone, value FROM silver.readings), u AS MATERIALIZED (SELECT 1 AS one) SELECT t.zone, max(t.value) FROM t, u GROUP BY t.zone ORDER BY 1",
        "SELECT value, lag(value) OVER (PARTITION BY zone ORDER BY event) AS before FROM silver.readings WHERE metric = 'temperature' ORDER BY event LIMIT 10",
        "SELECT r.zone, count(*) FROM silver.readings r ASOF JOIN features.rows f ON r.zone = f.zone AND r.event >= f.time GROUP BY r.zone ORDER BY 1",
        "SELECT * FROM silver.readings WHERE metric = 'humidity' ORDER BY event DESC LIMIT 10",
        "SELECT zone, metric, value FROM silver.readings ORDER BY event DESC, metric LIMIT 7 OFFSET 5",
        "SELECT event, value * 2 AS v FROM silver.readings WHERE value <> 50 ORDER BY event LIMIT 4",
        "SELECT value AS event FROM silver.readings WHERE metric = 'temperature' ORDER BY event DESC, zone, silver.readings.event LIMIT 4",
        "SELECT zone, max(event) AS event FROM silver.readings GROUP BY zone ORDER BY event DESC LIMIT 1",
        "SELECT zone, time FROM features.rows WHERE revision = 0 ORDER BY time DESC, zone LIMIT 4",
        "SELECT zone FROM silver.readings WHERE false",
        "FROM silver.boots",
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('gold', 'features') ORDER BY ALL",
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'hourly' ORDER BY ordinal_position",
        "SELECT range FROM range(10)",
    ];
    let mut found = Vec::new();
    for sql in texts {
        let (table, has_more) =
            run_query(&store, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(!has_more, "{sql}");
        let names: Vec<String> =
            table.schema.fields().iter().map(|field| field.name().clone()).collect();
        found.push((names, table_as_text(&table)));
    }
    drop(store);
    let file = duckdb::Connection::open(&settings.store.path).unwrap();
    for (sql, (names, rows)) in texts.iter().zip(found) {
        let mut statement = file.prepare(sql).unwrap();
        let batches: Vec<_> = statement.query_arrow([]).unwrap().collect();
        let schema = statement.schema();
        let expect = ArrowTable { schema: schema.clone(), batches };
        let expect_names: Vec<String> =
            schema.fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, expect_names, "{sql}");
        assert_eq!(rows, table_as_text(&expect), "{sql}");
        let may_be_empty = sql.contains("false") || sql.contains("boots");
        assert!(may_be_empty || !rows.is_empty(), "{sql}");
    }
}

#[test]
fn rows_are_limited_in_their_order_and_bytes_too() {
    let (_dir, _settings, store) = filled_store();
    let (table, has_more) =
        run_query(&store, "SELECT range AS n FROM range(100000) ORDER BY n DESC").unwrap();
    assert_eq!((table.row_count(), has_more), (1000, true));
    let first = table.batches[0].column(0).as_primitive::<Int64Type>();
    assert_eq!(first.value(0), 99_999);
    let error = run_query(&store, "SELECT nothing FROM meta.metrics").unwrap_err();
    assert!(matches!(&error, StoreError::Sql(message) if message.contains("nothing")), "{error}");
    // 900 rows of some twenty kilobytes.
    let x = "replace(replace(replace('xxxxxxxxxx', 'x', 'yyyyyyyyyy'), 'y', 'zzzzzzzzzz'), 'z', 'wwwwwwwwwwwwwwwwwwww')";
    let error =
        run_query(&store, &format!("SELECT concat({x}, range) FROM range(900)")).unwrap_err();
    assert!(
        matches!(error, StoreError::LimitExceeded { what: "bytes in the answer", .. }),
        "{error}"
    );
}

#[test]
fn a_client_that_has_gone_ends_its_query() {
    let (_dir, _settings, store) = filled_store();
    let gone = CancellationToken::new();
    gone.cancel();
    let slow = SqlQuery::checked("SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE (a.range * b.range) % 7 = 1").unwrap();
    let started = Instant::now();
    let answer = store.run_sql(&slow, LIMITS, &gone);
    assert!(matches!(answer, Err(StoreError::Stopped(QueryStopReason::ClientGone))), "{answer:?}");
    assert!(started.elapsed() < LIMITS.time_max);
}

/// Queries that take much more than they may, each in a different way. None is refused by its
/// words: the limits must hold.
fn resource_bombs() -> Vec<(&'static str, String)> {
    let grow = |times: usize| {
        let mut text = "'xxxxxxxxxx'".to_owned();
        for _ in 0..times {
            text = format!("replace({text}, 'x', 'xxxxxxxxxx')");
        }
        text
    };
    let doubled = |times: usize| {
        let mut text = "SELECT zone AS a FROM silver.readings".to_owned();
        for _ in 0..times {
            text = format!("SELECT concat(a, a, a, a) AS a FROM ({text})");
        }
        text
    };
    let columns = |times: usize| {
        let mut text = "SELECT 1 AS a".to_owned();
        for _ in 0..times {
            text = format!("SELECT *, * FROM ({text})");
        }
        text
    };
    let parts: Vec<String> =
        (1..24).map(|i| format!("t{i} AS (SELECT a.x FROM t{0} a, t{0} b)", i - 1)).collect();
    let many = |count: usize, of: &str| vec![of; count].join(", ");
    vec![
        ("a text that grows tenfold seven times", format!("SELECT length({}) FROM silver.readings", grow(7))),
        ("a constant that grows while the query is planned", format!("SELECT length({})", grow(8))),
        ("texts that grow fourfold", format!("SELECT max(length(a)) FROM ({})", doubled(12))),
        ("a text of all rows", "SELECT length(string_agg(concat(a.zone, b.zone, c.zone), '')) FROM silver.readings a, silver.readings b, silver.readings c".to_owned()),
        ("rows that are all different", "SELECT count(*) FROM (SELECT DISTINCT range, range * 7 AS b FROM range(1000000000))".to_owned()),
        ("a sort", "SELECT * FROM (SELECT range AS a, range * 7 % 1000003 AS b FROM range(1000000000)) ORDER BY b, a".to_owned()),
        ("a window over all", "SELECT max(m) FROM (SELECT median(range) OVER (ORDER BY range ROWS BETWEEN 1000000 PRECEDING AND CURRENT ROW) AS m FROM range(100000000))".to_owned()),
        ("a product of tables", "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE (a.range * b.range) % 7 = 1".to_owned()),
        ("a histogram", "SELECT len(histogram(range)::VARCHAR) FROM range(1000000000)".to_owned()),
        ("a quantile of much", "SELECT quantile_cont(a.range * 1.5, 0.5) FROM range(100000) a, range(100000) b".to_owned()),
        ("columns that double", columns(22)),
        ("parts that double", format!("WITH t0 AS (SELECT value AS x FROM silver.readings), {} SELECT count(*) FROM t23", parts.join(", "))),
        ("grouping sets", format!("SELECT count(*) FROM (SELECT {}, count(*) FROM silver.readings GROUP BY CUBE (site, zone, device, boot, seq, source, metric, event, arrival, value, quality, partition))", "site, zone, metric")),
        ("brackets", format!("SELECT {}1{}", "(".repeat(7000), ")".repeat(7000))),
        ("signs", format!("SELECT {}1", "- ".repeat(7000))),
        ("a long sum", format!("SELECT {}1 FROM silver.readings a, silver.readings b", "1 + ".repeat(3500))),
        ("a regular expression", "SELECT count(*) FROM silver.readings a, silver.readings b WHERE regexp_matches(concat(a.device, b.device, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'), '(((a{1,100}){1,100}){1,10})b')".to_owned()),
        ("wide lists", format!("SELECT [{}] FROM range(1000000)", many(1200, "range"))),
        ("a list of lists of all", format!("SELECT {{'a': [{0}], 'b': [{0}]}} FROM silver.readings a, silver.readings b ORDER BY 1", many(400, "a.zone"))),
        ("casts", "SELECT max(length(CAST(CAST(range AS DECIMAL(38, 30)) AS VARCHAR))) FROM range(10000000000)".to_owned()),
    ]
}

#[test]
fn limits_hold_whatever_a_query_does() {
    let (_dir, _settings, store) = filled_store();
    let own_process = std::path::Path::new("/proc/self");
    let (peak, before) = (Arc::new(AtomicU64::new(0)), resident_bytes(own_process));
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = {
        let (peak, is_over) = (peak.clone(), is_over.clone());
        thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let taken =
                    memory_of_children() + resident_bytes(own_process).saturating_sub(before);
                peak.fetch_max(taken, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let mut slowest_answer = Duration::ZERO;
    for (name, sql) in resource_bombs() {
        let query = match SqlQuery::checked(&sql) {
            Ok(query) => query,
            Err(refused) => panic!("{name} was refused: {refused}"),
        };
        peak.store(0, Ordering::Relaxed);
        let started = Instant::now();
        let answer = thread::scope(|scope| {
            let running =
                scope.spawn(|| store.run_sql(&query, LIMITS, &CancellationToken::new()).map(drop));
            // Other clients get answers meanwhile.
            while !running.is_finished() {
                let other = Instant::now();
                let zone = ZoneId::new("farm", "bay-1");
                let query = KpiQuery {
                    zone,
                    length: PeriodLength::Hour,
                    from_ms: None,
                    to_ms: None,
                    limit: 10,
                };
                assert!(!store.read_kpis(&query).unwrap().is_empty());
                slowest_answer = slowest_answer.max(other.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            running.join().unwrap()
        });
        let took = started.elapsed();
        let taken = peak.load(Ordering::Relaxed);
        let outcome =
            answer.as_ref().map_or_else(|error| error.to_string(), |()| "answered".into());
        let outcome: String = outcome.chars().take(100).collect();
        println!("{name}: {:.1} s, {} MB: {outcome}", took.as_secs_f64(), taken / 1_000_000);
        // Part of it is the program itself, with its debug information.
        assert!(taken < MEMORY_BYTES_MAX + 200_000_000, "{name}: {taken} bytes");
        assert!(took < LIMITS.time_max + Duration::from_secs(1), "{name}: {took:?}");
        assert!(!matches!(answer, Err(StoreError::SqlProcess(_))), "{name}: {answer:?}");
    }
    println!("slowest other answer: {slowest_answer:?}");
    is_over.store(true, Ordering::Relaxed);
    watch.join().unwrap();
    assert_eq!(memory_of_children(), 0, "no process is left");
    // Afterwards everything is as before.
    assert_eq!(
        table_as_text(&run_query(&store, "SELECT count(*) FROM silver.readings").unwrap().0),
        ["4000"]
    );
}
