//! SQL of definitions in the engine: DuckDB's results over readings and rows equal those of
//! readings that were changed by hand before they are ingested.

use feature_engine::sql::SqlReading;
use microclimate_feature_store::sql_expressions::open_engine;
use std::collections::BTreeMap;

use microclimate_feature_store::{
    FeatureRow, FeatureStoreSettings,
    engine::{EngineOutput, FeatureEngine},
};
use proptest::prelude::*;
use telemetry::{
    MetricSpec, MetricTable, QualityFlag, ReportSource, SensorReading, SensorReport, SmolStr,
    ZoneId,
};

const START_MS: i64 = 1_748_822_400_000;

/// Fahrenheit and a filter by SQL, and a join by SQL over a join by formula.
const SQL_DEFINITIONS: &str = r#"
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
const PLAIN_DEFINITIONS: &str = r#"
version = 1
[windows]
10m = ["count", "mean", "std", "max"]
1h = ["mean", "slope", "integral"]
[joins.excess]
formula = "difference"
inputs = ["co2_mean_10m", "co2_mean_1h"]
"#;

fn engine_with_definitions(definitions: &str) -> FeatureEngine {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = FeatureStoreSettings::default().engine;
    settings.features = dir.path().join("features.toml");
    std::fs::write(&settings.features, definitions).unwrap();
    open_engine(&settings, wide_pressure_metrics(), &[]).unwrap()
}

/// Metrics with a range wide enough for Fahrenheit.
fn wide_pressure_metrics() -> MetricTable {
    let pressure = MetricTable::default().get("pressure").cloned().unwrap();
    let wide = MetricSpec { min: -1000.0, max: 10_000.0, resolution: None, ..pressure };
    MetricTable::with_site_metrics([("pressure".into(), wide)]).unwrap()
}

fn bay_report(device: &str, event_ms: i64, late_ms: i64, metric: &str, value: f64) -> SensorReport {
    SensorReport {
        zone: ZoneId::new("farm", "bay-1"),
        device: device.into(),
        boot: None,
        seq: None,
        arrival_ms: event_ms + late_ms,
        source: ReportSource::Replay,
        readings: vec![SensorReading { metric: metric.into(), event_ms, value }],
    }
}

/// Generates readings in batches, some of which arrive only after the row that they belong to.
fn arbitrary_batches() -> impl Strategy<Value = Vec<Vec<SensorReport>>> {
    let one = (1..60_i64, 0..3_usize, -40..60_i32, prop_oneof![5 => Just(0), 1 => 0..200_000_i64]);
    prop::collection::vec(prop::collection::vec(one, 1..40), 1..8).prop_map(|batches| {
        let mut at_ms = START_MS;
        let mut of = |(step_s, who, noise, late_ms): (i64, usize, i32, i64)| {
            at_ms += step_s * 1000;
            match who {
                0 => bay_report("probe", at_ms, late_ms, "temperature", f64::from(noise) / 2.0),
                1 => bay_report("meter", at_ms, late_ms, "co2", 1000.0 + 20.0 * f64::from(noise)),
                _ => bay_report("broken", at_ms, late_ms, "co2", 700.0 + f64::from(noise)),
            }
        };
        // In the order of arrival, as in a log.
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        let mut all: Vec<SensorReport> = batches.into_iter().flatten().map(&mut of).collect();
        all.sort_by_key(|report| report.arrival_ms);
        let mut all = all.into_iter();
        sizes.into_iter().map(|size| all.by_ref().take(size).collect()).collect()
    })
}

/// Applies the effect of the SQL before the reading is ingested.
fn apply_by_hand(report: &SensorReport) -> Vec<SensorReport> {
    let SensorReading { metric, value, event_ms } = &report.readings[0];
    match metric.as_str() {
        "co2" if *value >= 1500.0 || report.device == "broken" => Vec::new(),
        "temperature" => {
            let late_ms = report.arrival_ms - event_ms;
            let fahrenheit =
                crate::bay_report("probe", *event_ms, late_ms, "pressure", value * 1.8 + 32.0);
            vec![report.clone(), fahrenheit]
        }
        _ => vec![report.clone()],
    }
}

fn run_batches(
    engine: &mut FeatureEngine,
    batches: &[Vec<SensorReport>],
    is_batched: bool,
) -> (Vec<FeatureRow>, Vec<QualityFlag>) {
    let (mut rows, mut qualities) = (Vec::new(), Vec::new());
    for batch in batches {
        let mut output = EngineOutput::default();
        if is_batched {
            let readings = batch.iter().flat_map(SqlReading::from_report);
            engine.ingest_batch(readings, &mut output, |ingest| {
                for report in batch {
                    ingest.ingest_report(report, report.arrival_ms);
                }
            });
        } else {
            batch
                .iter()
                .for_each(|report| engine.ingest_report(report, report.arrival_ms, &mut output));
        }
        rows.extend(output.rows);
        qualities.extend(output.qualities);
    }
    (rows, qualities)
}

/// Handles the end of the data.
fn finish_engine(engine: &mut FeatureEngine, rows: &mut Vec<FeatureRow>) {
    let mut output = EngineOutput::default();
    engine.finish_all(&mut output);
    rows.extend(output.rows);
}

/// Returns the row of each time as known, and the newest.
fn known_and_newest_rows(rows: &[FeatureRow]) -> BTreeMap<(i64, bool), &FeatureRow> {
    let mut tables: BTreeMap<(i64, bool), &FeatureRow> = BTreeMap::new();
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

fn feature_value(row: &FeatureRow, name: &str) -> f64 {
    let column = row.schema.names.iter().position(|column| column == name);
    column.map_or(f64::NAN, |column| row.values[column])
}

fn same_bits(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Two zones or devices measure the same value at the same time, the first of them twice. The
/// copy is flagged before SQL is needed, so its prefetched result is left over. Only the reading
/// of the first passes the filter.
fn check_same_readings(filter: &str, sources: [(&str, &str); 2]) {
    let definitions =
        format!("version = 1\n[windows]\n1h = ['count']\n[metrics.light]\nwhere = \"{filter}\"");
    let of = |(zone, device): (&str, &str), event_ms: i64| SensorReport {
        zone: zone.parse().unwrap(),
        ..bay_report(device, event_ms, 0, "light", 7.0)
    };
    let [first, second] = sources;
    let batch = [first, first, second].map(|source| of(source, START_MS));
    let zones = sources.map(|(zone, _)| zone.parse::<ZoneId>().unwrap());
    let mut engine = engine_with_definitions(&definitions);
    let mut output = EngineOutput::default();
    engine.ingest_batch(batch.iter().flat_map(SqlReading::from_report), &mut output, |ingest| {
        for report in &batch {
            ingest.ingest_report(report, report.arrival_ms);
        }
    });
    assert_eq!(output.qualities, [QualityFlag::Ok, QualityFlag::Duplicate, QualityFlag::Ok]);
    for zone in &zones {
        engine.complete_zone(zone, START_MS + 600_000, &mut output);
    }
    let count = |zone: &ZoneId| {
        let rows = output.rows.iter().filter(|row| row.zone == *zone);
        rows.map(|row| feature_value(row, "light_count_1h")).fold(0.0, f64::max)
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
    fn sql_gives_the_same_as_code_by_hand(batches in arbitrary_batches()) {
        let (mut engine_by_sql, mut engine_by_hand) = (engine_with_definitions(SQL_DEFINITIONS), engine_with_definitions(PLAIN_DEFINITIONS));
        let (mut by_sql, qualities) = run_batches(&mut engine_by_sql, &batches, true);
        prop_assert!(qualities.iter().all(|quality| quality.is_ok()), "a filter sets no quality flag");
        let changed: Vec<Vec<SensorReport>> =
            batches.iter().map(|batch| batch.iter().flat_map(apply_by_hand).collect()).collect();
        let (mut by_hand, _) = run_batches(&mut engine_by_hand, &changed, true);
        finish_engine(&mut engine_by_sql, &mut by_sql);
        finish_engine(&mut engine_by_hand, &mut by_hand);
        // By hand, time does not advance while only dropped readings arrive. So rows are
        // recomputed at other times and have other revisions, but the first and the last are the
        // same.
        let sql_tables = known_and_newest_rows(&by_sql);
        for ((at_ms, is_as_known), expected_row) in known_and_newest_rows(&by_hand) {
            let Some(row) = sql_tables.get(&(at_ms, is_as_known)) else {
                panic!("no row at {at_ms}, as known {is_as_known}")
            };
            for (a, b) in [("warmth", "pressure"), ("co2", "co2"), ("temperature", "temperature")] {
                for of in ["count_10m", "mean_10m", "std_10m", "max_10m", "mean_1h", "slope_1h", "integral_1h"] {
                    let (found, expect) = (feature_value(row, &format!("{a}_{of}")), feature_value(expected_row, &format!("{b}_{of}")));
                    // Before its first reading a metric has no columns.
                    let none = of.starts_with("count") && found.max(expect) == 0.0;
                    prop_assert!(none || same_bits(found, expect), "{a}_{of} at {}: {found}, expected {expect}", expected_row.at_ms);
                }
            }
            let twice = feature_value(expected_row, "excess") * 2.0;
            prop_assert!(same_bits(feature_value(row, "twice"), twice));
            let one_more = if twice.is_nan() { 1.0 } else { twice + 1.0 };
            prop_assert!(same_bits(feature_value(row, "twice_and_one"), one_more));
        }
    }

    #[test]
    fn readings_one_by_one_give_the_same_as_in_a_batch(batches in arbitrary_batches()) {
        let bits = |rows: &[FeatureRow]| -> Vec<(i64, i64, Vec<u64>)> {
            let of = |row: &FeatureRow| row.values.iter().map(|value| value.to_bits()).collect();
            rows.iter().map(|row| (row.at_ms, row.revision, of(row))).collect()
        };
        let (batched, _) = run_batches(&mut engine_with_definitions(SQL_DEFINITIONS), &batches, true);
        let (one_by_one, _) = run_batches(&mut engine_with_definitions(SQL_DEFINITIONS), &batches, false);
        prop_assert_eq!(bits(&batched), bits(&one_by_one));
    }

    #[test]
    fn a_restart_goes_on_as_if_there_had_been_none(batches in arbitrary_batches()) {
        let (before, after) = batches.split_at(batches.len() / 2);
        let mut whole = engine_with_definitions(SQL_DEFINITIONS);
        let (_, qualities) = run_batches(&mut whole, before, true);
        let mut restarted = engine_with_definitions(SQL_DEFINITIONS);
        for (zone, _, progress) in whole.zones() {
            // As the file stores it.
            let json = serde_json::to_string(progress).unwrap();
            restarted.restore_zone(zone.clone(), serde_json::from_str(&json).unwrap());
        }
        let taken: Vec<&SensorReport> = before.iter().flatten().collect();
        restarted.prefetch_readings(taken.iter().flat_map(|report| SqlReading::from_report(report)));
        for (report, quality) in taken.iter().zip(qualities) {
            let (arrival_ms, reading) = (report.arrival_ms, &report.readings[0]);
            restarted.restore_reading(&report.zone, &report.device, None, reading, arrival_ms, quality);
        }
        let names = |rows: &[FeatureRow]| -> Vec<(i64, i64, Vec<(SmolStr, u64)>)> {
            let of = |row: &FeatureRow| -> Vec<(SmolStr, u64)> {
                let named = row.schema.names.iter().cloned().zip(row.values.iter().map(|v| v.to_bits()));
                let mut named: Vec<_> = named.filter(|(_, bits)| !f64::from_bits(*bits).is_nan()).collect();
                named.sort();
                named
            };
            rows.iter().map(|row| (row.at_ms, row.revision, of(row))).collect()
        };
        let (expect, _) = run_batches(&mut whole, after, true);
        let (found, _) = run_batches(&mut restarted, after, true);
        prop_assert_eq!(names(&found), names(&expect));
    }
}
