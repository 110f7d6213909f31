//! Progress shown to a person while a demo runs, on stderr, so that stdout has only results.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::app::MicroclimateApp;

/// Stage of a demo, with a progress bar.
pub(crate) struct ProgressStage {
    bar: ProgressBar,
    what: &'static str,
    start: Instant,
}

const PROGRESS_STEPS: u64 = 1000;
const LABEL_WIDTH: usize = 24;

impl ProgressStage {
    pub(crate) fn start_stage(what: &'static str) -> Self {
        let bar = ProgressBar::new(PROGRESS_STEPS);
        let template = format!("  {{prefix:{LABEL_WIDTH}}} {{bar:30}} {{percent:>3}} %  {{msg}}");
        bar.set_style(ProgressStyle::with_template(&template).expect("a template"));
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, what, start: Instant::now() }
    }

    /// Handle of the bar that can be moved into the work.
    pub(crate) fn progress_bar(&self) -> ProgressBar {
        self.bar.clone()
    }

    /// Ends the stage with its result and returns its seconds.
    pub(crate) fn finish_stage(self, result: &str) -> f64 {
        let seconds = self.start.elapsed().as_secs_f64();
        self.bar.finish_and_clear();
        eprintln!("  {:LABEL_WIDTH$} {result} ({seconds:.1} s)", self.what);
        seconds
    }
}

/// One line that says what goes on while everything runs. Nothing is shown where stderr is no
/// terminal.
pub(crate) struct StatusLine {
    bar: ProgressBar,
}

/// Seconds between two states of the line.
const STATUS_EVERY_S: u64 = 2;

impl StatusLine {
    pub(crate) fn start_line() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("a template"));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar }
    }

    pub(crate) fn show(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// Prints results that stay; the line moves below them.
    pub(crate) fn print_above(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// Shows how many readings have come and how many rows there are, until the end.
    pub(crate) async fn follow(self, app: &MicroclimateApp, shutdown: &CancellationToken) {
        loop {
            let (totals, counts) =
                (app.gateway.ledger_snapshot().totals, app.store.committed_counts());
            self.show(&format!(
                "live: {} readings received, {} feature rows, {} zones",
                format_thousands(totals.received),
                format_thousands(counts.rows),
                app.store.zone_summaries().len()
            ));
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(STATUS_EVERY_S)) => {}
                () = shutdown.cancelled() => return self.bar.finish_and_clear(),
            }
        }
    }
}

/// Shows a share, 0–1, and a message.
pub(crate) fn set_progress(
    bar: &ProgressBar,
    share: f64,
    message: impl Into<std::borrow::Cow<'static, str>>,
) {
    bar.set_position((share * PROGRESS_STEPS as f64) as u64);
    bar.set_message(message);
}

/// Formats 1234567 as `1,234,567`.
pub(crate) fn format_thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_in_groups() {
        let check = |number, expect: &str| assert_eq!(super::format_thousands(number), expect);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(1_234_567, "1,234,567");
    }
}
