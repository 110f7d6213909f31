use serde_json::{Value, json};

use crate::site::{ApiSite, LATE_EVENT_MS, MINUTE_MS, START_MS};

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_explained_by_its_readings() {
    let site = ApiSite::new().await;
    let at_ms = START_MS + 35 * MINUTE_MS;
    let explain = async |feature: &str| {
        let path = "/v1/features/explain?zone=farm/bay-1&limit=3";
        site.get(&format!("{path}&feature={feature}&at={at_ms}")).await.parse_json()
    };
    let found = explain("temperature_max_10m").await;
    let stored = found["stored"].as_array().unwrap();
    assert_eq!(stored.first().unwrap(), &json!({ "revision": 0, "value": 21.75 }), "{found}");
    assert_eq!(stored.last().unwrap()["value"], 26.0);
    assert_eq!(found["computed_as_known"], 21.75);
    assert_eq!(found["computed_as_corrected"], 26.0);
    let behind = &found["behind"];
    // (25, 35] min: ten readings by the minute, and the late one.
    let window = json!({
        "after_ms": at_ms - 10 * MINUTE_MS, "until_ms": at_ms, "readings": 11, "flagged": 0,
        "arrived_later": 1,
    });
    assert_eq!(behind["window"], window);
    assert_eq!(behind["first"]["event_ms"], at_ms - 9 * MINUTE_MS, "the left edge is outside");
    assert_eq!(behind["last"]["event_ms"], at_ms, "the right edge is inside");
    assert_eq!(
        (behind["tile_s"].clone(), behind["tiles"].as_array().unwrap().len()),
        (json!(60), 10)
    );
    let of_late = |tile: &&Value| tile["start_ms"] == LATE_EVENT_MS - 30_000;
    let tile = behind["tiles"].as_array().unwrap().iter().find(of_late).unwrap();
    assert_eq!((&tile["readings"], &tile["max"]), (&json!(2), &json!(26.0)));
    assert_eq!(
        (behind["readings"].as_array().unwrap().len(), &behind["truncated"]),
        (3, &json!(true))
    );

    // Every stored feature is recomputed to the same bits.
    for feature_values in site.store.feature_names() {
        let found = explain(&feature_values).await;
        let newest = found["stored"].as_array().unwrap().last().unwrap()["value"].clone();
        assert_eq!(found["computed_as_corrected"], newest, "{feature_values}");
        assert_eq!(found["computed_as_known"], found["stored"][0]["value"], "{feature_values}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_answers_questions() {
    let site = ApiSite::new().await;
    let ask = async |sql: &str| {
        site.post("/v1/sql", &json!({ "sql": sql, "limit": 5 })).await.parse_json()
    };
    let found = ask(
        "SELECT zone, metric, count(*) AS n, round(avg(value) FILTER (quality = 'ok'), 3) AS mean,
                max(event) AS newest
         FROM silver.readings WHERE metric = 'co2' GROUP BY ALL",
    )
    .await;
    let row = json!({
        "zone": "bay-2", "metric": "co2", "n": 91, "mean": 690.0, "newest": "2025-06-02T03:00:00Z",
    });
    assert_eq!(found, json!({ "truncated": false, "rows": [row] }));
    let found = ask("SELECT time, revision FROM features.rows ORDER BY time").await;
    assert_eq!((&found["truncated"], found["rows"].as_array().unwrap().len()), (&json!(true), 5));
    let found =
        ask("SELECT sum(\"offset\") AS big, true AS yes, NULL AS none FROM bronze.records").await;
    assert!(found["rows"][0]["big"].is_number() && found["rows"][0]["yes"] == true, "{found}");
    let empty = ask("SELECT * FROM silver.readings WHERE metric = 'none'").await;
    assert_eq!(empty, json!({ "truncated": false, "rows": [] }));
    let csv = site.post("/v1/sql?format=csv", &json!({ "sql": "SELECT 1 AS a, 'b,c' AS d" })).await;
    assert_eq!(String::from_utf8(csv.body).unwrap(), "a,d\n1,\"b,c\"\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_histograms_and_drift() {
    let site = ApiSite::new().await;
    let span = "from=2025-06-02T00:00:00Z&to=2025-06-02T00:59:00Z&step_s=60&zones=farm/bay-1";
    let statistics = site
        .get(&format!("/v1/features/statistics?names=temperature_last,co2_last&{span}"))
        .await
        .parse_json();
    let of = &statistics["statistics"]["temperature_last"];
    // Sixty minutes of 20, 20.05, … 22.95.
    assert_eq!(
        (&of["count"], &of["missing"], &of["min"], &of["p50"]),
        (&json!(60), &json!(0), &json!(20.0), &json!(21.475)),
        "{of}"
    );
    assert_eq!(statistics["statistics"]["co2_last"]["missing"], 60);
    let histogram = site
        .get(&format!("/v1/features/histogram?name=temperature_last&bins=4&{span}"))
        .await
        .parse_json();
    let counts: Vec<u64> =
        histogram["counts"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!((counts.iter().sum::<u64>(), counts.len()), (60, 4));
    let same = "baseline_from=2025-06-02T01:00:00Z&baseline_to=2025-06-02T01:59:00Z";
    let drift = site
        .get(&format!(
            "/v1/features/drift?names=temperature_last,temperature_mean_1h&{span}&{same}"
        ))
        .await
        .parse_json();
    let of = &drift["drift"]["temperature_last"];
    assert_eq!((&of["verdict"], &of["wasserstein"]), (&json!("stable"), &json!(0.0)), "{of}");
    assert_ne!(
        drift["drift"]["temperature_mean_1h"]["verdict"], "stable",
        "the first hour's window was filling"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_are_summed_up() {
    let site = ApiSite::new().await;
    let answer = site.get("/v1/kpis?zone=farm/bay-2&limit=2").await.parse_json();
    let hours = answer["kpis"].as_array().unwrap();
    assert_eq!(hours.len(), 2, "{answer}");
    assert_eq!(
        (&hours[1]["period"]["start_ms"], &hours[1]["metrics"]["co2"]["count"]),
        (&json!(START_MS + 120 * MINUTE_MS), &json!(30))
    );
    assert_eq!(hours[1]["metrics"]["co2"]["mean"], 749.0);
}
