//! One recorded value, or why a line is none.

use std::{borrow::Cow, fmt, path::Path, sync::Arc};

use telemetry::{SmolStr, ZoneId};

/// Who measured what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SensorKey {
    /// Site and zone.
    pub zone: ZoneId,
    /// The device within the zone.
    pub device: SmolStr,
    /// What it measured.
    pub metric: SmolStr,
}

/// One recorded value.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedRow {
    /// Who measured what.
    pub sensor: Arc<SensorKey>,
    /// When it was measured, UTC ms.
    pub event_ms: i64,
    /// When it was known, UTC ms: as recorded, else when it was measured.
    pub arrival_ms: i64,
    /// In the metric's unit.
    pub value: f64,
    /// Where it stands in its file, from 1.
    pub line: u32,
}

/// Where in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePosition {
    /// The file.
    pub path: Arc<Path>,
    /// From 1.
    pub line: u64,
    /// The byte, from 1.
    pub column: u64,
}

impl fmt::Display for FilePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// A line, or a field of one, that is no reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedLine {
    /// Where.
    pub place: FilePosition,
    /// What stands there, shortened.
    pub found: String,
    /// What should stand there.
    pub expected: Cow<'static, str>,
    /// Whether it is a whole column, of which no value can be read.
    pub is_column: bool,
}

impl fmt::Display for RejectedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found `{}`, expected {}", self.place, self.found, self.expected)
    }
}

/// The rows of one file, in its order.
pub type RecordedRows = Box<dyn Iterator<Item = Result<RecordedRow, RejectedLine>> + Send>;

const FOUND_CHARS_MAX: usize = 60;

impl RejectedLine {
    /// What stands at a place of a file, and what should.
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

    /// The same, of a whole column.
    #[must_use]
    pub fn for_column(self) -> Self {
        Self { is_column: true, ..self }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// By kind.
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
