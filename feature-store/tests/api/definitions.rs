use serde_json::json;

use crate::site::ApiSite;

#[tokio::test(flavor = "multi_thread")]
async fn every_feature_has_its_lineage() {
    let site = ApiSite::new().await;
    let whole = site.get("/v1/definitions").await.parse_json();
    assert_eq!(whole["hash"], site.store.definitions().compute_hash().as_str());
    assert_eq!(whole["schema_hash"], site.store.schema().hash.as_str());
    let lineage = whole["lineage"].as_array().unwrap();
    let named: Vec<&str> = lineage.iter().map(|line| line["feature"].as_str().unwrap()).collect();
    assert_eq!(named, site.store.feature_names());
    for line in lineage {
        assert!(!line["formula"].as_str().unwrap().is_empty(), "{line}");
        // Every feature has inputs, except those of the calendar.
        let inputs = line["inputs"].as_array().unwrap();
        let has_source = line["source"].is_string();
        assert!(!inputs.is_empty() || has_source, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lineage_of_named_features_is_of_a_window_or_a_join() {
    let site = ApiSite::new().await;
    let path = "/v1/definitions?names=vpd_kpa,temperature_slope_1h,hour_sin";
    let found = site.get(path).await.parse_json()["lineage"].clone();
    let of = |place: usize, key: &str| found[place][key].clone();
    assert_eq!(of(0, "feature"), "vpd_kpa");
    assert_eq!(of(0, "inputs"), json!(["temperature_mean_10m", "humidity_mean_10m"]));
    assert_eq!(
        (of(0, "window"), of(0, "aggregate"), of(0, "unit")),
        (json!(null), json!(null), json!("kPa"))
    );
    assert!(of(0, "source").as_str().unwrap().contains("FAO 56"), "{found}");
    assert_eq!(of(1, "formula"), "slope of temperature over (t − 1h, t]");
    assert_eq!((of(1, "metric"), of(1, "window")), (json!("temperature"), json!("1h")));
    assert_eq!((of(1, "aggregate"), of(1, "unit")), (json!("slope"), json!("°C/h")));
    assert_eq!(of(1, "inputs"), json!(["temperature"]));
    assert!(of(2, "source").as_str().unwrap().contains("IANA"), "{found}");
    let hint = site.get("/v1/definitions?names=vpd_kPa").await.parse_json();
    assert_eq!(hint["error"]["hint"], "did you mean `vpd_kpa`?");
}
