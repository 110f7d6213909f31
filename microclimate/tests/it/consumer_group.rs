//! Several feature stores share Kafka's partitions. One is added, one is stopped, one is killed. In
//! the end the owners of the zones have the same state as a single feature store.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use eventlog::{EventLog, EventLogConfig};
use serde_json::Value;

use crate::{
    history::{self, HistoryPlan, StoreState},
    support::{ChildProcess, ScriptedBroker, free_port, get_json, program_path, wait_for_json},
};

const ZONES: u32 = 12;
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_of_a_group_have_what_a_single_one_has() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kafka) = ScriptedBroker::start("kafka", &["java", "mvn"], dir.path()) else { return };
    let brokers = format!("127.0.0.1:{}", kafka.port);
    let log = EventLog::open(&EventLogConfig::for_kafka(&brokers)).unwrap();
    let records = history::generate_records(&HistoryPlan { zones: ZONES, days: 2, seed: 11 });
    let quarters: Vec<_> = records.chunks(records.len() / 4 + 1).collect();
    let store = |name: &str, group: &str, member: &str| {
        StoreMember::start_store(dir.path(), &brokers, name, group, member)
    };

    history::append_records(&log, quarters[0]).await;
    // One has a group member name of its own, the others have none.
    let a = store("a", "stores", "");
    let b = store("b", "stores", "store-b");
    wait_until_shared(&[&a, &b]).await;
    history::append_records(&log, quarters[1]).await;
    let mut c = store("c", "stores", "");
    wait_until_shared(&[&a, &b, &c]).await;
    // A stopped store gives its partitions back, and the others take them over at once.
    a.stop_store();
    wait_until_shared(&[&b, &c]).await;
    history::append_records(&log, quarters[2]).await;
    // A killed store's partitions are taken over after its session has timed out.
    c.running.kill();
    wait_until_shared(&[&b]).await;
    // A store that returns continues with its own file.
    let a = store("a", "stores", "");
    history::append_records(&log, quarters[3]).await;
    wait_until_shared(&[&a, &b]).await;

    let single = store("single", "", "");
    let expect = wait_for_json(&single.rest_url("/v1/zones"), "the end of the log", |zones| {
        latest_by_zone(zones).values().all(|latest| latest.is_some())
            && latest_by_zone(zones).len() == ZONES as usize
            && single_is_done(zones, &records)
    })
    .await;
    let expect = latest_by_zone(&expect);
    // Wait until each zone is served by exactly one store, up to its latest reading.
    let start = Instant::now();
    let owners = loop {
        let (zones_of_a, zones_of_b) =
            (latest_by_zone(&a.fetch_zones().await), latest_by_zone(&b.fetch_zones().await));
        let mut all = zones_of_a.clone();
        all.extend(zones_of_b.clone());
        if all == expect && zones_of_a.len() + zones_of_b.len() == expect.len() {
            break [(zones_of_a, a), (zones_of_b, b)];
        }
        assert!(start.elapsed() < TEST_TIMEOUT, "{all:?} is not {expect:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    // Each store sees the end of the data ten seconds after it.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let single = single.stop_store();
    let expect: StoreState = read_zone_states(&single);
    let mut got = StoreState::new();
    for (zones, store) in owners {
        let path = store.stop_store();
        history::check_consistent(&path);
        got.extend(
            read_zone_states(&path).into_iter().filter(|((zone, _), _)| zones.contains_key(zone)),
        );
    }
    assert!(expect.len() >= 4 * ZONES as usize, "{expect:?}");
    for (key, value) in &expect {
        assert_eq!(got.get(key), Some(value), "{key:?}");
    }
    assert_eq!(got.len(), expect.len());
}

/// State of the zones that have readings in a file.
fn read_zone_states(path: &Path) -> StoreState {
    let mut state = history::read_store_state(path);
    state.retain(|(zone, layer), _| *layer != "bronze" && zone.starts_with("farm/bay-"));
    state
}

/// Latest reading time by zone, ms.
fn latest_by_zone(answer: &Value) -> BTreeMap<String, Option<i64>> {
    let zones = answer["zones"].as_array().unwrap();
    zones
        .iter()
        .map(|zone| (zone["zone"].as_str().unwrap().to_owned(), zone["latest_ms"].as_i64()))
        .collect()
}

/// Whether the latest reading that counts of each zone has arrived.
fn single_is_done(zones: &Value, records: &[eventlog::Record]) -> bool {
    let newest = |zone: &str| {
        let of_zone = records.iter().filter(|record| record.key == zone);
        let reports = of_zone.filter_map(|r| telemetry::SensorReport::from_json(&r.payload).ok());
        reports.map(|report| report.readings[0].event_ms).max()
    };
    latest_by_zone(zones).iter().all(|(zone, latest)| *latest == newest(zone))
}

/// Waits until each zone is served by exactly one of the stores, and each store serves some.
async fn wait_until_shared(stores: &[&StoreMember]) {
    let start = Instant::now();
    loop {
        let mut owners: BTreeMap<String, usize> = BTreeMap::new();
        let mut each = Vec::new();
        for store in stores {
            let zones = latest_by_zone(&store.fetch_zones().await);
            each.push(zones.len());
            for zone in zones.into_keys() {
                *owners.entry(zone).or_default() += 1;
            }
        }
        let all = owners.len() == ZONES as usize && owners.values().all(|owners| *owners == 1);
        if all && each.iter().all(|zones| *zones > 0) {
            return;
        }
        assert!(start.elapsed() < TEST_TIMEOUT, "{each:?} {owners:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Running feature store.
struct StoreMember {
    running: ChildProcess,
    port: u16,
    path: PathBuf,
}

impl StoreMember {
    fn start_store(dir: &Path, brokers: &str, name: &str, group: &str, member: &str) -> Self {
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
        let mut command = Command::new(program_path("feature-store"));
        command.arg("run").current_dir(dir).args(set.iter().flat_map(|set| ["--set", set]));
        Self { running: ChildProcess::start(&mut command), port, path }
    }

    fn rest_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn fetch_zones(&self) -> Value {
        let start = Instant::now();
        loop {
            match get_json(&self.rest_url("/v1/zones")).await {
                Ok(zones) => return zones,
                Err(error) => assert!(start.elapsed() < TEST_TIMEOUT, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stops the store with SIGTERM and returns its file.
    fn stop_store(mut self) -> PathBuf {
        let status = self.running.terminate();
        assert!(status.success(), "{status}");
        self.path.clone()
    }
}
