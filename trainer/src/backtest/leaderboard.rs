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
    /// The model's name.
    pub model: String,
    /// What `value` is: `rmse`, `mae`, `brier` or `pr_auc`.
    pub metric: &'static str,
    /// On the test part.
    pub value: f64,
    /// At the origins before the test set, by which the champion is selected.
    pub chosen_by: f64,
    /// The standard error of that.
    pub chosen_by_error: f64,
    /// Its place in the order of the selection, from 1; none of baselines that are not the
    /// best one before the test set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected: Option<usize>,
    /// Of `value`: 95 %, from blocks of times at least a horizon long. None
    /// where the test part is too short for that.
    pub interval: Option<[f64; 2]>,
    /// The best baseline's.
    pub baseline_value: f64,
    /// Share of the baseline's error that it avoids; for `pr_auc`, of what the
    /// baseline lacks.
    pub skill: f64,
    /// Of `skill`, as `interval`.
    pub skill_interval: Option<[f64; 2]>,
    /// Whether it differs from the best baseline, or only seems to.
    pub test: Option<SignificanceTest>,
    /// Whether it is a baseline itself.
    pub is_baseline: bool,
    /// Share of the test part's truths within the interval.
    pub coverage: Option<f64>,
    /// Half the width of the interval, in the task's unit; the mean of the test set.
    pub half_width: Option<f64>,
    /// To fit, seconds, beside other models; of the last fold.
    pub fit_s: f64,
    /// To predict one row, microseconds: the median.
    pub predict_us: f64,
    /// The same: of a hundred rows the slowest takes longer.
    pub predict_us_p99: f64,
    /// Of the written model, bytes.
    pub size_bytes: usize,
    /// Rows that it was fitted on.
    pub rows: usize,
    /// Rows that there were to fit on; more than `rows` where it thins them.
    pub rows_offered: usize,
    /// What it does where an input is missing.
    pub missing: Option<MissingPolicy>,
    /// Other scores of the test part, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scores: BTreeMap<&'static str, f64>,
    /// Of those that can be computed again from blocks of times, as `interval`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub score_intervals: BTreeMap<&'static str, [f64; 2]>,
}

/// A Diebold–Mariano test of a model against the best baseline.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SignificanceTest {
    /// In standard errors; below 0 the model is better.
    pub statistic: f64,
    /// The probability of such a difference where both are equally good.
    pub p_value: f64,
    /// Autocovariances that the standard error counts.
    pub lags: usize,
}

/// Some predictions beside what came, for pictures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PredictionSample {
    /// Event time, UTC ms.
    pub at_ms: Vec<i64>,
    /// What came.
    pub truth: Vec<f64>,
    /// What was said.
    pub predicted: Vec<f64>,
}

/// What was compared: the rows, and how they were divided.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ComparisonFacts {
    /// Number of inputs.
    pub inputs: usize,
    /// SHA-256 over the inputs' names.
    pub schema_hash: String,
    /// SHA-256 over times, zones, inputs and targets of all parts.
    pub data_hash: String,
    /// Seconds between parts: the horizon of the task.
    pub embargo_s: i64,
    /// Each fold, the oldest first.
    pub folds: Vec<FoldFacts>,
    /// Rows by zone; of several folds those of the last.
    pub zones: Vec<ZoneRowCounts>,
}

/// One fold.
#[derive(Clone, Debug, Serialize)]
pub struct FoldFacts {
    /// The spans, each [from, to) in UTC ms.
    pub spans: SplitSpans,
    /// Rows that models are fitted on.
    pub train: usize,
    /// Rows that models are chosen on.
    pub calibration: usize,
    /// Rows that models are judged on.
    pub test: usize,
}

/// How many rows a zone has in each part.
#[derive(Clone, Debug, Serialize)]
pub struct ZoneRowCounts {
    /// The zone.
    pub zone: ZoneId,
    /// That models are fitted on.
    pub train: usize,
    /// That models are chosen on.
    pub calibration: usize,
    /// That models are judged on.
    pub test: usize,
}

/// What came of a task.
#[derive(Debug)]
pub struct Backtest {
    /// Best on the test part first.
    pub leaderboard: Vec<LeaderboardEntry>,
    /// Models that could not be fitted, and why.
    pub failed: Vec<(String, String)>,
    /// The one that was selected, as it was evaluated.
    pub champion: ModelArtifact,
    /// All candidates that may be kept, in the order of the selection.
    pub selected: Vec<SelectedCandidate>,
    /// Which of them the champion is.
    pub kept: usize,
    /// Its predictions on the test part.
    pub sample: PredictionSample,
    /// What was compared.
    pub facts: ComparisonFacts,
    /// The champion from near, where the task has such pictures.
    pub details: Option<ChampionDetails>,
    /// Whether the comparison may know what it should not.
    pub leakage: Option<LeakageReport>,
    /// What the best model that learns rests on.
    pub relevance: Option<RelevanceReport>,
    /// Why there are no intervals and no tests, if there are none.
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
    /// Of one prediction, 99th percentile, µs.
    pub latency_p99_us: f64,
    /// Of the model, bytes.
    pub size_bytes: usize,
    /// Rows that it was fitted on.
    pub rows: usize,
}

impl Backtest {
    /// A leaderboard with its champion and nothing else.
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

/// What serving keeps with a regression model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegressionServing {
    /// Half the width of the interval, in the task's unit: the mean one.
    pub half_width: Option<f64>,
    /// How wide it is where; models of 0.1 have the same width everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub widths: Option<IntervalWidths>,
    /// The share of truths that the interval is to cover.
    pub level: f64,
    /// The best baseline's input and factor.
    pub baseline: (Option<String>, f64),
    /// How levels are made of what it says, with the task's anchor; models of before
    /// there was a choice say changes.
    #[serde(default)]
    pub link: TargetTransform,
}
