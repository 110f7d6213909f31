use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::StoreError;

/// Why a query was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryStopReason {
    /// Its time was over.
    TimeLimit,
    /// It would have taken the writer's memory.
    MemoryLimit,
    /// Its client went away.
    ClientGone,
}

impl fmt::Display for QueryStopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimeLimit => "it took too long",
            Self::MemoryLimit => "it needs too much memory",
            Self::ClientGone => "nobody waits for the answer",
        })
    }
}

/// What came of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryOutcome {
    Answered,
    /// Before it ran, for what it says.
    Refused,
    /// DuckDB did not understand it, or could not do it.
    Failed,
    TimedOut,
    OutOfMemory,
    TooLarge,
    /// Nobody waited for it any more.
    Abandoned,
    /// Others ran for too long.
    Busy,
}

impl QueryOutcome {
    const ALL: [Self; 8] = [
        Self::Answered,
        Self::Refused,
        Self::Failed,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::TooLarge,
        Self::Abandoned,
        Self::Busy,
    ];

    /// Of a query that ran.
    pub(crate) const fn from_answer<T>(answer: &Result<T, StoreError>) -> Self {
        match answer {
            Ok(_) => Self::Answered,
            Err(StoreError::Stopped(QueryStopReason::TimeLimit)) => Self::TimedOut,
            Err(StoreError::Stopped(QueryStopReason::MemoryLimit)) => Self::OutOfMemory,
            Err(StoreError::Stopped(QueryStopReason::ClientGone)) => Self::Abandoned,
            Err(StoreError::LimitExceeded { .. }) => Self::TooLarge,
            Err(_) => Self::Failed,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::TooLarge => "too_large",
            Self::Abandoned => "abandoned",
            Self::Busy => "busy",
        }
    }
}

/// How many queries came to what since this process started.
#[derive(Debug, Default)]
pub(crate) struct QueryOutcomeCounters([AtomicU64; QueryOutcome::ALL.len()]);

impl QueryOutcomeCounters {
    pub(crate) fn record_outcome(&self, outcome: QueryOutcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Each with its name, those that never were too: a rate needs its zero.
    pub(crate) fn iter_counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        QueryOutcome::ALL.iter().map(|outcome| outcome.as_str()).zip(counts)
    }
}
