use super::{
    sorted_readings::SortedReadings,
    time_blocks::TimeBlocks,
    window_summary::{HoldDuration, WindowSummary},
};

/// Minutes of a block at most.
const BLOCK_MINUTES_MAX: i64 = 240;

/// The summary of a window that moves from minute to minute, at one merge a step and
/// two a minute of a block: time is cut into blocks; a window is the end of one block,
/// whole blocks, and the beginning of another. All but the beginning is summed up once
/// for all minutes of a block, backwards; the beginning grows. M. van Herk, Pattern
/// Recognition Letters 13(7), 1992; J. Gil, M. Werman, IEEE PAMI 15(5), 1993, for minima.
///
/// Where blocks begin depends on the clock alone, so equal readings give equal
/// bits, wherever the window was before.
///
/// Minutes are numbered: k is (k·60,000 ms, (k + 1)·60,000 ms].
#[derive(Debug)]
pub(super) struct SlidingWindow {
    hold: HoldDuration,
    /// The block that `heads` are of.
    first: Option<i64>,
    /// `heads[i]`: from minute i of the first block to its end.
    heads: Vec<WindowSummary>,
    /// The blocks that `middle` sums up: from this one to before that one.
    between: Option<(i64, i64)>,
    /// The whole blocks between the first and the last one. Apart from `heads`, so that a
    /// late reading in one of them does not cost the sums of a whole block again.
    middle: WindowSummary,
}

/// Minutes of a block for a window of so many minutes.
pub(super) fn block_minutes_for(minutes: i64) -> i64 {
    minutes.clamp(1, BLOCK_MINUTES_MAX)
}

impl SlidingWindow {
    pub(super) fn new(hold: HoldDuration) -> Self {
        let middle = WindowSummary::default();
        Self { hold, first: None, heads: Vec::new(), between: None, middle }
    }

    /// The summary of minutes `from` to `end` − 1; `blocks` have been advanced to `end`.
    pub(super) fn summarize_window(
        &mut self,
        readings: &SortedReadings,
        blocks: &mut TimeBlocks,
        from: i64,
        end: i64,
    ) -> WindowSummary {
        let (first, last) = (from.div_euclid(blocks.minutes()), end.div_euclid(blocks.minutes()));
        if first == last {
            let mut sum = WindowSummary::default();
            readings.for_each_minute(from, end, |_, minute| sum.merge(minute, self.hold));
            return sum;
        }
        if self.first != Some(first) {
            self.sum_first_block(readings, blocks, first);
        }
        if self.between != Some((first + 1, last)) {
            self.middle = blocks.sum_whole_blocks(readings, first + 1, last);
            self.between = Some((first + 1, last));
        }
        let mut all = self.heads[from.rem_euclid(blocks.minutes()) as usize];
        all.merge(&self.middle, self.hold);
        all.merge(blocks.partial_summary(), self.hold);
        all
    }

    fn sum_first_block(&mut self, readings: &SortedReadings, blocks: &TimeBlocks, first: i64) {
        let (start, heads) = (first * blocks.minutes(), &mut self.heads);
        heads.clear();
        heads.resize(blocks.minutes() as usize, WindowSummary::default());
        readings.for_each_minute(start, start + blocks.minutes(), |minute, summary| {
            heads[(minute - start) as usize] = *summary;
        });
        for i in (1..heads.len()).rev() {
            let later = heads[i];
            heads[i - 1].merge(&later, self.hold);
        }
        self.first = Some(first);
    }

    /// Reads, and does nothing with, what [`SlidingWindow::sum`] will need of the heads: it
    /// was last near the processor a minute of all zones ago. Reads that do not wait for
    /// one another fetch from memory side by side.
    pub(super) fn prefetch_head(&self, blocks: &TimeBlocks, from: i64) {
        let (block, minute) =
            (from.div_euclid(blocks.minutes()), from.rem_euclid(blocks.minutes()));
        if self.first == Some(block) {
            std::hint::black_box(self.heads[minute as usize]);
        }
    }

    /// A reading of a minute came or went.
    pub(super) fn invalidate_minute(&mut self, blocks: &TimeBlocks, minute: i64) {
        let block = minute.div_euclid(blocks.minutes());
        self.first = self.first.filter(|first| *first != block);
        self.between = self.between.filter(|(first, last)| !(*first..*last).contains(&block));
    }

    /// The readings before a minute were forgotten.
    pub(super) fn forget_before(&mut self, blocks: &TimeBlocks, minute: i64) {
        let is_kept = |block: i64| block * blocks.minutes() >= minute;
        self.first = self.first.filter(|first| is_kept(*first));
        self.between = self.between.filter(|(first, _)| is_kept(*first));
    }
}
