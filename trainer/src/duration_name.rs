//! Durations in names: `10m`, `24h`, `7d`.

/// Parses a duration to seconds; `None` if the text is not one.
pub(crate) fn parse_seconds(name: &str) -> Option<u64> {
    let (count, unit) = name.split_at_checked(name.len().checked_sub(1)?)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    // The limit is longer than any window, and prevents overflow.
    count.parse::<u64>().ok().filter(|count| *count < 1 << 31).map(|count| count * unit_s)
}

/// Formats seconds in the largest unit in which they are a whole number. One and two days are in
/// hours, as windows are named.
pub(crate) fn format_seconds(seconds: u64) -> String {
    match seconds {
        s if s % 86_400 == 0 && s > 2 * 86_400 => format!("{}d", s / 86_400),
        s if s % 3600 == 0 => format!("{}h", s / 3600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_read() {
        let check =
            |name: &str, expect: Option<u64>| assert_eq!(parse_seconds(name), expect, "{name}");
        check("30s", Some(30));
        check("10m", Some(600));
        check("24h", Some(86_400));
        check("7d", Some(604_800));
        check("99999999999999999999d", None);
        check("9999999999999999d", None);
        check("h", None);
        check("", None);
        check("10", None);
        check("10°", None);
        for name in ["30s", "10m", "30m", "1h", "24h", "48h", "7d"] {
            assert_eq!(format_seconds(parse_seconds(name).unwrap()), name);
        }
    }
}
