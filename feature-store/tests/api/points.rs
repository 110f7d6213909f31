use std::io::Cursor;

use polars::prelude::{ParquetReader, SerReader};
use serde_json::{Value, json};

use crate::site::{ApiSite, LATE_EVENT_MS, MINUTE_MS, START_MS, site_reports};

const NAMES: [&str; 3] = ["temperature_max_10m", "temperature_min_10m", "temperature_last"];

/// Returns maximum, minimum and newest value of the last ten minutes, by a loop over every
/// reading.
fn naive_temperatures(zone: &str, row_ms: i64, arrived_ms: i64) -> [Option<f64>; 3] {
    let reports = site_reports();
    let mut inside: Vec<(i64, f64)> = reports
        .iter()
        .filter(|report| report.zone.to_string() == zone && report.arrival_ms <= arrived_ms)
        .flat_map(|report| &report.readings)
        .filter(|reading| reading.metric == "temperature" && reading.value < 100.0)
        .filter(|reading| reading.event_ms <= row_ms)
        .map(|reading| (reading.event_ms, reading.value))
        .collect();
    inside.sort_unstable_by(|a, b| a.partial_cmp(b).unwrap());
    inside.dedup();
    let last = inside.last().map(|(_, value)| *value);
    inside.retain(|(event_ms, _)| *event_ms > row_ms - 10 * MINUTE_MS);
    let max = inside.iter().map(|(_, value)| *value).reduce(f64::max);
    let min = inside.iter().map(|(_, value)| *value).reduce(f64::min);
    [max, min, last]
}

async fn request_dataset_rows(site: &ApiSite, request: &Value) -> Vec<Value> {
    let answer = site.post("/v1/dataset", request).await;
    assert_eq!(answer.status, 200, "{}", answer.parse_json());
    answer.parse_json()["rows"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_what_was_known_or_what_is_known_now() {
    let site = ApiSite::new().await;
    let mut late = 0;
    for mode in ["as_known", "as_corrected"] {
        // Times on and off the grid, before the first row and after the last.
        let times: Vec<i64> =
            (-2..=170).flat_map(|m| [m * MINUTE_MS, m * MINUTE_MS + 17_300]).collect();
        let points: Vec<Value> =
            times.iter().map(|ms| json!({ "zone": "farm/bay-1", "at": START_MS + ms })).collect();
        let request = json!({ "mode": mode, "points": points, "names": NAMES });
        let rows = request_dataset_rows(&site, &request).await;
        assert_eq!(rows.len(), points.len());
        for (row, ms) in rows.iter().zip(&times) {
            let at_ms = START_MS + ms;
            assert_eq!(row["at_ms"], at_ms, "the order of the points");
            if *ms < 0 {
                assert_eq!(row["row_ms"], Value::Null);
                continue;
            }
            let row_ms = row["row_ms"].as_i64().unwrap();
            assert_eq!(row_ms, at_ms.div_euclid(MINUTE_MS) * MINUTE_MS, "nothing of the future");
            let arrived_ms = if mode == "as_known" { row_ms } else { i64::MAX };
            let expect = naive_temperatures("farm/bay-1", row_ms, arrived_ms);
            let found = NAMES.map(|name| row[name].as_f64());
            assert_eq!(found, expect, "{mode} at {row}");
            late += usize::from(mode == "as_corrected" && row["revision"].as_i64() > Some(0));
        }
    }
    assert!(late > 0, "the late reading corrected no row");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_reading_is_in_one_mode_only() {
    let site = ApiSite::new().await;
    let at = LATE_EVENT_MS + 5 * MINUTE_MS;
    let max = async |mode: &str| {
        let points = json!([{ "zone": "farm/bay-1", "at": at }]);
        let request = json!({ "mode": mode, "points": points, "names": ["temperature_max_10m"] });
        request_dataset_rows(&site, &request).await[0]["temperature_max_10m"].as_f64().unwrap()
    };
    assert_eq!((max("as_known").await, max("as_corrected").await), (21.75, 26.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grid_is_its_points_and_old_rows_are_none() {
    let site = ApiSite::new().await;
    let end = START_MS + 400 * MINUTE_MS;
    let grid = json!({ "zones": ["farm/bay-2", "farm/none"], "from": START_MS, "to": end, "step_s": 6000 });
    let request = json!({ "mode": "as_known", "grid": grid, "names": ["co2_last"] });
    let found = request_dataset_rows(&site, &request).await;
    assert_eq!(found.len(), 2 * 5);
    let co2: Vec<Option<f64>> = found.iter().map(|row| row["co2_last"].as_f64()).collect();
    // The last row is at 178 minutes; 200 is within the hour, 300 is not.
    assert_eq!(co2[..5], [Some(600.0), Some(700.0), Some(778.0), None, None]);
    assert_eq!(co2[5..], [None; 5]);
    let mut request = request;
    request["age_s_max"] = json!(8000);
    assert_eq!(request_dataset_rows(&site, &request).await[3]["co2_last"], 778.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_holds_the_same() {
    let site = ApiSite::new().await;
    let zones = ["farm/bay-1", "farm/bay-2"];
    let points: Vec<Value> =
        (0..7).map(|i| json!({ "zone": zones[i % 2], "at": "2025-06-02T01:00:00Z" })).collect();
    let request =
        json!({ "mode": "as_corrected", "points": points, "names": ["temperature_mean_1h"] });
    let means: Vec<Option<f64>> = request_dataset_rows(&site, &request)
        .await
        .iter()
        .map(|row| row["temperature_mean_1h"].as_f64())
        .collect();
    assert!(means[0].is_some() && means[1].is_none());

    let body = request.to_string();
    let accept = [("accept", "text/csv")];
    let csv = site.send_request("POST", "/v1/dataset", &accept, Some(&body)).await;
    assert_eq!(csv.content_type, "text/csv; charset=utf-8");
    let mut reader = csv::Reader::from_reader(&csv.body[..]);
    let column =
        reader.headers().unwrap().iter().position(|name| name == "temperature_mean_1h").unwrap();
    let found: Vec<Option<f64>> =
        reader.records().map(|line| line.unwrap()[column].parse().ok()).collect();
    assert_eq!(found, means);

    let arrow = site.post("/v1/dataset?format=arrow", &request).await;
    assert_eq!(arrow.content_type, "application/vnd.apache.arrow.stream");
    let stream = arrow_ipc::reader::StreamReader::try_new(Cursor::new(arrow.body), None).unwrap();
    let rows: usize = stream.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 7);

    let parquet = site.post("/v1/dataset?format=parquet", &request).await;
    let frame = ParquetReader::new(Cursor::new(parquet.body)).finish().unwrap();
    let found: Vec<Option<f64>> =
        frame.column("temperature_mean_1h").unwrap().f64().unwrap().iter().collect();
    assert_eq!(found, means);
}
