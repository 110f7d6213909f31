//! Maintenance between transactions, on the writing thread: counts KPIs, drops superseded
//! revisions of feature rows, and moves old rows to the lake.

use std::time::{Duration, Instant};

use duckdb::Connection;

use crate::{
    FeatureStoreSettings, StoreError, kpi::KpiRefresher, lake, store::drop_superseded_revisions,
};

/// Shortest pause after a job, as a multiple of its duration, so that jobs take little of the
/// writing thread's time, however much there is to do.
const REST_FACTOR: u32 = 20;
/// Pause after a lake could not be reached, because the writing thread waits for it.
const LAKE_RETRY_INTERVAL: Duration = Duration::from_secs(600);

/// Target duration of one count of KPIs, as readings wait to be written meanwhile.
const REFRESH_DURATION: Duration = Duration::from_millis(200);
/// Smallest and largest number of zone-hours that one transaction counts.
const HOURS_PER_REFRESH: (usize, usize) = (20, 20_000);

/// Interval at which superseded revisions of feature rows are dropped, and the largest number of
/// rows dropped at once.
const REVISION_DROP_INTERVAL: Duration = Duration::from_secs(3600);
const REVISIONS_PER_DROP: usize = 20_000;

/// Next run time of each maintenance job.
#[derive(Debug)]
pub(crate) struct Maintenance {
    refresh: KpiRefresher,
    refresh_rest: Duration,
    refresh_at: Instant,
    /// Zone-hours to count at once.
    hours_max: usize,
    settings: FeatureStoreSettings,
    revisions_at: Instant,
    move_at: Instant,
}

impl Maintenance {
    pub(crate) fn new(settings: &FeatureStoreSettings) -> Result<Self, StoreError> {
        let now = Instant::now();
        Ok(Self {
            refresh: KpiRefresher::new(settings)?,
            refresh_rest: Duration::from_secs(u64::from(settings.kpi.refresh_s)),
            refresh_at: now,
            hours_max: HOURS_PER_REFRESH.0,
            settings: settings.clone(),
            revisions_at: now,
            move_at: now,
        })
    }

    /// Runs the jobs that are due. `now_ms` is the wall clock, UTC ms; it is `None` while reports
    /// of live zones may still be in the log.
    pub(crate) fn run_due_jobs(
        &mut self,
        connection: &mut Connection,
        now_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let began = Instant::now();
        if began >= self.refresh_at {
            let hours = self.refresh.run(connection, self.hours_max, now_ms)?;
            let (took, is_all) = (began.elapsed(), hours < self.hours_max);
            if !is_all {
                let scale = REFRESH_DURATION.as_secs_f64() / took.as_secs_f64();
                // At most twice as many, as the next ones may have more readings.
                let next = hours as f64 * scale.min(2.0);
                self.hours_max = (next as usize).clamp(HOURS_PER_REFRESH.0, HOURS_PER_REFRESH.1);
            }
            let rest = if is_all { self.refresh_rest } else { Duration::ZERO };
            self.refresh_at = Instant::now() + rest.max(took * REST_FACTOR);
        }
        let lake = &self.settings.lake;
        if lake.revisions_days > 0 && Instant::now() >= self.revisions_at {
            let began = Instant::now();
            let dropped =
                drop_superseded_revisions(connection, lake.revisions_days, REVISIONS_PER_DROP)?;
            let is_all = dropped < REVISIONS_PER_DROP;
            let rest = if is_all { REVISION_DROP_INTERVAL } else { Duration::ZERO };
            self.revisions_at = Instant::now() + rest.max(began.elapsed() * REST_FACTOR);
            if dropped > 0 {
                tracing::info!(rows = dropped, "superseded revisions of feature rows dropped");
            }
        }
        if lake.is_enabled() && Instant::now() >= self.move_at {
            self.move_at = Instant::now() + LAKE_RETRY_INTERVAL;
            let moved = lake::archive_old_rows(connection, &self.settings)?;
            let compacted = lake::compact_files(connection, &self.settings, false)?;
            tracing::info!(?moved, compacted, "old readings moved to the lake");
            self.move_at = Instant::now() + Duration::from_secs(u64::from(lake.move_h) * 3600);
        }
        Ok(())
    }

    /// Makes a count of KPIs due, because a file adds a whole history at once.
    pub(crate) fn schedule_kpi_refresh(&mut self) {
        self.refresh_at = Instant::now();
    }

    /// Counts everything that is not counted yet.
    pub(crate) fn refresh_all_kpis(
        &mut self,
        connection: &mut Connection,
    ) -> Result<(), StoreError> {
        while self.refresh.run(connection, HOURS_PER_REFRESH.1, None)? == HOURS_PER_REFRESH.1 {}
        Ok(())
    }
}
