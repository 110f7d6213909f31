use proptest::prelude::*;
use serde_json::json;

use super::*;

/// 2024-01-15T12:00:00Z
const NOON: i64 = 1_705_320_000_000;
const DAY_MS: i64 = 86_400_000;

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

/// Checks a text with every usage against the instant, `Unset`, or a part of the error.
fn check(text: &str, expect: Result<i64, &str>) {
    for usage in [TimeUsage::Live, TimeUsage::Recorded, TimeUsage::Bound] {
        let parser = TimeParser::new(usage).with_time_zone(berlin());
        match (parser.parse_text(text, None), expect) {
            (Ok(ParsedTime::Instant(ms)), Ok(expect)) => assert_eq!(ms, expect, "{text} {usage:?}"),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{text}: {error}");
            }
            (got, expect) => panic!("{text} {usage:?}: {got:?} is not {expect:?}"),
        }
    }
}

#[test]
fn numbers_are_of_the_one_unit_in_which_they_are_a_time() {
    check("1705320000", Ok(NOON));
    check("1705320000.25", Ok(NOON + 250));
    check("1705320000.123", Ok(NOON + 123));
    check("1705320000.1239", Ok(NOON + 123));
    check("1.70532e9", Ok(NOON));
    check("1705320000000", Ok(NOON));
    check("1705320000000.7", Ok(NOON));
    check("1705320000123456", Ok(NOON + 123));
    check("1705320000123456789", Ok(NOON + 123));
    check("4070908800", Ok(4_070_908_800_000));
    for none in ["-1", "-1705320000", "4102444800", "99999999999", "9e18", "1e300", &"9".repeat(50)]
    {
        check(none, Err("since 1970"));
    }
    // The digits of a date are not a number of seconds.
    check("20240115120000", Err("since 1970"));
}

#[test]
fn written_forms() {
    check("2024-01-15T12:00:00Z", Ok(NOON));
    check("2024-01-15t12:00:00z", Ok(NOON));
    check("2024-01-15 12:00:00Z", Ok(NOON));
    check("2024-01-15T13:00:00+01:00", Ok(NOON));
    check("2024-01-15T13:00:00+0100", Ok(NOON));
    check("2024-01-15T13:00:00+01", Ok(NOON));
    check("2024-01-15T13:00+01:00", Ok(NOON));
    check("2024-01-15 13:00:00 +0100", Ok(NOON));
    check("2024-01-15T12:00:00-00:00", Ok(NOON));
    check("2024-01-15T12:00:00Z[UTC]", Ok(NOON));
    check("2024-01-15T12:00:00Z[Europe/Berlin]", Ok(NOON));
    check("2024-01-15T13:00:00[Europe/Berlin]", Ok(NOON));
    check("2024-01-15T13:00:00+01:00[Europe/Berlin]", Ok(NOON));
    check("2024-01-15T07:00:00[America/New_York]", Ok(NOON));
    check("2024-01-15 07:00:00 America/New_York", Ok(NOON));
    check("2024-01-15 12:00:00 UTC", Ok(NOON));
    check("2024-01-15 12:00:00 +0000 UTC", Ok(NOON));
    check("20240115T120000Z", Ok(NOON));
    check("2024/01/15 13:00:00", Ok(NOON));
    check(" 2024-01-15T12:00:00.250Z\r\n", Ok(NOON + 250));
    check("2024-01-15T12:00:00,250Z", Ok(NOON + 250));
    check("2024-01-15T12:00:00.123456789Z", Ok(NOON + 123));
    check("2024-01-15T12:00:00.9999Z", Ok(NOON + 999));
    // A local time is in the parser's zone, and a date is its midnight.
    check("2024-01-15T13:00:00", Ok(NOON));
    check("2024-01-15 13:00:00.5", Ok(NOON + 500));
    check("2024-01-15T13:00", Ok(NOON));
    check("2024-07-15T14:00", Ok(NOON + 182 * DAY_MS));
    check("2024-01-15", Ok(NOON - 13 * 3_600_000));
}

#[test]
fn what_is_no_time_is_refused_with_its_text() {
    check("noon", Err("`noon` is not a time: expected a time: 2026"));
    check("2024-01-15T12:00:00 o'clock", Err("not a time"));
    check("2024-13-15T12:00:00Z", Err("not a time"));
    check("2024-02-30", Err("not a time"));
    check("2024-01-15T25:00:00Z", Err("not a time"));
    check("2024-01-15T12:00:00+01:00[Asia/Tokyo]", Err("an offset of Asia/Tokyo"));
    check("2024-01-15T12:00:00[Mars/Base]", Err("IANA"));
    check("12:00:00", Err("not a time"));
    check("15.01.2024 12:00", Err("day-first"));
    check("01/15/2024", Err("month-first"));
    check("2024-01-15T12:00:00Zé", Err("not a time"));
    check(&"2".repeat(200), Err("not a time"));
    check("true", Err("not a time"));
    let parser = TimeParser::new(TimeUsage::Live);
    for none in [json!(true), json!([1_705_320_000]), json!({"$date": 1})] {
        assert!(parser.parse_json(&none, None).is_err(), "{none}");
    }
}

#[test]
fn a_clock_that_was_never_set_says_no_time() {
    let unset = |usage: TimeUsage, text: &str, expect: bool| {
        let got = TimeParser::new(usage).with_time_zone(berlin()).parse_text(text, Some(NOON));
        assert_eq!(got == Ok(ParsedTime::Unset), expect, "{text} {usage:?}: {got:?}");
    };
    for usage in [TimeUsage::Live, TimeUsage::Recorded] {
        for text in [
            "",
            "  ",
            "null",
            "NaN",
            "NaT",
            "0",
            "0.0",
            "75",
            "86400",
            "75000",
            "946684800",
            "100000000000",
            "1970-01-01T00:01:15Z",
            "1970-01-01T00:00:00",
            "1980-01-06T00:00:00Z",
            "2000-01-01T00:00:00Z",
            "2000-06-01 12:00:00",
            "0001-01-01T00:00:00Z",
            "0000-00-00 00:00:00",
            "1900-01-01",
            "1969-12-31T23:59:59Z",
        ] {
            unset(usage, text, true);
        }
        unset(usage, "2024-01-15T12:00:00Z", false);
    }
    // Recordings may be older than live messages.
    for (text, is_unset) in
        [("2013-08-24T00:00:00Z", true), ("1377302400", true), ("2016-01-01T00:00:00Z", false)]
    {
        unset(TimeUsage::Live, text, is_unset);
        unset(TimeUsage::Recorded, text, false);
    }
    let parser = TimeParser::new(TimeUsage::Live);
    assert_eq!(parser.parse_json(&json!(null), None), Ok(ParsedTime::Unset));
    assert_eq!(parser.parse_json(&json!(0), None), Ok(ParsedTime::Unset));
    assert_eq!(parser.parse_number(f64::NAN), Ok(ParsedTime::Unset));
}

#[test]
fn bounds_may_be_any_time_and_a_lost_plus_is_found() {
    let check = |text: &str, expect: Option<i64>| {
        assert_eq!(parse_bound_ms(text).ok(), expect, "{text}: {:?}", parse_bound_ms(text));
    };
    check("0", Some(0));
    check("1970-01-01", Some(0));
    check("1905-01-01T00:00:00Z", Some(-2_051_222_400_000));
    check("2024-01-15T13:00:00 01:00", Some(NOON));
    check("2024-01-15 13:00:00 01:00", Some(NOON));
    check("2024-01-15T13:00:00 0100", Some(NOON));
    check("2024-01-15T12:00:00", Some(NOON));
    check("2024-01-15T12:00", Some(NOON));
    for none in ["", "75", "yesterday", "2024-01-15 x", "2024-01-15 01:00 02:00 03:00"] {
        check(none, None);
    }
}

#[test]
fn an_hour_that_occurs_twice_is_decided_by_the_arrival() {
    let parser = TimeParser::new(TimeUsage::Live).with_time_zone(berlin());
    // 2024-10-27: 02:30 occurred at 00:30 and at 01:30 UTC.
    let (first_ms, second_ms) = (1_729_989_000_000, 1_729_992_600_000);
    let check = |late_ms: i64, from_ms: i64, expect: Option<i64>| {
        let got = parser.parse_text("2024-10-27T02:30:00", Some(from_ms + late_ms));
        assert_eq!(got.ok(), expect.map(ParsedTime::Instant), "{late_ms}");
    };
    let minute = 60_000;
    check(0, first_ms, Some(first_ms));
    check(10_000, first_ms, Some(first_ms));
    check(54 * minute, first_ms, Some(first_ms));
    check(-2 * minute, first_ms, Some(first_ms));
    check(-2 * minute, second_ms, Some(second_ms));
    check(10_000, second_ms, Some(second_ms));
    check(30 * minute, second_ms, Some(second_ms));
    // Of a backlog, either may be meant.
    check(31 * minute, second_ms, None);
    check(DAY_MS, second_ms, None);
    let refused = parser.parse_text("2024-10-27T02:30:00", None).unwrap_err().to_string();
    assert!(refused.contains("occurs twice") && refused.contains("Europe/Berlin"), "{refused}");
    for (text, expect) in [
        ("2024-10-27T02:30:00+02:00", first_ms),
        ("2024-10-27T02:30:00+01:00[Europe/Berlin]", second_ms),
    ] {
        assert_eq!(parser.parse_text(text, None), Ok(ParsedTime::Instant(expect)));
    }
    // Parquet's local time has no T and a zone of its own.
    let utc = TimeParser::new(TimeUsage::Recorded);
    let named = utc.parse_text("2024-10-27 02:30:00[Europe/Berlin]", Some(second_ms));
    assert_eq!(named, Ok(ParsedTime::Instant(second_ms)));
    let local_us = (second_ms + 3_600_000) * 1000;
    assert_eq!(
        parser.parse_local_us(local_us, Some(second_ms)),
        Ok(ParsedTime::Instant(second_ms))
    );
    assert!(parser.parse_local_us(local_us, None).is_err());
}

#[test]
fn a_local_time_that_never_occurs_is_refused_unless_the_arrival_tells_its_offset() {
    let parser = TimeParser::new(TimeUsage::Live).with_time_zone(berlin());
    // 2024-03-31: 01:59:59 (+01:00) was followed by 03:00 (+02:00).
    let standard_ms = 1_711_848_600_000;
    let check = |arrival_ms: Option<i64>, expect: Option<i64>| {
        let got = parser.parse_text("2024-03-31T02:30:00", arrival_ms);
        assert_eq!(got.ok(), expect.map(ParsedTime::Instant), "{arrival_ms:?}");
    };
    check(Some(standard_ms + 10_000), Some(standard_ms));
    check(Some(standard_ms - 3_600_000 + 10_000), Some(standard_ms - 3_600_000));
    check(Some(standard_ms + DAY_MS), None);
    check(Some(standard_ms - DAY_MS), None);
    check(None, None);
    let refused = parser.parse_text("2024-03-31T02:30:00", None).unwrap_err().to_string();
    assert!(refused.contains("put forward"), "{refused}");
}

#[test]
fn other_orders_and_spreadsheets_by_format() {
    use TimeFormat::{DayFirst, Iso, MonthFirst, SpreadsheetDays};

    let check = |format: TimeFormat, text: &str, expect: Option<i64>| {
        let parser = TimeParser::new(TimeUsage::Recorded).with_format(format);
        let got = parser.parse_text(text, None);
        assert_eq!(got.clone().ok(), expect.map(ParsedTime::Instant), "{text}: {got:?}");
    };
    for text in
        ["15.01.2024 12:00", "15/01/2024 12:00:00", "15-01-2024T12:00", "15.1.2024, 12:00:00.000"]
    {
        check(DayFirst, text, Some(NOON));
    }
    check(DayFirst, "15.01.2024 9:05", Some(NOON - 175 * 60_000));
    check(DayFirst, "15.01.2024", Some(NOON - DAY_MS / 2));
    check(DayFirst, "2024-01-15T12:00:00Z", Some(NOON));
    check(DayFirst, "1705320000", Some(NOON));
    check(DayFirst, "01/15/2024 12:00", None);
    check(DayFirst, "15.01.24 12:00", None);
    check(MonthFirst, "1/15/2024 12:00 PM", Some(NOON));
    check(MonthFirst, "01/15/2024 1:00:00 pm", Some(NOON + 3_600_000));
    check(MonthFirst, "01/15/2024 12:00 am", Some(NOON - DAY_MS / 2));
    check(MonthFirst, "01/15/2024 13:00 PM", None);
    check(MonthFirst, "15/01/2024 12:00", None);
    check(SpreadsheetDays, "45306.5", Some(NOON));
    check(SpreadsheetDays, "45306.500000001", Some(NOON));
    check(SpreadsheetDays, "1705320000", None);
    check(SpreadsheetDays, "2024-01-15T12:00:00Z", Some(NOON));
    // Half a day, and 12 hours since the start of a device, look alike.
    for text in ["45306.5", "45306"] {
        let got = TimeParser::new(TimeUsage::Recorded).with_format(Iso).parse_text(text, None);
        assert_eq!(got, Ok(ParsedTime::Unset));
    }
    for format in [Iso, DayFirst, MonthFirst, SpreadsheetDays] {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    assert!("us".parse::<TimeFormat>().unwrap_err().contains("month-first"));
}

proptest! {
    #[test]
    fn any_text_is_a_time_or_refused(text in ".{0,40}", arrival_ms in any::<Option<i64>>()) {
        for format in [TimeFormat::Iso, TimeFormat::DayFirst, TimeFormat::SpreadsheetDays] {
            let parser = TimeParser::new(TimeUsage::Bound).with_time_zone(berlin()).with_format(format);
            let _ = parser.parse_text(&text, arrival_ms);
        }
    }

    #[test]
    fn every_way_to_write_an_instant_means_it(ms in FIRST_LIVE_MS..4_102_444_800_000, name in "(UTC|Europe/Berlin|America/St_Johns|Australia/Lord_Howe|Asia/Tokyo)") {
        let zone = TimeZone::get(&name).unwrap();
        let parser = TimeParser::new(TimeUsage::Live).with_time_zone(zone.clone());
        let at = jiff::Timestamp::from_millisecond(ms).unwrap();
        let zoned = at.to_zoned(zone.clone());
        let local = zoned.datetime();
        let seconds = ms.div_euclid(1000);
        for text in [
            format!("{seconds}.{:03}", ms.rem_euclid(1000)), ms.to_string(), format!("{ms}000"), format!("{ms}999999"),
            at.to_string(), zoned.to_string(), zoned.strftime("%Y-%m-%dT%H:%M:%S%.f%z").to_string(),
            zoned.strftime("%Y-%m-%d %H:%M:%S%.f%:z").to_string(), local.to_string(), local.to_string().replace('T', " "),
            format!("{local}[{name}]"),
        ] {
            // The arrival decides where the local time occurs twice.
            prop_assert_eq!(parser.parse_text(&text, Some(ms + 200)), Ok(ParsedTime::Instant(ms)), "{}", text);
            prop_assert_eq!(parser.parse_json(&text.clone().into(), Some(ms + 200)), Ok(ParsedTime::Instant(ms)), "{}", text);
        }
        prop_assert_eq!(parser.parse_json(&ms.into(), None), Ok(ParsedTime::Instant(ms)));
        prop_assert_eq!(parser.parse_instant_us(ms * 1000 + 999), ParsedTime::Instant(ms));
        prop_assert_eq!(parser.parse_json(&(ms as f64 / 1e3).into(), None), Ok(ParsedTime::Instant(ms)));
        let local_us = TimeZone::UTC.to_timestamp(local).unwrap().as_microsecond();
        prop_assert_eq!(parser.parse_local_us(local_us, Some(ms)), Ok(ParsedTime::Instant(ms)));
    }
}
