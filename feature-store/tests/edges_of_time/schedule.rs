//! Event times of sensors, and when their readings arrive at the gateway.

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;

pub(crate) const SECOND_MS: i64 = 1000;
pub(crate) const MINUTE_MS: i64 = 60_000;
pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const DAY_MS: i64 = 86_400_000;
/// Monday 2025-06-02T00:00:00Z
pub(crate) const START_MS: i64 = 1_748_822_400_000;

pub(crate) const METRICS: [&str; 5] =
    ["temperature", "humidity", "co2", "soil_moisture", "soil_temperature"];

/// One value of one sensor, with its timestamp and arrival time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SimulatedMessage {
    pub(crate) zone: usize,
    pub(crate) device: usize,
    pub(crate) metric: &'static str,
    pub(crate) event_ms: i64,
    pub(crate) arrival_ms: i64,
    pub(crate) value: f64,
}

/// Size of a schedule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScheduleSize {
    pub(crate) zones: usize,
    pub(crate) sensors_a_zone: usize,
    pub(crate) days: i64,
    /// Distance between a sensor's readings, s.
    pub(crate) interval_s: i64,
}

/// Fault of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
enum DeviceFault {
    None,
    /// A constant clock offset, ms; negative means slow.
    Clock(i64),
    /// Buffers for this long, ms, and then sends everything in order.
    Uplink(i64),
    /// Delays each message by up to this long, ms, in any order.
    Delay(i64),
}

/// Returns a value of a metric at the resolution of its sensors, from tenths.
pub(crate) fn plausible_value(metric: &str, tenths: i64) -> f64 {
    match metric {
        "co2" => (200 + tenths) as f64,
        _ => tenths as f64 / 10.0,
    }
}

/// Generates messages in the order of arrival.
pub(crate) fn generate_schedule(seed: u64, size: ScheduleSize) -> Vec<SimulatedMessage> {
    let mut random = Pcg64::seed_from_u64(seed);
    let end_ms = START_MS + size.days * DAY_MS;
    let mut all = Vec::new();
    for zone in 0..size.zones {
        // The power of a whole zone fails, sometimes for longer than late readings count.
        let mut gaps: Vec<(i64, i64)> = Vec::new();
        for _ in 0..random.random_range(0..=size.days / 10 + 1) {
            let from_ms = random.random_range(START_MS..end_ms);
            let hours = [1, 5, 30, 80, 250][random.random_range(0..5)];
            gaps.push((from_ms, from_ms + hours * HOUR_MS));
        }
        for device in 0..size.sensors_a_zone {
            let fault = match random.random_range(0..12) {
                0 => DeviceFault::Clock(-8 * HOUR_MS),
                1 => DeviceFault::Clock(240 * SECOND_MS),
                2 => DeviceFault::Clock(-random.random_range(1..200) * SECOND_MS),
                3 => DeviceFault::Uplink(random.random_range(1..30) * HOUR_MS),
                4 => DeviceFault::Uplink(random.random_range(1..20) * MINUTE_MS),
                5 => DeviceFault::Delay(random.random_range(1..8) * HOUR_MS),
                6 => DeviceFault::Delay(90 * SECOND_MS),
                _ => DeviceFault::None,
            };
            let metric = METRICS[device % METRICS.len()];
            let mut measured_ms = START_MS + random.random_range(0..size.interval_s * SECOND_MS);
            // Some sensors measure on the minute.
            let is_punctual = random.random_bool(0.3);
            while measured_ms < end_ms {
                if is_punctual {
                    measured_ms = measured_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
                }
                let is_off = gaps.iter().any(|(from, to)| (*from..*to).contains(&measured_ms));
                if !is_off && !random.random_bool(0.01) {
                    let network_ms = random.random_range(0..400);
                    let (event_ms, arrival_ms) = match fault {
                        DeviceFault::None => (measured_ms, measured_ms + network_ms),
                        DeviceFault::Clock(offset_ms) => {
                            (measured_ms + offset_ms, measured_ms + network_ms)
                        }
                        DeviceFault::Uplink(every_ms) => {
                            let sent_ms = (measured_ms.div_euclid(every_ms) + 1) * every_ms;
                            (measured_ms, sent_ms + network_ms)
                        }
                        DeviceFault::Delay(most_ms) => {
                            let is_late = random.random_bool(0.2);
                            let delay_ms =
                                if is_late { random.random_range(0..most_ms) } else { 0 };
                            (measured_ms, measured_ms + network_ms + delay_ms)
                        }
                    };
                    let value = plausible_value(metric, random.random_range(200..300));
                    let message =
                        SimulatedMessage { zone, device, metric, event_ms, arrival_ms, value };
                    if random.random_bool(0.002) {
                        let again_ms = arrival_ms + random.random_range(0..2 * HOUR_MS);
                        all.push(SimulatedMessage { arrival_ms: again_ms, ..message.clone() });
                    }
                    if random.random_bool(0.0005) {
                        // A timestamp of an unset clock, or years ahead.
                        let days = [-4000, -5, 1, 30, 26_000][random.random_range(0..5)];
                        all.push(SimulatedMessage {
                            event_ms: event_ms + days * DAY_MS,
                            ..message.clone()
                        });
                    }
                    all.push(message);
                }
                measured_ms += size.interval_s * SECOND_MS + random.random_range(-2000..2000);
            }
        }
    }
    all.sort_by_key(|message| message.arrival_ms);
    all
}
