//! Alerts, active and past.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use telemetry::{SmolStr, ZoneId};
use utoipa::ToSchema;

/// Urgency of an alert, least urgent first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AlertSeverity {
    /// Worth knowing.
    Info,
    /// Act soon.
    Warning,
    /// Act now.
    Critical,
}

impl AlertSeverity {
    /// All severities, least urgent first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The name in configuration, JSON and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// State of an alert.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The condition holds, but not for long enough yet.
    Pending,
    /// The condition has held for long enough, and nobody has acknowledged it.
    Firing,
    /// A person knows of it.
    Acknowledged,
    /// The condition has ended.
    Resolved,
}

impl AlertState {
    /// All states, in the order in which an alert passes through them.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Firing, Self::Acknowledged, Self::Resolved];

    /// The name in JSON, queries and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }
}

/// How an alert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertOutcome {
    /// Its condition ended.
    Cleared,
    /// Its condition held and ended in readings of the past, so nobody was notified.
    Recorded,
    /// Nothing was heard of it for `expire_h`.
    Expired,
    /// Its rule was removed or turned off.
    RuleRemoved,
}

impl AlertOutcome {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Cleared, Self::Recorded, Self::Expired, Self::RuleRemoved];

    /// The name in JSON and in DuckDB.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cleared => "cleared",
            Self::Recorded => "recorded",
            Self::Expired => "expired",
            Self::RuleRemoved => "rule_removed",
        }
    }
}

/// Key that makes two observations those of one alert: the rule, the zone, and the part of the zone
/// that it is about. There is at most one active alert of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AlertKey {
    /// Name of the rule.
    pub rule: SmolStr,
    /// The zone; `None` for the process itself.
    pub zone: Option<ZoneId>,
    /// A metric, a device, a topic of the log; empty for the whole zone.
    pub subject: SmolStr,
}

impl AlertKey {
    /// Builds the key of a zone's alert.
    pub fn for_zone(rule: &SmolStr, zone: &ZoneId, subject: impl Into<SmolStr>) -> Self {
        Self { rule: rule.clone(), zone: Some(zone.clone()), subject: subject.into() }
    }

    /// Builds the key of an alert about the process itself.
    pub fn for_system(rule: &SmolStr, subject: impl Into<SmolStr>) -> Self {
        Self { rule: rule.clone(), zone: None, subject: subject.into() }
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        if let Some(zone) = &self.zone {
            write!(f, " {zone}")?;
        }
        if self.subject.is_empty() { Ok(()) } else { write!(f, " {}", self.subject) }
    }
}

/// Identifier of one alert from its start to its end. It is a hash of the key and the start, so
/// the same observations give the same identifier after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, example = "5f1c0a9be2d34c77")]
pub struct AlertId(String);

impl AlertId {
    /// Computes the identifier of the alert of `key` that started at `started_ms`, UTC ms.
    #[must_use]
    pub fn from_start(key: &AlertKey, started_ms: i64) -> Self {
        let digest = Sha256::digest(format!("{key}\n{started_ms}"));
        Self(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The text of the identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for AlertId {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who acknowledged an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcknowledgedBy {
    /// Time of the acknowledgement, UTC ms.
    pub at_ms: i64,
    /// Name that the person gave; may be empty.
    pub by: String,
    /// Note of the person; may be empty.
    pub note: String,
}

/// An alert that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveAlert {
    /// Identifier.
    pub id: AlertId,
    /// Rule, zone and subject.
    pub key: AlertKey,
    /// Urgency.
    pub severity: AlertSeverity,
    /// Event time since which the condition has held, UTC ms.
    pub started_ms: i64,
    /// Event time at which it began to fire, UTC ms; `None` while it is pending.
    pub fired_ms: Option<i64>,
    /// Event time of its newest observation, UTC ms.
    pub observed_ms: i64,
    /// Value of the newest observation that had one.
    pub value: Option<f64>,
    /// Value furthest beyond the limit.
    pub peak: Option<f64>,
    /// Limit that the value is compared with.
    pub limit: Option<f64>,
    /// Kind of fault, basis of a forecast, or another word about it; may be empty.
    pub detail: SmolStr,
    /// Whether only readings of the past have been seen of it. Such an alert notifies nobody until
    /// a live reading confirms it.
    pub is_recorded: bool,
    /// Who acknowledged it.
    pub acknowledged: Option<AcknowledgedBy>,
}

impl ActiveAlert {
    /// Its state.
    #[must_use]
    pub const fn state(&self) -> AlertState {
        match (self.fired_ms, &self.acknowledged) {
            (None, _) => AlertState::Pending,
            (Some(_), None) => AlertState::Firing,
            (Some(_), Some(_)) => AlertState::Acknowledged,
        }
    }

    /// Whether it fires and a live reading has confirmed it.
    #[must_use]
    pub const fn is_firing_live(&self) -> bool {
        self.fired_ms.is_some() && !self.is_recorded
    }
}

/// An alert that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastAlert {
    /// The alert as it was when it ended.
    pub alert: ActiveAlert,
    /// Event time of its end, UTC ms.
    pub resolved_ms: i64,
    /// How it ended.
    pub outcome: AlertOutcome,
}
