use std::collections::BTreeMap;

use super::{
    sorted_readings::SortedReadings,
    window_summary::{HoldDuration, WindowSummary},
};

/// Minutes between two checkpoints of a block's beginning.
const CHECKPOINT_MINUTES: i64 = 16;

/// Time cut into blocks of so many minutes, by the clock: the sums of whole blocks, and
/// of the minutes of the newest that have been. Windows of one length of block share them.
#[derive(Debug)]
pub(super) struct TimeBlocks {
    minutes: i64,
    hold: HoldDuration,
    /// Of the minutes of its block before this one is `beginning`.
    until: Option<i64>,
    beginning: WindowSummary,
    /// The same of earlier minutes of that block, so that a late reading, or a row of earlier,
    /// does not cost the whole block again.
    checkpoints: Vec<(i64, WindowSummary)>,
    /// Whether whole blocks are asked for.
    has_totals: bool,
    /// Of whole blocks, by number.
    totals: BTreeMap<i64, WindowSummary>,
}

impl TimeBlocks {
    /// Nothing summed up yet.
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

    /// Minutes of a block.
    pub(super) const fn minutes(&self) -> i64 {
        self.minutes
    }

    /// Whole blocks will be asked for.
    pub(super) const fn enable_totals(&mut self) {
        self.has_totals = true;
    }

    /// The sum of the block's minutes before the one that was last advanced to.
    pub(super) const fn partial_summary(&self) -> &WindowSummary {
        &self.beginning
    }

    /// Sums up the block of minute `end` until there. Most often one minute has passed,
    /// which all lengths of blocks share.
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

    /// Goes back to the latest checkpoint of the block from `start` that is not after `end`, or to
    /// its start; returns the minute.
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

    /// The beginning of a block goes on to its end.
    fn complete_block(&mut self, readings: &SortedReadings) {
        let Some(until) = self.until.filter(|_| self.has_totals) else { return };
        let block = until.div_euclid(self.minutes);
        let mut sum = self.beginning;
        let end = (block + 1) * self.minutes;
        readings.for_each_minute(until, end, |_, minute| sum.merge(minute, self.hold));
        self.totals.insert(block, sum);
    }

    /// The sum of blocks `from` to `end` − 1.
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

    /// A reading of a minute came or went.
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

    /// The readings before a minute were forgotten.
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
