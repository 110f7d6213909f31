use std::{fs::File, path::Path};

use anyhow::{Context, Result, ensure};
use jiff::{civil::DateTime, tz::TimeZone};

/// Time between the rows of the file, ms.
pub(crate) const STEP_MS: i64 = 300_000;
const FIELDS: usize = 4;

/// One field as published: every 5 minutes moisture, %, and the flag.
pub(crate) struct MoistureField {
    pub(crate) first_ms: i64,
    pub(crate) moisture: Vec<Option<f64>>,
    pub(crate) flag: Vec<bool>,
}

impl MoistureField {
    pub(crate) fn at_ms(&self, row: usize) -> i64 {
        self.first_ms + row as i64 * STEP_MS
    }
}

/// Reads all fields of the file.
pub(crate) fn read_fields(path: &Path) -> Result<Vec<MoistureField>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut rows = csv::Reader::from_reader(file);
    let mut fields: Vec<MoistureField> = Vec::new();
    for (number, row) in rows.records().enumerate() {
        let row = row?;
        let cell = |i: usize| row.get(i).with_context(|| format!("row {number}: no column {i}"));
        let time: DateTime = DateTime::strptime("%Y-%m-%d %H:%M:%S", cell(0)?)?;
        let at_ms = time.to_zoned(TimeZone::UTC)?.timestamp().as_millisecond();
        if fields.is_empty() {
            let empty =
                || MoistureField { first_ms: at_ms, moisture: Vec::new(), flag: Vec::new() };
            fields = (0..FIELDS).map(|_| empty()).collect();
        }
        for (i, field) in fields.iter_mut().enumerate() {
            let expected_ms = field.at_ms(field.moisture.len());
            ensure!(
                at_ms == expected_ms,
                "row {number}: expected 5 minutes after the previous row"
            );
            field.moisture.push(cell(1 + 2 * i)?.parse().ok());
            field.flag.push(cell(2 + 2 * i)? == "1");
        }
    }
    Ok(fields)
}
