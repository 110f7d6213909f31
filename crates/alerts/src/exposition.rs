//! Alerts as metrics, in the manner of Prometheus' own `ALERTS`.

use service::prometheus::{MetricsPage, format_labels};

use crate::{
    alert::{AlertSeverity, AlertState},
    notify::{AlertView, delivery::AlertDelivery},
};

/// Largest number of alerts with a series of their own, so that the page stays small.
const SERIES_MAX: usize = 200;

/// Renders the active alerts and the deliveries.
#[must_use]
pub fn render_metrics(alerts: &[AlertView], refused: usize, delivery: &AlertDelivery) -> String {
    let mut page = MetricsPage::new("microclimate_alerts");
    let count = |state: AlertState, severity: AlertSeverity| {
        alerts.iter().filter(|own| own.state == state && own.severity == severity).count()
    };
    let states = [AlertState::Pending, AlertState::Firing, AlertState::Acknowledged];
    let counts = states.into_iter().flat_map(|state| {
        AlertSeverity::ALL.map(|severity| {
            let labels =
                format_labels([("alertstate", &state.as_str()), ("severity", &severity.as_str())]);
            (labels, count(state, severity))
        })
    });
    page.add_family(("count", "gauge", "Active alerts"), counts);
    let mut shown: Vec<&AlertView> = alerts.iter().collect();
    shown.sort_by_key(|own| (own.state == AlertState::Pending, std::cmp::Reverse(own.severity)));
    let series = shown.into_iter().take(SERIES_MAX).map(|own| {
        let state = match own.state {
            AlertState::Pending => "pending",
            _ => "firing",
        };
        let acknowledged = own.state == AlertState::Acknowledged;
        let labels = format_labels([
            ("alertname", &own.rule),
            ("alertstate", &state),
            ("severity", &own.severity.as_str()),
            ("zone", &own.place()),
            ("subject", &own.subject),
            ("acknowledged", &acknowledged),
        ]);
        (labels, 1)
    });
    page.add_family(
        ("active", "gauge", "Active alerts, the first 200 of them, as Prometheus' ALERTS"),
        series.collect::<Vec<_>>(),
    );
    page.add_metric(
        ("refused", "gauge", "Alerts for which there is no room: alerts.active_max"),
        refused,
    );
    let counts = delivery.counts();
    let messages = counts.iter().flat_map(|(receiver, counts)| {
        counts.by_outcome().map(|(outcome, count)| {
            (format_labels([("receiver", receiver), ("outcome", &outcome)]), count)
        })
    });
    page.add_family(("messages_total", "counter", "Messages by receiver and outcome"), messages);
    let waiting = delivery.waiting();
    page.add_family(
        ("messages_waiting", "gauge", "Messages that wait to be delivered"),
        waiting.iter().map(|(receiver, count)| (format_labels([("receiver", receiver)]), *count)),
    );
    page.into_text()
}
