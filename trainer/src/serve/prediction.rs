use std::collections::BTreeMap;

use feature_api::{LatestFeatures, RowStatus};
use models::detect::sensor_faults::FaultKind;
use serde::Serialize;
use telemetry::ZoneId;
use utoipa::ToSchema;

use super::{
    champion::Champion, irrigation::Irrigation, settings::ServingSettings, what_if::WhatIf,
};
use crate::{error::TrainError, tasks::NotApplicable};

/// Prediction of a task for a zone.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Prediction {
    /// The task.
    #[schema(example = "temperature-10m")]
    pub task: String,
    /// The zone.
    #[schema(value_type = String, example = "farm/bay-1")]
    pub zone: ZoneId,
    /// Predicted value, in `unit`.
    #[schema(example = 15.42)]
    pub value: f64,
    /// Unit of all values.
    #[schema(example = "°C")]
    pub unit: String,
    /// Prediction interval, which covers the actual with probability `interval_level`; for
    /// anomalies, the scores of 90 % of usual minutes.
    #[schema(example = json!([15.33, 15.51]))]
    pub interval: Option<[f64; 2]>,
    /// Nominal coverage of the interval, a share.
    pub interval_level: f64,
    /// Class that `value` is nearest to, if the task predicts one of several classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "hold")]
    pub class: Option<&'static str>,
    /// Probability of each class, if the model predicts classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<BTreeMap<String, f64>>,
    /// Name of the model.
    #[schema(example = "quantile boosting")]
    pub model: String,
    /// Version of the model in the registry.
    pub version: u64,
    /// Value of the best baseline.
    pub baseline_value: Option<f64>,
    /// Whether `value` is the baseline's, because the model cannot be trusted with this row.
    pub fallback: bool,
    /// Reason of the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<String>,
    /// Difference between the row and the model's training rows.
    pub drift: Drift,
    /// Inputs that moved the value most, strongest first, if requested.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<Contribution>,
    /// Duration of irrigation now, if the task is about irrigation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub irrigation: Option<Irrigation>,
    /// The conditions that were assumed instead of the present ones, if the request had overrides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_if: Option<WhatIf>,
    /// Metric of the value, if it is about one metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// Suspected fault of the metric's sensor, if an anomaly is an alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "stuck")]
    pub fault: Option<FaultKind>,
    /// Event time of the features, UTC ms.
    pub features_at_ms: i64,
    /// Age of the features now, seconds.
    pub features_age_s: f64,
    /// Whether the features are older than `serving.stale_s`, so that the value is not current.
    pub is_stale: bool,
    /// Whether the features are `provisional` or `final`.
    #[schema(value_type = String)]
    pub status: RowStatus,
}

/// Difference between a row and the training rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Drift {
    /// Whether more inputs than `serving.outside_max` are outside.
    pub flag: bool,
    /// Share of inputs outside the training range by more than a tenth of that range.
    pub outside_share: f64,
    /// First of these inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<String>,
    /// Share of inputs without a value that always had one in training.
    pub missing_share: f64,
    /// First of these inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Effect of one input on a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Contribution {
    /// Name of the input.
    pub input: String,
    /// Present value of the input; `null` if it is missing.
    pub value: Option<f64>,
    /// Difference between the prediction and the one with the input at its median in training, in
    /// the prediction's unit.
    pub change: f64,
}

/// Reason why there is no prediction.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The task does not exist.
    #[error("there is no task `{0}`")]
    UnknownTask(String),
    /// The zone does not exist.
    #[error("there are no features of zone `{0}`")]
    UnknownZone(ZoneId),
    /// No model has been trained yet.
    #[error("there is no champion of task `{task}` yet{}", format_reason(not_applicable.as_ref()))]
    NoChampion {
        /// Task.
        task: String,
        /// Reason why the last comparison had nothing to train on, if that is so.
        not_applicable: Option<NotApplicable>,
    },
    /// The zone lacks a metric or feature that the task needs.
    #[error("task `{task}` does not apply to zone `{zone}`: {why}")]
    NotApplicable {
        /// Task.
        task: String,
        /// Zone.
        zone: ZoneId,
        /// Missing metric or feature.
        why: String,
    },
    /// An override of the request cannot be applied.
    #[error("overrides.{name}: {why}")]
    Override {
        /// Name of the override.
        name: String,
        /// The problem with it.
        why: String,
    },
    /// The feature store failed.
    #[error(transparent)]
    Train(#[from] TrainError),
}

fn format_reason(not_applicable: Option<&NotApplicable>) -> String {
    not_applicable.map_or(String::new(), |own| format!(": not applicable, {}", own.why))
}

impl Prediction {
    /// Creates a prediction with the fields that are the same for all tasks; `value` is NaN until
    /// it is set.
    pub(super) fn for_champion(
        zone: &ZoneId,
        champion: &Champion,
        latest: &LatestFeatures,
        rules: &ServingSettings,
    ) -> Self {
        let card = &champion.artifact.card;
        let features_age_s = (crate::now_ms() - latest.at_ms) as f64 / 1000.0;
        Self {
            task: card.task.clone(),
            zone: zone.clone(),
            value: f64::NAN,
            unit: card.unit.clone(),
            interval: None,
            interval_level: 0.0,
            class: None,
            probabilities: None,
            model: card.model.clone(),
            version: champion.version,
            baseline_value: None,
            fallback: false,
            fallback_reason: None,
            drift: Drift::default(),
            contributions: Vec::new(),
            irrigation: None,
            what_if: None,
            metric: None,
            fault: None,
            features_at_ms: latest.at_ms,
            features_age_s,
            is_stale: features_age_s > rules.stale_after_s(),
            status: latest.status,
        }
    }
}
