//! Values about the device itself, and values that mean "no value".
//!
//! Boards announce the temperature of their own chip, and thermometers send certain numbers for
//! "no probe". Neither was measured in the zone. A user's rule that names such a value still
//! applies; this table covers what a convention recognises by itself.
//!
//! | value | sender | source |
//! |---|---|---|
//! | `cpu_temperature`, `chip_temp`, `ESP32 Temperature`, … | boards, about themselves | ESPHome `internal_temperature`, Zigbee2MQTT `device_temperature`, Tasmota `ESP32` |
//! | 85 °C of a DS18B20 | its register after power-on, before the first conversion | DS18B20 data sheet, table 1 |
//! | −127 °C | a probe that does not answer | DallasTemperature, `DEVICE_DISCONNECTED_C` |
//! | 999, 1000 °C | an add-on without its probe | Shelly, `temperature.tC` |

/// Words before `temperature` in the name of a board's own temperature.
const DEVICE_PART_WORDS: &[&str] = &[
    "board",
    "chip",
    "controller",
    "cpu",
    "device",
    "die",
    "esp",
    "esp32",
    "esp8266",
    "gpu",
    "internal",
    "junction",
    "mcu",
    "pcb",
    "processor",
    "soc",
];
/// Those of these words that never name a room or a probe.
const UNAMBIGUOUS_PART_WORDS: &[&str] = &["chip", "cpu", "gpu", "mcu", "processor", "soc"];

/// Whether a value is about the device itself, judging by the last level of its name and its
/// metric or device class.
pub(super) fn is_of_device(name: &str, metric: &str) -> bool {
    if metric != "temperature" {
        return false;
    }
    let level = name.rsplit('/').next().unwrap_or_default();
    let words = split_words(level);
    let is_temperature = |word: &str| matches!(word, "temp" | "temperature");
    let is_part = |parts: &[&str], word: &String| parts.contains(&word.as_str());
    let is_named_so = words
        .windows(2)
        .any(|pair| is_part(DEVICE_PART_WORDS, &pair[0]) && is_temperature(&pair[1]));
    is_named_so || matches!(&words[..], [word] if is_part(UNAMBIGUOUS_PART_WORDS, word))
}

/// Whether a value, in °C, means "no value".
pub(super) fn is_sentinel(metric: &str, names: &[&str], value: f64) -> bool {
    if !matches!(metric, "temperature" | "soil_temperature" | "outdoor_temperature") {
        return false;
    }
    let is_dallas = names.iter().any(|name| {
        let upper_name = name.to_ascii_uppercase();
        ["DS18B20", "DS18S20", "DS1822", "DALLAS"].iter().any(|kind| upper_name.contains(kind))
    });
    let is = |sentinel: f64| (value - sentinel).abs() < 1e-6;
    is(-127.0) || is(999.0) || is(1000.0) || (is_dallas && is(85.0))
}

/// Splits a name into its words, in lower case: `cpuTemp`, `CPU temperature`, `cpu_temperature`.
fn split_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_new = true;
    let mut before = ' ';
    for c in name.chars().take(128) {
        if c.is_alphanumeric() {
            is_new |= c.is_uppercase() && before.is_lowercase();
            if is_new {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
            is_new = false;
        } else {
            is_new = true;
        }
        before = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_boards_own_temperature() {
        let check = |name: &str, expect: bool| {
            assert_eq!(is_of_device(name, "temperature"), expect, "{name}");
        };
        check("cpu_temperature", true);
        check("CPU Temp", true);
        check("cpuTemperature", true);
        check("node/esp32_temperature", true);
        check("device_temperature", true);
        check("Internal temperature", true);
        check("kitchen_board_temp", true);
        check("brd1/chip", true);
        check("temperature", false);
        check("esp32", false);
        check("esp32/temperature", false);
        check("board room temperature", false);
        check("soil_temperature", false);
        check("skateboard_temperature", false);
        assert!(!is_of_device("cpu_humidity", "humidity"));
    }

    #[test]
    fn numbers_that_say_none() {
        let check = |name: &str, value: f64, expect: bool| {
            assert_eq!(is_sentinel("temperature", &[name], value), expect, "{name} {value}");
        };
        check("DS18B20-1.Temperature", 85.0, true);
        check("DS18B20-1.Temperature", 84.9375, false);
        check("BME280.Temperature", 85.0, false);
        check("BME280.Temperature", -127.0, true);
        check("tC", 999.0, true);
        check("tC", 1000.0, true);
        check("tC", 21.0, false);
        assert!(!is_sentinel("co2", &["co2"], 999.0));
    }
}
