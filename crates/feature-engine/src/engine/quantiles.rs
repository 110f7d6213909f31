use std::collections::VecDeque;

use telemetry::MetricSpec;

/// Rounding of values before they are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum QuantileBins {
    /// Rounds to multiples of this width: exact for a sensor of that resolution.
    Even(f64),
    /// Rounds to within 0.5 % of the value, for metrics without a known resolution. Source: C.
    /// Masson, J. E. Rim, H. K. Lee, "DDSketch", PVLDB 12(12), 2019, section 2.1.
    Relative,
}

/// ln γ of [`QuantileBins::Relative`], γ = (1 + α)/(1 − α), α = 0.005.
const LN_GAMMA: f64 = 0.010_000_083_335_000_059;
/// Magnitude below which a value counts as 0 in [`QuantileBins::Relative`].
const ZERO_THRESHOLD: f64 = 1e-6;
/// Bin number of [`ZERO_THRESHOLD`] in [`QuantileBins::Relative`], less one: ln(10⁻⁶)/ln γ.
const ZERO_THRESHOLD_BIN: f64 = -1382.0;

impl QuantileBins {
    pub(super) fn from_metric(metric: Option<&MetricSpec>) -> Self {
        metric.and_then(|metric| metric.resolution).map_or(Self::Relative, Self::Even)
    }

    fn bin_number(self, value: f64) -> i32 {
        match self {
            Self::Even(width) => (value / width).round() as i32,
            Self::Relative if value.abs() <= ZERO_THRESHOLD => 0,
            Self::Relative => {
                let magnitude = ((value.abs().ln() / LN_GAMMA).ceil() - ZERO_THRESHOLD_BIN) as i32;
                if value > 0.0 { magnitude } else { -magnitude }
            }
        }
    }

    fn bin_value(self, number: i32) -> f64 {
        match self {
            Self::Even(width) => f64::from(number) * width,
            Self::Relative if number == 0 => 0.0,
            Self::Relative => {
                let upper = ((f64::from(number.abs()) + ZERO_THRESHOLD_BIN) * LN_GAMMA).exp();
                let middle = upper * 2.0 / (1.0 + LN_GAMMA.exp());
                if number > 0 { middle } else { -middle }
            }
        }
    }
}

/// Bins of a block. A quantile search skips whole blocks first.
const BLOCK_BINS: usize = 64;

/// Histogram of the values in a span (`after_ms`, `until_ms`]. Counts are whole numbers, so
/// adding and removing a value leaves no trace.
#[derive(Debug)]
pub(super) struct ValueCounts {
    bins: QuantileBins,
    pub(super) after_ms: i64,
    pub(super) until_ms: i64,
    /// Number of the first block; bin n is in block ⌊n/64⌋.
    first: i32,
    blocks: VecDeque<[u32; BLOCK_BINS]>,
    /// Number of values in each block.
    totals: VecDeque<u32>,
    total: u32,
}

impl ValueCounts {
    pub(super) fn new(bins: QuantileBins) -> Self {
        let (blocks, totals) = (VecDeque::new(), VecDeque::new());
        Self { bins, after_ms: 0, until_ms: 0, first: 0, blocks, totals, total: 0 }
    }

    pub(super) fn contains_time(&self, event_ms: i64) -> bool {
        self.after_ms < event_ms && event_ms <= self.until_ms
    }

    /// Returns the number of counted readings.
    pub(super) const fn total(&self) -> usize {
        self.total as usize
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.totals.clear();
        self.total = 0;
    }

    pub(super) fn add_value(&mut self, value: f64) {
        let number = self.bins.bin_number(value);
        let block = number.div_euclid(BLOCK_BINS as i32);
        if self.blocks.is_empty() {
            self.first = block;
        }
        while block < self.first {
            self.blocks.push_front([0; BLOCK_BINS]);
            self.totals.push_front(0);
            self.first -= 1;
        }
        let at = (block - self.first) as usize;
        if at >= self.blocks.len() {
            self.blocks.resize(at + 1, [0; BLOCK_BINS]);
            self.totals.resize(at + 1, 0);
        }
        self.blocks[at][number.rem_euclid(BLOCK_BINS as i32) as usize] += 1;
        self.totals[at] += 1;
        self.total += 1;
    }

    pub(super) fn remove_value(&mut self, value: f64) {
        let number = self.bins.bin_number(value);
        let at = (number.div_euclid(BLOCK_BINS as i32) - self.first) as usize;
        self.blocks[at][number.rem_euclid(BLOCK_BINS as i32) as usize] -= 1;
        self.totals[at] -= 1;
        self.total -= 1;
    }

    /// Returns the smallest value v such that at least a share `q` of the values is ≤ v.
    pub(super) fn quantile(&self, q: f64) -> Option<f64> {
        let rank = ((f64::from(self.total) * q).ceil() as u32).max(1);
        let mut seen = 0;
        let block = self.totals.iter().position(|total| {
            let is_here = seen + total >= rank;
            seen += if is_here { 0 } else { *total };
            is_here
        })?;
        let within = self.blocks[block].iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        let number = (self.first + block as i32) * BLOCK_BINS as i32 + within as i32;
        Some(self.bins.bin_value(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted(bins: QuantileBins, values: &[f64]) -> ValueCounts {
        let mut counts = ValueCounts::new(bins);
        values.iter().for_each(|value| counts.add_value(*value));
        counts
    }

    fn nearest_rank(values: &[f64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[((values.len() as f64 * q).ceil() as usize).max(1) - 1]
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(ValueCounts::new(QuantileBins::Even(0.1)).quantile(0.5), None);
        let mut gone = counted(QuantileBins::Relative, &[3.0]);
        gone.remove_value(3.0);
        assert_eq!(gone.quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn exact_at_the_sensors_resolution(tenths in prop::collection::vec(-400..600_i32, 1..200), q in 0.0..=1.0_f64) {
            let values: Vec<f64> = tenths.iter().map(|t| f64::from(*t) / 10.0).collect();
            let found = counted(QuantileBins::Even(0.1), &values).quantile(q).unwrap();
            prop_assert!((found - nearest_rank(&values, q)).abs() < 1e-9);
        }

        #[test]
        fn within_half_a_percent_else(values in prop::collection::vec(-1e5..1e5_f64, 1..200), q in 0.0..=1.0_f64) {
            let found = counted(QuantileBins::Relative, &values).quantile(q).unwrap();
            let expect = nearest_rank(&values, q);
            prop_assert!((found - expect).abs() <= 0.00501 * expect.abs() + ZERO_THRESHOLD, "{found}, {expect}");
        }

        #[test]
        fn what_comes_and_goes_leaves_nothing(stay in prop::collection::vec(-50.0..50.0_f64, 1..50), go in prop::collection::vec(-500.0..500.0_f64, 0..50), q in 0.0..=1.0_f64) {
            let mut counts = counted(QuantileBins::Relative, &go);
            stay.iter().for_each(|value| counts.add_value(*value));
            go.iter().for_each(|value| counts.remove_value(*value));
            prop_assert_eq!(counts.quantile(q), counted(QuantileBins::Relative, &stay).quantile(q));
        }
    }
}
