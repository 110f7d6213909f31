use std::collections::BTreeMap;

use super::{
    readings::Readings,
    summary::{Hold, Summary},
};

/// Minutes of a block at most.
const BLOCK_MINUTES_MAX: i64 = 240;

/// The summary of a window that moves from minute to minute, at three merges a
/// step: time is cut into blocks; a window is the end of one block, whole blocks,
/// and the beginning of another. Ends of a block are summed up once, backwards;
/// its beginning grows. M. van Herk, Pattern Recognition Letters 13(7), 1992; J.
/// Gil, M. Werman, IEEE PAMI 15(5), 1993, for minima.
///
/// Where blocks begin depends on the clock alone, so equal readings give equal
/// bits, wherever the window was before.
///
/// Minutes are numbered: k is (k·60,000 ms, (k + 1)·60,000 ms].
#[derive(Debug)]
pub(super) struct Sliding {
    /// Minutes of a block.
    block: i64,
    hold: Hold,
    ends: Ends,
    middle: Middle,
    beginning: Beginning,
    /// Of whole blocks, by number.
    totals: BTreeMap<i64, Summary>,
    /// No minute from this one on is in anything that is kept here.
    asked_end: i64,
}

/// `sums[i]`: from the block's minute i to its last.
#[derive(Debug, Default)]
struct Ends {
    block: Option<i64>,
    sums: Vec<Summary>,
}

/// Blocks `from` to `end` − 1.
#[derive(Debug, Default)]
struct Middle {
    span: Option<(i64, i64)>,
    sum: Summary,
}

/// A block's minutes before minute `until`.
#[derive(Debug, Default)]
struct Beginning {
    block: Option<i64>,
    until: i64,
    sum: Summary,
}

impl Sliding {
    /// For a window of so many minutes.
    pub(super) fn new(minutes: i64, hold: Hold) -> Self {
        Self {
            block: minutes.clamp(1, BLOCK_MINUTES_MAX),
            hold,
            ends: Ends::default(),
            middle: Middle::default(),
            beginning: Beginning::default(),
            totals: BTreeMap::new(),
            asked_end: i64::MIN,
        }
    }

    /// The summary of minutes `from` to `end` − 1.
    pub(super) fn sum(&mut self, readings: &mut Readings, from: i64, end: i64) -> Summary {
        self.asked_end = self.asked_end.max(end);
        let (first, last) = (from.div_euclid(self.block), end.div_euclid(self.block));
        if first == last {
            return self.fold(readings, Summary::default(), from, end);
        }
        let hold = self.hold;
        let mut all = self.end_of(readings, first, from);
        all.merge(self.whole(readings, first + 1, last), hold);
        all.merge(self.beginning_of(readings, last, end), hold);
        all
    }

    /// Reads, and does nothing with, what [`Sliding::sum`] will need of the end of a
    /// block: it was last near the processor a minute of all zones ago. Reads that do
    /// not wait for one another fetch from memory side by side.
    pub(super) fn fetch(&self, from: i64) {
        let (block, minute) = (from.div_euclid(self.block), from.rem_euclid(self.block));
        if self.ends.block == Some(block) {
            std::hint::black_box(self.ends.sums[minute as usize]);
        }
    }

    /// A reading of a minute came or went.
    pub(super) fn changed(&mut self, minute: i64) {
        if minute >= self.asked_end {
            return;
        }
        let block = minute.div_euclid(self.block);
        if self.ends.block == Some(block) {
            self.ends.block = None;
        }
        if self.middle.span.is_some_and(|(from, end)| (from..end).contains(&block)) {
            self.middle.span = None;
        }
        if self.beginning.block == Some(block) && minute < self.beginning.until {
            self.beginning.block = None;
        }
        self.totals.remove(&block);
    }

    /// The readings before a minute were forgotten.
    pub(super) fn forget(&mut self, minute: i64) {
        let is_gone = |block: i64| block * self.block < minute;
        self.ends.block = self.ends.block.filter(|block| !is_gone(*block));
        self.middle.span = self.middle.span.filter(|(from, _)| !is_gone(*from));
        self.beginning.block = self.beginning.block.filter(|block| !is_gone(*block));
        self.totals.retain(|block, _| !is_gone(*block));
    }

    fn fold(&self, readings: &mut Readings, mut sum: Summary, from: i64, end: i64) -> Summary {
        readings.each_minute(from, end, |_, minute| sum.merge(minute, self.hold));
        sum
    }

    /// From minute `from` to the last of its block.
    fn end_of(&mut self, readings: &mut Readings, block: i64, from: i64) -> Summary {
        let start = block * self.block;
        if self.ends.block != Some(block) {
            let sums = &mut self.ends.sums;
            sums.clear();
            sums.resize(self.block as usize, Summary::default());
            readings.each_minute(start, start + self.block, |minute, summary| {
                sums[(minute - start) as usize] = *summary;
            });
            for i in (0..sums.len() - 1).rev() {
                let later = sums[i + 1];
                sums[i].merge(&later, self.hold);
            }
            self.ends.block = Some(block);
        }
        self.ends.sums[(from - start) as usize]
    }

    fn whole(&mut self, readings: &mut Readings, from: i64, end: i64) -> &Summary {
        if self.middle.span != Some((from, end)) {
            let mut sum = Summary::default();
            for block in from..end {
                let total = match self.totals.get(&block) {
                    Some(total) => *total,
                    None => self.total(readings, block),
                };
                sum.merge(&total, self.hold);
            }
            self.totals.retain(|block, _| *block >= from);
            self.middle = Middle { span: Some((from, end)), sum };
        }
        &self.middle.sum
    }

    fn total(&mut self, readings: &mut Readings, block: i64) -> Summary {
        let (start, end) = (block * self.block, (block + 1) * self.block);
        // The beginning of a block goes on to its end.
        let total = if self.beginning.block == Some(block) {
            self.fold(readings, self.beginning.sum, self.beginning.until, end)
        } else {
            self.fold(readings, Summary::default(), start, end)
        };
        self.totals.insert(block, total);
        total
    }

    fn beginning_of(&mut self, readings: &mut Readings, block: i64, end: i64) -> &Summary {
        if self.beginning.block != Some(block) || self.beginning.until > end {
            let until = block * self.block;
            self.beginning = Beginning { block: Some(block), until, sum: Summary::default() };
        }
        self.beginning.sum = self.fold(readings, self.beginning.sum, self.beginning.until, end);
        self.beginning.until = end;
        &self.beginning.sum
    }
}
