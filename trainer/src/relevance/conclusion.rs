//! States the value of long-term data, no more strongly and no more weakly than the results show.

use std::fmt::Write;

use models::stats::diebold_mariano::p_value_text;

use super::{
    ablation::{LONG_S, WindowAblation, format_width},
    windows,
};

/// Largest p-value of a difference that counts as significant.
pub(crate) const SIGNIFICANCE_LEVEL: f64 = 0.05;

/// Writes the conclusion in a sentence or two.
pub(super) fn write_conclusion(
    ablation: &[WindowAblation],
    inputs: &[String],
    train_days: f64,
) -> String {
    let mut widths: Vec<windows::InputWindow> =
        inputs.iter().flat_map(|input| windows::input_windows(input)).collect();
    widths.sort();
    let Some(longest) = widths.last() else {
        return "None of its inputs uses a window.".to_owned();
    };
    if longest.seconds < LONG_S {
        return format!(
            "None of its inputs looks back further than {}: it needs no long-term data.",
            format_width(&longest.name)
        );
    }
    // The last variant of this length: all long windows together, if there are several.
    let long = ablation.iter().rfind(|variant| {
        variant.from_s == LONG_S || variant.without == format_width(&longest.name)
    });
    let Some(long) = long else {
        return "Without its long windows it has no inputs left.".to_owned();
    };
    let mut answer = describe_effect(long, "long-term data");
    let width_days = longest.seconds as f64 / 86_400.0;
    if train_days < width_days {
        let longest = format_width(&longest.name);
        let _ = write!(
            answer,
            " Training saw {train_days:.1} days, so a window of {longest} was never full: a longer \
             recording may show something else."
        );
    }
    answer
}

fn describe_effect(ablation: &WindowAblation, what: &str) -> String {
    let percent = |share: f64| {
        let text = format!("{:+.1} %", 100.0 * share).replace('-', "−");
        // A value that rounds to 0 has no sign.
        if text.ends_with("0.0 %") && text.chars().count() == 6 { "0.0 %".to_owned() } else { text }
    };
    let sure = ablation.interval.map(|[low, high]| {
        let p =
            ablation.test.map_or(String::new(), |test| format!(", {}", p_value_text(test.p_value)));
        format!(" (95 %: {} to {}{p})", percent(low), percent(high))
    });
    let is_significant = ablation.test.is_some_and(|test| test.p_value < SIGNIFICANCE_LEVEL);
    let verdict = match ablation.interval {
        None => "the test set is too short to tell whether that is more than chance".to_owned(),
        Some([low, _]) if low > 0.0 && is_significant => {
            format!("{what} improve the predictions here")
        }
        Some([_, high]) if high < 0.0 && is_significant => {
            format!("the model is better without {what}")
        }
        Some(_) => format!("no proof that {what} help here"),
    };
    format!(
        "Without windows of {} the error changes by {}{}: {verdict}.",
        ablation.without,
        percent(ablation.change),
        sure.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::SignificanceTest;

    fn check(change: f64, interval: Option<[f64; 2]>, p_value: f64, days: f64, expect: &[&str]) {
        let test = Some(SignificanceTest { statistic: 0.0, p_value, lags: 3 })
            .filter(|_| interval.is_some());
        let ablated = |without: &str, from_s| WindowAblation {
            without: without.to_owned(),
            from_s,
            inputs_removed: 2,
            inputs_left: 2,
            error: 1.0,
            change,
            interval,
            test,
        };
        let all =
            [ablated("7 d", 604_800), ablated("24 h", 86_400), ablated("24 h and longer", 86_400)];
        let inputs = ["a_mean_7d", "a_mean_24h", "a_mean_1h"].map(str::to_owned);
        let answer = write_conclusion(&all, &inputs, days);
        for part in expect {
            assert!(answer.contains(part), "{answer}, expected {part}");
        }
    }

    #[test]
    fn answers_say_what_was_found() {
        let found = [
            "24 h and longer",
            "+4.1 % (95 %: +1.0 % to +7.0 %, p = 0.012)",
            "improve the predictions",
        ];
        check(0.041, Some([0.01, 0.07]), 0.012, 30.0, &found);
        check(0.01, Some([-0.01, 0.03]), 0.3, 30.0, &["no proof"]);
        check(0.01, Some([0.001, 0.03]), 0.3, 30.0, &["no proof"]);
        check(
            -0.04,
            Some([-0.05, -0.03]),
            0.0001,
            30.0,
            &["−4.0 %", "p < 0.001", "better without"],
        );
        check(
            0.04,
            None,
            1.0,
            2.0,
            &["too short to tell", "Training saw 2.0 days", "7 d was never full"],
        );
        assert!(write_conclusion(&[], &["a_mean_1h".to_owned()], 2.0).contains("further than 1 h"));
        assert!(write_conclusion(&[], &["a_last".to_owned()], 2.0).contains("None of its inputs"));
    }
}
