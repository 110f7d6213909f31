use std::net::SocketAddr;

use eventlog::EventLog;
use microclimate_feature_store::FeatureStore;
use serde_json::Value;
use service::Secret;
use telemetry::{ReportSource, SensorReading, SensorReport, ZoneId};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::support::{append, readings, run, settings};

pub(crate) const MINUTE_MS: i64 = 60_000;
/// Monday 2025-06-02T00:00:00Z
pub(crate) const START_MS: i64 = 1_748_822_400_000;
/// Duration of the site's readings.
const MINUTES: i64 = 180;
/// Event time and arrival time of the late reading.
pub(crate) const LATE_EVENT_MS: i64 = START_MS + 30 * MINUTE_MS + 30_000;
pub(crate) const LATE_ARRIVAL_MS: i64 = START_MS + 90 * MINUTE_MS;

/// A feature store that serves what its log held, and no longer ingests.
pub(crate) struct ApiSite {
    pub(crate) store: FeatureStore,
    pub(crate) address: SocketAddr,
    _dir: TempDir,
}

pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl HttpAnswer {
    #[track_caller]
    pub(crate) fn parse_json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

fn probe_report(zone: &str, seq: i64, event_ms: i64, readings: &[(&str, f64)]) -> SensorReport {
    SensorReport {
        zone: zone.parse::<ZoneId>().unwrap(),
        device: "probe-1".into(),
        boot: Some("b1".into()),
        seq: Some(seq as u64),
        arrival_ms: event_ms,
        source: ReportSource::Replay,
        readings: readings
            .iter()
            .map(|(metric, value)| SensorReading {
                metric: (*metric).into(),
                event_ms,
                value: *value,
            })
            .collect(),
    }
}

/// Generates reports of two zones over three hours, in the order of arrival.
pub(crate) fn site_reports() -> Vec<SensorReport> {
    let mut reports = Vec::new();
    for minute in 0..=MINUTES {
        let at_ms = START_MS + minute * MINUTE_MS;
        let temperature = 20.0 + (minute % 60) as f64 / 20.0;
        let humidity = 55.0 - (minute % 60) as f64 / 10.0;
        let climate = [("temperature", temperature), ("humidity", humidity)];
        reports.push(probe_report("farm/bay-1", minute, at_ms, &climate));
        if minute % 2 == 0 {
            reports.push(probe_report(
                "farm/bay-2",
                minute,
                at_ms,
                &[("co2", 600.0 + minute as f64)],
            ));
        }
        if at_ms == LATE_ARRIVAL_MS {
            let mut late =
                probe_report("farm/bay-1", 1000, LATE_EVENT_MS, &[("temperature", 26.0)]);
            late.arrival_ms = LATE_ARRIVAL_MS;
            reports.push(late);
        }
        if minute == 45 {
            reports.push(probe_report(
                "farm/bay-1",
                1001,
                at_ms + 10_000,
                &[("temperature", 579.0)],
            ));
            reports.push(probe_report("farm/bay-1", 45, at_ms, &climate));
        }
    }
    reports
}

impl ApiSite {
    pub(crate) async fn new() -> Self {
        Self::with_token(Secret::default()).await
    }

    pub(crate) async fn with_token(token: Secret) -> Self {
        Self::open(token, &[""]).await
    }

    /// Opens a site whose definitions changed from each to the next; "" means the built-in ones.
    pub(crate) async fn with_versions(definitions: &[&str]) -> Self {
        Self::open(Secret::default(), definitions).await
    }

    async fn open(token: Secret, definitions: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let mut settings = settings(dir.path());
        let log = EventLog::open(&settings.log).unwrap();
        let reports = site_reports();
        append(&log, &reports).await;
        let mut store = None;
        for (version, text) in definitions.iter().enumerate() {
            if !text.is_empty() {
                settings.engine.features = dir.path().join(format!("{version}.toml"));
                std::fs::write(&settings.engine.features, text).unwrap();
            }
            // The file has one owner at a time.
            drop(store.take());
            store = Some(run(&settings, &log, readings(&reports)).await);
        }
        let store = store.unwrap();

        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let routes = microclimate_feature_store::service_routes(store.clone());
        tokio::spawn(service::rest::serve_routes(socket, routes, token, CancellationToken::new()));
        Self { store, address, _dir: dir }
    }

    pub(crate) async fn get(&self, path: &str) -> HttpAnswer {
        self.send_request("GET", path, &[], None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> HttpAnswer {
        self.send_request("POST", path, &[], Some(&body.to_string())).await
    }

    pub(crate) async fn send_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> HttpAnswer {
        let mut request = format!("{method} {path} HTTP/1.0\r\nhost: localhost\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            let length = body.len();
            request.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {length}\r\n"
            ));
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        let content_type = text.lines().find_map(|line| line.strip_prefix("content-type: "));
        HttpAnswer {
            status: text.split(' ').nth(1).unwrap().parse().unwrap(),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: answer[head + 4..].to_vec(),
        }
    }
}
