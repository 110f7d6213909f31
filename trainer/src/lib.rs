//! Tasks and their targets, the comparison of models, and the serving of
//! predictions.
//!
//! # Layout
//! In the order in which data meets them:
//! - [`settings`]: comfort bands, thresholds, splits, where things are kept
//! - [`frame`]: feature rows of a zone, looked up by time
//! - [`earlier`]: columns of a zone's earlier rows, by name
//! - [`input`]: model inputs by name, the same in training and in serving
//! - [`link`]: from what a model says to a level in the task's unit
//! - [`tasks`]: what is predicted, exactly, and the baselines to beat
//! - [`rows`]: inputs and targets of all zones as arrays
//! - [`split`]: train, calibrate, test in the order of time, with embargoes
//! - [`folds`]: the same, over several test parts that follow one another
//! - [`workers`]: models are fitted at once, within a memory limit
//! - [`backtest`]: fits a task's models and scores them
//! - [`relevance`]: what a model rests on, and what long-term data are worth
//! - [`anomaly`]: the one task without a target: injected faults label it
//! - [`compare`]: every task, the leaderboards, the champions
//! - [`report`]: the run folder: HTML, Markdown, CSV, JSON
//! - [`gate`]: what a model must show before it is served
//! - [`object_store`]: where the registry is
//! - [`serve`]: champions in memory, predictions for a zone
//! - [`rest`]: the same over HTTP, and as the Open Inference Protocol
//! - [`publish`]: predictions by MQTT
//! - [`score`]: how predictions fare once the truth has come
//! - [`watch`]: predictions, scores, training again

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

/// The wall clock, UTC ms.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_millis() as i64
}
