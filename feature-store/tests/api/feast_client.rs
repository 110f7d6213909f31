use serde_json::{Value, json};

use crate::site::ApiSite;

/// `scripts/feast` sets MICROCLIMATE_FEAST to a Python that has Feast.
#[tokio::test(flavor = "multi_thread")]
async fn feasts_own_client_reads_features() {
    let Some(python) = std::env::var_os("MICROCLIMATE_FEAST") else {
        println!("skipped: MICROCLIMATE_FEAST is not set; run scripts/feast");
        return;
    };
    let site = ApiSite::new().await;
    let url = format!("http://{}", site.address);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/feast_client.py");
    let zones = "farm/bay-1,farm/none,farm/bay-2";
    let mut client = std::process::Command::new(python);
    client.args([script, &url, zones, "temperature_last,co2_last"]);
    let output = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let text = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap();
    println!("{answer:#}");
    let zones = json!(["farm/bay-1", "farm/none", "farm/bay-2"]);
    let (temperature, co2) = (json!([20.0, null, null]), json!([null, null, 780.0]));
    let short = json!({ "zone": zones, "temperature_last": temperature, "co2_last": co2 });
    let full = json!({ "zone": zones, "climate__temperature_last": temperature, "climate__co2_last": co2 });
    assert_eq!((&answer["short"], &answer["full"]), (&short, &full));
    let rows = json!([
        { "temperature_last": 20.0, "co2_last": null },
        { "temperature_last": null, "co2_last": null },
        { "temperature_last": null, "co2_last": 780.0 },
    ]);
    assert_eq!(answer["rows"], rows);
}
