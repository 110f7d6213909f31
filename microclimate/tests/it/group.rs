//! Several feature stores share Kafka's partitions; one is added, one stopped,
//! one killed, and what the zones' owners have is what a single one has.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use eventlog::{EventLog, Settings};
use serde_json::Value;

use crate::{
    history::{self, Plan, State},
    support::{Broker, Running, free_port, get, program, wait_for},
};

const ZONES: u32 = 12;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_of_a_group_have_what_a_single_one_has() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kafka) = Broker::start("kafka", &["java", "mvn"], dir.path()) else { return };
    let brokers = format!("127.0.0.1:{}", kafka.port);
    let log = EventLog::open(&Settings::kafka(&brokers)).unwrap();
    let records = history::records(&Plan { zones: ZONES, days: 2, seed: 11 });
    let quarters: Vec<_> = records.chunks(records.len() / 4 + 1).collect();
    let store = |name: &str, group: &str, member: &str| {
        Store::start(dir.path(), &brokers, name, group, member)
    };

    history::append(&log, quarters[0]).await;
    // One with a name of its own, to which it is kept; the others without.
    let a = store("a", "stores", "");
    let b = store("b", "stores", "store-b");
    shared(&[&a, &b]).await;
    history::append(&log, quarters[1]).await;
    let mut c = store("c", "stores", "");
    shared(&[&a, &b, &c]).await;
    // It gives its partitions back, and the others take them over at once …
    a.stop();
    shared(&[&b, &c]).await;
    history::append(&log, quarters[2]).await;
    // … while one that is gone without a word is missed first.
    c.running.kill();
    shared(&[&b]).await;
    // One that comes back goes on in its own file.
    let a = store("a", "stores", "");
    history::append(&log, quarters[3]).await;
    shared(&[&a, &b]).await;

    let single = store("single", "", "");
    let expect = wait_for(&single.url("/v1/zones"), "the end of the log", |zones| {
        ends(zones).values().all(|latest| latest.is_some())
            && ends(zones).len() == ZONES as usize
            && single_is_done(zones, &records)
    })
    .await;
    let expect = ends(&expect);
    // Each zone is served by one of them, and as far as it can be.
    let start = Instant::now();
    let owners = loop {
        let (of_a, of_b) = (ends(&a.zones().await), ends(&b.zones().await));
        let mut all = of_a.clone();
        all.extend(of_b.clone());
        if all == expect && of_a.len() + of_b.len() == expect.len() {
            break [(of_a, a), (of_b, b)];
        }
        assert!(start.elapsed() < PATIENCE, "{all:?} is not {expect:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // The end of the data is seen ten seconds after it, by all of them.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let single = single.stop();
    let expect: State = of_zones(&single);
    let mut got = State::new();
    for (zones, store) in owners {
        let path = store.stop();
        history::check_consistent(&path);
        got.extend(of_zones(&path).into_iter().filter(|((zone, _), _)| zones.contains_key(zone)));
    }
    assert!(expect.len() >= 4 * ZONES as usize, "{expect:?}");
    for (key, value) in &expect {
        assert_eq!(got.get(key), Some(value), "{key:?}");
    }
    assert_eq!(got.len(), expect.len());
}

/// What a file has of the zones that have readings.
fn of_zones(path: &Path) -> State {
    let mut state = history::state(path);
    state.retain(|(zone, layer), _| *layer != "bronze" && zone.starts_with("farm/bay-"));
    state
}

/// Newest time by zone.
fn ends(zones: &Value) -> BTreeMap<String, Option<i64>> {
    let zones = zones["zones"].as_array().unwrap();
    zones
        .iter()
        .map(|zone| (zone["zone"].as_str().unwrap().to_owned(), zone["latest_ms"].as_i64()))
        .collect()
}

/// Whether the newest reading that counts of each zone has arrived.
fn single_is_done(zones: &Value, records: &[eventlog::Record]) -> bool {
    let newest = |zone: &str| {
        let of_zone = records.iter().filter(|record| record.key == zone);
        let reports = of_zone.filter_map(|r| telemetry::Report::from_json(&r.payload).ok());
        reports.map(|report| report.readings[0].event_ms).max()
    };
    ends(zones).iter().all(|(zone, latest)| *latest == newest(zone))
}

/// Waits until each zone is served by exactly one of the stores, and each has
/// some.
async fn shared(stores: &[&Store]) {
    let start = Instant::now();
    loop {
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        let mut each = Vec::new();
        for store in stores {
            let zones = ends(&store.zones().await);
            each.push(zones.len());
            for zone in zones.into_keys() {
                *owners.entry(zone).or_default() += 1;
            }
        }
        let all = owners.len() == ZONES as usize && owners.values().all(|owners| *owners == 1);
        if all && each.iter().all(|zones| *zones > 0) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{each:?} {owners:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// A running feature store.
struct Store {
    running: Running,
    port: u16,
    path: PathBuf,
}

impl Store {
    fn start(dir: &Path, brokers: &str, name: &str, group: &str, member: &str) -> Self {
        let (port, path) = (free_port(), dir.join(format!("{name}.duckdb")));
        let set = [
            "log.kind=kafka".to_owned(),
            format!("log.kafka.brokers={brokers}"),
            format!("log.kafka.group={group}"),
            format!("log.kafka.member={member}"),
            "log.kafka.session_timeout_ms=6000".to_owned(),
            format!("store.path={}", path.display()),
            format!("rest.listen=127.0.0.1:{port}"),
            "commit.interval_ms=50".to_owned(),
            "engine.late_max_s=7200".to_owned(),
        ];
        let mut command = Command::new(program("feature-store"));
        command.arg("run").current_dir(dir).args(set.iter().flat_map(|set| ["--set", set]));
        Self { running: Running::start(&mut command), port, path }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn zones(&self) -> Value {
        let start = Instant::now();
        loop {
            match get(&self.url("/v1/zones")).await {
                Ok(zones) => return zones,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGTERM; the file.
    fn stop(mut self) -> PathBuf {
        let status = self.running.terminate();
        assert!(status.success(), "{status}");
        self.path.clone()
    }
}
