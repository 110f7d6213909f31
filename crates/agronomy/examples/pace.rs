//! How long one reading and one question take.
//!
//! ```text
//! cargo run -p microclimate-agronomy --example pace
//! ```

use std::{hint::black_box, time::Instant};

use microclimate_agronomy::drying::{DryingSettings, DryingTracker};

const READINGS: i64 = 2_000_000;
const QUESTIONS: u32 = 20_000;

fn main() {
    let settings = DryingSettings::default();
    let mut drying = DryingTracker::default();
    // A sensor that speaks every 30 s, dries by 12 % a day and is watered daily.
    let start = Instant::now();
    for i in 0..READINGS {
        let of_day = (i % 2_880) as f64 / 2_880.0;
        let pct = 60.0 - 12.0 * of_day + 0.05 * ((i % 13) as f64 - 6.0);
        black_box(drying.add_moisture(&settings, i * 30_000, pct));
    }
    let reading_ns = start.elapsed().as_nanos() as f64 / READINGS as f64;
    let start = Instant::now();
    for _ in 0..QUESTIONS {
        black_box(drying.trend_at(&settings, READINGS * 30_000));
    }
    let question_us = start.elapsed().as_nanos() as f64 / 1000.0 / f64::from(QUESTIONS);
    println!("{READINGS} readings: {reading_ns:.0} ns each");
    println!("{QUESTIONS} trends: {question_us:.1} µs each");
}
