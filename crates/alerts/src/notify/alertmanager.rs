//! Prometheus' Alertmanager, by its API v2
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AlertView, NotifyError, build_http_client, send_request};
use crate::{alert::AlertState, settings::AlertmanagerSettings};

/// Number of intervals after which Alertmanager resolves what it does not hear of.
const INTERVALS_HELD: f64 = 5.0;

/// Sends alerts to one Alertmanager.
#[derive(Debug)]
pub struct AlertmanagerSender {
    client: reqwest::Client,
    settings: AlertmanagerSettings,
}

impl AlertmanagerSender {
    /// Makes a sender, if there is a URL.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(settings: &AlertmanagerSettings) -> Result<Option<Self>, NotifyError> {
        if settings.url.is_empty() {
            return Ok(None);
        }
        let client = build_http_client(settings.timeout_s)?;
        Ok(Some(Self { client, settings: settings.clone() }))
    }

    /// Interval at which firing alerts are sent again, s.
    #[must_use]
    pub fn resend_s(&self) -> f64 {
        self.settings.resend_s
    }

    /// Sends alerts, firing or resolved, at `now_ms`, UTC ms.
    ///
    /// # Errors
    /// Says whether another attempt is worth it.
    pub async fn send(&self, alerts: &[AlertView], now_ms: i64) -> Result<(), NotifyError> {
        let held_ms = (self.settings.resend_s * INTERVALS_HELD * 1000.0) as i64;
        let wanted = alerts.iter().filter(|alert| alert.severity >= self.settings.severity_min);
        let body: Vec<Value> = wanted.map(|alert| posted_alert(alert, now_ms + held_ms)).collect();
        if body.is_empty() {
            return Ok(());
        }
        let url = format!("{}/api/v2/alerts", self.settings.url.trim_end_matches('/'));
        let mut request = self.client.post(url).json(&body);
        if let Some(token) = self.settings.token.expose_secret() {
            request = request.bearer_auth(token);
        }
        send_request(request).await
    }
}

/// An alert as the API has it. A firing one ends at `held_until_ms` unless it is sent again.
fn posted_alert(alert: &AlertView, held_until_ms: i64) -> Value {
    let time = |ms: i64| Timestamp::from_millisecond(ms).unwrap_or_default().to_string();
    let ends_ms = match alert.state {
        AlertState::Resolved => alert.resolved_ms.unwrap_or(alert.observed_ms),
        _ => held_until_ms,
    };
    let mut labels = json!({
        "alertname": alert.rule,
        "severity": alert.severity,
        "job": "microclimate",
    });
    if let Some(zone) = &alert.zone {
        labels["site"] = zone.site.as_str().into();
        labels["zone"] = zone.to_string().into();
    }
    if !alert.subject.is_empty() {
        labels["subject"] = alert.subject.as_str().into();
    }
    json!({
        "labels": labels,
        "annotations": { "summary": alert.summary, "description": alert.message },
        "startsAt": time(alert.fired_ms.unwrap_or(alert.started_ms)),
        "endsAt": time(ends_ms),
    })
}
