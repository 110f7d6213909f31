//! Numbers as files write them.

/// Powers of ten that `f64` holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Every whole number of so many digits has an exact `f64`.
const DIGITS_MAX: usize = 15;

/// A decimal number, with or without a sign and an exponent; the nearest `f64`,
/// as `str::parse` finds it. `inf` and `nan` are none.
///
/// Numbers of at most 15 digits without an exponent are one division of two
/// exact numbers, which IEEE 754 rounds to nearest: W. D. Clinger, "How to read
/// floating point numbers accurately", PLDI 1990, §2.
#[must_use]
pub fn parse(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (mut mantissa, mut decimals, mut in_decimals) = (0_u64, 0_usize, false);
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return by_the_book(text);
    }
    for byte in digits {
        match byte.wrapping_sub(b'0') {
            digit @ 0..=9 => {
                mantissa = mantissa * 10 + u64::from(digit);
                decimals += usize::from(in_decimals);
            }
            _ if *byte == b'.' && !in_decimals && digits.len() > 1 => in_decimals = true,
            _ => return by_the_book(text),
        }
    }
    let value = mantissa as f64 / TENS[decimals];
    Some(if negative { -value } else { value })
}

fn by_the_book(text: &[u8]) -> Option<f64> {
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expect: Option<f64>) {
        assert_eq!(parse(text.as_bytes()).map(f64::to_bits), expect.map(f64::to_bits), "{text}");
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

    proptest! {
        #[test]
        fn it_finds_what_the_standard_library_finds(value in any::<f64>(), decimals in 0..18_usize) {
            for text in [format!("{value}"), format!("{value:e}"), format!("{:.decimals$}", value % 1e6)] {
                let expect = text.parse::<f64>().ok().filter(|v| v.is_finite());
                prop_assert_eq!(parse(text.as_bytes()).map(f64::to_bits), expect.map(f64::to_bits), "{}", text);
            }
        }
    }
}
