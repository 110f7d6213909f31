use std::path::PathBuf;

/// Why a path cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A path has nothing of the layout.
    #[error("{path}: {what}\nhint: {hint}")]
    Nothing {
        /// The file or folder.
        path: PathBuf,
        /// What was found.
        what: String,
        /// What is expected.
        hint: &'static str,
    },
    /// A file is not of the layout.
    #[error("{path}:{line}:{column}: found {found}, expected {expected}\nhint: {hint}")]
    Header {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// The byte, from 1.
        column: u64,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
        /// How to mend it.
        hint: &'static str,
    },
}

impl RecordingError {
    pub(crate) fn with_path(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
