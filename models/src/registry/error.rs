use super::GateVerdict;

/// Why the registry could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file or object could not be read or written.
    #[error("{key}: {source}")]
    Io {
        /// The file or object.
        key: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// An artifact is not what it should be.
    #[error(
        "{key}: this model is refused: {why}\nhint: train it again with `trainer compare`; the champion stays"
    )]
    Refused {
        /// The artifact.
        key: String,
        /// The reason.
        why: String,
    },
    /// An entry of the log of decisions is not what it should be.
    #[error(
        "{key}: this entry cannot be read: {why}\nhint: restore the file, or remove it to return to the decision before it"
    )]
    Log {
        /// The entry.
        key: String,
        /// The reason.
        why: String,
    },
    /// A name that is none of a task.
    #[error("`{0}` is no name of a task: expected 1 to 100 of a to z, 0 to 9 and -")]
    BadTask(String),
    /// There is no such version.
    #[error("{task}: there is no version {version}{}", only(.known))]
    NoVersion {
        /// The task.
        task: String,
        /// The version.
        version: u64,
        /// Those that there are.
        known: Vec<u64>,
    },
    /// There is no earlier champion.
    #[error("{task}: there is no earlier champion to go back to")]
    NoHistory {
        /// The task.
        task: String,
    },
    /// The gate stays shut.
    #[error(
        "{task}: version {version} stays out: {}\nhint: `trainer models promote {task} {version} --force --why …` promotes it all the same, and is recorded",
        .verdict.as_ref().map_or_else(unjudged, |verdict| verdict.reason())
    )]
    Gate {
        /// The task.
        task: String,
        /// The version.
        version: u64,
        /// What the gate said, if it was asked.
        verdict: Option<Box<GateVerdict>>,
    },
    /// Others wrote again and again.
    #[error("{task}: other processes changed it {tries} times in a row\nhint: try again")]
    Busy {
        /// The task.
        task: String,
        /// Attempts.
        tries: usize,
    },
    /// A model that cannot be written.
    #[error("{task}: this model has no written form: {source}")]
    Unwritable {
        /// The task.
        task: String,
        /// What is missing.
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
