//! Progress shown to a person while a demo runs, on stderr, so that stdout has only results.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

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
