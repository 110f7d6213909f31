//! Schedules in which nobody is notified.

use jiff::{Timestamp, civil::Weekday, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// Names of weekdays, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES_OF_DAY: u16 = 24 * 60;

/// A schedule as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMuteSchedule {
    /// `mon` to `sun`; every day without it. A night belongs to the day on which it begins.
    #[serde(default)]
    days: Vec<String>,
    /// Local time at which it begins, as `22:00`.
    from: String,
    /// Local time at which it ends; earlier than `from`, it is that of the next day.
    to: String,
    /// IANA time zone; UTC without it.
    #[serde(default)]
    time_zone: String,
}

/// A checked schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct MuteSchedule {
    /// Whether it begins on each day, Monday first.
    days: [bool; 7],
    from_minute: u16,
    to_minute: u16,
    time_zone: TimeZone,
}

impl RawMuteSchedule {
    /// Checks the schedule.
    ///
    /// # Errors
    /// States what is wrong.
    pub fn check(&self) -> Result<MuteSchedule, String> {
        let mut days = [self.days.is_empty(); 7];
        for day in &self.days {
            let number = DAYS.iter().position(|known| known == day).ok_or_else(|| {
                format!("there is no day `{day}`, expected some of {}", DAYS.join(", "))
            })?;
            days[number] = true;
        }
        let (from_minute, to_minute) = (parse_minute(&self.from)?, parse_minute(&self.to)?);
        if from_minute == to_minute {
            return Err(format!(
                "{} to {} is no time at all; for a whole day write 00:00 to 24:00",
                self.from, self.to
            ));
        }
        let time_zone = match self.time_zone.as_str() {
            "" | "UTC" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|_| format!("there is no time zone `{name}`"))?,
        };
        Ok(MuteSchedule { days, from_minute, to_minute, time_zone })
    }
}

/// Reads `HH:MM` as minutes since midnight; 24:00 is the end of the day.
fn parse_minute(text: &str) -> Result<u16, String> {
    let wrong = || format!("`{text}` is no time of day, expected HH:MM");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |part: &str| match part.len() {
        2 => part.parse::<u16>().map_err(|_| wrong()),
        _ => Err(wrong()),
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    if minutes < 60 && minute <= MINUTES_OF_DAY { Ok(minute) } else { Err(wrong()) }
}

impl MuteSchedule {
    /// Whether the schedule covers a moment, UTC ms.
    #[must_use]
    pub fn covers(&self, at_ms: i64) -> bool {
        let Ok(at) = Timestamp::from_millisecond(at_ms) else { return false };
        let local = at.to_zoned(self.time_zone.clone());
        let minute = local.hour() as u16 * 60 + local.minute() as u16;
        let today = day_number(local.weekday());
        let yesterday = (today + 6) % 7;
        if self.from_minute < self.to_minute {
            self.days[today] && (self.from_minute..self.to_minute).contains(&minute)
        } else {
            (self.days[today] && minute >= self.from_minute)
                || (self.days[yesterday] && minute < self.to_minute)
        }
    }

    /// Describes the schedule, as in `sat, sun 22:00–06:00 Europe/Berlin`.
    #[must_use]
    pub fn describe(&self) -> String {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let named: Vec<&str> =
            DAYS.iter().zip(self.days).filter(|(_, is_on)| *is_on).map(|(day, _)| *day).collect();
        let days = if named.len() == 7 { String::new() } else { named.join(", ") + " " };
        let zone = self.time_zone.iana_name().unwrap_or("UTC");
        format!("{days}{}–{} {zone}", time(self.from_minute), time(self.to_minute))
    }
}

fn day_number(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(
        days: &[&str],
        from: &str,
        to: &str,
        time_zone: &str,
    ) -> Result<MuteSchedule, String> {
        let days = days.iter().map(|day| (*day).to_owned()).collect();
        RawMuteSchedule { days, from: from.into(), to: to.into(), time_zone: time_zone.into() }
            .check()
    }

    #[track_caller]
    fn check(schedule: &MuteSchedule, at: &str, expect: bool) {
        let at_ms = at.parse::<Timestamp>().unwrap().as_millisecond();
        assert_eq!(schedule.covers(at_ms), expect, "{at}");
    }

    #[test]
    fn a_night_belongs_to_the_day_on_which_it_begins() {
        // 2026-11-28 is a Saturday.
        let nights = schedule(&["sat"], "22:00", "06:00", "").unwrap();
        check(&nights, "2026-11-28T21:59:59Z", false);
        check(&nights, "2026-11-28T22:00:00Z", true);
        check(&nights, "2026-11-29T05:59:59Z", true);
        check(&nights, "2026-11-29T06:00:00Z", false);
        check(&nights, "2026-11-28T05:00:00Z", false);
        check(&nights, "2026-11-29T23:00:00Z", false);
        assert_eq!(nights.describe(), "sat 22:00–06:00 UTC");
    }

    #[test]
    fn hours_are_those_of_the_time_zone() {
        let noon = schedule(&[], "12:00", "13:00", "Europe/Berlin").unwrap();
        check(&noon, "2026-07-01T10:30:00Z", true);
        check(&noon, "2026-12-01T10:30:00Z", false);
        check(&noon, "2026-12-01T11:30:00Z", true);
        let whole_day = schedule(&["sun"], "00:00", "24:00", "").unwrap();
        check(&whole_day, "2026-11-29T23:59:59Z", true);
        check(&whole_day, "2026-11-30T00:00:00Z", false);
    }

    #[test]
    fn mistakes_are_stated() {
        let refuse = |days: &[&str], from: &str, to: &str, zone: &str, expect: &str| {
            let message = schedule(days, from, to, zone).unwrap_err();
            assert!(message.contains(expect), "{message}");
        };
        refuse(&["Saturday"], "22:00", "06:00", "", "there is no day `Saturday`");
        refuse(&[], "22", "06:00", "", "`22` is no time of day");
        refuse(&[], "22:60", "06:00", "", "`22:60` is no time of day");
        refuse(&[], "24:01", "06:00", "", "`24:01` is no time of day");
        refuse(&[], "06:00", "06:00", "", "no time at all");
        refuse(&[], "06:00", "07:00", "Mars/Base", "there is no time zone `Mars/Base`");
    }
}
