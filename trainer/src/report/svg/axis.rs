use jiff::Timestamp;

/// One axis of a figure: positions of values, and the texts of ticks.
#[derive(Clone, Debug)]
pub(crate) struct PlotAxis {
    /// Quantity with its unit.
    pub(crate) label: String,
    low: f64,
    high: f64,
    kind: AxisKind,
    /// Smallest distance of ticks.
    step_min: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AxisKind {
    Linear,
    /// Logarithmic: powers of ten have equal distances.
    Log,
    /// UTC milliseconds.
    Time,
}

const MINUTE_MS: f64 = 60_000.0;
const DAY_MS: f64 = 86_400_000.0;
/// Possible distances of ticks on time axes, minutes.
const TIME_STEPS: [f64; 16] = [
    1.0, 5.0, 10.0, 30.0, 60.0, 180.0, 360.0, 720.0, 1440.0, 2880.0, 5760.0, 10_080.0, 20_160.0,
    43_200.0, 86_400.0, 525_600.0,
];

impl PlotAxis {
    /// Creates an axis from the smallest to the largest of `values`, with a small margin. Values
    /// that are not finite are ignored.
    pub(crate) fn new_linear(
        label: impl Into<String>,
        values: impl IntoIterator<Item = f64>,
    ) -> Self {
        let (low, high) = value_range(values.into_iter().filter(|value| value.is_finite()));
        let room = (high - low) * 0.04;
        let padded = |edge: f64, room: f64| if edge == 0.0 { 0.0 } else { edge + room };
        let (low, high) = (padded(low, -room), padded(high, room));
        Self { label: label.into(), low, high, kind: AxisKind::Linear, step_min: 0.0 }
    }

    /// Creates an axis that goes exactly from `low` to `high`.
    pub(crate) fn new_fixed(label: impl Into<String>, low: f64, high: f64) -> Self {
        Self { label: label.into(), low, high, kind: AxisKind::Linear, step_min: 0.0 }
    }

    /// Creates an axis over powers of ten; values of 0 and below are ignored.
    pub(crate) fn new_log(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) = value_range(positive.map(f64::log10));
        let (low, high) = ((low - 0.05).floor(), (high + 0.05).ceil());
        Self { label: label.into(), low, high, kind: AxisKind::Log, step_min: 0.0 }
    }

    /// Creates an axis over UTC milliseconds.
    pub(crate) fn new_time(
        label: impl Into<String>,
        values: impl IntoIterator<Item = i64>,
    ) -> Self {
        let (low, high) = value_range(values.into_iter().map(|at_ms| at_ms as f64));
        Self { label: label.into(), low, high, kind: AxisKind::Time, step_min: 0.0 }
    }

    /// Restricts the ticks to whole numbers.
    pub(crate) fn with_whole_ticks(self) -> Self {
        Self { step_min: 1.0, ..self }
    }

    /// Position of a value: 0 at the beginning, 1 at the end. Values beyond an end are placed
    /// there.
    pub(crate) fn relative_position(&self, value: f64) -> f64 {
        let value =
            if self.kind == AxisKind::Log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Positions and texts of about `wanted` ticks.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let tick_count = wanted.max(2) as f64;
        match self.kind {
            AxisKind::Linear => {
                let step = round_step((self.high - self.low) / tick_count).max(self.step_min);
                self.tick_values(step)
                    .map(|value| (self.relative_position(value), format_tick(value, step)))
                    .collect()
            }
            AxisKind::Log => self
                .tick_values(((self.high - self.low) / tick_count).ceil().max(1.0))
                .map(|power| {
                    (self.relative_position(10_f64.powf(power)), format_number(10_f64.powf(power)))
                })
                .collect(),
            AxisKind::Time => {
                let within =
                    |step: &&f64| (self.high - self.low) / (**step * MINUTE_MS) <= tick_count;
                let longest = TIME_STEPS[TIME_STEPS.len() - 1];
                let step = *TIME_STEPS.iter().find(within).unwrap_or(&longest) * MINUTE_MS;
                self.tick_values(step)
                    .map(|at_ms| (self.relative_position(at_ms), format_moment(at_ms, step)))
                    .collect()
            }
        }
    }

    /// Multiples of `step` on the axis, at most a hundred.
    fn tick_values(&self, step: f64) -> impl Iterator<Item = f64> {
        let (first, high) = ((self.low / step - 1e-9).ceil() * step, self.high + 1e-9 * step);
        (0..100).map(move |n| first + f64::from(n) * step).take_while(move |value| *value <= high)
    }
}

/// Smallest and largest value, which always differ.
fn value_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    match (low.is_finite(), high > low) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        (true, false) => (low - low.abs().max(1.0) * 0.05, low + low.abs().max(1.0) * 0.05),
    }
}

/// Nearest of 1, 2, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(f64::MIN_POSITIVE).log10().floor());
    let factor = match step / power {
        factor if factor < 1.5 => 1.0,
        factor if factor < 3.5 => 2.0,
        factor if factor < 7.5 => 5.0,
        _ => 10.0,
    };
    factor * power
}

/// Formats a tick with as many decimals as the step needs.
fn format_tick(value: f64, step: f64) -> String {
    let decimals = (-(step * 1.000_001).log10().floor()).clamp(0.0, 9.0) as usize;
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    group_thousands(&format!("{value:.decimals$}"))
}

/// Formats a number with three significant digits, without unneeded zeros.
pub(crate) fn format_number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let digits = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = (2 - digits).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    group_thousands(if text == "-0" { "0" } else { text })
}

/// Groups thousands by thin spaces from 10,000 on, and uses a minus sign.
fn group_thousands(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("−", text));
    let (whole, rest) =
        text.split_once('.').map_or((text, String::new()), |(w, r)| (w, format!(".{r}")));
    if whole.len() < 5 {
        return format!("{sign}{whole}{rest}");
    }
    let mut spaced = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            spaced.push('\u{2009}');
        }
        spaced.push(digit);
    }
    format!("{sign}{spaced}{rest}")
}

fn format_moment(at_ms: f64, step_ms: f64) -> String {
    let Ok(at) = Timestamp::from_millisecond(at_ms as i64) else { return String::new() };
    let is_midnight = (at_ms / DAY_MS).fract().abs() < 1e-9;
    let form = if step_ms >= DAY_MS || is_midnight { "%-d %b" } else { "%H:%M" };
    at.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(axis: &PlotAxis, expect: &[&str]) {
        let ticks: Vec<String> = axis.ticks(5).into_iter().map(|(_, text)| text).collect();
        assert_eq!(ticks, expect);
        assert!(axis.ticks(5).iter().all(|(place, _)| (0.0..=1.0).contains(place)));
    }

    #[test]
    fn ticks_are_round() {
        check(&PlotAxis::new_fixed("", 0.0, 1.0), &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        check(&PlotAxis::new_fixed("", -0.013, 0.031), &["−0.01", "0.00", "0.01", "0.02", "0.03"]);
        check(&PlotAxis::new_linear("", [0.0, 48.0]), &["0", "10", "20", "30", "40"]);
        check(
            &PlotAxis::new_fixed("", 0.0, 40_000.0),
            &["0", "10\u{2009}000", "20\u{2009}000", "30\u{2009}000", "40\u{2009}000"],
        );
        check(&PlotAxis::new_fixed("", 0.5, 1.5).with_whole_ticks(), &["1"]);
        check(&PlotAxis::new_log("", [0.3, 400.0]), &["0.1", "1", "10", "100", "1000"]);
        check(&PlotAxis::new_linear("", [f64::NAN]), &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        check(
            &PlotAxis::new_linear("", [3.0, 3.0]),
            &["2.85", "2.90", "2.95", "3.00", "3.05", "3.10", "3.15"],
        );
    }

    #[test]
    fn times_are_of_the_day_or_of_the_month() {
        let start = 1_377_734_400_000; // 2013-08-29
        let hours = |hours: i64| start + hours * 3_600_000;
        check(
            &PlotAxis::new_time("", [hours(0), hours(20)]),
            &["29 Aug", "06:00", "12:00", "18:00"],
        );
        check(&PlotAxis::new_time("", [hours(1), hours(4)]), &["01:00", "02:00", "03:00", "04:00"]);
        check(
            &PlotAxis::new_time("", [hours(0), hours(72)]),
            &["29 Aug", "30 Aug", "31 Aug", "1 Sep"],
        );
    }

    #[test]
    fn numbers_have_three_digits() {
        let check = |value: f64, expect: &str| assert_eq!(format_number(value), expect);
        check(0.012_345, "0.0123");
        check(12.345, "12.3");
        check(1234.5, "1234");
        check(-12_345.0, "−12\u{2009}345");
        check(0.0, "0");
        check(1.0, "1");
        check(100.0, "100");
        check(f64::NAN, "–");
    }
}
