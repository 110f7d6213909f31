//! Hourly and daily KPIs against what SQL finds in the readings.

use std::path::Path;

use duckdb::Connection;
use feature_store::{
    FeatureStore, Settings,
    backfill::{self, Layout, Request},
    kpi::{KpiQuery, Length},
};
use telemetry::{MetricTable, ZoneId};
use tempfile::TempDir;

/// 2025-03-28T00:00:00Z: Berlin's clock goes from 2 to 3 in the night to the 30th.
const START_S: i64 = 1_743_120_000;

fn settings(dir: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.store.path = dir.join("microclimate.duckdb");
    settings.engine.time_zone = "Europe/Berlin".to_owned();
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
        rejects: path.with_extension("rejects"),
        jobs: 1,
    };
    backfill::run(settings, &MetricTable::default(), &request, &|_| {}).unwrap();
}

fn query(length: Length) -> KpiQuery {
    let zone = ZoneId::new("farm", "bay-1");
    KpiQuery { zone, length, from_ms: None, to_ms: None, limit: 1000 }
}

#[test]
fn hours_are_what_sql_finds_and_days_are_those_of_the_clock() {
    let dir = TempDir::new().unwrap();
    let settings = settings(dir.path());
    fill(&settings, &recording(dir.path()));
    let sql = Connection::open(&settings.store.path).unwrap();
    let worst: (u64, f64) = sql
        .query_row(
            "WITH oracle AS (
                SELECT metric, date_trunc('hour', event) AS hour, count(*) AS n,
                    count(*) FILTER (quality = 'ok') / count(*) AS share,
                    min(value) FILTER (quality = 'ok') AS lo, avg(value) FILTER (quality = 'ok') AS mean,
                    max(value) FILTER (quality = 'ok') AS hi, stddev_samp(value) FILTER (quality = 'ok') AS std
                FROM silver.readings WHERE quality <> 'duplicate' GROUP BY ALL
             )
             SELECT count(*), max(greatest(abs(k.readings::DOUBLE - n), abs(k.valid_share - share), abs(k.min - lo),
                 abs(k.max - hi), abs(k.mean - mean), abs(coalesce(k.std, 0) - coalesce(o.std, 0))))
             FROM gold.hourly k FULL JOIN oracle o ON k.metric = o.metric AND k.hour = o.hour",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert!(worst.0 > 200 && worst.1 < 1e-9, "{worst:?}");
    drop(sql);
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
    assert_eq!(days[4].metrics["temperature"].gap_max_s, 101.0 * 60.0 + 2.0 - 0.0, "{:?}", days[4]);
}
