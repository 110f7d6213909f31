//! Alerts, from an MQTT message to whoever is told: REST, a retained message, a webhook.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alerts::notify::webhook::{DELIVERY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign_body};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, PublishOptions, QoS};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{
    ChildProcess, free_port, get_json, program_path, publish_messages, wait_for_json,
    wait_until_ready,
};

const SECRET: &str = "webhook-secret";
/// Rules that fire at once.
const RULES: &str = r#"alerts.rules=[{name="frost",for_s=0},{name="disk_filling",enabled=false}]"#;

/// The program on a folder that outlives it.
struct AlertSite {
    process: ChildProcess,
    url: String,
    mqtt_port: u16,
}

impl AlertSite {
    async fn start(data: &Path, settings: &[&str]) -> Self {
        let (rest, mqtt_port) = (format!("127.0.0.1:{}", free_port()), free_port());
        let listen = [
            format!("rest.listen={rest}"),
            format!("gateway.mqtt.listen=127.0.0.1:{mqtt_port}"),
            "alerts.notify.group_wait_s=0".to_owned(),
            RULES.to_owned(),
        ];
        let mut command = Command::new(program_path("microclimate"));
        command.args(["up", "--data-dir"]).arg(data);
        for setting in listen.iter().map(String::as_str).chain(settings.iter().copied()) {
            command.args(["--set", setting]);
        }
        let process = ChildProcess::start(&mut command);
        let url = format!("http://{rest}");
        wait_until_ready(&format!("{url}/readyz")).await;
        Self { process, url, mqtt_port }
    }

    fn alerts_url(&self) -> String {
        format!("{}/v1/alerts", self.url)
    }

    /// Waits until the alerts are as wanted, by state.
    async fn wait_for_counts(&self, firing: u64, acknowledged: u64) -> Value {
        let what = format!("{firing} firing, {acknowledged} acknowledged");
        wait_for_json(&self.alerts_url(), &what, |answer| {
            answer["counts"]["firing"] == firing && answer["counts"]["acknowledged"] == acknowledged
        })
        .await
    }

    /// Sends lines of readings, and waits until each is durable.
    async fn send_lines(&self, lines: String) {
        let request = reqwest::Client::new()
            .post(format!("{}/v1/readings", self.url))
            .header("Content-Type", "application/x-ndjson")
            .body(lines);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    /// A client of the program's own listener, and the messages of its subscriptions.
    async fn connect(
        &self,
        filters: &[&str],
    ) -> (AsyncClient, mpsc::UnboundedReceiver<(String, Value, bool)>) {
        let id = format!("test-{}", free_port());
        let options = MqttOptions::new(id, ("127.0.0.1", self.mqtt_port));
        let (client, mut events) = AsyncClient::builder(options).capacity(64).try_build().unwrap();
        for filter in filters {
            client.subscribe(*filter, QoS::AtLeastOnce).await.unwrap();
        }
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                let Event::Incoming(Incoming::Publish(message)) = event else { continue };
                let topic = String::from_utf8_lossy(message.topic.as_ref()).into_owned();
                let payload = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
                if sender.send((topic, payload, message.retain)).is_err() {
                    return;
                }
            }
        });
        (client, messages)
    }

    async fn publish(&self, client: &AsyncClient, metric: &str, value: f64) {
        let topic = format!("sensors/farm/bay-1/probe/{metric}");
        let options = PublishOptions::new(QoS::AtLeastOnce);
        client.publish(topic, value.to_string().into_bytes(), options).await.unwrap();
    }
}

/// Waits for a message of a topic.
async fn wait_for_message(
    messages: &mut mpsc::UnboundedReceiver<(String, Value, bool)>,
    accept: impl Fn(&str, &Value) -> bool,
) -> (String, Value, bool) {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let message = messages.recv().await.expect("the connection stays");
            if accept(&message.0, &message.1) {
                return message;
            }
            seen.push(message.0);
        }
    })
    .await;
    found.unwrap_or_else(|_| panic!("no such message in 60 s; seen {seen:?}"))
}

/// Takes messages, refuses the first attempt of each, and checks signatures.
#[derive(Clone, Default)]
struct WebhookReceiver(Arc<Mutex<Vec<(String, Value)>>>);

impl WebhookReceiver {
    async fn start(&self) -> String {
        let own = self.clone();
        let record = move |headers: HeaderMap, body: Bytes| async move {
            own.record_request(&headers, &body)
        };
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", socket.local_addr().unwrap());
        let routes = Router::new().route("/hook", post(record));
        tokio::spawn(async move { axum::serve(socket, routes).await });
        url
    }

    fn record_request(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(text(SIGNATURE_HEADER), sign_body(SECRET, &text(TIMESTAMP_HEADER), body));
        let mut taken = self.0.lock().unwrap();
        let id = text(DELIVERY_HEADER);
        let is_first = taken.iter().all(|(known, _)| *known != id);
        taken.push((id, serde_json::from_slice(body).unwrap()));
        if is_first { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    }

    /// Events of all accepted messages.
    fn events(&self) -> Vec<String> {
        let taken = self.0.lock().unwrap().clone();
        let accepted = taken
            .iter()
            .enumerate()
            .filter(|(i, (id, _))| taken[..*i].iter().any(|(known, _)| known == id));
        let events = accepted.flat_map(|(_, (_, message))| {
            let events = message["events"].as_array().unwrap().clone();
            events.into_iter().map(|own| {
                format!(
                    "{} {}",
                    own["alert"]["rule"].as_str().unwrap(),
                    own["event"].as_str().unwrap()
                )
            })
        });
        events.collect()
    }

    async fn wait_for_events(&self, expect: &[&str]) {
        for _ in 0..600 {
            if self.events().len() >= expect.len() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(self.events(), expect);
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

fn reading(zone: &str, value: f64, at_ms: i64, source: &str) -> String {
    let (site, zone) = zone.split_once('/').unwrap();
    let mut line = json!({"site": site, "zone": zone, "device": "probe", "metric": "temperature", "value": value, "ts": at_ms});
    if !source.is_empty() {
        line["source"] = source.into();
    }
    format!("{line}\n")
}

#[tokio::test]
async fn from_an_mqtt_message_to_everybody_and_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = WebhookReceiver::default();
    let webhook = [
        format!("alerts.webhook.url={}", receiver.start().await),
        format!("alerts.webhook.secret={SECRET}"),
    ];
    let webhook: Vec<&str> = webhook.iter().map(String::as_str).collect();
    let mut site = AlertSite::start(dir.path(), &webhook).await;
    let (client, mut messages) = site.connect(&["microclimate/alerts/#", "homeassistant/#"]).await;
    site.publish(&client, "temperature", 1.0).await;

    let answer = site.wait_for_counts(1, 0).await;
    let alert = &answer["alerts"][0];
    assert_eq!((&alert["rule"], &alert["zone"]), (&json!("frost"), &json!("farm/bay-1")));
    assert_eq!(alert["message"], "temperature is 1 °C, below 2 °C");
    let id = alert["id"].as_str().unwrap().to_owned();
    let topic = "microclimate/alerts/farm/bay-1/frost/temperature";
    wait_for_message(&mut messages, |own, payload| own == topic && payload["state"] == "firing")
        .await;
    let (_client, mut later) = site.connect(&["microclimate/alerts/#", "homeassistant/#"]).await;
    let (_, payload, is_retained) = wait_for_message(&mut later, |own, _| own == topic).await;
    assert!(is_retained && payload["id"] == id.as_str(), "{payload}");
    let problem = "microclimate/alerts/farm/bay-1/problem";
    wait_for_message(&mut messages, |own, payload| own == problem && payload["state"] == "ON")
        .await;
    let (_client, mut discovered) = site.connect(&["homeassistant/binary_sensor/#"]).await;
    let is_bay = |own: &str, _: &Value| own.contains("farm_bay-1");
    let (_, config, _) = wait_for_message(&mut discovered, is_bay).await;
    assert_eq!(
        (&config["device_class"], &config["state_topic"]),
        (&json!("problem"), &json!(problem))
    );
    receiver.wait_for_events(&["frost fired"]).await;
    let metrics =
        reqwest::get(format!("{}/metrics", site.url)).await.unwrap().text().await.unwrap();
    let series = "microclimate_alerts_active{alertname=\"frost\",alertstate=\"firing\",severity=\"critical\",zone=\"farm/bay-1\"";
    assert!(metrics.contains(series), "{metrics}");
    let overview = get_json(&format!("{}/v1/overview", site.url)).await.unwrap();
    assert_eq!(overview["zones"][0]["alerts"][0]["rule"], "frost");
    assert_eq!(overview["zones"][0]["state"], "alarm");

    // A page of another site cannot acknowledge it: without JSON there is no way past the browser.
    let acknowledge = format!("{}/{id}/acknowledge", site.alerts_url());
    let http = reqwest::Client::new();
    let refused = http.post(&acknowledge).body("{}").send().await.unwrap();
    assert!(refused.status().is_client_error());
    let answer = http.post(&acknowledge).json(&json!({"by": "Ada"})).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let unknown = format!("{}/0/acknowledge", site.alerts_url());
    assert_eq!(http.post(&unknown).json(&json!({})).send().await.unwrap().status(), 404);
    site.wait_for_counts(0, 1).await;
    receiver.wait_for_events(&["frost fired", "frost acknowledged"]).await;

    site.process.terminate();
    drop(site);
    let site = AlertSite::start(dir.path(), &webhook).await;
    let answer = site.wait_for_counts(0, 1).await;
    assert_eq!(answer["alerts"][0]["id"], id.as_str());
    assert_eq!(answer["alerts"][0]["acknowledged"]["by"], "Ada");
    // It is still cold: that is no news.
    let (client, mut messages) = site.connect(&["microclimate/alerts/#"]).await;
    wait_for_message(&mut messages, |own, payload| {
        own == topic && payload["state"] == "acknowledged"
    })
    .await;
    site.publish(&client, "temperature", 0.5).await;
    wait_for_json(&site.alerts_url(), "the newer value", |answer| {
        answer["alerts"][0]["value"].as_f64() < Some(1.0)
    })
    .await;
    let topic_of_probe = "sensors/farm/bay-1/probe/temperature";
    publish_messages(site.mqtt_port, topic_of_probe, &vec!["25.0".to_owned(); 20]).await;
    site.wait_for_counts(0, 0).await;
    receiver.wait_for_events(&["frost fired", "frost acknowledged", "frost resolved"]).await;
    wait_for_message(&mut messages, |own, payload| own == topic && payload.is_null()).await;
    let history = get_json(&format!("{}/history", site.alerts_url())).await.unwrap();
    let past = history["alerts"].as_array().unwrap();
    assert_eq!(past.len(), 1, "{history}");
    assert_eq!((&past[0]["outcome"], &past[0]["id"]), (&json!("cleared"), &json!(id)));
}

#[tokio::test]
async fn readings_of_the_past_are_found_and_notify_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = WebhookReceiver::default();
    let webhook = [
        format!("alerts.webhook.url={}", receiver.start().await),
        format!("alerts.webhook.secret={SECRET}"),
    ];
    let webhook: Vec<&str> = webhook.iter().map(String::as_str).collect();
    let mut site = AlertSite::start(dir.path(), &webhook).await;
    let now = now_ms();
    let minute_ms = 60_000;
    // A device was without a network for six hours, in one of which it froze.
    let backlog = (0..360).rev().map(|minute| {
        let value = if (200..260).contains(&minute) { -3.0 } else { 20.0 };
        reading("farm/backlog", value, now - minute * minute_ms, "")
    });
    site.send_lines(backlog.collect()).await;
    // A recording of last week ends in the frost.
    let replay = (0..180).rev().map(|minute| {
        let value = if minute < 60 { -3.0 } else { 20.0 };
        reading("farm/replay", value, now - 7 * 1440 * minute_ms - minute * minute_ms, "replay")
    });
    site.send_lines(replay.collect()).await;
    let history = format!("{}/history", site.alerts_url());
    let answer = wait_for_json(&history, "the hour of frost", |answer| {
        answer["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty())
    })
    .await;
    let past = &answer["alerts"][0];
    assert_eq!((&past["rule"], &past["zone"]), (&json!("frost"), &json!("farm/backlog")));
    assert_eq!(past["outcome"], "recorded");
    let lasted_min =
        (past["resolved_ms"].as_i64().unwrap() - past["started_ms"].as_i64().unwrap()) / minute_ms;
    assert!((50..75).contains(&lasted_min), "{past}");

    site.process.terminate();
    drop(site);
    let site = AlertSite::start(dir.path(), &webhook).await;
    // What is live now is told, and it is told first: so nothing of the past was.
    let (client, _messages) = site.connect(&[]).await;
    site.publish(&client, "temperature", 1.0).await;
    let answer = site.wait_for_counts(1, 0).await;
    assert_eq!((&answer["total"], &answer["alerts"][0]["zone"]), (&json!(1), &json!("farm/bay-1")));
    receiver.wait_for_events(&["frost fired"]).await;
    let again = get_json(&format!("{}/history", site.alerts_url())).await.unwrap();
    assert_eq!(again["alerts"].as_array().unwrap().len(), 1, "{again}");
}

#[test]
fn mistakes_in_rules_are_reported_together() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("own.toml");
    let text = "[[alerts.rules]]\nname = \"a\"\nmetirc = \"co2\"\n[[alerts.rules]]\nname = \"b\"\nmetric = \"co2\"\nabove = \"high\"\n";
    std::fs::write(&config, text).unwrap();
    let ran = Command::new(program_path("microclimate"))
        .args(["up", "--data-dir"])
        .arg(dir.path().join("data"))
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(!ran.status.success());
    assert!(message.contains("unknown field `metirc`"), "{message}");
    assert!(message.contains("there is no limit `high`"), "{message}");
}
