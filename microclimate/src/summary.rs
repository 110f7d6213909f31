//! Summary of a demo, as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use telemetry::ZoneId;
use trainer::{ModelComparison, Prediction, tasks::NotApplicable};

/// Output of `demo --once --json`.
#[derive(Debug, Serialize)]
pub(crate) struct DemoSummary {
    pub(crate) readings: DemoReadingCounts,
    pub(crate) features: DemoFeatureCounts,
    pub(crate) tasks: BTreeMap<String, TaskSummary>,
    /// Seconds by stage.
    pub(crate) seconds: BTreeMap<&'static str, f64>,
}

/// Number of readings by what happened to them.
#[derive(Debug, Serialize)]
pub(crate) struct DemoReadingCounts {
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) logged: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) duplicates: u64,
    pub(crate) unaccounted: i64,
}

/// Number of zones, columns and feature rows.
#[derive(Debug, Serialize)]
pub(crate) struct DemoFeatureCounts {
    pub(crate) zones: usize,
    pub(crate) columns: usize,
    pub(crate) rows: u64,
}

/// Result of a task.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum TaskSummary {
    Compared { leaderboard: Vec<LeaderboardSummary>, prediction: Option<PredictionSummary> },
    NotApplicable(NotApplicable),
}

/// Entry of a leaderboard.
#[derive(Debug, Serialize)]
pub(crate) struct LeaderboardSummary {
    model: String,
    metric: &'static str,
    value: f64,
    baseline_value: f64,
}

/// Prediction of a champion.
#[derive(Debug, Serialize)]
pub(crate) struct PredictionSummary {
    zone: ZoneId,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'static str>,
    unit: String,
    interval: Option<[f64; 2]>,
}

/// Summarises the tasks of a comparison, each with its prediction.
pub(crate) fn summarise_tasks(
    comparison: &ModelComparison,
    predictions: &[Prediction],
) -> BTreeMap<String, TaskSummary> {
    let mut tasks = BTreeMap::new();
    for result in &comparison.tasks {
        let task = match &result.not_applicable {
            Some(why) => TaskSummary::NotApplicable(why.clone()),
            None => TaskSummary::Compared {
                leaderboard: result
                    .leaderboard
                    .iter()
                    .map(|entry| LeaderboardSummary {
                        model: entry.model.clone(),
                        metric: entry.metric,
                        value: entry.value,
                        baseline_value: entry.baseline_value,
                    })
                    .collect(),
                prediction: predictions.iter().find(|p| p.task == result.task).map(|p| {
                    PredictionSummary {
                        zone: p.zone.clone(),
                        value: p.value,
                        class: p.class,
                        unit: p.unit.clone(),
                        interval: p.interval,
                    }
                }),
            },
        };
        tasks.insert(result.task.clone(), task);
    }
    tasks
}
