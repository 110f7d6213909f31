//! The first screen: where the page is, how to send a reading, and predictions in words.

use std::{fmt::Write as _, net::SocketAddr};

use trainer::{Prediction, TaskResult, report};

const LABEL_WIDTH: usize = 15;

/// Addresses of the page and of MQTT, with commands that send and read one reading.
pub(crate) fn addresses(page_url: &str, mqtt: SocketAddr) -> String {
    let (host, port) = (mqtt.ip(), mqtt.port());
    let host = if host.is_unspecified() { "127.0.0.1".to_owned() } else { host.to_string() };
    let mut to = String::new();
    if host != "127.0.0.1" {
        let _ = write!(to, " -h {host}");
    }
    if port != 1883 {
        let _ = write!(to, " -p {port}");
    }
    let mut text = String::new();
    for (label, what) in [
        ("Page", page_url.to_owned()),
        (
            "Send a reading",
            format!("mosquitto_pub -q 1{to} -t sensors/home/kitchen/probe-1/temperature -m 21.5"),
        ),
        ("See it", format!("curl {page_url}v1/features/latest")),
        ("End", "Ctrl-C".to_owned()),
    ] {
        let _ = writeln!(text, "{label:LABEL_WIDTH$}{what}");
    }
    text
}

/// The prediction of the first task in words, then its leaderboard.
pub(crate) fn first_result(task: &TaskResult, predictions: &[Prediction]) -> String {
    let sentence = predictions.iter().find(|p| p.task == task.task);
    let sentence = sentence.map_or(String::new(), |p| prediction_sentence(task, p) + "\n");
    format!("\n{sentence}\n{}\n\n", report::terminal_report(task))
}

/// One prediction of each other task that has one, and the names of those that have none yet.
pub(crate) fn other_predictions(tasks: &[TaskResult], predictions: &[Prediction]) -> String {
    let mut text = String::new();
    let mut without = Vec::new();
    for task in tasks.iter().skip(1) {
        match predictions.iter().find(|p| p.task == task.task) {
            Some(p) => {
                let (zone, value) = (p.zone.to_string(), format_prediction(p));
                let _ = writeln!(text, "  {:17} {zone:12} {value}", p.task);
            }
            None => without.push(task.task.as_str()),
        }
    }
    if !text.is_empty() {
        text.insert_str(0, "\nOther predictions now:\n");
    }
    if !without.is_empty() {
        let _ = writeln!(text, "No prediction yet, the report says why: {}.", without.join(", "));
    }
    text
}

/// One prediction as a sentence, as in `farm/bay-1, temperature in 10 minutes: 15.42 °C, with 90 %
/// probability from 15.33 to 15.51 °C (quantile boosting).`
fn prediction_sentence(task: &TaskResult, p: &Prediction) -> String {
    let begin = format!("{}, {}: ", p.zone, task.title);
    let value = match (p.class, p.interval) {
        (Some(class), _) => class.to_owned(),
        (None, Some([low, high])) => format!(
            "{:.2} {unit}, with {:.0} % probability\nfrom {low:.2} to {high:.2} {unit}",
            p.value,
            100.0 * p.interval_level,
            unit = p.unit
        ),
        (None, None) => format!("{:.2} {}", p.value, p.unit),
    };
    format!("{begin}{value} ({}).", p.model)
}

/// Formats a prediction as `15.42 °C [15.33 to 15.51, 90 %]` or `hold (97 %)`.
fn format_prediction(p: &Prediction) -> String {
    if let Some(class) = p.class {
        let probability = p.probabilities.as_ref().and_then(|all| all.get(class));
        let share = probability.map_or(String::new(), |share| format!(" ({:.0} %)", 100.0 * share));
        return format!("{class}{share}");
    }
    // The interval of an anomaly score is the one that holds 90 % of normal minutes.
    let usual = if p.task == "anomaly" { "usually " } else { "" };
    let interval = p.interval.map_or(String::new(), |[low, high]| {
        format!(" [{usual}{low:.2} to {high:.2}, {:.0} %]", 100.0 * p.interval_level)
    });
    format!("{:.2} {}{interval}", p.value, p.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_only_what_is_not_the_default() {
        let check = |mqtt: &str, expect: &str| {
            let text = addresses("http://127.0.0.1:8080/", mqtt.parse().unwrap());
            let line = text.lines().nth(1).unwrap();
            assert!(line.contains(expect), "{line}");
        };
        check("127.0.0.1:1883", "mosquitto_pub -q 1 -t sensors/");
        check("0.0.0.0:1884", "mosquitto_pub -q 1 -p 1884 -t sensors/");
        check("192.168.1.5:1883", "mosquitto_pub -q 1 -h 192.168.1.5 -t sensors/");
    }
}
