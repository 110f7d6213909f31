//! The same readings make the same store, whether they come as CSV, JSON lines, Parquet or
//! messages.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use duckdb::Connection;
use microclimate_feature_store::{
    FeatureStoreSettings, StoreError,
    backfill::{self, BackfillLayout, BackfillRequest, BackfillSummary},
};
use proptest::prelude::*;
use support::{live, settings};
use telemetry::{MetricTable, PayloadLimits, TimeFormat, payload::decode_payload};
use tempfile::TempDir;

/// 2024-01-15T12:00:00Z
const START_S: i64 = 1_705_320_000;
const METRICS: [&str; 3] = ["temperature", "soil_moisture", "irrigation"];

/// Zone, device, metric, event time, bits of the value, quality.
type StoredReadings = BTreeSet<(String, String, String, i64, Option<u64>, String)>;

#[derive(Clone, Debug)]
struct GeneratedReading {
    zone: usize,
    device: usize,
    metric: usize,
    event_s: i64,
    value: f64,
}

impl GeneratedReading {
    fn zone_path(&self) -> String {
        format!("farm/bay-{}", self.zone)
    }

    fn device_name(&self) -> String {
        format!("probe-{}", self.device)
    }
}

fn arbitrary_readings() -> impl Strategy<Value = Vec<GeneratedReading>> {
    let reading = (0..2_usize, 0..2_usize, 0..3_usize, 0..7200_i64, 0..4000_i32);
    let reading = reading.prop_map(|(zone, device, metric, at, value)| {
        // A valve is open or closed.
        let value = if metric == 2 { f64::from(value % 2) } else { f64::from(value) / 100.0 };
        GeneratedReading { zone, device, metric, event_s: START_S + at, value }
    });
    prop::collection::vec(reading, 20..80).prop_map(|mut all| {
        all.sort_by_key(|reading| (reading.event_s, reading.zone, reading.device, reading.metric));
        all.dedup_by_key(|reading| (reading.event_s, reading.zone, reading.device, reading.metric));
        all
    })
}

fn backfill_file(
    settings: &FeatureStoreSettings,
    path: &Path,
    layout: BackfillLayout,
) -> Result<BackfillSummary, StoreError> {
    let request = BackfillRequest {
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
    backfill::run_backfill(settings, &MetricTable::default(), &request, &|_| {})
}

fn read_stored_readings(settings: &FeatureStoreSettings) -> StoredReadings {
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

/// Ingests a file into an empty store; returns the stored readings and the summary.
fn ingest_file(path: &Path, layout: BackfillLayout) -> (StoredReadings, BackfillSummary) {
    let store = TempDir::new().unwrap();
    let settings = settings(store.path());
    let summary = backfill_file(&settings, path, layout)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let stored = read_stored_readings(&settings);
    assert_eq!(
        summary.readings,
        stored.len() as u64,
        "{}: what is counted is stored",
        path.display()
    );
    (stored, summary)
}

/// Writes CSV with one row per reading, of `rows` (time in seconds, zone, device, metric, value).
fn long_csv(readings: &[GeneratedReading]) -> String {
    let mut text = "time,zone,device,metric,value\n".to_owned();
    for reading in readings {
        let (zone, device, metric) =
            (reading.zone_path(), reading.device_name(), METRICS[reading.metric]);
        text += &format!("{},{zone},{device},{metric},{}\n", reading.event_s, reading.value);
    }
    text
}

/// Writes CSV with one column per metric.
fn wide_csv(readings: &[GeneratedReading]) -> String {
    let mut rows: BTreeMap<(i64, String, String), [String; 3]> = BTreeMap::new();
    for reading in readings {
        let cells =
            rows.entry((reading.event_s, reading.zone_path(), reading.device_name())).or_default();
        cells[reading.metric] = reading.value.to_string();
    }
    let mut text = format!("time,zone,device,{}\n", METRICS.join(","));
    for ((at, zone, device), cells) in rows {
        text += &format!("{at},{zone},{device},{}\n", cells.join(","));
    }
    text
}

/// Types of a Parquet file's time column, as SQL of `stamp`, whole seconds since 1970.
const TIME_COLUMNS: [&str; 15] = [
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
/// Types of its values, exact enough for two decimals.
const VALUE_COLUMNS: [&str; 3] = ["value", "value::DECIMAL(9, 2)", "value::VARCHAR"];

/// Converts CSV to Parquet, with SQL for its columns.
fn write_parquet(csv: &Path, columns: &str, to: &Path) {
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
    fn files_and_messages_make_the_same_store(readings in arbitrary_readings()) {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("long.csv"), long_csv(&readings)).unwrap();
        std::fs::write(path("wide.csv"), wide_csv(&readings)).unwrap();
        let line = |reading: &GeneratedReading| {
            serde_json::json!({"zone": reading.zone_path(), "device": reading.device_name(), "metric": METRICS[reading.metric], "ts": reading.event_s, "value": reading.value})
        };
        let lines: Vec<String> = readings.iter().map(|reading| line(reading).to_string()).collect();
        std::fs::write(path("lines.jsonl"), lines.join("\n")).unwrap();
        let (expected, summary) = ingest_file(&path("long.csv"), BackfillLayout::Csv);
        prop_assert_eq!((summary.readings, summary.rejects), (readings.len() as u64, 0));
        let is_stored = readings.iter().all(|reading| expected.iter().any(|found| {
            found.0 == reading.zone_path() && found.1 == reading.device_name() && found.2 == METRICS[reading.metric]
                && found.3 == reading.event_s * 1000 && found.4 == Some(reading.value.to_bits())
        }));
        prop_assert!(is_stored, "{:?}", expected);
        prop_assert_eq!(&ingest_file(&path("wide.csv"), BackfillLayout::Csv).0, &expected);
        prop_assert_eq!(&ingest_file(&path("lines.jsonl"), BackfillLayout::Jsonl).0, &expected);
        for (i, time) in TIME_COLUMNS.iter().enumerate() {
            let to = path(&format!("{i}.parquet"));
            let value = VALUE_COLUMNS[i % VALUE_COLUMNS.len()];
            if i % 2 == 0 {
                write_parquet(&path("long.csv"), &format!("{time} AS Timestamp, zone, device, metric, {value} AS value"), &to);
            } else {
                let open = "CASE WHEN irrigation IS NULL THEN NULL ELSE irrigation::INTEGER::BOOLEAN END AS \"Irrigation\"";
                let number = |name: &str| format!("{} AS {name}", value.replace("value", name));
                let columns = format!("row_number() OVER () AS __index_level_0__, {time} AS time, split_part(zone, '/', 1) AS site, split_part(zone, '/', 2) AS zone, device, {}, {}, {open}", number("temperature"), number("soil_moisture"));
                write_parquet(&path("wide.csv"), &columns, &to);
            }
            let (found, summary) = ingest_file(&to, BackfillLayout::Parquet);
            prop_assert_eq!((&found, summary.rejects), (&expected, 0), "{} {}", time, value);
        }
        let metrics = MetricTable::default();
        let reports: Vec<_> = readings.iter().map(|reading| {
            let topic = format!("sensors/{}/{}/{}", reading.zone_path(), reading.device_name(), METRICS[reading.metric]);
            let payload = serde_json::json!({"value": reading.value, "ts": reading.event_s, "source": "replay"}).to_string();
            decode_payload(&topic, payload.as_bytes(), 0, &metrics, PayloadLimits::default()).unwrap().report
        }).collect();
        let store = TempDir::new().unwrap();
        let settings = settings(store.path());
        tokio::runtime::Runtime::new().unwrap().block_on(live(&settings, &reports));
        prop_assert_eq!(read_stored_readings(&settings), expected);
    }
}

/// Checks the stored readings and the rejects of a file with three rows and these SQL columns.
fn check_columns(columns: &str, readings: u64, rejects: u64, message: &str) {
    let dir = TempDir::new().unwrap();
    let (csv, path) = (dir.path().join("a.csv"), dir.path().join("a.parquet"));
    std::fs::write(&csv, format!("time,n\n{START_S},0\n{},1\n{},2\n", START_S + 60, START_S + 120))
        .unwrap();
    write_parquet(&csv, columns, &path);
    let store = TempDir::new().unwrap();
    let settings = settings(store.path());
    let report = match backfill_file(&settings, &path, BackfillLayout::Parquet) {
        Ok(summary) => {
            assert_eq!((summary.readings, summary.rejects), (readings, rejects), "{columns}");
            assert_eq!(read_stored_readings(&settings).len() as u64, readings, "{columns}");
            std::fs::read_to_string(path.with_extension("rejects.csv")).unwrap_or_default()
        }
        Err(error) => {
            assert_eq!(readings, 0, "{columns}: {error}");
            error.to_string()
        }
    };
    assert!(report.contains(message), "{columns}: {report}");
}

#[test]
fn parquet_columns_are_read_whole_or_rejected_with_a_reason() {
    let time = "make_timestamp(stamp * 1000000) AS time";
    let long = "'farm/bay' AS zone, 'temperature' AS metric, 20.0 + n AS value";
    check_columns(&format!("{time}, {long}"), 3, 0, "");
    // A null, and a text for it.
    check_columns(
        &format!("CASE WHEN n > 0 THEN make_timestamp(stamp * 1000000) END AS time, {long}"),
        2,
        1,
        "null",
    );
    check_columns(&format!("CASE WHEN n > 0 THEN stamp ELSE 75 END AS time, {long}"), 2, 1, "75");
    check_columns(
        &format!("CASE WHEN n > 0 THEN stamp ELSE 0 END AS time, {long}"),
        2,
        1,
        "a clock that is set",
    );
    check_columns(
        &format!("{time}, CASE WHEN n > 0 THEN 'a/b' END AS zone, 'co2' AS metric, n AS value"),
        2,
        1,
        "as its zone a name",
    );
    check_columns(
        &format!("{time}, 'a/b' AS zone, NULL::VARCHAR AS device, 'co2' AS metric, n AS value"),
        3,
        0,
        "",
    );
    check_columns(
        &format!("{time}, 'a/b' AS zone, 'co2' AS metric, CASE WHEN n > 0 THEN n END AS value"),
        3,
        0,
        "",
    );
    check_columns(
        &format!("{time}, 'a/b' AS zone, 'co2' AS metric, 'nan'::DOUBLE AS value"),
        3,
        0,
        "",
    );
    check_columns(
        &format!(
            "{time}, 'a/b' AS zone, CASE WHEN n > 0 THEN 'CO2' ELSE 'c02' END AS metric, n AS value"
        ),
        2,
        1,
        "did you mean `co2`",
    );
    check_columns(
        &format!("{time}, {long}, CASE WHEN n > 0 THEN '°F' ELSE 'lx' END AS unit"),
        2,
        1,
        "°C",
    );
    // Columns that are not metrics are reported, the others are read.
    let wide = format!("{time}, 'a/b' AS zone, n::UTINYINT AS co2, n > 1 AS irrigation");
    check_columns(&wide, 6, 0, "");
    check_columns(&format!("{wide}, n AS warmth, n AS \"Unnamed: 0\""), 6, 1, "warmth");
    check_columns(&format!("{wide}, [n] AS temperature"), 6, 1, "numbers, booleans or texts");
    check_columns(
        &format!("{time}, 'a/b' AS zone, n AS warmth"),
        0,
        0,
        "metric `warmth` is not known",
    );
    check_columns(&format!("stamp::FLOAT AS time, {long}"), 0, 0, "64 bits");
    check_columns(&format!("n > 1 AS time, {long}"), 0, 0, "of type BOOLEAN");
    check_columns(&format!("{time}, stamp AS ts, {long}"), 0, 0, "`time` and `ts`");
    check_columns(&format!("make_date(2024, 1, 15 + n::INTEGER) AS TIME, {long}"), 3, 0, "");
    check_columns(
        &format!("strftime(make_timestamp(stamp * 1000000), '%d.%m.%Y %H:%M') AS time, {long}"),
        0,
        0,
        "day-first",
    );
}
