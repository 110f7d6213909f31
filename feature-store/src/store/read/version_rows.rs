use super::{
    super::{read_feature_columns, read_versions},
    ReadSource,
};
use crate::{StoreError, lake::FileScope};

/// Rows of one version of the definitions.
pub(super) struct VersionRows {
    /// SQL after FROM: their table, together with its rows in the lake.
    pub(super) table: String,
    /// Features, in the order of columns.
    pub(super) features: Vec<String>,
}

impl VersionRows {
    /// Finds the rows of a version, or of the active one without a number; `active` are the
    /// features of the active version. `scope` limits the rows in the lake that are read.
    pub(super) fn new(
        ReadSource { connection, lake }: ReadSource<'_>,
        version: Option<i32>,
        active: &[String],
        scope: &FileScope<'_>,
    ) -> Result<Self, StoreError> {
        let requested = match version {
            None => None,
            Some(number) => {
                let all = read_versions(connection)?;
                let known = all.iter().map(|candidate| candidate.number).collect();
                let found = all.into_iter().find(|candidate| candidate.number == number);
                Some(found.ok_or(StoreError::UnknownVersion { version: number, known })?)
            }
        };
        let with_moved = |table: &str, version: Option<i32>| {
            let scope = FileScope { version, ..scope.clone() };
            lake.union_archived_sql(connection, &format!("features.{table}"), "features", &scope)
        };
        let Some(old) = requested.filter(|requested| !requested.is_active) else {
            let sql = "SELECT max(version) FROM meta.definitions WHERE active";
            let number = connection.query_row(sql, [], |row| row.get(0))?;
            return Ok(Self { table: with_moved("rows", number)?, features: active.to_vec() });
        };
        let table = old.table_name();
        let columns = read_feature_columns(connection, &table)?;
        let features = columns.iter().map(ToString::to_string).collect();
        Ok(Self { table: with_moved(&table, Some(old.number))?, features })
    }
}
