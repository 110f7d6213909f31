//! Rows of old definitions, while they are stored.

use serde_json::{Value, json};

use crate::site::{ApiSite, MINUTE_MS, START_MS};

const OLD_DEFINITIONS: &str = "version = 1\n[windows]\n10m = ['mean', 'max']\n";
const NEW_DEFINITIONS: &str = "version = 1\n[windows]\n10m = ['mean']\n1h = ['max']\n";
/// Time of the last row that the watermark has passed: two minutes behind the newest reading.
const FINAL_MS: i64 = START_MS + 178 * MINUTE_MS;

async fn site_with_two_versions() -> ApiSite {
    ApiSite::with_versions(&[OLD_DEFINITIONS, NEW_DEFINITIONS]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_an_old_version_are_read_beside_those_of_the_active_one() {
    let site = site_with_two_versions().await;
    let versions = site.get("/v1/definitions?limit=1").await.parse_json()["versions"].clone();
    assert_eq!(versions[0]["version"], 1);
    assert_eq!(versions[0]["is_active"], false);
    assert_eq!((&versions[1]["version"], &versions[1]["is_active"]), (&json!(2), &json!(true)));
    assert_eq!(versions[1]["hash"], site.store.definitions().compute_hash().as_str());

    let latest =
        async |query: &str| site.get(&format!("/v1/features/latest?{query}")).await.parse_json();
    let old = latest("version=1").await;
    let row = &old["rows"][0];
    assert_eq!((&row["zone"], &row["at_ms"]), (&json!("farm/bay-1"), &json!(FINAL_MS)));
    assert_eq!(row["status"], "final");
    // It rises by 0.05 °C a minute within the hour: 20 + 58 / 20.
    assert_eq!(row["features"]["temperature_max_10m"], 22.9);
    assert!(row["features"].get("temperature_max_1h").is_none(), "{row}");
    assert_eq!(old["rows"].as_array().unwrap().len(), 2);
    let one = latest("version=1&zones=farm/bay-2&names=co2_max_10m").await;
    assert_eq!(one["rows"][0]["features"], json!({ "co2_max_10m": 778.0 }));
    // The active version comes from memory, also when it is requested by number.
    let active = latest("version=2&zones=farm/bay-1&names=temperature_max_1h").await;
    assert_eq!(active["rows"][0]["status"], "provisional");
    assert_eq!(active["rows"][0]["at_ms"], START_MS + 180 * MINUTE_MS);

    let path = "/v1/features/history?zone=farm/bay-1&limit=1&names=temperature_max_10m&version=1";
    let history = site.get(path).await.parse_json();
    assert_eq!(history["rows"][0]["features"]["temperature_max_10m"], 22.9);
    assert_eq!(history["rows"][0]["schema_hash"], row["schema_hash"]);

    let request = json!({
        "mode": "as_corrected", "version": 1, "names": ["temperature_max_10m"],
        "points": [{ "zone": "farm/bay-1", "at": FINAL_MS }],
    });
    let set = site.post("/v1/dataset", &request).await.parse_json();
    assert_eq!(set["rows"][0]["temperature_max_10m"], 22.9);
    let stored = site.get("/v1/dataset.parquet?columns=temperature_max_10m&version=1").await;
    assert_eq!((stored.status, &stored.body[..4]), (200, &b"PAR1"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_version_does_not_have_is_refused() {
    let site = site_with_two_versions().await;
    let check = |answer: Value, code: &str, hint: &str| {
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert!(answer["error"]["hint"].as_str().unwrap().contains(hint), "{answer}");
    };
    let history = "/v1/features/history?zone=farm/bay-1";
    for (path, code, hint) in [
        ("/v1/features/latest?version=7".to_owned(), "unknown_version", "1, 2"),
        (format!("{history}&version=0"), "unknown_version", "1, 2"),
        ("/v1/dataset.parquet?version=3".to_owned(), "unknown_version", "1, 2"),
        (
            "/v1/features/latest?version=1&names=temperature_max_1h".to_owned(),
            "unknown_feature",
            "did you mean",
        ),
        (format!("{history}&names=temperature_max_10m"), "unknown_feature", "did you mean"),
    ] {
        check(site.get(&path).await.parse_json(), code, hint);
    }
    let point = json!({ "zone": "farm/bay-1", "at": FINAL_MS });
    let request = json!({ "mode": "as_known", "version": 7, "points": [point] });
    check(site.post("/v1/dataset", &request).await.parse_json(), "unknown_version", "1, 2");
    let unknown = site.get("/v1/features/latest?version=1&zones=farm/none").await.parse_json();
    check(unknown, "unknown_zone", "/v1/zones");
}
