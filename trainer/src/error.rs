//! Errors of training and predicting.

use feature_api::FeatureReadError;
use tokio::task::JoinError;

/// Why training or predicting failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The feature store did not answer, or not as expected.
    #[error("feature store: {0}{hint}", hint = unreachable_hint(.0))]
    Source(FeatureReadError),
    /// There is no such task.
    #[error("there is no task `{0}`\nhint: the tasks are {tasks}", tasks = crate::tasks::NAMES.join(", "))]
    UnknownTask(String),
    /// There is no such model.
    #[error("there is no model `{0}`\nhint: the models are {1}")]
    UnknownModel(String, String),
    /// The request has no meaning.
    #[error("{0}")]
    Request(String),
    /// A comparison's thread panicked, or the process is being stopped.
    #[error("the comparison ended early: {0}")]
    Stopped(JoinError),
    /// A table of feature rows is not of the expected form.
    #[error("feature rows: {0}")]
    Frame(#[from] polars::error::PolarsError),
    /// The registry refused, or is damaged.
    #[error(transparent)]
    Registry(#[from] models::RegistryError),
    /// No MQTT client can be created.
    #[error("mqtt: {0}")]
    Mqtt(String),
    /// A model and its rival cannot be compared.
    #[error("gate: {0}")]
    Gate(String),
    /// The registry's store cannot be used.
    #[error("registry_dir: {0}")]
    ObjectStore(#[from] ::object_store::BucketError),
    /// A model was trained for another meaning of its task.
    #[error(
        "{task}, version {version}: it was trained for an earlier meaning of the task\nhint: train a new one, as with `trainer compare --task {task}`"
    )]
    Outdated {
        /// Task of the model.
        task: String,
        /// Version in the registry.
        version: u64,
    },
    /// A report could not be written.
    #[error("{path}: {source}")]
    Report {
        /// The file.
        path: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

/// Which setting to look at where nobody answers at the feature store's address.
fn unreachable_hint(error: &FeatureReadError) -> &'static str {
    if error.is_unreachable() {
        "\nhint: is `feature-store run` running at source.url?"
    } else {
        ""
    }
}

// Not `#[from]`: the message has the cause in it, and a chain of causes would repeat it.
impl From<FeatureReadError> for TrainError {
    fn from(error: FeatureReadError) -> Self {
        Self::Source(error)
    }
}
