//! `POST /v1/readings` with a running gateway, and a disk with injected faults.

mod support;

use axum::{Router, routing::get};
use reqwest::StatusCode;
use serde_json::{Value, json};
use support::{RunningGateway, start_gateway, within_timeout};
use telemetry::{ReportSource, SensorReport, topic};

struct ReadingsReply {
    status: StatusCode,
    body: Value,
}

async fn post_readings(
    gateway: &RunningGateway,
    query: &str,
    body: impl Into<reqwest::Body>,
) -> ReadingsReply {
    let url = format!("http://{}/v1/readings{query}", gateway.rest);
    let answer = reqwest::Client::new().post(url).body(body).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    ReadingsReply { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

impl ReadingsReply {
    /// Checks status, readings by outcome, and lines with their outcomes.
    fn check_reply(&self, status: u16, readings: [u64; 3], problems: &[(usize, &str)]) {
        let Self { status: got, body } = self;
        assert_eq!(got.as_u16(), status, "{body}");
        let count = |name: &str| body["readings"][name].as_u64().unwrap();
        assert_eq!(["logged", "dead_lettered", "duplicates"].map(count), readings, "{body}");
        let found = body["problems"].as_array().unwrap().iter();
        let found: Vec<_> = found
            .map(|p| (p["line"].as_u64().unwrap() as usize, p["outcome"].as_str().unwrap()))
            .collect();
        assert_eq!(found, problems, "{body}");
    }
}

async fn logged_reports(gateway: &RunningGateway) -> Vec<SensorReport> {
    let entries = gateway.read_topic(topic::READINGS).await;
    entries.iter().map(|entry| SensorReport::from_json(&entry.record.payload).unwrap()).collect()
}

#[tokio::test]
async fn lines_are_messages_like_others() {
    let dir = tempfile::tempdir().unwrap();
    let mapping = r#"mappings=[{ convention = "template", site = "home", zone = "hall", topic = "plant/{device}", metrics = { "/soil/vwc" = "soil_moisture" } }]"#;
    let gateway = start_gateway(dir.path(), &[mapping]);
    let body = r#"
{"topic": "sensors/farm/bay-1/probe", "temperature": 21.5, "seq": 7, "boot": "b"}
{"topic": "sensors/farm/bay-1/probe", "temperature": 21.5, "seq": 7, "boot": "b"}
{"zone": "bay-2", "device": "probe", "temperature": 20, "warmth": 3}
{"zone": "bay-2", "device": "probe", "metric": "co2", "value": 412, "ts": "2026-01-01T00:00:00Z", "source": "backfill"}
{"topic": "plant/fern", "soil": {"vwc": 31}}
{"topic": "plant/fern", "payload": "{"}
{"temperature": 1}
{"temperature": 1
"#;
    let answer = post_readings(&gateway, "?site=farm", body).await;
    let problems = [
        (3, "duplicate"),
        (4, "dead_lettered"),
        (7, "dead_lettered"),
        (8, "refused"),
        (9, "refused"),
    ];
    answer.check_reply(400, [4, 2, 1], &problems);
    assert_eq!(answer.body["lines"], 8);
    assert_eq!(answer.body["error"]["code"], "lines_refused");
    assert_eq!(answer.body["problems"][1]["reason"], "unknown_metric");
    assert!(answer.body["problems"][3]["hint"].as_str().unwrap().contains("device"));
    gateway.check_totals([7, 4, 2, 1]);
    let found = logged_reports(&gateway).await;
    let found: Vec<_> =
        found.iter().map(|r| (r.zone.to_string(), r.readings[0].value, r.source)).collect();
    let expect = [
        ("farm/bay-1", 21.5, ReportSource::Live),
        ("farm/bay-2", 20.0, ReportSource::Live),
        ("farm/bay-2", 412.0, ReportSource::Backfill),
        ("home/hall", 31.0, ReportSource::Live),
    ];
    assert_eq!(found, expect.map(|(zone, value, source)| (zone.to_owned(), value, source)));
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn line_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    let body = "# two of one device\n\
                climate,device=probe,zone=bay-1 temperature=21.5,humidity=40i 1767225600000\n\
                co2,host=probe,zone=bay-1 value=412,warmth=7i 1767225600500\r\n\
                climate,zone=bay-1 temperature=1\n";
    let answer = post_readings(&gateway, "?site=farm&precision=ms", body).await;
    answer.check_reply(400, [3, 1, 0], &[(3, "dead_lettered"), (4, "refused")]);
    let times: Vec<_> =
        logged_reports(&gateway).await.iter().map(|r| r.readings[0].event_ms).collect();
    assert_eq!(times, [1_767_225_600_000, 1_767_225_600_500]);
    let answer =
        post_readings(&gateway, "?site=farm&precision=ms&zone=z", "climate,device=d co2=1").await;
    answer.check_reply(200, [1, 0, 0], &[]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn the_answer_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = start_gateway(dir.path(), &[]);
    let line = r#"{"topic": "sensors/farm/bay-1/probe", "temperature": 21.5}"#;
    post_readings(&gateway, "", line).await.check_reply(200, [1, 0, 0], &[]);
    gateway.faults.hold_syncs();
    {
        let mut pending = Box::pin(post_readings(&gateway, "", line));
        tokio::select! {
            answer = &mut pending => panic!("answered before it was durable: {}", answer.body),
            _ = gateway.wait_until("in flight", |ledger| ledger.totals.in_flight == 1) => {}
        }
        gateway.faults.release_syncs();
        within_timeout(pending).await.check_reply(200, [1, 0, 0], &[]);
    }
    // A record that never becomes durable is never reported as durable.
    gateway.faults.fail_syncs();
    let url = format!("http://{}/v1/readings", gateway.rest);
    // The gateway ends, with or without a response.
    if let Ok(answer) = within_timeout(reqwest::Client::new().post(url).body(line).send()).await {
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(gateway.wait_until_ended().await.is_err());
}

#[tokio::test]
async fn there_is_room_for_more_than_may_be_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let set = ["mqtt.packet_bytes_max=32768", "limits.in_flight_bytes_max=65536"];
    let gateway = start_gateway(dir.path(), &set);
    let lines: Vec<String> =
        (0..5000).map(|n| format!("c,site=s,zone=z,device=d seq={n}i,co2={n}")).collect();
    post_readings(&gateway, "", lines.join("\n")).await.check_reply(200, [5000, 0, 0], &[]);
    let seqs: Vec<_> = logged_reports(&gateway).await.iter().map(|r| r.seq.unwrap()).collect();
    assert_eq!(seqs, (0..5000).collect::<Vec<_>>());
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let gateway =
        start_gateway(dir.path(), &["mqtt.packet_bytes_max=2048", "limits.payload_bytes_max=1024"]);
    let check = async |query: &str, body: Vec<u8>, status: u16, expect: &str| {
        let answer = post_readings(&gateway, query, body).await;
        let text = answer.body.to_string();
        assert_eq!(answer.status.as_u16(), status, "{text}");
        assert!(text.contains(expect), "{text}");
    };
    check("?precision=h", Vec::new(), 400, "bad_query").await;
    check("?farm=x", Vec::new(), 400, "bad_query").await;
    check("", b"a\nb\xff".to_vec(), 400, "line 2 is not UTF-8").await;
    check("", vec![b'\n'; 10_001], 413, "more than 10000 lines").await;
    check("", vec![b'a'; 1024 * 1024 + 1], 413, "").await;
    check("", vec![b'a'; 2049], 400, "2049 bytes, expected at most 2048").await;
    check("", Vec::new(), 200, "\"lines\":0").await;
    let compressed = reqwest::Client::new()
        .post(format!("http://{}/v1/readings", gateway.rest))
        .header("content-encoding", "gzip")
        .body("x");
    let answer = compressed.send().await.unwrap().text().await.unwrap();
    assert!(answer.contains("unsupported_encoding"), "{answer}");
    gateway.check_totals([0, 0, 0, 0]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn a_token_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &["rest.token=secret"]);
    let line = json!({"topic": "sensors/s/z/d", "co2": 1}).to_string();
    assert_eq!(post_readings(&gateway, "", line.clone()).await.status, StatusCode::UNAUTHORIZED);
    let url = format!("http://{}/v1/readings", gateway.rest);
    let request = reqwest::Client::new().post(url).bearer_auth("secret").body(line);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    gateway.check_totals([1, 1, 0, 0]);
    gateway.stop_gateway().await;
}

#[tokio::test]
async fn the_feature_store_answers_get_on_the_same_path() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = start_gateway(dir.path(), &[]);
    // Panics if both have the same method.
    let _: Router =
        gateway.gateway.rest_routes().merge(Router::new().route("/v1/readings", get("")));
    gateway.stop_gateway().await;
}
