//! Slab sensors of the Autonomous Greenhouse Challenge 2: one folder per team with
//! `GrodanSens.csv`, a row every 5 minutes, `NA` where a sensor gave no value. Clock times are
//! interpreted as UTC. The daily `Resources.csv` holds no sensor readings and is not read.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use telemetry::{ParsedTime, TimeFormat, TimeParser, TimeUsage, ZoneId};

use crate::{
    RecordedRow, RecordedRows, RecordingError, RejectedLine, SensorKey, layout::RecordingOptions,
    number,
};

pub(crate) const HINT: &str = "`--layout agc2` needs a folder with `<team>/GrodanSens.csv`";
const FILE: &str = "GrodanSens.csv";
const DATE: &str = "Date";
/// Column, device, metric.
const COLUMNS: [(&str, &str, &str); 6] = [
    ("EC_slab1", "slab-1", "soil_ec"),
    ("EC_slab2", "slab-2", "soil_ec"),
    ("WC_slab1", "slab-1", "soil_moisture"),
    ("WC_slab2", "slab-2", "soil_moisture"),
    ("t_slab1", "slab-1", "soil_temperature"),
    ("t_slab2", "slab-2", "soil_temperature"),
];
const NOTHING: [&[u8]; 3] = [b"", b"NA", b"NaN"];

pub(crate) fn find_files(path: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(RecordingError::with_path(path))? {
        let file = entry.map_err(RecordingError::with_path(path))?.path().join(FILE);
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

pub(crate) fn read_rows(
    path: &Path,
    options: &RecordingOptions,
) -> Result<RecordedRows, RecordingError> {
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
    let team = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let zone = ZoneId::new(options.site.as_str(), &*team);
    let mut mapped = Vec::new();
    for (column, device, metric) in COLUMNS {
        if let Some(at) = names.iter().position(|name| name == column) {
            let sensor =
                SensorKey { zone: zone.clone(), device: device.into(), metric: metric.into() };
            mapped.push((at, Arc::new(sensor)));
        }
    }
    let date_position = names.iter().position(|name| name == DATE).filter(|_| !mapped.is_empty());
    let date = date_position.ok_or_else(|| RecordingError::Header {
        path: path.to_owned(),
        line: 1,
        column: 1,
        found: format!("the columns {}", names.iter().take(20).collect::<Vec<_>>().join(", ")),
        expected: "`Date`, and `WC_slab1` or a similar column".to_owned(),
        hint: HINT,
    })?;
    let shared_path: Arc<Path> = path.into();
    let times = TimeParser::new(TimeUsage::Recorded).with_format(TimeFormat::DayFirst);
    Ok(Box::new(reader.into_byte_records().flat_map(move |record| {
        let Ok(record) = record else { return Vec::new() };
        let line = record.position().map_or(0, csv::Position::line);
        let text = record.get(date).unwrap_or_default();
        let parsed = std::str::from_utf8(text).ok().map(|text| times.parse_text(text, None));
        let Some(Ok(ParsedTime::Instant(event_ms))) = parsed else {
            return vec![Err(RejectedLine::new(
                &shared_path,
                line,
                1,
                text,
                "a time, as in 31/12/2019 00:05",
            ))];
        };
        let fields =
            mapped.iter().map(|(at, sensor)| (record.get(*at).unwrap_or_default(), sensor));
        fields
            .filter(|(field, _)| !NOTHING.contains(field))
            .map(|(field, sensor)| match number::parse_decimal(field) {
                Some(value) => Ok(RecordedRow {
                    sensor: sensor.clone(),
                    event_ms,
                    arrival_ms: event_ms,
                    value,
                    line: u32::try_from(line).unwrap_or(u32::MAX),
                }),
                None => Err(RejectedLine::new(&shared_path, line, 1, field, "a number or NA")),
            })
            .collect()
    })))
}

#[cfg(test)]
mod tests {
    use crate::{RecordingLayout, RecordingOptions, row::tests::split};

    #[test]
    fn slabs_are_devices_and_na_is_nothing() {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(dir.path().join("Digilog")).unwrap();
        let text = "%time,Date,EC_slab1,WC_slab2,t_slab1\n43815,16/12/2019 00:05,NA,61.5,20\n43815,soon,1,2,3\n";
        std::fs::write(dir.path().join("Digilog/GrodanSens.csv"), text).unwrap();
        let sources =
            crate::open_recording(dir.path(), RecordingLayout::Agc2, &RecordingOptions::default())
                .unwrap();
        let (rows, rejects) = split(sources[0].read_rows().unwrap());
        let found: Vec<_> = rows
            .iter()
            .map(|r| (r.sensor.device.as_str(), r.sensor.metric.as_str(), r.event_ms, r.value))
            .collect();
        let at_ms = 1_576_454_700_000;
        let expect =
            [("slab-2", "soil_moisture", at_ms, 61.5), ("slab-1", "soil_temperature", at_ms, 20.0)];
        assert_eq!(found, expect);
        assert_eq!((rows[0].sensor.zone.zone.as_str(), rejects.len()), ("Digilog", 1));
    }
}
