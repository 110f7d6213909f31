//! What a feature store can be asked that is not in memory.

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
    /// Final rows as a table, corrections in: `site`, `zone`, `at_ms` (UTC), then
    /// features, null where a window is empty; by zone, in the order of time.
    ///
    /// # Errors
    /// [`StoreError::UnknownFeature`], or what DuckDB says.
    pub fn read_feature_frame(&self, query: &FrameQuery) -> Result<DataFrame, StoreError> {
        self.read_feature_frame_as(query, RevisionMode::AsCorrected)
    }

    /// The same as it was known at each row's time, or as it is known now.
    ///
    /// # Errors
    /// As [`FeatureStore::frame`].
    pub fn read_feature_frame_as(
        &self,
        query: &FrameQuery,
        mode: RevisionMode,
    ) -> Result<DataFrame, StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_feature_frame(self.read_source(&connection), query, mode, &self.feature_names())
    }

    /// A line for each zone and time asked for: `zone`, `at_ms`, `row_ms`, `revision`,
    /// `schema_hash`, features.
    ///
    /// # Errors
    /// As [`FeatureStore::frame`].
    pub fn read_points(&self, query: &PointQuery) -> Result<ArrowTable, StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_points(self.read_source(&connection), query, &self.feature_names())
    }

    /// The values of features over a span.
    ///
    /// # Errors
    /// As [`FeatureStore::frame`], and [`StoreError::TooMuch`].
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

    /// The newest row that is kept of each of some zones by a version of the definitions;
    /// zones that have none are left out.
    ///
    /// # Errors
    /// [`StoreError::UnknownVersion`], or what DuckDB says.
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

    /// Final rows of one zone, in the order of time.
    ///
    /// # Errors
    /// As [`FeatureStore::frame`].
    pub fn read_history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRow>, StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_history(self.read_source(&connection), query, &self.feature_names())
    }

    /// Readings as they are kept, newest first, and where the next page begins.
    ///
    /// # Errors
    /// What DuckDB says.
    pub fn read_readings(
        &self,
        query: &ReadingQuery,
    ) -> Result<(Vec<ReadingRow>, Option<ReadingCursor>), StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_readings(self.read_source(&connection), query)
    }

    /// Readings by zone, metric and quality, and where the next page begins.
    ///
    /// # Errors
    /// What DuckDB says.
    pub fn read_quality_counts(
        &self,
        query: &QualityQuery,
    ) -> Result<(Vec<QualityCount>, Option<String>), StoreError> {
        let connection = self.open_snapshot_connection()?;
        store::read_quality_counts(self.read_source(&connection), query)
    }

    /// Hours or days of one zone, newest first.
    ///
    /// # Errors
    /// What DuckDB says.
    pub fn read_kpis(&self, query: &KpiQuery) -> Result<Vec<ZoneKpis>, StoreError> {
        kpi::read_kpis(&self.0.readers.new_connection()?, query)
    }

    /// What is behind one value: its window, tiles and readings, and the value
    /// computed anew of them. At most `limit` readings are shown.
    ///
    /// # Errors
    /// [`StoreError::UnknownFeature`], [`StoreError::TooMuch`], or what DuckDB says.
    pub fn explain_value(
        &self,
        zone: &ZoneId,
        feature: &str,
        at_ms: i64,
        limit: usize,
    ) -> Result<Explanation, StoreError> {
        explain::explain_value(self, zone, feature, at_ms, limit)
    }

    /// Runs a checked query in a process of its own under limits
    /// ([`crate::sql_sandbox`]); tells whether there were more rows.
    ///
    /// # Errors
    /// [`StoreError::Sql`], [`StoreError::Stopped`], [`StoreError::TooMuch`], and
    /// [`StoreError::SqlProcess`] where there is no such process.
    pub fn run_sql(
        &self,
        query: &SqlQuery,
        limits: SqlLimits,
        gone: &CancellationToken,
    ) -> Result<(ArrowTable, bool), StoreError> {
        sql_sandbox::run_sandboxed(&self.0.readers, &self.0.lake, query, limits, gone)
    }

    /// A connection in a transaction, which ends with it: what an answer takes from the file
    /// and which files of the lake it reads are of one state, whatever moves meanwhile.
    pub(crate) fn open_snapshot_connection(&self) -> Result<Connection, StoreError> {
        let connection = self.0.readers.new_connection()?;
        connection.execute_batch("BEGIN TRANSACTION")?;
        Ok(connection)
    }

    /// Where answers come from, read over a connection.
    pub(crate) fn read_source<'a>(&'a self, connection: &'a Connection) -> ReadSource<'a> {
        ReadSource { connection, lake: &self.0.lake }
    }

    /// What is computed.
    #[must_use]
    pub fn definitions(&self) -> Arc<FeatureDefinitions> {
        self.0.definitions.clone()
    }

    /// The site's time zone.
    #[must_use]
    pub fn time_zone(&self) -> TimeZone {
        self.0.settings.engine.time_zone().unwrap_or(TimeZone::UTC)
    }
}
