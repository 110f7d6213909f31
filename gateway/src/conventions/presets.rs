//! Conventions that are data: layouts of messages, and the meaning of their fields.
//!
//! Each could be written by a user as a `template`, with the names of the system's fields.
//! [`COMMON`] has the names that many systems share.

use telemetry::MetricTable;

use super::{
    quantity::{BuiltinName, QuantityRules, metric_named, metric_of_part, not_a_reading},
    records::{FieldSelection, LayoutText, RecordConvention},
    settings::{ConventionName, MappingSettings, UnknownValuePolicy},
};

/// A convention as a table.
#[derive(Debug)]
struct ConventionPreset {
    /// Default of `{base}` in the topics; empty if topics begin with the device.
    base: &'static str,
    layouts: &'static [LayoutText<'static>],
    /// Topics without readings.
    silent: &'static [&'static str],
    /// Names of fields that take precedence over those in [`COMMON`].
    fields: &'static [BuiltinName],
    /// The policy for numbers that no rule knows. If other people's devices are within radio
    /// range, or if messages contain the whole state of a device, such numbers are not readings.
    unknown: UnknownValuePolicy,
    reading: FieldSelection,
}

impl ConventionPreset {
    const EMPTY: Self = Self {
        base: "",
        layouts: &[],
        silent: &[],
        fields: &[],
        unknown: UnknownValuePolicy::DeadLetter,
        reading: FieldSelection::Known,
    };
}

/// Field names that firmware and payload decoders of all kinds use, with the unit in the name or
/// the only usual one. Of two names of one quantity the first takes precedence.
const COMMON: &[BuiltinName] = &[
    metric_named("tempc", "temperature", Some("°C")),
    metric_named("temperature_C", "temperature", Some("°C")),
    metric_named("temp_c", "temperature", Some("°C")),
    metric_named("tempc_sht", "temperature", Some("°C")),
    // A probe on a cable, in addition to the sensor in the case.
    metric_of_part("ds18b20", "tempc_ds", "temperature", Some("°C")),
    metric_of_part("ds18b20", "tempc_ds18b20", "temperature", Some("°C")),
    metric_of_part("ds18b20", "temp_ds18b20", "temperature", Some("°C")),
    metric_named("temperature", "temperature", Some("°C")),
    metric_named("temp", "temperature", Some("°C")),
    metric_named("air_temperature", "temperature", Some("°C")),
    metric_named("airtemperature", "temperature", Some("°C")),
    metric_named("ambient_temperature", "temperature", Some("°C")),
    metric_named("tempc#", "temperature", Some("°C")),
    metric_named("temperature_#_C", "temperature", Some("°C")),
    metric_named("temperature_#", "temperature", Some("°C")),
    metric_named("temperature#", "temperature", Some("°C")),
    metric_named("tempf", "temperature", Some("°F")),
    metric_named("temperature_F", "temperature", Some("°F")),
    metric_named("tempf#", "temperature", Some("°F")),
    metric_named("temperature_#_F", "temperature", Some("°F")),
    metric_named("hum", "humidity", Some("%")),
    metric_named("humidity", "humidity", Some("%")),
    metric_named("rh", "humidity", Some("%")),
    metric_named("hum_sht", "humidity", Some("%")),
    metric_named("relative_humidity", "humidity", Some("%")),
    metric_named("relativehumidity", "humidity", Some("%")),
    metric_named("air_humidity", "humidity", Some("%")),
    metric_named("airhumidity", "humidity", Some("%")),
    metric_named("humidity_#", "humidity", Some("%")),
    metric_named("relative_humidity_#", "humidity", Some("%")),
    metric_named("soil_temperature", "soil_temperature", Some("°C")),
    metric_named("soiltemperature", "soil_temperature", Some("°C")),
    metric_named("soil_temp", "soil_temperature", Some("°C")),
    metric_named("temp_soil", "soil_temperature", Some("°C")),
    metric_named("soil_temperature_#", "soil_temperature", Some("°C")),
    metric_named("moi", "soil_moisture", Some("%")),
    metric_named("soil_moisture", "soil_moisture", Some("%")),
    metric_named("soilmoisture", "soil_moisture", Some("%")),
    metric_named("soil_humidity", "soil_moisture", Some("%")),
    metric_named("water_soil", "soil_moisture", Some("%")),
    metric_named("moisture", "soil_moisture", Some("%")),
    metric_named("soil_moisture_#", "soil_moisture", Some("%")),
    metric_named("moisture_#", "soil_moisture", Some("%")),
    metric_named("co2", "co2", Some("ppm")),
    metric_named("co2_ppm", "co2", Some("ppm")),
    metric_named("carbon_dioxide", "co2", Some("ppm")),
    metric_named("lux", "light", Some("lx")),
    metric_named("light_lux", "light", Some("lx")),
    metric_named("illuminance", "light", Some("lx")),
    metric_named("illuminance_lx", "light", Some("lx")),
    metric_named("ill_lx", "light", Some("lx")),
    metric_named("luminosity", "light", Some("lx")),
    metric_named("luminosity_#", "light", Some("lx")),
    metric_named("light_klx", "light", Some("klx")),
    metric_named("pres", "pressure", Some("hPa")),
    metric_named("pressure_hPa", "pressure", Some("hPa")),
    metric_named("pressure", "pressure", Some("hPa")),
    metric_named("barometric_pressure", "pressure", Some("hPa")),
    metric_named("barometer", "pressure", Some("hPa")),
    metric_named("air_pressure", "pressure", Some("hPa")),
    metric_named("barometric_pressure_#", "pressure", Some("hPa")),
    metric_named("wind_avg_m_s", "wind_speed", Some("m/s")),
    metric_named("wind_avg_km_h", "wind_speed", Some("km/h")),
    metric_named("wind_avg_mi_h", "wind_speed", Some("mph")),
    metric_named("wind_spd_km_h", "wind_speed", Some("km/h")),
    // The unit of these must be stated.
    metric_named("wind_speed", "wind_speed", None),
    metric_named("windspeed", "wind_speed", None),
    metric_named("wind_dir_deg", "wind_direction", Some("°")),
    metric_named("wind_direction", "wind_direction", Some("°")),
    metric_named("winddirection", "wind_direction", Some("°")),
    metric_named("rain_mm", "rain", Some("mm")),
    metric_named("rain_in", "rain", Some("in")),
    metric_named("rain_rate_mm_h", "rain_rate", Some("mm/h")),
    metric_named("rain_rate_in_h", "rain_rate", Some("in/h")),
    metric_named("fer", "ec", Some("µS/cm")),
    metric_named("conduct_soil", "ec", Some("µS/cm")),
    metric_named("ec", "ec", None),
    metric_named("soil_ec", "ec", None),
    metric_named("conductivity", "ec", None),
    metric_named("soil_conductivity", "ec", None),
    metric_named("ph", "ph", Some("pH")),
    metric_named("ph_soil", "ph", Some("pH")),
    metric_named("ph1_soil", "ph", Some("pH")),
    metric_named("ppfd", "par", Some("µmol/m²/s")),
    metric_named("par", "par", Some("µmol/m²/s")),
    metric_named("irradiance", "irradiance", Some("W/m²")),
    metric_named("solar_radiation", "irradiance", Some("W/m²")),
    metric_named("solarradiation", "irradiance", Some("W/m²")),
    metric_named("leaf_wetness", "leaf_wetness", Some("%")),
    metric_named("leafwetness", "leaf_wetness", Some("%")),
    metric_named("leaf_moisture", "leaf_wetness", Some("%")),
    metric_named("motion", "motion", Some("count")),
    metric_named("occupancy", "motion", Some("count")),
    metric_named("presence", "motion", Some("count")),
    metric_named("pir", "motion", Some("count")),
    metric_named("volt", "battery", Some("V")),
    metric_named("battery_V", "battery", Some("V")),
    metric_named("battery_mV", "battery", Some("mV")),
    metric_named("batv", "battery", Some("V")),
    metric_named("bat", "battery", None),
    metric_named("bat_v", "battery", Some("V")),
    metric_named("battery_voltage", "battery", Some("V")),
    metric_named("batteryvoltage", "battery", Some("V")),
    // A percentage of the charge as often as volts.
    not_a_reading("battery"),
    // The voltage of a battery, or of the mains.
    not_a_reading("voltage"),
    not_a_reading("dew_point"),
    not_a_reading("dewpoint"),
    not_a_reading("power"),
    not_a_reading("current"),
    not_a_reading("energy"),
    not_a_reading("uvi"),
    not_a_reading("uv"),
];

/// Source: <https://www.chirpstack.io/docs/chirpstack/integrations/events.html>; of version 3
/// <https://www.chirpstack.io/application-server/integrations/events/>.
const CHIRPSTACK: ConventionPreset = ConventionPreset {
    base: "application",
    layouts: &[LayoutText {
        topic: "{base}/+/device/{device}/event/up",
        fields: &["/object", "/objectJSON"],
        device: "{/deviceInfo/deviceName|/deviceName|device}",
        names: &[
            "/deviceInfo/devEui",
            "/deviceInfo/applicationName",
            "/deviceInfo/deviceProfileName",
            "/applicationName",
        ],
        timestamp: &["/time", "/rxInfo/0/time", "/publishedAt"],
        sequence: Some("/fCnt"),
        // An address is assigned at each join, and the counter starts again with it.
        boot: Some("/devAddr"),
        undecoded: Some((
            "/data",
            "the uplink has bytes and no `object`: set a codec in the device profile of ChirpStack",
        )),
        ..LayoutText::EMPTY
    }],
    silent: &["{base}/#"],
    // Cayenne's low-power payload, as version 3 and its successors decode it.
    fields: &[
        metric_named("temperatureSensor/#", "temperature", Some("°C")),
        metric_named("humiditySensor/#", "humidity", Some("%")),
        metric_named("illuminanceSensor/#", "light", Some("lx")),
        metric_named("barometer/#", "pressure", Some("hPa")),
        metric_named("presenceSensor/#", "motion", Some("count")),
    ],
    ..ConventionPreset::EMPTY
};

/// Source: <https://www.thethingsindustries.com/docs/integrations/data-formats/>; topics
/// <https://www.thethingsindustries.com/docs/integrations/other-integrations/mqtt/>.
const THE_THINGS_STACK: ConventionPreset = ConventionPreset {
    base: "v3",
    layouts: &[LayoutText {
        topic: "{base}/+/devices/{device}/up",
        fields: &["/uplink_message/decoded_payload"],
        device: "{/end_device_ids/device_id|device}",
        names: &["/end_device_ids/dev_eui", "/end_device_ids/application_ids/application_id"],
        timestamp: &["/uplink_message/received_at", "/received_at"],
        sequence: Some("/uplink_message/f_cnt"),
        boot: Some("/uplink_message/session_key_id"),
        undecoded: Some((
            "/uplink_message/frm_payload",
            "the uplink has bytes and no `decoded_payload`: set a payload formatter in The Things Stack",
        )),
        ..LayoutText::EMPTY
    }],
    silent: &["{base}/#"],
    ..ConventionPreset::EMPTY
};

/// Source: <https://shelly-api-docs.shelly.cloud/gen2/General/Notifications> and
/// `/gen2/ComponentsAndServices/`. A channel (`temperature:100`) is one sensor. Its number
/// identifies it, so that humidity and temperature of one sensor belong together.
const SHELLY: ConventionPreset = ConventionPreset {
    layouts: &[
        LayoutText {
            topic: "{base}/{device}/events/rpc",
            records: "/params/{kind}:{channel}",
            device: "{device}.{channel}",
            timestamp: &["/params/ts"],
            ..LayoutText::EMPTY
        },
        LayoutText {
            topic: "{base}/{device}/status/{kind}:{channel}",
            device: "{device}.{channel}",
            ..LayoutText::EMPTY
        },
    ],
    silent: &[
        "{base}/+/online",
        "{base}/+/status/#",
        "{base}/+/events/#",
        "{base}/+/rpc",
        "{base}/+/command/#",
    ],
    fields: &[
        metric_named("temperature/tC", "temperature", Some("°C")),
        metric_named("temperature/tF", "temperature", Some("°F")),
        metric_named("humidity/rh", "humidity", Some("%")),
        metric_named("illuminance/lux", "light", Some("lx")),
        metric_named("devicepower/battery/V", "battery", Some("V")),
        // The temperature of a relay, a meter or a dimmer itself.
        not_a_reading("tC"),
        not_a_reading("tF"),
    ],
    unknown: UnknownValuePolicy::Ignore,
    ..ConventionPreset::EMPTY
};

/// Source: `docs/DATA_FORMAT.md` and `src/output_mqtt.c` of merbanan/rtl_433. `rain_mm` counts
/// since the gauge was last reset.
const RTL_433: ConventionPreset = ConventionPreset {
    base: "rtl_433",
    layouts: &[
        LayoutText {
            topic: "{base}/+/events",
            device: "{/model}.{/subtype}.{/channel}.{/id}",
            names: &["/model"],
            timestamp: &["/time"],
            is_local_time: true,
            ..LayoutText::EMPTY
        },
        LayoutText { topic: "{base}/+/devices/{device#}/{metric}", ..LayoutText::EMPTY },
    ],
    silent: &["{base}/#"],
    fields: &[
        // Mostly the pressure of tyres.
        not_a_reading("pressure_kPa"),
        not_a_reading("pressure_PSI"),
        // A gauge's own count.
        not_a_reading("rain"),
        not_a_reading("light"),
    ],
    unknown: UnknownValuePolicy::Ignore,
    ..ConventionPreset::EMPTY
};

/// Source: <https://docs.openmqttgateway.com/use/ble.html> and `/use/rf.html`; fields of
/// Bluetooth devices <https://decoder.theengs.io/>, of radio devices those of rtl_433.
/// Theengs gateway: <https://gateway.theengs.io/use/use.html>.
const OPENMQTTGATEWAY: ConventionPreset = ConventionPreset {
    base: "home",
    layouts: &[
        LayoutText {
            topic: "{base}/+/BTtoMQTT/{device}",
            names: &["/id", "/name", "/model_id"],
            ..LayoutText::EMPTY
        },
        LayoutText {
            topic: "{base}/+/RTL_433toMQTT/{device#}",
            names: &["/model"],
            ..LayoutText::EMPTY
        },
        LayoutText {
            topic: "{base}/+/RTL_433toMQTT",
            device: "{/model}.{/subtype}.{/channel}.{/id}",
            names: &["/model"],
            ..LayoutText::EMPTY
        },
        LayoutText {
            topic: "{base}/+/LORAtoMQTT/{device}",
            names: &["/id", "/model"],
            ..LayoutText::EMPTY
        },
        LayoutText {
            topic: "{base}/{device}/CLIMAtoMQTT/{channel}",
            device: "{device}.{channel}",
            ..LayoutText::EMPTY
        },
    ],
    silent: &[
        "{base}/+/*toMQTT/#",
        "{base}/+/LWT",
        "{base}/+/version",
        "{base}/+/undecoded/#",
        "{base}/+/commands/#",
    ],
    fields: &[
        not_a_reading("tempc2_dp"),
        not_a_reading("tempf2_dp"),
        not_a_reading("pressure_kPa"),
        not_a_reading("pressure_PSI"),
        not_a_reading("rain"),
    ],
    unknown: UnknownValuePolicy::Ignore,
    ..ConventionPreset::EMPTY
};

/// Source: <https://esphome.io/components/mqtt.html>, `topic_prefix`. The id is the sensor's name
/// in lower case.
const ESPHOME: ConventionPreset = ConventionPreset {
    layouts: &[
        LayoutText { topic: "{base}/{device}/sensor/{metric}/state", ..LayoutText::EMPTY },
        LayoutText { topic: "{base}/{device}/binary_sensor/{metric}/state", ..LayoutText::EMPTY },
    ],
    silent: &[
        "{base}/+/status",
        "{base}/+/debug",
        "{base}/+/alarm_control_panel/#",
        "{base}/+/button/#",
        "{base}/+/climate/#",
        "{base}/+/cover/#",
        "{base}/+/event/#",
        "{base}/+/fan/#",
        "{base}/+/light/#",
        "{base}/+/lock/#",
        "{base}/+/number/#",
        "{base}/+/select/#",
        "{base}/+/switch/#",
        "{base}/+/text/#",
        "{base}/+/text_sensor/#",
        "{base}/+/update/#",
        "{base}/+/valve/#",
    ],
    fields: &[metric_named("wind_speed", "wind_speed", Some("km/h"))],
    reading: FieldSelection::KnownByEnd,
    ..ConventionPreset::EMPTY
};

/// Source: <https://thingsboard.io/docs/reference/mqtt-api/> and `/gateway-mqtt-api/`.
const THINGSBOARD: ConventionPreset = ConventionPreset {
    base: "v1",
    layouts: &[
        LayoutText {
            topic: "{base}/devices/{device}/telemetry",
            fields: &["/values", ""],
            timestamp: &["/ts"],
            ..LayoutText::EMPTY
        },
        LayoutText {
            topic: "{base}/gateway/telemetry",
            records: "/{device}",
            fields: &["/values", ""],
            timestamp: &["/ts"],
            ..LayoutText::EMPTY
        },
    ],
    silent: &["{base}/#"],
    ..ConventionPreset::EMPTY
};

/// Source: RFC 8428, <https://www.rfc-editor.org/rfc/rfc8428>. The topic is the user's.
const SENML: ConventionPreset = ConventionPreset {
    layouts: &[LayoutText { topic: "", is_senml: true, ..LayoutText::EMPTY }],
    ..ConventionPreset::EMPTY
};

/// Returns the preset of a convention, if it is one.
fn find_preset(name: ConventionName) -> Option<&'static ConventionPreset> {
    match name {
        ConventionName::Chirpstack => Some(&CHIRPSTACK),
        ConventionName::Esphome => Some(&ESPHOME),
        ConventionName::Openmqttgateway => Some(&OPENMQTTGATEWAY),
        ConventionName::Rtl433 => Some(&RTL_433),
        ConventionName::Senml => Some(&SENML),
        ConventionName::Shelly => Some(&SHELLY),
        ConventionName::TheThingsStack => Some(&THE_THINGS_STACK),
        ConventionName::Thingsboard => Some(&THINGSBOARD),
        _ => None,
    }
}

/// Builds the convention of a mapping that names a preset.
pub(super) fn build_preset(
    mapping: &MappingSettings,
    metrics: &MetricTable,
) -> Result<RecordConvention, String> {
    let Some(preset) = find_preset(mapping.convention) else {
        return Err("no preset of this convention".to_owned());
    };
    let base = match mapping.base.as_deref() {
        None => preset.base.to_owned(),
        Some(_) => super::topic_base(mapping, "home")?,
    };
    let with_base = |topic: &str| match base.as_str() {
        "" => topic.trim_start_matches("{base}/").to_owned(),
        base => topic.replace("{base}", base),
    };
    let topics: Vec<String> = preset
        .layouts
        .iter()
        .map(|layout| match &mapping.topic {
            Some(topic) => topic.clone(),
            None => with_base(layout.topic),
        })
        .collect();
    if topics.iter().any(String::is_empty) {
        return Err(
            "`topic` is missing; name the topics of the packs, as in `topic = \"senml/{device}\"`"
                .to_owned(),
        );
    }
    let layouts: Vec<LayoutText<'_>> = preset
        .layouts
        .iter()
        .map(|layout| {
            let device = mapping.device.as_deref().unwrap_or(layout.device);
            // A pack names its devices itself.
            let device = if layout.is_senml { "-" } else { device };
            LayoutText { device, ..*layout }
        })
        .collect();
    let silent: Vec<String> = preset.silent.iter().map(|topic| with_base(topic)).collect();
    let quantities = QuantityRules::new(mapping, preset.fields, metrics)?
        .with_builtin(COMMON)
        .with_unknown(mapping, preset.unknown);
    RecordConvention::new(mapping, (&layouts, &topics), &silent, quantities, preset.reading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conventions::quantity::NameMeaning;

    #[test]
    fn built_in_names_are_of_known_metrics_and_units() {
        let metrics = MetricTable::default();
        let tables = [&CHIRPSTACK, &ESPHOME, &OPENMQTTGATEWAY, &RTL_433, &SENML, &SHELLY];
        let fields = tables.iter().flat_map(|preset| preset.fields).chain(COMMON);
        for BuiltinName { name, meaning, .. } in fields {
            let NameMeaning::Metric(metric, unit) = meaning else { continue };
            let known = metrics.get(metric).unwrap_or_else(|| panic!("{name}: {metric}"));
            if let Some(unit) = unit {
                telemetry::unit::convert_unit(1.0, unit, &known.unit)
                    .unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }
}
