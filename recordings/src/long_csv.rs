//! CSV with a header that names time, zone and either metric and value, or a
//! column for each metric.

use std::{collections::HashMap, path::Path, sync::Arc};

use telemetry::{SmolStr, ZoneId, topic::check_level};

use crate::{RecordingError, Reject, Row, Rows, Sensor, layout::Options, number, time};

pub(crate) const HINT: &str = "`--layout csv` wants a header `time,zone,device,metric,value`, or \
                               `time,zone,device` and a column for each metric; `site` and \
                               `arrival` may be there too";
/// The device where none is named.
const DEVICE: &str = "csv";
/// Sensors that one file may name.
const SENSORS_MAX: usize = 100_000;

/// Which column is what.
#[derive(Clone, Debug)]
struct Header {
    time: usize,
    arrival: Option<usize>,
    site: Option<usize>,
    zone: usize,
    device: Option<usize>,
    values: Values,
}

#[derive(Clone, Debug)]
enum Values {
    Long { metric: usize, value: usize },
    Wide(Vec<(usize, SmolStr)>),
}

pub(crate) fn rows(path: &Path, options: &Options) -> Result<Rows, RecordingError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|error| unreadable(path, &error))?;
    let names = reader.headers().map_err(|error| unreadable(path, &error))?.clone();
    let header = Header::of(&names, path)?;
    let mut sensors = Sensors { site: options.site.as_str().into(), known: HashMap::new() };
    let path: Arc<Path> = path.into();
    Ok(Box::new(
        reader.into_records().flat_map(move |record| rows_of(record, &path, &header, &mut sensors)),
    ))
}

fn unreadable(path: &Path, error: &csv::Error) -> RecordingError {
    let what = error.to_string();
    RecordingError::Nothing { path: path.to_owned(), what, hint: HINT }
}

impl Header {
    fn of(names: &csv::StringRecord, path: &Path) -> Result<Self, RecordingError> {
        let at = |wanted: &[&str]| {
            names.iter().position(|name| wanted.iter().any(|own| name.eq_ignore_ascii_case(own)))
        };
        let needed = |wanted: &[&str]| {
            at(wanted).ok_or_else(|| RecordingError::Header {
                path: path.to_owned(),
                line: 1,
                column: 1,
                found: format!(
                    "the columns {}",
                    names.iter().take(20).collect::<Vec<_>>().join(", ")
                ),
                expected: format!("one named `{}`", wanted[0]),
                hint: HINT,
            })
        };
        let (time, zone) = (needed(&["time", "timestamp", "ts"])?, needed(&["zone", "room"])?);
        let (arrival, site, device) = (at(&["arrival"]), at(&["site"]), at(&["device"]));
        let values = match (at(&["metric"]), at(&["value"])) {
            (Some(metric), Some(value)) => Values::Long { metric, value },
            _ => {
                let taken = [Some(time), Some(zone), arrival, site, device];
                let metrics: Vec<(usize, SmolStr)> = names
                    .iter()
                    .enumerate()
                    .filter(|(i, name)| !taken.contains(&Some(*i)) && check_level(name).is_ok())
                    .map(|(i, name)| (i, name.into()))
                    .collect();
                if metrics.is_empty() {
                    needed(&["metric"])?;
                }
                Values::Wide(metrics)
            }
        };
        Ok(Self { time, arrival, site, zone, device, values })
    }
}

/// Names → sensor, each made and checked once.
struct Sensors {
    site: SmolStr,
    known: HashMap<[SmolStr; 4], Arc<Sensor>>,
}

impl Sensors {
    fn get(&mut self, site: &str, zone: &str, device: &str, metric: &str) -> Option<Arc<Sensor>> {
        let key = [site, zone, device, metric].map(SmolStr::from);
        if let Some(known) = self.known.get(&key) {
            return Some(known.clone());
        }
        // `zone` may hold both levels.
        let id = match zone.split_once('/') {
            Some((site, zone)) => ZoneId::new(site, zone),
            None if site.is_empty() => ZoneId::new(self.site.clone(), zone),
            None => ZoneId::new(site, zone),
        };
        let device = if device.is_empty() { DEVICE } else { device };
        let levels = [id.site.as_str(), id.zone.as_str(), device, metric];
        if self.known.len() == SENSORS_MAX || levels.iter().any(|l| check_level(l).is_err()) {
            return None;
        }
        let sensor = Arc::new(Sensor { zone: id, device: device.into(), metric: metric.into() });
        self.known.insert(key, sensor.clone());
        Some(sensor)
    }
}

fn rows_of(
    record: csv::Result<csv::StringRecord>,
    path: &Arc<Path>,
    header: &Header,
    sensors: &mut Sensors,
) -> Vec<Result<Row, Reject>> {
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            let line = error.position().map_or(0, csv::Position::line);
            return vec![Err(Reject::new(path, line, 1, error.to_string().as_bytes(), "CSV"))];
        }
    };
    let line = record.position().map_or(0, csv::Position::line);
    let field = |column: usize| record.get(column).unwrap_or_default();
    let maybe = |column: Option<usize>| column.map(field).unwrap_or_default();
    let reject = |column: usize, expected| {
        // The byte that a field starts at, from 1.
        let column_at = (0..column).map(|i| field(i).len() as u64 + 1).sum::<u64>() + 1;
        Err(Reject::new(path, line, column_at, field(column).as_bytes(), expected))
    };
    let Some(event_ms) = time::parse(field(header.time)) else {
        return vec![reject(header.time, time::EXPECTED)];
    };
    let arrival_ms = match maybe(header.arrival) {
        "" => event_ms,
        text => match time::parse(text) {
            Some(ms) => ms,
            None => return vec![reject(header.arrival.unwrap_or_default(), time::EXPECTED)],
        },
    };
    let (site, zone, device) = (maybe(header.site), field(header.zone), maybe(header.device));
    let mut row = |metric: &str, column: usize| {
        let Some(sensor) = sensors.get(site, zone, device, metric) else {
            return reject(header.zone, "names of 1 to 64 bytes without `/`, `+`, `#`");
        };
        let Some(value) = number::parse(field(column).as_bytes()) else {
            return reject(column, "a number");
        };
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        Ok(Row { sensor, event_ms, arrival_ms, value, line })
    };
    match &header.values {
        Values::Long { metric, value } => vec![row(field(*metric), *value)],
        // A sensor that said nothing then has an empty field.
        Values::Wide(metrics) => metrics
            .iter()
            .filter(|(column, _)| !field(*column).is_empty())
            .map(|(column, metric)| row(metric, *column))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layout, row::tests::split};

    fn check(text: &str, expect: Result<(&[&str], &[&str]), &str>) {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::write(dir.path().join("a.csv"), text).unwrap();
        let opened = crate::open(dir.path(), Layout::Csv, &Options::default());
        let (rows, rejects) = match (opened, &expect) {
            (Ok(sources), Ok(_)) => split(sources[0].rows().unwrap()),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{error}");
                return;
            }
            (opened, _) => panic!("{opened:?} is not {expect:?}"),
        };
        let rows: Vec<String> = rows
            .iter()
            .map(|row| {
                let Sensor { zone, device, metric } = &*row.sensor;
                let late_ms = row.arrival_ms - row.event_ms;
                format!("{zone} {device} {metric} {} +{late_ms} {}", row.event_ms, row.value)
            })
            .collect();
        let rejects: Vec<String> = rejects
            .iter()
            .map(|reject| format!("{}:{} {}", reject.place.line, reject.place.column, reject.found))
            .collect();
        let (want_rows, want_rejects) = expect.unwrap();
        assert_eq!((rows, rejects), (owned(want_rows), owned(want_rejects)), "{text}");
    }

    fn owned(all: &[&str]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn long_and_wide_and_what_is_neither() {
        check(
            "time,site,zone,device,metric,value\n1580472000,farm,bay-1,probe,co2,400\n\
             soon,farm,bay-1,probe,co2,400\n1580472000,farm,bay-1,probe,co2,much\n",
            Ok((&["farm/bay-1 probe co2 1580472000000 +0 400"], &["3:1 soon", "4:33 much"])),
        );
        check(
            "Timestamp, zone, temperature, humidity, arrival\n\
             2020-01-31T12:00:00Z,farm/bay-1,20.5,,2020-01-31T12:00:02Z\n\
             2020-01-31T12:05:00Z,bay-2,21,50,\n2020-01-31T12:05:00Z,,21,50,\n",
            Ok((
                &[
                    "farm/bay-1 csv temperature 1580472000000 +2000 20.5",
                    "site/bay-2 csv temperature 1580472300000 +0 21",
                    "site/bay-2 csv humidity 1580472300000 +0 50",
                ],
                &["4:22 ", "4:22 "],
            )),
        );
        check(
            "zone,metric,value\n",
            Err(
                "a.csv:1:1: found the columns zone, metric, value, expected one named `time`\nhint:",
            ),
        );
        check("time,zone\n", Err("expected one named `metric`"));
    }
}
