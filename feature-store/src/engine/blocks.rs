use std::collections::BTreeMap;

use super::{
    readings::Readings,
    summary::{Hold, Summary},
};

/// Time cut into blocks of so many minutes, by the clock: the sums of whole blocks, and
/// of the minutes of the newest that have been. Windows of one length of block share them.
#[derive(Debug)]
pub(super) struct Blocks {
    minutes: i64,
    hold: Hold,
    /// Of the minutes of its block before this one is `beginning`.
    until: Option<i64>,
    beginning: Summary,
    /// Whether whole blocks are asked for.
    has_totals: bool,
    /// Of whole blocks, by number.
    totals: BTreeMap<i64, Summary>,
}

impl Blocks {
    /// Nothing summed up yet.
    pub(super) fn new(minutes: i64, hold: Hold) -> Self {
        Self {
            minutes,
            hold,
            until: None,
            beginning: Summary::default(),
            has_totals: false,
            totals: BTreeMap::new(),
        }
    }

    /// Minutes of a block.
    pub(super) const fn minutes(&self) -> i64 {
        self.minutes
    }

    /// Whole blocks will be asked for.
    pub(super) const fn keep_totals(&mut self) {
        self.has_totals = true;
    }

    /// The sum of the block's minutes before the one that was last advanced to.
    pub(super) const fn beginning(&self) -> &Summary {
        &self.beginning
    }

    /// Sums up the block of minute `end` until there. Most often one minute has passed,
    /// which all lengths of blocks share.
    pub(super) fn advance(&mut self, readings: &Readings, end: i64, passed: &mut Option<Summary>) {
        if self.until == Some(end) {
            return;
        }
        let start = end.div_euclid(self.minutes) * self.minutes;
        let from = match self.until {
            Some(until) if (start..end).contains(&until) => until,
            until => {
                if until.is_some_and(|until| until < start) {
                    self.finish(readings);
                }
                self.beginning = Summary::default();
                start
            }
        };
        let (sum, hold) = (&mut self.beginning, self.hold);
        if from + 1 == end {
            sum.merge(passed.get_or_insert_with(|| readings.minute(from)), hold);
        } else {
            readings.each_minute(from, end, |_, minute| sum.merge(minute, hold));
        }
        self.until = Some(end);
    }

    /// The beginning of a block goes on to its end.
    fn finish(&mut self, readings: &Readings) {
        let Some(until) = self.until.filter(|_| self.has_totals) else { return };
        let block = until.div_euclid(self.minutes);
        let mut sum = self.beginning;
        let end = (block + 1) * self.minutes;
        readings.each_minute(until, end, |_, minute| sum.merge(minute, self.hold));
        self.totals.insert(block, sum);
    }

    /// The sum of blocks `from` to `end` − 1.
    pub(super) fn whole(&mut self, readings: &Readings, from: i64, end: i64) -> Summary {
        let mut sum = Summary::default();
        for block in from..end {
            let total = self.totals.entry(block).or_insert_with(|| {
                let mut total = Summary::default();
                let (from, end) = (block * self.minutes, (block + 1) * self.minutes);
                readings.each_minute(from, end, |_, minute| total.merge(minute, self.hold));
                total
            });
            sum.merge(total, self.hold);
        }
        sum
    }

    /// A reading of a minute came or went.
    pub(super) fn changed(&mut self, minute: i64) {
        let block = minute.div_euclid(self.minutes);
        if self.until.is_some_and(|end| minute < end && block == end.div_euclid(self.minutes)) {
            self.until = None;
        }
        self.totals.remove(&block);
    }

    /// The readings before a minute were forgotten.
    pub(super) fn forget(&mut self, minute: i64) {
        let is_gone = |block: i64| block * self.minutes < minute;
        self.until = self.until.filter(|end| !is_gone(end.div_euclid(self.minutes)));
        self.totals.retain(|block, _| !is_gone(*block));
    }
}
