//! What is old moves to Parquet and stays queryable.

use std::{path::Path, process::Command};

use duckdb::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// Runs the program on a store and a lake below `dir`; what it printed.
fn program(dir: &Path, args: &[&str]) -> Vec<Value> {
    let ran = Command::new(env!("CARGO_BIN_EXE_feature-store"))
        .args(args)
        .arg(format!("--set=store.path={}", dir.join("microclimate.duckdb").display()))
        .arg(format!("--set=lake.path={}", dir.join("lake").display()))
        .arg("--set=lake.bronze_days=2")
        .arg("--set=lake.silver_days=16")
        .arg("--set=lake.files_max=1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{args:?}: {said}{}", String::from_utf8_lossy(&ran.stderr));
    let values = serde_json::Deserializer::from_str(&said).into_iter();
    values.collect::<Result<_, _>>().unwrap()
}

fn query(dir: &Path, sql: &str) -> Vec<Value> {
    program(dir, &["lake", "query", sql])
}

/// Twenty days of two zones, a reading each ten minutes.
fn fill(dir: &Path, name: &str, offset_s: i64) -> u64 {
    let mut text = "time,zone,device,metric,value\n".to_owned();
    let mut readings = 0;
    for i in 0..20 * 144_i64 {
        let time_s = 1_377_302_400 + i * 600 + offset_s;
        for zone in ["a", "b"] {
            text += &format!("{time_s},{name}{zone},d,temperature,{}\n", 20 + i % 7);
            readings += 1;
        }
    }
    let csv = dir.join(format!("{name}.csv"));
    std::fs::write(&csv, text).unwrap();
    program(dir, &["backfill", csv.to_str().unwrap(), "--layout", "csv", "--site", "farm"]);
    readings
}

#[test]
fn what_is_old_moves_once_and_stays_queryable() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let readings = fill(dir, "bay-", 0);
    let before =
        query(dir, "SELECT count(*) AS n, sum(value) AS s, min(event) AS t FROM lake.all_readings");
    assert_eq!(before[0]["n"], readings);
    let moved = &program(dir, &["lake", "move"])[0];
    // The last day is day 19: from its start 16 days are left, and the day itself.
    let old = 2 * 144 * (20 - 17);
    assert_eq!(moved["rows"]["readings"], old, "{moved}");
    assert_eq!(moved["rows"]["recorded"], 2 * 144 * (20 - 3), "{moved}");
    let everything =
        "SELECT count(*) AS n, sum(value) AS s, min(event) AS t FROM lake.all_readings";
    assert_eq!(query(dir, everything), before);
    assert_eq!(query(dir, "SELECT count(*) AS n FROM lake.readings")[0]["n"], old);
    assert_eq!(query(dir, "SELECT count(*) AS n FROM silver.readings")[0]["n"], readings - old);
    let partition = dir.join("lake/readings/date=2013-08-24/zone=farm%2Fbay-a/metric=temperature");
    assert_eq!(std::fs::read_dir(partition).unwrap().count(), 1);
    let one = query(dir, "SELECT * FROM lake.readings ORDER BY event, zone LIMIT 1");
    assert_eq!((&one[0]["site"], &one[0]["zone"]), (&"farm".into(), &"bay-a".into()), "{one:?}");
    assert_eq!((&one[0]["quality"], &one[0]["source"]), (&"ok".into(), &"backfill".into()));
    // Nothing is old any more.
    assert_eq!(program(dir, &["lake", "move"])[0]["rows"]["readings"], 0);
    // KPIs outlive the readings.
    let hours = query(dir, "SELECT sum(readings) AS n FROM gold.hourly");
    assert_eq!(hours[0]["n"].to_string().parse::<f64>().unwrap(), readings as f64);
}

#[test]
fn what_a_crash_left_is_neither_read_nor_kept_and_small_files_are_put_together() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let mut readings = fill(dir, "bay-", 0);
    program(dir, &["lake", "move"]);
    let partition = dir.join("lake/readings/date=2013-08-24/zone=farm%2Fbay-a/metric=temperature");
    let own = std::fs::read_dir(&partition).unwrap().next().unwrap().unwrap().path();
    // Renamed into place, and then the power went.
    std::fs::copy(&own, partition.join("99-0.parquet")).unwrap();
    std::fs::create_dir_all(dir.join("lake/.moving/99/date=2013-08-24")).unwrap();
    let count = |sql: &str| query(dir, sql)[0]["n"].as_u64().unwrap();
    let all = "SELECT count(*) AS n FROM lake.all_readings";
    assert_eq!(count(all), readings);
    program(dir, &["lake", "move"]);
    assert!(!partition.join("99-0.parquet").exists() && !dir.join("lake/.moving").exists());

    // More of the same day makes a second file of a partition: another zone's do not.
    readings += fill(dir, "hall-", 5);
    let connection = Connection::open(dir.join("microclimate.duckdb")).unwrap();
    connection
        .execute_batch(
            "INSERT INTO silver.data SELECT partition, \"offset\" + 1000000, item, series, boot, seq, source,
                 TIMESTAMP '2013-08-24 00:00:01', arrival, value, quality
             FROM silver.data d JOIN silver.series s ON d.series = s.id WHERE s.zone = 'bay-a' LIMIT 10",
        )
        .unwrap();
    drop(connection);
    program(dir, &["lake", "move"]);
    assert_eq!(std::fs::read_dir(&partition).unwrap().count(), 2);
    assert_eq!(count(all), readings + 10);
    assert_eq!(program(dir, &["lake", "compact"])[0]["partitions"], 1);
    assert_eq!(std::fs::read_dir(&partition).unwrap().count(), 1);
    assert_eq!(count(all), readings + 10);
}
