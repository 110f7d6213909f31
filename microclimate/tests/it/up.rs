//! The whole house in one process, as a supervisor and Prometheus see it.

use std::{process::Command, time::Duration};

use crate::support::{Running, free_port, program};

/// A house that takes messages as `mqtt` says, and its URL.
fn up(dir: &std::path::Path, mqtt: &[String]) -> (Running, String) {
    let rest = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(program("microclimate"));
    command.args(["up", "--data-dir"]).arg(dir).args(["--set", &format!("rest.listen={rest}")]);
    command.args(mqtt.iter().flat_map(|set| ["--set", set]));
    (Running::start(&mut command), format!("http://{rest}"))
}

/// The answer of a house that may just be starting.
async fn ask(url: &str) -> reqwest::Response {
    for _ in 0..600 {
        if let Ok(answer) = reqwest::get(url).await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} does not answer in a minute");
}

#[tokio::test]
async fn it_is_ready_when_it_takes_messages_and_only_then() {
    let dir = tempfile::tempdir().unwrap();
    let own = [format!("gateway.mqtt.listen=127.0.0.1:{}", free_port())];
    let (_open, url) = up(&dir.path().join("open"), &own);
    let ready = format!("{url}/readyz");
    let mut tries = 0;
    while ask(&ready).await.status() != 200 {
        tries += 1;
        assert!(tries < 600, "not ready in a minute: {}", ask(&ready).await.text().await.unwrap());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let metrics = ask(&format!("{url}/metrics")).await;
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4");
    let metrics = metrics.text().await.unwrap();
    for part in ["gateway", "feature_store", "trainer"] {
        assert!(metrics.contains(&format!("# TYPE microclimate_{part}_")), "{metrics}");
    }

    // Of a broker that is not there it takes nothing.
    let none =
        ["gateway.mqtt.mode=bridge".to_owned(), format!("gateway.mqtt.port={}", free_port())];
    let (_deaf, url) = up(&dir.path().join("deaf"), &none);
    assert_eq!(ask(&format!("{url}/healthz")).await.status(), 200, "it lives");
    let refused = ask(&format!("{url}/readyz")).await;
    assert_eq!(refused.status(), 503);
    let said = refused.text().await.unwrap();
    assert!(said.contains("no messages are taken now"), "{said}");
}
