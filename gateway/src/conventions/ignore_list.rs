//! The ignored topics, devices and values, by name.
//!
//! One list names them, so that the dead letters contain only messages that need a person.

use super::name_pattern::NamePattern;

/// Patterns over topics, names of devices and names of values.
#[derive(Clone, Debug, Default)]
pub(crate) struct IgnoreList(Vec<NamePattern>);

impl IgnoreList {
    /// Parses the patterns that a user wrote.
    ///
    /// # Errors
    /// Returns the first invalid pattern, and why.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, String> {
        let parsed = patterns.iter().map(|text| NamePattern::parse(text, &[]));
        parsed.collect::<Result<_, _>>().map(Self).map_err(|what| format!("ignore: {what}"))
    }

    pub(crate) fn is_match(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name))
    }

    pub(super) fn patterns(&self) -> impl Iterator<Item = &NamePattern> {
        self.0.iter()
    }
}

/// Names of values that devices of all kinds send about themselves, in lower case: the radio
/// link, the program, the battery's charge, the position. None of them is about the zone.
const DEVICE_FIELD_NAMES: &[&str] = &[
    "altitude",
    "batt",
    "battery_level",
    "battery_low",
    "battery_ok",
    "battery_pct",
    "battery_percent",
    "battery_percentage",
    "batterylevel",
    "boot_count",
    "channel",
    "counter",
    "f_cnt",
    "f_port",
    "fcnt",
    "fport",
    "free_heap",
    "free_memory",
    "freeheap",
    "freemem",
    "frequency",
    "heap",
    "id",
    "interval",
    "lat",
    "latitude",
    "link_quality",
    "linkquality",
    "lon",
    "longitude",
    "lqi",
    "lsnr",
    "message_id",
    "msg_id",
    "packet",
    "packet_id",
    "protocol",
    "report_interval",
    "rssi",
    "signal",
    "signal_strength",
    "snr",
    "sw_version",
    "tx_power",
    "txpower",
    "uptime",
    "uptime_s",
    "wifi_rssi",
    "wifi_signal",
];

/// Whether a value with this name is about the device, whoever sends it.
pub(crate) fn is_device_field(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    DEVICE_FIELD_NAMES.iter().any(|known| known.eq_ignore_ascii_case(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_is_about_the_device() {
        let check = |name: &str, expect: bool| assert_eq!(is_device_field(name), expect, "{name}");
        check("rssi", true);
        check("RSSI", true);
        check("probe/snr", true);
        check("temperature", false);
        check("battery", false);
        assert!(DEVICE_FIELD_NAMES.is_sorted());
    }
}
