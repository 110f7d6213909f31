//! What a feature store can be asked that is not in memory.

use std::sync::Arc;

use duckdb::Connection;
use jiff::tz::TimeZone;
use polars::prelude::DataFrame;
use telemetry::ZoneId;
use tokio_util::sync::CancellationToken;

use crate::{
    FeatureStore, Latest, StoreError,
    definitions::Definitions,
    explain::{self, Explanation},
    kpi::{self, KpiQuery, ZoneKpis},
    query::Query,
    sql_sandbox::{self, SqlLimits},
    store::{
        self, Cursor, FeatureValues, FrameQuery, HistoryQuery, HistoryRow, Mode, PointQuery,
        QualityCount, QualityQuery, ReadingQuery, ReadingRow, Source, Table,
    },
};

impl FeatureStore {
    /// Final rows as a table, corrections in: `site`, `zone`, `at_ms` (UTC), then
    /// features, null where a window is empty; by zone, in the order of time.
    ///
    /// # Errors
    /// [`StoreError::UnknownFeature`], or what DuckDB says.
    pub fn frame(&self, query: &FrameQuery) -> Result<DataFrame, StoreError> {
        self.frame_as(query, Mode::AsCorrected)
    }

    /// The same as it was known at each row's time, or as it is known now.
    ///
    /// # Errors
    /// As [`FeatureStore::frame`].
    pub fn frame_as(&self, query: &FrameQuery, mode: Mode) -> Result<DataFrame, StoreError> {
        let connection = self.connection_of_one_state()?;
        store::frame(self.source(&connection), query, mode, &self.columns())
    }

    /// A line for each zone and time asked for: `zone`, `at_ms`, `row_ms`, `revision`,
    /// `schema_hash`, features.
    ///
    /// # Errors
    /// As [`FeatureStore::frame`].
    pub fn points(&self, query: &PointQuery) -> Result<Table, StoreError> {
        let connection = self.connection_of_one_state()?;
        store::points(self.source(&connection), query, &self.columns())
    }

    /// The values of features over a span.
    ///
    /// # Errors
    /// As [`FeatureStore::frame`], and [`StoreError::TooMuch`].
    pub fn values(&self, query: &FrameQuery, mode: Mode) -> Result<Vec<FeatureValues>, StoreError> {
        let connection = self.connection_of_one_state()?;
        store::values(self.source(&connection), query, mode, &self.columns())
    }

    /// The newest row that is kept of each of some zones by a version of the definitions;
    /// zones that have none are left out.
    ///
    /// # Errors
    /// [`StoreError::UnknownVersion`], or what DuckDB says.
    pub fn newest_kept(
        &self,
        version: i32,
        zones: &[ZoneId],
    ) -> Result<Vec<Arc<Latest>>, StoreError> {
        let connection = self.connection_of_one_state()?;
        Ok(Latest::of_rows(store::newest(
            self.source(&connection),
            version,
            zones,
            &self.columns(),
        )?))
    }

    /// Final rows of one zone, in the order of time.
    ///
    /// # Errors
    /// As [`FeatureStore::frame`].
    pub fn history(&self, query: &HistoryQuery) -> Result<Vec<HistoryRow>, StoreError> {
        let connection = self.connection_of_one_state()?;
        store::history(self.source(&connection), query, &self.columns())
    }

    /// Readings as they are kept, newest first, and where the next page begins.
    ///
    /// # Errors
    /// What DuckDB says.
    pub fn readings(
        &self,
        query: &ReadingQuery,
    ) -> Result<(Vec<ReadingRow>, Option<Cursor>), StoreError> {
        let connection = self.connection_of_one_state()?;
        store::readings(self.source(&connection), query)
    }

    /// Readings by zone, metric and quality, and where the next page begins.
    ///
    /// # Errors
    /// What DuckDB says.
    pub fn quality(
        &self,
        query: &QualityQuery,
    ) -> Result<(Vec<QualityCount>, Option<String>), StoreError> {
        let connection = self.connection_of_one_state()?;
        store::quality(self.source(&connection), query)
    }

    /// Hours or days of one zone, newest first.
    ///
    /// # Errors
    /// What DuckDB says.
    pub fn kpis(&self, query: &KpiQuery) -> Result<Vec<ZoneKpis>, StoreError> {
        kpi::read(&self.0.readers.connection()?, query)
    }

    /// What is behind one value: its window, tiles and readings, and the value
    /// computed anew of them. At most `limit` readings are shown.
    ///
    /// # Errors
    /// [`StoreError::UnknownFeature`], [`StoreError::TooMuch`], or what DuckDB says.
    pub fn explain(
        &self,
        zone: &ZoneId,
        feature: &str,
        at_ms: i64,
        limit: usize,
    ) -> Result<Explanation, StoreError> {
        explain::explain(self, zone, feature, at_ms, limit)
    }

    /// Runs a checked query in a process of its own under limits
    /// ([`crate::sql_sandbox`]); tells whether there were more rows.
    ///
    /// # Errors
    /// [`StoreError::Sql`], [`StoreError::Stopped`], [`StoreError::TooMuch`], and
    /// [`StoreError::SqlProcess`] where there is no such process.
    pub fn sql(
        &self,
        query: &Query,
        limits: SqlLimits,
        gone: &CancellationToken,
    ) -> Result<(Table, bool), StoreError> {
        sql_sandbox::run(&self.0.readers, &self.0.lake, query, limits, gone)
    }

    /// A connection in a transaction, which ends with it: what an answer takes from the file
    /// and which files of the lake it reads are of one state, whatever moves meanwhile.
    pub(crate) fn connection_of_one_state(&self) -> Result<Connection, StoreError> {
        let connection = self.0.readers.connection()?;
        connection.execute_batch("BEGIN TRANSACTION")?;
        Ok(connection)
    }

    /// Where answers come from, read over a connection.
    pub(crate) fn source<'a>(&'a self, connection: &'a Connection) -> Source<'a> {
        Source { connection, lake: &self.0.lake }
    }

    /// What is computed.
    #[must_use]
    pub fn definitions(&self) -> Arc<Definitions> {
        self.0.definitions.clone()
    }

    /// The site's time zone.
    #[must_use]
    pub fn time_zone(&self) -> TimeZone {
        self.0.settings.engine.time_zone().unwrap_or(TimeZone::UTC)
    }
}
