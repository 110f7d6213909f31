//! Number formats in files.

/// Powers of ten that `f64` holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Largest number of digits with which every whole number has an exact `f64`.
const DIGITS_MAX: usize = 15;

/// Parses a decimal number, with an optional sign and exponent, to the nearest `f64`, as
/// `str::parse` does. `inf` and `nan` give `None`.
///
/// A number of at most 15 digits without an exponent is one division of two exact numbers, which
/// IEEE 754 rounds to nearest: W. D. Clinger, "How to read floating point numbers accurately", PLDI
/// 1990, §2.
#[must_use]
pub fn parse_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (mut mantissa, mut decimals, mut in_decimals) = (0_u64, 0_usize, false);
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return parse_with_std(text);
    }
    for byte in digits {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => {
                mantissa = mantissa * 10 + u64::from(digit);
                decimals += usize::from(in_decimals);
            }
            _ if *byte == b'.' && !in_decimals && digits.len() > 1 => in_decimals = true,
            _ => return parse_with_std(text),
        }
    }
    let value = mantissa as f64 / TENS[decimals];
    Some(if negative { -value } else { value })
}

fn parse_with_std(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

/// Mark between the whole part and the decimals of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalMark {
    /// Point: `21.5`.
    Point,
    /// Comma, perhaps with points between thousands: `21,5`, `1.013,2`.
    Comma,
    /// A point, unless it could stand between thousands. Used for a file with semicolons between
    /// its fields in which no number decides.
    Undecided,
}

/// Texts that are stored as NaN: what sensors report in place of a number.
const NOT_A_NUMBER: [&str; 9] = ["", "nan", "-nan", "inf", "-inf", "null", "none", "na", "n/a"];

impl DecimalMark {
    /// Detects the decimal mark of these numbers, in a file whose delimiter is not a comma.
    pub fn detect_mark<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut mark = Self::Undecided;
        for raw_text in texts {
            let text = raw_text.trim().trim_start_matches('-');
            let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
            if text.is_empty() || !text.chars().all(is_number) {
                continue;
            }
            if text.contains(',') {
                return Self::Comma;
            }
            if text.contains('.') && !has_thousands(text) {
                mark = Self::Point;
            }
        }
        mark
    }

    /// Parses a text to a value: a number, true and false as 1 and 0, or NaN.
    ///
    /// # Errors
    /// The format that was expected.
    pub fn parse_value(self, field: &str) -> Result<f64, &'static str> {
        let text = field.trim();
        let number = match self {
            Self::Point => parse_decimal(text.as_bytes()),
            Self::Comma if text.contains(',') => {
                let (whole, decimals) = text.split_once(',').unwrap_or_default();
                let whole = if has_thousands(whole.trim_start_matches('-')) {
                    whole.replace('.', "")
                } else {
                    whole.to_owned()
                };
                let is_plain = !whole.contains('.') && !decimals.contains(['.', ',']);
                is_plain.then(|| parse_decimal(format!("{whole}.{decimals}").as_bytes())).flatten()
            }
            Self::Comma => parse_decimal(text.as_bytes()).filter(|_| !text.contains('.')),
            Self::Undecided => parse_decimal(text.as_bytes())
                .filter(|_| !has_thousands(text.trim_start_matches(['-', '+']))),
        };
        let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        match number {
            Some(number) => Ok(number),
            None if is(&["true"]) => Ok(1.0),
            None if is(&["false"]) => Ok(0.0),
            None if is(&NOT_A_NUMBER) => Ok(f64::NAN),
            None => Err(match self {
                Self::Point => "a number, with a point before its decimals",
                Self::Comma => {
                    "a number, with a comma before its decimals as elsewhere in the file"
                }
                Self::Undecided => "a number in which thousands and decimals can be distinguished",
            }),
        }
    }
}

/// Whether a point in the text may stand between thousands, as in `1.013`.
fn has_thousands(text: &str) -> bool {
    let mut groups = text.split('.');
    let is_group = |group: &str| group.len() == 3 && group.bytes().all(|b| b.is_ascii_digit());
    let first = groups.next().unwrap_or_default();
    let starts = (1..=3).contains(&first.len())
        && first.bytes().all(|b| b.is_ascii_digit())
        && !first.starts_with('0');
    starts && text.contains('.') && groups.all(is_group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: Option<f64>) {
        assert_eq!(
            parse_decimal(text.as_bytes()).map(f64::to_bits),
            expect.map(f64::to_bits),
            "{text}"
        );
    }

    #[test]
    fn numbers_and_what_is_none() {
        check("22.48", Some(22.48));
        check("-500.96", Some(-500.96));
        check("-0", Some(-0.0));
        check("5.", Some(5.0));
        check(".5", Some(0.5));
        check("1e3", Some(1000.0));
        check("+1", Some(1.0));
        check("123456789012345678901234567890", Some(123_456_789_012_345_678_901_234_567_890.0));
        for none in ["", "-", ".", "-.", "1.2.3", "nan", "inf", "1 2", "0x1", "1e999", "--1"] {
            check(none, None);
        }
    }

    #[test]
    fn decimals_behind_a_point_or_a_comma_and_never_a_guess() {
        use DecimalMark::{Comma, Point, Undecided};
        let check = |mark: DecimalMark, text: &str, expect: Option<f64>| {
            assert_eq!(mark.parse_value(text).ok(), expect, "{text} {mark:?}");
        };
        check(Point, "21.5", Some(21.5));
        check(Point, "1.013", Some(1.013));
        check(Point, "True", Some(1.0));
        check(Point, "false", Some(0.0));
        for none in ["21,5", "1,013", "1 013", "warm", "21.5 C"] {
            check(Point, none, None);
        }
        check(Comma, "21,5", Some(21.5));
        check(Comma, "-21,5", Some(-21.5));
        check(Comma, "1.013,25", Some(1013.25));
        check(Comma, "21", Some(21.0));
        for none in ["21.5", "1.013", "1,2,3", "1.01,5", "1,5.5"] {
            check(Comma, none, None);
        }
        check(Undecided, "21", Some(21.0));
        check(Undecided, "0.125", Some(0.125));
        check(Undecided, "1.013", None);
        for text in ["", "NaN", "null", "-inf"] {
            assert!(Point.parse_value(text).unwrap().is_nan(), "{text}");
        }
        let detect = |texts: &[&str], expect| {
            assert_eq!(DecimalMark::detect_mark(texts.iter().copied()), expect, "{texts:?}");
        };
        detect(&["21", "1.013", "21,5"], Comma);
        detect(&["21", "1.013", "21.5"], Point);
        detect(&["21", "1.013", "x,y"], Undecided);
    }

    proptest! {
        #[test]
        fn it_finds_what_the_standard_library_finds(value in any::<f64>(), decimals in 0..18_usize) {
            for text in [format!("{value}"), format!("{value:e}"), format!("{:.decimals$}", value % 1e6)] {
                let expect = text.parse::<f64>().ok().filter(|v| v.is_finite());
                prop_assert_eq!(parse_decimal(text.as_bytes()).map(f64::to_bits), expect.map(f64::to_bits), "{}", text);
            }
        }
    }
}
