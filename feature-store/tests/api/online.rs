use serde_json::json;
use service::Secret;

use crate::site::{ApiSite, MINUTE_MS, START_MS};

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_row_is_whole_or_in_part() {
    let site = ApiSite::new().await;
    let whole = site.get("/v1/features/latest?zones=farm/bay-1").await.parse_json();
    let row = &whole["rows"][0];
    assert_eq!(row["at_ms"], START_MS + 180 * MINUTE_MS);
    assert_eq!(row["features"].as_object().unwrap().len(), site.store.feature_names().len());
    assert!(row["age_s"].as_f64().unwrap() > 0.0);
    assert_eq!(row["status"], "provisional");
    // 181 of a day's minutes
    let day = row["coverage_pct"]["24h"].as_f64().unwrap();
    assert!((day - 100.0 * 181.0 / 1440.0).abs() < 1e-9, "{}", row["coverage_pct"]);
    let part = "/v1/features/latest?zones=farm/bay-2,farm/bay-1&names=co2_last,temperature_last";
    let part = site.get(part).await.parse_json();
    let features: Vec<_> =
        part["rows"].as_array().unwrap().iter().map(|row| row["features"].clone()).collect();
    assert_eq!(features[0], json!({ "co2_last": 780.0, "temperature_last": null }));
    assert_eq!(
        features[1],
        json!({ "co2_last": null, "temperature_last": row["features"]["temperature_last"] })
    );
    // The values of a partial row equal those of the whole row, to the last bit.
    let names = site.store.feature_names().join(",");
    let named =
        site.get(&format!("/v1/features/latest?zones=farm/bay-1&names={names}")).await.parse_json();
    assert_eq!(named["rows"][0]["features"], row["features"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn feast_is_answered_in_its_shape() {
    let site = ApiSite::new().await;
    let request = json!({
        "entities": { "zone": ["farm/bay-1", "farm/none", "farm/bay-2"] },
        "features": ["climate:temperature_last", "air:co2_last"],
        "full_feature_names": true,
    });
    let answer = site.post("/get-online-features", &request).await.parse_json();
    let time = "2025-06-02T03:00:00Z";
    let never = "1970-01-01T00:00:00Z";
    let expect = json!({
        "metadata": { "feature_names": ["zone", "climate__temperature_last", "air__co2_last"] },
        "results": [
            {
                "values": ["farm/bay-1", "farm/none", "farm/bay-2"],
                "statuses": ["PRESENT", "PRESENT", "PRESENT"],
                "event_timestamps": [never, never, never],
            },
            {
                "values": [20.0, null, null],
                "statuses": ["OUTSIDE_MAX_AGE", "NOT_FOUND", "NULL_VALUE"],
                "event_timestamps": [time, never, time],
            },
            {
                "values": [null, null, 780.0],
                "statuses": ["NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"],
                "event_timestamps": [time, never, time],
            },
        ],
    });
    assert_eq!(answer, expect);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_the_one_way_around_a_header() {
    let site = ApiSite::with_token(Secret::from("s3cret")).await;
    let status = async |path: &str, headers: &[(&str, &str)]| {
        site.send_request("GET", path, headers, None).await.status
    };
    assert_eq!(status("/v1/zones", &[]).await, 401);
    assert_eq!(status("/v1/zones", &[("authorization", "Bearer wrong")]).await, 401);
    assert_eq!(status("/v1/zones", &[("authorization", "Bearer s3cret")]).await, 200);
    assert_eq!(status("/v1/zones?token=s3cret", &[]).await, 401);
    // A stream of events never ends, so the request has an unknown parameter.
    let stream = [("accept", "text/event-stream")];
    assert_eq!(status("/v1/events?token=wrong", &stream).await, 401);
    assert_eq!(status("/v1/events?token=s3cret&zones=nonsense", &stream).await, 400);
    assert_eq!(status("/healthz", &[]).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_and_the_description() {
    let site = ApiSite::new().await;
    for sql in ["SELECT 1", "SELECT nothing FROM features.rows", "DROP TABLE features.rows"] {
        site.post("/v1/sql", &json!({ "sql": sql })).await;
    }
    let answer = site.get("/metrics").await;
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        "microclimate_feature_store_readings_total{quality=\"out_of_range\"} 1",
        "microclimate_feature_store_readings_total{quality=\"duplicate\"} 2",
        "microclimate_feature_store_zones 2",
        "microclimate_feature_store_running 0",
        &format!(
            "microclimate_feature_store_corrections_total {}",
            site.store.committed_counts().corrections
        ),
        &format!("microclimate_feature_store_commits_total {}", site.store.commit_totals().count),
        "microclimate_feature_store_log_lag_records 0",
        // 03:00 less 02:58.
        "microclimate_feature_store_final_lag_seconds_max 120",
        "microclimate_feature_store_sql_queries_total{outcome=\"answered\"} 1",
        "microclimate_feature_store_sql_queries_total{outcome=\"failed\"} 1",
        "microclimate_feature_store_sql_queries_total{outcome=\"refused\"} 1",
        "microclimate_feature_store_sql_queries_total{outcome=\"timed_out\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
    }
    assert!(site.store.committed_counts().corrections > 0);
    let seconds = text.lines().find_map(|metric_line| {
        metric_line.strip_prefix("microclimate_feature_store_commit_seconds_total ")
    });
    assert!(seconds.unwrap().parse::<f64>().unwrap() > 0.0, "{text}");
    let document = site.get("/openapi.json").await.parse_json();
    let page = String::from_utf8(site.get("/docs").await.body).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(path.as_str()), "{path} is not on the page");
    }
}
