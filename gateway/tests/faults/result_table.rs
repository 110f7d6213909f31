//! The results as a table.

use std::fmt::{self, Display};

/// One scenario's result. Counts are messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResultRow {
    pub(crate) fault: String,
    pub(crate) sent: u64,
    /// Messages acknowledged to the devices, by the gateway (listener) or the broker (bridge).
    pub(crate) acknowledged: u64,
    /// Distinct messages among the logged readings.
    pub(crate) logged: u64,
    pub(crate) dead_lettered: u64,
    /// Messages that are in the log more than once.
    pub(crate) duplicates: u64,
    /// Acknowledged messages that are neither logged nor dead-lettered.
    pub(crate) lost: u64,
    pub(crate) seconds: f64,
    pub(crate) peak_rss_bytes: u64,
    /// Further observations.
    pub(crate) note: String,
}

const HEAD: &str = "\
| fault | sent | acknowledged | in log | dead-lettered | duplicates | lost | seconds | RSS, MB | |
|---|--:|--:|--:|--:|--:|--:|--:|--:|---|";

impl Display for ResultRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, sent, acknowledged, logged, dead_lettered, duplicates, .. } = self;
        let Self { lost, seconds, peak_rss_bytes, note, .. } = self;
        let rss_mb = *peak_rss_bytes as f64 / 1e6;
        write!(
            f,
            "| {fault} | {sent} | {acknowledged} | {logged} | {dead_lettered} | {duplicates} \
             | {lost} | {seconds:.1} | {rss_mb:.0} | {note} |"
        )
    }
}

/// Formats the whole table in Markdown.
pub(crate) fn format_markdown(rows: &[ResultRow]) -> String {
    let mut rows = rows.to_vec();
    rows.sort_by(|a, b| a.fault.cmp(&b.fault));
    let lines: Vec<String> = rows.iter().map(ResultRow::to_string).collect();
    format!("{HEAD}\n{}\n", lines.join("\n"))
}
