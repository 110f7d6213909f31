use serde::{Deserialize, Serialize};

/// Shortest time between two recomputations of the same rows, ms.
const WAIT_MIN_MS: i64 = 10_000;
/// Row ages, ms, at which the next class begins: 16 minutes, then four times as much for each
/// class.
const CLASSES_MS: [i64; 5] = [960_000, 3_840_000, 15_360_000, 61_440_000, 245_760_000];

/// Largest difference between the gateway's clock and this machine's that is tolerated, ms.
const CLOCKS_DIFFER_MS: i64 = 3_600_000;

/// Decides when rows that late readings changed are recomputed. After a quiet time that is at
/// once. While readings keep arriving late, the interval doubles (binary exponential backoff, R.
/// M. Metcalfe, D. R. Boggs, "Ethernet", CACM 19(7), 1976), up to half the age at which rows
/// leave their class. Young rows do not wait for old ones, and old rows are not rewritten as
/// often as young ones. So a flushed buffer shows within seconds, and a clock that is always
/// eight hours slow rewrites each row some seven times and not 480.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RecomputeSchedule {
    /// Backoff by age class; a missing class has never been recomputed.
    classes: Vec<RecomputeBackoff>,
}

/// Backoff of one class of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RecomputeBackoff {
    /// When rows were last recomputed, UTC ms.
    last_ms: Option<i64>,
    /// How long to wait from then on, ms.
    wait_ms: i64,
}

/// Rows of one class: older than the newest final row by at least `youngest_ms` and by less than
/// `oldest_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowAgeClass {
    number: usize,
    pub(super) youngest_ms: i64,
    pub(super) oldest_ms: i64,
}

impl RecomputeSchedule {
    pub(super) fn is_default(&self) -> bool {
        self.classes.is_empty()
    }

    /// Iterates over the classes whose rows may be recomputed at `now_ms`, youngest rows first.
    pub(super) fn due_classes(&self, now_ms: i64) -> impl Iterator<Item = RowAgeClass> {
        age_classes().filter(move |class| {
            let backoff = self.classes.get(class.number).copied().unwrap_or_default();
            // A clock that was set back must not make rows wait for ever. Two clocks that differ
            // by less than an hour must not make them due each time.
            let waiting_ms = -CLOCKS_DIFFER_MS..backoff.wait_ms;
            let is_waiting = |last_ms: i64| waiting_ms.contains(&now_ms.saturating_sub(last_ms));
            !backoff.last_ms.is_some_and(is_waiting)
        })
    }

    /// Records that rows of a class were recomputed at `now_ms`.
    pub(super) fn note_recomputed(&mut self, class: RowAgeClass, now_ms: i64) {
        if class.number >= self.classes.len() {
            self.classes.resize(class.number + 1, RecomputeBackoff::default());
        }
        let backoff = &mut self.classes[class.number];
        let longest_ms = CLASSES_MS.get(class.number).map_or(i64::MAX / 4, |ms| ms / 2);
        let longest_ms = longest_ms.min(CLASSES_MS[CLASSES_MS.len() - 1]);
        let passed_ms = backoff.last_ms.map_or(i64::MAX, |last_ms| now_ms.saturating_sub(last_ms));
        let is_quiet = passed_ms < -CLOCKS_DIFFER_MS || passed_ms >= longest_ms.saturating_mul(2);
        let doubled_ms = backoff.wait_ms.saturating_mul(2).min(longest_ms);
        backoff.wait_ms = if is_quiet { WAIT_MIN_MS } else { doubled_ms.max(WAIT_MIN_MS) };
        backoff.last_ms = Some(now_ms);
    }
}

/// Iterates over all classes, youngest rows first.
pub(super) fn age_classes() -> impl Iterator<Item = RowAgeClass> {
    (0..=CLASSES_MS.len()).map(|number| RowAgeClass {
        number,
        youngest_ms: number.checked_sub(1).map_or(i64::MIN / 2, |before| CLASSES_MS[before]),
        oldest_ms: CLASSES_MS.get(number).copied().unwrap_or(i64::MAX / 2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60_000;
    const HOUR_MS: i64 = 3_600_000;

    /// Checks how often the rows of a class are recomputed in a day when readings change them
    /// every `step_ms`.
    fn check(class: usize, step_ms: i64, expect: std::ops::RangeInclusive<i64>) {
        let (mut schedule, mut count) = (RecomputeSchedule::default(), 0);
        let class = age_classes().nth(class).unwrap();
        for now_ms in (0..24 * HOUR_MS).step_by(step_ms as usize) {
            if schedule.due_classes(now_ms).any(|due| due == class) {
                schedule.note_recomputed(class, now_ms);
                count += 1;
            }
        }
        assert!(expect.contains(&count), "{count}");
    }

    #[test]
    fn who_is_always_late_is_served_twice_an_age() {
        check(0, 5_000, 180..=186); // up to 16 minutes old: each eight minutes
        check(1, MINUTE_MS, 45..=54); // up to 64 minutes old
        check(3, MINUTE_MS, 10..=16); // up to 17 hours old
        check(5, MINUTE_MS, 8..=14);
    }

    #[test]
    fn who_is_seldom_late_is_served_at_once() {
        check(0, HOUR_MS, 24..=24);
        check(1, HOUR_MS, 23..=24);
        check(3, 2 * HOUR_MS, 10..=12);
    }

    #[test]
    fn a_clock_that_was_set_back_is_waited_for_no_longer() {
        let mut schedule = RecomputeSchedule::default();
        let class = age_classes().nth(2).unwrap();
        schedule.note_recomputed(class, 10 * HOUR_MS);
        assert_eq!(schedule.due_classes(10 * HOUR_MS + 1).count(), 5);
        assert_eq!(schedule.due_classes(10 * HOUR_MS - 60_000).count(), 5);
        assert_eq!(schedule.due_classes(8 * HOUR_MS).count(), 6);
        assert_eq!(schedule.due_classes(11 * HOUR_MS).count(), 6);
    }

    #[test]
    fn every_age_has_one_class() {
        for age_ms in [0, 1, 959_999, 960_000, 3_600_000, 86_400_000, 1 << 40] {
            let of = |class: &RowAgeClass| (class.youngest_ms..class.oldest_ms).contains(&age_ms);
            assert_eq!(age_classes().filter(of).count(), 1, "{age_ms}");
        }
    }
}
