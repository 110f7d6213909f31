//! Written times, in every usage and format; the first byte chooses among them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::time::{ParsedTime, TimeFormat, TimeParser, TimeUsage, parse_time_zone};

const RECEIVED_MS: i64 = 1_729_989_010_000;

fuzz_target!(|data: &[u8]| {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let usages = [TimeUsage::Live, TimeUsage::Recorded, TimeUsage::Bound];
    let formats = [
        TimeFormat::Iso,
        TimeFormat::DayFirst,
        TimeFormat::MonthFirst,
        TimeFormat::SpreadsheetDays,
    ];
    let zones = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"];
    let choice = usize::from(*choice);
    let usage = usages[choice % 3];
    let parser = TimeParser::new(usage)
        .with_time_zone(parse_time_zone(zones[choice / 12 % 4]).expect("it is in the database"))
        .with_format(formats[choice / 3 % 4]);
    for arrival_ms in [None, Some(RECEIVED_MS)] {
        if let Ok(ParsedTime::Instant(ms)) = parser.parse_text(text, arrival_ms) {
            assert!(usage.first_ms().is_none_or(|first_ms| ms >= first_ms));
            // A part of a millisecond is dropped, and nothing else.
            assert_eq!(parser.parse_instant_us(ms * 1000), ParsedTime::Instant(ms));
        }
    }
});
