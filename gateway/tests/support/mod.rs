//! A gateway that runs in the test, over an embedded log whose disk obeys.

#![allow(dead_code)] // each test file uses its part of it

pub(crate) mod broker;
pub(crate) mod wire;

use std::{net::SocketAddr, net::TcpListener, path::Path, time::Duration};

use eventlog::{Entry, EventLog, Faults, Positions};
use gateway::{
    Gateway, GatewayError, Settings, Sockets,
    ledger::{Counts, Snapshot},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const AGES: Duration = Duration::from_mins(1);

pub(crate) struct Running {
    pub(crate) gateway: Gateway,
    pub(crate) settings: Settings,
    pub(crate) mqtt: SocketAddr,
    pub(crate) rest: SocketAddr,
    pub(crate) log: EventLog,
    pub(crate) faults: Faults,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<Result<(), GatewayError>>,
}

/// Starts a gateway over the log in `dir`.
pub(crate) fn start(dir: &Path, set: &[&str]) -> Running {
    try_start(dir, set).unwrap()
}

/// Starts a gateway over the log in `dir`, where its files can be used.
pub(crate) fn try_start(dir: &Path, set: &[&str]) -> Result<Running, GatewayError> {
    let mut set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    set.push(format!("log.dir={}", dir.display()));
    let settings = Settings::load(None, &set).unwrap();
    let faults = Faults::default();
    let log = EventLog::open_with(&settings.log, faults.clone()).unwrap();
    let gateway = Gateway::new(&settings, settings.metric_table().unwrap(), log.clone())?;
    let (mqtt_socket, mqtt) = socket();
    let (rest_socket, rest) = socket();
    let sockets = Sockets { mqtt: Some(mqtt_socket), rest: Some(rest_socket) };
    let shutdown = CancellationToken::new();
    let task = tokio::spawn({
        let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
        async move { gateway.run(sockets, shutdown).await }
    });
    Ok(Running { gateway, settings, mqtt, rest, log, faults, shutdown, task })
}

fn socket() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

impl Running {
    /// Waits until the gateway has ended.
    pub(crate) async fn ended(&mut self) -> Result<(), GatewayError> {
        within(&mut self.task).await.unwrap()
    }

    /// Ends it in the orderly way.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.ended().await.unwrap();
    }

    /// Waits until the ledger is as wanted.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let wait = async {
            loop {
                let ledger = self.gateway.ledger();
                if is_so(&ledger) {
                    return ledger;
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(AGES, wait).await;
        found.unwrap_or_else(|_| panic!("not {what}: {:?}", self.gateway.ledger()))
    }

    /// Readings that were received, logged, dead-lettered, duplicates; all
    /// accounted for.
    pub(crate) fn check(&self, expect: [u64; 4]) {
        let totals = self.gateway.ledger().totals;
        let Counts { received, logged, dead_lettered, duplicates, in_flight, .. } = totals;
        assert_eq!([received, logged, dead_lettered, duplicates], expect, "{totals:?}");
        assert_eq!((in_flight, totals.unaccounted), (0, 0), "{totals:?}");
    }

    /// Everything in a topic of the log.
    pub(crate) async fn read(&self, topic: &str) -> Vec<Entry> {
        read(&self.log, topic).await
    }

    /// GET, as JSON.
    pub(crate) async fn get(&self, path: &str) -> serde_json::Value {
        let url = format!("http://{}{path}", self.rest);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// POST of JSON, answered as JSON.
    pub(crate) async fn post(&self, path: &str, body: &str) -> serde_json::Value {
        let url = format!("http://{}{path}", self.rest);
        let request = reqwest::Client::new().post(url).body(body.to_owned());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }
}

impl Drop for Running {
    /// A held disk would hold the end of a failed test too.
    fn drop(&mut self) {
        self.faults.release();
    }
}

/// Everything in a topic of a log.
pub(crate) async fn read(log: &EventLog, topic: &str) -> Vec<Entry> {
    let end: i64 = log.bounds(topic).unwrap().values().map(|offsets| offsets.end).sum();
    let mut reader = log.reader(topic, &Positions::new()).unwrap();
    let mut entries = Vec::new();
    while entries.len() < usize::try_from(end).unwrap() {
        entries.extend(reader.next_batch(10_000, AGES).await.unwrap());
    }
    entries
}

/// The result of something that takes no time worth speaking of.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(AGES, work).await.expect("an end")
}
