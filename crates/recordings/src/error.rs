use std::path::PathBuf;

/// Error: a path cannot be read as a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A path holds no file of the layout.
    #[error("{path}: {what}\nhint: {hint}")]
    Nothing {
        /// The file or folder.
        path: PathBuf,
        /// Description of the problem.
        what: String,
        /// Files that were expected.
        hint: &'static str,
    },
    /// A file does not have the layout.
    #[error("{path}:{line}:{column}: found {found}, expected {expected}\nhint: {hint}")]
    Header {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// Byte within the line, from 1.
        column: u64,
        /// Content found there.
        found: String,
        /// Content expected there.
        expected: String,
        /// Way to fix it.
        hint: &'static str,
    },
}

impl RecordingError {
    pub(crate) fn with_path(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let owned_path = path.to_owned();
        move |source| Self::Io { path: owned_path, source }
    }
}
