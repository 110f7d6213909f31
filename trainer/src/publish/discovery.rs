//! Discovery messages for Home Assistant, which then shows a prediction as a sensor:
//! <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery> and
//! <https://www.home-assistant.io/integrations/sensor.mqtt/>.

use serde_json::{Value, json};
use telemetry::ZoneId;

use super::status_topic;
use crate::{
    compare::title_and_unit,
    serve::{Prediction, settings::PublisherSettings},
    tasks,
};

/// Sensor that shows a task's prediction for a zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiscoverySensor {
    task: String,
    zone: ZoneId,
    unit: String,
}

impl DiscoverySensor {
    /// Creates the sensor that shows a prediction.
    #[must_use]
    pub fn from_prediction(prediction: &Prediction) -> Self {
        Self {
            task: prediction.task.clone(),
            zone: prediction.zone.clone(),
            unit: prediction.unit.clone(),
        }
    }

    /// Topic of the predictions.
    #[must_use]
    pub fn state_topic(&self, mqtt: &PublisherSettings) -> String {
        format!("{}/{}/{}", mqtt.topic, self.zone, self.task)
    }

    /// Topic of the sensor's retained configuration.
    #[must_use]
    pub fn config_topic(&self, mqtt: &PublisherSettings) -> String {
        let prefix = &mqtt.discovery_prefix;
        format!("{prefix}/sensor/{}/{}/config", self.device_id(), escape_topic_name(&self.task))
    }

    fn device_id(&self) -> String {
        format!("microclimate_{}", escape_topic_name(&self.zone.to_string()))
    }

    /// Configuration of the sensor. After `expire_s` without a prediction the sensor is
    /// unavailable.
    #[must_use]
    pub fn discovery_config(&self, mqtt: &PublisherSettings, expire_s: u64) -> Value {
        let (title, _) = title_and_unit(&self.task);
        let device_id = self.device_id();
        let state = self.state_topic(mqtt);
        let mut config = json!({
            "name": title,
            "unique_id": format!("{device_id}_{}", escape_topic_name(&self.task)),
            "state_topic": state,
            "value_template": "{{ value_json.value | round(2) }}",
            "json_attributes_topic": state,
            "unit_of_measurement": self.unit,
            "state_class": "measurement",
            "expire_after": expire_s,
            "availability_topic": status_topic(mqtt),
            "device": {
                "identifiers": [device_id],
                "name": format!("{} predictions", self.zone),
                "model": "Microclimate",
            },
            "origin": { "name": "microclimate", "sw_version": env!("CARGO_PKG_VERSION") },
        });
        if let Some(class) = device_class(&self.unit) {
            config["device_class"] = class.into();
        }
        let classes = task_classes(&self.task);
        // The index of one of several classes means nothing to a user, so its name is shown. Of two
        // classes, the probability of the second is more useful than the name.
        if classes.len() > 2 {
            config["value_template"] = "{{ value_json.class }}".into();
            config["device_class"] = "enum".into();
            config["options"] = classes.into();
            // An enumeration may have neither.
            for key in ["unit_of_measurement", "state_class"] {
                config.as_object_mut().expect("the configuration is an object").remove(key);
            }
        }
        config
    }
}

/// Classes of a classification task; none for other tasks.
fn task_classes(task: &str) -> &'static [&'static str] {
    let found = tasks::all_tasks().into_iter().find(|candidate| candidate.spec().name == task);
    found.map_or(&[], |task| task.spec().classes)
}

/// Home Assistant's device class for a unit, if there is one.
fn device_class(unit: &str) -> Option<&'static str> {
    match unit {
        "°C" => Some("temperature"),
        "h" => Some("duration"),
        _ => None,
    }
}

/// Name of letters, digits, `_` and `-`, as topics of discovery require. Different names stay
/// different, because replaced characters are spelled out.
fn escape_topic_name(name: &str) -> String {
    let spell = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' => c.to_string(),
        '/' => "_".to_owned(),
        other => format!("_{:x}_", u32::from(other)),
    };
    name.chars().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainerSettings;

    fn sensor(zone: &str) -> DiscoverySensor {
        let zone = zone.parse().unwrap();
        DiscoverySensor { task: "temperature-10m".to_owned(), zone, unit: "°C".to_owned() }
    }

    #[test]
    fn the_discovery_message_of_a_sensor() {
        let mqtt = TrainerSettings::default().mqtt;
        let sensor = sensor("farm/bay-1");
        assert_eq!(sensor.state_topic(&mqtt), "predictions/farm/bay-1/temperature-10m");
        let topic = "homeassistant/sensor/microclimate_farm_bay-1/temperature-10m/config";
        assert_eq!(sensor.config_topic(&mqtt), topic);
        let expect = json!({
            "name": "temperature in 10 minutes",
            "unique_id": "microclimate_farm_bay-1_temperature-10m",
            "state_topic": "predictions/farm/bay-1/temperature-10m",
            "value_template": "{{ value_json.value | round(2) }}",
            "json_attributes_topic": "predictions/farm/bay-1/temperature-10m",
            "unit_of_measurement": "°C",
            "device_class": "temperature",
            "state_class": "measurement",
            "expire_after": 300,
            "availability_topic": "predictions/status",
            "device": {
                "identifiers": ["microclimate_farm_bay-1"],
                "name": "farm/bay-1 predictions",
                "model": "Microclimate",
            },
            "origin": { "name": "microclimate", "sw_version": env!("CARGO_PKG_VERSION") },
        });
        assert_eq!(sensor.discovery_config(&mqtt, 300), expect);
    }

    #[test]
    fn one_of_several_classes_is_shown_by_its_name() {
        let of = |task: &str, unit: &str| {
            let (task, unit) = (task.to_owned(), unit.to_owned());
            DiscoverySensor { task, unit, ..sensor("farm/bay-1") }
                .discovery_config(&TrainerSettings::default().mqtt, 300)
        };
        let class = of("heating-class", "0 heat, 1 hold, 2 cool");
        assert_eq!(class["value_template"], "{{ value_json.class }}");
        assert_eq!(
            (&class["device_class"], &class["options"]),
            (&json!("enum"), &json!(["heat", "hold", "cool"]))
        );
        assert!(class.get("unit_of_measurement").is_none() && class.get("state_class").is_none());
        let start = of("watering-start-2h", "probability");
        assert_eq!(start["value_template"], "{{ value_json.value | round(2) }}");
        assert_eq!(start.get("options"), None);
    }

    #[test]
    fn names_stay_different() {
        for (one, other) in [("farm/bay 1", "farm/bay-1"), ("farm/é", "farm/e")] {
            let topic = |zone| sensor(zone).config_topic(&TrainerSettings::default().mqtt);
            assert_ne!(topic(one), topic(other));
            assert!(!topic(one).contains(' ') && topic(one).is_ascii());
        }
    }
}
