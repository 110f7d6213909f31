//! Names of MQTT and log topics. An MQTT topic states which device measured what.

use smol_str::SmolStr;

use crate::{DeadLetterReason, ZoneId};

/// Log topic of decoded reports, keyed by zone.
pub const READINGS: &str = "sensor.readings";
/// Log topic of dead letters: raw bytes, with the reason in the headers.
pub const DEAD_LETTERS: &str = "sensor.dead-letters";
/// Log topic of served predictions.
pub const PREDICTIONS: &str = "predictions";
/// MQTT filter that covers every sensor.
pub const SENSOR_FILTER: &str = "sensors/#";

/// Longest name of a site, zone, device or metric, in bytes.
pub const MAX_LEVEL_BYTES: usize = 64;

/// The site, zone, device and metric that an MQTT topic names: `sensors/<site>/<zone>/<device>`
/// or `sensors/<site>/<zone>/<device>/<metric>`.
///
/// ```
/// let address = microclimate_telemetry::DeviceAddress::parse("sensors/farm/bay-1/probe-7/soil_moisture").unwrap();
/// assert_eq!(address.zone.to_string(), "farm/bay-1");
/// assert_eq!(address.device, "probe-7");
/// assert_eq!(address.metric.as_deref(), Some("soil_moisture"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAddress {
    /// Site and zone.
    pub zone: ZoneId,
    /// The device within the zone.
    pub device: SmolStr,
    /// The metric, where the topic names one.
    pub metric: Option<SmolStr>,
}

impl DeviceAddress {
    /// Parses a topic.
    ///
    /// # Errors
    /// Returns [`DeadLetterReason::BadTopic`] with what was found and what was expected.
    pub fn parse(topic: &str) -> Result<Self, (DeadLetterReason, String)> {
        let bad = |what: String| (DeadLetterReason::BadTopic, what);
        let levels: Vec<&str> = topic.split('/').take(6).collect();
        let (site, zone, device, metric) = match levels[..] {
            ["sensors", site, zone, device] => (site, zone, device, None),
            ["sensors", site, zone, device, metric] => (site, zone, device, Some(metric)),
            _ => {
                return Err(bad(format!(
                    "topic `{}` is not `sensors/<site>/<zone>/<device>[/<metric>]`",
                    topic.chars().take(120).collect::<String>()
                )));
            }
        };
        for level in [site, zone, device].into_iter().chain(metric) {
            check_level(level).map_err(bad)?;
        }
        Ok(Self {
            zone: ZoneId::new(site, zone),
            device: device.into(),
            metric: metric.map(SmolStr::from),
        })
    }

    /// Formats the topic that [`DeviceAddress::parse`] reads back.
    #[must_use]
    pub fn to_topic(&self) -> String {
        match &self.metric {
            Some(metric) => format!("sensors/{}/{}/{metric}", self.zone, self.device),
            None => format!("sensors/{}/{}", self.zone, self.device),
        }
    }
}

/// Checks one level of a topic. A level has 1 to 64 bytes without `/`, wildcards or control
/// characters, so that it is safe in topics, keys, file names and logs.
///
/// # Errors
/// Describes what is wrong with the level.
pub fn check_level(level: &str) -> Result<(), String> {
    let shown =
        || -> String { level.chars().take(MAX_LEVEL_BYTES).filter(|c| !c.is_control()).collect() };
    if level.is_empty() {
        Err("a level of the topic is empty".into())
    } else if level.len() > MAX_LEVEL_BYTES {
        Err(format!("level `{}…` is over {MAX_LEVEL_BYTES} bytes", shown()))
    } else if level.chars().any(|c| c.is_control() || matches!(c, '/' | '+' | '#')) {
        Err(format!("level `{}` has a control character, `/`, `+` or `#` in it", shown()))
    } else if level == "." || level == ".." {
        Err(format!("level `{}` is not a name", shown()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(topic: &str, expect: Option<(&str, &str, Option<&str>)>) {
        let got = DeviceAddress::parse(topic).ok();
        let got =
            got.as_ref().map(|a| (a.zone.to_string(), a.device.as_str(), a.metric.as_deref()));
        let expect = expect.map(|(zone, device, metric)| (zone.to_string(), device, metric));
        assert_eq!(got, expect, "{topic}");
    }

    #[test]
    fn topics() {
        check("sensors/s/z/d", Some(("s/z", "d", None)));
        check("sensors/s/z/d/temperature", Some(("s/z", "d", Some("temperature"))));
        check("sensors/s/z/d/a/b", None);
        check("sensors/s/z", None);
        check("sensors//z/d", None);
        check("sensors/s/z/../d", None);
        check("sensors/s/z/d/+", None);
        check("tele/s/z/d", None);
        check("", None);
        check(&format!("sensors/s/z/{}", "d".repeat(65)), None);
        check("sensors/s/z/d\u{0}", None);
    }
}
