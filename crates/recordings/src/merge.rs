//! Merges many files, each in the order of arrival, into one sequence.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{RecordedRow, RecordedRows, RejectedLine};

/// Merges all rows in the order of arrival, as far as each file is ordered. A reject comes at its
/// turn in its file. Holds one row per file in memory.
pub fn merge_in_order(
    mut files: Vec<RecordedRows>,
) -> impl Iterator<Item = Result<RecordedRow, RejectedLine>> {
    let mut heads: Vec<Option<RecordedRow>> = files.iter().map(|_| None).collect();
    let mut heap: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
    let mut to_read: Vec<usize> = (0..files.len()).collect();
    std::iter::from_fn(move || {
        while let Some(file) = to_read.pop() {
            match files[file].next() {
                Some(Ok(row)) => {
                    heap.push(Reverse((row.arrival_ms, file)));
                    heads[file] = Some(row);
                }
                Some(Err(reject)) => {
                    to_read.push(file);
                    return Some(Err(reject));
                }
                None => {}
            }
        }
        let Reverse((_, file)) = heap.pop()?;
        to_read.push(file);
        heads[file].take().map(Ok)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SensorKey;
    use proptest::prelude::*;
    use std::sync::Arc;
    use telemetry::ZoneId;

    proptest! {
        #[test]
        fn what_was_in_order_by_file_is_in_order(files in prop::collection::vec(prop::collection::vec(0..1000_i64, 0..30), 0..8)) {
            let zone = ZoneId::new("a", "b");
            let sensor = Arc::new(SensorKey { zone, device: "d".into(), metric: "m".into() });
            let all = files.iter().map(|times| {
                let mut times = times.clone();
                times.sort_unstable();
                let sensor = sensor.clone();
                let rows = times.into_iter().map(move |event_ms| {
                    let sensor = sensor.clone();
                    Ok(RecordedRow { sensor, event_ms, arrival_ms: event_ms, value: 0.0, line: 1 })
                });
                Box::new(rows) as RecordedRows
            });
            let merged: Vec<i64> = merge_in_order(all.collect()).map(|row| row.unwrap().event_ms).collect();
            let mut expected: Vec<i64> = files.concat();
            expected.sort_unstable();
            prop_assert_eq!(merged, expected);
        }
    }
}
