use std::path::PathBuf;

use service::config::ConfigError;

/// The errors that end publishing.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A setting has no meaning.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A connection could not be set up.
    #[error("{host}:{port}: cannot set up an MQTT client: {what}")]
    Client {
        /// Name or address of the broker.
        host: String,
        /// Port of the broker.
        port: u16,
        /// The library's message.
        what: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] recordings::RecordingError),
}
