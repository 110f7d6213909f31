//! A few days of readings as they arrive in the field, and the state that a feature store makes of
//! them.

use std::{collections::BTreeMap, path::Path};

use duckdb::Connection;
use eventlog::{EventLog, Record};
use telemetry::{ReportSource, SensorReading, SensorReport, SmolStr, ZoneId, topic::READINGS};

const MINUTE_MS: i64 = 60_000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;

/// Extent of the generated history.
pub(crate) struct HistoryPlan {
    pub(crate) zones: u32,
    pub(crate) days: i64,
    pub(crate) seed: u64,
}

/// Random numbers that are the same on every machine: xorshift64*.
pub(crate) struct HistoryRng(pub(crate) u64);

impl HistoryRng {
    pub(crate) fn next_below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.next_below(times) == 0
    }
}

/// Generates log records in the order in which they arrive: two devices per zone, a report every
/// two minutes. Some are out of order, some are duplicates, some are hours late, some are too late
/// for corrections, some are wrong, and some are not reports.
pub(crate) fn generate_records(plan: &HistoryPlan) -> Vec<Record> {
    let mut rng = HistoryRng(plan.seed);
    let mut sent: Vec<(i64, Record)> = Vec::new();
    for zone in 0..plan.zones {
        for device in 0..2_u32 {
            let name = format!("probe-{device}");
            for tick in 0..plan.days * 720 {
                let event_ms = START_MS + tick * 2 * MINUTE_MS + i64::from(zone) * 1700;
                // The second device of each third zone is offline for five hours a day.
                let offline = zone % 3 == 0 && device == 1 && (300..450).contains(&(tick % 720));
                let late_ms = match rng.next_below(400) {
                    0..20 => rng.next_below(40 * 60_000) as i64,
                    20..22 => 3 * 60 * MINUTE_MS,
                    _ if offline => (450 - tick % 720) * 2 * MINUTE_MS,
                    _ => rng.next_below(3000) as i64,
                };
                let report = generate_report(
                    zone,
                    &name,
                    tick,
                    event_ms,
                    event_ms + late_ms,
                    offline,
                    &mut rng,
                );
                let key = report.zone.to_string();
                let mut record = Record::new(key, report.to_json(), report.arrival_ms);
                if rng.once_in(50) {
                    sent.push((
                        event_ms + late_ms + rng.next_below(600_000) as i64,
                        record.clone(),
                    ));
                }
                match rng.next_below(300) {
                    0 => record.payload = record.payload.slice(..record.payload.len() / 2),
                    1 => "farm/elsewhere".clone_into(&mut record.key),
                    _ => {}
                }
                sent.push((event_ms + late_ms, record));
            }
        }
    }
    sent.sort_by_key(|(at_ms, _)| *at_ms);
    sent.into_iter().map(|(_, record)| record).collect()
}

fn generate_report(
    zone: u32,
    device: &str,
    tick: i64,
    event_ms: i64,
    arrival_ms: i64,
    offline: bool,
    rng: &mut HistoryRng,
) -> SensorReport {
    let hours = tick as f64 / 30.0;
    let noise = |rng: &mut HistoryRng| rng.next_below(100) as f64 / 100.0;
    let mut values = vec![
        ("temperature", 20.0 + 4.0 * (hours / 3.8).sin() + noise(rng)),
        ("humidity", 55.0 + 10.0 * (hours / 5.0).cos() + noise(rng)),
    ];
    match zone % 2 {
        0 => values.push(("soil_moisture", 40.0 - (hours % 24.0) / 2.0 + noise(rng))),
        _ => values.push(("co2", (420.0 + 80.0 * noise(rng)).round())),
    }
    match rng.next_below(250) {
        0 => values[0].1 = 579.0,
        1 => values[1].1 = f64::NAN,
        _ => {}
    }
    let readings = values.into_iter().map(|(metric, value)| SensorReading {
        metric: metric.into(),
        event_ms,
        value: (value * 100.0).round() / 100.0,
    });
    SensorReport {
        zone: ZoneId::new("farm", format!("bay-{zone}")),
        device: device.into(),
        // A new boot id each day.
        boot: Some(SmolStr::from(format!("run-{}", tick / 720))),
        seq: Some((tick % 720) as u64),
        arrival_ms,
        source: if offline { ReportSource::Backfill } else { ReportSource::Replay },
        readings: readings.collect(),
    }
}

/// Appends records and waits until they are durable.
pub(crate) async fn append_records(log: &EventLog, records: &[Record]) {
    let writer = log.open_writer(READINGS).unwrap();
    let mut receipts = Vec::new();
    for record in records {
        receipts.push(writer.append(record.clone()).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
}

/// Number of rows and sum of their hashes, for each zone and layer.
pub(crate) type StoreState = BTreeMap<(String, &'static str), (u64, String)>;

/// Reads everything that a file holds, by zone, so that any difference shows.
pub(crate) fn read_store_state(path: &Path) -> StoreState {
    let connection = Connection::open(path).unwrap();
    let mut state = StoreState::new();
    let mut add = |layer: &'static str, zone: &str, from: &str, columns: &str| {
        let sql = format!(
            "SELECT {zone}, count(*), sum(hash({columns})::HUGEINT)::VARCHAR FROM {from} GROUP BY 1"
        );
        let mut statement = connection.prepare(&sql).unwrap();
        let found = statement.query_map([], |row| {
            Ok(((row.get::<_, String>(0)?, layer), (row.get(1)?, row.get::<_, String>(2)?)))
        });
        for found in found.unwrap() {
            let (key, value) = found.unwrap();
            state.insert(key, value);
        }
    };
    add("bronze", "key", "bronze.records", "\"offset\", arrival, payload, reject");
    add(
        "silver",
        "site || '/' || zone",
        "silver.readings",
        "\"offset\", item, device, boot, seq, source, metric, event, arrival, value, quality",
    );
    add("dead letters", "key", "bronze.dead_letters", "\"offset\", item, arrival, reason");
    add("zones", "site || '/' || zone", "meta.zones", "newest, progress");
    // Sorted by name, because the order in which metrics of several partitions arrive varies.
    let mut statement = connection
        .prepare(
            "SELECT '\"' || column_name || '\"' FROM duckdb_columns()
             WHERE schema_name = 'features' AND table_name = 'rows'
               AND column_name NOT IN ('schema_hash', 'definition_hash') ORDER BY column_name",
        )
        .unwrap();
    let names = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let names: Vec<String> = names.map(Result::unwrap).collect();
    add("features", "site || '/' || zone", "features.rows", &names.join(", "));
    state
}

/// Checks what must hold in a file at any time, whenever its process was killed.
pub(crate) fn check_consistent(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let check = |what: &str, sql: &str| {
        let wrong: u64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(wrong, 0, "{what}");
    };
    check(
        "each record up to the position is stored once",
        "SELECT count(*) FROM meta.positions p FULL JOIN (
             SELECT partition, count(*) AS records, max(\"offset\") + 1 AS next FROM bronze.records GROUP BY ALL
         ) r USING (partition)
         WHERE p.next_offset IS DISTINCT FROM r.next OR p.next_offset IS DISTINCT FROM r.records",
    );
    check(
        "counters equal the stored rows",
        "SELECT count(*) FROM meta.counters c JOIN (
             SELECT 'readings_' || quality AS name, count(*) AS n FROM silver.readings GROUP BY ALL
             UNION ALL SELECT 'rows', count(*) FROM features.rows
             UNION ALL SELECT 'corrections', count(*) FROM features.rows WHERE revision > 0
             UNION ALL SELECT 'rejects', count(*) FROM bronze.records WHERE reject IS NOT NULL
         ) r USING (name) WHERE c.count <> r.n",
    );
    check(
        "no row is stored twice",
        "SELECT count(*) FROM (SELECT 1 FROM features.rows GROUP BY site, zone, time, revision HAVING count(*) > 1)",
    );
}
