use std::collections::VecDeque;

use super::{
    MINUTE_MS,
    summary::{Hold, Summary},
};

/// Tiles of one level under one tile of the next.
const RADIX: i64 = 4;
/// Tiles of 1, 4, 16, 64, 256 and 1,024 minutes.
const LEVELS: usize = 6;
/// Minutes of a tile of the highest level.
const WIDEST: i64 = RADIX.pow(LEVELS as u32 - 1);

/// Summaries of whole minutes, and of powers of four of them. Tile k of a level
/// whose tiles are w wide covers (k·w, (k + 1)·w].
///
/// Which tiles make up a span, and in which order they merge, depends on the
/// span alone, so equal readings give equal bits whatever was asked before. A
/// week is at most 46 of them.
#[derive(Debug, Default)]
pub(super) struct Tiers {
    hold: Hold,
    levels: [Tier; LEVELS],
}

/// Tiles of one width, without gaps from number `first` on. Above the lowest
/// level a tile is made when it is first asked for, and not there until then.
#[derive(Debug, Default)]
struct Tier {
    first: i64,
    tiles: VecDeque<Option<Summary>>,
}

impl Tiers {
    pub(super) fn new(hold: Hold) -> Self {
        Self { hold, ..Self::default() }
    }

    /// Whether no minute that there is comes after this one. There may be later
    /// ones whose readings were taken out again.
    pub(super) fn is_newest(&self, minute: i64) -> bool {
        minute + 1 >= self.levels[0].end() || self.levels[0].tiles.is_empty()
    }

    /// Takes a reading that is not older than any before, of the newest minute. No
    /// tile above the lowest level is there yet that covers it: see
    /// [`Tiers::is_closed`].
    pub(super) fn add_newest(&mut self, event_ms: i64, value: f64) {
        let tile = self.levels[0].entry(minute_of(event_ms));
        tile.get_or_insert_default().add(event_ms, value, self.hold);
    }

    /// Puts the summary of a minute in the place of what was there.
    pub(super) fn replace(&mut self, minute: i64, summary: Summary) {
        *self.levels[0].entry(minute) = Some(summary);
        let mut number = minute;
        for tier in &mut self.levels[1..] {
            number = number.div_euclid(RADIX);
            tier.unset(number);
        }
    }

    /// Merges minutes `from` to `end` − 1 into `all`.
    pub(super) fn merge_into(&mut self, all: &mut Summary, from: i64, end: i64) {
        self.merge_level(all, 0, from, end);
    }

    /// Forgets whole tiles of the highest level that lie before a minute.
    /// Returns the first minute that is kept.
    pub(super) fn forget(&mut self, before_minute: i64) -> i64 {
        let mut below = before_minute.div_euclid(WIDEST);
        let kept = below * WIDEST;
        for tier in self.levels.iter_mut().rev() {
            tier.forget(below);
            below *= RADIX;
        }
        kept
    }

    fn merge_level(&mut self, all: &mut Summary, level: usize, from: i64, end: i64) {
        let (up_from, up_end) = (-(-from).div_euclid(RADIX), end.div_euclid(RADIX));
        if level + 1 < LEVELS && up_from < up_end {
            (from..up_from * RADIX).for_each(|number| self.merge_tile(all, level, number));
            self.merge_level(all, level + 1, up_from, up_end);
            (up_end * RADIX..end).for_each(|number| self.merge_tile(all, level, number));
        } else {
            (from..end).for_each(|number| self.merge_tile(all, level, number));
        }
    }

    fn merge_tile(&mut self, all: &mut Summary, level: usize, number: i64) {
        if let Some(known) = self.levels[level].get(number) {
            all.merge(known, self.hold);
        } else if level > 0 && self.has_readings(level, number) {
            let mut made = Summary::default();
            for child in number * RADIX..(number + 1) * RADIX {
                self.merge_tile(&mut made, level - 1, child);
            }
            all.merge(&made, self.hold);
            if self.is_closed(level, number) {
                *self.levels[level].entry(number) = Some(made);
            }
        }
    }

    /// Whether the tile ends before the newest minute, so that a newer reading
    /// cannot change it. An older one goes through [`Tiers::replace`].
    fn is_closed(&self, level: usize, number: i64) -> bool {
        (number + 1) * RADIX.pow(level as u32) < self.levels[0].end()
    }

    /// Whether there is any minute below a tile.
    fn has_readings(&self, level: usize, number: i64) -> bool {
        let width = RADIX.pow(level as u32);
        let minutes = &self.levels[0];
        number * width < minutes.end() && (number + 1) * width > minutes.first
    }
}

impl Tier {
    /// One behind the newest tile.
    fn end(&self) -> i64 {
        self.first + self.tiles.len() as i64
    }

    fn get(&self, number: i64) -> Option<&Summary> {
        self.tiles.get(usize::try_from(number - self.first).ok()?)?.as_ref()
    }

    fn unset(&mut self, number: i64) {
        let at = usize::try_from(number - self.first).ok();
        if let Some(tile) = at.and_then(|at| self.tiles.get_mut(at)) {
            *tile = None;
        }
    }

    fn entry(&mut self, number: i64) -> &mut Option<Summary> {
        if self.tiles.is_empty() {
            self.first = number;
        }
        while number < self.first {
            self.tiles.push_front(None);
            self.first -= 1;
        }
        let at = usize::try_from(number - self.first).expect("not before the first");
        if at >= self.tiles.len() {
            self.tiles.resize(at + 1, None);
        }
        &mut self.tiles[at]
    }

    fn forget(&mut self, below: i64) {
        let gone = usize::try_from(below - self.first).unwrap_or(0).min(self.tiles.len());
        self.tiles.drain(..gone);
        self.first += gone as i64;
    }
}

/// The number of the minute that covers a time: (k·60,000, (k + 1)·60,000].
pub(super) const fn minute_of(event_ms: i64) -> i64 {
    (event_ms - 1).div_euclid(MINUTE_MS)
}
