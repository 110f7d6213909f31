//! The entity that features and predictions are about.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::topic::check_level;

/// A room or a greenhouse bay, written `site/zone`: the entity that features
/// and predictions are about, and the key of every log record.
///
/// ```
/// let zone: microclimate_telemetry::ZoneId = "farm/bay-1".parse().unwrap();
/// assert_eq!((zone.site.as_str(), zone.zone.as_str()), ("farm", "bay-1"));
/// assert_eq!(zone.to_string(), "farm/bay-1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "String")]
pub struct ZoneId {
    /// The farm or building.
    pub site: SmolStr,
    /// The room or bay in it.
    pub zone: SmolStr,
}

/// The error for a text that is not `site/zone`.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a zone, expected `site/zone` as in `farm/bay-1`")]
pub struct ParseZoneError(String);

impl ZoneId {
    /// Builds the identifier from its two levels.
    pub fn new(site: impl Into<SmolStr>, zone: impl Into<SmolStr>) -> Self {
        Self { site: site.into(), zone: zone.into() }
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.zone)
    }
}

impl FromStr for ZoneId {
    type Err = ParseZoneError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((site, zone)) if check_level(site).is_ok() && check_level(zone).is_ok() => {
                Ok(Self::new(site, zone))
            }
            _ => Err(ParseZoneError(text.chars().take(80).collect())),
        }
    }
}

impl TryFrom<SmolStr> for ZoneId {
    type Error = ParseZoneError;

    fn try_from(text: SmolStr) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ZoneId> for String {
    fn from(zone: ZoneId) -> Self {
        zone.to_string()
    }
}
