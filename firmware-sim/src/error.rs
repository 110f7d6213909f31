use std::path::PathBuf;

use service::config::ConfigError;

/// Why nothing more can be published.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A setting has no meaning.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A connection could not be set up.
    #[error("{host}:{port}: cannot set up an MQTT client: {what}")]
    Client {
        /// The broker.
        host: String,
        /// Its port.
        port: u16,
        /// What the library says.
        what: String,
    },
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// What is to be replayed cannot be read.
    #[error(transparent)]
    Recording(#[from] recordings::RecordingError),
}
