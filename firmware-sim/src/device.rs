//! A simulated device: its sensors, its sequence numbers, its battery.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use telemetry::ZoneId;

use crate::{
    message::{DeviceMessage, MessageBody, SampleBody, device_topic},
    physics::{SensedQuantity, SimulatedSite, SimulatedZone, draw_normal},
};

/// The fixed properties of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceModel {
    pub(crate) zone: (&'static str, &'static str),
    pub(crate) name: &'static str,
    place: SimulatedZone,
    sensors: &'static [SensorModel],
    /// Whether it has a topic for each metric.
    single: bool,
    has_battery: bool,
}

/// A metric, its measured quantity, its noise and its resolution, in the metric's unit.
#[derive(Clone, Copy, Debug)]
struct SensorModel {
    metric: &'static str,
    quantity: SensedQuantity,
    noise: f64,
    resolution: f64,
}

const fn sensor_model(
    metric: &'static str,
    quantity: SensedQuantity,
    noise: f64,
    resolution: f64,
) -> SensorModel {
    SensorModel { metric, quantity, noise, resolution }
}

const CLIMATE: &[SensorModel] = &[
    sensor_model("temperature", SensedQuantity::Temperature, 0.04, 0.01),
    sensor_model("humidity", SensedQuantity::Humidity, 0.2, 0.1),
    sensor_model("co2", SensedQuantity::Co2, 4.0, 1.0),
];
const BAY_CLIMATE: &[SensorModel] = &[
    sensor_model("temperature", SensedQuantity::Temperature, 0.04, 0.01),
    sensor_model("humidity", SensedQuantity::Humidity, 0.2, 0.1),
    sensor_model("co2", SensedQuantity::Co2, 4.0, 1.0),
    sensor_model("light", SensedQuantity::Light, 20.0, 1.0),
];
const LIGHT: &[SensorModel] = &[sensor_model("light", SensedQuantity::Light, 2.0, 1.0)];
const MOTION: &[SensorModel] = &[sensor_model("motion", SensedQuantity::Motion, 0.0, 1.0)];
const DRY_END: &[SensorModel] = &[
    sensor_model("soil_moisture", SensedQuantity::SoilMoisture(0), 0.04, 0.01),
    sensor_model("soil_temperature", SensedQuantity::SoilTemperature(0), 0.03, 0.01),
];
const WET_END: &[SensorModel] = &[
    sensor_model("soil_moisture", SensedQuantity::SoilMoisture(1), 0.04, 0.01),
    sensor_model("soil_temperature", SensedQuantity::SoilTemperature(1), 0.03, 0.01),
];
const VALVE: &[SensorModel] = &[sensor_model("irrigation", SensedQuantity::Irrigation, 0.0, 1.0)];
const HEATER: &[SensorModel] = &[sensor_model("heater", SensedQuantity::Heater, 0.0, 1.0)];
const STATION: &[SensorModel] = &[
    sensor_model("outdoor_temperature", SensedQuantity::OutdoorTemperature, 0.05, 0.01),
    sensor_model("pressure", SensedQuantity::Pressure, 0.05, 0.1),
];

const BAY: (&str, &str) = ("farm", "bay-1");
const ROOM_1: (&str, &str) = ("house", "room-1");
const ROOM_2: (&str, &str) = ("house", "room-2");

/// The site's devices: five in a greenhouse bay, its weather station, and three in each of two
/// rooms.
pub(crate) const MODELS: [DeviceModel; 12] = [
    device_model(BAY, "climate", SimulatedZone::Bay, BAY_CLIMATE, false, true),
    device_model(BAY, "soil-1", SimulatedZone::Bay, DRY_END, false, true),
    device_model(BAY, "soil-2", SimulatedZone::Bay, WET_END, false, true),
    device_model(BAY, "valve", SimulatedZone::Bay, VALVE, true, false),
    device_model(BAY, "heater", SimulatedZone::Bay, HEATER, true, false),
    device_model(BAY, "weather", SimulatedZone::Bay, STATION, false, false),
    device_model(ROOM_1, "climate", SimulatedZone::Office, CLIMATE, false, false),
    device_model(ROOM_1, "light", SimulatedZone::Office, LIGHT, true, false),
    device_model(ROOM_1, "motion", SimulatedZone::Office, MOTION, true, false),
    device_model(ROOM_2, "climate", SimulatedZone::Living, CLIMATE, false, false),
    device_model(ROOM_2, "light", SimulatedZone::Living, LIGHT, true, false),
    device_model(ROOM_2, "motion", SimulatedZone::Living, MOTION, true, false),
];

const fn device_model(
    zone: (&'static str, &'static str),
    name: &'static str,
    place: SimulatedZone,
    sensors: &'static [SensorModel],
    single: bool,
    has_battery: bool,
) -> DeviceModel {
    DeviceModel { zone, name, place, sensors, single, has_battery }
}

/// Voltage of a fresh pair of lithium cells, V, and its drop per day.
const BATTERY_FULL_V: f64 = 3.3;
const BATTERY_V_PER_DAY: f64 = 0.004;
const DAY_MS: f64 = 86_400_000.0;

/// A running device.
#[derive(Debug)]
pub(crate) struct SimulatedDevice {
    pub(crate) model: DeviceModel,
    pub(crate) zone: ZoneId,
    boot: String,
    seq: u64,
    started_ms: i64,
    /// Offset of its samples within each interval, ms. Devices are not in step.
    phase_ms: i64,
    /// Drift of its clock, parts per million.
    drift_ppm: f64,
    pub(crate) rng: Pcg64Mcg,
}

impl SimulatedDevice {
    pub(crate) fn start_at(model: DeviceModel, number: u64, seed: u64, started_ms: i64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let drift_ppm = draw_normal(&mut rng, 8.0);
        Self {
            model,
            zone: ZoneId::new(model.zone.0, model.zone.1),
            boot: format!("{:08x}", (seed << 8 | number) ^ (started_ms as u64 / 1000)),
            seq: 0,
            started_ms,
            phase_ms: (number as i64 * 4_217) % 50_000,
            drift_ppm,
            rng,
        }
    }

    /// Returns when it samples, in an interval that starts at `interval_ms`, UTC ms.
    pub(crate) fn samples_at_ms(&self, interval_ms: i64, length_ms: i64) -> i64 {
        interval_ms + self.phase_ms % length_ms
    }

    /// Measures now. Returns metric and value, in the metric's unit.
    pub(crate) fn measure_site(
        &mut self,
        site: &SimulatedSite,
        at_ms: i64,
    ) -> Vec<(&'static str, f64)> {
        let mut values = Vec::with_capacity(self.model.sensors.len() + 1);
        for sensor in self.model.sensors {
            let Some(true_value) = site.read_quantity(self.model.place, sensor.quantity) else {
                continue;
            };
            let value = true_value
                + if sensor.noise > 0.0 { draw_normal(&mut self.rng, sensor.noise) } else { 0.0 };
            let floor = match sensor.metric {
                "temperature" | "soil_temperature" | "outdoor_temperature" => f64::NEG_INFINITY,
                _ => 0.0,
            };
            let ceiling = if sensor.metric == "humidity" { 100.0 } else { f64::INFINITY };
            values.push((sensor.metric, round_to(value.clamp(floor, ceiling), sensor.resolution)));
        }
        if self.model.has_battery {
            let days = (at_ms - self.started_ms) as f64 / DAY_MS;
            let volts = BATTERY_FULL_V - BATTERY_V_PER_DAY * days;
            values.push(("battery", round_to(volts, 0.001)));
        }
        values
    }

    /// Builds messages with the device's own timestamp and numbers. Its clock is off by its drift
    /// and `skew_ms`.
    pub(crate) fn build_messages(
        &mut self,
        values: Vec<(&'static str, f64)>,
        at_ms: i64,
        skew_ms: i64,
    ) -> Vec<DeviceMessage> {
        // Clocks are set once a day.
        let since_set_ms = (at_ms - self.started_ms) as f64 % DAY_MS;
        let event_ms = at_ms + skew_ms + (since_set_ms * self.drift_ppm * 1e-6) as i64;
        let parts: Vec<Vec<(&'static str, f64)>> = if self.model.single {
            values.into_iter().map(|v| vec![v]).collect()
        } else {
            vec![values]
        };
        parts
            .into_iter()
            .map(|values| {
                let metric = self.model.single.then(|| values[0].0);
                let (boot, seq) = (self.boot.clone(), self.seq);
                self.seq += 1;
                let single = self.model.single;
                let body = MessageBody::Sample(SampleBody { boot, seq, event_ms, values, single });
                DeviceMessage {
                    topic: device_topic(&self.zone, self.model.name, metric),
                    sent_ms: at_ms,
                    body,
                }
            })
            .collect()
    }
}

fn round_to(value: f64, resolution: f64) -> f64 {
    // Rounds twice, so that multiples of 0.1 print as such.
    let steps = (value / resolution).round();
    (steps * resolution * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_devices_in_three_zones_with_every_task_s_metric() {
        let zones: std::collections::BTreeSet<_> = MODELS.iter().map(|model| model.zone).collect();
        assert_eq!((MODELS.len(), zones.len()), (12, 3));
        let of_bay: Vec<_> = MODELS
            .iter()
            .filter(|m| m.zone == BAY)
            .flat_map(|m| m.sensors)
            .map(|s| s.metric)
            .collect();
        for metric in ["temperature", "humidity", "light", "soil_moisture", "irrigation", "heater"]
        {
            assert!(of_bay.contains(&metric), "{metric}");
        }
    }

    #[test]
    fn numbers_count_up_within_a_boot_and_values_are_rounded() {
        let mut device = SimulatedDevice::start_at(MODELS[1], 1, 7, 0);
        let numbers = |messages: &[DeviceMessage]| -> Vec<u64> {
            let number = |m: &DeviceMessage| match &m.body {
                MessageBody::Sample(sample) => sample.seq,
                MessageBody::Malformed(_) => panic!("a sample"),
            };
            messages.iter().map(number).collect()
        };
        let first = device.build_messages(vec![("soil_moisture", 30.0)], 60_000, 0);
        let second = device.build_messages(vec![("soil_moisture", 30.0)], 120_000, 0);
        assert_eq!((numbers(&first), numbers(&second)), (vec![0], vec![1]));
        assert_eq!(round_to(21.237_499, 0.01), 21.24);
    }
}
