//! From a message's arrival to its durability, as a histogram.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets, milliseconds; one more is open.
pub(crate) const BOUNDS_MS: [u64; 13] =
    [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000];

/// Counts messages by the time that they waited for their acknowledgement.
#[derive(Debug, Default)]
pub(crate) struct Lag {
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Lag {
    pub(crate) fn note(&self, waited: Duration) {
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MS.partition_point(|bound| bound * 1000 < waited_us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(waited_us, Ordering::Relaxed);
    }

    /// Messages of each bucket; the last one is open.
    pub(crate) fn counts(&self) -> [u64; BOUNDS_MS.len() + 1] {
        self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed))
    }

    /// The sum of all times, seconds.
    pub(crate) fn sum_s(&self) -> f64 {
        self.sum_us.load(Ordering::Relaxed) as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let lag = Lag::default();
        for ms in [0, 1, 2, 26, 50, 120_000] {
            lag.note(Duration::from_millis(ms));
        }
        assert_eq!(lag.counts(), [2, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!((lag.sum_s() - 120.079).abs() < 1e-9);
    }
}
