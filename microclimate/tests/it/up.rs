//! All services in one process, as a supervisor and Prometheus see them.

use std::process::Command;

use crate::support::{ChildProcess, free_port, program_path, wait_until_ready};

/// Starts the program with these MQTT settings and returns its URL.
fn start_microclimate(dir: &std::path::Path, mqtt: &[String]) -> (ChildProcess, String) {
    let rest = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(program_path("microclimate"));
    command.args(["up", "--data-dir"]).arg(dir).args(["--set", &format!("rest.listen={rest}")]);
    command.args(mqtt.iter().flat_map(|set| ["--set", set]));
    (ChildProcess::start(&mut command), format!("http://{rest}"))
}

#[tokio::test]
async fn it_is_ready_only_while_it_accepts_messages() {
    let dir = tempfile::tempdir().unwrap();
    let own_listener = [format!("gateway.mqtt.listen=127.0.0.1:{}", free_port())];
    let (_open, url) = start_microclimate(&dir.path().join("open"), &own_listener);
    wait_until_ready(&format!("{url}/readyz")).await;
    let metrics = reqwest::get(format!("{url}/metrics")).await.unwrap();
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4");
    let metrics = metrics.text().await.unwrap();
    for part in ["gateway", "feature_store", "trainer"] {
        assert!(metrics.contains(&format!("# TYPE microclimate_{part}_")), "{metrics}");
    }

    // With a broker that cannot be reached, it accepts no messages.
    let missing_broker =
        ["gateway.mqtt.mode=bridge".to_owned(), format!("gateway.mqtt.port={}", free_port())];
    let (_unready, url) = start_microclimate(&dir.path().join("unready"), &missing_broker);
    wait_until_ready(&format!("{url}/healthz")).await;
    let refused = reqwest::get(format!("{url}/readyz")).await.unwrap();
    assert_eq!(refused.status(), 503);
    let said = refused.text().await.unwrap();
    assert!(said.contains("no messages are accepted now"), "{said}");
}
