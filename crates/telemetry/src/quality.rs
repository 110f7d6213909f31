//! The quality flag: `ok`, or why a reading does not enter features.

use serde::{Deserialize, Serialize};

/// The quality flag: `ok`, or why a reading does not enter features. A flagged reading is still
/// stored, counted and visible.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum QualityFlag {
    /// Plausible, in time, and new.
    #[default]
    Ok,
    /// Outside the metric's plausible range.
    OutOfRange,
    /// The value has not moved for longer than the metric allows.
    Stuck,
    /// A jump away and back that the quantity cannot make.
    Spike,
    /// Arrived after the retention of the engine's state had passed.
    Late,
    /// Stamped further ahead of its arrival than clocks may differ.
    Future,
    /// A reading that was delivered again.
    Duplicate,
    /// Not a finite number.
    NotANumber,
}

impl QualityFlag {
    /// Every flag, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::OutOfRange,
        Self::Stuck,
        Self::Spike,
        Self::Late,
        Self::Future,
        Self::Duplicate,
        Self::NotANumber,
    ];

    /// The name used on the wire and in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OutOfRange => "out_of_range",
            Self::Stuck => "stuck",
            Self::Spike => "spike",
            Self::Late => "late",
            Self::Future => "future",
            Self::Duplicate => "duplicate",
            Self::NotANumber => "not_a_number",
        }
    }

    /// Whether the reading enters features.
    #[must_use]
    pub const fn is_ok(self) -> bool {
        matches!(self, Self::Ok)
    }
}
