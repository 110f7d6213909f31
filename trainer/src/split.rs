//! Split into training, calibration and test set: in the order of time, never at random.

use std::sync::Arc;

use crate::{settings, training_set::LabelledRows};

/// Three spans of time, each [from, to) in UTC ms, with an embargo of the horizon between them, so
/// that no target of one set becomes known only in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SplitSpans {
    /// Span for fitting models.
    pub train: (i64, i64),
    /// Models are selected and intervals calibrated on it, by rolling origins.
    pub calibration: (i64, i64),
    /// Span for evaluating models.
    pub test: (i64, i64),
}

/// A part of the calibration span, and what lies before it: models are fitted on the
/// one and validated on the other.
#[derive(Clone, Debug)]
pub struct SelectionOrigin {
    /// Rows that models are fitted on.
    pub train: LabelledRows,
    /// Rows that they are validated on.
    pub validation: LabelledRows,
}

/// Rows of the three spans.
#[derive(Clone, Debug)]
pub struct DataSplit {
    /// Rows of the training span.
    pub train: LabelledRows,
    /// Rows of the calibration span.
    pub calibration: LabelledRows,
    /// The origins by which models are selected, the oldest first; the same in every fold,
    /// so that no test set selects anything.
    pub origins: Arc<Vec<SelectionOrigin>>,
    /// All before the test set: the model that is evaluated is fitted on it.
    pub known: LabelledRows,
    /// The span of those, [from, to) in UTC ms.
    pub known_ms: (i64, i64),
    /// Rows of the third span.
    pub test: LabelledRows,
    /// The three spans.
    pub spans: SplitSpans,
}

/// Splits the time between the first and the last row.
///
/// # Errors
/// States why the time is too short.
pub fn split_spans(
    first_ms: i64,
    last_ms: i64,
    horizon_s: i64,
    split: &settings::SplitSettings,
) -> Result<SplitSpans, String> {
    let embargo_ms = horizon_s * 1000;
    let usable_ms = last_ms - first_ms - 2 * embargo_ms;
    if usable_ms <= 0 {
        let hours = |ms: i64| ms as f64 / 3_600_000.0;
        return Err(format!(
            "too short: {:.0} h with known targets, and {:.0} h of it must stay between training, calibration and test",
            hours(last_ms - first_ms),
            hours(2 * embargo_ms)
        ));
    }
    let share = |share: f64| (usable_ms as f64 * share) as i64;
    let train_end = first_ms + share(split.train);
    let calibration_end = train_end + embargo_ms + share(split.calibration);
    Ok(SplitSpans {
        train: (first_ms, train_end),
        calibration: (train_end + embargo_ms, calibration_end),
        test: (calibration_end + embargo_ms, last_ms + 1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainerSettings;

    #[test]
    fn parts_follow_one_another_with_the_horizon_between() {
        let split = settings::SplitSettings {
            train: 0.6,
            calibration: 0.15,
            ..TrainerSettings::default().split
        };
        let hour = 3_600_000;
        let spans = split_spans(0, 102 * hour, 3600, &split).unwrap();
        assert_eq!(spans.train, (0, 60 * hour));
        assert_eq!(spans.calibration, (61 * hour, 76 * hour));
        assert_eq!(spans.test, (77 * hour, 102 * hour + 1));
        assert!(
            super::split_spans(0, 90 * hour, 48 * 3600, &split).unwrap_err().contains("too short")
        );
    }
}
