use jiff::{Span, Timestamp, ToSpan, Zoned, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// Period of time, [start, end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimePeriod {
    /// First moment of the period, ms since 1970.
    pub start_ms: i64,
    /// First moment after the period, ms since 1970.
    pub end_ms: i64,
}

impl TimePeriod {
    /// Local day that contains a time, ms since 1970: midnight to midnight, 23 or 25 hours where
    /// the clock changes. `None` outside the calendar's range.
    ///
    /// ```
    /// use microclimate_agronomy::kpi::TimePeriod;
    /// use jiff::tz::TimeZone;
    ///
    /// let berlin = TimeZone::get("Europe/Berlin").unwrap();
    /// let noon_ms = 1_743_328_800_000; // 30 March 2025, 12 h in summer time
    /// assert_eq!(TimePeriod::local_day(noon_ms, &berlin).unwrap().length_hours(), 23.0);
    /// ```
    #[must_use]
    pub fn local_day(at_ms: i64, time_zone: &TimeZone) -> Option<Self> {
        let start = to_local(at_ms, time_zone)?.start_of_day().ok()?;
        let end = start.checked_add(1.day()).ok()?.start_of_day().ok()?;
        Some(Self::from_bounds(&start, &end))
    }

    /// Hour of the local clock that contains a time, ms since 1970. Where the clock changes by less
    /// than an hour, the hour ends or begins at the change.
    #[must_use]
    pub fn local_hour(at_ms: i64, time_zone: &TimeZone) -> Option<Self> {
        const HOUR_MS: i64 = 3_600_000;
        let at = to_local(at_ms, time_zone)?;
        let offset_ms = i64::from(at.offset().seconds()) * 1000;
        let start_ms = (at_ms + offset_ms).div_euclid(HOUR_MS) * HOUR_MS - offset_ms;
        let change_ms = |change: Option<jiff::tz::TimeZoneTransition<'_>>| {
            change.map(|change| change.timestamp().as_millisecond())
        };
        let after = at.timestamp().checked_add(Span::new().milliseconds(1)).ok()?;
        let before_ms = change_ms(time_zone.preceding(after).next());
        let next_ms = change_ms(time_zone.following(at.timestamp()).next());
        Some(Self {
            start_ms: before_ms.map_or(start_ms, |ms| ms.max(start_ms)),
            end_ms: next_ms.map_or(start_ms + HOUR_MS, |ms| ms.min(start_ms + HOUR_MS)),
        })
    }

    /// Length of the period, ms.
    #[must_use]
    pub const fn length_ms(&self) -> i64 {
        self.end_ms - self.start_ms
    }

    /// Length of the period, hours.
    #[must_use]
    pub fn length_hours(&self) -> f64 {
        self.length_ms() as f64 / 3.6e6
    }

    /// Whether the period contains a time, ms since 1970.
    #[must_use]
    pub fn contains(&self, at_ms: i64) -> bool {
        (self.start_ms..self.end_ms).contains(&at_ms)
    }

    fn from_bounds(start: &Zoned, end: &Zoned) -> Self {
        Self {
            start_ms: start.timestamp().as_millisecond(),
            end_ms: end.timestamp().as_millisecond(),
        }
    }
}

fn to_local(at_ms: i64, time_zone: &TimeZone) -> Option<Zoned> {
    Some(Timestamp::from_millisecond(at_ms).ok()?.to_zoned(time_zone.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(time: &str) -> i64 {
        time.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn check(
        period: fn(i64, &TimeZone) -> Option<TimePeriod>,
        zone: &str,
        at: &str,
        [start, end]: [&str; 2],
    ) {
        let found = period(ms(at), &TimeZone::get(zone).unwrap()).unwrap();
        let expect = TimePeriod { start_ms: ms(start), end_ms: ms(end) };
        assert_eq!(found, expect, "{zone} {at}");
        assert!(found.contains(ms(at)) && found.contains(found.start_ms));
        assert!(!found.contains(found.end_ms));
    }

    #[test]
    fn days_run_from_midnight_to_midnight() {
        let day = TimePeriod::local_day;
        check(day, "UTC", "2025-01-01T23:59:59.999Z", ["2025-01-01T00:00Z", "2025-01-02T00:00Z"]);
        check(day, "UTC", "2025-01-02T00:00:00Z", ["2025-01-02T00:00Z", "2025-01-03T00:00Z"]);
        check(
            day,
            "America/Los_Angeles",
            "2013-08-23T05:00:00Z",
            ["2013-08-22T07:00Z", "2013-08-23T07:00Z"],
        );
        check(
            day,
            "Europe/Berlin",
            "2025-03-30T10:00:00Z",
            ["2025-03-29T23:00Z", "2025-03-30T22:00Z"],
        );
        check(
            day,
            "Europe/Berlin",
            "2025-10-26T10:00:00Z",
            ["2025-10-25T22:00Z", "2025-10-26T23:00Z"],
        );
        check(
            day,
            "Asia/Beirut",
            "2025-03-30T10:00:00Z",
            ["2025-03-29T22:00Z", "2025-03-30T21:00Z"],
        );
    }

    #[test]
    fn hours_are_those_of_the_wall_clock() {
        let hour = TimePeriod::local_hour;
        check(hour, "UTC", "2025-01-01T10:59:59.999Z", ["2025-01-01T10:00Z", "2025-01-01T11:00Z"]);
        check(
            hour,
            "Asia/Kolkata",
            "2025-01-01T10:15:00Z",
            ["2025-01-01T09:30Z", "2025-01-01T10:30Z"],
        );
        // The hour that comes twice is two hours.
        check(
            hour,
            "Europe/Berlin",
            "2025-10-26T00:30:00Z",
            ["2025-10-26T00:00Z", "2025-10-26T01:00Z"],
        );
        check(
            hour,
            "Europe/Berlin",
            "2025-10-26T01:30:00Z",
            ["2025-10-26T01:00Z", "2025-10-26T02:00Z"],
        );
        // Lord Howe Island moves its clock by half an hour, from 2:00 to 2:30
        check(
            hour,
            "Australia/Lord_Howe",
            "2025-10-04T15:45:00Z",
            ["2025-10-04T15:30Z", "2025-10-04T16:00Z"],
        );
        check(
            hour,
            "Australia/Lord_Howe",
            "2025-10-04T15:15:00Z",
            ["2025-10-04T14:30Z", "2025-10-04T15:30Z"],
        );
    }

    /// The hours of a day cover it without a gap, whatever the clock does.
    #[test]
    fn hours_tile_days() {
        for (zone, at, hours) in [
            ("Europe/Berlin", "2025-03-30T10:00:00Z", 23),
            ("Europe/Berlin", "2025-10-26T10:00:00Z", 25),
            ("Asia/Kolkata", "2025-01-01T10:00:00Z", 24),
            ("Australia/Lord_Howe", "2025-10-05T10:00:00Z", 24),
            ("Australia/Lord_Howe", "2025-04-06T10:00:00Z", 25),
        ] {
            let time_zone = TimeZone::get(zone).unwrap();
            let day = TimePeriod::local_day(ms(at), &time_zone).unwrap();
            let (mut now_ms, mut count) = (day.start_ms, 0);
            while now_ms < day.end_ms {
                let hour = TimePeriod::local_hour(now_ms, &time_zone).unwrap();
                assert_eq!(hour.start_ms, now_ms, "{zone}");
                (now_ms, count) = (hour.end_ms, count + 1);
            }
            assert_eq!((now_ms, count), (day.end_ms, hours), "{zone} {at}");
        }
    }
}
