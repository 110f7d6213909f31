//! The same readings with the same arrival times through every ingest path, one store each: a log
//! of live reports, a log of replayed ones, a backfill of CSV, JSON lines and Parquet, and a
//! watched folder. All of them end with the same rows, as known and as corrected, bit for bit.

mod support;

use std::{collections::BTreeMap, path::Path};

use duckdb::Connection;
use eventlog::{EventLog, Record};
use microclimate_feature_store::{
    FeatureStoreSettings,
    backfill::{self, BackfillLayout, BackfillRequest},
};
use support::{run_to_end, settings};
use telemetry::{
    MetricTable, ReportSource, SensorReading, SensorReport, TimeFormat, ZoneId, topic::READINGS,
};
use tempfile::TempDir;

const MINUTE_MS: i64 = 60_000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;

/// Device, metric, event time, arrival time, value.
type MeasuredValue = (&'static str, &'static str, i64, i64, f64);

/// Generates a day with a punctual sensor, one that is offline for three hours, one whose clock
/// is four minutes fast, one whose messages take up to an hour, and five hours without power for
/// all of them.
fn measured_day() -> Vec<MeasuredValue> {
    let mut all = Vec::new();
    for minute in (0..1440_i64).filter(|minute| !(600..900).contains(minute)) {
        let measured_ms = START_MS + minute * MINUTE_MS;
        let value = |n: i64| 20.0 + ((minute * n) % 70) as f64 / 10.0;
        all.push(("probe", "temperature", measured_ms, measured_ms, value(3)));
        let sent_ms =
            if (200..380).contains(&minute) { START_MS + 380 * MINUTE_MS } else { measured_ms };
        all.push(("offline", "humidity", measured_ms + 700, sent_ms + 900, 30.0 + value(7)));
        all.push(("fast", "co2", measured_ms + 4 * MINUTE_MS, measured_ms + 50, 380.0 + value(11)));
        let delay_ms = if minute % 9 == 0 { minute * 7919 % 3_600_000 } else { 100 };
        all.push(("slow-way", "soil_moisture", measured_ms, measured_ms + delay_ms, value(5)));
    }
    all.sort_by_key(|(_, _, event_ms, arrival_ms, _)| (*arrival_ms, *event_ms));
    all
}

fn measured_reports(source: ReportSource) -> Vec<SensorReport> {
    let report = |(device, metric, event_ms, arrival_ms, value): MeasuredValue| SensorReport {
        zone: ZoneId::new("farm", "bay-1"),
        device: device.into(),
        boot: None,
        seq: None,
        arrival_ms,
        source,
        readings: vec![SensorReading { metric: metric.into(), event_ms, value }],
    };
    measured_day().into_iter().map(report).collect()
}

/// Settings with the same columns in all stores.
fn store_settings(dir: &Path) -> FeatureStoreSettings {
    let mut settings = settings(dir);
    settings.watch.settle_s = 0;
    settings
}

/// Ingests a log up to the end of its data.
async fn ingest_by_log(dir: &Path, source: ReportSource) -> FeatureStoreSettings {
    let settings = store_settings(dir);
    let log = EventLog::open(&settings.log).unwrap();
    let writer = log.open_writer(READINGS).unwrap();
    for report in measured_reports(source) {
        // Live reports were received when they arrived, the recorded ones now.
        let received_ms =
            if source == ReportSource::Live { report.arrival_ms } else { 1_790_000_000_000 };
        let record = Record::new(report.zone.to_string(), report.to_json(), received_ms);
        writer.append(record).await.unwrap().await.unwrap();
    }
    run_to_end(&settings, &log, measured_day().len() as u64).await;
    settings
}

async fn ingest_by_folder(dir: &Path) -> FeatureStoreSettings {
    let mut settings = store_settings(dir);
    settings.watch.dir = dir.join("inbox");
    std::fs::create_dir(&settings.watch.dir).unwrap();
    write_csv(&settings.watch.dir.join("day.csv"));
    let log = EventLog::open(&settings.log).unwrap();
    run_to_end(&settings, &log, measured_day().len() as u64).await;
    settings
}

fn ingest_by_backfill(dir: &Path, layout: BackfillLayout, file: &Path) -> FeatureStoreSettings {
    let settings = store_settings(dir);
    let request = BackfillRequest {
        path: file.to_owned(),
        layout,
        site: "farm".to_owned(),
        zones: Vec::new(),
        from_ms: None,
        to_ms: None,
        features_only: false,
        as_published: false,
        rejects: dir.join("rejects.csv"),
        jobs: 1,
        time_zone: jiff::tz::TimeZone::UTC,
        time_format: TimeFormat::Iso,
    };
    let summary =
        backfill::run_backfill(&settings, &MetricTable::default(), &request, &|_| {}).unwrap();
    assert_eq!((summary.readings, summary.rejects), (measured_day().len() as u64, 0));
    settings
}

fn write_csv(path: &Path) {
    let mut text = "time,arrival,site,zone,device,metric,value\n".to_owned();
    for (device, metric, event_ms, arrival_ms, value) in measured_day() {
        text += &format!("{event_ms},{arrival_ms},farm,bay-1,{device},{metric},{value}\n");
    }
    std::fs::write(path, text).unwrap();
}

fn write_json_lines(path: &Path) {
    let text: String = measured_reports(ReportSource::Backfill)
        .iter()
        .map(|report| String::from_utf8(report.to_json()).unwrap() + "\n")
        .collect();
    std::fs::write(path, text).unwrap();
}

fn write_parquet(path: &Path, csv: &Path) {
    let sql = format!(
        "COPY (SELECT make_timestamp(time * 1000) AS time, make_timestamp(arrival * 1000) AS arrival,
             site, zone, device, metric, value FROM read_csv('{}')) TO '{}' (FORMAT parquet)",
        csv.display(),
        path.display()
    );
    Connection::open_in_memory().unwrap().execute_batch(&sql).unwrap();
}

/// Bits by feature, of each time and of whether the row is as known.
type RowBits = BTreeMap<(bool, i64), BTreeMap<String, Option<u64>>>;

fn read_row_bits(settings: &FeatureStoreSettings) -> RowBits {
    let sql = Connection::open(&settings.store.path).unwrap();
    let names: Vec<String> = sql
        .prepare(
            "SELECT column_name FROM duckdb_columns() WHERE schema_name = 'features'
             AND table_name = 'rows' AND data_type = 'DOUBLE' ORDER BY column_name",
        )
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let columns: String =
        names.iter().map(|name| format!(", arg_max(\"{name}\", revision)")).collect();
    let mut all = RowBits::new();
    for (is_as_known, filter) in [(true, "revision = 0"), (false, "true")] {
        // `arg_max` skips nulls, so revisions are numbered together with their values.
        let query = format!(
            "SELECT epoch_ms(time){columns} FROM features.rows AS r WHERE {filter} AND revision =
                 (SELECT max(revision) FROM features.rows AS o WHERE o.time = r.time AND {filter})
             GROUP BY time"
        );
        let mut statement = sql.prepare(&query).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values = names.iter().enumerate().map(|(i, name)| {
                let value: Option<f64> = row.get(i + 1).unwrap();
                (name.clone(), value.map(f64::to_bits))
            });
            all.insert((is_as_known, row.get(0).unwrap()), values.collect());
        }
    }
    all
}

#[track_caller]
fn assert_same_rows(name: &str, found: &RowBits, expect: &RowBits) {
    let odd = found.keys().find(|key| !expect.contains_key(key));
    let missing = expect.keys().find(|key| !found.contains_key(key));
    assert!(odd.is_none() && missing.is_none(), "{name}: odd {odd:?}, missing {missing:?}");
    for (key, expect) in expect {
        for (feature, bits) in expect {
            let value = |bits: Option<u64>| bits.map(f64::from_bits);
            let found = found[key].get(feature).copied().flatten();
            assert_eq!(value(found), value(*bits), "{name}: {feature} at {key:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_ingest_path_leads_to_the_same_rows() {
    let dir = |_| TempDir::new().unwrap();
    let dirs: Vec<TempDir> = (0..6).map(dir).collect();
    let files = TempDir::new().unwrap();
    let file = |name: &str| files.path().join(name);
    write_csv(&file("day.csv"));
    write_json_lines(&file("day.jsonl"));
    write_parquet(&file("day.parquet"), &file("day.csv"));
    let csv =
        read_row_bits(&ingest_by_backfill(dirs[0].path(), BackfillLayout::Csv, &file("day.csv")));
    // One row a minute for each of the nineteen hours, and for an hour after the data stopped.
    let corrected = csv.keys().filter(|(is_as_known, _)| !is_as_known).count();
    assert!((1190..=1210).contains(&corrected), "{corrected} rows");
    let jsonl = ingest_by_backfill(dirs[1].path(), BackfillLayout::Jsonl, &file("day.jsonl"));
    assert_same_rows("JSON lines", &read_row_bits(&jsonl), &csv);
    let parquet = ingest_by_backfill(dirs[2].path(), BackfillLayout::Parquet, &file("day.parquet"));
    assert_same_rows("Parquet", &read_row_bits(&parquet), &csv);
    let (folder, replay, live) = tokio::join!(
        ingest_by_folder(dirs[3].path()),
        ingest_by_log(dirs[4].path(), ReportSource::Replay),
        ingest_by_log(dirs[5].path(), ReportSource::Live),
    );
    assert_same_rows("a watched folder", &read_row_bits(&folder), &csv);
    assert_same_rows("a replay", &read_row_bits(&replay), &csv);
    // Time advances for a live zone, so there are rows for the hour after the last reading.
    let mut live = read_row_bits(&live);
    let end_ms = csv.keys().map(|(_, at_ms)| *at_ms).max().unwrap();
    let after = live.keys().filter(|(_, at_ms)| *at_ms > end_ms).count();
    assert!(after > 0, "time passes for live zones");
    live.retain(|(_, at_ms), _| *at_ms <= end_ms);
    assert_same_rows("a live log", &live, &csv);
}
