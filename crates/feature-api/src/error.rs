//! Why features could not be read.

use std::error::Error;

/// Why features could not be read. Each message has its cause in it.
#[derive(Debug, thiserror::Error)]
pub enum FeatureReadError {
    /// No HTTP client could be built, for example because the system has no root certificates.
    #[error("no HTTP client: {0}")]
    NoClient(String),
    /// Nobody answers at the feature store's address, or the answer broke off.
    #[error("{url}: {cause}")]
    Unreachable {
        /// URL of the request.
        url: String,
        /// Error of the HTTP client, without the URL.
        cause: String,
    },
    /// The feature store refused the request.
    #[error("{url}: {status}: {body}")]
    Refused {
        /// URL of the request.
        url: String,
        /// Status code and its name.
        status: String,
        /// Beginning of the response body.
        body: String,
    },
    /// The feature store lacks an endpoint that every feature store has.
    #[error("{url}: 404 Not Found")]
    NotFound {
        /// URL of the request.
        url: String,
    },
    /// The response does not have the expected form.
    #[error("{url}: {cause}")]
    Answer {
        /// URL of the request.
        url: String,
        /// Found and expected form of the response.
        cause: String,
    },
    /// The feature store in this process failed.
    #[error("{0}")]
    Store(Box<dyn Error + Send + Sync>),
}

impl FeatureReadError {
    /// Wraps a failure of the feature store in this process.
    #[must_use]
    pub fn from_store(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Store(error.into())
    }

    /// Returns whether the feature store did not answer at all, for example because it is not
    /// running.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}
