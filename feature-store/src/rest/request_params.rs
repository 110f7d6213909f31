//! Parameters that many requests share, and their checks.

use jiff::{ToSpan, civil::Date, tz::TimeZone};
use serde::Deserialize;
use service::rest::Problem;
use telemetry::{ParsedTime, TimeParser, TimeUsage, ZoneId, time::parse_bound_ms};
use utoipa::IntoParams;

/// End of 2099, the last time that a timestamp may state, UTC ms.
const LAST_MS: i64 = 4_102_444_800_000;
/// Largest number of names or zones in one request.
const LIST_MAX: usize = 2000;

/// Parses zones, separated by commas.
pub(super) fn parse_zones(text: Option<&str>) -> Result<Option<Vec<ZoneId>>, Problem> {
    let Some(parts) = split_list("zones", text)? else { return Ok(None) };
    let zones: Result<Vec<ZoneId>, _> = parts.into_iter().map(str::parse).collect();
    zones.map(Some).map_err(|error| {
        Problem::bad_request(format!("zones: {error}"))
            .with_hint("as in zones=farm/bay-1,farm/bay-2")
    })
}

/// Parses names, separated by commas.
pub(super) fn parse_names(text: Option<&str>) -> Result<Option<Vec<String>>, Problem> {
    Ok(split_list("names", text)?.map(|parts| parts.into_iter().map(str::to_owned).collect()))
}

/// Splits a list at its commas.
pub(super) fn split_list<'a>(
    key: &str,
    text: Option<&'a str>,
) -> Result<Option<Vec<&'a str>>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let items = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parts: Vec<&str> = items.take(LIST_MAX + 1).collect();
    if parts.len() > LIST_MAX {
        return Err(Problem::too_large(format!("{key}: more than {LIST_MAX}")));
    }
    Ok(Some(parts))
}

/// Parses a time as people write it. Restores the `+` of an offset, which is a space in a URL
/// query.
pub(super) fn parse_time(text: Option<&str>) -> Result<Option<i64>, Problem> {
    text.map(parse_bound_ms).transpose().map_err(time_problem)
}

fn time_problem(what: String) -> Problem {
    Problem::bad_request(what).with_hint("a time without an offset is UTC")
}

/// A span of event time.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventSpan {
    /// A day at the site, as in 2013-08-24.
    date: Option<String>,
    /// Earliest event time, included: a date, a time (UTC without an offset) or a number since
    /// 1970.
    from: Option<String>,
    /// Latest event time, included.
    to: Option<String>,
}

impl EventSpan {
    /// Returns both ends of the span, included, UTC ms, or those of a whole day at the site.
    pub(super) fn bounds_ms(
        &self,
        time_zone: &TimeZone,
    ) -> Result<(Option<i64>, Option<i64>), Problem> {
        parse_span(self.date.as_deref(), self.from.as_deref(), self.to.as_deref(), time_zone)
    }
}

fn parse_span(
    date: Option<&str>,
    from: Option<&str>,
    to: Option<&str>,
    time_zone: &TimeZone,
) -> Result<(Option<i64>, Option<i64>), Problem> {
    let Some(date) = date else { return Ok((parse_time(from)?, parse_time(to)?)) };
    if from.is_some() || to.is_some() {
        return Err(Problem::bad_request("`date` beside `from` or `to`")
            .with_hint("give a day, or where the span begins and ends"));
    }
    let invalid_date = || {
        Problem::bad_request(format!(
            "date = `{}` is not a date",
            date.chars().take(60).collect::<String>()
        ))
        .with_hint("as in date=2013-08-24, a day at the site")
    };
    // A time of day would be ignored silently.
    if date.contains(['T', 't', ' ', ':', '[']) {
        return Err(invalid_date());
    }
    let day: Date = date.parse().map_err(|_| invalid_date())?;
    let start_ms = |day: Date| {
        let midnight = day.to_zoned(time_zone.clone()).map_err(|_| invalid_date())?;
        Ok(midnight.timestamp().as_millisecond())
    };
    let next = day.checked_add(1.day()).map_err(|_| invalid_date())?;
    Ok((Some(start_ms(day)?), Some(start_ms(next)? - 1)))
}

pub(super) fn check_step(step_s: Option<i64>) -> Result<Option<i64>, Problem> {
    match step_s {
        Some(step_s) if !(1..=86_400 * 31).contains(&step_s) => {
            Err(Problem::bad_request(format!("step_s = {step_s} is not 1 to 2678400")))
        }
        step_s => Ok(step_s),
    }
}

/// Checks the end of a page, which is the time of a row.
pub(super) fn check_before(before_ms: Option<i64>) -> Result<Option<i64>, Problem> {
    match before_ms {
        Some(ms) if !(0..=LAST_MS).contains(&ms) => {
            Err(Problem::bad_request(format!("before = {ms} is not 0 to {LAST_MS}"))
                .with_hint("give the `next` of the answer"))
        }
        before_ms => Ok(before_ms),
    }
}

/// Returns the requested number of rows, checked against `max`, or the default.
pub(super) fn resolve_limit(
    requested: Option<usize>,
    default: usize,
    max: usize,
) -> Result<usize, Problem> {
    match requested {
        None => Ok(default.min(max)),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::bad_request(format!("limit = {limit} is not 1 to {max}"))
            .with_hint("continue with the `next` of the answer as `after`")),
    }
}

/// Returns one page of a sorted list: the items after `after`, and where the next page begins.
pub(super) fn page_by_key<T>(
    all: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> String,
    after: Option<&str>,
    limit: usize,
) -> (Vec<T>, Option<String>) {
    let mut page: Vec<T> = all
        .into_iter()
        .filter(|one| after.is_none_or(|after| key(one).as_str() > after))
        .take(limit + 1)
        .collect();
    let has_more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().map(&key).filter(|_| has_more);
    (page, next)
}

/// Returns one page of names in a given order: the names after `after`, and where the next page
/// begins.
pub(super) fn page_of_names<'a, T: AsRef<str>>(
    names: &'a [T],
    after: Option<&str>,
    limit: usize,
) -> Result<(&'a [T], Option<String>), Problem> {
    let start = match after {
        None => 0,
        Some(after) => match names.iter().position(|name| name.as_ref() == after) {
            Some(place) => place + 1,
            None => return Err(Problem::bad_request(format!("after: `{after}` does not exist"))),
        },
    };
    let rest = &names[start..];
    let page = &rest[..limit.min(rest.len())];
    let next = page.last().filter(|_| page.len() < rest.len());
    Ok((page, next.map(|name| name.as_ref().to_owned())))
}

/// A time in a body: a number since 1970, or a text.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Time {
    Number(i64),
    Text(String),
}

impl Time {
    pub(super) fn to_ms(&self) -> Result<i64, Problem> {
        match self {
            Self::Number(number) => {
                match TimeParser::new(TimeUsage::Bound).parse_integer(i128::from(*number)) {
                    Ok(ParsedTime::Instant(ms)) => Ok(ms),
                    Ok(ParsedTime::Unset) => Err(time_problem(format!("`{number}` is not a time"))),
                    Err(error) => Err(time_problem(error.to_string())),
                }
            }
            Self::Text(text) => parse_bound_ms(text).map_err(time_problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_limits() {
        assert_eq!(parse_names(Some("a, b,,c")).unwrap().unwrap(), ["a", "b", "c"]);
        assert!(parse_zones(Some("farm/bay-1,nonsense")).is_err());
        assert!(parse_names(Some(&"a,".repeat(LIST_MAX + 1))).is_err());
        assert_eq!(resolve_limit(None, 1000, 10).unwrap(), 10);
        assert!(resolve_limit(Some(11), 5, 10).is_err() && resolve_limit(Some(0), 5, 10).is_err());
    }

    #[test]
    fn a_day_is_one_of_the_site_and_may_have_23_hours() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let check = |date, zone: &TimeZone, hours: i64| {
            let (from, to) = parse_span(Some(date), None, None, zone).unwrap();
            assert_eq!(to.unwrap() + 1 - from.unwrap(), hours * 3_600_000, "{date}");
        };
        check("2013-08-24", &TimeZone::UTC, 24);
        check("2025-03-30", &berlin, 23);
        check("2025-10-26", &berlin, 25);
        assert!(parse_span(Some("2013-02-30"), None, None, &berlin).is_err());
        assert!(parse_span(Some("2013-02-03"), Some("2013-02-03"), None, &berlin).is_err());
    }

    #[test]
    fn times_are_whole_or_refused() {
        let check = |text: &str, expect: Option<i64>| {
            assert_eq!(parse_time(Some(text)).ok(), expect.map(Some), "{text}");
        };
        let one = 1_764_421_200_000;
        check("2025-11-29T13:00:00", Some(one));
        check("2025-11-29T15:00:00 02:00", Some(one));
        check("2025-11-29T14:00:00[Europe/Berlin]", Some(one));
        check("1764421200", Some(one));
        check("2025-11-29T13:00:00Z and more", None);
        check("", None);
        assert!(parse_span(Some("2025-11-29T13:00:00"), None, None, &TimeZone::UTC).is_err());
        let number: Time = serde_json::from_str("1764421200").unwrap();
        assert_eq!(number.to_ms().unwrap(), one);
        assert!(serde_json::from_str::<Time>("75").unwrap().to_ms().is_err());
    }

    #[test]
    fn pages_follow_one_another_and_end() {
        let key = |n: &u32| format!("{n:02}");
        assert_eq!(page_by_key(1..=5, key, None, 2), (vec![1, 2], Some("02".to_owned())));
        assert_eq!(page_by_key(1..=5, key, Some("02"), 2), (vec![3, 4], Some("04".to_owned())));
        assert_eq!(page_by_key(1..=5, key, Some("04"), 2), (vec![5], None));
        assert_eq!(page_by_key(1..=4, key, Some("02"), 2), (vec![3, 4], None));
        let names = ["b", "a", "c"];
        assert_eq!(page_of_names(&names, None, 2).unwrap(), (&names[..2], Some("a".to_owned())));
        assert_eq!(page_of_names(&names, Some("a"), 2).unwrap(), (&names[2..], None));
        assert_eq!(page_of_names(&names, Some("c"), 2).unwrap(), (&names[3..], None));
        assert!(page_of_names(&names, Some("d"), 2).is_err());
    }
}
