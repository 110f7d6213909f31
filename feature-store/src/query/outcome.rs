use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::StoreError;

/// Why a query was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its time was over.
    Time,
    /// It would have taken the writer's memory.
    Memory,
    /// Its client went away.
    Nobody,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Time => "it took too long",
            Self::Memory => "it needs too much memory",
            Self::Nobody => "nobody waits for the answer",
        })
    }
}

/// What came of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
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

impl Outcome {
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
    pub(crate) const fn of<T>(answer: &Result<T, StoreError>) -> Self {
        match answer {
            Ok(_) => Self::Answered,
            Err(StoreError::Stopped(Stop::Time)) => Self::TimedOut,
            Err(StoreError::Stopped(Stop::Memory)) => Self::OutOfMemory,
            Err(StoreError::Stopped(Stop::Nobody)) => Self::Abandoned,
            Err(StoreError::TooMuch { .. }) => Self::TooLarge,
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
pub(crate) struct Outcomes([AtomicU64; Outcome::ALL.len()]);

impl Outcomes {
    pub(crate) fn note(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Each with its name, those that never were too: a rate needs its zero.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Outcome::ALL.iter().map(|outcome| outcome.as_str()).zip(counts)
    }
}
