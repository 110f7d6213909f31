//! Why features could not be read.

use std::error::Error;

/// Why features could not be read. Each message has its cause in it.
#[derive(Debug, thiserror::Error)]
pub enum FeatureReadError {
    /// No HTTP client can be made, as where the system has no root certificates.
    #[error("no HTTP client: {0}")]
    NoClient(String),
    /// Nobody answers at the feature store's address, or the answer broke off.
    #[error("{url}: {cause}")]
    Unreachable {
        /// What was requested.
        url: String,
        /// What the HTTP client reports, without the address.
        cause: String,
    },
    /// The feature store refused the request.
    #[error("{url}: {status}: {body}")]
    Refused {
        /// What was requested.
        url: String,
        /// The status code and its name.
        status: String,
        /// The beginning of the answer.
        body: String,
    },
    /// The feature store does not have what every feature store has.
    #[error("{url}: 404 Not Found")]
    NotFound {
        /// What was requested.
        url: String,
    },
    /// The answer is not of the expected form.
    #[error("{url}: {cause}")]
    Answer {
        /// What was requested.
        url: String,
        /// What was found, and what was expected.
        cause: String,
    },
    /// The feature store in this process failed.
    #[error("{0}")]
    Store(Box<dyn Error + Send + Sync>),
}

impl FeatureReadError {
    /// A failure of the feature store in this process.
    #[must_use]
    pub fn from_store(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Store(error.into())
    }

    /// Whether the feature store did not answer at all, as where it is not running.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
