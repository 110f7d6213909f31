//! Measures how long one reading and one trend query take.
//!
//! ```text
//! cargo run -p microclimate-agronomy --example pace
//! ```

use std::{hint::black_box, time::Instant};

use microclimate_agronomy::drying::{DryingSettings, DryingTracker};

const READINGS: i64 = 2_000_000;
const QUERIES: u32 = 20_000;

fn main() {
    let settings = DryingSettings::default();
    let mut drying = DryingTracker::default();
    // A sensor that reports every 30 s, dries by 12 % a day and is watered daily.
    let start = Instant::now();
    for i in 0..READINGS {
        let day_fraction = (i % 2_880) as f64 / 2_880.0;
        let pct = 60.0 - 12.0 * day_fraction + 0.05 * ((i % 13) as f64 - 6.0);
        black_box(drying.add_moisture(&settings, i * 30_000, pct));
    }
    let reading_ns = start.elapsed().as_nanos() as f64 / READINGS as f64;
    let start = Instant::now();
    for _ in 0..QUERIES {
        black_box(drying.trend_at(&settings, READINGS * 30_000));
    }
    let query_us = start.elapsed().as_nanos() as f64 / 1000.0 / f64::from(QUERIES);
    println!("{READINGS} readings: {reading_ns:.0} ns each");
    println!("{QUERIES} trends: {query_us:.1} µs each");
}
