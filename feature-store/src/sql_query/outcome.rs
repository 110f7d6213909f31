use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::StoreError;

/// Reason why a query was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryStopReason {
    /// It exceeded its time limit.
    TimeLimit,
    /// It exceeded its memory limit.
    MemoryLimit,
    /// Its client disconnected.
    ClientGone,
}

impl fmt::Display for QueryStopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimeLimit => "it took too long",
            Self::MemoryLimit => "it needs too much memory",
            Self::ClientGone => "the client disconnected",
        })
    }
}

/// Outcome of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueryOutcome {
    Answered,
    /// Refused by its text, before it ran.
    Refused,
    /// DuckDB rejected it or failed.
    Failed,
    TimedOut,
    OutOfMemory,
    TooLarge,
    /// The client disconnected.
    Abandoned,
    /// Other queries ran for too long.
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

    /// Returns the outcome of a query that ran.
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

/// Numbers of queries by outcome since the start of this process.
#[derive(Debug, Default)]
pub(crate) struct QueryOutcomeCounters([AtomicU64; QueryOutcome::ALL.len()]);

impl QueryOutcomeCounters {
    pub(crate) fn record_outcome(&self, outcome: QueryOutcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Iterates over all outcomes with their numbers, including zeros, which rates need.
    pub(crate) fn iter_counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        QueryOutcome::ALL.iter().map(|outcome| outcome.as_str()).zip(counts)
    }
}
