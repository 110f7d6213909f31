//! Queries of the feature store that need the DuckDB file or the lake.

use std::sync::Arc;

use duckdb::Connection;
use feature_api::{FrameQuery, RevisionMode};
use jiff::tz::TimeZone;
use polars::prelude::DataFrame;
use telemetry::ZoneId;
use tokio_util::sync::CancellationToken;

use crate::{
    FeatureStore, OnlineRow, StoreError,
    definitions::FeatureDefinitions,
    explain::{self, Explanation},
    kpi::{self, KpiQuery, ZoneKpis},
    sql_query::SqlQuery,
    sql_sandbox::{self, SqlLimits},
    store::{
        self, ArrowTable, FeatureValues, HistoryQuery, HistoryRow, PointQuery, QualityCount,
        QualityQuery, ReadSource, ReadingCursor, ReadingQuery, ReadingRow,
    },
};

impl FeatureStore {
    /// Reads final rows as corrected, as a table: `site`, `zone`, `at_ms` (UTC), then features,
    /// null where a window is empty. Rows are sorted by zone and time.
    ///
    /// # Errors
    /// Fails with [`StoreError::UnknownFeature`], or if DuckDB fails.
    pub fn read_feature_frame(&self, query: &FrameQuery) -> Result<DataFrame, StoreError> {
        self.read_feature_frame_as(query, RevisionMode::AsCorrected)
    }

    /// Does the same for rows as known at their time or as corrected.
    ///
    /// # Errors
    /// Fails as [`FeatureStore::read_feature_frame`] does.
    pub fn read_feature_frame_as(
        &self,
        query: &FrameQuery,
        mode: RevisionMode,
    ) -> Result<DataFrame, StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_feature_frame(self.read_source(&connection), query, mode, &self.feature_names())
    }

    /// Joins points with rows: one line for each requested zone and time, with `zone`, `at_ms`,
    /// `row_ms`, `revision`, `schema_hash`, features.
    ///
    /// # Errors
    /// Fails as [`FeatureStore::read_feature_frame`] does.
    pub fn read_points(&self, query: &PointQuery) -> Result<ArrowTable, StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_points(self.read_source(&connection), query, &self.feature_names())
    }

    /// Reads the values of features over a span.
    ///
    /// # Errors
    /// Fails as [`FeatureStore::read_feature_frame`] does, and with
    /// [`StoreError::LimitExceeded`].
    pub fn read_feature_values(
        &self,
        query: &FrameQuery,
        mode: RevisionMode,
    ) -> Result<Vec<FeatureValues>, StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_feature_values(
            self.read_source(&connection),
            query,
            mode,
            &self.feature_names(),
        )
    }

    /// Reads the newest stored row of each of some zones by a version of the definitions. Zones
    /// without a row are left out.
    ///
    /// # Errors
    /// Fails with [`StoreError::UnknownVersion`], or if DuckDB fails.
    pub fn read_newest_rows(
        &self,
        version: i32,
        zones: &[ZoneId],
    ) -> Result<Vec<Arc<OnlineRow>>, StoreError> {
        let connection = self.open_snapshot_connection()?;
        Ok(OnlineRow::from_rows(store::read_newest_rows(
            self.read_source(&connection),
            version,
            zones,
            &self.feature_names(),
        )?))
    }

    /// Reads final rows of one zone, in the order of time.
    ///
    /// # Errors
    /// Fails as [`FeatureStore::read_feature_frame`] does.
    pub fn read_history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRow>, StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_history(self.read_source(&connection), query, &self.feature_names())
    }

    /// Reads stored readings, newest first; also returns where the next page begins.
    ///
    /// # Errors
    /// Fails if DuckDB fails.
    pub fn read_readings(
        &self,
        query: &ReadingQuery,
    ) -> Result<(Vec<ReadingRow>, Option<ReadingCursor>), StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_readings(self.read_source(&connection), query)
    }

    /// Counts readings by zone, metric and quality; also returns where the next page begins.
    ///
    /// # Errors
    /// Fails if DuckDB fails.
    pub fn read_quality_counts(
        &self,
        query: &QualityQuery,
    ) -> Result<(Vec<QualityCount>, Option<String>), StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_quality_counts(self.read_source(&connection), query)
    }

    /// Reads hours or days of one zone, newest first.
    ///
    /// # Errors
    /// Fails if DuckDB fails.
    pub fn read_kpis(&self, query: &KpiQuery) -> Result<Vec<ZoneKpis>, StoreError> {
        kpi::read_kpis(&self.0.readers.new_connection()?, query)
    }

    /// Explains one value: its window, tiles and readings, and the value recomputed from them.
    /// Shows at most `limit` readings.
    ///
    /// # Errors
    /// Fails with [`StoreError::UnknownFeature`] or [`StoreError::LimitExceeded`], or if DuckDB
    /// fails.
    pub fn explain_value(
        &self,
        zone: &ZoneId,
        feature: &str,
        at_ms: i64,
        limit: usize,
    ) -> Result<Explanation, StoreError> {
        explain::explain_value(self, zone, feature, at_ms, limit)
    }

    /// Runs a checked query in a separate process under limits ([`crate::sql_sandbox`]). Also
    /// returns whether there were more rows.
    ///
    /// # Errors
    /// Fails with [`StoreError::Sql`], [`StoreError::Stopped`] or [`StoreError::LimitExceeded`],
    /// and with [`StoreError::SqlProcess`] if the process cannot be started.
    pub fn run_sql(
        &self,
        query: &SqlQuery,
        limits: SqlLimits,
        gone: &CancellationToken,
    ) -> Result<(ArrowTable, bool), StoreError> {
        sql_sandbox::run_sandboxed(&self.0.readers, &self.0.lake, query, limits, gone)
    }

    /// Opens a connection in a transaction, which ends with it. The rows of the file and the list
    /// of lake files then belong to one state, whatever moves meanwhile.
    pub(crate) fn open_snapshot_connection(&self) -> Result<Connection, StoreError> {
        let connection = self.0.readers.new_connection()?;
        connection.execute_batch("BEGIN TRANSACTION")?;
        Ok(connection)
    }

    /// Returns the source of answers, read over a connection.
    pub(crate) fn read_source<'a>(&'a self, connection: &'a Connection) -> ReadSource<'a> {
        ReadSource { connection, lake: &self.0.lake }
    }

    /// Returns the feature definitions.
    #[must_use]
    pub fn definitions(&self) -> Arc<FeatureDefinitions> {
        self.0.definitions.clone()
    }

    /// Returns the site's time zone.
    #[must_use]
    pub fn time_zone(&self) -> TimeZone {
        self.0.settings.engine.time_zone().unwrap_or(TimeZone::UTC)
    }
}
