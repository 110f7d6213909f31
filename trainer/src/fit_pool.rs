//! Runs jobs on several threads within a memory limit.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, PoisonError},
};

/// Resources that a comparison may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FitLimits {
    /// Number of models that are fitted at once, and of threads within a model.
    pub threads: usize,
    /// Estimated bytes that models being fitted may use together. A model that needs more is fitted
    /// alone.
    pub memory_bytes: usize,
}

impl Default for FitLimits {
    /// All processors, 2 GiB.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, memory_bytes: 2 << 30 }
    }
}

/// Largest `rows_max` of models whose work grows with the square of the rows.
const QUADRATIC_ROWS_MAX: usize = 5000;

/// Estimated memory for fitting, bytes: four times the rows (thinned, scaled, in the library's
/// form, work space), plus the square of the rows for models that take few of them.
pub(crate) fn bytes_to_fit(rows: usize, inputs: usize, rows_max: usize) -> usize {
    let number = size_of::<f64>();
    let kept = rows.min(rows_max);
    let square = if rows_max <= QUADRATIC_ROWS_MAX { kept * kept * number } else { 0 };
    4 * kept * (inputs + 1) * number + square
}

struct FitQueue {
    waiting: VecDeque<usize>,
    running: usize,
    bytes: usize,
}

/// Memory that a job uses. It is released even if the job panics, because the other jobs would wait
/// forever.
struct MemoryPermit<'a> {
    queue: &'a Mutex<FitQueue>,
    freed: &'a Condvar,
    bytes: usize,
}

impl Drop for MemoryPermit<'_> {
    fn drop(&mut self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.running -= 1;
        queue.bytes -= self.bytes;
        self.freed.notify_all();
    }
}

/// Runs all jobs, in their order as far as threads and memory allow, and returns their results in
/// the same order. `bytes` estimates the memory of a job while it runs.
///
/// Waiting happens outside rayon's threads: a job that splits its work there could otherwise wait
/// for itself.
pub(crate) fn run_jobs<J: Sync, R: Send>(
    limits: FitLimits,
    jobs: &[J],
    bytes: impl Fn(&J) -> usize + Sync,
    work: impl Fn(&J) -> R + Sync,
) -> Vec<R> {
    let queue = Mutex::new(FitQueue { waiting: (0..jobs.len()).collect(), running: 0, bytes: 0 });
    let freed = Condvar::new();
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(jobs.len()));
    let take = || {
        let mut waiting_queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if waiting_queue.waiting.is_empty() {
                return None;
            }
            let fits = |job: &usize| {
                waiting_queue.running == 0
                    || waiting_queue.bytes + bytes(&jobs[*job]) <= limits.memory_bytes
            };
            if let Some(place) = waiting_queue.waiting.iter().position(fits) {
                let job = waiting_queue.waiting.remove(place)?;
                waiting_queue.running += 1;
                waiting_queue.bytes += bytes(&jobs[job]);
                return Some(job);
            }
            waiting_queue = freed.wait(waiting_queue).unwrap_or_else(PoisonError::into_inner);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..limits.threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while let Some(job) = take() {
                    let job_bytes = bytes(&jobs[job]);
                    let _permit = MemoryPermit { queue: &queue, freed: &freed, bytes: job_bytes };
                    let result = work(&jobs[job]);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((job, result));
                }
            });
        }
    });
    let mut results = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(job, _)| *job);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[test]
    fn everything_is_done_in_order_within_the_limit() {
        let check = |threads: usize, memory_bytes: usize, sizes: &[usize]| {
            let (bytes, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let limits = FitLimits { threads, memory_bytes };
            let done = run_jobs(
                limits,
                sizes,
                |size| *size,
                |size| {
                    let now = bytes.fetch_add(*size, SeqCst) + size;
                    most.fetch_max(now, SeqCst);
                    std::thread::yield_now();
                    bytes.fetch_sub(*size, SeqCst);
                    *size
                },
            );
            assert_eq!(done, sizes);
            let largest = sizes.iter().copied().max().unwrap_or_default();
            assert!(most.load(SeqCst) <= memory_bytes.max(largest), "{sizes:?}: {most:?}");
        };
        check(1, 10, &[5, 6, 7]);
        check(4, 10, &[5, 5, 5, 5, 1, 1, 9, 2, 3, 8, 10]);
        check(4, 10, &[100, 1, 1, 1, 200]);
        check(3, 0, &[1, 2]);
        check(2, 10, &[]);
    }

    #[test]
    fn a_job_within_rayon_waits_for_nobody() {
        let limits = FitLimits { threads: 4, memory_bytes: 1 };
        let done = run_jobs(
            limits,
            &[0_u64; 32],
            |_| 1,
            |_| rayon::join(|| rayon::join(|| 1, || 2), || rayon::join(|| 3, || 4)),
        );
        assert_eq!(done.len(), 32);
    }
}
