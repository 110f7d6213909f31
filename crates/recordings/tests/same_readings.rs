//! Checks that equal readings are stored equally, whichever file or message they arrive in.

use std::{collections::BTreeSet, path::Path};

use jiff::{Timestamp, tz::TimeZone};
use microclimate_recordings::{RecordingLayout, RecordingOptions};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use telemetry::{MetricTable, PayloadLimits, payload::decode_payload};

/// Zone, device, metric, event time, bits of the value.
type Found = BTreeSet<(String, String, String, i64, Option<u64>)>;

const ZONES: [&str; 2] = ["farm/bay-1", "farm/bay-2"];
const DEVICES: [&str; 2] = ["probe-1", "probe 2"];
/// A metric, other ways to write its name, and a unit in which it may be given.
const METRICS: [(&str, [&str; 2], &str); 3] = [
    ("temperature", ["Temperature", "TEMPERATURE"], "°C"),
    ("soil_moisture", ["Soil Moisture", "soil-moisture"], "%"),
    ("pressure", ["Pressure", "pressure"], "hPa"),
];

#[derive(Clone, Debug)]
struct Reading {
    zone: usize,
    device: usize,
    metric: usize,
    spelling: usize,
    event_ms: i64,
    value: f64,
    form: usize,
}

impl Reading {
    fn name(&self) -> &'static str {
        let (name, others, _) = METRICS[self.metric];
        [name, others[0], others[1]][self.spelling]
    }

    /// Event time, in one of the forms that mean it in every file and message.
    fn time(&self) -> Value {
        let at = Timestamp::from_millisecond(self.event_ms).unwrap();
        let berlin = at.to_zoned(TimeZone::get("Europe/Berlin").unwrap());
        let utc = at.to_zoned(TimeZone::UTC);
        match self.form {
            0 => json!(self.event_ms),
            1 => json!(self.event_ms as f64 / 1000.0),
            2 => json!(self.event_ms * 1000),
            3 => json!(self.event_ms.to_string()),
            4 => json!(at.to_string()),
            5 => json!(berlin.strftime("%Y-%m-%d %H:%M:%S%.f%z").to_string()),
            6 => json!(berlin.to_string()),
            7 => json!(utc.datetime().to_string()),
            _ => json!(utc.datetime().to_string().replace('T', " ")),
        }
    }

    fn time_text(&self) -> String {
        match self.time() {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
}

fn reading() -> impl Strategy<Value = Reading> {
    let parts = (0..2_usize, 0..2_usize, 0..3_usize, 0..3_usize, 0..600_i64, 0..9_usize);
    (parts, -30_000..90_000_i32).prop_map(|((zone, device, metric, spelling, at, form), value)| {
        let event_ms = 1_705_320_000_000 + at * 977;
        Reading { zone, device, metric, spelling, event_ms, value: f64::from(value) / 100.0, form }
    })
}

/// One value for each sensor and time; repeated values of a device are another matter.
fn readings() -> impl Strategy<Value = Vec<Reading>> {
    prop::collection::vec(reading(), 1..40).prop_map(|mut all| {
        all.sort_by_key(|reading| (reading.zone, reading.device, reading.metric, reading.event_ms));
        all.dedup_by_key(|reading| {
            (reading.zone, reading.device, reading.metric, reading.event_ms)
        });
        all
    })
}

/// Reads a file: its readings, and the number of its rejects.
fn of_file(dir: &Path, name: &str, text: &str, layout: RecordingLayout) -> (Found, usize) {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    let sources =
        microclimate_recordings::open_recording(&path, layout, &RecordingOptions::default())
            .unwrap();
    let (mut found, mut rejects) = (Found::new(), 0);
    for row in sources[0].read_rows().unwrap() {
        let Ok(row) = row else {
            rejects += 1;
            continue;
        };
        let value = Some(row.value.to_bits()).filter(|_| !row.value.is_nan());
        let sensor = &row.sensor;
        let [zone, device, metric] =
            [sensor.zone.to_string(), sensor.device.to_string(), sensor.metric.to_string()];
        found.insert((zone, device, metric, row.event_ms, value));
    }
    (found, rejects)
}

/// Decodes MQTT messages.
fn of_messages(messages: &[(String, Value)]) -> (Found, usize) {
    let (mut found, mut rejects) = (Found::new(), 0);
    for (topic, payload) in messages {
        let payload = payload.to_string();
        let metrics = MetricTable::default();
        let decoded = decode_payload(
            topic,
            payload.as_bytes(),
            1_705_400_000_000,
            &metrics,
            PayloadLimits::default(),
        );
        let Ok(decoded) = decoded else {
            rejects += 1;
            continue;
        };
        rejects += decoded.rejected_readings.len();
        let report = decoded.report;
        for reading in report.readings {
            let value = Some(reading.value.to_bits()).filter(|_| !reading.value.is_nan());
            let (zone, device) = (report.zone.to_string(), report.device.to_string());
            found.insert((zone, device, reading.metric.to_string(), reading.event_ms, value));
        }
    }
    (found, rejects)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn csv_json_lines_and_messages_are_the_same(readings in readings()) {
        let dir = tempfile::TempDir::new().unwrap();
        let expected: Found = readings
            .iter()
            .map(|reading| {
                let metric = METRICS[reading.metric].0.to_owned();
                let value = Some(reading.value.to_bits());
                (ZONES[reading.zone].to_owned(), DEVICES[reading.device].to_owned(), metric, reading.event_ms, value)
            })
            .collect();
        let mut long = "Time,Zone,Device,Metric,Value,Unit\n".to_owned();
        let mut semicolons = "\u{feff}ts;room;device;metric;value\r\n".to_owned();
        let mut wide = ",timestamp,site,zone,device,Temperature (°C),soil moisture,PRESSURE [hPa]\n".to_owned();
        let (mut lines, mut wide_lines, mut messages) = (String::new(), String::new(), Vec::new());
        for (i, reading) in readings.iter().enumerate() {
            let Reading { value, .. } = reading;
            let (zone, device, name, text) = (ZONES[reading.zone], DEVICES[reading.device], reading.name(), reading.time_text());
            let unit = if reading.form % 2 == 0 { METRICS[reading.metric].2 } else { "" };
            long += &format!("{text},{zone},{device},{name},{value},{unit}\n");
            semicolons += &format!("{text};{zone};{device};{name};{}\r\n", value.to_string().replace('.', ","));
            let mut cells = ["", "", ""].map(str::to_owned);
            cells[reading.metric] = value.to_string();
            let (site, bay) = zone.split_once('/').unwrap();
            wide += &format!("{i},{text},{site},{bay},{device},{}\n", cells.join(","));
            let line = json!({"zone": zone, "device": device, "metric": name, "ts": reading.time(), "value": value, "unit": unit});
            lines += &format!("{line}\n");
            let mut line = Map::from_iter([("Zone".to_owned(), json!(zone)), ("device".to_owned(), json!(device)), ("Time".to_owned(), reading.time())]);
            line.insert(name.to_owned(), json!(value));
            wide_lines += &format!("{}\n", Value::Object(line));
            messages.push(if i % 2 == 0 {
                (format!("sensors/{zone}/{device}/{name}"), json!({"value": value, "ts": reading.time(), "unit": unit}))
            } else {
                (format!("sensors/{zone}/{device}"), json!({name: value, "ts": reading.time()}))
            });
        }
        // Whole numbers have no decimals that would distinguish a comma from a point.
        prop_assert_eq!(of_file(dir.path(), "long.csv", &long, RecordingLayout::Csv), (expected.clone(), 0));
        prop_assert_eq!(of_file(dir.path(), "semicolons.csv", &semicolons, RecordingLayout::Csv), (expected.clone(), 0));
        prop_assert_eq!(of_file(dir.path(), "wide.csv", &wide, RecordingLayout::Csv), (expected.clone(), 0));
        prop_assert_eq!(of_file(dir.path(), "long.jsonl", &lines, RecordingLayout::Jsonl), (expected.clone(), 0));
        prop_assert_eq!(of_file(dir.path(), "wide.jsonl", &wide_lines, RecordingLayout::Jsonl), (expected.clone(), 0));
        prop_assert_eq!(of_messages(&messages), (expected, 0));
    }
}

/// Every input accepts and refuses the same readings.
#[test]
fn what_is_no_reading_is_none_in_every_door() {
    let dir = tempfile::TempDir::new().unwrap();
    let check = |zone: &str, metric: &str, ts: Value, value: Value, unit: &str, is_taken: bool| {
        let text = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let csv = format!(
            "time,zone,device,metric,value,unit\n{},{zone},d,{metric},{},{unit}\n",
            text(&ts),
            text(&value)
        );
        let line = json!({"zone": zone, "device": "d", "metric": metric, "ts": ts, "value": value, "unit": unit});
        // A recording: a live message whose device has no clock has its arrival time.
        let message = json!({"ts": ts, "value": value, "unit": unit, "source": "replay"});
        let topic = format!("sensors/{zone}/d/{metric}");
        let csv = of_file(dir.path(), "a.csv", &csv, RecordingLayout::Csv);
        let lines = of_file(dir.path(), "a.jsonl", &line.to_string(), RecordingLayout::Jsonl);
        assert_eq!(csv, lines, "{line}");
        assert_eq!(csv, of_messages(&[(topic, message)]), "{line}");
        assert_eq!((csv.0.len(), csv.1), if is_taken { (1, 0) } else { (0, 1) }, "{line}");
    };
    let noon = json!("2024-01-15T12:00:00Z");
    let ok = json!(20.5);
    check("a/b", "temperature", noon.clone(), ok.clone(), "", true);
    check("a/b", "Temperature", noon.clone(), ok.clone(), "°F", true);
    check("a/b", "irrigation", noon.clone(), json!(true), "", true);
    check("a/b", "temperature", noon.clone(), Value::Null, "", true);
    check("a/b", "warmth", noon.clone(), ok.clone(), "", false);
    check("a/b", "temperature", noon.clone(), ok.clone(), "lx", false);
    check("a/b", "temperature", noon, json!("warm"), "", false);
    for ts in [
        json!(null),
        json!(""),
        json!(0),
        json!(75),
        json!(75_000),
        json!(946_684_800),
        json!(-1),
        json!("1970-01-01T00:01:15Z"),
        json!("noon"),
        json!("15.01.2024 12:00"),
        json!(4_200_000_000_i64),
        json!("2024-01-15T12:00:00[Mars/Base]"),
        json!("2024-03-31T02:30:00[Europe/Berlin]"),
        json!("2024-10-27T02:30:00[Europe/Berlin]"),
        json!(20_240_115_120_000_i64),
        json!(true),
    ] {
        check("a/b", "temperature", ts, ok.clone(), "", false);
    }
    for ts in [
        json!(1_705_320_000),
        json!("1705320000.5"),
        json!(1_705_320_000_000_i64),
        json!(1_705_320_000_000_000_i64),
        json!(1_705_320_000_000_000_000_i64),
        json!("2024-01-15"),
        json!("2024-01-15T12:00"),
        json!("2024-01-15T13:00:00+0100"),
        json!("2024-01-15T12:00:00Z[UTC]"),
        json!(1_377_299_108),
    ] {
        check("a/b", "temperature", ts, ok.clone(), "", true);
    }
}
