use std::collections::BTreeMap;

use models::{MissingPolicy, ModelArtifact};
use serde::{Deserialize, Serialize};
use telemetry::ZoneId;

use super::{details::ChampionDetails, leakage::LeakageReport};

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
    /// On the calibration part, by which the champion is chosen from the models and the
    /// baseline that is best on all rows before the test part.
    pub chosen_by: f64,
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
    /// Half the width of the interval, in the task's unit.
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
    /// The one that was best on the calibration part.
    pub champion: ModelArtifact,
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
    /// Half the width of the interval, in the task's unit.
    pub half_width: Option<f64>,
    /// The share of truths that the interval is to cover.
    pub level: f64,
    /// The best baseline's input and factor.
    pub baseline: (Option<String>, f64),
    /// How levels are made of what it says, with the task's anchor; models of before
    /// there was a choice say changes.
    #[serde(default)]
    pub link: TargetTransform,
}
