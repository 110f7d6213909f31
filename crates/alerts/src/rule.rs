//! Checked rules.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};
use telemetry::{SmolStr, ZoneId};
use utoipa::ToSchema;

use crate::{alert::AlertSeverity, mute::MuteSchedule};

/// Limit that each zone has its own value of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamedLimit {
    /// Temperature below which the zone is heated, °C.
    HeatBelow,
    /// Temperature above which the zone is cooled, °C.
    CoolAbove,
    /// Soil moisture at which plants must be watered, %.
    SoilMoistureCritical,
    /// Upper comfort limit of CO₂, ppm.
    #[serde(rename = "co2_high")]
    Co2High,
}

impl NamedLimit {
    /// All named limits.
    pub const ALL: [Self; 4] =
        [Self::HeatBelow, Self::CoolAbove, Self::SoilMoistureCritical, Self::Co2High];

    /// The name in rules.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HeatBelow => "heat_below",
            Self::CoolAbove => "cool_above",
            Self::SoilMoistureCritical => "soil_moisture_critical",
            Self::Co2High => "co2_high",
        }
    }
}

/// A limit of a rule: a number, or the zone's own one, moved outwards by `margin`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LimitSource {
    /// The number, or the name of the zone's own.
    pub base: LimitBase,
    /// Distance beyond the base at which the limit lies, in the metric's unit, 0 or more.
    pub margin: f64,
}

/// Source of a limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LimitBase {
    /// A number, in the metric's unit.
    Fixed(f64),
    /// The zone's own limit.
    Named(NamedLimit),
}

/// Side of a limit on which a value is a fault, with the hysteresis on the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LimitSide {
    /// Values above the limit.
    Above,
    /// Values below the limit.
    Below,
}

/// Threshold with hysteresis: once exceeded, the value must come back to beyond the limit by
/// `hysteresis` before the condition has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// The limit.
    pub limit: LimitSource,
    /// Side on which a value is a fault.
    pub side: LimitSide,
    /// Distance that the value must come back, in its unit.
    pub hysteresis: f64,
}

/// Condition of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum AlertCondition {
    /// A metric's value beyond a limit.
    Threshold {
        /// The metric.
        metric: SmolStr,
        /// Suffix of the feature, as `last`, `mean_10m`, `min_30m`.
        statistic: SmolStr,
        /// The limit.
        threshold: Threshold,
    },
    /// A metric of a zone without readings, while others of the zone report.
    SilentSensor {
        /// Length of the silence, s. A sensor that reports seldom has three of its intervals.
        after_s: f64,
        /// Metrics; empty for all.
        metrics: Vec<SmolStr>,
    },
    /// A zone without readings.
    SilentZone {
        /// Length of the silence, s.
        after_s: f64,
    },
    /// Soil moisture that falls to its limit within a time.
    SoilForecast {
        /// The limit.
        limit: LimitSource,
        /// The time, h.
        within_h: f64,
        /// Hours more at which the condition has ended.
        hysteresis_h: f64,
    },
    /// The prediction of a task beyond a limit.
    TaskForecast {
        /// The task.
        task: SmolStr,
        /// The limit.
        threshold: Threshold,
    },
    /// A sensor that behaves as in one of these faults.
    Anomaly {
        /// Kinds of fault; empty for all.
        faults: Vec<SmolStr>,
    },
    /// A battery's voltage below a limit.
    Battery {
        /// The limit, V.
        threshold: Threshold,
    },
    /// A device whose clock is off by a constant.
    ClockOffset {
        /// Smallest offset in either direction, s.
        above_s: f64,
    },
    /// Log records that the feature store has not read yet.
    PipelineLag {
        /// Number of records.
        above_records: f64,
    },
    /// Records that wait for Kafka.
    Spool {
        /// Share of the spool's limit, %.
        above_pct: f64,
    },
    /// A disk with little room.
    Disk {
        /// Free space, MB.
        below_mb: f64,
        /// More free space at which the condition has ended, MB.
        hysteresis_mb: f64,
    },
}

impl AlertCondition {
    /// The name in configuration and JSON.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Threshold { .. } => "threshold",
            Self::SilentSensor { .. } => "silent_sensor",
            Self::SilentZone { .. } => "silent_zone",
            Self::SoilForecast { .. } | Self::TaskForecast { .. } => "forecast",
            Self::Anomaly { .. } => "anomaly",
            Self::Battery { .. } => "battery",
            Self::ClockOffset { .. } => "clock_offset",
            Self::PipelineLag { .. } => "pipeline_lag",
            Self::Spool { .. } => "spool",
            Self::Disk { .. } => "disk",
        }
    }

    /// Side of the limit on which a value is a fault.
    #[must_use]
    pub const fn side(&self) -> LimitSide {
        match self {
            Self::Threshold { threshold, .. }
            | Self::TaskForecast { threshold, .. }
            | Self::Battery { threshold } => threshold.side,
            Self::SoilForecast { .. } | Self::Disk { .. } => LimitSide::Below,
            _ => LimitSide::Above,
        }
    }
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base {
            LimitBase::Fixed(number) => write!(f, "{number}"),
            LimitBase::Named(name) => f.write_str(name.as_str()),
        }
    }
}

impl Threshold {
    /// Describes it, as in `above cool_above + 2 (hysteresis 0.5)`.
    fn describe(&self) -> String {
        let (word, sign) = match self.side {
            LimitSide::Above => ("above", '+'),
            LimitSide::Below => ("below", '-'),
        };
        let mut text = format!("{word} {}", self.limit);
        if self.limit.margin > 0.0 {
            let _ = write!(text, " {sign} {}", self.limit.margin);
        }
        if self.hysteresis > 0.0 {
            let _ = write!(text, " (hysteresis {})", self.hysteresis);
        }
        text
    }
}

impl AlertCondition {
    /// Describes the condition in words, as in `temperature mean_10m below 2 (hysteresis 1)`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Threshold { metric, statistic, threshold } => {
                format!("{metric} {statistic} {}", threshold.describe())
            }
            Self::SilentSensor { after_s, metrics } if metrics.is_empty() => {
                format!("a sensor without readings for {after_s} s")
            }
            Self::SilentSensor { after_s, metrics } => {
                format!("{} without readings for {after_s} s", metrics.join(", "))
            }
            Self::SilentZone { after_s } => format!("a zone without readings for {after_s} s"),
            Self::SoilForecast { limit, within_h, .. } => {
                format!("soil_moisture reaches {limit} within {within_h} h")
            }
            Self::TaskForecast { task, threshold } => {
                format!("prediction {task} {}", threshold.describe())
            }
            Self::Anomaly { faults } if faults.is_empty() => "any fault of a sensor".to_owned(),
            Self::Anomaly { faults } => format!("faults of a sensor: {}", faults.join(", ")),
            Self::Battery { threshold } => format!("battery {} V", threshold.describe()),
            Self::ClockOffset { above_s } => format!("a clock that is off by {above_s} s"),
            Self::PipelineLag { above_records } => {
                format!("{above_records} records wait to be stored")
            }
            Self::Spool { above_pct } => format!("the spool is {above_pct} % full"),
            Self::Disk { below_mb, .. } => format!("less than {below_mb} MB are free"),
        }
    }
}

/// A checked rule.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertRule {
    /// Name, unique among rules: small letters, digits and `_`.
    pub name: SmolStr,
    /// Its meaning and advice, in a sentence.
    pub summary: String,
    /// Urgency of its alerts.
    pub severity: AlertSeverity,
    /// Whether it is one of the built-in rules, changed or not.
    pub is_built_in: bool,
    /// Whether it is applied.
    pub is_enabled: bool,
    /// How long the condition must hold in event time, s.
    pub for_s: f64,
    /// Zones to which it applies, as `site/zone` or `site/*`; empty for all.
    pub zones: Vec<SmolStr>,
    /// When nobody is notified.
    pub mute: Vec<MuteSchedule>,
    /// The condition.
    pub condition: AlertCondition,
}

impl AlertRule {
    /// Whether the rule applies to a zone.
    #[must_use]
    pub fn applies_to(&self, zone: &ZoneId) -> bool {
        self.zones.is_empty()
            || self.zones.iter().any(|own| match own.strip_suffix("/*") {
                Some(site) => zone.site == site,
                None => own.split_once('/') == Some((&zone.site, &zone.zone)),
            })
    }

    /// How long the condition must hold, ms.
    #[must_use]
    pub fn for_ms(&self) -> i64 {
        (self.for_s * 1000.0) as i64
    }
}
