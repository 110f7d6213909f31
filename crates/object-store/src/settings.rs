use serde::{Deserialize, Serialize};
use service::Secret;

/// An S3-compatible store: `[s3]` of a configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://host[:port]`; empty for Amazon's of the region.
    pub endpoint: String,
    /// As in `eu-central-1`.
    pub region: String,
    /// The key's name.
    pub access_key: String,
    /// The key.
    pub secret_key: Secret,
    /// Longest wait for one answer, seconds; above 0. Files have more by their size.
    pub timeout_s: f64,
}
