use std::collections::BTreeMap;

use models::{MissingPolicy, ModelArtifact};
use serde::{Deserialize, Serialize};
use telemetry::ZoneId;

use super::{
    candidate::CandidateRecipe, details::ChampionDetails, interval_widths::IntervalWidths,
    leakage::LeakageReport,
};

use crate::{relevance::RelevanceReport, split::SplitSpans, target_transform::TargetTransform};

/// One line of a leaderboard.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LeaderboardEntry {
    /// Name of the model.
    pub model: String,
    /// Metric of `value`: `rmse`, `mae`, `brier` or `pr_auc`.
    pub metric: &'static str,
    /// Error or score on the test set.
    pub value: f64,
    /// Error or score on the calibration set. It selects the champion from the models and the
    /// baseline that is best on all rows before the test set.
    pub chosen_by: f64,
    /// The standard error of that.
    pub chosen_by_error: f64,
    /// Its place in the order of the selection, from 1; none of baselines that are not the
    /// best one before the test set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected: Option<usize>,
    /// 95 % confidence interval of `value`, from blocks of times at least a horizon long; `None` if
    /// the test set is too short for that.
    pub interval: Option<[f64; 2]>,
    /// Error or score of the best baseline.
    pub baseline_value: f64,
    /// Share of the baseline's error that the model avoids; for `pr_auc`, share of the difference
    /// between the baseline and 1.
    pub skill: f64,
    /// 95 % confidence interval of `skill`, like `interval`.
    pub skill_interval: Option<[f64; 2]>,
    /// Test of whether the model differs from the best baseline.
    pub test: Option<SignificanceTest>,
    /// Whether the model is a baseline.
    pub is_baseline: bool,
    /// Share of the test set's actuals within the prediction interval.
    pub coverage: Option<f64>,
    /// Half the width of the prediction interval, in the task's unit.
    pub half_width: Option<f64>,
    /// Duration of the last fold's fit, seconds, beside other models.
    pub fit_s: f64,
    /// Latency of predicting one row, median, µs.
    pub predict_us: f64,
    /// Latency of predicting one row, 99th percentile, µs.
    pub predict_us_p99: f64,
    /// Size of the serialised model, bytes.
    pub size_bytes: usize,
    /// Number of rows that the model was fitted on.
    pub rows: usize,
    /// Number of rows available for the fit; larger than `rows` if the model thins them.
    pub rows_offered: usize,
    /// Handling of rows with a missing input.
    pub missing: Option<MissingPolicy>,
    /// Other scores of the test set, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<&'static str, f64>,
    /// 95 % confidence intervals, like `interval`, of the scores that can be computed from blocks
    /// of times.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub score_intervals: BTreeMap<&'static str, [f64; 2]>,
}

/// A Diebold–Mariano test of a model against the best baseline.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SignificanceTest {
    /// Difference in units of its standard error; below 0 if the model is better.
    pub statistic: f64,
    /// Probability of such a difference if both are equally good.
    pub p_value: f64,
    /// Number of autocovariances in the standard error.
    pub lags: usize,
}

/// Some predictions beside the actuals, for figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PredictionSample {
    /// Event time, UTC ms.
    pub at_ms: Vec<i64>,
    /// Actuals.
    pub truth: Vec<f64>,
    /// Predictions.
    pub predicted: Vec<f64>,
}

/// Facts about the compared rows and how they were divided.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ComparisonFacts {
    /// Number of inputs.
    pub inputs: usize,
    /// SHA-256 over the inputs' names.
    pub schema_hash: String,
    /// SHA-256 over times, zones, inputs and targets of all parts.
    pub data_hash: String,
    /// Embargo between sets, seconds: the horizon of the task.
    pub embargo_s: i64,
    /// Facts of each fold, oldest first.
    pub folds: Vec<FoldFacts>,
    /// Number of rows by zone; with several folds those of the last.
    pub zones: Vec<ZoneRowCounts>,
}

/// Facts of one fold.
#[derive(Clone, Debug, Serialize)]
pub struct FoldFacts {
    /// Spans of the sets, each [from, to) in UTC ms.
    pub spans: SplitSpans,
    /// Number of rows that models are fitted on.
    pub train: usize,
    /// Number of rows by which models are selected.
    pub calibration: usize,
    /// Number of rows on which models are evaluated.
    pub test: usize,
}

/// Number of rows of a zone in each set.
#[derive(Clone, Debug, Serialize)]
pub struct ZoneRowCounts {
    /// The zone.
    pub zone: ZoneId,
    /// Number of rows that models are fitted on.
    pub train: usize,
    /// Number of rows by which models are selected.
    pub calibration: usize,
    /// Number of rows on which models are evaluated.
    pub test: usize,
}

/// Result of a task's backtest.
#[derive(Debug)]
pub struct Backtest {
    /// Entries, best on the test set first.
    pub leaderboard: Vec<LeaderboardEntry>,
    /// Models that could not be fitted, with the reason.
    pub failed: Vec<(String, String)>,
    /// Model that was best on the calibration set.
    pub champion: ModelArtifact,
    /// All candidates that may be kept, in the order of the selection.
    pub selected: Vec<SelectedCandidate>,
    /// Which of them the champion is.
    pub kept: usize,
    /// Predictions of the champion on the test set.
    pub sample: PredictionSample,
    /// Facts about the compared rows.
    pub facts: ComparisonFacts,
    /// Details of the champion, if the task has such figures.
    pub details: Option<ChampionDetails>,
    /// Self-test for leakage.
    pub leakage: Option<LeakageReport>,
    /// Relevance of the inputs to the best model that is trained.
    pub relevance: Option<RelevanceReport>,
    /// Reason why there are no intervals and no tests, if that is so.
    pub no_intervals: Option<String>,
}

/// A candidate that may be kept.
#[derive(Clone, Debug)]
pub struct SelectedCandidate {
    /// Its name.
    pub model: String,
    /// How it is fitted again.
    pub recipe: CandidateRecipe,
    /// Its losses on the test set of the last fold, row after row.
    pub losses: Vec<f64>,
    /// Its absolute errors there, in the task's unit.
    pub errors: Vec<f64>,
    /// Latency of one prediction, 99th percentile, µs.
    pub latency_p99_us: f64,
    /// Size of the model, bytes.
    pub size_bytes: usize,
    /// Number of rows that it was fitted on.
    pub rows: usize,
}

impl Backtest {
    /// Creates a result with a leaderboard and its champion only.
    #[must_use]
    pub fn without_details(
        leaderboard: Vec<LeaderboardEntry>,
        failed: Vec<(String, String)>,
        champion: ModelArtifact,
        sample: PredictionSample,
    ) -> Self {
        Self {
            leaderboard,
            failed,
            champion,
            selected: Vec::new(),
            kept: 0,
            sample,
            facts: ComparisonFacts::default(),
            details: None,
            leakage: None,
            relevance: None,
            no_intervals: None,
        }
    }
}

/// Facts that serving needs of a regression model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegressionServing {
    /// Half the width of the prediction interval, in the task's unit.
    pub half_width: Option<f64>,
    /// How wide it is where; models of 0.1 have the same width everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widths: Option<IntervalWidths>,
    /// Nominal coverage of the prediction interval.
    pub level: f64,
    /// Input and factor of the best baseline.
    pub baseline: (Option<String>, f64),
    /// Transform from predictions and reference values to levels. Earlier models, from before there
    /// was a choice, predict changes.
    #[serde(default)]
    pub link: TargetTransform,
}
