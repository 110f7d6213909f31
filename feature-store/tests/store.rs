//! The feature store over a real embedded log and a real DuckDB file.

mod support;

use std::collections::BTreeMap;

use duckdb::Connection;
use eventlog::{EventLog, Record};
use microclimate_feature_store::{CommittedCounts, FeatureStore, FrameQuery, StoreError};
use support::{Frame, append, assert_same, frame, readings, run, settings};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId, topic::READINGS};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const MINUTE_MS: i64 = 60_000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;

fn probe_report(zone: &str, seq: u64, event_ms: i64, readings: &[(&str, f64)]) -> SensorReport {
    let (site, zone) = zone.split_once('/').unwrap();
    SensorReport {
        zone: ZoneId::new(site, zone),
        device: "probe".into(),
        boot: Some("b1".into()),
        seq: Some(seq),
        arrival_ms: event_ms,
        source: ReportSource::Replay,
        readings: readings
            .iter()
            .map(|(metric, value)| SensorReading {
                metric: (*metric).into(),
                event_ms,
                value: *value,
            })
            .collect(),
    }
}

/// Generates a day of three zones, one reading each 20 s with some missing.
fn day_of_reports() -> Vec<SensorReport> {
    let mut reports = Vec::new();
    for i in 0..3 * 1440_u64 {
        if i % 97 < 5 {
            continue;
        }
        let event_ms = START_MS + i as i64 * 20_000 + (i as i64 * 7919) % 3000;
        let hours = i as f64 / 180.0;
        let temperature = ((20.0 + 3.0 * hours.sin()) * 100.0).round() / 100.0;
        reports.push(probe_report(
            "farm/bay-1",
            i,
            event_ms,
            &[("temperature", temperature), ("humidity", 55.0 + hours)],
        ));
        if i % 2 == 0 {
            reports.push(probe_report(
                "farm/bay-2",
                i,
                event_ms,
                &[("co2", 400.0 + (i % 50) as f64)],
            ));
        }
    }
    reports
}

/// Aggregates of every window that SQL has too.
const ALL_AGGREGATES: &str = r#"
version = 1
[windows]
10m = ["count", "mean", "std", "min", "max", "first", "last", "delta", "slope", "p10", "p50", "p90"]
1h = ["count", "mean", "std", "min", "max", "first", "last", "delta", "slope", "p10", "p50", "p90"]
24h = ["count", "mean", "std", "min", "max", "first", "last", "delta", "slope", "p10", "p50", "p90"]
7d = ["count", "mean", "std", "min", "max", "first", "last", "delta", "slope", "p10", "p50", "p90"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn windows_are_what_sql_finds_in_the_readings() {
    let dir = TempDir::new().unwrap();
    let mut settings = settings(dir.path());
    settings.engine.features = dir.path().join("features.toml");
    std::fs::write(&settings.engine.features, ALL_AGGREGATES).unwrap();
    let log = EventLog::open(&settings.log).unwrap();
    let reports = day_of_reports();
    append(&log, &reports).await;
    let store = run(&settings, &log, readings(&reports)).await;
    assert!(store.committed_counts().rows > 2 * 1400, "{:?}", store.committed_counts());
    drop(store);

    let sql = Connection::open(&settings.store.path).unwrap();
    let check = |feature: &str, metric: &str, window: &str, aggregate: &str, within: f64| {
        let zone = if metric == "co2" { "bay-2" } else { "bay-1" };
        let (rows, worst): (u64, f64) = sql
            .query_row(
                &format!(
                    "WITH expected AS (
                         SELECT f.zone, f.time, any_value(f.{feature}) AS got, {aggregate} AS want
                         FROM features.rows f LEFT JOIN silver.readings r
                           ON r.zone = f.zone AND r.metric = '{metric}' AND r.quality = 'ok'
                          AND r.event > f.time - INTERVAL '{window}' AND r.event <= f.time
                         WHERE epoch_ms(f.time) % 420000 = 0 AND f.zone = '{zone}'
                         GROUP BY f.zone, f.time
                     )
                     SELECT count(*), max(CASE
                         WHEN got IS NULL AND want IS NULL THEN 0
                         WHEN got IS NULL OR want IS NULL THEN 'inf'::DOUBLE
                         ELSE abs(got - want) / greatest(1, abs(want)) END)
                     FROM expected"
                ),
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert!(rows > 190, "{feature}: only {rows} rows");
        assert!(worst <= within, "{feature}: {worst} off");
    };
    for (name, window) in
        [("10m", "10 minutes"), ("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days")]
    {
        for (metric, r) in [("temperature", "r.value"), ("co2", "r.value")] {
            check(&format!("{metric}_count_{name}"), metric, window, &format!("count({r})"), 0.0);
            check(&format!("{metric}_min_{name}"), metric, window, &format!("min({r})"), 0.0);
            check(&format!("{metric}_max_{name}"), metric, window, &format!("max({r})"), 0.0);
            check(&format!("{metric}_mean_{name}"), metric, window, &format!("avg({r})"), 1e-12);
            check(
                &format!("{metric}_std_{name}"),
                metric,
                window,
                &format!("stddev_samp({r})"),
                1e-9,
            );
            for (aggregate, pick) in [("first", "arg_min"), ("last", "arg_max")] {
                let sql = format!("{pick}({r}, r.event)");
                check(&format!("{metric}_{aggregate}_{name}"), metric, window, &sql, 0.0);
            }
            for (aggregate, q) in [("p10", 0.1), ("p50", 0.5), ("p90", 0.9)] {
                let sql = format!("quantile_disc({r}, {q})");
                check(&format!("{metric}_{aggregate}_{name}"), metric, window, &sql, 1e-9);
            }
            let delta = format!(
                "CASE WHEN count({r}) > 1 THEN arg_max({r}, r.event) - arg_min({r}, r.event) END"
            );
            check(&format!("{metric}_delta_{name}"), metric, window, &delta, 1e-12);
            let hours = "epoch_us(r.event - TIMESTAMP '2025-06-02') / 3.6e9";
            let slope = format!("CASE WHEN count({r}) > 1 THEN regr_slope({r}, {hours}) END");
            check(&format!("{metric}_slope_{name}"), metric, window, &slope, 1e-7);
        }
    }
    check("temperature_last", "temperature", "7 days", "arg_max(r.value, r.event)", 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_and_started_anywhere_it_ends_the_same_bit_for_bit() {
    let reports = day_of_reports();
    let whole = TempDir::new().unwrap();
    let whole_settings = settings(whole.path());
    let log = EventLog::open(&whole_settings.log).unwrap();
    append(&log, &reports).await;
    let expected = run(&whole_settings, &log, readings(&reports)).await;

    let parts = TempDir::new().unwrap();
    let parts_settings = settings(parts.path());
    let log = EventLog::open(&parts_settings.log).unwrap();
    let mut taken = 0;
    let mut last = None;
    for part in reports.chunks(1111) {
        append(&log, part).await;
        taken += readings(part);
        drop(last.take());
        last = Some(run(&parts_settings, &log, taken).await);
    }
    let parts = last.unwrap();
    assert_eq!(parts.committed_counts(), expected.committed_counts());
    assert_same(&frame(&parts), &frame(&expected));
    let zone = "farm/bay-1".parse().unwrap();
    let bits = |store: &FeatureStore| -> Vec<u64> {
        store.latest_row(&zone).unwrap().values.iter().map(|value| value.to_bits()).collect()
    };
    assert_eq!(bits(&parts), bits(&expected), "the online row");
}

#[tokio::test(flavor = "multi_thread")]
async fn shuffled_and_repeated_it_corrects_itself_to_the_same_rows() {
    let in_order = day_of_reports();
    let ordered = TempDir::new().unwrap();
    let ordered_settings = settings(ordered.path());
    let log = EventLog::open(&ordered_settings.log).unwrap();
    // A reading far ahead makes the last corrections due.
    let end = probe_report(
        "farm/bay-1",
        90_000,
        START_MS + 26 * 60 * MINUTE_MS,
        &[("temperature", 20.0)],
    );
    let end_2 =
        probe_report("farm/bay-2", 90_000, START_MS + 26 * 60 * MINUTE_MS, &[("co2", 400.0)]);
    append(&log, &in_order).await;
    append(&log, &[end.clone(), end_2.clone()]).await;
    let expected = run(&ordered_settings, &log, readings(&in_order) + 2).await;

    // In reverse within each two hours, and every tenth twice.
    let mut disturbed: Vec<SensorReport> = Vec::new();
    for part in in_order.chunks(540) {
        disturbed.extend(part.iter().rev().cloned());
        disturbed.extend(part.iter().step_by(10).cloned());
    }
    let shuffled = TempDir::new().unwrap();
    let shuffled_settings = settings(shuffled.path());
    let log = EventLog::open(&shuffled_settings.log).unwrap();
    append(&log, &disturbed).await;
    append(&log, &[end, end_2]).await;
    let store = run(&shuffled_settings, &log, readings(&disturbed) + 2).await;

    let counts = store.committed_counts();
    assert_eq!(counts.by_quality["ok"], expected.committed_counts().by_quality["ok"]);
    assert_eq!(counts.by_quality["duplicate"], readings(&disturbed) - readings(&in_order));
    assert_same(&frame(&store), &frame(&expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_kept_counted_and_in_no_feature() {
    let dir = TempDir::new().unwrap();
    let settings = settings(dir.path());
    let log = EventLog::open(&settings.log).unwrap();
    let mut reports: Vec<SensorReport> = (0..120)
        .map(|i| {
            probe_report("farm/bay-1", i, START_MS + i as i64 * MINUTE_MS, &[("temperature", 20.0)])
        })
        .collect();
    let at_ms = START_MS + 60 * MINUTE_MS;
    reports.push(probe_report("farm/bay-1", 200, at_ms + 1, &[("temperature", 579.0)]));
    reports.push(probe_report("farm/bay-1", 201, at_ms + 2, &[("temperature", f64::NAN)]));
    reports.push(probe_report("farm/bay-1", 5, START_MS + 5 * MINUTE_MS, &[("temperature", 20.0)]));
    let mut future =
        probe_report("farm/bay-1", 202, START_MS + 500 * MINUTE_MS, &[("temperature", 20.0)]);
    future.arrival_ms = START_MS + 120 * MINUTE_MS;
    reports.push(future);
    reports.push(probe_report(
        "farm/bay-1",
        203,
        START_MS - 10 * 86_400_000,
        &[("temperature", 20.0)],
    ));
    append(&log, &reports).await;
    let garbage = Record::new("farm/bay-1", &b"{not json"[..], 0);
    log.open_writer(READINGS).unwrap().append(garbage).await.unwrap().await.unwrap();

    let store = run(&settings, &log, readings(&reports)).await;
    let expect = BTreeMap::from([
        ("ok", 120),
        ("out_of_range", 1),
        ("not_a_number", 1),
        ("duplicate", 1),
        ("future", 1),
        ("late", 1),
    ]);
    let CommittedCounts { by_quality, rejects, .. } = store.committed_counts();
    assert_eq!((by_quality, rejects), (expect, 1));
    let max = store
        .read_feature_frame(&FrameQuery {
            columns: Some(vec!["temperature_max_24h".into()]),
            ..FrameQuery::default()
        })
        .unwrap();
    assert!(
        max.column("temperature_max_24h")
            .unwrap()
            .f64()
            .unwrap()
            .iter()
            .flatten()
            .all(|max| max == 20.0)
    );
    let latest = store.latest_row(&"farm/bay-1".parse().unwrap()).unwrap();
    assert_eq!(latest.at_ms, START_MS + 119 * MINUTE_MS, "a wrong stamp moves nothing");
    let counts = store.committed_counts();
    drop(store);
    let again = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    assert_eq!(again.committed_counts(), counts, "known after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_offline_for_three_days_rewrites_what_it_changes() {
    const STEP_MS: i64 = 10 * MINUTE_MS;
    let at = |device: &str, step: i64, arrival_ms: i64, metric: &str, value: f64| {
        let event_ms = START_MS + step * STEP_MS;
        let mut report = probe_report("farm/bay-1", step as u64, event_ms, &[(metric, value)]);
        (report.device, report.arrival_ms) = (device.into(), arrival_ms.max(event_ms));
        report
    };
    let steps = 4 * 144;
    let end_ms = START_MS + steps * STEP_MS;
    let online = |step: i64| at("probe", step, 0, "temperature", 20.0 + (step % 50) as f64 / 10.0);
    let offline = |step: i64, arrival_ms| {
        at("lost", step, arrival_ms, "humidity", 50.0 + (step % 70) as f64 / 10.0)
    };
    // It measured from the first hour on, and could send nothing until the end.
    let mut late: Vec<SensorReport> = (0..=steps).map(online).collect();
    late.extend((6..=steps).map(|step| offline(step, end_ms)));
    late.extend((steps + 1..steps + 12).map(online));
    // The newest event, less two minutes, less three days: no corrections before that.
    let oldest = steps - 3 * 144;
    let mut punctual = Vec::new();
    for step in 0..steps + 12 {
        punctual.push(online(step));
        if (oldest..=steps).contains(&step) {
            punctual.push(offline(step, 0));
        }
    }
    let run_all = async |reports: &[SensorReport]| {
        let dir = TempDir::new().unwrap();
        let settings = settings(dir.path());
        let log = EventLog::open(&settings.log).unwrap();
        append(&log, reports).await;
        (run(&settings, &log, readings(reports)).await, settings, dir)
    };
    let (of_late, late_settings, _late_dir) = run_all(&late).await;
    let (of_punctual, _, _punctual_dir) = run_all(&punctual).await;
    let counts = of_late.committed_counts();
    assert_eq!(counts.by_quality["late"], (oldest - 6) as u64);
    assert!(counts.corrections >= 3 * 1440, "{counts:?}");
    // Earlier rows were computed when the metric had no columns yet.
    let first_ms = START_MS + oldest * STEP_MS;
    let rows = |store: &FeatureStore| -> Frame {
        frame(store).into_iter().filter(|((_, at_ms), _)| *at_ms >= first_ms).collect()
    };
    let (got, want) = (rows(&of_late), rows(&of_punctual));
    assert!(got.len() >= 3 * 1440, "{}", got.len());
    assert_same(&got, &want);
    drop(of_late);
    let sql = Connection::open(&late_settings.store.path).unwrap();
    let letters = "SELECT count(*), min(reason) FROM bronze.dead_letters WHERE key = 'farm/bay-1'";
    let (letters, reason): (u64, String) =
        sql.query_row(letters, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(letters, (oldest - 6) as u64);
    assert!(reason.contains("humidity of lost was measured 2025-06-02 01:00:00"), "{reason}");
}

#[test]
fn a_second_writer_is_told_who_has_the_file() {
    let dir = TempDir::new().unwrap();
    let settings = settings(dir.path());
    // DuckDB lets one process open a file twice, so the second writer is another process.
    if let Some(path) = std::env::var_os("MICROCLIMATE_TEST_SECOND_WRITER") {
        let mut settings = settings;
        settings.store.path = path.into();
        let error = FeatureStore::open(&settings, MetricTable::default()).unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        println!("{error}");
        return;
    }
    let _first = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    let second = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_writer_is_told_who_has_the_file", "--nocapture"])
        .env("MICROCLIMATE_TEST_SECOND_WRITER", &settings.store.path)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&second.stdout);
    assert!(second.status.success(), "{stdout}");
    assert!(
        stdout.contains("PID") && stdout.contains("hint: a DuckDB file has one writer"),
        "{stdout}"
    );
}

#[test]
fn an_unknown_feature_is_refused_with_the_nearest_name() {
    let dir = TempDir::new().unwrap();
    let store = FeatureStore::open(&settings(dir.path()), MetricTable::default()).unwrap();
    let query = FrameQuery { columns: Some(vec!["hour_sinus".into()]), ..FrameQuery::default() };
    let error = store.read_feature_frame(&query).unwrap_err().to_string();
    assert!(error.contains("did you mean `hour_sin`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_of_which_every_reading_is_flagged_does_not_hide_the_others() {
    let dir = TempDir::new().unwrap();
    let settings = settings(dir.path());
    let log = EventLog::open(&settings.log).unwrap();
    append(
        &log,
        &[
            probe_report("farm/bay-1", 0, START_MS, &[("temperature", 20.0)]),
            probe_report("farm/broken", 0, START_MS, &[("temperature", 579.0)]),
        ],
    )
    .await;
    let store = run(&settings, &log, 2).await;
    assert_eq!(store.zone_summaries().len(), 2);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let routes = microclimate_feature_store::routes(store);
    tokio::spawn(service::rest::serve_routes(
        socket,
        routes,
        service::Secret::default(),
        CancellationToken::new(),
    ));
    let get = async |path: &str| -> serde_json::Value {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let all = get("/v1/features/latest?names=temperature_last").await;
    let rows = all["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["zone"]), (1, &"farm/bay-1".into()), "{all}");
    let answer = get("/v1/features/latest?zones=farm/broken").await;
    assert_eq!(answer["error"]["code"], "unknown_zone", "{answer}");
}
