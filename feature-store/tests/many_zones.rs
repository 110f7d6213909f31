//! More zones than fit in memory: evicted zones come back unchanged.

mod support;

use std::collections::{BTreeMap, HashMap};

use duckdb::Connection;
use eventlog::EventLog;
use support::{append, readings, run, settings};
use telemetry::{ReportSource, SensorReading, SensorReport, ZoneId};
use tempfile::TempDir;

const SECOND_MS: i64 = 1000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;
/// Time after the last reading of a zone after which its row had become final.
const SETTLED_MS: i64 = 300 * SECOND_MS;

/// A random generator without a crate: SplitMix64 (Steele, Lea, Flood, 2014).
struct SplitMixRng(u64);

impl SplitMixRng {
    fn next_below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Generates reports of zones with steady readings, zones with readings for some minutes and then
/// none for an hour, and names that occur once; some readings are late.
fn generate_reports(seed: u64) -> Vec<SensorReport> {
    let mut numbers = SplitMixRng(seed);
    let mut reports = Vec::new();
    for second in (0..4 * 3600).step_by(20) {
        let at_ms = START_MS + second * SECOND_MS;
        let steady = (0..4).map(|zone| format!("steady-{zone}"));
        let phase = second / 300;
        let now_and_then =
            (0..30).filter(|zone| (phase + zone) % 12 == 0).map(|zone| format!("seldom-{zone}"));
        let junk = (numbers.next_below(3) == 0).then(|| format!("junk-{second}"));
        for zone in steady.chain(now_and_then).chain(junk) {
            let late_ms = if numbers.next_below(10) == 0 {
                numbers.next_below(900) as i64 * SECOND_MS
            } else {
                0
            };
            let value = 20.0 + numbers.next_below(100) as f64 / 10.0;
            let event_ms = at_ms - late_ms;
            reports.push(SensorReport {
                zone: ZoneId::new("farm", zone),
                device: "probe".into(),
                boot: Some("b".into()),
                seq: Some(reports.len() as u64),
                arrival_ms: at_ms,
                source: ReportSource::Live,
                readings: vec![SensorReading { metric: "temperature".into(), event_ms, value }],
            });
        }
    }
    reports
}

/// Hash of each row as known, by zone and time.
type RowHashes = BTreeMap<(String, i64), u64>;

/// Keeps revision 0 of the rows that a zone's own readings made final.
fn settled_rows(rows: RowHashes, reports: &[SensorReport]) -> RowHashes {
    let mut last_ms: HashMap<String, i64> = HashMap::new();
    for report in reports {
        last_ms.insert(report.zone.to_string(), report.arrival_ms);
    }
    rows.into_iter().filter(|((zone, at_ms), _)| *at_ms <= last_ms[zone] - SETTLED_MS).collect()
}

/// Runs a store with `zones_max` zones in memory; returns its rows and the number of evictions.
async fn run_and_read_rows(zones_max: usize, reports: &[SensorReport]) -> (RowHashes, u64) {
    let dir = TempDir::new().unwrap();
    let mut settings = settings(dir.path());
    settings.engine.zones_max = zones_max;
    settings.commit.interval_ms = 50;
    let log = EventLog::open(&settings.log).unwrap();
    append(&log, reports).await;
    let store = run(&settings, &log, readings(reports)).await;
    let metrics = store.render_prometheus();
    let is_count = |line: &&str| !line.starts_with('#') && line.contains("zones_evicted_total ");
    let evicted = metrics.lines().find(is_count);
    let evicted = evicted.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    drop(store);
    let connection = Connection::open(&settings.store.path).unwrap();
    let mut statement = connection
        .prepare(
            "SELECT site || '/' || zone, epoch_ms(time), hash(r) FROM features.rows r
             WHERE revision = 0",
        )
        .unwrap();
    let found = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)));
    (found.unwrap().map(Result::unwrap).collect(), evicted)
}

#[tokio::test(flavor = "multi_thread")]
async fn evicted_zones_come_back_as_they_were() {
    let reports = generate_reports(7);
    let (expect, none) = run_and_read_rows(10_000, &reports).await;
    let (found, evicted) = run_and_read_rows(10, &reports).await;
    assert_eq!(none, 0);
    assert!(evicted > 200, "{evicted}");
    let (expect, found) = (settled_rows(expect, &reports), settled_rows(found, &reports));
    assert!(expect.len() > 2_000, "{} rows", expect.len());
    let wrong = expect.iter().find(|(at, hash)| found.get(*at) != Some(hash));
    assert_eq!(wrong, None, "{:?}", wrong.map(|(at, _)| found.get(at)));
    assert_eq!(found.len(), expect.len());
}
