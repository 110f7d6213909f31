//! Everything that can be wrong with time at once, by seeds: live and recorded, restarted, and
//! compared with plain loops.
//!
//! `MICROCLIMATE_SEEDS=100..200` runs other seeds than the first ones. `cargo test -p
//! microclimate-feature-store --test edges_of_time -- --ignored a_year` runs a year of a hundred
//! sensors for each seed.

use std::{ops::Range, time::Instant};

use crate::{
    engine_run::{EngineRun, IngestPath, run_with},
    schedule::{ScheduleSize, SimulatedMessage, generate_schedule},
};

fn seeds_from_env(default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("MICROCLIMATE_SEEDS") else { return default };
    let bounds = text
        .split_once("..")
        .and_then(|(from, to)| Some(from.trim().parse().ok()?..to.trim().parse().ok()?));
    bounds.unwrap_or_else(|| panic!("MICROCLIMATE_SEEDS={text}: expected first..end, as in 0..20"))
}

/// Checks that live rows, rows of a recording and rows of a restarted program equal those of the
/// oracle. Compares the values of one row in `every`.
fn check_seed(seed: u64, size: ScheduleSize, every: usize) {
    let began = Instant::now();
    let messages = generate_schedule(seed, size);
    let live = run_with(&messages, IngestPath::Live, (seed % 4) as usize, every);
    let (rows, values) = live.check_against_oracle(&messages, 1);
    let written = live.rows_written();
    drop(live);
    let recorded = run_with(&messages, IngestPath::Recorded, 0, every);
    recorded.check_against_oracle(&messages, 1);
    let restarted = run_with(&messages, IngestPath::Recorded, 5, every);
    assert_same_revisions(&recorded, &restarted, size.zones);
    println!(
        "seed {seed}: {} readings, {rows} rows, {} written live, {values} values compared, {:.1} s",
        messages.len(),
        written,
        began.elapsed().as_secs_f64()
    );
}

/// Checks that every revision is the same, bit for bit.
fn assert_same_revisions(one: &EngineRun, other: &EngineRun, zones: usize) {
    for zone in 0..zones {
        for is_as_known in [true, false] {
            let (a, b) =
                (one.rows_by_time(zone, is_as_known), other.rows_by_time(zone, is_as_known));
            assert!(a.keys().eq(b.keys()), "zone {zone}: {} rows and {}", a.len(), b.len());
            for (at_ms, row) in a {
                assert_eq!(row.hash, b[&at_ms].hash, "zone {zone} at {at_ms}");
            }
        }
    }
}

#[test]
fn days_of_some_zones_are_what_plain_loops_find() {
    for seed in seeds_from_env(0..12) {
        check_seed(
            seed,
            ScheduleSize { zones: 2, sensors_a_zone: 5, days: 12, interval_s: 240 },
            97,
        );
    }
}

#[test]
fn every_value_of_a_day_is_what_plain_loops_find() {
    for seed in seeds_from_env(1000..1008) {
        check_seed(seed, ScheduleSize { zones: 1, sensors_a_zone: 4, days: 1, interval_s: 60 }, 1);
    }
}

/// Ten readings an hour from each sensor.
#[test]
#[ignore = "a year of a hundred sensors: minutes for each seed"]
fn a_year_of_a_hundred_sensors() {
    for seed in seeds_from_env(0..1) {
        check_seed(
            seed,
            ScheduleSize { zones: 20, sensors_a_zone: 5, days: 365, interval_s: 360 },
            4001,
        );
    }
}

/// However late readings arrive, rows are written a few times, not without end. The zone has a
/// punctual sensor, and a late reading of the last day changes every row.
#[test]
fn rows_do_not_multiply() {
    use crate::schedule::{DAY_MS, HOUR_MS, MINUTE_MS, START_MS};
    let readings = |lag_ms: i64, days: i64, step_ms: i64| -> Vec<SimulatedMessage> {
        let end_ms = START_MS + days * DAY_MS;
        let sensor = |device, metric, lag_ms: i64, step_ms: i64| {
            (START_MS..end_ms).step_by(step_ms as usize).map(move |arrival_ms| SimulatedMessage {
                zone: 0,
                device,
                metric,
                event_ms: arrival_ms - lag_ms,
                arrival_ms,
                value: 20.0 + (arrival_ms / 1000 % 97) as f64 / 10.0,
            })
        };
        let mut all: Vec<SimulatedMessage> = sensor(0, "temperature", 0, MINUTE_MS).collect();
        all.extend(sensor(1, "humidity", lag_ms, step_ms));
        all.sort_by_key(|message| message.arrival_ms);
        all
    };
    for (lag_ms, days, step_ms, most) in [
        (8 * HOUR_MS, 3, MINUTE_MS, 12),
        (8 * HOUR_MS, 1, 10_000, 18),
        (71 * HOUR_MS, 9, MINUTE_MS, 14),
        (10 * MINUTE_MS, 1, MINUTE_MS, 8),
        (500, 1, MINUTE_MS, 4),
    ] {
        let messages = readings(lag_ms, days, step_ms);
        for door in [IngestPath::Live, IngestPath::Recorded] {
            let found = run_with(&messages, door, 0, 301);
            found.check_against_oracle(&messages, 1);
            let times = found.rows_by_time(0, false).len();
            let written = found.rows_written();
            println!("{lag_ms} ms behind, {door:?}: {written} rows for {times} times");
            assert!(written <= most * times, "{written} rows for {times} times");
        }
    }
}
