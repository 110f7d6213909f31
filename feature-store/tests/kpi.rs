//! Hourly and daily KPIs against what SQL finds in the readings.

mod support;

use std::path::Path;

use duckdb::Connection;
use feature_store::{
    FeatureStore, Settings,
    backfill::{self, Layout, Request},
    kpi::{KpiQuery, Length},
};
use support::live;
use telemetry::{MetricTable, Reading, Report, Source, ZoneId};
use tempfile::TempDir;

/// 2025-03-28T00:00:00Z: Berlin's clock goes from 2 to 3 in the night to the 30th.
const START_S: i64 = 1_743_120_000;

fn settings(dir: &Path) -> Settings {
    let mut settings = support::settings(dir);
    "Europe/Berlin".clone_into(&mut settings.engine.time_zone);
    settings
}

/// Five days each minute with a gap, faults and copies.
fn recording(dir: &Path) -> std::path::PathBuf {
    let mut text = "time,zone,device,metric,value\n".to_owned();
    for minute in 0..5 * 1440_i64 {
        if (2000..2100).contains(&minute) {
            continue;
        }
        let time_s = START_S + minute * 60 + minute % 7;
        let temperature =
            if minute % 1000 == 999 { 579.0 } else { 20.0 + (minute % 97) as f64 / 20.0 };
        text += &format!("{time_s},farm/bay-1,t,temperature,{temperature}\n");
        if minute % 500 == 0 {
            text += &format!("{time_s},farm/bay-1,t,temperature,{temperature}\n");
        }
        text +=
            &format!("{time_s},farm/bay-1,l,light,{}\n", if minute % 1440 < 600 { 500 } else { 0 });
    }
    let path = dir.join("a.csv");
    std::fs::write(&path, text).unwrap();
    path
}

fn fill(settings: &Settings, path: &Path) {
    let request = Request {
        path: path.to_owned(),
        layout: Layout::Csv,
        site: "farm".to_owned(),
        zones: Vec::new(),
        from_ms: None,
        to_ms: None,
        features_only: false,
        as_published: false,
        time_zone: jiff::tz::TimeZone::UTC,
        time_format: telemetry::TimeFormat::Iso,
        rejects: path.with_extension("rejects"),
        jobs: 1,
    };
    backfill::run(settings, &MetricTable::default(), &request, &|_| {}).unwrap();
}

fn query(length: Length) -> KpiQuery {
    let zone = ZoneId::new("farm", "bay-1");
    KpiQuery { zone, length, from_ms: None, to_ms: None, limit: 1000 }
}

/// How many hours there are, and how far they are from what SQL finds in the readings.
fn against_sql(settings: &Settings) -> (u64, f64) {
    let sql = Connection::open(&settings.store.path).unwrap();
    sql
        .query_row(
            "WITH oracle AS (
                SELECT metric, date_trunc('hour', event) AS hour, count(*) AS n,
                    count(*) FILTER (quality = 'ok') / count(*) AS share,
                    min(value) FILTER (quality = 'ok') AS lo, avg(value) FILTER (quality = 'ok') AS mean,
                    max(value) FILTER (quality = 'ok') AS hi, stddev_samp(value) FILTER (quality = 'ok') AS std
                FROM silver.readings WHERE quality <> 'duplicate' GROUP BY ALL
             )
             SELECT count(*), max(greatest(abs(coalesce(k.readings, 0)::DOUBLE - coalesce(n, 0)), abs(k.valid_share - share), abs(k.min - lo),
                 abs(k.max - hi), abs(k.mean - o.mean), abs(coalesce(k.std, 0) - coalesce(o.std, 0))))
             FROM gold.hourly k FULL JOIN oracle o ON k.metric = o.metric AND k.hour = o.hour",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap()
}

#[test]
fn hours_are_what_sql_finds_and_days_are_those_of_the_clock() {
    let dir = TempDir::new().unwrap();
    let settings = settings(dir.path());
    fill(&settings, &recording(dir.path()));
    let worst = against_sql(&settings);
    assert!(worst.0 > 200 && worst.1 < 1e-9, "{worst:?}");
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    let days = store.kpis(&query(Length::Day)).unwrap();
    let hours: Vec<f64> = days.iter().rev().map(|day| day.period.hours()).collect();
    assert_eq!(hours, [24.0, 24.0, 23.0, 24.0, 24.0, 24.0]);
    let all: u64 = days.iter().map(|day| day.metrics["temperature"].count).sum();
    let of_hours = store.kpis(&query(Length::Hour)).unwrap();
    assert_eq!(all, of_hours.iter().map(|hour| hour.metrics["temperature"].count).sum::<u64>());
    let day = &days[3];
    assert_eq!(day.period.hours(), 23.0);
    assert!((day.light_h.unwrap() - 10.0).abs() < 0.5, "{day:?}");
    assert_eq!(days[4].metrics["temperature"].gap_max_s, 102.0 * 60.0 - 3.0, "{:?}", days[4]);
}

fn report(minute: i64, value: f64) -> Report {
    let event_ms = (START_S + minute * 60) * 1000;
    Report {
        zone: ZoneId::new("farm", "bay-1"),
        device: "t".into(),
        boot: None,
        seq: None,
        arrival_ms: event_ms,
        source: Source::Replay,
        readings: vec![Reading { metric: "temperature".into(), event_ms, value }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_reading_is_in_its_hour_and_its_day() {
    let dir = TempDir::new().unwrap();
    let mut settings = settings(dir.path());
    settings.log = eventlog::Settings::embedded(&dir.path().join("log"));
    let first: Vec<Report> =
        (0..300).filter(|minute| minute % 60 != 7).map(|minute| report(minute, 20.0)).collect();
    live(&settings, &first).await;
    let before = against_sql(&settings);
    assert!(before.0 == 5 && before.1 < 1e-9, "{before:?}");
    // Of the second hour, hours after; and a copy of what was there.
    live(&settings, &[report(67, 31.0), report(68, 20.0), report(300, 20.0)]).await;
    let after = against_sql(&settings);
    assert!(after.0 == 6 && after.1 < 1e-9, "{after:?}");
    let store = FeatureStore::open(&settings, MetricTable::default()).unwrap();
    let hour = &store.kpis(&query(Length::Hour)).unwrap()[4];
    let of_hour = hour.metrics["temperature"];
    assert_eq!((of_hour.count, of_hour.max), (60, Some(31.0)), "{hour:?}");
    let days = store.kpis(&query(Length::Day)).unwrap();
    assert_eq!((days.len(), days[0].metrics["temperature"].count), (1, 297), "{days:?}");
}
