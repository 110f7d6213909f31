use std::collections::BTreeMap;

use agronomy::kpi::{KpiRules, Observation, TimePeriod, ZoneTally};
use jiff::tz::TimeZone;
use telemetry::{QualityFlag, SmolStr};

use super::expected_metrics::add_silent_metrics;

/// Hours of a zone by their start, UTC ms.
pub(crate) type HourTallies = BTreeMap<i64, (TimePeriod, ZoneTally)>;

/// Counts the readings of one metric, in the order of event time, into hours. Skips duplicates.
pub(crate) fn count_into_hours(
    hours: &mut HourTallies,
    metric: &str,
    readings: impl Iterator<Item = Observation>,
    rules: &KpiRules,
    time_zone: &TimeZone,
) {
    let mut unique_readings =
        readings.filter(|reading| reading.quality != QualityFlag::Duplicate).peekable();
    while let Some(first) = unique_readings.peek() {
        let Some(period) = TimePeriod::local_hour(first.event_ms, time_zone) else {
            // Beyond the calendar, so no hour contains it.
            unique_readings.next();
            continue;
        };
        let (_, tally) =
            hours.entry(period.start_ms).or_insert_with(|| (period, ZoneTally::default()));
        let of_hour = std::iter::from_fn(|| {
            unique_readings.next_if(|reading| period.contains(reading.event_ms))
        });
        tally.add_readings(metric, of_hour, rules);
    }
}

/// Merges these hours into days.
pub(super) fn merge_into_days(
    hours: &HourTallies,
    rules: &KpiRules,
    time_zone: &TimeZone,
) -> HourTallies {
    let mut days = HourTallies::new();
    for (hour, tally) in hours.values() {
        let Some(day) = TimePeriod::local_day(hour.start_ms, time_zone) else { continue };
        let (_, merged) = days.entry(day.start_ms).or_insert_with(|| (day, ZoneTally::default()));
        merged.merge_later(tally, rules);
    }
    days
}

/// Times, values and qualities of one metric from one device or several, each in the order of
/// event time.
pub(crate) type ReadingSlices<'a> = (&'a [i64], &'a [f64], &'a [QualityFlag]);

/// Tallies the hours of a whole history, given by metric, including hours in which an expected
/// metric or the whole zone is silent.
pub(crate) fn tally_history(
    metrics: &BTreeMap<SmolStr, Vec<ReadingSlices<'_>>>,
    rules: &KpiRules,
    time_zone: &TimeZone,
) -> HourTallies {
    let mut hours = HourTallies::new();
    for (metric, devices) in metrics {
        if let [(event_ms, values, qualities)] = devices[..]
            && event_ms.is_sorted()
        {
            let columns = event_ms.iter().zip(values).zip(qualities);
            let readings = columns.map(|((event_ms, value), quality)| Observation {
                event_ms: *event_ms,
                value: *value,
                quality: *quality,
            });
            count_into_hours(&mut hours, metric, readings, rules, time_zone);
            continue;
        }
        let mut all: Vec<Observation> = Vec::new();
        for (event_ms, values, qualities) in devices {
            let readings = event_ms.iter().zip(*values).zip(*qualities);
            all.extend(readings.map(|((event_ms, value), quality)| Observation {
                event_ms: *event_ms,
                value: *value,
                quality: *quality,
            }));
        }
        all.sort_by(|a, b| a.event_ms.cmp(&b.event_ms).then(a.value.total_cmp(&b.value)));
        count_into_hours(&mut hours, metric, all.into_iter(), rules, time_zone);
    }
    add_silent_metrics(&mut hours, rules, time_zone);
    hours
}
