//! Conventions that are data: layouts of messages, and what their fields are.
//!
//! Each is what a user could write as a `template`, with the names that the system gives its
//! fields. [`COMMON`] has the names that many of them share.

use telemetry::MetricTable;

use super::{
    quantity::{Builtin, Quantities, is, is_of, no},
    records::{FieldReading, LayoutText, RecordConvention},
    settings::{Mapping, Name, Unknown},
};

/// A convention as a table.
#[derive(Debug)]
struct Preset {
    /// Stands for `{base}` in the topics where the mapping says no other; none, where topics
    /// begin with the device.
    base: &'static str,
    layouts: &'static [LayoutText<'static>],
    /// Topics that carry no readings.
    silent: &'static [&'static str],
    /// Names of fields beside those in [`COMMON`], before which they come.
    fields: &'static [Builtin],
    /// What becomes of numbers that nothing knows: where the air is full of other people's
    /// devices, or messages of all that a device is, they are no readings.
    unknown: Unknown,
    reading: FieldReading,
}

impl Preset {
    const EMPTY: Self = Self {
        base: "",
        layouts: &[],
        silent: &[],
        fields: &[],
        unknown: Unknown::DeadLetter,
        reading: FieldReading::Known,
    };
}

/// Names of fields that firmwares and payload decoders of all kinds have, with the unit that
/// is in the name or that nobody writes otherwise. Of two names of one quantity the first
/// counts.
const COMMON: &[Builtin] = &[
    is("tempc", "temperature", Some("°C")),
    is("temperature_C", "temperature", Some("°C")),
    is("temp_c", "temperature", Some("°C")),
    is("tempc_sht", "temperature", Some("°C")),
    // A probe on a line, beside the sensor in the box.
    is_of("ds18b20", "tempc_ds", "temperature", Some("°C")),
    is_of("ds18b20", "tempc_ds18b20", "temperature", Some("°C")),
    is_of("ds18b20", "temp_ds18b20", "temperature", Some("°C")),
    is("temperature", "temperature", Some("°C")),
    is("temp", "temperature", Some("°C")),
    is("air_temperature", "temperature", Some("°C")),
    is("airtemperature", "temperature", Some("°C")),
    is("ambient_temperature", "temperature", Some("°C")),
    is("tempc#", "temperature", Some("°C")),
    is("temperature_#_C", "temperature", Some("°C")),
    is("temperature_#", "temperature", Some("°C")),
    is("temperature#", "temperature", Some("°C")),
    is("tempf", "temperature", Some("°F")),
    is("temperature_F", "temperature", Some("°F")),
    is("tempf#", "temperature", Some("°F")),
    is("temperature_#_F", "temperature", Some("°F")),
    is("hum", "humidity", Some("%")),
    is("humidity", "humidity", Some("%")),
    is("rh", "humidity", Some("%")),
    is("hum_sht", "humidity", Some("%")),
    is("relative_humidity", "humidity", Some("%")),
    is("relativehumidity", "humidity", Some("%")),
    is("air_humidity", "humidity", Some("%")),
    is("airhumidity", "humidity", Some("%")),
    is("humidity_#", "humidity", Some("%")),
    is("relative_humidity_#", "humidity", Some("%")),
    is("soil_temperature", "soil_temperature", Some("°C")),
    is("soiltemperature", "soil_temperature", Some("°C")),
    is("soil_temp", "soil_temperature", Some("°C")),
    is("temp_soil", "soil_temperature", Some("°C")),
    is("soil_temperature_#", "soil_temperature", Some("°C")),
    is("moi", "soil_moisture", Some("%")),
    is("soil_moisture", "soil_moisture", Some("%")),
    is("soilmoisture", "soil_moisture", Some("%")),
    is("soil_humidity", "soil_moisture", Some("%")),
    is("water_soil", "soil_moisture", Some("%")),
    is("moisture", "soil_moisture", Some("%")),
    is("soil_moisture_#", "soil_moisture", Some("%")),
    is("moisture_#", "soil_moisture", Some("%")),
    is("co2", "co2", Some("ppm")),
    is("co2_ppm", "co2", Some("ppm")),
    is("carbon_dioxide", "co2", Some("ppm")),
    is("lux", "light", Some("lx")),
    is("light_lux", "light", Some("lx")),
    is("illuminance", "light", Some("lx")),
    is("illuminance_lx", "light", Some("lx")),
    is("ill_lx", "light", Some("lx")),
    is("luminosity", "light", Some("lx")),
    is("luminosity_#", "light", Some("lx")),
    is("light_klx", "light", Some("klx")),
    is("pres", "pressure", Some("hPa")),
    is("pressure_hPa", "pressure", Some("hPa")),
    is("pressure", "pressure", Some("hPa")),
    is("barometric_pressure", "pressure", Some("hPa")),
    is("barometer", "pressure", Some("hPa")),
    is("air_pressure", "pressure", Some("hPa")),
    is("barometric_pressure_#", "pressure", Some("hPa")),
    is("wind_avg_m_s", "wind_speed", Some("m/s")),
    is("wind_avg_km_h", "wind_speed", Some("km/h")),
    is("wind_avg_mi_h", "wind_speed", Some("mph")),
    is("wind_spd_km_h", "wind_speed", Some("km/h")),
    // Of these the unit must be told.
    is("wind_speed", "wind_speed", None),
    is("windspeed", "wind_speed", None),
    is("wind_dir_deg", "wind_direction", Some("°")),
    is("wind_direction", "wind_direction", Some("°")),
    is("winddirection", "wind_direction", Some("°")),
    is("rain_mm", "rain", Some("mm")),
    is("rain_in", "rain", Some("in")),
    is("rain_rate_mm_h", "rain_rate", Some("mm/h")),
    is("rain_rate_in_h", "rain_rate", Some("in/h")),
    is("fer", "ec", Some("µS/cm")),
    is("conduct_soil", "ec", Some("µS/cm")),
    is("ec", "ec", None),
    is("soil_ec", "ec", None),
    is("conductivity", "ec", None),
    is("soil_conductivity", "ec", None),
    is("ph", "ph", Some("pH")),
    is("ph_soil", "ph", Some("pH")),
    is("ph1_soil", "ph", Some("pH")),
    is("ppfd", "par", Some("µmol/m²/s")),
    is("par", "par", Some("µmol/m²/s")),
    is("irradiance", "irradiance", Some("W/m²")),
    is("solar_radiation", "irradiance", Some("W/m²")),
    is("solarradiation", "irradiance", Some("W/m²")),
    is("leaf_wetness", "leaf_wetness", Some("%")),
    is("leafwetness", "leaf_wetness", Some("%")),
    is("leaf_moisture", "leaf_wetness", Some("%")),
    is("motion", "motion", Some("count")),
    is("occupancy", "motion", Some("count")),
    is("presence", "motion", Some("count")),
    is("pir", "motion", Some("count")),
    is("volt", "battery", Some("V")),
    is("battery_V", "battery", Some("V")),
    is("battery_mV", "battery", Some("mV")),
    is("batv", "battery", Some("V")),
    is("bat", "battery", None),
    is("bat_v", "battery", Some("V")),
    is("battery_voltage", "battery", Some("V")),
    is("batteryvoltage", "battery", Some("V")),
    // A share of the charge, as often as volts.
    no("battery"),
    // Of a battery, or of the mains.
    no("voltage"),
    no("dew_point"),
    no("dewpoint"),
    no("power"),
    no("current"),
    no("energy"),
    no("uvi"),
    no("uv"),
];

/// Source: <https://www.chirpstack.io/docs/chirpstack/integrations/events.html>; of version 3
/// <https://www.chirpstack.io/application-server/integrations/events/>.
const CHIRPSTACK: Preset = Preset {
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
        // An address is given at each join, and with it the counter begins again.
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
        is("temperatureSensor/#", "temperature", Some("°C")),
        is("humiditySensor/#", "humidity", Some("%")),
        is("illuminanceSensor/#", "light", Some("lx")),
        is("barometer/#", "pressure", Some("hPa")),
        is("presenceSensor/#", "motion", Some("count")),
    ],
    ..Preset::EMPTY
};

/// Source: <https://www.thethingsindustries.com/docs/integrations/data-formats/>; topics
/// <https://www.thethingsindustries.com/docs/integrations/other-integrations/mqtt/>.
const THE_THINGS_STACK: Preset = Preset {
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
    ..Preset::EMPTY
};

/// Source: <https://shelly-api-docs.shelly.cloud/gen2/General/Notifications> and
/// `/gen2/ComponentsAndServices/`. A channel (`temperature:100`) is a sensor: the number names
/// it, so that the humidity of a sensor is that of its temperature.
const SHELLY: Preset = Preset {
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
        is("temperature/tC", "temperature", Some("°C")),
        is("temperature/tF", "temperature", Some("°F")),
        is("humidity/rh", "humidity", Some("%")),
        is("illuminance/lux", "light", Some("lx")),
        is("devicepower/battery/V", "battery", Some("V")),
        // Of a relay, a meter or a dimmer itself.
        no("tC"),
        no("tF"),
    ],
    unknown: Unknown::Ignore,
    ..Preset::EMPTY
};

/// Source: `docs/DATA_FORMAT.md` and `src/output_mqtt.c` of merbanan/rtl_433. `rain_mm` counts
/// since the gauge was last reset.
const RTL_433: Preset = Preset {
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
        // Mostly of tyres.
        no("pressure_kPa"),
        no("pressure_PSI"),
        // What a gauge calls so is its own count.
        no("rain"),
        no("light"),
    ],
    unknown: Unknown::Ignore,
    ..Preset::EMPTY
};

/// Source: <https://docs.openmqttgateway.com/use/ble.html> and `/use/rf.html`; fields of
/// Bluetooth devices <https://decoder.theengs.io/>, of radio devices those of rtl_433.
/// Theengs gateway: <https://gateway.theengs.io/use/use.html>.
const OPENMQTTGATEWAY: Preset = Preset {
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
    fields: &[no("tempc2_dp"), no("tempf2_dp"), no("pressure_kPa"), no("pressure_PSI"), no("rain")],
    unknown: Unknown::Ignore,
    ..Preset::EMPTY
};

/// Source: <https://esphome.io/components/mqtt.html>, `topic_prefix`; the id is the name of the
/// sensor in small letters.
const ESPHOME: Preset = Preset {
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
    fields: &[is("wind_speed", "wind_speed", Some("km/h"))],
    reading: FieldReading::KnownByEnd,
    ..Preset::EMPTY
};

/// Source: <https://thingsboard.io/docs/reference/mqtt-api/> and `/gateway-mqtt-api/`.
const THINGSBOARD: Preset = Preset {
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
    ..Preset::EMPTY
};

/// Source: RFC 8428, <https://www.rfc-editor.org/rfc/rfc8428>. The topic is the user's.
const SENML: Preset = Preset {
    layouts: &[LayoutText { topic: "", is_senml: true, ..LayoutText::EMPTY }],
    ..Preset::EMPTY
};

/// The table of a convention that is one.
fn preset(name: Name) -> Option<&'static Preset> {
    match name {
        Name::Chirpstack => Some(&CHIRPSTACK),
        Name::Esphome => Some(&ESPHOME),
        Name::Openmqttgateway => Some(&OPENMQTTGATEWAY),
        Name::Rtl433 => Some(&RTL_433),
        Name::Senml => Some(&SENML),
        Name::Shelly => Some(&SHELLY),
        Name::TheThingsStack => Some(&THE_THINGS_STACK),
        Name::Thingsboard => Some(&THINGSBOARD),
        _ => None,
    }
}

/// The convention of a mapping that names a preset.
pub(super) fn convention(
    mapping: &Mapping,
    metrics: &MetricTable,
) -> Result<RecordConvention, String> {
    let Some(preset) = preset(mapping.convention) else {
        return Err("no preset of this convention".to_owned());
    };
    let base = match mapping.base.as_deref() {
        None => preset.base.to_owned(),
        Some(_) => super::base(mapping, "home")?,
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
    let quantities = Quantities::new(mapping, preset.fields, metrics)?
        .and_builtin(COMMON)
        .or_unknown(mapping, preset.unknown);
    RecordConvention::new(mapping, (&layouts, &topics), &silent, quantities, preset.reading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conventions::quantity::Meaning;

    #[test]
    fn built_in_names_are_of_known_metrics_and_units() {
        let metrics = MetricTable::default();
        let tables = [&CHIRPSTACK, &ESPHOME, &OPENMQTTGATEWAY, &RTL_433, &SENML, &SHELLY];
        let fields = tables.iter().flat_map(|preset| preset.fields).chain(COMMON);
        for Builtin { name, meaning, .. } in fields {
            let Meaning::Metric(metric, unit) = meaning else { continue };
            let known = metrics.get(metric).unwrap_or_else(|| panic!("{name}: {metric}"));
            if let Some(unit) = unit {
                telemetry::unit::convert(1.0, unit, &known.unit)
                    .unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }
}
