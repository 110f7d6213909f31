//! One recorded value, or the reason why a line has none.

use std::{borrow::Cow, fmt, path::Path, sync::Arc};

use telemetry::{SmolStr, ZoneId};

/// Sensor: a metric of a device in a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SensorKey {
    /// Site and zone.
    pub zone: ZoneId,
    /// Device within the zone.
    pub device: SmolStr,
    /// Measured metric.
    pub metric: SmolStr,
}

/// One recorded value.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedRow {
    /// Sensor that measured the value.
    pub sensor: Arc<SensorKey>,
    /// Event time, UTC ms.
    pub event_ms: i64,
    /// Arrival time, UTC ms: as recorded, else the event time.
    pub arrival_ms: i64,
    /// Value in the metric's unit.
    pub value: f64,
    /// Line number in the file, from 1.
    pub line: u32,
}

/// Position in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// The file.
    pub path: Arc<Path>,
    /// Line number, from 1.
    pub line: u64,
    /// Byte within the line, from 1.
    pub column: u64,
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// A line, or a field of one, that is not a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedLine {
    /// Position of the line or field.
    pub place: FilePosition,
    /// Content found there, shortened.
    pub found: String,
    /// Content expected there.
    pub expected: Cow<'static, str>,
    /// Whether the reject concerns a whole column, of which no value can be read.
    pub is_column: bool,
}

impl fmt::Display for RejectedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found `{}`, expected {}", self.place, self.found, self.expected)
    }
}

/// Rows of one file, in its order.
pub type RecordedRows = Box<dyn Iterator<Item = Result<RecordedRow, RejectedLine>> + Send>;

const FOUND_CHARS_MAX: usize = 60;

impl RejectedLine {
    /// Creates a reject from a position, the content found there and the content expected.
    pub fn new(
        path: &Arc<Path>,
        line: u64,
        column: u64,
        found: &[u8],
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        let text = String::from_utf8_lossy(found);
        let shown = text.trim().chars().filter(|c| !c.is_control()).take(FOUND_CHARS_MAX);
        let place = FilePosition { path: path.clone(), line, column };
        Self { place, found: shown.collect(), expected: expected.into(), is_column: false }
    }

    /// Marks the reject as concerning a whole column.
    #[must_use]
    pub fn for_column(self) -> Self {
        Self { is_column: true, ..self }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Splits rows into readings and rejects.
    pub(crate) fn split(rows: RecordedRows) -> (Vec<RecordedRow>, Vec<RejectedLine>) {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                Ok(row) => good.push(row),
                Err(reject) => bad.push(reject),
            }
        }
        (good, bad)
    }
}
