//! Measures what late and out-of-order readings cost the engine, compared with the same readings on
//! time:
//!
//!     cargo run --example late_data -- [all] [ROOM]
//!
//! With `all` the engine computes the built-in definitions (every feature), else four windows of
//! seven aggregates, as in `engine_pace`. The data are five metrics of a simulated room, each with
//! a reading every five seconds, on one thread. Where a folder of the KETI data is named, as
//! `~/data/KETI/415`, two days of that room are measured too.

use feature_store::sql_expressions::open_engine;
use std::time::Instant;

use feature_store::{FeatureStoreSettings, engine::EngineOutput};
use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport, ZoneId};

/// Four windows of seven aggregates.
const DEFINITIONS: &str = r#"
version = 1
[windows]
10m = ["count", "mean", "std", "min", "max", "last", "slope"]
1h = ["count", "mean", "std", "min", "max", "last", "slope"]
24h = ["count", "mean", "std", "min", "max", "last", "slope"]
7d = ["count", "mean", "std", "min", "max", "last", "slope"]
"#;
const METRICS: [&str; 5] = ["temperature", "humidity", "co2", "light", "motion"];
const START_MS: i64 = 1_748_822_400_000;
const HOUR_MS: i64 = 3_600_000;
const STEP_MS: i64 = 5_000;

fn main() {
    let file = std::env::temp_dir().join(format!("late-data-{}.toml", std::process::id()));
    std::fs::write(&file, DEFINITIONS).expect("the temporary folder can be written");
    let mut settings = FeatureStoreSettings::default().engine;
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_all = arguments.iter().any(|argument| argument == "all");
    arguments.retain(|argument| argument != "all");
    if !is_all {
        settings.features.clone_from(&file);
    }
    println!(
        "case                                  readings     rows  seconds  readings/s  rows/time"
    );
    for hours in [1, 3, 6, 12, 28] {
        // A live sensor and one that was offline.
        let reports = reports_after_outage(hours);
        measure_engine(&format!("{hours} h flushed at once"), &settings, &reports);
        let on_time: Vec<SensorReport> = as_if_on_time(reports);
        measure_engine("  the same on time", &settings, &on_time);
    }
    let room = simulate_room(48, random_delay_ms);
    measure_engine("7 % to 30 min, 3 % to 8 h late", &settings, &room);
    measure_engine("  the same on time", &settings, &as_if_on_time(room));
    for folder in &arguments {
        let room = read_keti_room(std::path::Path::new(folder));
        measure_engine("two days of a real room, likewise", &settings, &room);
        measure_engine("  the same on time", &settings, &as_if_on_time(room));
    }
    let slow = room_with_slow_clock(48);
    measure_engine("a clock 8 h slow, of five", &settings, &slow);
    measure_engine("  the same on time", &settings, &as_if_on_time(slow));
    std::fs::remove_file(file).expect("it was written");
}

/// Measures one case: ingesting the reports, then completing the data.
fn measure_engine(
    name: &str,
    settings: &feature_store::settings::EngineSettings,
    reports: &[SensorReport],
) {
    let metrics = METRICS.map(Into::into);
    let mut seconds = Vec::new();
    let (mut rows, mut times) = (0, 0);
    for _ in 0..3 {
        let mut engine = open_engine(settings, MetricTable::default(), &metrics).expect("settings");
        let mut output = EngineOutput::default();
        let mut seen = std::collections::HashSet::new();
        let mut took = std::time::Duration::ZERO;
        rows = 0;
        for batch in reports.chunks(1024) {
            let began = Instant::now();
            for report in batch {
                engine.ingest_report(report, i64::MAX, &mut output);
            }
            took += began.elapsed();
            rows += output.rows.len();
            seen.extend(output.rows.drain(..).map(|row| row.at_ms));
            output.qualities.clear();
        }
        let began = Instant::now();
        engine.finish_all(&mut output);
        took += began.elapsed();
        rows += output.rows.len();
        seen.extend(output.rows.drain(..).map(|row| row.at_ms));
        times = seen.len();
        seconds.push(took.as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let readings: usize = reports.iter().map(|report| report.readings.len()).sum();
    println!(
        "{name:<36} {readings:>9} {rows:>8}  {:>7.3}  {:>10.0}  {:>9.2}",
        seconds[1],
        readings as f64 / seconds[1],
        rows as f64 / times.max(1) as f64
    );
}

fn make_report(event_ms: i64, arrival_ms: i64, metric: usize, value: f64) -> SensorReport {
    SensorReport {
        zone: ZoneId::new("bench", "room"),
        device: METRICS[metric].into(),
        boot: None,
        seq: None,
        arrival_ms,
        source: ReportSource::Live,
        readings: vec![SensorReading { metric: METRICS[metric].into(), event_ms, value }],
    }
}

fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    *state >> 16
}

/// Simulates a room for some hours; `delay` gives the lateness of each reading, ms.
fn simulate_room(hours: i64, delay: impl Fn(u64) -> i64) -> Vec<SensorReport> {
    let mut state = 1;
    let mut reports = Vec::new();
    for step in 0..hours * HOUR_MS / STEP_MS {
        for metric in 0..METRICS.len() {
            let event_ms = START_MS + step * STEP_MS;
            let value = (next_random(&mut state) % 300) as f64 / 10.0;
            let value = if metric == 4 { f64::from(value > 15.0) } else { value };
            reports.push(make_report(
                event_ms,
                event_ms + delay(next_random(&mut state)),
                metric,
                value,
            ));
        }
    }
    reports.sort_by_key(|report| report.arrival_ms);
    reports
}

/// Lateness of a reading, ms: 7 % up to half an hour, 3 % up to eight hours.
fn random_delay_ms(random: u64) -> i64 {
    match random % 100 {
        0..7 => (random >> 8) as i64 % (HOUR_MS / 2),
        7..10 => (random >> 8) as i64 % (8 * HOUR_MS),
        _ => 0,
    }
}

/// Reads two days of a room of the KETI data, one file per sensor with lines `epoch, value`, and
/// delays some readings.
fn read_keti_room(folder: &std::path::Path) -> Vec<SensorReport> {
    const FROM_S: i64 = 1_377_302_400; // 2013-08-24T00:00:00Z
    let mut state = 1;
    let mut reports = Vec::new();
    for (metric, file) in ["temperature", "humidity", "co2", "light", "pir"].iter().enumerate() {
        let path = folder.join(format!("{file}.csv"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for line in text.lines() {
            let Some((time, value)) = line.split_once(',') else { continue };
            let (Ok(time), Ok(value)) = (time.trim().parse::<i64>(), value.trim().parse::<f64>())
            else {
                continue;
            };
            if (FROM_S..FROM_S + 2 * 86_400).contains(&time) {
                let event_ms = time * 1000;
                let arrival_ms = event_ms + random_delay_ms(next_random(&mut state));
                let value = if metric == 4 { f64::from(value > 0.0) } else { value };
                reports.push(make_report(event_ms, arrival_ms, metric, value));
            }
        }
    }
    reports.sort_by_key(|report| report.arrival_ms);
    reports
}

/// Five metrics of a device that was offline, which arrive at once. Another device with one reading
/// a minute shows the passing of time.
fn reports_after_outage(hours: i64) -> Vec<SensorReport> {
    let end_ms = START_MS + hours * HOUR_MS;
    let mut reports = simulate_room(hours, |_| 0);
    reports.iter_mut().for_each(|report| report.arrival_ms = end_ms);
    for minute in 0..=hours * 60 + 10 {
        let at_ms = START_MS + minute * 60_000 + 1;
        let mut live = make_report(at_ms, at_ms, 0, 20.0);
        live.device = "live".into();
        reports.push(live);
    }
    reports.sort_by_key(|report| report.arrival_ms);
    reports
}

fn room_with_slow_clock(hours: i64) -> Vec<SensorReport> {
    let mut reports = simulate_room(hours, |_| 0);
    for report in &mut reports {
        if report.device == METRICS[0] {
            report.readings[0].event_ms -= 8 * HOUR_MS;
        }
    }
    reports
}

/// The same readings, each arriving when it was measured.
fn as_if_on_time(mut reports: Vec<SensorReport>) -> Vec<SensorReport> {
    reports.iter_mut().for_each(|report| report.arrival_ms = report.readings[0].event_ms);
    reports.sort_by_key(|report| report.arrival_ms);
    reports
}
