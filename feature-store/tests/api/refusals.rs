use serde_json::json;

use crate::site::{ApiSite, HttpAnswer};

#[track_caller]
fn check_refusal(answer: &HttpAnswer, status: u16, code: &str, what: &str) {
    let problem = answer.parse_json();
    assert_eq!(answer.status, status, "{what}: {problem}");
    assert_eq!(problem["error"]["code"], code, "{what}: {problem}");
    assert!(!problem["error"]["message"].as_str().unwrap().is_empty(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_a_code() {
    let site = ApiSite::new().await;
    for (path, status, code) in [
        ("/v1/nothing", 404, "not_found"),
        ("/v1/zones?colour=red", 400, "bad_query"),
        ("/v1/zones?limit=0", 400, "bad_request"),
        ("/v1/features?after=nothing", 400, "bad_request"),
        ("/v1/definitions?after=nothing", 400, "bad_request"),
        ("/v1/definitions?limit=0", 400, "bad_request"),
        ("/v1/definitions?names=vpd", 400, "unknown_feature"),
        ("/v1/readings?limit=1000000", 400, "bad_request"),
        ("/v1/readings?colour=red", 400, "bad_query"),
        ("/v1/features/history?zone=farm/bay-1&date=2025-06-02&colour=red", 400, "bad_query"),
        ("/v1/readings?zone=bay", 400, "bad_query"),
        ("/v1/readings?quality=excellent", 400, "bad_request"),
        ("/v1/readings?date=2025-02-30", 400, "bad_request"),
        ("/v1/readings?date=2025-06-02&from=2025-06-02", 400, "bad_request"),
        ("/v1/readings?from=yesterday", 400, "bad_request"),
        ("/v1/readings?after=yesterday", 400, "bad_request"),
        ("/v1/kpis", 400, "bad_query"),
        ("/v1/kpis?zone=farm/bay-1&period=week", 400, "bad_query"),
        ("/v1/features/latest?zones=farm/none", 404, "unknown_zone"),
        ("/v1/features/latest?names=temperatur_last", 400, "unknown_feature"),
        ("/v1/features/history?zone=farm/bay-1&names=vpd", 400, "unknown_feature"),
        ("/v1/features/history?zone=farm/bay-1&revisions=some", 400, "bad_query"),
        ("/v1/features/statistics?names=temperature_mean_10h", 400, "unknown_feature"),
        ("/v1/features/histogram?name=temperature_last&bins=0", 400, "bad_request"),
        ("/v1/features/drift?from=2025-06-02", 400, "bad_query"),
        ("/v1/features/explain?zone=farm/bay-1&feature=vpd&at=0", 400, "unknown_feature"),
        ("/v1/features/explain?zone=farm/none&feature=vpd_kpa&at=0", 404, "unknown_zone"),
        ("/v1/dataset.parquet?step_s=0", 400, "bad_request"),
        ("/v1/events?colour=red", 400, "bad_query"),
        ("/readyz", 503, "unavailable"),
    ] {
        check_refusal(&site.get(path).await, status, code, path);
    }
    let point = json!({ "zone": "farm/bay-1", "at": 0 });
    for (path, body, status, code) in [
        ("/v1/dataset", json!({}), 400, "bad_body"),
        ("/v1/dataset", json!({ "mode": "as_known" }), 400, "bad_request"),
        ("/v1/dataset", json!({ "mode": "as_known", "points": [] }), 400, "bad_request"),
        ("/v1/dataset", json!({ "mode": "as_guessed", "points": [point] }), 400, "bad_body"),
        (
            "/v1/dataset",
            json!({ "mode": "as_known", "points": [point], "colour": 1 }),
            400,
            "bad_body",
        ),
        (
            "/v1/dataset",
            json!({ "mode": "as_known", "points": [point], "names": ["vpd"] }),
            400,
            "unknown_feature",
        ),
        (
            "/v1/dataset",
            json!({ "mode": "as_known", "grid": { "from": 0, "to": 1_000_000_000, "step_s": 1 } }),
            413,
            "too_large",
        ),
        (
            "/v1/dataset",
            json!({ "mode": "as_known", "grid": { "from": 1, "to": 0, "step_s": 1 } }),
            400,
            "bad_request",
        ),
        (
            "/v1/dataset?format=xlsx",
            json!({ "mode": "as_known", "points": [point] }),
            400,
            "bad_query",
        ),
        ("/v1/sql", json!({ "sql": "DROP TABLE features.rows" }), 400, "sql_refused"),
        ("/v1/sql", json!({ "sql": "SELECT nothing FROM features.rows" }), 400, "sql_error"),
        ("/v1/sql", json!({ "sql": "SELECT 1", "limit": 0 }), 400, "bad_request"),
        ("/v1/sql", json!({ "query": "SELECT 1" }), 400, "bad_body"),
        ("/get-online-features", json!({ "entities": { "room": ["a"] } }), 400, "bad_request"),
        (
            "/get-online-features",
            json!({ "entities": { "zone": ["farm/bay-1"] }, "features": ["v:vpd"] }),
            400,
            "unknown_feature",
        ),
        (
            "/get-online-features",
            json!({ "entities": { "zone": ["farm/bay-1"] }, "feature_service": "s" }),
            400,
            "bad_request",
        ),
    ] {
        check_refusal(&site.post(path, &body).await, status, code, &format!("{path} {body}"));
    }
    // Refused by its length alone, without reading the body.
    let length = [("content-type", "application/json"), ("content-length", "2000000")];
    let large = site.send_request("POST", "/v1/sql", &length, None).await;
    assert_eq!(large.status, 413);
    let hint = site.get("/v1/features/latest?names=temperatur_last").await.parse_json();
    assert_eq!(hint["error"]["hint"], "did you mean `temperature_last`?");
}
