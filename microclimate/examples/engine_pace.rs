//! Measures how fast the window engine computes rows in memory on one core, and how much memory it
//! uses.
//!
//!     cargo run -p microclimate --example engine_pace -- [sensors] [days] [interval_s]
//!
//! Every sensor has a reading every `interval_s` and a row of 28 aggregates every minute: four
//! windows (10 min, 1 h, 24 h, 7 d) of count, mean, std, min, max, last and slope.

use feature_store::sql_expressions::open_engine;
use std::time::Instant;

use feature_store::FeatureStoreSettings;
use telemetry::{MetricTable, ZoneId};

const DEFINITIONS: &str = r#"
version = 1
[windows]
10m = ["count", "mean", "std", "min", "max", "last", "slope"]
1h = ["count", "mean", "std", "min", "max", "last", "slope"]
24h = ["count", "mean", "std", "min", "max", "last", "slope"]
7d = ["count", "mean", "std", "min", "max", "last", "slope"]
"#;
const METRICS: [&str; 5] = ["temperature", "humidity", "co2", "light", "motion"];
const DAY_MS: i64 = 86_400_000;
/// Monday 2025-06-02T00:00:00Z
const START_MS: i64 = 1_748_822_400_000;

fn main() {
    let args: Vec<i64> = std::env::args().skip(1).map(|a| a.parse().expect("a number")).collect();
    let at = |i: usize, default: i64| args.get(i).copied().unwrap_or(default);
    let (sensors, days, interval_s) = (at(0, 2000), at(1, 8), at(2, 5));
    let file = std::env::temp_dir().join(format!("engine-pace-{}.toml", std::process::id()));
    std::fs::write(&file, DEFINITIONS).expect("the temporary folder can be written");
    let mut settings = FeatureStoreSettings::default().engine;
    settings.features.clone_from(&file);
    let metrics = METRICS.map(Into::into);
    let mut engine = open_engine(&settings, MetricTable::default(), &metrics).expect("settings");
    std::fs::remove_file(file).expect("it was just written");

    let zones: Vec<ZoneId> = (0..sensors / METRICS.len() as i64)
        .map(|n| ZoneId::new("bench", format!("zone-{n}")))
        .collect();
    println!("{} zones of {} sensors, a reading every {interval_s} s", zones.len(), METRICS.len());
    println!("day  readings/s  ns/reading  rows/s  resident MB");
    let mut random = 1_u64;
    for day in 0..days {
        let (started, mut readings, mut rows) = (Instant::now(), 0_u64, 0_u64);
        // One minute of a zone at a time, as the batches of a log arrive.
        for minute in 0..DAY_MS / 60_000 {
            let minute_ms = START_MS + day * DAY_MS + minute * 60_000;
            for zone in &zones {
                let mut feed = engine.open_feed(zone, i64::MAX);
                let device = feed.device_number(&"probe".into());
                let numbers = METRICS.map(|metric| feed.metric_number(&metric.into()));
                for step in 0..(60 / interval_s).max(1) {
                    for metric in numbers {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let value = 200.0 + (random >> 54) as f64 * 0.01;
                        let value = if metric == numbers[2] { value } else { value / 10.0 };
                        feed.ingest_reading(
                            device,
                            metric,
                            minute_ms + step * interval_s * 1000,
                            value,
                        );
                        readings += 1;
                    }
                }
                rows += feed.take_rows().len() as u64;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{:>3}  {:>10.0}  {:>10.1}  {:>6.0}  {:>11}",
            day + 1,
            readings as f64 / seconds,
            seconds * 1e9 / readings as f64,
            rows as f64 / seconds,
            resident_mb()
        );
    }
}

/// Resident memory of this process, MB; 0 where the system does not report it.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kb.unwrap_or(0) / 1024
}
