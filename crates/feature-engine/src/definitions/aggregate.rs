use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use telemetry::SmolStr;

/// A function over the readings of a window (t − w, t]. All but `count` and `coverage` are null
/// if the window is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Aggregate {
    /// Number of readings; 0 in an empty window.
    Count,
    /// Arithmetic mean of the readings.
    Mean,
    /// Sample standard deviation (n − 1); needs two readings.
    Std,
    /// Smallest value.
    Min,
    /// Largest value.
    Max,
    /// Oldest value.
    First,
    /// Newest value.
    Last,
    /// Newest value less oldest value; needs two readings.
    Delta,
    /// Slope of the least-squares line, units per hour; needs readings at two times.
    Slope,
    /// Mean over time: each value holds until the next one, at most for `engine.hold_max_s`.
    TimeMean,
    /// Integral over time, unit·hours, with the same limit.
    Integral,
    /// Quantile at 0.1, at the resolution of the metric.
    P10,
    /// Median, at the resolution of the metric.
    P50,
    /// Quantile at 0.9, at the resolution of the metric.
    P90,
    /// Share of the expected minutes that have a reading, %; 0 in an empty window.
    Coverage,
    /// Longest time without a reading within the window, including its two ends, s.
    GapMax,
}

impl Aggregate {
    /// All aggregates, in the order of columns.
    pub const ALL: [Self; 16] = [
        Self::Count,
        Self::Mean,
        Self::Std,
        Self::Min,
        Self::Max,
        Self::First,
        Self::Last,
        Self::Delta,
        Self::Slope,
        Self::TimeMean,
        Self::Integral,
        Self::P10,
        Self::P50,
        Self::P90,
        Self::Coverage,
        Self::GapMax,
    ];

    /// Returns the name in definitions and in feature names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Mean => "mean",
            Self::Std => "std",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::Delta => "delta",
            Self::Slope => "slope",
            Self::TimeMean => "time_mean",
            Self::Integral => "integral",
            Self::P10 => "p10",
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::Coverage => "coverage",
            Self::GapMax => "gap_max_s",
        }
    }

    /// Returns the unit of the aggregate for readings in a unit.
    #[must_use]
    pub fn unit(self, reading_unit: Option<&str>) -> Option<SmolStr> {
        match self {
            Self::Count => Some("1".into()),
            Self::Coverage => Some("%".into()),
            Self::GapMax => Some("s".into()),
            Self::Slope => reading_unit.map(|unit| format!("{unit}/h").into()),
            Self::Integral => reading_unit.map(|unit| format!("{unit}·h").into()),
            _ => reading_unit.map(SmolStr::from),
        }
    }

    /// Returns the source of the formula, if it is more than plain counting.
    #[must_use]
    pub const fn source(self) -> Option<&'static str> {
        match self {
            Self::Mean | Self::Std | Self::Slope => Some(
                "T. F. Chan, G. H. Golub, R. J. LeVeque, \"Updating formulae and a pairwise \
                 algorithm for computing sample variances\", 1979",
            ),
            Self::P10 | Self::P50 | Self::P90 => Some(
                "counting at the metric's resolution, without one DDSketch: C. Masson, J. E. Rim, \
                 H. K. Lee, PVLDB 12(12), 2019",
            ),
            _ => None,
        }
    }

    /// Returns the level of a quantile; `None` for other aggregates.
    #[must_use]
    pub const fn quantile(self) -> Option<f64> {
        match self {
            Self::P10 => Some(0.1),
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            _ => None,
        }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Aggregate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|aggregate| aggregate.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("`{text}` is not an aggregate; known are {names}")
        })
    }
}

impl TryFrom<String> for Aggregate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Aggregate> for String {
    fn from(aggregate: Aggregate) -> Self {
        aggregate.as_str().to_owned()
    }
}
