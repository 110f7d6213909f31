//! SQL of definitions in the engine: what DuckDB computes of readings and rows is what
//! the same readings, changed by hand before they come, would have given.

use std::collections::BTreeMap;

use feature_store::{
    Row, Settings,
    definitions::SqlReading,
    engine::{Engine, Output},
};
use proptest::prelude::*;
use telemetry::{Metric, MetricTable, Quality, Reading, Report, SmolStr, Source, ZoneId};

const START_MS: i64 = 1_748_822_400_000;

/// Fahrenheit and a filter by SQL, a join by SQL made of a join by formula.
const BY_SQL: &str = r#"
version = 1
[windows]
10m = ["count", "mean", "std", "max"]
1h = ["mean", "slope", "integral"]
[metrics.co2]
where = "value < 1500 AND device <> 'broken'"
[derived.warmth]
from = "temperature"
value = "value * 1.8 + 32"
windows.10m = ["count", "mean", "std", "max"]
windows.1h = ["mean", "slope", "integral"]
[joins.excess]
formula = "difference"
inputs = ["co2_mean_10m", "co2_mean_1h"]
[joins.twice]
value = "excess * 2"
[joins.twice_and_one]
value = "coalesce(twice, 0) + 1"
"#;

/// The same for readings that are changed by hand: `pressure` stands for `warmth`.
const BY_HAND: &str = r#"
version = 1
[windows]
10m = ["count", "mean", "std", "max"]
1h = ["mean", "slope", "integral"]
[joins.excess]
formula = "difference"
inputs = ["co2_mean_10m", "co2_mean_1h"]
"#;

fn engine(definitions: &str) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default().engine;
    settings.features = dir.path().join("features.toml");
    std::fs::write(&settings.features, definitions).unwrap();
    Engine::new(&settings, metrics(), &[]).unwrap()
}

/// Wide enough for Fahrenheit.
fn metrics() -> MetricTable {
    let pressure = MetricTable::default().get("pressure").cloned().unwrap();
    let wide = Metric { min: -1000.0, max: 10_000.0, resolution: None, ..pressure };
    MetricTable::extended([("pressure".into(), wide)]).unwrap()
}

fn report(device: &str, event_ms: i64, late_ms: i64, metric: &str, value: f64) -> Report {
    Report {
        zone: ZoneId::new("farm", "bay-1"),
        device: device.into(),
        boot: None,
        seq: None,
        arrival_ms: event_ms + late_ms,
        source: Source::Replay,
        readings: vec![Reading { metric: metric.into(), event_ms, value }],
    }
}

/// Readings in batches, some known only after the row that they belong to.
fn history() -> impl Strategy<Value = Vec<Vec<Report>>> {
    let one = (1..60_i64, 0..3_usize, -40..60_i32, prop_oneof![5 => Just(0), 1 => 0..200_000_i64]);
    prop::collection::vec(prop::collection::vec(one, 1..40), 1..8).prop_map(|batches| {
        let mut at_ms = START_MS;
        let mut of = |(step_s, who, noise, late_ms): (i64, usize, i32, i64)| {
            at_ms += step_s * 1000;
            match who {
                0 => report("probe", at_ms, late_ms, "temperature", f64::from(noise) / 2.0),
                1 => report("meter", at_ms, late_ms, "co2", 1000.0 + 20.0 * f64::from(noise)),
                _ => report("broken", at_ms, late_ms, "co2", 700.0 + f64::from(noise)),
            }
        };
        // In the order of arrival, as a log has them.
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        let mut all: Vec<Report> = batches.into_iter().flatten().map(&mut of).collect();
        all.sort_by_key(|report| report.arrival_ms);
        let mut all = all.into_iter();
        sizes.into_iter().map(|size| all.by_ref().take(size).collect()).collect()
    })
}

/// What SQL does, done before the reading comes.
fn by_hand_of(report: &Report) -> Vec<Report> {
    let Reading { metric, value, event_ms } = &report.readings[0];
    match metric.as_str() {
        "co2" if *value >= 1500.0 || report.device == "broken" => Vec::new(),
        "temperature" => {
            let late_ms = report.arrival_ms - event_ms;
            let fahrenheit =
                crate::report("probe", *event_ms, late_ms, "pressure", value * 1.8 + 32.0);
            vec![report.clone(), fahrenheit]
        }
        _ => vec![report.clone()],
    }
}

fn run(engine: &mut Engine, batches: &[Vec<Report>], is_told: bool) -> (Vec<Row>, Vec<Quality>) {
    let (mut rows, mut qualities) = (Vec::new(), Vec::new());
    for batch in batches {
        let mut output = Output::default();
        if is_told {
            engine.run_ahead(batch.iter().flat_map(SqlReading::of_report));
        }
        batch
            .iter()
            .for_each(|report| engine.ingest_report(report, report.arrival_ms, &mut output));
        engine.join(&mut output.rows);
        rows.extend(output.rows);
        qualities.extend(output.qualities);
    }
    (rows, qualities)
}

/// The end of the data.
fn finish(engine: &mut Engine, rows: &mut Vec<Row>) {
    let mut output = Output::default();
    engine.finish(&mut output);
    rows.extend(output.rows);
}

/// The row of each time as known, and the newest.
fn tables(rows: &[Row]) -> BTreeMap<(i64, bool), &Row> {
    let mut tables: BTreeMap<(i64, bool), &Row> = BTreeMap::new();
    for row in rows {
        if row.revision == 0 {
            tables.insert((row.at_ms, true), row);
        }
        let newest = tables.entry((row.at_ms, false)).or_insert(row);
        if row.revision > newest.revision {
            *newest = row;
        }
    }
    tables
}

fn value(row: &Row, name: &str) -> f64 {
    let column = row.schema.names.iter().position(|own| own == name);
    column.map_or(f64::NAN, |column| row.values[column])
}

fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Two zones or devices measure the same at the same time, the first of them twice: a copy is
/// judged before any SQL is asked about it, and what SQL said of it is left over. Only the
/// reading of the first passes the filter.
fn check_same_readings(filter: &str, sources: [(&str, &str); 2]) {
    let definitions =
        format!("version = 1\n[windows]\n1h = ['count']\n[metrics.light]\nwhere = \"{filter}\"");
    let of = |(zone, device): (&str, &str), event_ms: i64| Report {
        zone: zone.parse().unwrap(),
        ..report(device, event_ms, 0, "light", 7.0)
    };
    let [first, second] = sources;
    let batch = [first, first, second].map(|source| of(source, START_MS));
    let zones = sources.map(|(zone, _)| zone.parse::<ZoneId>().unwrap());
    let mut engine = engine(&definitions);
    let mut output = Output::default();
    engine.run_ahead(batch.iter().flat_map(SqlReading::of_report));
    batch.iter().for_each(|report| engine.ingest_report(report, report.arrival_ms, &mut output));
    assert_eq!(output.qualities, [Quality::Ok, Quality::Duplicate, Quality::Ok]);
    for zone in &zones {
        engine.complete(zone, START_MS + 600_000, &mut output);
    }
    let count = |zone: &ZoneId| {
        let rows = output.rows.iter().filter(|row| row.zone == *zone);
        rows.map(|row| value(row, "light_count_1h")).fold(0.0, f64::max)
    };
    assert_eq!([count(&zones[0]), count(&zones[1])], [1.0, 0.0], "{filter}");
}

#[test]
fn one_zone_never_gets_the_result_of_another() {
    check_same_readings("zone = 'bay-1'", [("farm/bay-1", "probe"), ("farm/bay-2", "probe")]);
    check_same_readings("site = 'farm'", [("farm/bay-1", "probe"), ("field/bay-1", "probe")]);
    check_same_readings("device = 'one'", [("farm/bay-1", "one"), ("farm/bay-2", "two")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sql_is_what_is_done_by_hand(batches in history()) {
        let (mut engine_by_sql, mut engine_by_hand) = (engine(BY_SQL), engine(BY_HAND));
        let (mut by_sql, qualities) = run(&mut engine_by_sql, &batches, true);
        prop_assert!(qualities.iter().all(|quality| quality.is_ok()), "a filter is no judgement");
        let changed: Vec<Vec<Report>> =
            batches.iter().map(|batch| batch.iter().flat_map(by_hand_of).collect()).collect();
        let (mut by_hand, _) = run(&mut engine_by_hand, &changed, true);
        finish(&mut engine_by_sql, &mut by_sql);
        finish(&mut engine_by_hand, &mut by_hand);
        // By hand nobody notices that time passes while only dropped readings come: rows are computed
        // again at other times, and so have other numbers, but the first and the last are the same.
        let sql_tables = tables(&by_sql);
        for ((at_ms, is_as_known), own) in tables(&by_hand) {
            let Some(row) = sql_tables.get(&(at_ms, is_as_known)) else {
                panic!("no row at {at_ms}, as known {is_as_known}")
            };
            for (a, b) in [("warmth", "pressure"), ("co2", "co2"), ("temperature", "temperature")] {
                for of in ["count_10m", "mean_10m", "std_10m", "max_10m", "mean_1h", "slope_1h", "integral_1h"] {
                    let (found, expect) = (value(row, &format!("{a}_{of}")), value(own, &format!("{b}_{of}")));
                    // Before its first reading a metric has no columns.
                    let none = of.starts_with("count") && found.max(expect) == 0.0;
                    prop_assert!(none || same(found, expect), "{a}_{of} at {}: {found}, expected {expect}", own.at_ms);
                }
            }
            let twice = value(own, "excess") * 2.0;
            prop_assert!(same(value(row, "twice"), twice));
            let one_more = if twice.is_nan() { 1.0 } else { twice + 1.0 };
            prop_assert!(same(value(row, "twice_and_one"), one_more));
        }
    }

    #[test]
    fn readings_that_were_not_told_of_are_run_all_the_same(batches in history()) {
        let bits = |rows: &[Row]| -> Vec<(i64, i64, Vec<u64>)> {
            let of = |row: &Row| row.values.iter().map(|value| value.to_bits()).collect();
            rows.iter().map(|row| (row.at_ms, row.revision, of(row))).collect()
        };
        let (told, _) = run(&mut engine(BY_SQL), &batches, true);
        let (not_told, _) = run(&mut engine(BY_SQL), &batches, false);
        prop_assert_eq!(bits(&told), bits(&not_told));
    }

    #[test]
    fn a_restart_goes_on_as_if_there_had_been_none(batches in history()) {
        let (before, after) = batches.split_at(batches.len() / 2);
        let mut whole = engine(BY_SQL);
        let (_, qualities) = run(&mut whole, before, true);
        let mut restarted = engine(BY_SQL);
        for (zone, _, progress) in whole.zones() {
            // As the file keeps it.
            let json = serde_json::to_string(progress).unwrap();
            restarted.restore_zone(zone.clone(), serde_json::from_str(&json).unwrap());
        }
        let taken: Vec<&Report> = before.iter().flatten().collect();
        restarted.run_ahead(taken.iter().flat_map(|report| SqlReading::of_report(report)));
        for (report, quality) in taken.iter().zip(qualities) {
            let (arrival_ms, reading) = (report.arrival_ms, &report.readings[0]);
            restarted.restore(&report.zone, &report.device, None, reading, arrival_ms, quality);
        }
        let names = |rows: &[Row]| -> Vec<(i64, i64, Vec<(SmolStr, u64)>)> {
            let of = |row: &Row| -> Vec<(SmolStr, u64)> {
                let named = row.schema.names.iter().cloned().zip(row.values.iter().map(|v| v.to_bits()));
                let mut named: Vec<_> = named.filter(|(_, bits)| !f64::from_bits(*bits).is_nan()).collect();
                named.sort();
                named
            };
            rows.iter().map(|row| (row.at_ms, row.revision, of(row))).collect()
        };
        let (expect, _) = run(&mut whole, after, true);
        let (found, _) = run(&mut restarted, after, true);
        prop_assert_eq!(names(&found), names(&expect));
    }
}
