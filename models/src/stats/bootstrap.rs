//! Intervals from blocks of rows. Neighbouring rows are correlated, so they are drawn together.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;

use super::dependence::{dependence_length, few_blocks_factor};

/// How blocks are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockScheme {
    /// Blocks lie between the first and the last row; rows at the ends are drawn less often. H. R.
    /// Künsch, Ann. Statist. 17(3), 1989.
    Moving,
    /// Blocks may start at any row; the first row follows the last. D. N. Politis, J. P. Romano, "A
    /// circular block-resampling procedure for stationary data", 1992.
    Circular,
}

/// Block bootstrap.
#[derive(Clone, Copy, Debug)]
pub struct BlockBootstrap {
    /// Scheme by which blocks are cut.
    pub blocks: BlockScheme,
    /// Number of rows per block: at least the number over which rows are correlated.
    pub length: usize,
    /// Number of draws.
    pub draws: usize,
    /// Seed; the same seed gives the same interval.
    pub seed: u64,
}

impl BlockBootstrap {
    /// Creates a bootstrap with 1,000 draws of circular blocks. Their length minimises the error of
    /// a mean's variance up to a factor: ⌈rows^(1/3)⌉, and at least `horizon`, over which
    /// predictions overlap. P. Hall, J. L. Horowitz, B.-Y. Jing, Biometrika 82(3), 1995.
    #[must_use]
    pub fn for_rows(rows: usize, horizon: usize, seed: u64) -> Self {
        let length = ((rows as f64).cbrt().ceil() as usize).max(horizon).max(1);
        Self { blocks: BlockScheme::Circular, length, draws: 1000, seed }
    }

    /// 1,000 draws of circular blocks, as long as the data says that rows are alike: see
    /// [`dependence_length`].
    #[must_use]
    pub fn for_values(values: &[f64], horizon: usize, seed: u64) -> Self {
        let length = dependence_length(values, horizon);
        Self { blocks: BlockScheme::Circular, length, draws: 1000, seed }
    }

    /// The interval between the quantiles (1 ± `level`)/2 of `statistic` over
    /// rows drawn in blocks (B. Efron, R. Tibshirani, "An Introduction to the
    /// Bootstrap", 1993, chapter 13), widened around its value for all rows where there
    /// are few blocks (see [`few_blocks_factor`]). It is called with row numbers, as many
    /// as `rows`; draws for which it is not finite are passed over. None without
    /// any row or draw.
    ///
    /// ```
    /// use microclimate_models::stats::bootstrap::BlockBootstrap;
    ///
    /// let errors: Vec<f64> = (0..500).map(|i| f64::from(i % 10)).collect();
    /// let mean = |rows: &[usize]| rows.iter().map(|i| errors[*i]).sum::<f64>() / 500.0;
    /// let (low, high) = BlockBootstrap::for_rows(500, 1, 7).percentile_interval(500, 0.95, mean).unwrap();
    /// assert!(low < 4.5 && 4.5 < high && high - low < 0.5);
    /// ```
    #[must_use]
    pub fn percentile_interval(
        &self,
        rows: usize,
        level: f64,
        statistic: impl Fn(&[usize]) -> f64 + Sync,
    ) -> Option<(f64, f64)> {
        if rows == 0 {
            return None;
        }
        let all: Vec<usize> = (0..rows).collect();
        let draw = |draw| statistic(&self.draw_rows(rows, draw));
        self.interval_of_draws(rows, level, statistic(&all), draw)
    }

    /// The same of a statistic of totals: each of `columns` has one number a row, and
    /// `statistic` is called with the totals of the drawn rows, one a column. Its cost
    /// is that of the blocks and not of the rows. None without any row or draw.
    #[must_use]
    pub fn totals_interval(
        &self,
        columns: &[&[f64]],
        level: f64,
        statistic: impl Fn(&[f64]) -> f64 + Sync,
    ) -> Option<(f64, f64)> {
        let rows = columns.first().map_or(0, |column| column.len());
        if rows == 0 {
            return None;
        }
        // Sums up to each row, over the rows twice: blocks go on at the first row.
        let sums: Vec<Vec<f64>> = columns
            .iter()
            .map(|column| {
                let mut sum = 0.0;
                let twice = column.iter().chain(*column).map(|value| {
                    sum += value;
                    sum
                });
                std::iter::once(0.0).chain(twice).collect()
            })
            .collect();
        let draw = |draw| {
            let mut totals = vec![0.0; sums.len()];
            for (start, length) in self.draw_blocks(rows, draw) {
                for (total, sums) in totals.iter_mut().zip(&sums) {
                    *total += sums[start + length] - sums[start];
                }
            }
            statistic(&totals)
        };
        let all: Vec<f64> = sums.iter().map(|sums| sums[rows]).collect();
        self.interval_of_draws(rows, level, statistic(&all), draw)
    }

    fn interval_of_draws(
        &self,
        rows: usize,
        level: f64,
        value: f64,
        draw: impl Fn(u64) -> f64 + Sync,
    ) -> Option<(f64, f64)> {
        let draws: Vec<f64> = (0..self.draws as u64).into_par_iter().map(&draw).collect();
        let mut draws: Vec<f64> = draws.into_iter().filter(|value| value.is_finite()).collect();
        draws.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * draws.len() as f64).floor() as usize;
            draws.get(rank.min(draws.len().checked_sub(1)?)).copied()
        };
        let (low, high) = (at((1.0 - level) / 2.0)?, at(f64::midpoint(1.0, level))?);
        if !value.is_finite() {
            return Some((low, high));
        }
        let factor = few_blocks_factor(self.length.clamp(1, rows), rows, level);
        // A draw's own bias is no reason to leave out what was drawn.
        let wide_low = (value - factor * (value - low)).min(low);
        let wide_high = (value + factor * (high - value)).max(high);
        // What is never below 0, as an error, is not in an interval either.
        let least = if draws[0] >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        Some((wide_low.max(least), wide_high))
    }

    /// Draws as many row indices as there are rows, in blocks.
    fn draw_rows(&self, rows: usize, draw: u64) -> Vec<usize> {
        let blocks = self.draw_blocks(rows, draw).into_iter();
        blocks.flat_map(|(start, length)| (start..start + length).map(|row| row % rows)).collect()
    }

    /// First row and length of each block; a block that reaches beyond the last row goes
    /// on at the first.
    fn draw_blocks(&self, rows: usize, draw: u64) -> Vec<(usize, usize)> {
        let mut rng = Pcg64::seed_from_u64(self.seed ^ draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let length = self.length.clamp(1, rows);
        let starts = match self.blocks {
            BlockScheme::Moving => rows - length + 1,
            BlockScheme::Circular => rows,
        };
        let mut left = rows;
        let mut blocks = Vec::with_capacity(rows.div_ceil(length));
        while left > 0 {
            let start = rng.random_range(0..starts);
            blocks.push((start, length.min(left)));
            left -= length.min(left);
        }
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn rows_come_in_blocks() {
        let check = |blocks, rows: usize, length: usize| {
            let drawn = BlockBootstrap { blocks, length, draws: 1, seed: 3 }.draw_rows(rows, 0);
            assert_eq!(drawn.len(), rows);
            assert!(drawn.iter().all(|row| *row < rows));
            for block in drawn.chunks(length) {
                for pair in block.windows(2) {
                    let next = pair[0] + 1;
                    assert!(pair[1] == next || (blocks == BlockScheme::Circular && next == rows));
                }
            }
        };
        check(BlockScheme::Moving, 20, 6);
        check(BlockScheme::Circular, 20, 6);
        check(BlockScheme::Moving, 3, 3);
        check(BlockScheme::Circular, 1, 1);
    }

    #[test]
    fn totals_are_those_of_the_drawn_rows() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i * i % 37)).collect();
        let bootstrap = BlockBootstrap::for_rows(200, 7, 1);
        let by_rows = bootstrap
            .percentile_interval(200, 0.9, |rows| rows.iter().map(|i| values[*i]).sum::<f64>());
        let by_totals = bootstrap.totals_interval(&[&values], 0.9, |totals| totals[0]);
        let ((low, high), (other_low, other_high)) = (by_rows.unwrap(), by_totals.unwrap());
        assert!((low - other_low).abs() < 1e-6 && (high - other_high).abs() < 1e-6);
        assert_eq!(bootstrap.totals_interval(&[&[]], 0.9, |totals| totals[0]), None);
    }

    #[test]
    fn is_the_same_on_any_number_of_threads() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i * i % 37)).collect();
        let mean = |rows: &[usize]| rows.iter().map(|i| values[*i]).sum::<f64>();
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| BlockBootstrap::for_rows(200, 5, 1).percentile_interval(200, 0.9, mean))
        };
        assert!(on(1).is_some());
        assert_eq!(on(1), on(4));
        assert_eq!(BlockBootstrap::for_rows(200, 5, 1).percentile_interval(0, 0.9, mean), None);
    }

    /// Autoregressive noise with coefficient 0.8, on which drawing single rows gives too narrow
    /// intervals.
    #[test]
    fn blocks_cover_where_single_rows_do_not() {
        let mut rng = Pcg64::seed_from_u64(5);
        let (mut by_blocks, mut by_rows) = (0, 0);
        for seed in 0..100 {
            let mut last = 0.0;
            let values: Vec<f64> = std::iter::repeat_with(|| {
                let noise: f64 = StandardNormal.sample(&mut rng);
                last = 0.8 * last + noise;
                last
            })
            .take(400)
            .collect();
            let mean = |rows: &[usize]| rows.iter().map(|i| values[*i]).sum::<f64>();
            let covers = |length| {
                let bootstrap =
                    BlockBootstrap { blocks: BlockScheme::Circular, length, draws: 200, seed };
                let (low, high) = bootstrap.percentile_interval(400, 0.9, mean).unwrap();
                usize::from(low <= 0.0 && 0.0 <= high)
            };
            by_blocks += covers(25);
            by_rows += covers(1);
        }
        assert!(by_blocks >= 78 && by_rows <= 60, "{by_blocks} and {by_rows} of 100 for 90 %");
    }
}
