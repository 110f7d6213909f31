//! One engine, whatever the order: live equals backfill equals a shuffled, duplicated, late
//! replay, bit for bit. All of them equal a plain loop over the readings.

use microclimate_feature_store::sql_expressions::open_engine;
use std::collections::BTreeMap;

use microclimate_feature_store::{FeatureRow, FeatureStoreSettings, engine::EngineOutput};
use proptest::prelude::*;
use telemetry::{MetricTable, QualityFlag, ReportSource, SensorReading, SensorReport, ZoneId};

/// Receive time of the reports: after all their event times.
const INGESTED_MS: i64 = 1_800_000_000_000;
const MINUTE_MS: i64 = 60_000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;

fn site_settings() -> FeatureStoreSettings {
    let mut settings = FeatureStoreSettings::default();
    settings.engine.place = vec![52.5, 13.4];
    settings
}

/// A report of a time, and when it arrived.
fn bay_report(
    device: &str,
    event_ms: i64,
    arrival_ms: i64,
    readings: &[(&str, f64)],
) -> SensorReport {
    SensorReport {
        zone: ZoneId::new("farm", "bay-1"),
        device: device.into(),
        boot: None,
        seq: None,
        arrival_ms,
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

/// Returns all rows from the reports, in the order in which they are emitted.
fn engine_rows(settings: &FeatureStoreSettings, reports: &[SensorReport]) -> Vec<FeatureRow> {
    let columns = ["temperature", "light", "soil_moisture", "irrigation"].map(Into::into);
    let mut engine = open_engine(&settings.engine, MetricTable::default(), &columns).unwrap();
    let mut output = EngineOutput::default();
    reports.iter().for_each(|report| engine.ingest_report(report, INGESTED_MS, &mut output));
    engine.finish_all(&mut output);
    output.rows
}

type ValueBits = BTreeMap<i64, Vec<u64>>;

/// Returns the newest row of each time, or the row as known.
fn rows_by_time(rows: &[FeatureRow], as_known: bool) -> ValueBits {
    let mut newest: BTreeMap<i64, &FeatureRow> = BTreeMap::new();
    for row in rows.iter().filter(|row| !as_known || row.revision == 0) {
        let known = newest.entry(row.at_ms).or_insert(row);
        if row.revision > known.revision {
            *known = row;
        }
    }
    newest.iter().map(|(at, row)| (*at, row.values.iter().map(|v| v.to_bits()).collect())).collect()
}

/// Returns the first difference of two tables, by time and feature.
fn first_difference(
    found: &ValueBits,
    expect: &ValueBits,
    names: &[telemetry::SmolStr],
) -> Option<String> {
    if !found.keys().eq(expect.keys()) {
        return Some(format!("{} rows, expected {}", found.len(), expect.len()));
    }
    found.iter().zip(expect.values()).find_map(|((at, found), expect)| {
        let column = found.iter().zip(expect).position(|(a, b)| a != b)?;
        let [a, b] = [found[column], expect[column]].map(f64::from_bits);
        Some(format!("{} at {at}: {a}, expected {b}", names[column]))
    })
}

/// Generates hours of a greenhouse: two climate probes, two soil probes, a valve; steps of
/// seconds to many minutes.
fn arbitrary_history() -> impl Strategy<Value = Vec<SensorReport>> {
    let step = prop_oneof![8 => 1..90_i64, 1 => 300..2500_i64];
    prop::collection::vec((step, 0..5_usize, -50..50_i32), 80..300).prop_map(|steps| {
        let mut at_ms = START_MS;
        let mut reports = Vec::new();
        for (step_s, who, noise) in steps {
            at_ms += step_s * 1000 + i64::from(noise);
            let noise = f64::from(noise) / 10.0;
            let (device, metric, value) = match who {
                0 => ("climate-1", "temperature", 20.0 + noise),
                1 => ("climate-2", "temperature", 21.0 + noise),
                2 => ("soil-1", "soil_moisture", 40.0 + noise),
                3 => ("soil-2", "soil_moisture", 35.0 - noise),
                _ => ("valve", "irrigation", f64::from(u8::from(noise > 0.0))),
            };
            let light = ("light", 1000.0 + noise.abs());
            let all = [(metric, value), light];
            reports.push(bay_report(device, at_ms, at_ms, &all[..if who == 0 { 2 } else { 1 }]));
        }
        reports
    })
}

/// Computes the mean of a metric in (t − w, t] by a plain loop.
fn naive_mean(
    reports: &[SensorReport],
    metric: &str,
    at_ms: i64,
    width_ms: i64,
    counts: impl Fn(&SensorReport) -> bool,
) -> Option<f64> {
    let all = reports.iter().filter(|report| counts(report)).flat_map(|report| &report.readings);
    let inside: Vec<f64> = all
        .filter(|r| r.metric == metric && r.event_ms > at_ms - width_ms && r.event_ms <= at_ms)
        .map(|r| r.value)
        .collect();
    (!inside.is_empty()).then(|| inside.iter().sum::<f64>() / inside.len() as f64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_order_of_arrival_does_not_show(
        (reports, delays) in arbitrary_history().prop_flat_map(|reports| {
            let count = reports.len();
            (Just(reports), prop::collection::vec((0..119_000_i64, 0..10_u8), count))
        }),
    ) {
        let settings = site_settings();
        let expected = rows_by_time(&engine_rows(&settings, &reports), false);
        prop_assume!(expected.len() > 3);
        // Each up to two minutes late, some twice.
        let mut late: Vec<(i64, &SensorReport)> = Vec::new();
        for (report, (delay_ms, twice)) in reports.iter().zip(&delays) {
            let event_ms = report.readings[0].event_ms;
            late.push((event_ms + delay_ms, report));
            if *twice == 0 {
                late.push((event_ms + delay_ms / 2, report));
            }
        }
        late.sort_by_key(|(at, _)| *at);
        let late: Vec<SensorReport> = late.into_iter().map(|(_, report)| report.clone()).collect();
        let found = engine_rows(&settings, &late);
        prop_assert!(found.iter().all(|row| row.revision == 0), "nothing arrived after its row");
        prop_assert_eq!(first_difference(&rows_by_time(&found, false), &expected, &found[0].schema.names), None);
    }

    #[test]
    fn what_comes_days_late_ends_as_if_it_had_come_in_time(
        reports in arbitrary_history(), share in 0.1..0.9_f64, length in 1..40_usize,
    ) {
        let settings = site_settings();
        let cut = (reports.len() as f64 * share) as usize;
        let held = cut..(cut + length).min(reports.len() - 1);
        // A burst is held back and arrives at the end, and time advances after it.
        let end_ms = reports[reports.len() - 1].arrival_ms;
        let more: Vec<SensorReport> = (1..=30)
            .map(|minute| bay_report("climate-1", end_ms + minute * MINUTE_MS, end_ms + minute * MINUTE_MS, &[("temperature", 20.0)]))
            .collect();
        let mut late: Vec<SensorReport> = reports[..held.start].to_vec();
        late.extend_from_slice(&reports[held.end..]);
        late.extend_from_slice(&more[..10]);
        late.extend_from_slice(&reports[held]);
        late.extend_from_slice(&more[10..]);
        let in_time = [reports.clone(), more].concat();
        let found = engine_rows(&settings, &late);
        prop_assume!(!found.is_empty());
        let expected = rows_by_time(&engine_rows(&settings, &in_time), false);
        prop_assert_eq!(first_difference(&rows_by_time(&found, false), &expected, &found[0].schema.names), None);
    }

    #[test]
    fn a_row_as_known_has_only_what_had_arrived(
        (mut reports, delays) in arbitrary_history().prop_flat_map(|reports| {
            let count = reports.len();
            (Just(reports), prop::collection::vec(0..100_000_i64, count))
        }),
    ) {
        for (report, delay_ms) in reports.iter_mut().zip(delays) {
            report.arrival_ms = report.readings[0].event_ms + delay_ms;
        }
        reports.sort_by_key(|report| report.arrival_ms);
        let settings = site_settings();
        let emitted = engine_rows(&settings, &reports);
        prop_assume!(emitted.len() > 3);
        let names = &emitted[emitted.len() - 1].schema.names;
        for (feature, width_ms) in [("temperature_mean_10m", 600_000), ("temperature_mean_1h", 3_600_000)] {
            let column = names.iter().position(|name| name == feature).unwrap();
            let check = |bits: &ValueBits, counts: &dyn Fn(&SensorReport, i64) -> bool| {
                for (at_ms, row) in bits {
                    let expect = naive_mean(&reports, "temperature", *at_ms, width_ms, |r| counts(r, *at_ms));
                    let found = Some(f64::from_bits(row[column])).filter(|v| !v.is_nan());
                    let same = match (found, expect) {
                        (Some(a), Some(b)) => (a - b).abs() < 1e-9,
                        (a, b) => a == b,
                    };
                    prop_assert!(same, "{feature} at {at_ms}: {found:?}, expected {expect:?}");
                }
                Ok(())
            };
            check(&rows_by_time(&emitted, true), &|report, at_ms| report.arrival_ms <= at_ms)?;
            check(&rows_by_time(&emitted, false), &|_, _| true)?;
        }
    }
}

/// Definitions with the aggregates over time, whose oracle is a plain loop.
const OVER_TIME: &str = r#"
version = 1
[windows]
10m = ["time_mean", "integral", "gap_max_s", "coverage"]
1h = ["time_mean", "integral", "gap_max_s", "coverage"]
24h = ["time_mean", "integral", "gap_max_s", "coverage"]
"#;

/// Computes time mean, integral (unit·h), longest gap (s) and coverage (%) of (t − w, t]: each
/// value holds until the next or t, ten minutes at most.
fn naive_over_time(inside: &[(i64, f64)], at_ms: i64, width_ms: i64) -> [f64; 4] {
    let (mut integral, mut held_ms, mut gap_ms) = (0.0, 0.0, 0);
    let mut before_ms = at_ms - width_ms;
    for (i, (event_ms, value)) in inside.iter().enumerate() {
        gap_ms = gap_ms.max(event_ms - before_ms);
        before_ms = *event_ms;
        let until_ms = inside.get(i + 1).map_or(at_ms, |(next_ms, _)| *next_ms);
        let ms = (until_ms - event_ms).min(600_000) as f64;
        integral += value * ms;
        held_ms += ms;
    }
    gap_ms = gap_ms.max(at_ms - before_ms);
    let minutes: std::collections::BTreeSet<i64> =
        inside.iter().map(|(event_ms, _)| (event_ms - 1).div_euclid(MINUTE_MS)).collect();
    let expected = (width_ms / MINUTE_MS) as f64;
    let coverage = (100.0 * minutes.len() as f64 / expected).min(100.0);
    [integral / held_ms, integral / 3.6e6, gap_ms as f64 / 1000.0, coverage]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn aggregates_over_time_are_what_a_loop_finds(reports in arbitrary_history()) {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = site_settings();
        settings.engine.features = dir.path().join("features.toml");
        std::fs::write(&settings.engine.features, OVER_TIME).unwrap();
        let emitted = engine_rows(&settings, &reports);
        prop_assume!(emitted.len() > 3);
        let names = &emitted[emitted.len() - 1].schema.names;
        for (window, minutes) in [("10m", 10), ("1h", 60), ("24h", 1440)] {
            let width_ms = minutes * MINUTE_MS;
            for row in &emitted {
                let all = reports.iter().flat_map(|report| &report.readings);
                let inside: Vec<(i64, f64)> = all
                    .filter(|r| r.metric == "temperature")
                    .filter(|r| r.event_ms > row.at_ms - width_ms && r.event_ms <= row.at_ms)
                    .map(|r| (r.event_ms, r.value))
                    .collect();
                let of = |aggregate: &str| {
                    let name = format!("temperature_{aggregate}_{window}");
                    row.values[names.iter().position(|column| *column == name).unwrap()]
                };
                let found = ["time_mean", "integral", "gap_max_s", "coverage"].map(of);
                if inside.is_empty() {
                    // A metric without readings within the widest window has no features.
                    let widest_ms = 1440 * MINUTE_MS;
                    let is_there = reports.iter().flat_map(|report| &report.readings).any(|r| {
                        r.metric == "temperature"
                            && r.event_ms > row.at_ms - widest_ms
                            && r.event_ms <= row.at_ms
                    });
                    prop_assert!(found[..3].iter().all(|v| v.is_nan()), "{found:?}");
                    let coverage = Some(found[3]).filter(|v| !v.is_nan());
                    prop_assert_eq!(coverage, is_there.then_some(0.0), "{:?}", found);
                    continue;
                }
                let expect = naive_over_time(&inside, row.at_ms, width_ms);
                for (found, expect) in found.iter().zip(expect) {
                    let same = (found - expect).abs() <= 1e-9 * expect.abs().max(1.0);
                    prop_assert!(same || (inside.len() == 1 && expect.is_nan()), "{window}: {found}, expected {expect}");
                }
            }
        }
    }
}

/// Both edges: a reading at t − w is out, one at t is in.
#[test]
fn rows_exactly_on_both_edges() {
    let at = |minute: i64, value: f64| {
        let ms = START_MS + minute * MINUTE_MS;
        bay_report("climate-1", ms, ms, &[("temperature", value)])
    };
    let reports = [at(0, 50.0), at(10, 1.0), at(11, 3.0), at(20, 5.0), at(30, 0.0)];
    let dir = tempfile::tempdir().unwrap();
    let mut settings = site_settings();
    settings.engine.features = dir.path().join("features.toml");
    let all = "version = 1\nwindows.10m = ['mean', 'min', 'coverage']\nwindows.1h = ['max']\n\
               windows.24h = ['gap_max_s']";
    std::fs::write(&settings.engine.features, all).unwrap();
    let emitted = engine_rows(&settings, &reports);
    let row = emitted.iter().find(|row| row.at_ms == START_MS + 20 * MINUTE_MS).unwrap();
    let value =
        |name: &str| row.values[row.schema.names.iter().position(|column| column == name).unwrap()];
    // Minute 10 is at the left edge of ten minutes, minute 20 at the right edge.
    assert_eq!(value("temperature_mean_10m"), 4.0);
    assert_eq!(value("temperature_min_10m"), 3.0);
    assert_eq!(value("temperature_max_1h"), 50.0);
    assert_eq!(value("temperature_coverage_10m"), 20.0);
    assert_eq!(value("temperature_gap_max_s_24h"), 23.0 * 3600.0 + 40.0 * 60.0 + 0.0);
}

/// Copies first, then problems with the value, then with the time.
#[test]
fn a_reading_has_the_first_flag_that_applies() {
    let day_ms = 86_400_000;
    let columns = ["temperature".into()];
    let mut engine =
        open_engine(&site_settings().engine, MetricTable::default(), &columns).unwrap();
    let mut check =
        |seq: Option<u64>, event_ms: i64, arrival_ms: i64, value: f64, expect: QualityFlag| {
            let mut report =
                bay_report("climate-1", event_ms, arrival_ms, &[("temperature", value)]);
            report.boot = seq.map(|_| "run-1".into());
            report.seq = seq;
            let mut output = EngineOutput::default();
            engine.ingest_report(&report, report.arrival_ms, &mut output);
            assert_eq!(output.qualities, [expect], "{seq:?} {event_ms} {arrival_ms} {value}");
        };
    let start = START_MS;
    let ahead = start + 600_000;
    check(None, start, start, 20.0, QualityFlag::Ok);
    check(None, start, start, 20.0, QualityFlag::Duplicate);
    check(None, start, start, 21.0, QualityFlag::Ok);
    check(Some(1), start + 1000, start + 1000, 579.0, QualityFlag::OutOfRange);
    check(Some(1), start + 1000, start + 1000, 579.0, QualityFlag::Duplicate);
    check(None, start + 1000, start + 1000, 579.0, QualityFlag::OutOfRange);
    check(Some(2), ahead, start, 22.0, QualityFlag::Future);
    check(Some(2), ahead, start, 22.0, QualityFlag::Duplicate);
    check(None, ahead, start, 579.0, QualityFlag::OutOfRange);
    check(None, ahead, start, f64::NAN, QualityFlag::NotANumber);
    check(Some(3), start + 3000, start + 3000, 20.0, QualityFlag::Ok);
    // The watermark is past all corrections of the first readings, which are kept for windows.
    let (now, late) = (start + 4 * day_ms, start + 2000);
    check(None, now, now, 20.0, QualityFlag::Ok);
    check(Some(4), late, now, 20.0, QualityFlag::Late);
    check(Some(4), late, now, 20.0, QualityFlag::Duplicate);
    check(None, late, now, 579.0, QualityFlag::OutOfRange);
    check(Some(3), start + 3000, now, 20.0, QualityFlag::Duplicate);
    check(None, start, now, 20.0, QualityFlag::Duplicate);
    check(None, i64::MAX, now, 20.0, QualityFlag::Future);
}
