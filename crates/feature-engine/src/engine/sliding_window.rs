use super::{
    sorted_readings::SortedReadings,
    time_blocks::TimeBlocks,
    window_summary::{HoldDuration, WindowSummary},
};

/// Largest number of minutes in a block.
const BLOCK_MINUTES_MAX: i64 = 240;

/// Summary of a window that moves from minute to minute, at one merge a step and two merges per
/// minute of a block. Time is cut into blocks, and a window is the end of one block, whole
/// blocks, and the beginning of another. The end is summed up once for all minutes of a block,
/// backwards; the beginning grows. Sources, for minima: M. van Herk, Pattern Recognition Letters
/// 13(7), 1992; J. Gil, M. Werman, IEEE PAMI 15(5), 1993.
///
/// Block borders depend on the clock alone, so equal readings give equal bits, wherever the
/// window was before.
///
/// Minutes are numbered: k is (k·60,000 ms, (k + 1)·60,000 ms].
#[derive(Debug)]
pub(super) struct SlidingWindow {
    hold: HoldDuration,
    /// Number of the block that `heads` belongs to.
    first: Option<i64>,
    /// `heads[i]` sums up minute i of the first block to its end.
    heads: Vec<WindowSummary>,
    /// Blocks that `middle` sums up: from the first number to before the second.
    between: Option<(i64, i64)>,
    /// Sum of the whole blocks between the first and the last one. It is separate from `heads`,
    /// so that a late reading in one of them does not cost the sums of a whole block again.
    middle: WindowSummary,
}

/// Minutes of a block for a window of this many minutes.
pub(super) fn block_minutes_for(minutes: i64) -> i64 {
    minutes.clamp(1, BLOCK_MINUTES_MAX)
}

impl SlidingWindow {
    pub(super) fn new(hold: HoldDuration) -> Self {
        let middle = WindowSummary::default();
        Self { hold, first: None, heads: Vec::new(), between: None, middle }
    }

    /// Summarises minutes `from` to `end` − 1; `blocks` must have been advanced to `end`.
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

    /// Reads the heads that [`SlidingWindow::summarize_window`] will need, to bring them into the
    /// processor's cache. They were last used one pass over all zones ago. Reads that do not
    /// depend on one another overlap.
    pub(super) fn prefetch_head(&self, blocks: &TimeBlocks, from: i64) {
        let (block, minute) =
            (from.div_euclid(blocks.minutes()), from.rem_euclid(blocks.minutes()));
        if self.first == Some(block) {
            std::hint::black_box(self.heads[minute as usize]);
        }
    }

    /// Drops sums that contain a minute in which a reading was inserted or removed.
    pub(super) fn invalidate_minute(&mut self, blocks: &TimeBlocks, minute: i64) {
        let block = minute.div_euclid(blocks.minutes());
        self.first = self.first.filter(|first| *first != block);
        self.between = self.between.filter(|(first, last)| !(*first..*last).contains(&block));
    }

    /// Drops sums that contain removed readings, which are those before a minute.
    pub(super) fn forget_before(&mut self, blocks: &TimeBlocks, minute: i64) {
        let is_kept = |block: i64| block * blocks.minutes() >= minute;
        self.first = self.first.filter(|first| is_kept(*first));
        self.between = self.between.filter(|(first, _)| is_kept(*first));
    }
}
