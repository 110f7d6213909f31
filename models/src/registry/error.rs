use super::GateVerdict;

/// Failure of a registry operation.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file or object could not be read or written.
    #[error("{key}: {source}")]
    Io {
        /// File or object.
        key: String,
        /// Error of the operating system or the object store.
        source: std::io::Error,
    },
    /// An artifact is invalid.
    #[error(
        "{key}: this model is refused: {why}\nhint: train it again with `trainer compare`; the champion stays"
    )]
    Refused {
        /// Artifact.
        key: String,
        /// Reason of the refusal.
        why: String,
    },
    /// An entry of the log of decisions is invalid.
    #[error(
        "{key}: this entry cannot be read: {why}\nhint: restore the file, or remove it to return to the decision before it"
    )]
    Log {
        /// Entry.
        key: String,
        /// Reason of the refusal.
        why: String,
    },
    /// The name is not a valid task name.
    #[error("`{0}` is no name of a task: expected 1 to 100 of a to z, 0 to 9 and -")]
    BadTask(String),
    /// The version does not exist.
    #[error("{task}: there is no version {version}{}", only(.known))]
    NoVersion {
        /// Task.
        task: String,
        /// Requested version.
        version: u64,
        /// Existing versions.
        known: Vec<u64>,
    },
    /// The task has no earlier champion.
    #[error("{task}: there is no earlier champion to go back to")]
    NoHistory {
        /// Task.
        task: String,
    },
    /// The version did not pass the gate.
    #[error(
        "{task}: version {version} stays out: {}\nhint: `trainer models promote {task} {version} --force --why …` promotes it all the same, and is recorded",
        .verdict.as_ref().map_or_else(unjudged, |verdict| verdict.reason())
    )]
    Gate {
        /// Task.
        task: String,
        /// Refused version.
        version: u64,
        /// Verdict of the gate, if the version was evaluated.
        verdict: Option<Box<GateVerdict>>,
    },
    /// Other processes changed the task at every attempt.
    #[error("{task}: other processes changed it {tries} times in a row\nhint: try again")]
    Busy {
        /// Task.
        task: String,
        /// Number of attempts.
        tries: usize,
    },
    /// The model cannot be serialised.
    #[error("{task}: this model has no written form: {source}")]
    Unwritable {
        /// Task.
        task: String,
        /// Error of the serialisation.
        source: serde_json::Error,
    },
}

fn only(versions: &[u64]) -> String {
    let versions: Vec<String> = versions.iter().map(u64::to_string).collect();
    if versions.is_empty() { String::new() } else { format!(", only {}", versions.join(", ")) }
}

fn unjudged() -> String {
    "it was never compared with the present champion".to_owned()
}
