//! Retained messages, with Home Assistant's discovery
//! (<https://www.home-assistant.io/integrations/binary_sensor.mqtt/>).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use telemetry::ZoneId;

use super::AlertView;
use crate::{
    alert::{AlertSeverity, AlertState},
    settings::MqttAlertSettings,
};

/// Largest number of zones that have topics of their own.
const ZONES_MAX: usize = 2000;
/// Largest number of alerts that have topics of their own.
const ALERTS_MAX: usize = 2000;

/// A retained message to publish; an empty payload clears the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedAlert {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: String,
}

/// Retained messages as they were published, so that only changes are published.
#[derive(Debug)]
pub struct AlertTopics {
    settings: MqttAlertSettings,
    /// Payload by topic, as published.
    published: BTreeMap<String, String>,
}

impl AlertTopics {
    /// Creates the topics, none of them published.
    #[must_use]
    pub fn new(settings: &MqttAlertSettings) -> Self {
        Self { settings: settings.clone(), published: BTreeMap::new() }
    }

    /// Notes the topics of alerts that an earlier run may have published, so that they are cleared
    /// when these alerts end: brokers keep retained messages.
    pub fn assume_published(&mut self, alerts: &[AlertView]) {
        for alert in alerts {
            self.published.insert(self.alert_topic(alert), String::new());
        }
    }

    /// Returns the messages that bring subscribers from what was published to these alerts, firing
    /// or acknowledged, of these zones.
    pub fn update(&mut self, zones: &[ZoneId], alerts: &[AlertView]) -> Vec<RetainedAlert> {
        if !self.settings.enabled {
            return Vec::new();
        }
        let mut wanted = BTreeMap::new();
        let firing = || alerts.iter().filter(|own| own.state != AlertState::Pending);
        let places = zones.iter().take(ZONES_MAX).map(Some).chain([None]);
        for place in places {
            let own: Vec<&AlertView> = firing().filter(|own| own.zone.as_ref() == place).collect();
            let topic = self.zone_topic(place);
            if let Some((topic, config)) = self.discovery_config(place, &topic) {
                wanted.insert(topic, config.to_string());
            }
            wanted.insert(format!("{topic}/problem"), problem_payload(&own).to_string());
        }
        for alert in firing().take(ALERTS_MAX) {
            let payload =
                serde_json::to_string(&stable_view(alert)).expect("an alert has a JSON form");
            wanted.insert(self.alert_topic(alert), payload);
        }
        let mut messages = Vec::new();
        for topic in self.published.keys().filter(|topic| !wanted.contains_key(*topic)) {
            messages.push(RetainedAlert { topic: topic.clone(), payload: String::new() });
        }
        for (topic, payload) in &wanted {
            if self.published.get(topic) != Some(payload) {
                messages.push(RetainedAlert { topic: topic.clone(), payload: payload.clone() });
            }
        }
        self.published = wanted;
        messages
    }

    fn zone_topic(&self, zone: Option<&ZoneId>) -> String {
        let prefix = &self.settings.topic;
        match zone {
            Some(zone) => format!("{prefix}/{zone}"),
            None => format!("{prefix}/_system"),
        }
    }

    /// Topic of an alert.
    #[must_use]
    pub fn alert_topic(&self, alert: &AlertView) -> String {
        let topic = format!("{}/{}", self.zone_topic(alert.zone.as_ref()), alert.rule);
        if alert.subject.is_empty() {
            topic
        } else {
            format!("{topic}/{}", escape_level(&alert.subject))
        }
    }

    /// Topic and payload that make Home Assistant show a zone's problems.
    fn discovery_config(&self, zone: Option<&ZoneId>, topic: &str) -> Option<(String, Value)> {
        let prefix = &self.settings.discovery_prefix;
        if prefix.is_empty() {
            return None;
        }
        let name = zone.map_or_else(|| "_system".to_owned(), ToString::to_string);
        let id = format!("microclimate_alerts_{}", escape_id(&name));
        let state = format!("{topic}/problem");
        let config = json!({
            "name": "Problem",
            "unique_id": id,
            "device_class": "problem",
            "state_topic": state,
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": state,
            "device": {
                "identifiers": [id],
                "name": zone.map_or_else(|| "Microclimate".to_owned(), |zone| format!("{zone} alerts")),
                "model": "Microclimate",
            },
            "origin": { "name": "microclimate", "sw_version": env!("CARGO_PKG_VERSION") },
        });
        Some((format!("{prefix}/binary_sensor/{id}/problem/config"), config))
    }
}

/// The sum of a zone: `ON` while an alert fires, acknowledged or not. Information is no problem.
fn problem_payload(alerts: &[&AlertView]) -> Value {
    let severity = alerts.iter().map(|own| own.severity).max();
    let is_problem = severity >= Some(AlertSeverity::Warning);
    let messages: Vec<String> =
        alerts.iter().map(|own| format!("{}: {}", own.rule, own.summary)).collect();
    json!({
        "state": if is_problem { "ON" } else { "OFF" },
        "severity": severity,
        "alerts": alerts.len(),
        "unacknowledged": alerts.iter().filter(|own| own.state == AlertState::Firing).count(),
        "messages": messages,
    })
}

/// The alert as it was when it last changed its state: values that change with each reading would
/// make a message of each.
fn stable_view(alert: &AlertView) -> Value {
    let AlertView { id, rule, severity, state, zone, subject, summary, .. } = alert;
    let AlertView { started_ms, fired_ms, limit, unit, detail, acknowledged, .. } = alert;
    json!({
        "id": id, "rule": rule, "severity": severity, "state": state, "zone": zone,
        "subject": subject, "summary": summary, "started_ms": started_ms, "fired_ms": fired_ms,
        "limit": limit, "unit": unit, "detail": detail, "acknowledged": acknowledged,
    })
}

/// A level of a topic, without the characters that mean something in topics.
fn escape_level(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '/' | '+' | '#' | '\0') { '_' } else { c }).collect()
}

/// A name of letters, digits, `_` and `-`. Different names stay different, because replaced
/// characters are spelled out.
fn escape_id(name: &str) -> String {
    let spell = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' => c.to_string(),
        '/' => "_".to_owned(),
        other => format!("_{:x}_", u32::from(other)),
    };
    name.chars().map(spell).collect()
}
