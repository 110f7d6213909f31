//! Recordings of the building as series with a value per minute.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use telemetry::MetricTable;

/// Age, s, from which a value no longer counts as the measurement of its minute.
const AGE_S_MAX: i64 = 120;
/// Names of files and names of metrics.
pub(crate) const METRICS: [(&str, &str); 5] = [
    ("co2", "co2"),
    ("humidity", "humidity"),
    ("light", "light"),
    ("pir", "motion"),
    ("temperature", "temperature"),
];

/// Series of one metric in one room.
pub(crate) struct BuildingSeries {
    pub(crate) room: String,
    pub(crate) metric: &'static str,
    /// Latest plausible reading of each minute, NaN where none is fresh.
    pub(crate) plausible: Vec<f64>,
    /// For each minute, the reading that is furthest from the median of its readings.
    pub(crate) raw: Vec<f64>,
    /// Number of readings that are not plausible.
    pub(crate) implausible: usize,
}

impl BuildingSeries {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.room, self.metric)
    }
}

/// All series, and the minute since 1970 at which they begin.
pub(crate) struct BuildingRecording {
    pub(crate) series: Vec<BuildingSeries>,
    pub(crate) first_min: i64,
}

impl BuildingRecording {
    pub(crate) fn read_folder(folder: &Path) -> io::Result<Self> {
        let metrics = MetricTable::default();
        let mut rooms: Vec<PathBuf> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        rooms.retain(|path| path.is_dir());
        rooms.sort();
        let mut readings = Vec::new();
        for room in &rooms {
            for (file, metric) in METRICS {
                let text = fs::read_to_string(room.join(file).with_extension("csv"))?;
                let parse_line = |line: &str| -> Option<(i64, f64)> {
                    let (at, value) = line.split_once(',')?;
                    Some((at.trim().parse().ok()?, value.trim().parse().ok()?))
                };
                let all: Vec<(i64, f64)> = text.lines().filter_map(parse_line).collect();
                let room = room.file_name().unwrap_or_default().to_string_lossy().into_owned();
                readings.push((room, metric, all));
            }
        }
        let times = || readings.iter().flat_map(|(_, _, all)| [all.first(), all.last()]).flatten();
        let first_min = times().map(|(at, _)| at.div_euclid(60)).min().unwrap_or_default();
        let last_min = times().map(|(at, _)| at.div_euclid(60)).max().unwrap_or_default() + 1;
        let series = readings
            .into_iter()
            .map(|(room, metric, all)| {
                let known = metrics.get(metric).expect("a metric that is built in");
                let minutes = || first_min..last_min + 1;
                let raw = furthest_per_minute(&all, minutes());
                let readings = all.len();
                let plausible: Vec<(i64, f64)> =
                    all.into_iter().filter(|(_, value)| known.is_plausible(*value)).collect();
                let implausible = readings - plausible.len();
                BuildingSeries {
                    room,
                    metric,
                    plausible: newest_per_minute(&plausible, minutes()),
                    raw,
                    implausible,
                }
            })
            .collect();
        Ok(Self { series, first_min })
    }

    /// Number of the minute at which a day of August 2013 begins, UTC; 32 is the first of
    /// September.
    pub(crate) fn first_minute_of_day(&self, day: i64) -> usize {
        // 2013-08-01 is day 15,918 since 1970, counted from 1.
        (((15_917 + day) * 1440) - self.first_min).max(0) as usize
    }

    /// Formats a minute, as in `29 Aug 14:05`.
    pub(crate) fn format_minute(&self, minute: usize) -> String {
        let all = self.first_min + minute as i64;
        let (day, rest) = (all.div_euclid(1440) - 15_917, all.rem_euclid(1440));
        let (day, month) = if day > 31 { (day - 31, "Sep") } else { (day, "Aug") };
        format!("{day} {month} {:02}:{:02}", rest / 60, rest % 60)
    }
}

fn newest_per_minute(readings: &[(i64, f64)], minutes: Range<i64>) -> Vec<f64> {
    let mut next = 0;
    minutes
        .map(|minute| {
            let at = minute * 60;
            while readings.get(next).is_some_and(|(time, _)| *time <= at) {
                next += 1;
            }
            match next.checked_sub(1).map(|last| readings[last]) {
                Some((time, value)) if at - time <= AGE_S_MAX => value,
                _ => f64::NAN,
            }
        })
        .collect()
}

fn furthest_per_minute(readings: &[(i64, f64)], minutes: Range<i64>) -> Vec<f64> {
    let furthest = |minute: i64| {
        let at = minute * 60;
        let from = readings.partition_point(|(time, _)| *time <= at - 60);
        let to = readings.partition_point(|(time, _)| *time <= at);
        let mut values: Vec<f64> = readings[from..to].iter().map(|(_, value)| *value).collect();
        values.sort_unstable_by(f64::total_cmp);
        let (Some(first), Some(last)) = (values.first(), values.last()) else { return f64::NAN };
        let middle = values[values.len() / 2];
        if middle - first > last - middle { *first } else { *last }
    };
    minutes.map(furthest).collect()
}
