use std::sync::{Mutex, PoisonError};

use duckdb::{Connection, ToSql, params_from_iter};
use jiff::Timestamp;
use telemetry::ZoneId;

use super::{
    archived_table::ArchivedTable,
    storage::{LakeStorage, ListedFile},
};
use crate::{FeatureStoreSettings, StoreError};

/// Reads rows that have moved to the lake, together with those in the DuckDB file.
#[derive(Debug)]
pub(crate) struct LakeReader {
    /// `None` if no lake is configured. The lock allows only one reader at a time to evict copies
    /// of a bucket's files.
    place: Option<Mutex<LakeStorage>>,
}

/// Selects files of one table of the lake.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileScope<'a> {
    /// Zones; `None` means all.
    pub(crate) zones: Option<&'a [ZoneId]>,
    /// Earliest time, UTC ms, included.
    pub(crate) from_ms: Option<i64>,
    /// Latest time, UTC ms, included.
    pub(crate) to_ms: Option<i64>,
    /// Metric, for tables whose files are by metric.
    pub(crate) metric: Option<&'a str>,
    /// Version of the definitions, for feature rows.
    pub(crate) version: Option<i32>,
}

impl<'a> FileScope<'a> {
    /// Selects one zone and a span of time, both ends included.
    pub(crate) fn of_zone(
        zones: &'a [ZoneId; 1],
        from_ms: Option<i64>,
        to_ms: Option<i64>,
    ) -> Self {
        Self { zones: Some(zones), from_ms, to_ms, ..Self::default() }
    }
}

/// A day of the lake, with the number of rows in its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LakeDay {
    /// Start of the day, UTC ms.
    pub(crate) start_ms: i64,
    pub(crate) rows: u64,
}

impl LakeReader {
    /// Opens the configured lake.
    ///
    /// # Errors
    /// Fails if its folder cannot be created.
    pub(crate) fn new(settings: &FeatureStoreSettings) -> Result<Self, StoreError> {
        Ok(Self { place: LakeStorage::open(settings)?.map(Mutex::new) })
    }

    /// Returns whether files can be read without fetching them first.
    pub(crate) fn is_local(&self) -> bool {
        let place = self
            .place
            .as_ref()
            .map(|storage| storage.lock().unwrap_or_else(PoisonError::into_inner));
        place.is_none_or(|place| place.is_local())
    }

    /// SQL that reads the files of a table as a table, with `date`, `zone` and perhaps `metric`
    /// as columns. Returns `None` if no files are selected.
    ///
    /// # Errors
    /// Fails with [`StoreError::LakeNotSet`], or if files cannot be fetched.
    pub(crate) fn files_source_sql(
        &self,
        connection: &Connection,
        table: &str,
        scope: &FileScope<'_>,
    ) -> Result<Option<String>, StoreError> {
        let listed = list_files(connection, table, scope)?;
        if listed.is_empty() {
            return Ok(None);
        }
        let Some(place) = &self.place else {
            return Err(StoreError::LakeNotSet { files: listed.len() });
        };
        let paths = place.lock().unwrap_or_else(PoisonError::into_inner).fetch_files(&listed)?;
        let quoted = paths.iter().map(|path| path.to_string_lossy().replace('\'', "''"));
        let literals: Vec<String> = quoted.map(|path| format!("'{path}'")).collect();
        Ok(Some(format!(
            "read_parquet([{}], union_by_name = true, hive_partitioning = true, \
             hive_types_autocast = false)",
            literals.join(", ")
        )))
    }

    /// SQL that reads a table of the DuckDB file together with its moved rows. Returns
    /// `from_file` alone if no rows have moved.
    ///
    /// # Errors
    /// Fails as [`LakeReader::files_source_sql`] does.
    pub(crate) fn union_archived_sql(
        &self,
        connection: &Connection,
        from_file: &str,
        table: &str,
        scope: &FileScope<'_>,
    ) -> Result<String, StoreError> {
        let Some(files) = self.files_source_sql(connection, table, scope)? else {
            return Ok(from_file.to_owned());
        };
        let view = ArchivedTable::view_select_sql(table);
        Ok(format!("(SELECT * FROM {from_file} UNION ALL BY NAME {view} {files})"))
    }

    /// Lists the days that files of a table cover, newest first.
    pub(crate) fn list_days(
        connection: &Connection,
        table: &str,
        scope: &FileScope<'_>,
    ) -> Result<Vec<LakeDay>, StoreError> {
        let sql = format!(
            "SELECT epoch_ms(try_cast(date AS TIMESTAMP)) AS start, sum(rows)::UBIGINT
             FROM {} GROUP BY start HAVING start IS NOT NULL ORDER BY start DESC",
            listed_files_sql("rows, date")
        );
        let mut statement = connection.prepare(&sql)?;
        let found = statement
            .query_map(params_from_iter(scope_params(table, scope).iter()), |row| {
                Ok(LakeDay { start_ms: row.get(0)?, rows: row.get(1)? })
            })?;
        Ok(found.collect::<duckdb::Result<_>>()?)
    }
}

/// SQL of the listed files of a scope; takes the parameters of [`scope_params`].
fn listed_files_sql(columns: &str) -> String {
    format!(
        "(SELECT {columns} FROM (
             SELECT *, url_decode(regexp_extract(path, 'zone=([^/]*)', 1)) AS zone,
                    regexp_extract(path, 'date=([^/]*)', 1) AS date,
                    url_decode(regexp_extract(path, 'metric=([^/]*)', 1)) AS metric
             FROM meta.lake
         )
         WHERE \"table\" = $1 AND ($2 IS NULL OR list_contains(string_split($2, chr(10)), zone))
           AND date >= coalesce($3, date) AND date <= coalesce($4, date)
           AND ($5 IS NULL OR metric IN ('', $5))
           AND ($6 IS NULL OR version IS NULL OR version = $6))"
    )
}

fn scope_params(table: &str, scope: &FileScope<'_>) -> [Box<dyn ToSql>; 6] {
    let zones = scope
        .zones
        .map(|zones| zones.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    [
        Box::new(table.to_owned()),
        Box::new(zones),
        Box::new(scope.from_ms.and_then(utc_date)),
        Box::new(scope.to_ms.and_then(utc_date)),
        Box::new(scope.metric.map(str::to_owned)),
        Box::new(scope.version),
    ]
}

fn list_files(
    connection: &Connection,
    table: &str,
    scope: &FileScope<'_>,
) -> Result<Vec<ListedFile>, StoreError> {
    let sql = format!("SELECT * FROM {} ORDER BY path", listed_files_sql("path, bytes"));
    let mut statement = connection.prepare(&sql)?;
    let found = statement
        .query_map(params_from_iter(scope_params(table, scope).iter()), |row| {
            Ok(ListedFile { path: row.get(0)?, bytes: row.get(1)? })
        })?;
    Ok(found.collect::<duckdb::Result<_>>()?)
}

/// UTC day of a time as folders name it; `None` beyond years of four digits.
fn utc_date(ms: i64) -> Option<String> {
    let at = Timestamp::from_millisecond(ms).ok()?;
    let day = at.to_zoned(jiff::tz::TimeZone::UTC).date();
    (0..=9999).contains(&day.year()).then(|| day.to_string())
}
