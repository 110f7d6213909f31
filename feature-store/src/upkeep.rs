//! What is done between transactions, by the thread that writes them: KPIs are
//! counted anew, and what is old moves to the lake.

use std::time::{Duration, Instant};

use duckdb::Connection;

use crate::{Settings, StoreError, kpi::Refresh, lake};

/// Between two counts of KPIs at least so many times as long as the last one took: they cost little
/// of the writing thread, however much there is to count.
const REST: u32 = 20;
/// A lake that could not be reached is tried again after so long: the writing thread waits
/// for it.
const RETRY: Duration = Duration::from_secs(600);

/// When what is next due.
#[derive(Debug)]
pub(crate) struct Upkeep {
    refresh: Refresh,
    refresh_rest: Duration,
    refresh_at: Instant,
    settings: Settings,
    move_at: Instant,
}

impl Upkeep {
    pub(crate) fn new(settings: &Settings) -> Result<Self, StoreError> {
        let now = Instant::now();
        Ok(Self {
            refresh: Refresh::new(settings)?,
            refresh_rest: Duration::from_secs(u64::from(settings.kpi.refresh_s)),
            refresh_at: now,
            settings: settings.clone(),
            move_at: now,
        })
    }

    /// Does what is due.
    pub(crate) fn if_due(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let began = Instant::now();
        if began >= self.refresh_at {
            let whole = self.refresh.run(connection)?;
            let rest = if whole { self.refresh_rest } else { Duration::ZERO };
            self.refresh_at = Instant::now() + rest.max(began.elapsed() * REST);
        }
        let lake = &self.settings.lake;
        if lake.is_there() && Instant::now() >= self.move_at {
            self.move_at = Instant::now() + RETRY;
            let moved = lake::run(connection, &self.settings)?;
            let compacted = lake::compact(connection, &self.settings)?;
            tracing::info!(?moved, compacted, "old readings moved to the lake");
            self.move_at = Instant::now() + Duration::from_secs(u64::from(lake.move_h) * 3600);
        }
        Ok(())
    }

    /// Counts everything that is not counted yet.
    pub(crate) fn finish(&self, connection: &mut Connection) -> Result<(), StoreError> {
        while !self.refresh.run(connection)? {}
        Ok(())
    }
}
