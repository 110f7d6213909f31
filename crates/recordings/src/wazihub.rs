//! `Train.csv` of the Wazihub soil moisture challenge (Zindi, 2019): four irrigated fields in
//! Senegal, and their weather.
//!
//! The published file contains information from the future. Soil moisture is interpolated between
//! readings 3 h apart. The irrigation flag is set back to the reading before the rise that it
//! explains. The 10-minute weather is interpolated to 5 minutes. With `knots`, soil moisture is
//! reduced to the measured values, a flag arrives with the reading that shows the rise, and every
//! second row of weather is omitted.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use telemetry::{ParsedTime, TimeParser, TimeUsage, ZoneId, time};

use crate::{
    RecordedRow, RecordedRows, RecordingError, RejectedLine, SensorKey, interpolation,
    layout::RecordingOptions, number,
};

pub(crate) const HINT: &str = "`--layout wazihub` needs `Train.csv` with the columns `timestamp`, \
                               `Soil humidity 1` and `Irrigation field 1`";
const FIELDS: usize = 4;
/// Column, metric, factor to the metric's unit (kPa → hPa, km/h → m/s).
const WEATHER: [(&str, &str, f64); 6] = [
    ("Air temperature (C)", "temperature", 1.0),
    ("Air humidity (%)", "humidity", 1.0),
    ("Pressure (KPa)", "pressure", 10.0),
    ("Wind speed (Km/h)", "wind_speed", 1.0 / 3.6),
    ("Wind gust (Km/h)", "wind_gust", 1.0 / 3.6),
    ("Wind direction (Deg)", "wind_direction", 1.0),
];

pub(crate) fn find_files(path: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    let within = ["Train.csv", "wazihub/Train.csv"].map(|name| path.join(name));
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    std::fs::metadata(path).map_err(RecordingError::with_path(path))?;
    Ok(within.into_iter().filter(|file| file.is_file()).take(1).collect())
}

/// The file as columns: event times, and an optional value per cell.
struct WazihubTable {
    names: csv::StringRecord,
    at_ms: Vec<i64>,
    line: Vec<u32>,
    cells: Vec<Vec<Option<f64>>>,
    rejects: Vec<RejectedLine>,
}

pub(crate) fn read_rows(
    path: &Path,
    options: &RecordingOptions,
) -> Result<RecordedRows, RecordingError> {
    let table = WazihubTable::read_table(path)?;
    let sensor = |field: usize, device: &str, metric: &str| {
        let zone = ZoneId::new(options.site.as_str(), format!("field-{}", field + 1));
        Arc::new(SensorKey { zone, device: device.into(), metric: metric.into() })
    };
    let mut all = Vec::new();
    for field in 0..FIELDS {
        let Some(soil) = table.find_column(&format!("Soil humidity {}", field + 1)) else {
            continue;
        };
        let measured: Vec<usize> = if options.knots {
            interpolation::recover_measured(soil).0
        } else {
            (0..soil.len()).filter(|row| soil[*row].is_some()).collect()
        };
        let probe = sensor(field, "probe", "soil_moisture");
        for row in &measured {
            all.extend(soil[*row].map(|value| table.build_row(&probe, *row, *row, value)));
        }
        let valve = sensor(field, "valve", "irrigation");
        if let Some(flags) = table.find_column(&format!("Irrigation field {}", field + 1)) {
            for (row, flag) in flags.iter().enumerate() {
                let Some(flag) = flag else { continue };
                let known = if options.knots {
                    let next = measured.partition_point(|knot| *knot <= row);
                    measured.get(next).copied().unwrap_or(row)
                } else {
                    row
                };
                all.push(table.build_row(&valve, row, known, *flag));
            }
        }
        let step = if options.knots { 2 } else { 1 };
        for (name, metric, factor) in WEATHER {
            let Some(column) = table.find_column(name) else { continue };
            let station = sensor(field, "weather", metric);
            for row in (0..column.len()).step_by(step) {
                all.extend(
                    column[row].map(|value| table.build_row(&station, row, row, value * factor)),
                );
            }
        }
    }
    all.sort_by_key(|row| (row.arrival_ms, row.event_ms));
    Ok(Box::new(table.rejects.into_iter().map(Err).chain(all.into_iter().map(Ok))))
}

impl WazihubTable {
    fn read_table(path: &Path) -> Result<Self, RecordingError> {
        let nothing = |error: csv::Error| RecordingError::Nothing {
            path: path.to_owned(),
            what: error.to_string(),
            hint: HINT,
        };
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .from_path(path)
            .map_err(nothing)?;
        let names = reader.headers().map_err(nothing)?.clone();
        let shared: Arc<Path> = path.into();
        let cells = vec![Vec::new(); names.len()];
        let mut table =
            Self { names, at_ms: Vec::new(), line: Vec::new(), cells, rejects: Vec::new() };
        if table.names.get(0) != Some("timestamp") || table.find_column("Soil humidity 1").is_none()
        {
            let found = table.names.iter().take(20).collect::<Vec<_>>().join(", ");
            return Err(RecordingError::Header {
                path: path.to_owned(),
                line: 1,
                column: 1,
                found: format!("the columns {found}"),
                expected: "`timestamp` first, and `Soil humidity 1`".to_owned(),
                hint: HINT,
            });
        }
        let times = TimeParser::new(TimeUsage::Recorded);
        for result in reader.records() {
            let record = result.map_err(nothing)?;
            let line = record.position().map_or(0, csv::Position::line);
            let text = record.get(0).unwrap_or_default();
            let Ok(ParsedTime::Instant(at_ms)) = times.parse_text(text, None) else {
                let reject = RejectedLine::new(&shared, line, 1, text.as_bytes(), time::EXPECTED);
                table.rejects.push(reject);
                continue;
            };
            table.at_ms.push(at_ms);
            table.line.push(u32::try_from(line).unwrap_or(u32::MAX));
            for (column, cells) in table.cells.iter_mut().enumerate() {
                let field = record.get(column).unwrap_or_default().as_bytes();
                let value = number::parse_decimal(field);
                if value.is_none() && column > 0 && !field.is_empty() {
                    table.rejects.push(RejectedLine::new(&shared, line, 1, field, "a number"));
                }
                cells.push(value);
            }
        }
        Ok(table)
    }

    fn find_column(&self, name: &str) -> Option<&[Option<f64>]> {
        let at = self.names.iter().position(|column| column == name)?;
        Some(&self.cells[at])
    }

    fn build_row(
        &self,
        sensor: &Arc<SensorKey>,
        row: usize,
        known: usize,
        value: f64,
    ) -> RecordedRow {
        RecordedRow {
            sensor: sensor.clone(),
            event_ms: self.at_ms[row],
            arrival_ms: self.at_ms[known],
            value,
            line: self.line[row],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RecordingLayout, row::tests::split};

    #[test]
    fn only_what_was_known_is_replayed() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut text =
            "timestamp,Soil humidity 1,Irrigation field 1,Air temperature (C)\n".to_owned();
        for row in 0..=76_u32 {
            // 40 % at row 0, 38 % at row 38, 57 % at row 76, watered since row 38.
            let soil = if row <= 38 {
                40.0 - 2.0 * f64::from(row) / 38.0
            } else {
                38.0 + 0.5 * f64::from(row - 38)
            };
            let (hour, minute) = (row / 12, row % 12 * 5);
            text += &format!(
                "2019-02-23 {hour:02}:{minute:02}:00,{soil:.2},{},25.5\n",
                u8::from(row >= 38)
            );
        }
        std::fs::write(dir.path().join("Train.csv"), text).unwrap();
        let read = |knots| {
            let options = RecordingOptions { knots, ..RecordingOptions::default() };
            let sources =
                crate::open_recording(dir.path(), RecordingLayout::Wazihub, &options).unwrap();
            split(sources[0].read_rows().unwrap()).0
        };
        let of = |rows: &[RecordedRow], metric: &str| -> Vec<(i64, i64, f64)> {
            let rows = rows.iter().filter(|row| row.sensor.metric == metric);
            let minutes = |ms: i64| (ms - 1_550_880_000_000) / 60_000;
            rows.map(|r| (minutes(r.event_ms), minutes(r.arrival_ms), r.value)).collect()
        };
        let known = read(true);
        let soil = of(&known, "soil_moisture");
        assert_eq!(soil, [(0, 0, 40.0), (190, 190, 38.0), (380, 380, 57.0)]);
        let first_on = of(&known, "irrigation").into_iter().find(|flag| flag.2 == 1.0);
        assert_eq!(first_on, Some((190, 380, 1.0)), "the flag comes with the rise");
        assert_eq!(of(&known, "temperature").len(), 39);
        assert_eq!(of(&read(false), "soil_moisture").len(), 77);
    }
}
