//! Tasks and their targets, the comparison of models, and the serving of predictions.
//!
//! # Layout
//! In the order in which data meets them:
//! - [`settings`]: comfort bands, thresholds, splits, where things are kept
//! - [`frame`]: feature rows of a zone, looked up by time
//! - [`earlier`]: columns of a zone's earlier rows, by name
//! - [`input`]: model inputs by name, the same in training and in serving
//! - [`target_transform`]: from a model's output to a level in the task's unit
//! - [`tasks`]: the exact targets, and the baselines to beat
//! - [`training_set`]: inputs and targets of all zones as arrays
//! - [`split`]: training, calibration and test set in the order of time, with embargoes
//! - [`folds`]: the same, with several consecutive test sets
//! - [`fit_pool`]: fits several models at once, within a memory limit
//! - [`backtest`]: fits a task's models and scores them
//! - [`relevance`]: importance of a model's inputs, and the value of long-term data
//! - [`anomaly`]: the one task without a target, which injected faults label
//! - [`compare`]: compares models on every task: leaderboards, champions
//! - [`report`]: the run folder: HTML, Markdown, CSV, JSON
//! - [`gate`]: the tests that a model must pass before it is served
//! - [`registry_store`]: opens the registry, in a folder or a bucket
//! - [`serve`]: champions in memory, predictions for a zone
//! - [`rest`]: predictions over HTTP, and by the Open Inference Protocol
//! - [`publish`]: predictions by MQTT
//! - [`score`]: scores of predictions, once the actual values are known
//! - [`watch`]: regular predictions, scores and retraining
//! - [`error`]: [`TrainError`]; `duration_name`: durations in names

pub mod anomaly;
pub mod backtest;
pub mod compare;
mod duration_name;
pub mod error;
pub mod feature_frame;
pub mod fit_pool;
pub mod folds;
pub mod gate;
pub mod input;
pub mod lag_columns;
pub mod publish;
pub mod registry_store;
pub mod relevance;
pub mod report;
pub mod rest;
pub mod score;
pub mod serve;
pub mod settings;
pub mod split;
pub mod target_transform;
pub mod tasks;
pub mod training_set;
pub mod watch;

pub use compare::{CompareProgress, CompareRequest, FailCondition, ModelComparison, TaskResult};
pub use error::TrainError;
pub use gate::GateDecision;
pub use publish::Publisher;
pub use rest::routes;
pub use serve::{PredictError, Prediction, Trainer};
pub use settings::TrainerSettings;

/// Wall clock, UTC ms.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}
