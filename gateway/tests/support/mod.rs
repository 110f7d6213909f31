//! A gateway that runs in the test, over an embedded log with injected faults.

#![allow(dead_code)] // each test file uses its part of it

pub(crate) mod broker;
pub(crate) mod wire;

use std::{net::SocketAddr, net::TcpListener, path::Path, time::Duration};

use eventlog::{EventLog, FaultInjector, PartitionOffsets, StoredRecord};
use microclimate_gateway::{
    Gateway, GatewayError, GatewaySettings, GatewaySockets,
    ledger::{LedgerCounts, LedgerSnapshot},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Time-out that nothing correct reaches. A test that waits for it has failed.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) struct RunningGateway {
    pub(crate) gateway: Gateway,
    pub(crate) settings: GatewaySettings,
    pub(crate) mqtt: SocketAddr,
    pub(crate) rest: SocketAddr,
    pub(crate) log: EventLog,
    pub(crate) faults: FaultInjector,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<Result<(), GatewayError>>,
}

/// Starts a gateway over the log in `dir`.
pub(crate) fn start_gateway(dir: &Path, set: &[&str]) -> RunningGateway {
    try_start_gateway(dir, set).unwrap()
}

/// Starts a gateway over the log in `dir`, or returns why it cannot.
pub(crate) fn try_start_gateway(dir: &Path, set: &[&str]) -> Result<RunningGateway, GatewayError> {
    let mut set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    set.push(format!("log.dir={}", dir.display()));
    let settings = GatewaySettings::load(None, &set).unwrap();
    let faults = FaultInjector::default();
    let log = EventLog::open_with_faults(&settings.log, faults.clone()).unwrap();
    let gateway = Gateway::new(&settings, settings.metric_table().unwrap(), log.clone())?;
    let (mqtt_socket, mqtt) = bind_socket();
    let (rest_socket, rest) = bind_socket();
    let sockets = GatewaySockets { mqtt: Some(mqtt_socket), rest: Some(rest_socket) };
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
        async move { gateway.run(sockets, shutdown).await }
    });
    Ok(RunningGateway { gateway, settings, mqtt, rest, log, faults, shutdown, task })
}

fn bind_socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

impl RunningGateway {
    /// Waits until the gateway has ended.
    pub(crate) async fn wait_until_ended(&mut self) -> Result<(), GatewayError> {
        within_timeout(&mut self.task).await.unwrap()
    }

    /// Ends the gateway in order.
    pub(crate) async fn stop_gateway(mut self) {
        self.shutdown.cancel();
        self.wait_until_ended().await.unwrap();
    }

    /// Waits until the ledger meets a condition.
    pub(crate) async fn wait_until(
        &self,
        what: &str,
        is_so: impl Fn(&LedgerSnapshot) -> bool,
    ) -> LedgerSnapshot {
        let wait = async {
            loop {
                let ledger = self.gateway.ledger_snapshot();
                if is_so(&ledger) {
                    return ledger;
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(TEST_TIMEOUT, wait).await;
        found.unwrap_or_else(|_| panic!("not {what}: {:?}", self.gateway.ledger_snapshot()))
    }

    /// Checks the readings that were received, logged, dead-lettered and duplicates. All must be
    /// accounted for.
    pub(crate) fn check_totals(&self, expect: [u64; 4]) {
        let totals = self.gateway.ledger_snapshot().totals;
        let LedgerCounts { received, logged, dead_lettered, duplicates, in_flight, .. } = totals;
        assert_eq!([received, logged, dead_lettered, duplicates], expect, "{totals:?}");
        assert_eq!((in_flight, totals.unaccounted), (0, 0), "{totals:?}");
    }

    /// Reads all records of a topic of the log.
    pub(crate) async fn read_topic(&self, topic: &str) -> Vec<StoredRecord> {
        read_log(&self.log, topic).await
    }

    /// Sends GET and returns the JSON response.
    pub(crate) async fn get_json(&self, path: &str) -> serde_json::Value {
        let url = format!("http://{}{path}", self.rest);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Sends POST with JSON and returns the JSON response.
    pub(crate) async fn post_json(&self, path: &str, body: &str) -> serde_json::Value {
        let url = format!("http://{}{path}", self.rest);
        let request = reqwest::Client::new().post(url).body(body.to_owned());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }
}

impl Drop for RunningGateway {
    /// A blocked disk would also block the end of a failed test.
    fn drop(&mut self) {
        self.faults.release_syncs();
    }
}

/// Reads all records of a topic of a log.
pub(crate) async fn read_log(log: &EventLog, topic: &str) -> Vec<StoredRecord> {
    let end: i64 = log.offset_bounds(topic).unwrap().values().map(|offsets| offsets.end).sum();
    let mut reader = log.open_reader(topic, &PartitionOffsets::new()).unwrap();
    let mut entries = Vec::new();
    while entries.len() < usize::try_from(end).unwrap() {
        entries.extend(reader.next_batch(10_000, TEST_TIMEOUT).await.unwrap());
    }
    entries
}

/// Returns the result of work that takes almost no time.
pub(crate) async fn within_timeout<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, work).await.expect("an end")
}
