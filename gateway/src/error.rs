//! The errors that end the gateway or prevent its start.

use std::io;

use eventlog::LogError;
use service::{config::ConfigError, tls::TlsError};

use crate::access::users_file::UsersFileError;

/// The errors that end the gateway or prevent its start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log failed. Nothing was acknowledged after that, so devices and brokers send it again.
    #[error("{0}\nnothing more is acknowledged; all acknowledged messages are in the log")]
    Log(#[from] LogError),
    /// The MQTT listener failed.
    #[error("the MQTT listener failed: {source}")]
    Listener {
        /// The system's error.
        source: io::Error,
    },
    /// The client of the broker cannot continue.
    #[error("the bridge to the MQTT broker ended: {what}")]
    Bridge {
        /// The reason.
        what: String,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file of users cannot be used.
    #[error(transparent)]
    Users(#[from] UsersFileError),
    /// The HTTP server failed.
    #[error("the REST server failed: {0}")]
    Rest(io::Error),
    /// Listener mode was given no socket to listen on.
    #[error("mqtt.mode = \"listener\" needs a bound socket")]
    NoSocket,
}
