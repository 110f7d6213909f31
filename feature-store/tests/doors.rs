//! The same readings make the same store, whether they come as CSV, JSON lines, Parquet or
//! messages.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use duckdb::Connection;
use feature_store::{
    Settings, StoreError,
    backfill::{self, Layout, Request, Summary},
};
use proptest::prelude::*;
use support::{live, settings};
use telemetry::{Limits, MetricTable, TimeFormat, payload::decode};
use tempfile::TempDir;

/// 2024-01-15T12:00:00Z
const START_S: i64 = 1_705_320_000;
const METRICS: [&str; 3] = ["temperature", "soil_moisture", "irrigation"];

/// Zone, device, metric, event time, bits of the value, quality.
type Stored = BTreeSet<(String, String, String, i64, Option<u64>, String)>;

#[derive(Clone, Debug)]
struct Reading {
    zone: usize,
    device: usize,
    metric: usize,
    event_s: i64,
    value: f64,
}

impl Reading {
    fn zone(&self) -> String {
        format!("farm/bay-{}", self.zone)
    }

    fn device(&self) -> String {
        format!("probe-{}", self.device)
    }
}

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let reading = (0..2_usize, 0..2_usize, 0..3_usize, 0..7200_i64, 0..4000_i32);
    let reading = reading.prop_map(|(zone, device, metric, at, value)| {
        // A valve is open or closed.
        let value = if metric == 2 { f64::from(value % 2) } else { f64::from(value) / 100.0 };
        Reading { zone, device, metric, event_s: START_S + at, value }
    });
    prop::collection::vec(reading, 20..80).prop_map(|mut all| {
        all.sort_by_key(|own| (own.event_s, own.zone, own.device, own.metric));
        all.dedup_by_key(|own| (own.event_s, own.zone, own.device, own.metric));
        all
    })
}

fn take(settings: &Settings, path: &Path, layout: Layout) -> Result<Summary, StoreError> {
    let request = Request {
        path: path.to_owned(),
        layout,
        site: "site".to_owned(),
        zones: Vec::new(),
        from_ms: None,
        to_ms: None,
        features_only: false,
        as_published: false,
        time_zone: jiff::tz::TimeZone::UTC,
        time_format: TimeFormat::Iso,
        rejects: path.with_extension("rejects.csv"),
        jobs: 1,
    };
    backfill::run(settings, &MetricTable::default(), &request, &|_| {})
}

fn stored(settings: &Settings) -> Stored {
    let connection = Connection::open(&settings.store.path).unwrap();
    let mut statement = connection
        .prepare("SELECT site || '/' || zone, device, metric, epoch_ms(event), value, quality::VARCHAR FROM silver.readings")
        .unwrap();
    let rows = statement.query_map([], |row| {
        let value: Option<f64> = row.get(4)?;
        let bits = value.filter(|value| !value.is_nan()).map(f64::to_bits);
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, bits, row.get(5)?))
    });
    rows.unwrap().collect::<duckdb::Result<_>>().unwrap()
}

/// What a file makes of an empty store.
fn of_file(path: &Path, layout: Layout) -> (Stored, Summary) {
    let store = TempDir::new().unwrap();
    let settings = settings(store.path());
    let summary =
        take(&settings, path, layout).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stored = stored(&settings);
    assert_eq!(
        summary.readings,
        stored.len() as u64,
        "{}: what is counted is stored",
        path.display()
    );
    (stored, summary)
}

/// CSV with a reading a row, of `rows` (time in seconds, zone, device, metric, value).
fn long(readings: &[Reading]) -> String {
    let mut text = "time,zone,device,metric,value\n".to_owned();
    for own in readings {
        let (zone, device, metric) = (own.zone(), own.device(), METRICS[own.metric]);
        text += &format!("{},{zone},{device},{metric},{}\n", own.event_s, own.value);
    }
    text
}

/// CSV with a column a metric.
fn wide(readings: &[Reading]) -> String {
    let mut rows: BTreeMap<(i64, String, String), [String; 3]> = BTreeMap::new();
    for own in readings {
        let cells = rows.entry((own.event_s, own.zone(), own.device())).or_default();
        cells[own.metric] = own.value.to_string();
    }
    let mut text = format!("time,zone,device,{}\n", METRICS.join(","));
    for ((at, zone, device), cells) in rows {
        text += &format!("{at},{zone},{device},{}\n", cells.join(","));
    }
    text
}

/// Types of a Parquet file's time column, as SQL of `stamp`, whole seconds since 1970.
const TIMES: [&str; 15] = [
    "make_timestamp_ms(stamp * 1000)",
    "make_timestamp(stamp * 1000000)",
    "make_timestamp_ns(stamp * 1000000000)",
    "make_timestamp_ms(stamp * 1000)::TIMESTAMP_S",
    "to_timestamp(stamp)",
    "stamp",
    "stamp::INTEGER",
    "stamp::UINTEGER",
    "(stamp * 1000)::UBIGINT",
    "stamp * 1000000",
    "stamp * 1000000000",
    "stamp::DOUBLE",
    "stamp::DECIMAL(18, 3)",
    "stamp::VARCHAR",
    "strftime(make_timestamp(stamp * 1000000), '%Y-%m-%dT%H:%M:%S')",
];
/// Types of its values, which hold two decimals exactly enough to give them back.
const VALUES: [&str; 3] = ["value", "value::DECIMAL(9, 2)", "value::VARCHAR"];

/// Makes Parquet of CSV, with SQL for its columns.
fn parquet(csv: &Path, columns: &str, to: &Path) {
    let connection = Connection::open_in_memory().unwrap();
    let sql = format!(
        "COPY (SELECT {columns} FROM (SELECT time AS stamp, * EXCLUDE (time) FROM read_csv('{}', nullstr = '')))
         TO '{}' (FORMAT parquet)",
        csv.display(),
        to.display()
    );
    connection.execute_batch(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn files_and_messages_make_the_same_store(readings in readings()) {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("long.csv"), long(&readings)).unwrap();
        std::fs::write(path("wide.csv"), wide(&readings)).unwrap();
        let line = |own: &Reading| {
            serde_json::json!({"zone": own.zone(), "device": own.device(), "metric": METRICS[own.metric], "ts": own.event_s, "value": own.value})
        };
        let lines: Vec<String> = readings.iter().map(|own| line(own).to_string()).collect();
        std::fs::write(path("lines.jsonl"), lines.join("\n")).unwrap();
        let (expected, summary) = of_file(&path("long.csv"), Layout::Csv);
        prop_assert_eq!((summary.readings, summary.rejects), (readings.len() as u64, 0));
        let is_stored = readings.iter().all(|own| expected.iter().any(|found| {
            found.0 == own.zone() && found.1 == own.device() && found.2 == METRICS[own.metric]
                && found.3 == own.event_s * 1000 && found.4 == Some(own.value.to_bits())
        }));
        prop_assert!(is_stored, "{:?}", expected);
        prop_assert_eq!(&of_file(&path("wide.csv"), Layout::Csv).0, &expected);
        prop_assert_eq!(&of_file(&path("lines.jsonl"), Layout::Jsonl).0, &expected);
        for (i, time) in TIMES.iter().enumerate() {
            let to = path(&format!("{i}.parquet"));
            let value = VALUES[i % VALUES.len()];
            if i % 2 == 0 {
                parquet(&path("long.csv"), &format!("{time} AS Timestamp, zone, device, metric, {value} AS value"), &to);
            } else {
                let open = "CASE WHEN irrigation IS NULL THEN NULL ELSE irrigation::INTEGER::BOOLEAN END AS \"Irrigation\"";
                let number = |name: &str| format!("{} AS {name}", value.replace("value", name));
                let columns = format!("row_number() OVER () AS __index_level_0__, {time} AS time, split_part(zone, '/', 1) AS site, split_part(zone, '/', 2) AS zone, device, {}, {}, {open}", number("temperature"), number("soil_moisture"));
                parquet(&path("wide.csv"), &columns, &to);
            }
            let (found, summary) = of_file(&to, Layout::Parquet);
            prop_assert_eq!((&found, summary.rejects), (&expected, 0), "{} {}", time, value);
        }
        let metrics = MetricTable::default();
        let reports: Vec<_> = readings.iter().map(|own| {
            let topic = format!("sensors/{}/{}/{}", own.zone(), own.device(), METRICS[own.metric]);
            let payload = serde_json::json!({"value": own.value, "ts": own.event_s, "source": "replay"}).to_string();
            decode(&topic, payload.as_bytes(), 0, &metrics, Limits::default()).unwrap().report
        }).collect();
        let store = TempDir::new().unwrap();
        let settings = settings(store.path());
        tokio::runtime::Runtime::new().unwrap().block_on(live(&settings, &reports));
        prop_assert_eq!(stored(&settings), expected);
    }
}

/// SQL of the columns of a file with three rows, what is stored, and what is said of the rest.
fn check(columns: &str, readings: u64, rejects: u64, says: &str) {
    let dir = TempDir::new().unwrap();
    let (csv, path) = (dir.path().join("a.csv"), dir.path().join("a.parquet"));
    std::fs::write(&csv, format!("time,n\n{START_S},0\n{},1\n{},2\n", START_S + 60, START_S + 120))
        .unwrap();
    parquet(&csv, columns, &path);
    let store = TempDir::new().unwrap();
    let settings = settings(store.path());
    let said = match take(&settings, &path, Layout::Parquet) {
        Ok(summary) => {
            assert_eq!((summary.readings, summary.rejects), (readings, rejects), "{columns}");
            assert_eq!(stored(&settings).len() as u64, readings, "{columns}");
            std::fs::read_to_string(path.with_extension("rejects.csv")).unwrap_or_default()
        }
        Err(error) => {
            assert_eq!(readings, 0, "{columns}: {error}");
            error.to_string()
        }
    };
    assert!(said.contains(says), "{columns}: {said}");
}

#[test]
fn of_parquet_nothing_is_lost_or_made_up_without_a_word() {
    let time = "make_timestamp(stamp * 1000000) AS time";
    let long = "'farm/bay' AS zone, 'temperature' AS metric, 20.0 + n AS value";
    check(&format!("{time}, {long}"), 3, 0, "");
    // A null, and what stands for it.
    check(
        &format!("CASE WHEN n > 0 THEN make_timestamp(stamp * 1000000) END AS time, {long}"),
        2,
        1,
        "null",
    );
    check(&format!("CASE WHEN n > 0 THEN stamp ELSE 75 END AS time, {long}"), 2, 1, "75");
    check(
        &format!("CASE WHEN n > 0 THEN stamp ELSE 0 END AS time, {long}"),
        2,
        1,
        "a clock that is set",
    );
    check(
        &format!("{time}, CASE WHEN n > 0 THEN 'a/b' END AS zone, 'co2' AS metric, n AS value"),
        2,
        1,
        "as its zone a name",
    );
    check(
        &format!("{time}, 'a/b' AS zone, NULL::VARCHAR AS device, 'co2' AS metric, n AS value"),
        3,
        0,
        "",
    );
    check(
        &format!("{time}, 'a/b' AS zone, 'co2' AS metric, CASE WHEN n > 0 THEN n END AS value"),
        3,
        0,
        "",
    );
    check(&format!("{time}, 'a/b' AS zone, 'co2' AS metric, 'nan'::DOUBLE AS value"), 3, 0, "");
    check(
        &format!(
            "{time}, 'a/b' AS zone, CASE WHEN n > 0 THEN 'CO2' ELSE 'c02' END AS metric, n AS value"
        ),
        2,
        1,
        "did you mean `co2`",
    );
    check(&format!("{time}, {long}, CASE WHEN n > 0 THEN '°F' ELSE 'lx' END AS unit"), 2, 1, "°C");
    // Columns that are no metrics are named, the others are read.
    let wide = format!("{time}, 'a/b' AS zone, n::UTINYINT AS co2, n > 1 AS irrigation");
    check(&wide, 6, 0, "");
    check(&format!("{wide}, n AS warmth, n AS \"Unnamed: 0\""), 6, 1, "warmth");
    check(&format!("{wide}, [n] AS temperature"), 6, 1, "numbers, booleans or texts");
    check(&format!("{time}, 'a/b' AS zone, n AS warmth"), 0, 0, "metric `warmth` is not known");
    check(&format!("stamp::FLOAT AS time, {long}"), 0, 0, "64 bits");
    check(&format!("n > 1 AS time, {long}"), 0, 0, "of type BOOLEAN");
    check(&format!("{time}, stamp AS ts, {long}"), 0, 0, "`time` and `ts`");
    check(&format!("make_date(2024, 1, 15 + n::INTEGER) AS TIME, {long}"), 3, 0, "");
    check(
        &format!("strftime(make_timestamp(stamp * 1000000), '%d.%m.%Y %H:%M') AS time, {long}"),
        0,
        0,
        "day-first",
    );
}
