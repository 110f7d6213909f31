use std::collections::BTreeMap;

use super::{
    sorted_readings::SortedReadings,
    window_summary::{HoldDuration, WindowSummary},
};

/// Minutes between two checkpoints within a block.
const CHECKPOINT_MINUTES: i64 = 16;

/// Time cut into blocks of a fixed number of minutes, by the clock: the sums of whole blocks, and
/// the sum of the newest block so far. Windows with the same block length share them.
#[derive(Debug)]
pub(super) struct TimeBlocks {
    minutes: i64,
    hold: HoldDuration,
    /// Minute up to which `beginning` sums up its block; this minute is excluded.
    until: Option<i64>,
    beginning: WindowSummary,
    /// Sums up to earlier minutes of that block, so that a late reading or an earlier row does
    /// not cost the whole block again.
    checkpoints: Vec<(i64, WindowSummary)>,
    /// Whether sums of whole blocks are needed.
    has_totals: bool,
    /// Sums of whole blocks, by block number.
    totals: BTreeMap<i64, WindowSummary>,
}

impl TimeBlocks {
    /// Creates blocks without sums.
    pub(super) fn new(minutes: i64, hold: HoldDuration) -> Self {
        Self {
            minutes,
            hold,
            until: None,
            beginning: WindowSummary::default(),
            checkpoints: Vec::new(),
            has_totals: false,
            totals: BTreeMap::new(),
        }
    }

    /// Returns the minutes of a block.
    pub(super) const fn minutes(&self) -> i64 {
        self.minutes
    }

    /// Enables sums of whole blocks.
    pub(super) const fn enable_totals(&mut self) {
        self.has_totals = true;
    }

    /// Returns the sum of the block's minutes before the one that was last advanced to.
    pub(super) const fn partial_summary(&self) -> &WindowSummary {
        &self.beginning
    }

    /// Sums up the block of minute `end`, up to that minute. Usually one minute has passed;
    /// blocks of all lengths share its summary through `passed`.
    pub(super) fn advance_to(
        &mut self,
        readings: &SortedReadings,
        end: i64,
        passed: &mut Option<WindowSummary>,
    ) {
        if self.until == Some(end) {
            return;
        }
        let start = end.div_euclid(self.minutes) * self.minutes;
        let from = match self.until {
            Some(until) if (start..end).contains(&until) => until,
            until => {
                if until.is_some_and(|until| until < start) {
                    self.complete_block(readings);
                }
                self.rewind_to_checkpoint(start, end)
            }
        };
        let hold = self.hold;
        if from + 1 == end {
            self.beginning
                .merge(passed.get_or_insert_with(|| readings.summarize_minute(from)), hold);
            if end % CHECKPOINT_MINUTES == 0 && end > start {
                self.checkpoints.push((end, self.beginning));
            }
        } else {
            let (sum, checkpoints) = (&mut self.beginning, &mut self.checkpoints);
            let mut next = (from.div_euclid(CHECKPOINT_MINUTES) + 1) * CHECKPOINT_MINUTES;
            readings.for_each_minute(from, end, |minute, summary| {
                while next <= minute {
                    checkpoints.push((next, *sum));
                    next += CHECKPOINT_MINUTES;
                }
                sum.merge(summary, hold);
            });
            while next <= end {
                checkpoints.push((next, *sum));
                next += CHECKPOINT_MINUTES;
            }
        }
        self.until = Some(end);
    }

    /// Rewinds to the latest checkpoint of the block from `start` that is not after `end`, or
    /// else to the block's start. Returns the minute.
    fn rewind_to_checkpoint(&mut self, start: i64, end: i64) -> i64 {
        let is_of_block = self.checkpoints.last().is_some_and(|(minute, _)| {
            (minute - 1).div_euclid(self.minutes) * self.minutes == start
        });
        if !is_of_block {
            self.checkpoints.clear();
        }
        while self.checkpoints.last().is_some_and(|(minute, _)| *minute > end) {
            self.checkpoints.pop();
        }
        let (from, sum) =
            self.checkpoints.last().copied().unwrap_or((start, WindowSummary::default()));
        self.beginning = sum;
        from
    }

    /// Extends the beginning of a block to the sum of the whole block.
    fn complete_block(&mut self, readings: &SortedReadings) {
        let Some(until) = self.until.filter(|_| self.has_totals) else { return };
        let block = until.div_euclid(self.minutes);
        let mut sum = self.beginning;
        let end = (block + 1) * self.minutes;
        readings.for_each_minute(until, end, |_, minute| sum.merge(minute, self.hold));
        self.totals.insert(block, sum);
    }

    /// Returns the sum of blocks `from` to `end` − 1.
    pub(super) fn sum_whole_blocks(
        &mut self,
        readings: &SortedReadings,
        from: i64,
        end: i64,
    ) -> WindowSummary {
        let mut sum = WindowSummary::default();
        for block in from..end {
            let total = self.totals.entry(block).or_insert_with(|| {
                let mut total = WindowSummary::default();
                let (from, end) = (block * self.minutes, (block + 1) * self.minutes);
                readings.for_each_minute(from, end, |_, minute| total.merge(minute, self.hold));
                total
            });
            sum.merge(total, self.hold);
        }
        sum
    }

    /// Drops sums that contain a minute in which a reading was inserted or removed.
    pub(super) fn invalidate_minute(&mut self, minute: i64) {
        let block = minute.div_euclid(self.minutes);
        if self.until.is_some_and(|end| minute < end && block == end.div_euclid(self.minutes)) {
            self.until = None;
        }
        while self.checkpoints.last().is_some_and(|(end, _)| *end > minute) {
            self.checkpoints.pop();
        }
        self.totals.remove(&block);
    }

    /// Drops sums that contain removed readings, which are those before a minute.
    pub(super) fn forget_before(&mut self, minute: i64) {
        let is_gone = |block: i64| block * self.minutes < minute;
        self.until = self.until.filter(|end| !is_gone(end.div_euclid(self.minutes)));
        if self
            .checkpoints
            .first()
            .is_some_and(|(end, _)| is_gone((end - 1).div_euclid(self.minutes)))
        {
            self.checkpoints.clear();
        }
        self.totals.retain(|block, _| !is_gone(*block));
    }
}
