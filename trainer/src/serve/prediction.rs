use std::collections::BTreeMap;

use feature_api::{LatestFeatures, RowStatus};
use models::detect::sensor_faults::FaultKind;
use serde::Serialize;
use telemetry::ZoneId;
use utoipa::ToSchema;

use super::{champion::Champion, irrigation::Irrigation, settings::ServingSettings};
use crate::{error::TrainError, tasks::NotApplicable};

/// What a task says of a zone.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Prediction {
    /// The task.
    #[schema(example = "temperature-10m")]
    pub task: String,
    /// The zone.
    #[schema(value_type = String, example = "farm/bay-1")]
    pub zone: ZoneId,
    /// In `unit`.
    #[schema(example = 15.42)]
    pub value: f64,
    /// Of all values.
    #[schema(example = "°C")]
    pub unit: String,
    /// Covers the truth with probability `interval_level`; for anomalies, what
    /// 90 % of usual minutes score.
    #[schema(example = json!([15.33, 15.51]))]
    pub interval: Option<[f64; 2]>,
    /// A share.
    pub interval_level: f64,
    /// The class that `value` is nearest to, where the task is a choice between some.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "hold")]
    pub class: Option<&'static str>,
    /// Of each class, where the model says classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<BTreeMap<String, f64>>,
    /// The model's name.
    #[schema(example = "quantile boosting")]
    pub model: String,
    /// Its version in the registry.
    pub version: u64,
    /// What the best baseline says.
    pub baseline_value: Option<f64>,
    /// Whether `value` is the baseline's, because the model cannot be trusted
    /// with this row.
    pub fallback: bool,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<String>,
    /// How the row compares with what the model was trained on.
    pub drift: Drift,
    /// The inputs that moved the value most, the strongest first, where asked
    /// for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<Contribution>,
    /// How long to water now, where the task is about watering.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub irrigation: Option<Irrigation>,
    /// What the value is about, if it is about one metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// What may be wrong with its sensor, where an anomaly is an alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "stuck")]
    pub fault: Option<FaultKind>,
    /// Event time of the features, UTC ms.
    pub features_at_ms: i64,
    /// Their age now, seconds.
    pub features_age_s: f64,
    /// Whether that is more than `serving.stale_s`: the value is none of now.
    pub is_stale: bool,
    /// Whether the features are `provisional` or `final`.
    #[schema(value_type = String)]
    pub status: RowStatus,
}

/// How a row compares with training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Drift {
    /// Whether more inputs than `serving.outside_max` are outside.
    pub flag: bool,
    /// The share of inputs beyond what training saw, by more than a tenth of
    /// its span.
    pub outside_share: f64,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<String>,
    /// The share of inputs without a value that always had one in training.
    pub missing_share: f64,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// How one input moved a prediction.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Contribution {
    /// Its name.
    pub input: String,
    /// Its value now; none where it is missing.
    pub value: Option<f64>,
    /// How much higher the prediction is than it would be with the input at its
    /// median in training, in the prediction's unit.
    pub change: f64,
}

/// Why there is no prediction.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// There is no such task.
    #[error("there is no task `{0}`")]
    UnknownTask(String),
    /// There is no such zone.
    #[error("there are no features of zone `{0}`")]
    UnknownZone(ZoneId),
    /// No model was trained yet.
    #[error("there is no champion of task `{task}` yet{}", format_reason(not_applicable.as_ref()))]
    NoChampion {
        /// The task.
        task: String,
        /// Why the last comparison had nothing to train on, where that is so.
        not_applicable: Option<NotApplicable>,
    },
    /// The zone lacks what the task is about.
    #[error("task `{task}` does not apply to zone `{zone}`: {why}")]
    NotApplicable {
        /// The task.
        task: String,
        /// The zone.
        zone: ZoneId,
        /// What is missing.
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
    /// The parts that are the same for all tasks; the value is not a number
    /// yet.
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
            metric: None,
            fault: None,
            features_at_ms: latest.at_ms,
            features_age_s,
            is_stale: features_age_s > rules.stale_after_s(),
            status: latest.status,
        }
    }
}
