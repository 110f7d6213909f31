use std::collections::BTreeMap;

use agronomy::kpi::{Observation, Period, Rules, ZoneTally};
use jiff::tz::TimeZone;
use telemetry::{Quality, SmolStr};

use super::silence::add_silent_metrics;

/// The hours of a zone, by their start, ms.
pub(crate) type Hours = BTreeMap<i64, (Period, ZoneTally)>;

/// Counts the readings of one metric, in the order of event time, into hours.
/// Copies of a reading are no readings.
pub(crate) fn count(
    hours: &mut Hours,
    metric: &str,
    readings: impl Iterator<Item = Observation>,
    rules: &Rules,
    time_zone: &TimeZone,
) {
    let mut readings = readings.filter(|own| own.quality != Quality::Duplicate).peekable();
    while let Some(first) = readings.peek() {
        let Some(period) = Period::local_hour(first.event_ms, time_zone) else {
            // Beyond the calendar: no hour has it.
            readings.next();
            continue;
        };
        let (_, tally) =
            hours.entry(period.start_ms).or_insert_with(|| (period, ZoneTally::default()));
        let of_hour = std::iter::from_fn(|| readings.next_if(|own| period.contains(own.event_ms)));
        tally.add_all(metric, of_hour, rules);
    }
}

/// The days of these hours, as far as they are there.
pub(super) fn days(hours: &Hours, rules: &Rules, time_zone: &TimeZone) -> Hours {
    let mut days = Hours::new();
    for (hour, tally) in hours.values() {
        let Some(day) = Period::local_day(hour.start_ms, time_zone) else { continue };
        let (_, merged) = days.entry(day.start_ms).or_insert_with(|| (day, ZoneTally::default()));
        merged.merge(tally, rules);
    }
    days
}

/// One metric's readings from one device or several: times, values, qualities,
/// each in the order of event time.
pub(crate) type Readings<'a> = (&'a [i64], &'a [f64], &'a [Quality]);

/// The hours of a whole history, given by metric; with those in which an expected metric, or
/// the whole zone, is silent.
pub(crate) fn of_history(
    metrics: &BTreeMap<SmolStr, Vec<Readings<'_>>>,
    rules: &Rules,
    time_zone: &TimeZone,
) -> Hours {
    let mut hours = Hours::new();
    for (metric, devices) in metrics {
        if let [(event_ms, values, qualities)] = devices[..]
            && event_ms.is_sorted()
        {
            let readings = event_ms.iter().zip(values).zip(qualities);
            let readings = readings.map(|((event_ms, value), quality)| Observation {
                event_ms: *event_ms,
                value: *value,
                quality: *quality,
            });
            count(&mut hours, metric, readings, rules, time_zone);
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
        count(&mut hours, metric, all.into_iter(), rules, time_zone);
    }
    add_silent_metrics(&mut hours, rules, time_zone);
    hours
}
